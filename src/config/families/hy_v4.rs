//! Hy4: DeepSeek's latent attention with gates and sinks, an indexer in every fourth layer, and several streams of hidden states
//! that each half of a layer mixes.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Tensors};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `HYV4Config` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] =
    &[("vocab_size", 120_832), ("hidden_size", 2816), ("intermediate_size", 6912), ("num_hidden_layers", 34), ("num_attention_heads", 32)];
const LATENT: Defaults = Defaults { query_rank: Some(1536), rank: 512, rope: 64, nope: 192, value: 256 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = latent_shape(f)?;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let Some(query_rank) = latent.query_rank else { return Err(f.impossible("q_lora_rank", "the indexer reads compressed queries, so it must be a number")) };
    let mixture = Mixture::read(f, MixtureDefaults { experts: 256, active: 8, width: 768, shared: 1 })?;
    let indexer = Indexer::read(f, 16)?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let indexed = match f.optional_texts("indexer_types")? {
        Some(list) if list.len() != sparse.len() => return Err(f.impossible("indexer_types", "it must have one entry per layer (`num_hidden_layers`)")),
        Some(list) => list.iter().map(|kind| kind == "full").collect(),
        None => (0..sparse.len()).map(|number| number == 0 || (number - 1).is_multiple_of(4)).collect::<Vec<_>>(),
    };
    f.touch("layer_types");
    f.touch("learnable_sink_init");
    let streams = f.count_or("hc_mult", 4)?;
    let (hidden, all) = (shape.hidden, shape.hidden.saturating_mul(streams));
    let (values, mixes) = (shape.heads.saturating_mul(latent.value), streams.saturating_mul(2));
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        latent.add(tensors, "self_attn", hidden);
        tensors.linear("self_attn.gate_proj", hidden, values, false).tensor("self_attn.sinks", Role::Other, &[shape.heads]);
        mixes_streams(tensors, mixes, all, 2);
        if indexed[number] {
            indexer.add(tensors, hidden, query_rank);
        }
        Ok(latent.mixer(if indexed[number] { indexer.head_dim } else { 0 }))
    })?;
    let mut decoder = Decoder::llama_like(shape, layers, false);
    let mut t = Tensors::default();
    t.tensor("model.hc_head.hc_fn", Role::Other, &[streams, all]).tensor("model.hc_head.hc_base", Role::Other, &[streams]).tensor(
        "model.hc_head.hc_scale",
        Role::Other,
        &[1],
    );
    decoder.tensors.extend(t.build());
    Ok(decoder.into())
}

/// What mixes the streams of hidden states before and after each half of a layer.
pub(super) fn mixes_streams(tensors: &mut Tensors, mixes: u64, all: u64, scales: u64) {
    for half in ["attn_hc", "ffn_hc"] {
        let name = |leaf: &str| format!("{half}.{leaf}");
        tensors.tensor(&name("fn"), Role::Other, &[mixes, all]).tensor(&name("base"), Role::Other, &[mixes]).tensor(&name("scale"), Role::Other, &[scales]);
    }
}
