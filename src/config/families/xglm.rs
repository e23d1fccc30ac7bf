//! XGLM and BioGPT: decoders cut from encoder-decoders: biases everywhere, tied head. XGLM computes its positions, BioGPT learns
//! them with two rows more than the context.

use super::classic::{Measured, Names, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields};

const XGLM: Sizes = Sizes { hidden: 1024, layers: 24, heads: 16, kv_heads: None, head_dim: None, intermediate: Some(4096), vocab: 256_008 };
const XGLM_NAMES: Names = Names { base: "model", layers: "model.layers", head: "lm_head" };
const BIOGPT: Sizes = Sizes { vocab: 42_384, ..XGLM };
const BIOGPT_NAMES: Names = Names { base: "biogpt", layers: "biogpt.layers", head: "output_projection" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.flag("add_cross_attention", false)? {
        return Err(f.impossible("add_cross_attention", "cross-attention of this family is not understood"));
    }
    f.flag("is_encoder_decoder", false)?;
    build(f, &XGLM, &XGLM_NAMES, None)
}

pub(super) fn read_biogpt(f: &Fields) -> Result<Draft, ConfigError> {
    let positions = f.count_or("max_position_embeddings", 1024)?;
    build(f, &BIOGPT, &BIOGPT_NAMES, Some(positions + 2))
}

fn build(f: &Fields, sizes: &Sizes, names: &Names, positions: Option<u64>) -> Result<Draft, ConfigError> {
    let measured = sizes.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    let mut layer = Tensors::default();
    for projection in ["k_proj", "v_proj", "q_proj", "out_proj"] {
        layer.linear(&format!("self_attn.{projection}"), shape.hidden, shape.hidden, true);
    }
    layer
        .norm("self_attn_layer_norm", shape.hidden, true)
        .linear("fc1", shape.hidden, intermediate, true)
        .linear("fc2", intermediate, shape.hidden, true)
        .norm("final_layer_norm", shape.hidden, true);
    let mut outside = Tensors::default();
    outside.embedding(&format!("{}.embed_tokens", names.base), shape.vocab, shape.hidden).norm(&format!("{}.layer_norm", names.base), shape.hidden, true);
    if let Some(positions) = positions {
        outside.embedding(&format!("{}.embed_positions", names.base), positions, shape.hidden);
    }
    Ok(gpt_like(names, measured, false, outside.build(), &layer.build(), true))
}
