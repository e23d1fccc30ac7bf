//! `EnCodec`: strided convolutions and an LSTM on either side of codebooks (which are buffers); and `MusicGen`, a decoder over its
//! codes that attends to a T5 encoder.

use super::decoder::{Draft, Shape, Tensors, component};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Keeps, Role, Tensor};

/// What its convolutions have besides a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NormKind {
    /// The kernel's length apart from its direction.
    Weight,
    /// A group norm after it.
    Group,
}

/// Convolutions under construction.
struct Codec {
    tensors: Tensors,
    norm: NormKind,
}

impl Codec {
    /// A convolution; `is_up` for one that lengthens, whose kernel has its inputs first.
    fn convolution(&mut self, module: &str, inputs: u64, outputs: u64, kernel: u64, is_up: bool) {
        let shape = if is_up { [inputs, outputs, kernel] } else { [outputs, inputs, kernel] };
        let weight = if self.norm == NormKind::Weight {
            self.tensors.tensor(&format!("{module}.conv.parametrizations.weight.original0"), Role::Other, &[shape[0], 1, 1]);
            format!("{module}.conv.parametrizations.weight.original1")
        } else {
            norm(&mut self.tensors, &format!("{module}.norm"), outputs, true);
            format!("{module}.conv.weight")
        };
        self.tensors.tensor(&weight, Role::Other, &shape).tensor(&format!("{module}.conv.bias"), Role::Other, &[outputs]);
    }

    fn lstm(&mut self, module: &str, width: u64, layers: u64) {
        let gates = width.saturating_mul(4);
        for layer in 0..layers {
            for name in ["weight_ih", "weight_hh"] {
                self.tensors.tensor(&format!("{module}.lstm.{name}_l{layer}"), Role::Other, &[gates, width]);
            }
            for name in ["bias_ih", "bias_hh"] {
                self.tensors.tensor(&format!("{module}.lstm.{name}_l{layer}"), Role::Other, &[gates]);
            }
        }
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (tensors, width) = codec(f)?;
    let sizes = Sizes::plain(width, 0, 0, 1, width, 0);
    Ok(sizes.model(ComponentKind::AudioTower, "", "", tensors, Vec::new()))
}

/// Its tensors, and the width of its codes.
pub(super) fn codec(f: &Fields) -> Result<(Vec<Tensor>, u64), ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (channels, hidden, filters) = (or("audio_channels", 1)?, or("hidden_size", 128)?, or("num_filters", 32)?);
    let (kernel, last, inner) = (or("kernel_size", 7)?, or("last_kernel_size", 7)?, or("residual_kernel_size", 3)?);
    let (blocks, compress) = (or("num_residual_layers", 1)?, or("compress", 2)?);
    let recurrent = f.optional_count_or_zero("num_lstm_layers")?.unwrap_or(2);
    let ratios = f.counts_or("upsampling_ratios", &[8, 5, 4, 2])?;
    if ratios.len() > 20 || ratios.contains(&0) || blocks > 1000 || recurrent > 1000 {
        return Err(f.impossible("upsampling_ratios", "at most 20 ratios from 1, and 1,000 layers between them, are possible"));
    }
    let has_shortcut = f.flag("use_conv_shortcut", true)?;
    let kind = match f.optional_text("norm_type")?.as_deref() {
        None | Some("weight_norm") => NormKind::Weight,
        Some("time_group_norm") => NormKind::Group,
        Some(_) => return Err(f.impossible("norm_type", "it must be `weight_norm` or `time_group_norm`")),
    };
    for key in
        ["chunk_length_s", "codebook_dim", "codebook_size", "dilation_growth_rate", "normalize", "overlap", "pad_mode", "sampling_rate", "target_bandwidths"]
    {
        f.touch(key);
    }
    for key in ["trim_right_ratio", "use_causal_conv"] {
        f.touch(key);
    }
    let mut c = Codec { tensors: Tensors::default(), norm: kind };
    let block = |c: &mut Codec, at: &str, width: u64| {
        c.convolution(&format!("{at}.block.1"), width, width / compress, inner, false);
        c.convolution(&format!("{at}.block.3"), width / compress, width, 1, false);
        if has_shortcut {
            c.convolution(&format!("{at}.shortcut"), width, width, 1, false);
        }
    };
    let mut number = 0;
    let mut next = |step: u64| {
        number += step;
        number - step
    };
    c.convolution(&format!("encoder.layers.{}", next(1)), channels, filters, kernel, false);
    let mut width = filters;
    for ratio in ratios.iter().rev() {
        for _ in 0..blocks {
            block(&mut c, &format!("encoder.layers.{}", next(1)), width);
        }
        // An activation stands between them.
        next(1);
        c.convolution(&format!("encoder.layers.{}", next(1)), width, width.saturating_mul(2), ratio.saturating_mul(2), false);
        width = width.saturating_mul(2);
    }
    c.lstm(&format!("encoder.layers.{}", next(2)), width, recurrent);
    c.convolution(&format!("encoder.layers.{}", next(1)), width, hidden, last, false);
    let mut number = 0;
    let mut next = |step: u64| {
        number += step;
        number - step
    };
    c.convolution(&format!("decoder.layers.{}", next(1)), hidden, width, kernel, false);
    c.lstm(&format!("decoder.layers.{}", next(2)), width, recurrent);
    for ratio in &ratios {
        c.convolution(&format!("decoder.layers.{}", next(1)), width, width / 2, ratio.saturating_mul(2), true);
        width /= 2;
        for _ in 0..blocks {
            block(&mut c, &format!("decoder.layers.{}", next(1)), width);
        }
        next(1);
    }
    c.convolution(&format!("decoder.layers.{}", next(1)), filters, channels, last, false);
    Ok((c.tensors.build(), hidden))
}

