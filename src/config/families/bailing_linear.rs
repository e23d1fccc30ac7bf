//! Ring-linear: lightning attention with a gated group norm in most layers, grouped attention at the end of each group of layers,
//! experts after the first dense layers.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{GATE_UP_DOWN, experts, gated, plain_recurrence};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, RecurrenceKind, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_experts", 256), ("moe_intermediate_size", 512), ("layer_group_size", 1)]);
    let shape = Shape::read(f)?;
    let hidden = shape.hidden;
    let intermediate = f.count("intermediate_size")?;
    let (qkv_bias, bias) = (f.flag("use_qkv_bias", false)?, f.flag("use_bias", false)?);
    let has_norms = f.flag("use_qk_norm", false)?;
    let count = f.count("num_experts")?;
    let active = f.active_experts(count, 8.min(count))?;
    let width = f.count("moe_intermediate_size")?;
    let shared_width = f.optional_count("moe_shared_expert_intermediate_size")?.unwrap_or(width);
    let shared = shared_width.saturating_mul(f.optional_count_or_zero("num_shared_experts")?.unwrap_or(1));
    let dense = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(1);
    let group = f.count("layer_group_size")?;
    // Grouping of a norm, and a bias that is a buffer.
    f.touch("group_norm_size");
    f.touch("moe_router_enable_expert_bias");
    let predictors = f.optional_count_or_zero("num_nextn_predict_layers")?.unwrap_or(0);
    let inner = shape.heads.saturating_mul(shape.head_dim);
    let layers = (0..shape.layers).map(|number| {
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, hidden);
        // Layers past the last whole group attend in full too.
        let is_full = (number + 1).is_multiple_of(group) || number >= shape.layers / group * group;
        let projected = if is_full { inner.saturating_add(shape.kv_heads.saturating_mul(shape.head_dim).saturating_mul(2)) } else { inner.saturating_mul(3) };
        t.tensor("attention.query_key_value.weight", Role::Qkv, &[projected, hidden]).tensor("attention.dense.weight", Role::AttentionOutput, &[hidden, inner]);
        if qkv_bias {
            t.tensor("attention.query_key_value.bias", Role::Qkv, &[projected]);
        }
        if bias {
            t.tensor("attention.dense.bias", Role::AttentionOutput, &[hidden]);
        }
        if has_norms {
            t.norms(&["attention.query_layernorm", "attention.key_layernorm"], shape.head_dim);
        }
        let mixer = if is_full {
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            t.linear("attention.g_proj", hidden, inner, false).norm("attention.g_norm", inner, false);
            plain_recurrence(RecurrenceKind::Linear, inner.saturating_mul(shape.head_dim))
        };
        let feed_forward = if number < dense {
            gated(&mut t, "mlp", GATE_UP_DOWN, hidden, intermediate, bias)
        } else {
            t.linear("mlp.gate", hidden, count, false);
            experts(&mut t, "mlp.experts", GATE_UP_DOWN, count, hidden, width);
            if shared > 0 {
                gated(&mut t, "mlp.shared_experts", GATE_UP_DOWN, hidden, shared, bias);
            }
            FeedForward::MixtureOfExperts { experts: count, active, intermediate: width, shared }
        };
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    let tensors = Tensors::default().embedding("model.word_embeddings", shape.vocab, hidden).norm("model.norm", hidden, false).build();
    let mut draft = Draft::from(Decoder { tensors, ..Decoder::llama_like(shape, layers, false) });
    if predictors > 0 {
        draft.assumptions.push("the layers of multi-token prediction that `num_nextn_predict_layers` names are not sized".to_owned());
    }
    Ok(draft)
}
