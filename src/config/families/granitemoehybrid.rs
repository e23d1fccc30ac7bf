//! Granite 4 hybrids: Mamba-2 or attention by `layer_types`; a shared feed-forward in every layer, beside experts where there are any.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{Kind, Mamba2, kinds_of_layers};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let experts = f.optional_count_or_zero("num_experts")?.unwrap_or(8);
    let active = match experts {
        0 => f.optional_count_or_zero("num_experts_per_tok")?.unwrap_or(0),
        experts => f.active_experts(experts, 2.min(experts))?,
    };
    let expert_width = if experts > 0 { f.count("intermediate_size")? } else { f.optional_count_or_zero("intermediate_size")?.unwrap_or(0) };
    let shared = f.count_or("shared_intermediate_size", 1024)?;
    let listed = match kinds_of_layers(f, "layer_types", shape.layers, &[Kind::Recurrent, Kind::Full])? {
        None => kinds_of_layers(f, "layers_block_type", shape.layers, &[Kind::Recurrent, Kind::Full])?,
        listed => listed,
    };
    let kinds = listed.unwrap_or_else(|| (0..shape.layers).map(|_| Kind::Recurrent).collect());
    f.touch("position_embedding_type");
    let block = if kinds.contains(&Kind::Recurrent) { Some(Mamba2::read(f, shape.hidden, None)?) } else { None };
    if block.is_none() {
        // Files without a recurrent layer keep its sizes.
        Mamba2::read(f, shape.hidden, None).ok();
    }
    let layers = kinds.into_iter().map(|kind| {
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, shape.hidden);
        let mixer = match &block {
            Some(block) if kind == Kind::Recurrent => {
                block.tensors(&mut t, "mamba");
                Mixer::Recurrent(block.recurrence())
            }
            _ => {
                t.attention(&shape, attention_bias, attention_bias);
                Mixer::Attention(shape.attention(Span::Full))
            }
        };
        t.linear("shared_mlp.input_linear", shape.hidden, 2 * shared, false).linear("shared_mlp.output_linear", shared, shape.hidden, false);
        let feed_forward = if experts > 0 {
            // The files hold the experts in one tensor each, gate and up together.
            t.tensor("block_sparse_moe.router.layer.weight", Role::Router, &[experts, shape.hidden])
                .tensor("block_sparse_moe.input_linear.weight", Role::ExpertGateUp, &[experts, 2 * expert_width, shape.hidden])
                .tensor("block_sparse_moe.output_linear.weight", Role::ExpertDown, &[experts, shape.hidden, expert_width]);
            FeedForward::MixtureOfExperts { experts, active, intermediate: expert_width, shared }
        } else {
            FeedForward::Dense { intermediate: shared, gated: true }
        };
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}