/// `MusicgenDecoderConfig` of transformers 5.23.
const DECODER: &[(&str, u64)] =
    &[("vocab_size", 2048), ("num_hidden_layers", 24), ("ffn_dim", 4096), ("num_attention_heads", 16), ("hidden_size", 1024), ("num_codebooks", 4)];

/// `T5Config`.
const T5: &[(&str, u64)] =
    &[("vocab_size", 32_128), ("d_model", 512), ("d_kv", 64), ("d_ff", 2048), ("num_layers", 6), ("num_heads", 8), ("relative_attention_num_buckets", 32)];

pub(super) fn read_musicgen(f: &Fields) -> Result<Draft, ConfigError> {
    musicgen(f, &["self_attn", "encoder_attn"])
}

/// `MusicGen` Melody: text and melody stand before the codes in place of being attended to.
pub(super) fn read_melody(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = musicgen(f, &["self_attn"])?;
    f.touch("chroma_length");
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "audio_enc_to_dec_proj", f.count_or("num_chroma", 12)?, draft.decoder.shape.hidden, true);
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

fn musicgen(f: &Fields, attentions: &[&str]) -> Result<Draft, ConfigError> {
    let part = |key: &'static str| f.part(&[key]);
    let d = part("decoder")?.with_defaults(DECODER);
    let (hidden, vocab, books) = (d.count("hidden_size")?, d.count("vocab_size")?, d.count("num_codebooks")?.min(1000));
    let heads = d.count("num_attention_heads")?;
    let inner = d.count("ffn_dim")?;
    let sizes = Sizes::plain(hidden, inner, layer_count(&d, "num_hidden_layers", 24)?, heads, head_dim(&d, "num_attention_heads", hidden, heads)?, vocab);
    for key in ["audio_channels", "max_position_embeddings", "model_type", "scale_embedding", "tie_word_embeddings"] {
        d.touch(key);
    }
    let mut t = Tensors::default();
    for book in 0..books {
        // One more for the start.
        t.embedding(&format!("decoder.model.decoder.embed_tokens.{book}"), vocab + 1, hidden);
        t.tensor(&format!("decoder.lm_heads.{book}.weight"), Role::Head, &[vocab, hidden]);
    }
    norm(&mut t, "decoder.model.decoder.layer_norm", hidden, true);
    let mut layer = Tensors::default();
    for at in attentions {
        for name in ["k_proj", "v_proj", "q_proj", "out_proj"] {
            layer.linear(&format!("{at}.{name}"), hidden, hidden, false);
        }
        layer.norm(&format!("{at}_layer_norm"), hidden, true);
    }
    let layer = layer.linear("fc1", hidden, inner, false).linear("fc2", inner, hidden, false).norm("final_layer_norm", hidden, true).build();
    let text = t5_encoder(&part("text_encoder")?.with_defaults(T5))?;
    if text.hidden_size != hidden {
        linear(&mut t, Role::Other, "enc_to_dec_proj", text.hidden_size, hidden, true);
    }
    let audio = part("audio_encoder")?;
    audio.touch("model_type");
    let (tensors, width) = codec(&audio)?;
    let tensors = Tensors::default().nested("audio_encoder", tensors).build();
    let codec = component("audio", ComponentKind::AudioTower, width, "", tensors, Vec::new());
    let draft = sizes.model(ComponentKind::TextDecoder, "decoder.model", "decoder.model.decoder.layers", t.build(), sizes.equal_layers(Keeps::Own, &layer));
    Ok(draft.with(text).with(codec))
}

/// T5's encoder.
fn t5_encoder(f: &Fields) -> Result<Component, ConfigError> {
    let (hidden, inner, heads) = (f.count("d_model")?, f.count("d_ff")?, f.count("num_heads")?);
    let head = f.count("d_kv")?;
    let sizes = Sizes::plain(hidden, inner, layer_count(f, "num_layers", 6)?.min(Shape::MAX_LAYERS), heads, head, f.count("vocab_size")?);
    let is_gated = f.optional_text("feed_forward_proj")?.is_some_and(|kind| kind.starts_with("gated"));
    for key in ["model_type", "num_decoder_layers", "relative_attention_max_distance", "scale_decoder_outputs", "tie_word_embeddings", "is_gated_act"] {
        f.touch(key);
    }
    f.touch("dense_act_fn");
    let mut t = Tensors::default();
    for name in ["q", "k", "v"] {
        t.linear(&format!("layer.0.SelfAttention.{name}"), hidden, heads.saturating_mul(head), false);
    }
    t.linear("layer.0.SelfAttention.o", heads.saturating_mul(head), hidden, false).norm("layer.0.layer_norm", hidden, false);
    for name in if is_gated { &["wi_0", "wi_1"][..] } else { &["wi"] } {
        t.linear(&format!("layer.1.DenseReluDense.{name}"), hidden, inner, false);
    }
    let layer = t.linear("layer.1.DenseReluDense.wo", inner, hidden, false).norm("layer.1.layer_norm", hidden, false).build();
    let tensors = Tensors::default()
        .embedding("text_encoder.shared", f.count("vocab_size")?, hidden)
        .embedding("text_encoder.encoder.block.0.layer.0.SelfAttention.relative_attention_bias", f.count("relative_attention_num_buckets")?, heads)
        .norm("text_encoder.encoder.final_layer_norm", hidden, false)
        .build();
    let layers = Sizes { gated: is_gated, ..sizes }.equal_layers(Keeps::Nothing, &layer);
    Ok(encoder_component(&sizes, ComponentKind::TextEncoder, "text_encoder.encoder.block", tensors, layers))
}
