//! Muse Spark: Muse Glimmer's attention and tower, experts at a width of their own between two matrices, gates on what is added to
//! the residual; an audio tower of convolutions, each stage shorter and wider.

use super::classic::{spans_with, window_or};
use super::decoder::{Decoder, Draft, Shape, Tensors, component};
use super::experts::{self, Mixture, MixtureDefaults};
use super::multimodal::{Names, Tie, Wrapper, language_in};
use super::networks::{ratio, times};
use super::vision::{MAX_BLOCKS, linear, norm};
use super::{ConfigError, Fields, muse_glimmer};
use crate::model::{ComponentKind, FeedForward, Layer, Mixer, Role};

/// `MuseSparkTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 202_048),
    ("hidden_size", 8192),
    ("intermediate_size", 16_384),
    ("num_hidden_layers", 62),
    ("num_attention_heads", 128),
    ("num_key_value_heads", 16),
    ("head_dim", 64),
];

const MIXTURE: MixtureDefaults = MixtureDefaults { experts: 256, active: 8, width: 4096, shared: 0 };

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = Shape::read(f)?;
    let (hidden, queries, bias) = (shape.hidden, shape.heads.saturating_mul(shape.head_dim), f.flag("attention_bias", false)?);
    let last = shape.layers - 1;
    let spans = spans_with(f, &shape, window_or(f, 2048)?, |number| !(last - number).is_multiple_of(4))?;
    for key in ["layer_rope_theta", "output_multiplier", "post_norm_eps", "qk_scale_factor", "residual_gate_temperature"] {
        f.touch(key);
    }
    let (mixture, narrow) = (Mixture::read(f, MIXTURE)?, f.count_or("moe_hidden_size", 4096)?);
    let sparse = experts::sparse_layers(f, &shape, 0)?;
    let dense = if sparse.iter().all(|&is_sparse| is_sparse) { f.touch("intermediate_size").unwrap_or(0) } else { f.count("intermediate_size")? };
    let layer = |(span, is_sparse)| {
        let mut t = Tensors::default();
        t.attention(&shape, bias, bias).linear("self_attn.gate_proj", hidden, queries, false);
        let feed_forward = if is_sparse {
            t.linear(experts::MLP.router, hidden, mixture.experts, false)
                .linear("mlp.pre_expert_proj", hidden, narrow, false)
                .norms(&["mlp.pre_expert_norm", "mlp.experts.post_expert_norm"], narrow)
                .linear("mlp.post_expert_proj", narrow, hidden, false);
            mixture.add_routed(&mut t, experts::MLP, narrow);
            mixture.feed_forward()
        } else {
            t.gated_mlp(hidden, dense, false);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        t.norms(&["input_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"], hidden);
        for gate in ["post_attention_residual_gate.gate", "post_feedforward_residual_gate.gate"] {
            t.tensor(gate, Role::Norm, &[hidden]);
        }
        (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, t.build())
    };
    let layers = spans.into_iter().zip(sparse).map(layer).collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("muse_spark_text") };
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let audio = ears(&f.part(&["audio_config"])?, width)?;
    Ok(muse_glimmer::with_eyes(f, draft)?.with(audio))
}

/// Stages over samples: patches of the stage before, then convolutions per channel, each with a feed-forward.
fn ears(f: &Fields, text: u64) -> Result<crate::model::Component, ConfigError> {
    f.touch("model_type");
    let widths = f.counts_or("hidden_sizes", &[256, 512, 1024, 2048])?;
    let (patches, depths) = (f.counts_or("patch_sizes", &[16, 6, 5, 4])?, f.counts_or("depths", &[2, 2, 2, 2])?);
    let stages = f.count_or("num_hidden_layers", widths.len() as u64)?;
    for (key, list) in [("hidden_sizes", &widths), ("patch_sizes", &patches), ("depths", &depths)] {
        if list.len() as u64 != stages || list.contains(&0) {
            return Err(f.impossible(key, "it must have one number, at least 1, per stage (`num_hidden_layers`)"));
        }
    }
    if depths.iter().any(|&depth| depth > MAX_BLOCKS) {
        return Err(f.impossible("depths", "no tower has more than 1,000 blocks in a stage"));
    }
    let (kernel, outputs) = (f.count_or("conv_kernel_size", 7)?, f.count_or("out_hidden_size", text)?);
    let ratio = ratio(f, "mlp_ratio", 4.0)?;
    let mut t = Tensors::default();
    let mut inputs = 1u64;
    for (stage, ((&width, &patch), &depth)) in widths.iter().zip(&patches).zip(&depths).enumerate() {
        let at = |leaf: &str| format!("model.audio_tower.layers.{stage}.{leaf}");
        linear(&mut t, Role::Other, &at("patch_embedder.proj"), inputs.saturating_mul(patch), width, true);
        norm(&mut t, &at("patch_embedder.norm"), width, false);
        let inner = times(width, ratio);
        for block in 0..depth {
            let at = |leaf: &str| at(&format!("conv_blocks.{block}.{leaf}"));
            t.convolution(&at("conv"), &[width, 1, kernel], true);
            norm(&mut t, &at("norm"), width, false);
            linear(&mut t, Role::Up, &at("mlp.fc1"), width, inner, true);
            linear(&mut t, Role::Down, &at("mlp.fc2"), inner, width, true);
        }
        inputs = width;
    }
    norm(&mut t, "model.audio_tower.norm", inputs, false);
    linear(&mut t, Role::Other, "model.audio_tower.proj", inputs, outputs, true);
    norm(&mut t, "model.audio_tower.post_proj_norm", outputs, false);
    Ok(component("audio", ComponentKind::AudioTower, inputs, "", t.build(), Vec::new()))
}
