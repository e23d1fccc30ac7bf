//! Gemma 1 and 2: explicit `head_dim` (256), tied head; Gemma 2 has four norms and slides in every other layer.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, spans_by_layer_types};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span};

/// `GemmaConfig.head_dim` of transformers 5.23.
const HEAD_DIM: u64 = 256;

pub(super) const GEMMA2_NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"];

pub(super) fn read_gemma(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with_head_dim(f, HEAD_DIM)?;
    read(f, shape, LLAMA_NORMS, |_| Span::Full)
}

pub(super) fn read_gemma2(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with_head_dim(f, HEAD_DIM)?;
    // `sliding_window_size` is an older spelling that some files keep beside `sliding_window`.
    let window = match f.optional_count("sliding_window")? {
        Some(window) => window,
        None => f.optional_count("sliding_window_size")?.ok_or_else(|| f.missing("sliding_window"))?,
    };
    f.optional_count("sliding_window_size")?;
    let spans = spans_by_layer_types(f, &shape)?;
    // Without `layer_types`: layers 0, 2, 4 ... slide.
    let alternating = |i: usize| if i.is_multiple_of(2) { Span::Sliding(window) } else { Span::Full };
    read(f, shape, GEMMA2_NORMS, |i| spans.as_ref().map_or_else(|| alternating(i), |s| s[i]))
}

fn read(f: &Fields, shape: Shape, norms: &[&str], span: impl Fn(usize) -> Span) -> Result<Draft, ConfigError> {
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let tensors =
        Tensors::default().attention(&shape, attention_bias, attention_bias).gated_mlp(shape.hidden, intermediate, false).norms(norms, shape.hidden).build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, span);
    Ok(Decoder::llama_like(shape, layers, true).into())
}
