//! Phi-3, Phi-3.5 and Phi-4: q, k and v in one matrix, gate and up in one matrix; a window where the config gives one.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span, sliding_or_full};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let queries = shape.heads * shape.head_dim;
    let tensors = Tensors::default()
        .linear("self_attn.qkv_proj", shape.hidden, queries + 2 * shape.kv_heads * shape.head_dim, false)
        .linear("self_attn.o_proj", queries, shape.hidden, false)
        .linear("mlp.gate_up_proj", shape.hidden, 2 * intermediate, false)
        .linear("mlp.down_proj", intermediate, shape.hidden, false)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    // Fixed to `false` in every published file; biases would change the count.
    if f.flag("attention_bias", false)? {
        return Err(f.impossible("attention_bias", "Phi-3 has no attention biases"));
    }
    f.flag("mlp_bias", false)?;
    f.flag("lm_head_bias", false)?;
    let span = sliding_or_full(f)?;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| span);
    Ok(Decoder::llama_like(shape, layers, false).into())
}
