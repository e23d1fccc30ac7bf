//! TeleChat 1 and 2: keys and values in one matrix, biases on the last matrix of each block; the width is `ffn_hidden_size`,
//! whatever stands in `intermediate_size`.

use super::classic::{GPT_NAMES, Measured, gpt_like};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("ffn_hidden_size")?;
    f.touch("intermediate_size");
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let layer = Tensors::default()
        .norm("input_layernorm", shape.hidden, false)
        .tensor("self_attention.query.weight", Role::Query, &[queries, shape.hidden])
        .tensor("self_attention.key_value.weight", Role::Qkv, &[2 * keys, shape.hidden])
        .linear("self_attention.dense", queries, shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, false)
        .linear("mlp.gate_proj", shape.hidden, intermediate, false)
        .linear("mlp.up_proj", shape.hidden, intermediate, false)
        .linear("mlp.down_proj", intermediate, shape.hidden, true)
        .build();
    let mut outside = Tensors::default();
    outside.embedding("transformer.word_embeddings", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, false);
    if f.flag("embed_layernorm", false)? {
        outside.norm("transformer.word_embeddings_layernorm", shape.hidden, false);
    }
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate }, true, outside.build(), &layer, true))
}
