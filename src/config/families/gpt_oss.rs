//! gpt-oss: sinks and biases in attention, biases in router and experts, gate and up of all experts in one tensor; layers
//! slide in turn.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, Top, by_architecture, layers_by_span, spans_by_layer_types};
use super::experts::Mixture;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(64), Some(8))?;
    let bias = f.flag("attention_bias", true)?;
    let experts = f.count_or("num_experts", 128)?;
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

/// `OpenAIPrivacyFilterConfig` of transformers 5.23.
const FILTER: &[(&str, u64)] = &[
    ("vocab_size", 200_064),
    ("hidden_size", 640),
    ("intermediate_size", 640),
    ("num_hidden_layers", 8),
    ("num_attention_heads", 14),
    ("num_key_value_heads", 2),
    ("head_dim", 64),
];

/// The labels of its class, where the file names none.
const LABELS: &[(&str, u64)] = &[("num_labels", 33)];

/// The privacy filter: gpt-oss that reads both ways and labels each token.
pub(super) fn read_privacy_filter(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(FILTER);
    let mut draft = read(f)?;
    let head = if f.has("id2label") { by_architecture(f, &mut draft.assumptions)? } else { by_architecture(&f.with_defaults(LABELS), &mut draft.assumptions)? };
    if let Top::Score { module, labels, bias } = head {
        let score = Tensors::default().linear(module, draft.decoder.shape.hidden, labels, bias).build();
        draft.decoder.tensors.extend(score);
    }
    draft.decoder.head = Head::Nothing;
    for (layer, _) in &mut draft.decoder.layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Nothing;
        }
    }
    draft.kind = ComponentKind::TextEncoder;
    Ok(draft)
}
