//! `OLMoE` and `FlexOlmo`: norms over all queries and all keys together; `FlexOlmo` norms outputs instead of inputs.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::experts::{MLP, Mixture};
use super::{ConfigError, Fields};
use crate::model::Span;

const FLEX_NORMS: &[&str] = &["post_attention_layernorm", "post_feedforward_layernorm"];

pub(super) fn read_olmoe(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, (64, 8), LLAMA_NORMS)
}

pub(super) fn read_flex_olmo(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, (7, 5), FLEX_NORMS)
}

fn read(f: &Fields, (experts, active): (u64, u64), norms: &[&str]) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let bias = f.flag("attention_bias", false)?;
    let experts = f.optional_count("num_experts")?.unwrap_or(experts);
    let mixture = Mixture { experts, active: f.active_experts(experts, active.min(experts))?, width: f.count("intermediate_size")?, shared: 0, bias: false };
    let mut tensors = Tensors::default();
    tensors.attention(&shape, bias, bias).norm("self_attn.q_norm", shape.heads.saturating_mul(shape.head_dim), false).norm(
        "self_attn.k_norm",
        shape.kv_heads.saturating_mul(shape.head_dim),
        false,
    );
    mixture.add(&mut tensors, MLP, shape.hidden);
    let tensors = tensors.norms(norms, shape.hidden).build();
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
