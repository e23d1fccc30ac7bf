//! Step-3's text decoder: one key-value head, queries through a shared projection, experts where `moe_layers_enum` says.

use std::collections::BTreeSet;

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, Names, gated};
use super::{ConfigError, Fields};
use crate::model::{Attention, FeedForward, Keeps, Layer, Mixer, Role, Span};

const NAMES: Names = Names { router: "moe.gate", experts: ["moe.gate_proj", "moe.up_proj", "moe.down_proj"], shared: "share_expert" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    text(f).map(Draft::from)
}

/// The decoder, for the model with a vision tower too.
pub(super) fn text(f: &Fields) -> Result<Decoder, ConfigError> {
    let shape = Shape::read_with(f, Some(256), Some(1))?;
    if f.count_or("num_attention_groups", 1)? != 1 {
        return Err(f.impossible("num_attention_groups", "the class has one key-value head"));
    }
    let (hidden, head) = (shape.hidden, shape.head_dim);
    let shared_queries = f.count_or("share_q_dim", 2048)?;
    let queries = shape.heads.saturating_mul(head);
    let experts = f.count_or("num_experts", 48)?;
    let mixture = Mixture {
        bias: false,
        experts,
        active: f.active_experts(experts, 3.min(experts))?,
        width: f.count_or("moe_intermediate_size", 5120)?,
        shared: f.count_or("share_expert_dim", 5120)?,
    };
    let dense = f.count("intermediate_size")?;
    let sparse = sparse_layers(f)?;
    let attention = Attention { heads: shape.heads, kv_heads: 1, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Own };
    let layers = (0..shape.layers).map(|number| {
        let mut tensors = Tensors::default();
        tensors
            .linear("self_attn.q_proj", hidden, shared_queries, false)
            .linear("self_attn.k_proj", hidden, head, false)
            .linear("self_attn.v_proj", hidden, head, false)
            .norm("self_attn.inter_norm", shared_queries, false)
            .tensor("self_attn.wq.weight", Role::Query, &[queries, shared_queries])
            .linear("self_attn.o_proj", queries, hidden, false);
        let feed_forward = if sparse.as_ref().map_or(number > 0, |list| list.contains(&number)) {
            tensors
                .linear(NAMES.router, hidden, experts, false)
                .tensor("moe.gate_proj.weight", Role::ExpertGate, &[experts, mixture.width, hidden])
                .tensor("moe.up_proj.weight", Role::ExpertUp, &[experts, mixture.width, hidden])
                .tensor("moe.down_proj.weight", Role::ExpertDown, &[experts, hidden, mixture.width]);
            gated(&mut tensors, NAMES.shared, hidden, mixture.shared, false);
            mixture.feed_forward()
        } else {
            tensors.gated_mlp(hidden, dense, false);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        (Layer { mixer: Mixer::Attention(attention), feed_forward }, tensors.norms(LLAMA_NORMS, hidden).build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false))
}

/// `moe_layers_enum`: layer numbers in a list or in a text with commas; all but the first layer when it is absent.
pub(super) fn sparse_layers(f: &Fields) -> Result<Option<BTreeSet<u64>>, ConfigError> {
    if !f.raw("moe_layers_enum").is_some_and(serde_json::Value::is_string) {
        return if f.raw("moe_layers_enum").is_some() { f.layer_numbers("moe_layers_enum").map(Some) } else { Ok(None) };
    }
    let text = f.optional_text("moe_layers_enum")?.unwrap_or_default();
    let numbers: Result<BTreeSet<u64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    numbers.map(Some).map_err(|_| f.impossible("moe_layers_enum", "it must be layer numbers with commas between them"))
}
