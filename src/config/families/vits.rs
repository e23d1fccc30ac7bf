//! VITS (MMS-TTS): an encoder of letters with relative positions, flows over what it gives, a predictor of durations, and `HiFi-GAN` that makes
//! sound of it; the posterior encoder is for training, and in the files.

use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Span};

/// `VitsConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("vocab_size", 38),
    ("hidden_size", 192),
    ("num_attention_heads", 2),
    ("ffn_dim", 768),
    ("ffn_kernel_size", 3),
    ("flow_size", 192),
    ("spectrogram_bins", 513),
    ("num_speakers", 1),
    ("upsample_initial_channel", 512),
    ("depth_separable_channels", 2),
    ("depth_separable_num_layers", 3),
    ("duration_predictor_flow_bins", 10),
    ("duration_predictor_filter_channels", 256),
    ("duration_predictor_kernel_size", 3),
    ("duration_predictor_num_flows", 4),
    ("posterior_encoder_num_wavenet_layers", 16),
    ("prior_encoder_num_flows", 4),
    ("prior_encoder_num_wavenet_layers", 4),
    ("wavenet_kernel_size", 5),
];

/// Most layers of one kind that are read: flows have layers of their own, so that two of these multiply.
const MAX: u64 = 32;

/// The sizes that all parts share.
struct Parts<'a> {
    f: &'a Fields,
    hidden: u64,
    flow: u64,
    /// Width of a speaker's embedding; 0 without speakers.
    speaker: u64,
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let hidden = f.count("hidden_size")?;
    let parts = Parts { f, hidden, flow: f.count("flow_size")?, speaker: f.optional_count_or_zero("speaker_embedding_size")?.unwrap_or(0) };
    let (heads, inner, kernel) = (f.count("num_attention_heads")?, f.count("ffn_dim")?, f.count("ffn_kernel_size")?);
    let sizes =
        Sizes::plain(hidden, inner, layer_count(f, "num_hidden_layers", 6)?, heads, head_dim(f, "num_attention_heads", hidden, heads)?, f.count("vocab_size")?);
    let bias = f.flag("use_bias", true)?;
    let window = f.optional_count_or_zero("window_size")?.unwrap_or(4);
    let mut t = Tensors::default();
    if window > 0 {
        for name in ["emb_rel_k", "emb_rel_v"] {
            t.tensor(&format!("attention.{name}"), Role::Position, &[1, window.saturating_mul(2).saturating_add(1), sizes.head_dim]);
        }
    }
    for name in ["k_proj", "v_proj", "q_proj", "out_proj"] {
        t.linear(&format!("attention.{name}"), hidden, hidden, bias);
    }
    let of_layer = t
        .norm("layer_norm", hidden, true)
        .convolution("feed_forward.conv_1", &[inner, hidden, kernel], true)
        .convolution("feed_forward.conv_2", &[hidden, inner, kernel], true)
        .norm("final_layer_norm", hidden, true)
        .build();
    let layers = (0..sizes.layers).map(|_| (sizes.layer(Span::Full, Keeps::Nothing), of_layer.clone())).collect();
    let mut t = Tensors::default();
    t.embedding("text_encoder.embed_tokens", sizes.vocab, hidden);
    t.convolution("text_encoder.project", &[parts.flow.saturating_mul(2), hidden, 1], true);
    for number in 0..parts.few("prior_encoder_num_flows")? {
        let at = format!("flow.flows.{number}");
        let half = parts.flow / 2;
        t.convolution(&format!("{at}.conv_pre"), &[hidden, half, 1], true);
        parts.wavenet(&mut t, &format!("{at}.wavenet"), "prior_encoder_num_wavenet_layers")?;
        t.convolution(&format!("{at}.conv_post"), &[half, hidden, 1], true);
    }
    parts.vocoder(&mut t)?;
    if f.flag("use_stochastic_duration_prediction", true)? {
        parts.durations(&mut t)?;
    } else {
        parts.plain_durations(&mut t)?;
    }
    t.convolution("posterior_encoder.conv_pre", &[hidden, f.count("spectrogram_bins")?, 1], true);
    parts.wavenet(&mut t, "posterior_encoder.wavenet", "posterior_encoder_num_wavenet_layers")?;
    t.convolution("posterior_encoder.conv_proj", &[parts.flow.saturating_mul(2), hidden, 1], true);
    let speakers = f.count("num_speakers")?;
    if speakers > 1 {
        t.embedding("embed_speaker", speakers, parts.speaker);
    }
    for unread in ["sampling_rate", "speaking_rate", "noise_scale", "noise_scale_duration", "wavenet_dilation_rate", "leaky_relu_slope"] {
        f.touch(unread);
    }
    for unread in ["duration_predictor_tail_bound", "duration_predictor_dropout", "wavenet_dropout"] {
        f.touch(unread);
    }
    Ok(sizes.model(ComponentKind::AudioTower, "", "text_encoder.encoder.layers", t.build(), layers))
}

