//! DBRX: sizes in objects of their own, q, k and v in one matrix, all experts in three, norms without biases.

use super::decoder::{Decoder, Draft, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut shape = Shape::read(f)?;
    let attention = f.nested(&["attn_config"])?;
    shape.kv_heads = attention.as_ref().map_or(Ok(None), |a| a.optional_count("kv_n_heads"))?.unwrap_or(1);
    if let Some(attention) = attention.filter(|_| !shape.heads.is_multiple_of(shape.kv_heads)) {
        return Err(attention.impossible("kv_n_heads", "it must divide `n_heads`"));
    }
    let (experts, active, width) = match f.nested(&["ffn_config"])? {
        Some(ffn) => {
            let experts = ffn.count_or("num_experts", 4)?;
            (experts, ffn.active_experts(experts, 1)?, ffn.count_or("intermediate_size", 3584)?)
        }
        None => (4, 1, 3584),
    };
    let all = [experts.saturating_mul(width), shape.hidden];
    let keys = shape.kv_heads.saturating_mul(shape.head_dim);
    let tensors = Tensors::default()
        .norm("norm_attn_norm.norm_1", shape.hidden, false)
        .linear("norm_attn_norm.attn.Wqkv", shape.hidden, shape.hidden.saturating_add(keys.saturating_mul(2)), false)
        .tensor("norm_attn_norm.attn.out_proj.weight", Role::AttentionOutput, &[shape.hidden, shape.hidden])
        .norm("norm_attn_norm.norm_2", shape.hidden, false)
        .tensor("ffn.router.layer.weight", Role::Router, &[experts, shape.hidden])
        .tensor("ffn.experts.mlp.w1", Role::ExpertGate, &all)
        .tensor("ffn.experts.mlp.v1", Role::ExpertUp, &all)
        .tensor("ffn.experts.mlp.w2", Role::ExpertDown, &all)
        .build();
    let layers = layers_by_span(&shape, FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared: 0 }, &tensors, |_| Span::Full);
    let tensors = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.norm_f", shape.hidden, false).build();
    Ok(Decoder { base: "transformer", layer_prefix: "transformer.blocks", tensors, ..Decoder::llama_like(shape, layers, false) }.into())
}
