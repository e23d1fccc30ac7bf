//! StarCoder 1 and SantaCoder: GPT-2 with one key and value head for all query heads.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 768, layers: 12, heads: 12, kv_heads: None, head_dim: None, intermediate: None, vocab: 50_257 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let Measured { shape, intermediate, assumptions } = SIZES.read(f)?;
    plain_heads(f, &shape)?;
    let shape = Shape { kv_heads: if f.flag("multi_query", true)? { 1 } else { shape.heads }, ..shape };
    if f.flag("add_cross_attention", false)? {
        return Err(f.impossible("add_cross_attention", "cross-attention of this family is not understood"));
    }
    let positions = f.optional_count("max_position_embeddings")?.unwrap_or(1024);
    let layer = Tensors::default()
        .norm("ln_1", shape.hidden, true)
        .linear("attn.c_attn", shape.hidden, shape.hidden + 2 * shape.kv_heads * shape.head_dim, true)
        .linear("attn.c_proj", shape.hidden, shape.hidden, true)
        .norm("ln_2", shape.hidden, true)
        .linear("mlp.c_fc", shape.hidden, intermediate, true)
        .linear("mlp.c_proj", intermediate, shape.hidden, true)
        .build();
    let outside = Tensors::default()
        .embedding("transformer.wte", shape.vocab, shape.hidden)
        .embedding("transformer.wpe", positions, shape.hidden)
        .norm("transformer.ln_f", shape.hidden, true)
        .build();
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate, assumptions }, false, outside, &layer, true))
}
