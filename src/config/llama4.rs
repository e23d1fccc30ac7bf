//! Llama 4's text decoder: chunked attention but for layers without rotary positions, a shared expert as wide as a routed
//! one, dense layers of another width where `moe_layers` leaves some.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, gated};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    text(f).map(Draft::from)
}

/// The decoder, for the model with a vision tower too.
pub(super) fn text(f: &Fields) -> Result<Decoder, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(8))?;
    let bias = f.flag("attention_bias", false)?;
    let width = f.count("intermediate_size")?;
    let experts = f.optional_count("num_experts")?.unwrap_or(16);
    let mixture = Mixture { experts, active: f.active_experts(experts, 1)?, width, shared: width };
    let step = f.optional_count("interleave_moe_layer_step")?.unwrap_or(1);
    let sparse_layers = if f.raw("moe_layers").is_some() { Some(f.layer_numbers("moe_layers")?) } else { None };
    // The norms of queries and keys have no weights.
    f.flag("use_qk_norm", true)?;
    let dense = f.optional_count("intermediate_size_mlp")?.unwrap_or(16_384);
    let spans = spans(f, &shape)?;
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias);
        let is_sparse = sparse_layers.as_ref().map_or_else(|| (number + 1).is_multiple_of(step), |list| list.contains(&number));
        let feed_forward = if is_sparse {
            tensors.linear("feed_forward.router", shape.hidden, experts, false);
            mixture.add_fused(
                &mut tensors,
                ("feed_forward.experts.gate_up_proj", &[experts, shape.hidden, width.saturating_mul(2)]),
                ("feed_forward.experts.down_proj", &[experts, width, shape.hidden]),
            );
            gated(&mut tensors, "feed_forward.shared_expert", shape.hidden, width, false);
            mixture.feed_forward()
        } else {
            gated(&mut tensors, "feed_forward", shape.hidden, dense, false);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.norms(LLAMA_NORMS, shape.hidden).build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false))
}

/// `layer_types`, or chunks where `no_rope_layers` (by default three layers of four) is 1.
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let chunk = if f.has("attention_chunk_size") { f.optional_count("attention_chunk_size")? } else { Some(8192) };
    let span = |is_chunked: bool| chunk.filter(|_| is_chunked).map_or(Span::Full, Span::Chunked);
    let interval = f.optional_count("no_rope_layer_interval")?.unwrap_or(4);
    // An empty list stands for the default.
    let rotary = f.optional_counts("no_rope_layers")?.filter(|list| !list.is_empty());
    let is_chunked: Vec<bool> = if let Some(types) = f.optional_texts("layer_types")? {
        let kinds = types.iter().map(|kind| match kind.as_str() {
            "chunked_attention" => Ok(true),
            "full_attention" => Ok(false),
            _ => Err(f.impossible("layer_types", "only `full_attention` and `chunked_attention` are known for this model type")),
        });
        kinds.collect::<Result<_, _>>()?
    } else if let Some(rotary) = rotary {
        rotary.into_iter().map(|has| has != 0).collect()
    } else {
        (0..shape.layers).map(|number| !(number + 1).is_multiple_of(interval)).collect()
    };
    if is_chunked.len() as u64 != shape.layers {
        let key = if f.raw("layer_types").is_some() { "layer_types" } else { "no_rope_layers" };
        return Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)"));
    }
    Ok(is_chunked.into_iter().map(span).collect())
}
