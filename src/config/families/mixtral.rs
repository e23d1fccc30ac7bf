//! Mixtral: Mistral's attention and a mixture of experts in every layer.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, sliding_or_full};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let experts = f.count_or("num_experts", 8)?;
    let active = f.active_experts(experts, 2)?;
    let tensors = Tensors::default()
        .attention(&shape, false, false)
        .linear("block_sparse_moe.gate", shape.hidden, experts, false)
        .experts("block_sparse_moe.experts.{}.w1", experts, shape.hidden, intermediate)
        .experts("block_sparse_moe.experts.{}.w2", experts, intermediate, shape.hidden)
        .experts("block_sparse_moe.experts.{}.w3", experts, shape.hidden, intermediate)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    let span = sliding_or_full(f)?;
    let layers = layers_by_span(&shape, FeedForward::MixtureOfExperts { experts, active, intermediate, shared: 0 }, &tensors, |_| span);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
