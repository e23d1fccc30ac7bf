//! Ling 2.5 and Ring 2.5 (Bailing hybrid): Kimi delta attention with every sixth layer latent and gated per head, DeepSeek's
//! mixture.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Tensors};
use super::delta::{Delta, Gate};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::latent::{Defaults, Latent, latent_shape};
use super::{ConfigError, Fields};

const LATENT: Defaults = Defaults { query_rank: None, rank: 512, rope: 64, nope: 128, value: 128 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = latent_shape(f)?;
    let sparse = sparse_layers(f, &shape, 2)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 512, active: 8, width: 768, shared: 1 })?;
    let latent = Latent { query_rank: None, ..Latent::read(f, shape.heads, LATENT)? };
    // Files that transformers writes have the rotary size under `head_dim`.
    let head_dim = match f.optional_count("linear_head_dim")? {
        Some(size) => f.touch("head_dim").unwrap_or(size),
        None => f.count_or("head_dim", 128)?,
    };
    let delta_heads = f.optional_count("linear_num_heads")?.unwrap_or(shape.heads);
    let kernel = f.count_or("short_conv_kernel_size", 4)?;
    let kernel = f.optional_count("linear_conv_kernel_dim")?.unwrap_or(kernel);
    let delta = Delta { heads: delta_heads, head_dim, kernel, forget: Gate::Full, output: Gate::Full, decays: delta_heads };
    let group = f.count_or("layer_group_size", 6)?;
    let is_full = match f.optional_texts("layer_types")? {
        Some(types) if types.len() != sparse.len() => return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)")),
        Some(types) => types.iter().map(|kind| kind == "full_attention").collect(),
        None => (0..shape.layers).map(|number| (number + 1).is_multiple_of(group)).collect::<Vec<_>>(),
    };
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        if !is_full[number] {
            return Ok(delta.add(tensors, "attention", "o_proj", shape.hidden));
        }
        latent.add(tensors, "attention", shape.hidden);
        tensors.linear("attention.g_proj", shape.hidden, shape.heads, false);
        Ok(latent.mixer(0))
    })?;
    let tensors = Tensors::default().embedding("model.word_embeddings", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, false).build();
    Decoder { tensors, ..Decoder::llama_like(shape, layers, false) }.never_tied(f)
}
