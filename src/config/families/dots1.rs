//! dots.llm1: Qwen3's attention over DeepSeek's mixture; layers from `max_window_layers` on slide.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, spans_by_layer_types};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::{ConfigError, Fields};
use crate::model::{Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, None, Some(32))?;
    let sparse = sparse_layers(f, &shape, 0)?;
    f.count("num_experts")?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 1, active: 1, width: 1408, shared: 0 })?;
    let bias = f.flag("attention_bias", false)?;
    let window = if f.has("sliding_window") { f.optional_count("sliding_window")? } else { Some(4096) };
    let first = f.optional_count_or_zero("max_window_layers")?.unwrap_or(62);
    let spans = spans_by_layer_types(f, &shape)?;
    let span = |number: usize| match (&spans, window) {
        (Some(spans), _) => spans[number],
        (None, Some(window)) if number as u64 >= first => Span::Sliding(window),
        _ => Span::Full,
    };
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        tensors.attention(&shape, bias, bias).query_key_norm(&shape);
        Ok(Mixer::Attention(shape.attention(span(number))))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}
