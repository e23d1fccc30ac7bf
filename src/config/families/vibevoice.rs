//! `VibeVoice`: Qwen2 over frames of sound from two tokenizers (one that also speaks, one of meaning), and a small diffusion head that
//! makes the next frame.

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::scaled;
use super::vision::MAX_BLOCKS;
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, FeedForward, Layer, Mixer, Role, Tensor};

/// `VibeVoiceAcousticTokenizerConfig` of transformers 5.23.
const DEPTHS: &[u64] = &[3, 3, 3, 3, 3, 3, 8];
const RATIOS: &[u64] = &[2, 2, 4, 5, 5, 8];

/// A tokenizer's sizes: blocks per stage, how much each stage but the first shortens, width of the first stage.
struct Tokenizer {
    depths: Vec<u64>,
    ratios: Vec<u64>,
    filters: u64,
    latent: u64,
    channels: u64,
    kernel: u64,
    expansion: u64,
}

/// Keys of the first files that change no size: how sound is normalised, and the decoder's copies of the encoder's sizes.
const FIRST_FORM: &[&str] = &[
    "causal",
    "conv_bias",
    "conv_norm",
    "corpus_normalize",
    "decoder_depths",
    "decoder_n_filters",
    "decoder_ratios",
    "disable_last_norm",
    "fix_std",
    "layer_scale_init_value",
    "layernorm",
    "layernorm_elementwise_affine",
    "layernorm_eps",
    "mixer_layer",
    "pad_mode",
    "std_dist_type",
    "weight_init_value",
];

impl Tokenizer {
    fn read(f: &Fields, latent: u64) -> Result<Self, ConfigError> {
        for key in ["model_type", "vae_std", "layer_scale_init_value"] {
            f.touch(key);
        }
        let list = |key: &str, default: &[u64]| f.counts_or(key, default);
        // The first files give depths as a text, `3-3-8`, and factors from the last stage to the first.
        let depths = match f.optional_text("encoder_depths")? {
            None => list("depths", DEPTHS)?,
            Some(text) => {
                let depths: Option<Vec<u64>> = text.split('-').map(|depth| depth.parse().ok()).collect();
                depths.ok_or_else(|| f.impossible("encoder_depths", "it must be numbers of blocks with dashes between, such as `3-3-8`"))?
            }
        };
        let ratios = match f.optional_counts("encoder_ratios")? {
            None => list("downsampling_ratios", RATIOS)?,
            Some(ratios) => ratios.into_iter().rev().collect(),
        };
        for key in FIRST_FORM {
            f.touch(key);
        }
        if depths.is_empty() || depths.len() > 16 || depths.iter().any(|&depth| depth > MAX_BLOCKS) {
            return Err(f.impossible("depths", "it must be a list of blocks per stage: at most 16 stages of at most 1,000"));
        }
        if ratios.len() + 1 != depths.len() || ratios.iter().any(|ratio| !(1..=10_000).contains(ratio)) {
            return Err(f.impossible("downsampling_ratios", "it must have a factor for each stage of `depths` but the first"));
        }
        let or = |key: &str, default: u64| f.count_or(key, default);
        let expansion = or("ffn_expansion", 4)?;
        if expansion > 1024 {
            return Err(f.impossible("ffn_expansion", "it must be at most 1024"));
        }
        let filters = match f.optional_count("encoder_n_filters")? {
            Some(filters) => filters,
            None => or("num_filters", 32)?,
        };
        let latent = or("vae_dim", latent)?;
        if filters > 1 << 20 {
            return Err(f.impossible("num_filters", "it must be at most 2^20"));
        }
        Ok(Self { depths, ratios, filters, latent: or("hidden_size", latent)?, channels: or("channels", 1)?, kernel: or("kernel_size", 7)?, expansion })
    }

    /// One block: a convolution over time per channel and a feed-forward, each scaled.
    fn block(&self, t: &mut Tensors, at: &str, width: u64) {
        t.norm(&format!("{at}.norm"), width, false)
            .convolution(&format!("{at}.mixer.conv"), &[width, 1, self.kernel], true)
            .tensor(&format!("{at}.gamma"), Role::Other, &[width])
            .norm(&format!("{at}.ffn_norm"), width, false)
            .linear(&format!("{at}.ffn.linear1"), width, width * self.expansion, true)
            .linear(&format!("{at}.ffn.linear2"), width * self.expansion, width, true)
            .tensor(&format!("{at}.ffn_gamma"), Role::Other, &[width]);
    }

