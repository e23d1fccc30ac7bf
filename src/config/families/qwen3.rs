//! Qwen3: norms on each query and key head, explicit `head_dim` (128 when the config does not say).

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, qwen_spans};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

/// `Qwen3Config.head_dim` of transformers 5.23.
pub(super) const HEAD_DIM: u64 = 128;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with_head_dim(f, HEAD_DIM)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let tensors = Tensors::default()
        .attention(&shape, attention_bias, attention_bias)
        .query_key_norm(&shape)
        .gated_mlp(shape.hidden, intermediate, false)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    let spans = qwen_spans(f, &shape)?;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |i| spans[i]);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
