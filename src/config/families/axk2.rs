//! A.X-K2: latent attention with an output gate fused into the queries, an indexer in every layer, norms with a gate of low
//! rank (but for the second norm of dense layers).

use super::decoder::{Decoder, Draft, Tensors};
use super::experts::{MLP, Mixture, MixtureDefaults, sparse_layers};
use super::latent::{Defaults, Indexer, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Role};

const LATENT: Defaults = Defaults { query_rank: Some(384), rank: 128, rope: 32, nope: 64, value: 64 };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = latent_shape(f)?;
    let hidden = shape.hidden;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 128, active: 8, width: 512, shared: 1 })?;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let rank = latent.query_rank.ok_or_else(|| f.impossible("q_lora_rank", "the indexer reads the compressed queries, so it must be a number"))?;
    let indexer = Indexer::read(f, 16)?;
    let gate_rank = f.count_or("gated_norm_rank", 16)?;
    f.touch("layer_types");
    let dense = f.count("intermediate_size")?;
    let add_norm = |tensors: &mut Tensors, name: &str| {
        tensors.norm(&format!("{name}.norm"), hidden, false).linear(&format!("{name}.W_down"), hidden, gate_rank, false).linear(
            &format!("{name}.W_up"),
            gate_rank,
            hidden,
            false,
        );
    };
    let layers = sparse.iter().map(|&is_sparse| {
        let mut tensors = Tensors::default();
        latent.add(&mut tensors, "self_attn", hidden);
        // The same projection reads the compressed queries and their gate, and makes queries and the gate of values.
        let mut tensors_of_layer = tensors.build();
        for tensor in tensors_of_layer.iter_mut().filter(|tensor| tensor.role == Role::Query) {
            let outputs = latent.heads.saturating_mul(latent.query_dim().saturating_add(latent.value));
            tensor.shape = vec![outputs, rank.saturating_mul(2)];
        }
        indexer.add(&mut tensors, hidden, rank);
        add_norm(&mut tensors, "input_layernorm");
        let feed_forward = if is_sparse {
            add_norm(&mut tensors, "post_attention_layernorm");
            mixture.add(&mut tensors, MLP, hidden);
            mixture.feed_forward()
        } else {
            tensors.norm("post_attention_layernorm", hidden, false).gated_mlp(hidden, dense, false);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        tensors_of_layer.extend(tensors.build());
        (Layer { mixer: latent.mixer(indexer.head_dim), feed_forward }, tensors_of_layer)
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}
