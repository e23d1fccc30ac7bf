//! Time-MoE, by its own code (`modeling_time_moe.py` of Time-MoE): Qwen2's mixture over numbers in the place of tokens, with a head for
//! each horizon that it predicts.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::experts::gated;
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

/// Most horizons that are read.
const MAX_HORIZONS: usize = 1000;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, layers, heads) = (f.count("hidden_size")?, Shape::layer_count(f)?, f.count("num_attention_heads")?);
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(heads);
    let shape = Shape::checked(f, hidden, layers, 0, (heads, kv_heads, None))?;
    let inner = f.count("intermediate_size")?;
    let mut t = Tensors::default();
    let (queries, keys) = (heads.saturating_mul(shape.head_dim), kv_heads.saturating_mul(shape.head_dim));
    t.linear("self_attn.q_proj", hidden, queries, true)
        .linear("self_attn.k_proj", hidden, keys, true)
        .linear("self_attn.v_proj", hidden, keys, true)
        .linear("self_attn.o_proj", queries, hidden, false)
        .norms(LLAMA_NORMS, hidden);
    let feed_forward = if f.flag("use_dense", false)? {
        for key in ["num_experts", "num_experts_per_tok"] {
            f.touch(key);
        }
        gated(&mut t, "ffn_layer", hidden, inner, false);
        FeedForward::Dense { intermediate: inner, gated: true }
    } else {
        let experts = f.count_or("num_experts", 8)?;
        let active = f.active_experts(experts, 2.min(experts))?;
        // One token's experts are together as wide as the shared one.
        let width = (inner / active).max(1);
        t.linear("ffn_layer.gate", hidden, experts, false);
        for (leaf, inputs, outputs) in [("gate_proj", hidden, width), ("up_proj", hidden, width), ("down_proj", width, hidden)] {
            t.experts(&format!("ffn_layer.experts.{{}}.{leaf}"), experts, inputs, outputs);
        }
        gated(&mut t, "ffn_layer.shared_expert", hidden, inner, false);
        t.linear("ffn_layer.shared_expert_gate", hidden, 1, false);
        FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared: inner }
    };
    let layer = t.build();
    let layers = (0..layers).map(|_| (Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, layer.clone())).collect();
    let inputs = f.count_or("input_size", 1)?;
    let mut t = Tensors::default();
    for name in ["emb_layer", "gate_layer"] {
        t.tensor(&format!("model.embed_layer.{name}.weight"), Role::Embedding, &[hidden, inputs]);
    }
    t.norm("model.norm", hidden, false);
    f.touch("router_aux_loss_factor");
    f.touch("apply_aux_loss");
    let horizons = if f.raw("horizon_lengths").is_some_and(serde_json::Value::is_array) {
        f.optional_counts("horizon_lengths")?.unwrap_or_default()
    } else {
        vec![f.count_or("horizon_lengths", 1)?]
    };
    if horizons.is_empty() || horizons.len() > MAX_HORIZONS || horizons.contains(&0) {
        return Err(f.impossible("horizon_lengths", "it must have from one to 1,000 lengths, each at least 1"));
    }
    if !f.architecture()?.is_some_and(|class| class.ends_with("Model")) {
        for (number, horizon) in horizons.into_iter().enumerate() {
            t.tensor(&format!("lm_heads.{number}.out_layer.weight"), Role::Head, &[inputs.saturating_mul(horizon), hidden]);
        }
    }
    Ok(Decoder { tensors: t.build(), head: Head::Nothing, ..Decoder::llama_like(shape, layers, false) }.into())
}

#[cfg(test)]
mod tests {
    /// Time-MoE 50M, whose active half its authors name it by: 113 million.
    #[test]
    fn experts_share_the_width_of_the_shared_one() {
        let config = r#"{"model_type": "time_moe", "architectures": ["TimeMoeForPrediction"], "hidden_size": 384, "intermediate_size": 1536,
            "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12, "num_experts": 8, "num_experts_per_tok": 2,
            "input_size": 1, "horizon_lengths": [1, 8, 32, 64], "use_dense": false, "max_position_embeddings": 4096}"#;
        let anatomy = crate::config::read(config).unwrap();
        let layer = 4 * 384 * 384 + 3 * 384 + 8 * 3 * 384 * 768 + 3 * 384 * 1536 + 8 * 384 + 384 + 2 * 384;
        assert_eq!(anatomy.parameters().unwrap().get(), 12 * layer + 384 * (1 + 8 + 32 + 64) + 3 * 384);
        assert!(anatomy.assumptions.is_empty() && anatomy.keys_not_understood.is_empty(), "{:?} {:?}", anatomy.assumptions, anatomy.keys_not_understood);
        assert_eq!(anatomy.components[0].layers[0].layer.mixer.cache_elements_per_token(), 2 * 384);
    }
}
