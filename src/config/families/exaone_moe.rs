//! EXAONE MoE (K-EXAONE): norms of queries and keys, three sliding layers to one full, DeepSeek's mixture.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, spans_by_layer_types};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, predictor_component, predictors, sparse_layers};
use super::{ConfigError, Fields};
use crate::model::{Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, None, Some(32))?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 64, active: 8, width: 1024, shared: 1 })?;
    let spans = spans(f, &shape)?;
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        tensors.attention(&shape, false, false).query_key_norm(&shape);
        Ok(Mixer::Attention(shape.attention(spans[number])))
    })?;
    let predictors = predictors(f)?;
    let dense = f.optional_count("intermediate_size")?;
    let decoder = Decoder::llama_like(shape, layers, false);
    let (Some(dense), 1..) = (dense, predictors) else { return Ok(decoder.into()) };
    // The files' predictor is a dense layer beside norms and a projection of both inputs; embedding and head are the decoder's.
    let mut tensors = Tensors::default();
    tensors
        .attention(&shape, false, false)
        .query_key_norm(&shape)
        .gated_mlp(shape.hidden, dense, false)
        .norms(LLAMA_NORMS, shape.hidden)
        .norms(&["pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"], shape.hidden)
        .linear("fc", shape.hidden.saturating_mul(2), shape.hidden, false);
    let layer = crate::model::Layer {
        mixer: Mixer::Attention(shape.attention(Span::Full)),
        feed_forward: crate::model::FeedForward::Dense { intermediate: dense, gated: true },
    };
    let tensors = tensors.build();
    let mut draft = Draft::from(decoder).with(predictor_component(&shape, "mtp.layers", (0..predictors).map(|_| (layer, tensors.clone())).collect()));
    draft.assumptions.push("the token predictor is taken for one dense layer; transformers does not load it and parameters leave it out".to_owned());
    Ok(draft)
}

/// `layer_types`, or `sliding_window_pattern` as a number (every n-th layer is full) or as letters (`LLLG`, L slides).
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let is_text = f.raw("sliding_window_pattern").is_some_and(serde_json::Value::is_string);
    let letters = if is_text { f.optional_text("sliding_window_pattern")? } else { None };
    let step = if is_text { 0 } else { f.optional_count_or_zero("sliding_window_pattern")?.unwrap_or(4) };
    if let Some(spans) = spans_by_layer_types(f, shape)? {
        return Ok(spans);
    }
    let window = if f.has("sliding_window") { f.optional_count("sliding_window")? } else { Some(4096) };
    let letters: Vec<char> = letters.unwrap_or_default().chars().collect();
    let slides = |number: u64| match usize::try_from(number).ok().and_then(|number| letters.get(number % letters.len().max(1))) {
        Some(letter) => *letter == 'L',
        None => step > 0 && !(number + 1).is_multiple_of(step),
    };
    Ok((0..shape.layers).map(|number| window.filter(|_| slides(number)).map_or(Span::Full, Span::Sliding)).collect())
}
