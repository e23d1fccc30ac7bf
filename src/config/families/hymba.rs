//! Hymba: attention and Mamba heads side by side in every layer, over one projection; most layers slide, and some read the cache of the
//! layer before. Its own code; transformers has no class.

use std::collections::BTreeSet;

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Mamba1, count_or_auto, divided, scaled};
use super::{ConfigError, Fields};
use crate::model::{Attention, FeedForward, Keeps, Layer, Mixer, Role, Span};

/// `HymbaConfig` of its repository.
const CLASS: &[(&str, u64)] = &[("num_key_value_heads", 5), ("mamba_d_state", 16), ("mamba_d_conv", 4)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    let shape = Shape::read(f)?;
    let (hidden, intermediate) = (shape.hidden, f.count("intermediate_size")?);
    let inner = scaled(f, "mamba_expand", 2.0, hidden)?;
    let value_dim = divided(f, "num_attention_heads", inner, shape.heads, "it must divide `mamba_expand` times `hidden_size`")?;
    let block = Mamba1 {
        hidden,
        inner,
        state: f.count("mamba_d_state")?,
        kernel: f.count("mamba_d_conv")?,
        time_step_rank: count_or_auto(f, "mamba_dt_rank", hidden.div_ceil(16))?,
        conv_bias: f.flag("mamba_conv_bias", true)?,
        bias: f.flag("mamba_proj_bias", false)?,
    };
    let inner_norms = f.flag("mamba_inner_layernorms", true)?;
    let norms = match f.optional_text("kq_norm")?.as_deref() {
        None | Some("none") => [0; 2],
        Some("rms") => [shape.head_dim; 2],
        Some("perhead-rms") => [shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim)],
        Some(_) => return Err(f.impossible("kq_norm", "it must be `none`, `rms` or `perhead-rms`")),
    };
    // What the class sets itself, and what one expert leaves of experts.
    for key in ["attn_hidden_size", "kq_head_dim", "v_head_dim", "k_head_dim", "conv_dim", "layer_type", "num_mamba", "num_experts", "num_experts_per_tok"] {
        f.touch(key);
    }
    let gated = f.optional_text("mlp_hidden_act")?.is_none_or(|act| act == "silu");
    let reads = readers(f, shape.layers)?;
    let everywhere = f.layer_numbers("global_attn_idx")?;
    let window = f.optional_count("sliding_window")?;
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layer = |number: u64| {
        let reuses = reads.contains(&number);
        let span = window.filter(|_| !everywhere.contains(&number)).map_or(Span::Full, Span::Sliding);
        let keeps = if reuses { Keeps::Shared } else { Keeps::Own };
        let attention = Attention { heads: shape.heads, kv_heads: shape.kv_heads, key_dim: shape.head_dim, value_dim, span, keeps };
        let kept = if reuses { 0 } else { keys.saturating_add(shape.kv_heads.saturating_mul(value_dim)) };
        let mut t = Tensors::default();
        block.tensors(&mut t, "mamba");
        let mut tensors = t.build();
        // One projection for queries, keys, values, Mamba's input and its gate; the small ones are lists of one.
        tensors.retain(|tensor| !tensor.name.starts_with("mamba.in_proj"));
        for tensor in &mut tensors {
            tensor.name = listed(&tensor.name);
        }
        let width = queries.saturating_add(kept).saturating_add(inner.saturating_mul(2));
        t.extend(tensors).linear("mamba.in_proj", hidden, width, block.bias);
        for name in ["pre_avg_layernorm1", "pre_avg_layernorm2"] {
            t.norm(&format!("mamba.{name}"), inner, false);
        }
        if inner_norms {
            t.norm("mamba.dt_layernorm", block.time_step_rank, false).norm("mamba.B_layernorm", block.state, false).norm(
                "mamba.C_layernorm",
                block.state,
                false,
            );
        }
        for (name, width) in ["q_norm", "k_norm"].into_iter().zip(norms).filter(|(_, width)| *width > 0) {
            t.norm(&format!("mamba.self_attn.{name}"), width, false);
        }
        if gated {
            t.linear("moe.experts.0.gate_proj", hidden, intermediate, false);
        }
        t.linear("moe.experts.0.up_proj", hidden, intermediate, false)
            .linear("moe.experts.0.down_proj", intermediate, hidden, false)
            .norms(&["input_layernorm", "pre_moe_layernorm"], hidden);
        (Layer { mixer: Mixer::Parallel(attention, block.recurrence()), feed_forward: FeedForward::Dense { intermediate, gated } }, t.build())
    };
    let layers = (0..shape.layers).map(layer).collect();
    let mut outside = Tensors::default();
    outside.embedding("model.embed_tokens", shape.vocab, hidden).norm("model.final_layernorm", hidden, false);
    if let Some(tokens) = f.optional_count_or_zero("num_memory_tokens")?.filter(|&tokens| tokens > 0) {
        outside.tensor("model.memory_tokens", Role::Other, &[tokens, hidden]);
    }
    let decoder = Decoder {
        shape,
        base: "model",
        layer_prefix: "model.layers",
        tensors: outside.build(),
        layers,
        head: Head::ByArchitecture,
        head_module: "lm_head",
        tied_by_default: false,
    };
    Ok(decoder.into())
}

