//! BLOOM: positions by bias, q, k and v in one matrix, biases everywhere, a norm on the embedding, tied head.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 64, layers: 2, heads: 8, kv_heads: None, head_dim: None, intermediate: None, vocab: 250_880 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, .. } = measured;
    // The class knows no other width.
    let intermediate = 4 * shape.hidden;
    let layer = Tensors::default()
        .norm("input_layernorm", shape.hidden, true)
        .linear("self_attention.query_key_value", shape.hidden, 3 * shape.hidden, true)
        .linear("self_attention.dense", shape.hidden, shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, true)
        .linear("mlp.dense_h_to_4h", shape.hidden, intermediate, true)
        .linear("mlp.dense_4h_to_h", intermediate, shape.hidden, true)
        .build();
    let outside = Tensors::default()
        .embedding("transformer.word_embeddings", shape.vocab, shape.hidden)
        .norm("transformer.word_embeddings_layernorm", shape.hidden, true)
        .norm("transformer.ln_f", shape.hidden, true)
        .build();
    Ok(gpt_like(&GPT_NAMES, Measured { intermediate, ..measured }, false, outside, &layer, true))
}
