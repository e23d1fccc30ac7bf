//! StarCoder 1 and SantaCoder: GPT-2 with one key and value head for all query heads.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Shape, Tensors};
use super::gpt2_kin::block;
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 768, layers: 12, heads: 12, kv_heads: None, head_dim: None, intermediate: None, vocab: 50_257 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let Measured { shape, intermediate } = SIZES.read(f)?;
    plain_heads(f, &shape)?;
    let shape = Shape { kv_heads: if f.flag("multi_query", true)? { 1 } else { shape.heads }, ..shape };
    if f.flag("add_cross_attention", false)? {
        return Err(f.impossible("add_cross_attention", "cross-attention of this family is not understood"));
    }
    let positions = f.count_or("max_position_embeddings", 1024)?;
    let layer = block(&shape, intermediate).build();
    let outside = Tensors::default()
        .embedding("transformer.wte", shape.vocab, shape.hidden)
        .embedding("transformer.wpe", positions, shape.hidden)
        .norm("transformer.ln_f", shape.hidden, true)
        .build();
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate }, false, outside, &layer, true))
}
