//! Persimmon: q, k and v in one matrix, biases everywhere, LayerNorms on query and key heads, a head of its own.

use super::classic::{Measured, Names, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 4096, layers: 36, heads: 64, kv_heads: None, head_dim: None, intermediate: Some(16_384), vocab: 262_144 };
const NAMES: Names = Names { base: "model", layers: "model.layers", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    let mut layer = Tensors::default();
    layer
        .linear("self_attn.query_key_value", shape.hidden, 3 * shape.hidden, true)
        .linear("self_attn.dense", shape.hidden, shape.hidden, true)
        .linear("mlp.dense_h_to_4h", shape.hidden, intermediate, true)
        .linear("mlp.dense_4h_to_h", intermediate, shape.hidden, true)
        .norm("input_layernorm", shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, true);
    if f.flag("qk_layernorm", true)? {
        layer.norm("self_attn.q_layernorm", shape.head_dim, true).norm("self_attn.k_layernorm", shape.head_dim, true);
    }
    let outside = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.final_layernorm", shape.hidden, true).build();
    Ok(gpt_like(&NAMES, measured, false, outside, &layer.build(), false))
}
