//! GPT-NeoX and Pythia: q, k and v in one matrix, biases everywhere, a head of its own; the Japanese variant has no biases but
//! one after the last layer's attention.

use super::classic::{Measured, Names, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};
use crate::model::Role;

const SIZES: Sizes = Sizes { hidden: 6144, layers: 44, heads: 64, kv_heads: None, head_dim: None, intermediate: Some(24_576), vocab: 50_432 };
const NAMES: Names = Names { base: "gpt_neox", layers: "gpt_neox.layers", head: "embed_out" };
const JAPANESE: Sizes = Sizes { hidden: 2560, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: None, vocab: 32_000 };
const JAPANESE_NAMES: Names = Names { base: "gpt_neox_japanese", layers: "gpt_neox_japanese.layers", head: "embed_out" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let attention_bias = f.flag("attention_bias", true)?;
    // Parallel or not, both norms are there.
    f.touch("use_parallel_residual");
    Ok(build(f, &NAMES, measured, attention_bias, true)?.0)
}

pub(super) fn read_japanese(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = JAPANESE.read(f)?;
    let multiple = f.count_or("intermediate_multiple_size", 4)?;
    let intermediate = measured.shape.hidden.saturating_mul(multiple);
    if intermediate > 1 << 40 {
        return Err(f.impossible("intermediate_multiple_size", "no feed-forward is that wide"));
    }
    let (mut draft, hidden) = build(f, &JAPANESE_NAMES, Measured { intermediate, ..measured }, false, false)?;
    draft.decoder.tied_by_default = true;
    if let Some((_, tensors)) = draft.decoder.layers.last_mut() {
        tensors.extend(Tensors::default().tensor("attention.dense_bias", Role::AttentionOutput, &[hidden]).build());
    }
    Ok(draft)
}

fn build(f: &Fields, names: &Names, measured: Measured, attention_bias: bool, mlp_bias: bool) -> Result<(Draft, u64), ConfigError> {
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    let layer = Tensors::default()
        .norm("input_layernorm", shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, true)
        .linear("attention.query_key_value", shape.hidden, 3 * shape.hidden, attention_bias)
        .linear("attention.dense", shape.hidden, shape.hidden, attention_bias)
        .linear("mlp.dense_h_to_4h", shape.hidden, intermediate, mlp_bias)
        .linear("mlp.dense_4h_to_h", intermediate, shape.hidden, mlp_bias)
        .build();
    let outside = Tensors::default()
        .embedding(&format!("{}.embed_in", names.base), shape.vocab, shape.hidden)
        .norm(&format!("{}.final_layer_norm", names.base), shape.hidden, true)
        .build();
    Ok((gpt_like(names, measured, false, outside, &layer, false), shape.hidden))
}
