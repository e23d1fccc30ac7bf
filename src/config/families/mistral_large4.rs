//! Mistral Large 4: latent attention without compressed queries, of which every fourth layer has no rotary part, an indexer over each
//! (or an earlier one's choice), keys and values that layers may share, and Mistral 3's tower.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Tensors};
use super::deepseek::indexer_schedule;
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::multimodal::{Tie, Wrapper};
use super::{ConfigError, Fields, mistral3};
use crate::model::{Mixer, Role};

/// `MistralLarge4TextConfig` of transformers 5.23.
const SIZES: &[(&str, u64)] =
    &[("vocab_size", 204_800), ("hidden_size", 6144), ("intermediate_size", 24_576), ("num_hidden_layers", 72), ("num_attention_heads", 64)];
const LATENT: Defaults = Defaults { query_rank: None, rank: 512, rope: 64, nope: 64, value: 128 };
const MIXTURE: MixtureDefaults = MixtureDefaults { experts: 128, active: 4, width: 6144, shared: 1 };

/// The tower that its class takes where the config is silent.
const VISION: &[(&str, u64)] =
    &[("hidden_size", 2048), ("intermediate_size", 6144), ("num_hidden_layers", 30), ("num_attention_heads", 16), ("patch_size", 14), ("image_size", 1540)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    mistral3::around(f, &Wrapper { tie: Tie::Wrapper { default: false }, ..Wrapper::new("mistral_large4_text") }, VISION)
}

/// One number per layer, if the key is there.
fn per_layer(f: &Fields, key: &str, layers: u64) -> Result<Option<Vec<u64>>, ConfigError> {
    match f.optional_counts(key)? {
        Some(list) if list.len() as u64 != layers => Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)")),
        list => Ok(list),
    }
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(SIZES);
    let shape = latent_shape(f)?;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let indexer = Indexer::read(f, 32)?;
    let count = usize::try_from(shape.layers).unwrap_or(0);
    let indexed = indexer_schedule(f, count)?;
    for key in ["layer_types", "final_logit_softcapping"] {
        f.touch(key);
    }
    // 1 where a layer turns its keys: all but every fourth.
    let step = f.step_or("no_rope_layer_interval", 4, &["no_rope_layers"])?;
    let turned = per_layer(f, "no_rope_layers", shape.layers)?;
    let turned = turned.unwrap_or_else(|| (1..=shape.layers).map(|number| u64::from(!number.is_multiple_of(step))).collect());
    let sources = per_layer(f, "kv_source_layers", shape.layers)?.unwrap_or_else(|| (0..shape.layers).collect());
    let mixture = Mixture::read(f, MIXTURE)?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, t| {
        let latent = match turned[number] {
            0 => Latent { rope: 0, nope: latent.query_dim(), ..latent },
            _ => latent,
        };
        let is_own = sources[number] == number as u64;
        let mut own = Tensors::default();
        latent.add(&mut own, "self_attn", shape.hidden);
        let read = ["self_attn.kv_a_proj_with_mqa.", "self_attn.kv_a_layernorm."];
        t.extend(own.build().into_iter().filter(|tensor| is_own || !read.iter().any(|part| tensor.name.starts_with(part))).collect());
        scaling(t, "self_attn.softmax_scaling", shape.heads);
        let keys = if indexed[number] {
            indexer.add(t, shape.hidden, shape.hidden);
            t.norm("self_attn.indexer.q_input_norm", shape.hidden, true);
            scaling(t, "self_attn.indexer.softmax_scaling", indexer.heads);
            indexer.head_dim
        } else {
            0
        };
        Ok(match latent.mixer(keys) {
            Mixer::Latent(kept) if !is_own => {
                Mixer::Latent(crate::model::LatentAttention { kv_lora_rank: 0, rope_dim: 0, nope_dim: latent.query_dim(), ..kept })
            }
            mixer => mixer,
        })
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// Two numbers per head that scale its queries by their place.
fn scaling(t: &mut Tensors, at: &str, heads: u64) {
    for leaf in ["scale", "bias"] {
        t.tensor(&format!("{at}.{leaf}"), Role::Other, &[heads]);
    }
}
