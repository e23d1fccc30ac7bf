//! gpt-oss: sinks and biases in attention, biases in router and experts, gate and up of all experts in one tensor; layers
//! slide in turn.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, spans_by_layer_types};
use super::experts::Mixture;
use super::{ConfigError, Fields};
use crate::model::{Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(64), Some(8))?;
    let bias = f.flag("attention_bias", true)?;
    let experts = f.optional_count("num_experts")?.unwrap_or(128);
    let width = f.count("intermediate_size")?;
    let mixture = Mixture { experts, active: f.active_experts(experts, 4.min(experts))?, width, shared: 0, bias: false };
    let both = width.saturating_mul(2);
    let mut tensors = Tensors::default();
    tensors
        .attention(&shape, bias, bias)
        .tensor("self_attn.sinks", Role::Other, &[shape.heads])
        .linear("mlp.router", shape.hidden, experts, true)
        .tensor("mlp.experts.gate_up_proj", Role::ExpertGateUp, &[experts, shape.hidden, both])
        .repeated("mlp.experts.gate_up_proj_bias", Role::ExpertGateUp, experts, &[both])
        .tensor("mlp.experts.down_proj", Role::ExpertDown, &[experts, width, shape.hidden])
        .repeated("mlp.experts.down_proj_bias", Role::ExpertDown, experts, &[shape.hidden]);
    let tensors = tensors.norms(LLAMA_NORMS, shape.hidden).build();
    let window = if f.has("sliding_window") { f.optional_count("sliding_window")? } else { Some(128) };
    let spans = spans_by_layer_types(f, &shape)?;
    let alternating = |number: usize| window.filter(|_| number.is_multiple_of(2)).map_or(Span::Full, Span::Sliding);
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |number| spans.as_ref().map_or_else(|| alternating(number), |spans| spans[number]));
    Ok(Decoder::llama_like(shape, layers, false).into())
}
