//! BLOOM: positions by bias, q, k and v in one matrix, biases everywhere, a norm on the embedding, tied head.

use super::classic::{GPT_NAMES, Measured, Sizes, first_width, gpt_like};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 64, layers: 2, heads: 8, kv_heads: None, head_dim: None, intermediate: None, vocab: 250_880 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &first_width(f)?;
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

#[cfg(test)]
mod tests {
    #[test]
    fn published_counts() {
        let count = |config: &str| crate::config::read(config).unwrap().parameters().unwrap().get();
        // bigscience/bloom: its file names the width as the class did first.
        let config = r#"{"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880}"#;
        assert_eq!(count(config), 176_247_271_424);
    }
}