/// A convolution whose weight is stored as a direction and a length for each output.
fn normed(t: &mut Tensors, at: &str, shape: [u64; 3]) {
    t.tensor(&format!("{at}.bias"), Role::Other, &[shape[0]])
        .tensor(&format!("{at}.parametrizations.weight.original0"), Role::Other, &[shape[0], 1, 1])
        .tensor(&format!("{at}.parametrizations.weight.original1"), Role::Other, &shape);
}

impl Parts<'_> {
    /// A number of layers or flows.
    fn few(&self, key: &'static str) -> Result<u64, ConfigError> {
        let count = self.f.count(key)?;
        if count > MAX { Err(self.f.impossible(key, "more than 32 are not read")) } else { Ok(count) }
    }

    fn wavenet(&self, t: &mut Tensors, at: &str, key: &'static str) -> Result<(), ConfigError> {
        let (layers, hidden, kernel) = (self.few(key)?, self.hidden, self.f.count("wavenet_kernel_size")?);
        let twice = hidden.saturating_mul(2);
        if self.speaker > 0 {
            normed(t, &format!("{at}.cond_layer"), [twice.saturating_mul(layers), self.speaker, 1]);
        }
        for number in 0..layers {
            normed(t, &format!("{at}.in_layers.{number}"), [twice, hidden, kernel]);
            normed(t, &format!("{at}.res_skip_layers.{number}"), [if number + 1 == layers { hidden } else { twice }, hidden, 1]);
        }
        Ok(())
    }

    /// `HiFi-GAN`: upsampling, and after each step blocks of convolutions of several widths.
    fn vocoder(&self, t: &mut Tensors) -> Result<(), ConfigError> {
        let f = self.f;
        let first = f.count("upsample_initial_channel")?;
        let lists = |key: &str, default: &[u64]| f.counts_or(key, default);
        let (up, blocks) = (lists("upsample_kernel_sizes", &[16, 16, 4, 4])?, lists("resblock_kernel_sizes", &[3, 7, 11])?);
        let rates = lists("upsample_rates", &[8, 8, 2, 2])?;
        if rates.len() != up.len() || up.len() > 32 || blocks.len() > 32 || first >> up.len() == 0 {
            return Err(f.impossible("upsample_rates", "it must have as many entries as `upsample_kernel_sizes`, each halving the channels"));
        }
        let dilations: Vec<usize> = match f.raw("resblock_dilation_sizes").and_then(serde_json::Value::as_array) {
            Some(list) => list.iter().map(|one| one.as_array().map_or(0, Vec::len)).collect(),
            None => vec![3; 3],
        };
        if dilations.len() != blocks.len() || dilations.iter().any(|&count| count > 32) {
            return Err(f.impossible("resblock_dilation_sizes", "it must have one list per entry of `resblock_kernel_sizes`"));
        }
        t.convolution("decoder.conv_pre", &[first, self.flow, 7], true);
        let mut width = first;
        for (number, &kernel) in up.iter().enumerate() {
            // Transposed: inputs first.
            t.tensor(&format!("decoder.upsampler.{number}.weight"), Role::Other, &[width, width / 2, kernel]);
            width /= 2;
            t.tensor(&format!("decoder.upsampler.{number}.bias"), Role::Other, &[width]);
            for (block, (&kernel, &count)) in blocks.iter().zip(&dilations).enumerate() {
                let at = format!("decoder.resblocks.{}", number * blocks.len() + block);
                for convolution in 0..count {
                    t.convolution(&format!("{at}.convs1.{convolution}"), &[width, width, kernel], true);
                    t.convolution(&format!("{at}.convs2.{convolution}"), &[width, width, kernel], true);
                }
            }
        }
        t.convolution("decoder.conv_post", &[1, width, 7], false);
        if self.speaker > 0 {
            t.convolution("decoder.cond", &[first, self.speaker, 1], true);
        }
        Ok(())
    }

    /// Depthwise and pointwise convolutions with norms.
    fn separable(&self, t: &mut Tensors, at: &str) -> Result<(), ConfigError> {
        let (width, kernel) = (self.hidden, self.f.count("duration_predictor_kernel_size")?);
        for number in 0..self.few("depth_separable_num_layers")? {
            t.convolution(&format!("{at}.convs_dilated.{number}"), &[width, 1, kernel], true)
                .convolution(&format!("{at}.convs_pointwise.{number}"), &[width, width, 1], true)
                .norm(&format!("{at}.norms_1.{number}"), width, true)
                .norm(&format!("{at}.norms_2.{number}"), width, true);
        }
        Ok(())
    }

    /// Durations drawn by flows.
    fn durations(&self, t: &mut Tensors) -> Result<(), ConfigError> {
        let (f, width) = (self.f, self.hidden);
        let channels = f.count("depth_separable_channels")?;
        let half = channels / 2;
        let parameters = half.saturating_mul(f.count("duration_predictor_flow_bins")?.saturating_mul(3).saturating_sub(1));
        let at = "duration_predictor";
        t.convolution(&format!("{at}.conv_pre"), &[width, width, 1], true).convolution(&format!("{at}.conv_proj"), &[width, width, 1], true);
        self.separable(t, &format!("{at}.conv_dds"))?;
        if self.speaker > 0 {
            t.convolution(&format!("{at}.cond"), &[width, self.speaker, 1], true);
        }
        t.convolution(&format!("{at}.post_conv_pre"), &[width, 1, 1], true).convolution(&format!("{at}.post_conv_proj"), &[width, width, 1], true);
        self.separable(t, &format!("{at}.post_conv_dds"))?;
        for flows in ["flows", "post_flows"] {
            for name in ["translate", "log_scale"] {
                t.tensor(&format!("{at}.{flows}.0.{name}"), Role::Other, &[channels, 1]);
            }
            for number in 1..=self.few("duration_predictor_num_flows")? {
                let at = format!("{at}.{flows}.{number}");
                t.convolution(&format!("{at}.conv_pre"), &[width, half, 1], true);
                self.separable(t, &format!("{at}.conv_dds"))?;
                t.convolution(&format!("{at}.conv_proj"), &[parameters, width, 1], true);
            }
        }
        Ok(())
    }

    /// Durations by two convolutions.
    fn plain_durations(&self, t: &mut Tensors) -> Result<(), ConfigError> {
        let (width, kernel) = (self.f.count("duration_predictor_filter_channels")?, self.f.count("duration_predictor_kernel_size")?);
        let at = "duration_predictor";
        t.convolution(&format!("{at}.conv_1"), &[width, self.hidden, kernel], true).norm(&format!("{at}.norm_1"), width, true);
        t.convolution(&format!("{at}.conv_2"), &[width, width, kernel], true).norm(&format!("{at}.norm_2"), width, true);
        t.convolution(&format!("{at}.proj"), &[1, width, 1], true);
        if self.speaker > 0 {
            t.convolution(&format!("{at}.cond"), &[self.hidden, self.speaker, 1], true);
        }
        Ok(())
    }
}
