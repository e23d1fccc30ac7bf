//! MPT: positions by bias, q, k and v in one matrix, no bias anywhere, tied head. The class has no learned positions and no
//! other width than four times the hidden size, whatever the config says.

use super::classic::{Measured, Names, Sizes, gpt_like};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 2048, layers: 24, heads: 16, kv_heads: None, head_dim: None, intermediate: None, vocab: 50_368 };
const NAMES: Names = Names { base: "transformer", layers: "transformer.blocks", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, .. } = measured;
    let intermediate = 4 * shape.hidden;
    if f.optional_number("expansion_ratio")?.is_some_and(|ratio| (ratio - 4.0).abs() > f64::EPSILON) {
        return Err(f.impossible("expansion_ratio", "only 4 is known for this family"));
    }
    f.touch("learned_pos_emb");
    f.touch("attn_config");
    f.touch("norm_type");
    if !f.flag("no_bias", true)? {
        return Err(f.impossible("no_bias", "biases are not known for this family"));
    }
    let layer = Tensors::default()
        .norm("norm_1", shape.hidden, false)
        .linear("attn.Wqkv", shape.hidden, 3 * shape.hidden, false)
        .linear("attn.out_proj", shape.hidden, shape.hidden, false)
        .norm("norm_2", shape.hidden, false)
        .linear("ffn.up_proj", shape.hidden, intermediate, false)
        .linear("ffn.down_proj", intermediate, shape.hidden, false)
        .build();
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.norm_f", shape.hidden, false).build();
    Ok(gpt_like(&NAMES, Measured { intermediate, ..measured }, false, outside, &layer, true))
}
