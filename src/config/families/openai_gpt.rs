//! The first GPT and CTRL: biases everywhere, tied head; GPT has learned positions and no final norm, CTRL's head has a bias.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Head, Tensors};
use super::{ConfigError, Fields};

const GPT: Sizes = Sizes { hidden: 768, layers: 12, heads: 12, kv_heads: None, head_dim: None, intermediate: None, vocab: 40_478 };
const CTRL: Sizes = Sizes { hidden: 1280, layers: 48, heads: 16, kv_heads: None, head_dim: None, intermediate: None, vocab: 246_534 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = GPT.read(f)?;
    let Measured { shape, .. } = measured;
    plain_heads(f, &shape)?;
    // The class knows no other width.
    let intermediate = 4 * shape.hidden;
    let positions = f.count_or("max_position_embeddings", 512)?;
    let layer = Tensors::default()
        .linear("attn.c_attn", shape.hidden, 3 * shape.hidden, true)
        .linear("attn.c_proj", shape.hidden, shape.hidden, true)
        .norm("ln_1", shape.hidden, true)
        .linear("mlp.c_fc", shape.hidden, intermediate, true)
        .linear("mlp.c_proj", intermediate, shape.hidden, true)
        .norm("ln_2", shape.hidden, true)
        .build();
    let outside = Tensors::default()
        .embedding("transformer.tokens_embed", shape.vocab, shape.hidden)
        .embedding("transformer.positions_embed", positions, shape.hidden)
        .build();
    Ok(gpt_like(&GPT_NAMES, Measured { intermediate, ..measured }, false, outside, &layer, true))
}

pub(super) fn read_ctrl(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = CTRL.read(f)?;
    let Measured { shape, .. } = measured;
    plain_heads(f, &shape)?;
    let intermediate = f.count_or("dff", 8192)?;
    let mut layer = Tensors::default();
    for projection in ["Wq", "Wk", "Wv", "dense"] {
        layer.linear(&format!("multi_head_attention.{projection}"), shape.hidden, shape.hidden, true);
    }
    layer.linear("ffn.0", shape.hidden, intermediate, true).linear("ffn.2", intermediate, shape.hidden, true).norm("layernorm1", shape.hidden, true).norm(
        "layernorm2",
        shape.hidden,
        true,
    );
    let outside = Tensors::default().embedding("transformer.w", shape.vocab, shape.hidden).norm("transformer.layernorm", shape.hidden, true).build();
    let mut draft = gpt_like(&GPT_NAMES, Measured { intermediate, ..measured }, false, outside, &layer.build(), true);
    draft.decoder.head = Head::ByArchitectureWithBias;
    Ok(draft)
}
