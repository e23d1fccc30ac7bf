//! Command A+ (Cohere 2 with experts): one norm before attention and mixture in parallel, dense layers first, sliding layers
//! by two patterns.

use super::classic::window_or;
use super::decoder::{Decoder, Draft, Shape, Tensors, spans_by_layer_types};
use super::experts::{MLP, Mixture};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

/// `Cohere2MoeConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("vocab_size", 256_000),
    ("hidden_size", 8192),
    ("intermediate_size", 22_528),
    ("num_hidden_layers", 40),
    ("num_attention_heads", 64),
    ("head_dim", 128),
    ("num_experts", 8),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let bias = f.flag("attention_bias", false)?;
    let (experts, width) = (f.count("num_experts")?, f.count("intermediate_size")?);
    let shared = f.optional_count_or_zero("n_shared_experts")?.unwrap_or(0).saturating_mul(width);
    let mixture = Mixture { experts, active: f.active_experts(experts, 2.min(experts))?, width, shared, bias: false };
    let first = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(0);
    let is_dense = match f.optional_texts("mlp_layer_types")? {
        Some(list) if list.len() as u64 != shape.layers => {
            return Err(f.impossible("mlp_layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        Some(list) => list.iter().map(|kind| kind == "dense").collect(),
        None => (0..shape.layers).map(|number| number < first).collect::<Vec<_>>(),
    };
    let dense = f.optional_count("prefix_dense_intermediate_size")?;
    let (step, first_step) = (f.count_or("sliding_window_pattern", 4)?, f.count_or("prefix_dense_sliding_window_pattern", 1)?);
    let window = window_or(f, 4096)?;
    let spans = spans_by_layer_types(f, &shape)?.unwrap_or_else(|| {
        let slides = |number: u64| if number < first { !(number + 1).is_multiple_of(first_step) } else { !(number - first + 1).is_multiple_of(step) };
        (0..shape.layers).map(|number| window.filter(|_| slides(number)).map_or(Span::Full, Span::Sliding)).collect()
    });
    // One kind of norm has an epsilon of this name; neither has a bias.
    f.touch("rms_norm_eps");
    let layers = is_dense.into_iter().zip(spans).map(|(is_dense, span)| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias);
        let feed_forward = if is_dense {
            let intermediate = dense.unwrap_or(width);
            tensors.gated_mlp(shape.hidden, intermediate, false);
            FeedForward::Dense { intermediate, gated: true }
        } else {
            mixture.add(&mut tensors, MLP, shape.hidden);
            mixture.feed_forward()
        };
        (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.norms(&["input_layernorm"], shape.hidden).build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, true).into())
}
