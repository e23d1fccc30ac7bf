//! Qwen 1: GPT-2's names, RMSNorms, a bias on q, k and v in one matrix; `intermediate_size` is twice the width used.

use super::classic::{GPT_NAMES, Measured, gpt_like};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let head_dim = f.optional_count("kv_channels")?.or(Some(shape.head_dim));
    let shape = Shape::checked(f, shape.hidden, shape.layers, shape.vocab, (shape.heads, shape.heads, head_dim))?;
    // The key names gate and up together.
    let both = f.count("intermediate_size")?;
    if !both.is_multiple_of(2) {
        return Err(f.impossible("intermediate_size", "in this family it is the width of gate and up together, so it must be even"));
    }
    let intermediate = both / 2;
    let bias = !f.flag("no_bias", true)?;
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .norm("ln_1", shape.hidden, false)
        .linear("attn.c_attn", shape.hidden, 3 * queries, true)
        .linear("attn.c_proj", queries, shape.hidden, bias)
        .norm("ln_2", shape.hidden, false)
        .linear("mlp.w1", shape.hidden, intermediate, bias)
        .linear("mlp.w2", shape.hidden, intermediate, bias)
        .linear("mlp.c_proj", intermediate, shape.hidden, bias)
        .build();
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, false).build();
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate, assumptions: Vec::new() }, true, outside, &layer, false))
}
