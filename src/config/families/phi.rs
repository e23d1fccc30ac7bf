//! Phi-1, 1.5 and 2 (also as `phi-msft`): one norm before attention and feed-forward in parallel, biases everywhere, the head's too.

use super::classic::{Measured, Names, Sizes, gpt_like};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 2048, layers: 24, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(8192), vocab: 51_200 };
const NAMES: Names = Names { base: "model", layers: "model.layers", head: "lm_head" };
const MSFT_NAMES: Names = Names { base: "transformer", layers: "transformer.h", head: "lm_head.linear" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut layer = Tensors::default();
    layer
        .norm("input_layernorm", shape.hidden, true)
        .linear("self_attn.q_proj", shape.hidden, queries, true)
        .linear("self_attn.k_proj", shape.hidden, keys, true)
        .linear("self_attn.v_proj", shape.hidden, keys, true)
        .linear("self_attn.dense", queries, shape.hidden, true)
        .linear("mlp.fc1", shape.hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, shape.hidden, true);
    if f.flag("qk_layernorm", false)? {
        layer.norm("self_attn.q_layernorm", shape.head_dim, true).norm("self_attn.k_layernorm", shape.head_dim, true);
    }
    let outside = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.final_layernorm", shape.hidden, true).build();
    let mut draft = gpt_like(&NAMES, measured, false, outside, &layer.build(), false);
    draft.decoder.head = Head::ByArchitectureWithBias;
    Ok(draft)
}

/// The same model under its first names, with q, k and v in one matrix.
pub(super) fn read_msft(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = Sizes { intermediate: None, ..SIZES }.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let layer = Tensors::default()
        .norm("ln", shape.hidden, true)
        .linear("mixer.Wqkv", shape.hidden, queries + 2 * keys, true)
        .linear("mixer.out_proj", queries, shape.hidden, true)
        .linear("mlp.fc1", shape.hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, shape.hidden, true)
        .build();
    let outside = Tensors::default().embedding("transformer.embd.wte", shape.vocab, shape.hidden).norm("lm_head.ln", shape.hidden, true).build();
    let mut draft = gpt_like(&MSFT_NAMES, measured, false, outside, &layer, false);
    draft.decoder.head = Head::ByArchitectureWithBias;
    Ok(draft)
}

/// Phi-3-small: q, k and v in one matrix, gate and up in one, biases and LayerNorms, tied head. Most layers attend to blocks
/// only, but every layer keeps everything.
pub(super) fn read_small(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = match f.optional_count("ff_intermediate_size")? {
        Some(intermediate) => intermediate,
        None => f.count("intermediate_size")?,
    };
    for key in ["blocksparse_block_size", "blocksparse_num_local_blocks", "blocksparse_vert_stride", "dense_attention_every_n_layers"] {
        f.touch(key);
    }
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .norm("input_layernorm", shape.hidden, true)
        .linear("self_attn.query_key_value", shape.hidden, queries + 2 * shape.kv_heads * shape.head_dim, true)
        .linear("self_attn.dense", queries, shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, true)
        .linear("mlp.up_proj", shape.hidden, 2 * intermediate, true)
        .linear("mlp.down_proj", intermediate, shape.hidden, true)
        .build();
    let outside = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.final_layernorm", shape.hidden, true).build();
    Ok(gpt_like(&NAMES, Measured { shape, intermediate }, true, outside, &layer, true))
}
