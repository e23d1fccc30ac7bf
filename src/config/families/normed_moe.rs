//! Hy3, Laguna, Mellum and Kolibri: Qwen3's norms of queries and keys over DeepSeek's mixture. Laguna gates attention's output, may have
//! another number of heads in every layer, and keeps its balancing bias as a parameter.

use super::classic::{spans_with, window_or};
use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, spans_by_layer_types};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::{ConfigError, Fields};
use crate::model::{Mixer, Role, Span};

pub(super) fn read_hy_v3(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(8))?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 192, active: 8, width: 1536, shared: 1 })?;
    // Without shared experts the class builds one as wide as a dense layer's feed-forward.
    let shared = if mixture.shared == 0 { f.count("intermediate_size")? } else { mixture.shared };
    let mixture = Mixture { bias: f.flag("mlp_bias", false)?, shared, ..mixture };
    plain(f, shape, &sparse_layers(f, &shape, 1)?, &mixture)
}

pub(super) fn read_mellum(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(4))?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 64, active: 8, width: 896, shared: 0 })?;
    plain(f, shape, &sparse_layers(f, &shape, 0)?, &mixture)
}

/// Kolibri 1: four norms in every layer, four sliding layers to one full.
pub(super) fn read_kolibri(f: &Fields) -> Result<Draft, ConfigError> {
    const NORMS: &[&str] = &["input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"];
    let f = &f.with_defaults(&[("vocab_size", 128_000), ("hidden_size", 2560), ("num_hidden_layers", 50), ("num_attention_heads", 48)]);
    let shape = Shape::read_with(f, Some(128), Some(4))?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 384, active: 6, width: 512, shared: 0 })?;
    let mixture = Mixture { shared: f.optional_count_or_zero("shared_expert_intermediate_size")?.unwrap_or(512), ..mixture };
    let spans = spans_with(f, &shape, window_or(f, 513)?, |number| !(number + 1).is_multiple_of(5))?;
    let sparse = vec![true; spans.len()];
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, NORMS, |number, tensors| {
        tensors.attention(&shape, false, false).query_key_norm(&shape);
        Ok(Mixer::Attention(shape.attention(spans[number])))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

fn plain(f: &Fields, shape: Shape, sparse: &[bool], mixture: &Mixture) -> Result<Draft, ConfigError> {
    let bias = f.flag("attention_bias", false)?;
    let spans = spans(f, &shape)?;
    let layers = dense_or_sparse(f, &shape, sparse, mixture, LLAMA_NORMS, |number, tensors| {
        tensors.attention(&shape, bias, bias).query_key_norm(&shape);
        Ok(Mixer::Attention(shape.attention(spans[number])))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read_laguna(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(8))?;
    let bias = f.flag("attention_bias", false)?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 256, active: 8, width: 512, shared: 0 })?;
    let mixture = Mixture { shared: f.count_or("shared_expert_intermediate_size", 512)?, ..mixture };
    let heads = f.optional_counts("num_attention_heads_per_layer")?.unwrap_or_else(|| vec![shape.heads; sparse.len()]);
    if heads.len() != sparse.len() || heads.iter().any(|&heads| heads == 0 || !heads.is_multiple_of(shape.kv_heads)) {
        return Err(f.impossible("num_attention_heads_per_layer", "it must have one entry per layer, each a multiple of `num_key_value_heads`"));
    }
    // `true` and `per-head`: one gate for each head; other texts: one for each element.
    let per_head = match f.raw("gating").map(serde_json::Value::is_string) {
        Some(true) => f.optional_text("gating")?.is_some_and(|kind| kind == "per-head"),
        _ => f.flag("gating", true)?,
    };
    let spans = spans(f, &shape)?;
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        let shape = Shape { heads: heads[number], ..shape };
        let gates = if per_head { shape.heads } else { shape.heads.saturating_mul(shape.head_dim) };
        tensors.attention(&shape, bias, bias).query_key_norm(&shape).linear("self_attn.g_proj", shape.hidden, gates, false);
        if sparse[number] {
            tensors.tensor("mlp.gate.e_score_correction_bias", Role::Router, &[mixture.experts]);
        }
        Ok(Mixer::Attention(shape.attention(spans[number])))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// `layer_types`, or full attention everywhere.
fn spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let spans = spans_by_layer_types(f, shape)?;
    f.touch("sliding_window");
    Ok(spans.unwrap_or_else(|| (0..shape.layers).map(|_| Span::Full).collect()))
}
