//! Kin of GPT-2 outside transformers: Jais and BTLM (positions by bias, a gate), CodeShell (rotary positions, grouped keys and values)
//! and Refact (one key and value head, a gate, no bias).

use super::classic::{GPT_NAMES, Measured, gpt_like};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::Role;

fn measured(f: &Fields) -> Result<Measured, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.optional_count("n_inner")?.unwrap_or(4 * shape.hidden);
    Ok(Measured { shape, intermediate })
}

fn outside(f: &Fields, shape: &Shape, learned: bool) -> Result<Tensors, ConfigError> {
    let mut tensors = Tensors::default();
    tensors.embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, true);
    if learned {
        tensors.embedding("transformer.wpe", f.count("max_position_embeddings")?, shape.hidden);
    }
    Ok(tensors)
}

/// GPT-2's layer with any number of key and value heads.
pub(super) fn block(shape: &Shape, intermediate: u64) -> Tensors {
    let mut layer = Tensors::default();
    layer
        .norm("ln_1", shape.hidden, true)
        .linear("attn.c_attn", shape.hidden, shape.hidden + 2 * shape.kv_heads * shape.head_dim, true)
        .linear("attn.c_proj", shape.hidden, shape.hidden, true)
        .norm("ln_2", shape.hidden, true)
        .linear("mlp.c_fc", shape.hidden, intermediate, true)
        .linear("mlp.c_proj", intermediate, shape.hidden, true);
    layer
}

/// Jais 1 and BTLM.
pub(super) fn jais(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = measured(f)?;
    let Measured { shape, intermediate, .. } = measured;
    let shape = Shape { kv_heads: shape.heads, ..shape };
    let is_gated = f.optional_text("activation_function")?.is_some_and(|name| name == "swiglu");
    let learned = f.optional_text("position_embedding_type")?.is_none_or(|kind| kind == "learned");
    let mut layer = block(&shape, intermediate);
    if is_gated {
        layer.linear("mlp.c_fc2", shape.hidden, intermediate, true);
    }
    let outside = outside(f, &shape, learned)?.build();
    Ok(gpt_like(&GPT_NAMES, measured, is_gated, outside, &layer.build(), true))
}

/// CodeShell.
pub(super) fn codeshell(f: &Fields) -> Result<Draft, ConfigError> {
    let Measured { shape, intermediate } = measured(f)?;
    let shape = if f.flag("group_query_attention", true)? { shape } else { Shape { kv_heads: shape.heads, ..shape } };
    let learned = f.optional_text("position_embedding_type")?.is_some_and(|kind| kind == "learned_absolute");
    let layer = block(&shape, intermediate).build();
    let outside = outside(f, &shape, learned)?.build();
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate }, false, outside, &layer, true))
}

/// Refact: the feed-forward is two thirds of `n_inner`, rounded up to 256.
pub(super) fn refact(f: &Fields) -> Result<Draft, ConfigError> {
    let Measured { shape, intermediate } = measured(f)?;
    f.touch("multi_query");
    let shape = Shape { kv_heads: 1, ..shape };
    let intermediate = (2 * intermediate / 3).div_ceil(256) * 256;
    let layer = Tensors::default()
        .norm("ln_1", shape.hidden, false)
        .tensor("attn.q.weight", Role::Query, &[shape.hidden, shape.hidden])
        .tensor("attn.kv.weight", Role::Qkv, &[2 * shape.head_dim, shape.hidden])
        .linear("attn.c_proj", shape.hidden, shape.hidden, false)
        .norm("ln_2", shape.hidden, false)
        .linear("mlp.gate_up_proj", shape.hidden, 2 * intermediate, false)
        .linear("mlp.c_proj", intermediate, shape.hidden, false)
        .build();
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, false).build();
    let mut draft = gpt_like(&GPT_NAMES, Measured { shape, intermediate }, true, outside, &layer, false);
    if !f.has("tie_word_embeddings") {
        draft.assumptions.push("`tie_word_embeddings` is not in the config: the head is counted apart from the embedding".to_owned());
    }
    Ok(draft)
}
