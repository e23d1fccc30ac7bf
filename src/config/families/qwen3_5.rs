//! Qwen3.5 and 3.6: the hybrid language model behind a vision tower with learned positions, whose patches are merged by an MLP.

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Names, Wrapper, language};
use super::recurrent::divided;
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Span};

/// `Qwen3_5VisionConfig` of transformers 5.23; the MoE variant's is the same.
pub(super) const VISION_DEFAULTS: &[(&str, u64)] = &[
    ("depth", 27),
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("num_heads", 16),
    ("in_channels", 3),
    ("patch_size", 16),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 2),
    ("out_hidden_size", 3584),
    ("num_position_embeddings", 2304),
];

pub(super) fn read_dense(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, "qwen3_5_text")
}

pub(super) fn read_sparse(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, "qwen3_5_moe_text")
}

fn read(f: &Fields, text: &'static str) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new(text) })?;
    let vision = f.part(&["vision_config"])?;
    let [tower, merger] = vision_parts(&vision.with_defaults(VISION_DEFAULTS))?;
    Ok(draft.with(tower).with(merger))
}

/// The tower and the merger that follows it.
pub(super) fn vision_parts(v: &Fields) -> Result<[Component; 2], ConfigError> {
    let (hidden, intermediate, heads) = (v.count("hidden_size")?, v.count("intermediate_size")?, v.count("num_heads")?);
    let head_dim = divided(v, "num_heads", hidden, heads, "it must divide `hidden_size`")?;
    let depth = v.count("depth")?;
    if depth > 10_000 {
        return Err(v.impossible("depth", "no model has more than 10,000 layers"));
    }
    let patch = v.count("patch_size")?;
    let merged = v.count("spatial_merge_size")?;
    let merged = hidden.saturating_mul(merged.saturating_mul(merged));
    // Present in files of the older Qwen3-VL, which feeds the decoder from several depths; empty here.
    if v.optional_counts("deepstack_visual_indexes")?.is_some_and(|indexes| !indexes.is_empty()) {
        return Err(v.impossible("deepstack_visual_indexes", "this model type takes the last layer only"));
    }
    for unread in ["model_type", "dtype", "torch_dtype"] {
        v.touch(unread);
    }
    let tensors = Tensors::default()
        .convolution("model.visual.patch_embed.proj", &[hidden, v.count("in_channels")?, v.count("temporal_patch_size")?, patch, patch], true)
        .embedding("model.visual.pos_embed", v.count("num_position_embeddings")?, hidden)
        .build();
    let of_layer = Tensors::default()
        .norm("norm1", hidden, true)
        .linear("attn.qkv", hidden, 3 * hidden, true)
        .linear("attn.proj", hidden, hidden, true)
        .norm("norm2", hidden, true)
        .linear("mlp.linear_fc1", hidden, intermediate, true)
        .linear("mlp.linear_fc2", intermediate, hidden, true)
        .build();
    let attention = Attention { heads, kv_heads: heads, key_dim: head_dim, value_dim: head_dim, span: Span::Full, keeps: Keeps::Nothing };
    let layer = Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate, gated: false } };
    let layers = (0..depth).map(|_| (layer, of_layer.clone())).collect();
    let merger = Tensors::default()
        .norm("model.visual.merger.norm", hidden, true)
        .linear("model.visual.merger.linear_fc1", merged, merged, true)
        .linear("model.visual.merger.linear_fc2", merged, v.count("out_hidden_size")?, true)
        .build();
    Ok([
        component("vision", ComponentKind::VisionTower, hidden, "model.visual.blocks", tensors, layers),
        component("projector", ComponentKind::Projector, merged, "", merger, Vec::new()),
    ])
}
