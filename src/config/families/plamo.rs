//! PLaMo 13B: Llama without biases, one norm before parallel blocks, keys and values shared by `n_shared_head` query heads.

use super::classic::{Measured, Names, gpt_like};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};

const NAMES: Names = Names { base: "model", layers: "model.layers.layers", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let shared = f.count_or("n_shared_head", 8)?;
    let shape = Shape { kv_heads: shape.heads.div_ceil(shared), ..shape };
    let intermediate = f.count("intermediate_size")?;
    let layer = Tensors::default().attention(&shape, false, false).gated_mlp(shape.hidden, intermediate, false).norm("norm", shape.hidden, false).build();
    let outside = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, false).build();
    Ok(gpt_like(&NAMES, Measured { shape, intermediate }, true, outside, &layer, false))
}
