//! GPT-Neo: learned positions, a bias only on attention's output, tied head. Its local layers see 256 tokens by a mask alone:
//! what is kept is everything.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 2048, layers: 24, heads: 16, kv_heads: None, head_dim: None, intermediate: None, vocab: 50_257 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    for key in ["attention_types", "attention_layers", "window_size"] {
        f.touch(key);
    }
    let positions = f.count_or("max_position_embeddings", 2048)?;
    let mut layer = Tensors::default();
    layer.norm("ln_1", shape.hidden, true);
    for projection in ["q_proj", "k_proj", "v_proj"] {
        layer.linear(&format!("attn.attention.{projection}"), shape.hidden, shape.hidden, false);
    }
    layer
        .linear("attn.attention.out_proj", shape.hidden, shape.hidden, true)
        .norm("ln_2", shape.hidden, true)
        .linear("mlp.c_fc", shape.hidden, intermediate, true)
        .linear("mlp.c_proj", intermediate, shape.hidden, true);
    let outside = Tensors::default()
        .embedding("transformer.wte", shape.vocab, shape.hidden)
        .embedding("transformer.wpe", positions, shape.hidden)
        .norm("transformer.ln_f", shape.hidden, true)
        .build();
    Ok(gpt_like(&GPT_NAMES, measured, false, outside, &layer.build(), true))
}