    /// The encoder, or the decoder, which is the encoder backwards. Its blocks convolve and do not attend.
    fn component(&self, name: &'static str, at: &str, speaks: bool) -> Component {
        let mut t = Tensors::default();
        let last = self.depths.len() - 1;
        let width = |stage: usize| self.filters << stage;
        let (mut layers, top) = (Vec::new(), width(last));
        let mut stages: Vec<usize> = (0..=last).collect();
        if speaks {
            stages.reverse();
            t.convolution(&format!("{at}.stem.conv.conv"), &[top, self.latent, self.kernel], true);
        } else {
            t.convolution(&format!("{at}.stem.conv.conv"), &[self.filters, self.channels, self.kernel], true);
        }
        for (place, &stage) in stages.iter().enumerate() {
            let base = match place.checked_sub(1) {
                None => format!("{at}.stem"),
                Some(above) => format!("{at}.conv_layers.{above}"),
            };
            if let Some(above) = place.checked_sub(1) {
                // The kernel is twice the stride.
                let before = stages[above];
                let kernel = 2 * self.ratios[before.min(stage)];
                if speaks {
                    t.tensor(&format!("{base}.convtr.convtr.weight"), Role::Other, &[width(before), width(stage), kernel]);
                    t.tensor(&format!("{base}.convtr.convtr.bias"), Role::Other, &[width(stage)]);
                } else {
                    t.convolution(&format!("{base}.conv.conv"), &[width(stage), width(before), kernel], true);
                }
            }
            for number in 0..self.depths[stage] {
                self.block(&mut t, &format!("{base}.stage.{number}"), width(stage));
                layers.push((unmixed(width(stage) * self.expansion), Vec::<Tensor>::new()));
            }
        }
        let (wide, out) = if speaks { (self.filters, self.channels) } else { (top, self.latent) };
        t.convolution(&format!("{at}.head.conv"), &[out, wide, self.kernel], true);
        component(name, ComponentKind::AudioTower, top, "", t.build(), layers)
    }
}

/// A layer that does not attend.
const fn unmixed(intermediate: u64) -> Layer {
    Layer { mixer: Mixer::None, feed_forward: FeedForward::Dense { intermediate, gated: false } }
}

fn part(f: &Fields, key: &'static str) -> Result<Fields, ConfigError> {
    f.part(&[key])
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("qwen2") };
    // Under `decoder_config` in the first files, whose language model decides for itself whether its head is tied.
    let text = f.nested(&["decoder_config"])?;
    let is_first = text.is_some();
    let wrapper = if is_first { Wrapper { tie: Tie::Text, ..wrapper } } else { wrapper };
    let text = match text {
        Some(text) => text,
        None => f.required_nested(TEXT_CONFIGS)?,
    };
    let mut draft = language_in(f, &text, &wrapper)?;
    f.touch("vocab_size");
    f.touch("acoustic_vae_dim");
    f.touch("semantic_vae_dim");
    let width = draft.decoder.shape.hidden;
    let either = |key: &'static str, first: &'static str| f.part(&[key, first]);
    let acoustic = Tokenizer::read(&either("audio_config", "acoustic_tokenizer_config")?, 64)?;
    let semantic = Tokenizer::read(&either("semantic_model_config", "semantic_tokenizer_config")?, 128)?;
    // The first files keep both as buffers.
    if !is_first {
        let factors = Tensors::default().tensor("model.latent_scaling_factor", Role::Other, &[]).tensor("model.latent_bias_factor", Role::Other, &[]).build();
        draft.decoder.tensors.extend(factors);
    }
    let mut connectors = Tensors::default();
    for (at, latent) in [("model.acoustic_connector", acoustic.latent), ("model.semantic_connector", semantic.latent)] {
        connectors.linear(&format!("{at}.linear_1"), latent, width, true).norm(&format!("{at}.norm"), width, false).linear(
            &format!("{at}.linear_2"),
            width,
            width,
            true,
        );
    }
    let connectors = component("projector", ComponentKind::Projector, width, "", connectors.build(), Vec::new());
    let heard = acoustic.component("acoustic_encoder", "model.audio_tower.encoder", false);
    let spoken = acoustic.component("acoustic_decoder", "model.audio_tower.decoder", true);
    let meant = semantic.component("semantic_encoder", "model.semantic_tokenizer_encoder", false);
    let diffusion = diffusion(&part(f, "diffusion_head_config")?, width)?;
    Ok(draft.with(heard).with(spoken).with(meant).with(connectors).with(diffusion))
}

