//! Grok-1: norms before and after attention and experts, tied head.

use super::decoder::{Decoder, Draft, Shape, Tensors, layers_by_span};
use super::experts::Mixture;
use super::{ConfigError, Fields};
use crate::model::{Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let experts = f.optional_count("num_experts")?.unwrap_or(8);
    let mixture = Mixture { experts, active: f.active_experts(experts, 2.min(experts))?, width: f.count("intermediate_size")?, shared: 0, bias: false };
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let mut tensors = Tensors::default();
    tensors
        .linear("attn.q_proj", shape.hidden, queries, false)
        .linear("attn.k_proj", shape.hidden, keys, false)
        .linear("attn.v_proj", shape.hidden, keys, false)
        .linear("attn.o_proj", queries, shape.hidden, false)
        .linear("moe_block.gate", shape.hidden, experts, false)
        .repeated("moe_block.experts.{}.linear.weight", Role::ExpertGate, experts, &[mixture.width, shape.hidden])
        .repeated("moe_block.experts.{}.linear_v.weight", Role::ExpertUp, experts, &[mixture.width, shape.hidden])
        .repeated("moe_block.experts.{}.linear_1.weight", Role::ExpertDown, experts, &[shape.hidden, mixture.width]);
    for norm in ["pre_attn_norm.scale", "post_attn_norm.scale", "pre_moe_norm.scale", "post_moe_norm.scale"] {
        tensors.tensor(norm, Role::Norm, &[shape.hidden]);
    }
    let tensors = tensors.build();
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |_| Span::Full);
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).tensor("model.norm.scale", Role::Norm, &[shape.hidden]).build();
    Ok(Decoder { tensors, ..Decoder::llama_like(shape, layers, true) }.into())
}
