//! Grok-1: norms before and after attention and experts, tied head. Grok-2 adds a dense feed-forward beside the experts, which have
//! a width of their own, and unties the head.

use super::decoder::{Decoder, Draft, Shape, Tensors, layers_by_span};
use super::experts::{BLOCK_SPARSE, Mixture};
use super::{ConfigError, Fields};
use crate::model::{Role, Span};

/// The class of both; Grok-2's file calls its type `git`.
pub(super) const CLASS: &str = "Grok1ForCausalLM";

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.flag("residual_moe", false)? {
        return read_second(f);
    }
    let shape = Shape::read(f)?;
    let experts = f.count_or("num_experts", 8)?;
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

/// Grok-2: the names of SGLang's `grok.py`, which reads its files.
fn read_second(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let (hidden, dense) = (shape.hidden, f.count("intermediate_size")?);
    let experts = f.count_or("num_experts", 8)?;
    let width = f.optional_count("moe_intermediate_size")?.unwrap_or(dense);
    let mixture = Mixture { experts, active: f.active_experts(experts, 2.min(experts))?, width, shared: 0, bias: false };
    for key in ["attn_temperature_len", "embedding_multiplier_scale", "final_logit_softcapping", "router_logit_softcapping", "attn_logit_softcapping"] {
        f.touch(key);
    }
    let mut tensors = Tensors::default();
    tensors.attention(&shape, false, false).gated_mlp(hidden, dense, false);
    mixture.add(&mut tensors, BLOCK_SPARSE, hidden);
    let tensors = tensors.norms(&["pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"], hidden).build();
    let feed_forward = Mixture { shared: dense, ..mixture }.feed_forward();
    let layers = layers_by_span(&shape, feed_forward, &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