/// VibeVoice-ASR: both tokenizers' encoders before Qwen2, which writes what is said.
pub(super) fn read_asr(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("qwen2") };
    let text = f.part(TEXT_CONFIGS)?;
    let mut draft = language_in(f, &text, &wrapper)?;
    f.touch("acoustic_tokenizer_chunk_size");
    let width = draft.decoder.shape.hidden;
    let mut connectors = Tensors::default();
    for (name, key, at, latent) in [
        ("acoustic", "acoustic_tokenizer_encoder_config", "model.acoustic_tokenizer_encoder", 64),
        ("semantic", "semantic_tokenizer_encoder_config", "model.semantic_tokenizer_encoder", 128),
    ] {
        let tokenizer = Tokenizer::read(&part(f, key)?, latent)?;
        draft = draft.with(tokenizer.component(if name == "acoustic" { "acoustic_encoder" } else { "semantic_encoder" }, at, false));
        let base = format!("model.multi_modal_projector.{name}");
        connectors.linear(&format!("{base}_linear_1"), tokenizer.latent, width, true).norm(&format!("{base}_norm"), width, false).linear(
            &format!("{base}_linear_2"),
            width,
            width,
            true,
        );
    }
    Ok(draft.with(component("projector", ComponentKind::Projector, width, "", connectors.build(), Vec::new())))
}

/// The diffusion head: feed-forwards that the language model's state and the time modulate.
fn diffusion(f: &Fields, width: u64) -> Result<Component, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    for key in ["model_type", "diffusion_max_period"] {
        f.touch(key);
    }
    for key in ["ddpm_batch_mul", "ddpm_beta_schedule", "ddpm_num_inference_steps", "ddpm_num_steps", "diffusion_type", "prediction_type", "speech_vae_dim"] {
        f.touch(key);
    }
    let (hidden, latent) = (or("hidden_size", width)?, or("latent_size", 64)?);
    // A ratio in the first files.
    let inner = if f.has("head_ffn_ratio") { scaled(f, "head_ffn_ratio", 3.0, hidden)? } else { or("intermediate_size", 4608)? };
    let bias = f.flag("mlp_bias", false)?;
    let layers = super::encoder::layer_count(f, if f.has("head_layers") { "head_layers" } else { "num_hidden_layers" }, 4)?;
    let mut t = Tensors::default();
    t.linear("model.diffusion_head.noisy_images_proj", latent, hidden, false)
        .linear("model.diffusion_head.cond_proj", hidden, hidden, false)
        .linear("model.diffusion_head.timestep_proj.fc1", or("frequency_embedding_size", 256)?, hidden, false)
        .linear("model.diffusion_head.timestep_proj.fc2", hidden, hidden, false)
        .linear("model.diffusion_head.final_layer.linear_1", hidden, hidden.saturating_mul(2), false)
        .linear("model.diffusion_head.final_layer.linear_2", hidden, latent, false);
    let mut layer = Tensors::default();
    layer
        .linear("ffn.gate_proj", hidden, inner, bias)
        .linear("ffn.up_proj", hidden, inner, bias)
        .linear("ffn.down_proj", inner, hidden, bias)
        .norm("norm", hidden, false)
        .linear("linear", hidden, hidden.saturating_mul(3), false);
    let layer = layer.build();
    let layers = (0..layers).map(|_| (unmixed(inner), layer.clone())).collect();
    Ok(component("diffusion_head", ComponentKind::Other, hidden, "model.diffusion_head.layers", t.build(), layers))
}

#[cfg(test)]
mod tests {
    /// `VibeVoice` 1.5B and 7B as their first files describe them; counts as published beside them.
    #[test]
    fn published_counts() {
        let tokenizer = |dim: u64| {
            format!(
                r#"{{"channels": 1, "encoder_depths": "3-3-3-3-3-3-8", "encoder_n_filters": 32, "encoder_ratios": [8, 5, 5, 4, 2, 2], "vae_dim": {dim},
                     "decoder_depths": null, "decoder_n_filters": 32, "decoder_ratios": [8, 5, 5, 4, 2, 2]}}"#
            )
        };
        let sizes = [
            (
                1536,
                r#""intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true"#,
                2_704_021_985,
            ),
            (
                3584,
                r#""intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": false"#,
                9_343_355_361,
            ),
        ];
        for (hidden, text, expected) in sizes {
            let config = format!(
                r#"{{"model_type": "vibevoice", "architectures": ["VibeVoiceForConditionalGeneration"], "acoustic_vae_dim": 64, "semantic_vae_dim": 128,
                     "decoder_config": {{"model_type": "qwen2", "hidden_size": {hidden}, "num_hidden_layers": 28, {text}}},
                     "acoustic_tokenizer_config": {}, "semantic_tokenizer_config": {},
                     "diffusion_head_config": {{"hidden_size": {hidden}, "head_layers": 4, "head_ffn_ratio": 3.0, "latent_size": 64, "speech_vae_dim": 64}}}}"#,
                tokenizer(64),
                tokenizer(128)
            );
            let anatomy = crate::config::read(&config).unwrap();
            assert_eq!((anatomy.parameters().unwrap().get(), anatomy.keys_not_understood.as_slice()), (expected, [].as_slice()));
        }
    }
}
