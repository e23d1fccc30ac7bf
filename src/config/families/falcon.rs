//! Falcon 7B, 40B, 180B and 11B, and their first names `RefinedWebModel` and `RefinedWeb`: q, k and v in one matrix, one or
//! two norms before parallel blocks, tied head. Keys and values are counted per group: transformers broadcasts them first.

use super::classic::{GPT_NAMES, Measured, Sizes, first_width, gpt_like, plain_heads};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 4544, layers: 32, heads: 71, kv_heads: None, head_dim: None, intermediate: None, vocab: 65_024 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let is_new = f.flag("new_decoder_architecture", false)?;
    build(f, is_new)
}

/// Falcon-40B under its first name: the grouped layout without a key that says so.
pub(super) fn read_refined_web(f: &Fields) -> Result<Draft, ConfigError> {
    build(f, true)
}

fn build(f: &Fields, is_new: bool) -> Result<Draft, ConfigError> {
    let f = &first_width(f)?;
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate } = measured;
    plain_heads(f, &shape)?;
    let multi_query = f.flag("multi_query", true)?;
    let parallel = f.flag("parallel_attn", true)?;
    let bias = f.flag("bias", false)?;
    let kv_heads = if !is_new && multi_query { 1 } else { shape.kv_heads };
    let shape = Shape { kv_heads, ..shape };
    // Without the new layout and without multi-query the class gives every head its own keys and values.
    let kv_rows = if is_new || multi_query { kv_heads } else { shape.heads };
    let norms: &[&str] = match (parallel, f.optional_count("num_ln_in_parallel_attn")?.or(is_new.then_some(2))) {
        (true, Some(2)) => &["ln_attn", "ln_mlp"],
        (true, _) => &["input_layernorm"],
        (false, Some(2)) => &["post_attention_layernorm", "ln_attn", "ln_mlp"],
        (false, _) => &["input_layernorm", "post_attention_layernorm"],
    };
    let mut layer = Tensors::default();
    for norm in norms {
        layer.norm(norm, shape.hidden, true);
    }
    layer
        .linear("self_attention.query_key_value", shape.hidden, (shape.heads + 2 * kv_rows) * shape.head_dim, bias)
        .linear("self_attention.dense", shape.hidden, shape.hidden, bias)
        .linear("mlp.dense_h_to_4h", shape.hidden, intermediate, bias)
        .linear("mlp.dense_4h_to_h", intermediate, shape.hidden, bias);
    let outside = Tensors::default().embedding("transformer.word_embeddings", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, true).build();
    f.flag("alibi", false)?;
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate }, false, outside, &layer.build(), true))
}
