//! `JetMoE`: query and output projections are experts too; keys and values are shared by them. Tied head.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let kv_heads = f.count_or("num_key_value_heads", 16)?;
    let experts = f.count_or("num_experts", 8)?;
    let active = f.active_experts(experts, 2.min(experts))?;
    // Follows from the two above.
    f.touch("num_attention_heads");
    let head_dim = f.optional_count("kv_channels")?.or(f.optional_count("head_dim")?).unwrap_or(128);
    let heads = kv_heads.saturating_mul(active);
    let shape = Shape { hidden: f.count("hidden_size")?, layers: Shape::layer_count(f)?, vocab: f.count("vocab_size")?, heads, kv_heads, head_dim };
    let (hidden, keys) = (shape.hidden, kv_heads.saturating_mul(head_dim));
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default()
        .tensor("self_attention.experts.bias", Role::AttentionOutput, &[hidden])
        .tensor("self_attention.experts.input_linear.weight", Role::ExpertUp, &[experts, keys, hidden])
        .tensor("self_attention.experts.output_linear.weight", Role::ExpertDown, &[experts, hidden, keys])
        .tensor("self_attention.experts.router.layer.weight", Role::Router, &[experts, hidden])
        .tensor("self_attention.kv_proj.weight", Role::Key, &[keys.saturating_mul(2), hidden])
        .tensor("mlp.bias", Role::Down, &[hidden])
        .tensor("mlp.input_linear.weight", Role::ExpertGateUp, &[experts, intermediate.saturating_mul(2), hidden])
        .tensor("mlp.output_linear.weight", Role::ExpertDown, &[experts, hidden, intermediate])
        .tensor("mlp.router.layer.weight", Role::Router, &[experts, hidden])
        .norms(LLAMA_NORMS, hidden)
        .build();
    let layers = layers_by_span(&shape, FeedForward::MixtureOfExperts { experts, active, intermediate, shared: 0 }, &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, true).into())
}
