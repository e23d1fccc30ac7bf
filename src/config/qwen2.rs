//! Qwen1.5, Qwen2 and Qwen2.5: Llama with biases on q, k and v. The window counts only when `use_sliding_window` is set.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, qwen_spans};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default().attention(&shape, true, false).gated_mlp(shape.hidden, intermediate, false).norms(LLAMA_NORMS, shape.hidden).build();
    let spans = qwen_spans(f, &shape)?;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |i| spans[i]);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
