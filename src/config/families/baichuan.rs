//! Baichuan 1 and 2: Llama 1 with q, k and v in one matrix; the head is normed on the fly, which adds nothing.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let queries = shape.heads * shape.head_dim;
    let tensors = Tensors::default()
        .linear("self_attn.W_pack", shape.hidden, queries + 2 * shape.kv_heads * shape.head_dim, false)
        .linear("self_attn.o_proj", queries, shape.hidden, false)
        .gated_mlp(shape.hidden, intermediate, false)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
