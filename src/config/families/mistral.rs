//! Mistral: Llama's tensors; a sliding window in every layer where the config gives one.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, sliding_or_full, spans_by_layer_types};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span};

/// `MistralConfig.sliding_window` of transformers 5.23.
const DEFAULT_WINDOW: u64 = 4096;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default().attention(&shape, false, false).gated_mlp(shape.hidden, intermediate, false).norms(LLAMA_NORMS, shape.hidden).build();
    // The class slides by default: only an explicit null turns the window off.
    let everywhere = if f.has("sliding_window") { sliding_or_full(f)? } else { Span::Sliding(DEFAULT_WINDOW) };
    let spans = spans_by_layer_types(f, &shape)?;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |i| spans.as_ref().map_or(everywhere, |s| s[i]));
    Ok(Decoder::llama_like(shape, layers, false).into())
}
