//! GLM-5.3: Kimi delta attention in three layers of four, latent attention without a rotary part and with an indexer over pools of
//! tokens in the fourth, several streams of hidden states that each half of a layer mixes.

use super::decoder::{Decoder, Draft, LLAMA_NORMS};
use super::deepseek::indexer_schedule;
use super::delta::{Delta, Gate};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, predictors, sparse_layers, token_predictor};
use super::hy_v4::mixes_streams;
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `Glm5NextTextConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] =
    &[("vocab_size", 154_880), ("hidden_size", 4096), ("intermediate_size", 12_288), ("num_hidden_layers", 45), ("num_attention_heads", 64)];
const LATENT: Defaults = Defaults { query_rank: Some(1536), rank: 512, rope: 0, nope: 256, value: 256 };

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = latent_shape(f)?;
    let hidden = shape.hidden;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let Some(query_rank) = latent.query_rank else { return Err(f.impossible("q_lora_rank", "the indexer reads compressed queries, so it must be a number")) };
    let mixture = Mixture::read(f, MixtureDefaults { experts: 288, active: 8, width: 2048, shared: 1 })?;
    let sparse = sparse_layers(f, &shape, 3)?;
    let indexer = Indexer::read(f, 32)?;
    let pool = f.count_or("index_kpool", 16)?;
    let own_indexer = indexer_schedule(f, sparse.len())?;
    let linear = match f.optional_texts("layer_types")? {
        Some(list) if list.len() != sparse.len() => return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)")),
        Some(list) => list.iter().map(|kind| kind == "linear_attention").collect(),
        None => (0..sparse.len()).map(|number| number % 4 != 3).collect::<Vec<_>>(),
    };
    let nested = f.nested(&["linear_attn_config"])?;
    let size = |inner: &str, outer: &str, default: u64| -> Result<u64, ConfigError> {
        let given = nested.as_ref().map(|nested| nested.optional_count(inner)).transpose()?.flatten();
        Ok(given.or(f.optional_count(outer)?).unwrap_or(default))
    };
    let heads = size("num_heads", "linear_num_heads", 64)?;
    let delta = Delta {
        heads,
        head_dim: size("head_dim", "linear_head_dim", 128)?,
        kernel: size("short_conv_kernel_size", "linear_conv_kernel_dim", 4)?,
        forget: Gate::LowRank,
        output: Gate::LowRank,
        decays: heads,
    };
    f.touch("linear_lower_bound");
    f.touch("index_kpool_always_select_tail");
    let streams = f.count_or("hc_mult", 4)?;
    // What a stream takes, what it gives, and how streams mix.
    let mixes = streams.saturating_mul(streams.saturating_add(2));
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        mixes_streams(tensors, mixes, hidden.saturating_mul(streams), 3);
        if linear[number] {
            return Ok(delta.add(tensors, "self_attn", "o_proj", hidden));
        }
        latent.add(tensors, "self_attn", hidden);
        if own_indexer[number] {
            indexer.add(tensors, hidden, query_rank);
            tensors.tensor("self_attn.indexer.index_kpool_compress_ape", Role::Other, &[pool, indexer.head_dim]).tensor(
                "self_attn.indexer.index_kpool_compress_gate",
                Role::Other,
                &[indexer.head_dim, hidden],
            );
        }
        Ok(latent.mixer(if own_indexer[number] { indexer.head_dim } else { 0 }))
    })?;
    let predictor = token_predictor(&shape, predictors(f)?, layers.last());
    Ok(Draft::from(Decoder::llama_like(shape, layers, false)).with_any(predictor))
}
