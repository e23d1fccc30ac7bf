//! Qwen1.5/2-MoE: biases on q, k and v, a shared expert with a gate of its own, Qwen3-MoE's placing of experts.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, spans_by_layer_types};
use super::experts::{MLP, Mixture, Names};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

const NAMES: Names = Names { shared: "mlp.shared_expert", ..MLP };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, None, Some(16))?;
    let bias = f.flag("qkv_bias", true)?;
    let experts = f.count_or("num_experts", 60)?;
    let mixture = Mixture {
        bias: false,
        experts,
        active: f.active_experts(experts, 4.min(experts))?,
        width: f.count_or("moe_intermediate_size", 1408)?,
        shared: f.optional_count_or_zero("shared_expert_intermediate_size")?.unwrap_or(5632),
    };
    let step = f.count_or("decoder_sparse_step", 1)?;
    let dense_layers = f.layer_numbers("mlp_only_layers")?;
    let spans = spans(f, &shape)?;
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, false);
        let feed_forward = if (number + 1).is_multiple_of(step) && !dense_layers.contains(&number) {
            mixture.add(&mut tensors, NAMES, shape.hidden);
            tensors.linear("mlp.shared_expert_gate", shape.hidden, 1, false);
            mixture.feed_forward()
        } else {
            let intermediate = f.count("intermediate_size")?;
            tensors.gated_mlp(shape.hidden, intermediate, false);
            FeedForward::Dense { intermediate, gated: true }
        };
        Ok((Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.norms(LLAMA_NORMS, shape.hidden).build()))
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    // Present in every file of the family, used only by dense layers.
    f.touch("intermediate_size");
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// Where `use_sliding_window` is set, every other layer below `max_window_layers` slides, the first one first.
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let slides = f.flag("use_sliding_window", false)?;
    let first_full = if slides { f.optional_count_or_zero("max_window_layers")?.unwrap_or(28) } else { f.touch("max_window_layers").unwrap_or(0) };
    let window = match (slides, f.has("sliding_window")) {
        (false, _) => f.touch("sliding_window"),
        (true, false) => Some(4096),
        (true, true) => f.optional_count("sliding_window")?,
    };
    if let Some(spans) = spans_by_layer_types(f, shape)? {
        return Ok(spans);
    }
    let span = |number: u64| window.filter(|_| number.is_multiple_of(2) && number < first_full).map_or(Span::Full, Span::Sliding);
    Ok((0..shape.layers).map(span).collect())
}
