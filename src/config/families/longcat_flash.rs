//! LongCat-Flash: every layer holds two latent attentions and two dense feed-forwards, and experts beside the first pair;
//! each half is counted as a layer, since each keeps a cache.

use super::decoder::{Decoder, Draft, Tensors};
use super::experts::{Mixture, Names, gated};
use super::latent::{Defaults, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer};

const LATENT: Defaults = Defaults { query_rank: Some(1536), rank: 512, rope: 64, nope: 128, value: 128 };

const NAMES: Names =
    Names { router: "mlp.router.classifier", experts: ["mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj", "mlp.experts.{}.down_proj"], shared: "" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut shape = latent_shape(f)?;
    let (hidden, pairs) = (shape.hidden, layer_pairs(f)?);
    shape.layers = pairs.saturating_mul(2);
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let dense = f.count_or("intermediate_size", 12_288)?;
    let experts = f.count_or("num_experts", 512)?;
    let width = f.count_or("moe_intermediate_size", 2048)?;
    // Experts that pass their input on have no parameters in the files, but the router knows them. (The packed `gate_up_proj` of
    // `LongcatFlashExperts` in transformers 5.23 has rows for them, which no token is sent through.)
    let idle = f.optional_count_or_zero("zero_expert_num")?.unwrap_or(256);
    let routed = experts.saturating_add(idle);
    let mixture = Mixture { experts, active: f.active_experts(routed, 12.min(experts))?.min(experts), width, shared: 0, bias: false };
    let router_bias = f.flag("router_bias", false)?;
    let mut layers = Vec::new();
    for _ in 0..pairs {
        for half in 0..2 {
            let mut tensors = Tensors::default();
            latent.add(&mut tensors, &format!("self_attn.{half}"), hidden);
            gated(&mut tensors, &format!("mlps.{half}"), hidden, dense, false);
            tensors.norm(&format!("input_layernorm.{half}"), hidden, false).norm(&format!("post_attention_layernorm.{half}"), hidden, false);
            let feed_forward = if half == 0 {
                tensors.linear(NAMES.router, hidden, routed, router_bias);
                mixture.add_routed(&mut tensors, NAMES, hidden);
                Mixture { shared: dense, ..mixture }.feed_forward()
            } else {
                FeedForward::Dense { intermediate: dense, gated: true }
            };
            layers.push((Layer { mixer: latent.mixer(0), feed_forward }, tensors.build()));
        }
    }
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// `num_layers`; `num_hidden_layers`, where it stands alone, counts halves.
fn layer_pairs(f: &Fields) -> Result<u64, ConfigError> {
    match f.optional_count("num_layers")? {
        Some(pairs) => Ok(pairs),
        None => Ok(f.count("num_hidden_layers")?.div_ceil(2)),
    }
}
