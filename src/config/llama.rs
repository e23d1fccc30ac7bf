//! Llama 1 to 3.x, and the reading of unknown types with Llama-like fields.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let tensors = Tensors::default()
        .attention(&shape, attention_bias, attention_bias)
        .gated_mlp(shape.hidden, intermediate, f.flag("mlp_bias", false)?)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
