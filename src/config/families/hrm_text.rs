//! HRM-Text: two stacks of gated attention that a token passes several times; every pass keeps keys and values of its own.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (cycles, inner_cycles) = (f.count_or("H_cycles", 2)?, f.count_or("L_cycles", 3)?);
    let passes = inner_cycles.saturating_add(1).saturating_mul(cycles);
    let stated = Shape::read(f)?;
    // Without `num_layers_per_stack`, `num_hidden_layers` is that of a stack.
    let per_stack = f.optional_count("num_layers_per_stack")?.unwrap_or(stated.layers);
    let layers = per_stack.saturating_mul(passes);
    if layers > Shape::MAX_LAYERS {
        return Err(f.impossible("num_layers_per_stack", "no model passes more than 10,000 layers"));
    }
    let shape = Shape { layers, ..stated };
    let (intermediate, hidden) = (f.count("intermediate_size")?, shape.hidden);
    let (attention_bias, mlp_bias) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    for unread in ["embedding_scale", "prefix_lm"] {
        f.touch(unread);
    }
    let tensors = Tensors::default()
        .attention(&shape, attention_bias, attention_bias)
        .linear("self_attn.gate_proj", hidden, shape.heads.saturating_mul(shape.head_dim), attention_bias)
        .gated_mlp(hidden, intermediate, mlp_bias)
        .build();
    let layer = Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward: FeedForward::Dense { intermediate, gated: true } };
    // The weights are those of the first pass through both stacks.
    let stored = per_stack.saturating_mul(2);
    let built = (0..layers).map(|number| (layer, if number < stored { tensors.clone() } else { Vec::new() })).collect();
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, hidden).tensor("model.z_L_init", Role::Other, &[hidden]).build();
    Ok(Decoder { tensors, ..Decoder::llama_like(shape, built, false) }.into())
}

/// Layers that tokens pass under no gradient in training: of the passes through the inner stack in each cycle only the last
/// `L_bp_cycles` have one (transformers 5.23 `HrmTextModel.forward`); the list speaks of the last cycles, and those before have one.
pub(in crate::config) fn without_gradient(f: &Fields) -> u64 {
    if f.model_type() != "hrm_text" {
        return 0;
    }
    let count = |key: &str| f.raw(key).and_then(serde_json::Value::as_u64);
    let (cycles, inner) = (count("H_cycles").unwrap_or(2), count("L_cycles").unwrap_or(3));
    let listed = f.raw("L_bp_cycles").and_then(serde_json::Value::as_array);
    let listed: Vec<u64> = listed.map_or_else(|| vec![2], |list| list.iter().map(|one| one.as_u64().unwrap_or(0)).collect());
    let told = (listed.len() as u64).min(cycles);
    let without = |passes: u64| inner.saturating_sub(passes);
    let all = (0..told).zip(&listed).fold((cycles - told).saturating_mul(without(1)), |sum, (_, &passes)| sum.saturating_add(without(passes)));
    let stack = count("num_layers_per_stack").or_else(|| count("num_hidden_layers")).unwrap_or(0);
    all.saturating_mul(stack)
}
