//! Ling and Ring (`BailingMoE`, first and second version): q, k and v in one matrix, DeepSeek's mixture; the second version norms
//! queries and keys.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, predictors, sparse_layers};
use super::{ConfigError, Fields};
use crate::model::{Mixer, Span};

pub(super) fn read_v1(f: &Fields) -> Result<Draft, ConfigError> {
    // Files of the second version may keep the first one's type.
    read(f, f.architecture()?.is_some_and(|class| class.starts_with("BailingMoeV2")))
}

pub(super) fn read_v2(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, true)
}

fn read(f: &Fields, has_norms: bool) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let sparse = sparse_layers(f, &shape, 0)?;
    f.count("num_experts")?;
    f.count("moe_intermediate_size")?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 1, active: 1, width: 1, shared: 0 })?;
    // The same as `moe_intermediate_size` in every published file.
    f.optional_count("moe_shared_expert_intermediate_size")?;
    // What it adds to the scores is a buffer.
    f.touch("moe_router_enable_expert_bias");
    let (qkv_bias, bias) = (f.flag("use_qkv_bias", false)?, f.flag("use_bias", false)?);
    let has_norms = f.flag("use_qk_norm", has_norms)?;
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |_, tensors| {
        let queries = shape.heads.saturating_mul(shape.head_dim);
        let keys = shape.kv_heads.saturating_mul(shape.head_dim);
        tensors.linear("attention.query_key_value", shape.hidden, queries.saturating_add(keys.saturating_mul(2)), qkv_bias);
        if has_norms {
            tensors.norm("attention.query_layernorm", shape.head_dim, false).norm("attention.key_layernorm", shape.head_dim, false);
        }
        tensors.linear("attention.dense", queries, shape.hidden, bias);
        Ok(Mixer::Attention(shape.attention(Span::Full)))
    })?;
    let mut more = Tensors::default();
    more.norms(&["enorm", "hnorm", "final_layernorm"], shape.hidden).linear("eh_proj", shape.hidden.saturating_mul(2), shape.hidden, false);
    let more = more.build();
    let last = layers.last().cloned();
    let tensors = Tensors::default().embedding("model.word_embeddings", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, false).build();
    let draft = Draft::from(Decoder { tensors, ..Decoder::llama_like(shape, layers, false) });
    let (Some((layer, mut tensors)), count @ 1..) = (last, predictors(f)?) else { return Ok(draft) };
    tensors.extend(more);
    Ok(draft.with(super::experts::predictor_component(&shape, "model.layers", (0..count).map(|_| (layer, tensors.clone())).collect())))
}