/// Names of parameters that the class keeps in lists of one.
fn listed(name: &str) -> String {
    for leaf in ["x_proj", "dt_proj", "A_log", "D"] {
        if let Some(rest) = name.strip_prefix(&format!("mamba.{leaf}")) {
            return format!("mamba.{leaf}.0{rest}");
        }
    }
    name.to_owned()
}

/// Layers that read an earlier one's cache: all but the first of each group of `kv_reuse_group`, or all between every so many.
fn readers(f: &Fields, layers: u64) -> Result<BTreeSet<u64>, ConfigError> {
    let every = f.raw("kv_reuse_every_i_layer").and_then(serde_json::Value::as_i64).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
    let Some(groups) = f.raw("kv_reuse_group") else {
        return Ok(every.map_or_else(BTreeSet::new, |every| (0..layers).filter(|number| !number.is_multiple_of(every)).collect()));
    };
    let wrong = || f.impossible("kv_reuse_group", "it must be a list of lists of layer numbers");
    let mut readers = BTreeSet::new();
    for group in groups.as_array().ok_or_else(wrong)? {
        let group: Option<Vec<u64>> = group.as_array().and_then(|group| group.iter().map(serde_json::Value::as_u64).collect());
        readers.extend(group.ok_or_else(wrong)?.into_iter().skip(1));
    }
    Ok(readers)
}

#[cfg(test)]
mod tests {
    /// Hymba-1.5B.
    #[test]
    fn published_count() {
        let groups = "[[1,2],[3,4],[5,6],[7,8],[9,10],[11,12],[13,14],[16,17,18],[19,20],[21,22],[23,24],[25,26],[27,28],[29,30]]";
        let config = format!(
            r#"{{"model_type": "hymba", "hidden_size": 1600, "intermediate_size": 5504, "num_hidden_layers": 32, "num_attention_heads": 25, "num_key_value_heads": 5,
                 "vocab_size": 32001, "mamba_expand": 2, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_dt_rank": 100, "num_memory_tokens": 128, "sliding_window": 1024,
                 "global_attn_idx": [0, 15, 31], "kv_reuse_group": {groups}, "kq_norm": "none", "tie_word_embeddings": true, "mlp_hidden_act": "silu"}}"#
        );
        let anatomy = crate::config::read(&config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 1_522_797_824);
        let kept: Vec<u64> = anatomy.components[0].layers.iter().map(|run| run.count * run.layer.mixer.cache_elements_per_token()).collect();
        // 17 layers keep keys of 64 and values of 128 for five heads.
        assert_eq!(kept.iter().sum::<u64>(), 17 * 5 * (64 + 128));
    }
}
