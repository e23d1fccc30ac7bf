//! Granite MoE, with a shared feed-forward, and with sliding layers and sinks: gate and up of all experts in one tensor.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, spans_by_layer_types};
use super::experts::Mixture;
use super::{ConfigError, Fields};
use crate::model::{Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    decoder(f, 0, false)
}

pub(super) fn read_shared(f: &Fields) -> Result<Draft, ConfigError> {
    decoder(f, f.optional_count_or_zero("shared_intermediate_size")?.unwrap_or(0), false)
}

pub(super) fn read_sliding(f: &Fields) -> Result<Draft, ConfigError> {
    decoder(f, f.optional_count_or_zero("shared_intermediate_size")?.unwrap_or(0), true)
}

fn decoder(f: &Fields, shared: u64, slides: bool) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let bias = f.flag("attention_bias", false)?;
    let experts = f.count_or("num_experts", 8)?;
    let width = f.count("intermediate_size")?;
    let mixture = Mixture { experts, active: f.active_experts(experts, 2.min(experts))?, width, shared, bias: false };
    let both = width.saturating_mul(2);
    let mut tensors = Tensors::default();
    tensors.attention(&shape, bias, bias);
    tensors.linear("block_sparse_moe.router.layer", shape.hidden, experts, false);
    Mixture::add_fused(
        &mut tensors,
        ("block_sparse_moe.input_linear.weight", &[experts, both, shape.hidden]),
        ("block_sparse_moe.output_linear.weight", &[experts, shape.hidden, width]),
    );
    if shared > 0 {
        tensors.tensor("shared_mlp.input_linear.weight", Role::GateUp, &[shared.saturating_mul(2), shape.hidden]).tensor(
            "shared_mlp.output_linear.weight",
            Role::Down,
            &[shape.hidden, shared],
        );
    }
    let spans = if slides { spans_by_layer_types(f, &shape)? } else { None };
    if slides {
        tensors.tensor("self_attn.sinks", Role::Other, &[shape.heads]);
    }
    // Without `layer_types`: layers 0, 4, 8 ... are full.
    let window = match (slides, f.has("sliding_window")) {
        (false, _) => None,
        (true, false) => Some(128),
        (true, true) => f.optional_count("sliding_window")?,
    };
    let default = |number: usize| window.filter(|_| !number.is_multiple_of(4)).map_or(Span::Full, Span::Sliding);
    let tensors = tensors.norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |number| spans.as_ref().map_or_else(|| default(number), |spans| spans[number]));
    Ok(Decoder::llama_like(shape, layers, false).into())
}
