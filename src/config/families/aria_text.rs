//! Aria's text decoder: Llama's attention, all experts in two tensors, shared experts as wide as routed ones.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::experts::{MLP, Mixture, gated};
use super::{ConfigError, Fields};
use crate::model::Span;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    text(f).map(Draft::from)
}

/// The decoder, for the model with a vision tower too.
pub(super) fn text(f: &Fields) -> Result<Decoder, ConfigError> {
    let shape = Shape::read(f)?;
    let bias = f.flag("attention_bias", false)?;
    let width = f.count("intermediate_size")?;
    let experts = f.count_or("num_experts", 8)?;
    let shared = f.optional_count_or_zero("n_shared_experts")?.unwrap_or(2);
    let mixture = Mixture { experts, active: f.active_experts(experts, 2.min(experts))?, width, shared: shared.saturating_mul(width), bias: false };
    let mut tensors = Tensors::default();
    tensors.attention(&shape, bias, bias).linear("mlp.router", shape.hidden, experts, false);
    Mixture::add_fused(
        &mut tensors,
        ("mlp.experts.fc1.weight", &[experts, shape.hidden, width.saturating_mul(2)]),
        ("mlp.experts.fc2.weight", &[experts, width, shape.hidden]),
    );
    gated(&mut tensors, MLP.shared, shape.hidden, mixture.shared, f.flag("mlp_bias", false)?);
    let tensors = tensors.norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false))
}
