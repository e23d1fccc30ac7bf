//! MiniMax-M2: Mixtral's experts, norms over all queries and all keys together.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::experts::{BLOCK_SPARSE, Mixture};
use super::{ConfigError, Fields};
use crate::model::Span;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(8))?;
    let experts = f.count_or("num_experts", 256)?;
    let mixture = Mixture {
        bias: false,
        experts,
        active: f.active_experts(experts, 8.min(experts))?,
        width: f.count("intermediate_size")?,
        shared: f.optional_count_or_zero("shared_intermediate_size")?.unwrap_or(0),
    };
    if mixture.shared > 0 {
        return Err(f.impossible("shared_intermediate_size", "the class has no shared expert"));
    }
    // 1 stands for softmax attention; the family's first model had other kinds.
    if f.optional_counts("attn_type_list")?.is_some_and(|list| list.iter().any(|&kind| kind != 1)) {
        return Err(f.impossible("attn_type_list", "the class has softmax attention (1) in every layer"));
    }
    // The class does not slide, whatever stands here.
    f.touch("sliding_window");
    let mut tensors = Tensors::default();
    tensors.attention(&shape, false, false);
    if f.flag("use_qk_norm", true)? {
        tensors.norm("self_attn.q_norm", shape.heads.saturating_mul(shape.head_dim), false).norm(
            "self_attn.k_norm",
            shape.kv_heads.saturating_mul(shape.head_dim),
            false,
        );
    }
    mixture.add(&mut tensors, BLOCK_SPARSE, shape.hidden);
    let tensors = tensors.norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
