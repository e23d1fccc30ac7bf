//! Kimi-Linear: Kimi delta attention in most layers, multi-head latent attention in the others, experts
//! after the first dense layers. Names are those of the published files.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{GATE_UP_DOWN, KimiDelta, Kind, W1_W3_W2, experts, gated, kinds_of_layers};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, LatentAttention, Layer, Mixer, Span};

/// `KimiLinearConfig` of transformers 5.23.
const KIMI: &[(&str, u64)] =
    &[("kv_lora_rank", 512), ("qk_rope_head_dim", 64), ("qk_nope_head_dim", 128), ("v_head_dim", 128), ("moe_intermediate_size", 1024)];

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full];

/// Latent attention's sizes.
struct Latent {
    hidden: u64,
    mixer: LatentAttention,
    q_lora_rank: Option<u64>,
    bias: bool,
}

impl Latent {
    fn read(f: &Fields, shape: &Shape) -> Result<Self, ConfigError> {
        let mixer = LatentAttention {
            heads: shape.heads,
            kv_lora_rank: f.count("kv_lora_rank")?,
            rope_dim: f.optional_count_or_zero("qk_rope_head_dim")?.unwrap_or(0),
            nope_dim: f.count("qk_nope_head_dim")?,
            value_dim: f.count("v_head_dim")?,
            indexer: 0,
            span: Span::Full,
        };
        for derived in ["head_dim", "qk_head_dim"] {
            f.touch(derived);
        }
        let q_lora_rank = f.optional_count("q_lora_rank")?;
        Ok(Self { hidden: shape.hidden, mixer, q_lora_rank, bias: f.flag("attention_bias", false)? })
    }

    fn tensors(&self, t: &mut Tensors, at: &str) {
        let m = &self.mixer;
        let queries = m.heads.saturating_mul(m.nope_dim + m.rope_dim);
        match self.q_lora_rank {
            Some(rank) => {
                _ = t.linear(&format!("{at}.q_a_proj"), self.hidden, rank, self.bias).norm(&format!("{at}.q_a_layernorm"), rank, false).linear(
                    &format!("{at}.q_b_proj"),
                    rank,
                    queries,
                    false,
                );
            }
            None => _ = t.linear(&format!("{at}.q_proj"), self.hidden, queries, false),
        }
        t.linear(&format!("{at}.kv_a_proj_with_mqa"), self.hidden, m.kv_lora_rank + m.rope_dim, self.bias)
            .norm(&format!("{at}.kv_a_layernorm"), m.kv_lora_rank, false)
            .linear(&format!("{at}.kv_b_proj"), m.kv_lora_rank, m.heads.saturating_mul(m.nope_dim + m.value_dim), false)
            .linear(&format!("{at}.o_proj"), m.heads.saturating_mul(m.value_dim), self.hidden, self.bias);
    }
}

/// Experts of one layer.
struct Experts {
    count: u64,
    active: u64,
    width: u64,
    shared: u64,
}

impl Experts {
    fn read(f: &Fields, default: u64) -> Result<Self, ConfigError> {
        let count = f.optional_count("num_experts")?.unwrap_or(default);
        let active = match f.optional_count("num_experts_per_token")? {
            Some(active) if active > count => return Err(f.impossible("num_experts_per_token", "it cannot be more than the number of experts")),
            Some(active) => active,
            None => f.active_experts(count, 8.min(count))?,
        };
        let width = f.count("moe_intermediate_size")?;
        let shared = match f.optional_count_or_zero("num_shared_experts")? {
            None => f.optional_count_or_zero("n_shared_experts")?.unwrap_or(1),
            Some(shared) => shared,
        };
        Ok(Self { count, active, width, shared: width.saturating_mul(shared) })
    }

    fn tensors(&self, t: &mut Tensors, at: &str, names: [&str; 3], hidden: u64) -> FeedForward {
        t.linear(&format!("{at}.gate"), hidden, self.count, false);
        experts(t, &format!("{at}.experts"), names, self.count, hidden, self.width);
        if self.shared > 0 {
            gated(t, &format!("{at}.shared_experts"), GATE_UP_DOWN, hidden, self.shared, false);
        }
        FeedForward::MixtureOfExperts { experts: self.count, active: self.active, intermediate: self.width, shared: self.shared }
    }
}

/// Which layers are dense: `mlp_layer_types`, else the first few.
fn feed_forwards(f: &Fields, layers: u64, dense: u64) -> Result<Vec<Kind>, ConfigError> {
    let dense = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(dense);
    let listed = kinds_of_layers(f, "mlp_layer_types", layers, &[Kind::Experts, Kind::Dense])?;
    Ok(listed.unwrap_or_else(|| (0..layers).map(|i| if i < dense { Kind::Dense } else { Kind::Experts }).collect()))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(KIMI);
    let shape = Shape::read(f)?;
    let latent = Latent::read(f, &shape)?;
    let of_experts = Experts::read(f, 256)?;
    let intermediate = f.count("intermediate_size")?;
    let feed_forwards = feed_forwards(f, shape.layers, 1)?;
    if f.optional_count("moe_layer_freq")?.is_some_and(|every| every != 1) {
        return Err(f.impossible("moe_layer_freq", "this model type has experts in every layer after the dense ones"));
    }
    let nested = f.nested(&["linear_attn_config"])?;
    let linear = nested.as_ref();
    let size = |key: &str, nested: &str, default| match linear.map(|linear| linear.optional_count(nested)).transpose()?.flatten() {
        Some(size) => Ok::<u64, ConfigError>(size),
        None => f.count_or(key, default),
    };
    let delta = KimiDelta {
        hidden: shape.hidden,
        heads: size("linear_num_heads", "num_heads", 32)?,
        head_dim: size("linear_head_dim", "head_dim", 128)?,
        kernel: size("linear_conv_kernel_dim", "short_conv_kernel_size", 4)?,
    };
    let of_nested = linear.map(|linear| nested_kinds(linear, shape.layers)).transpose()?.flatten();
    // Without either: every fourth, counted from the fifth layer.
    let by_default = || (0..shape.layers).map(|i| if i > 0 && i.is_multiple_of(4) { Kind::Full } else { Kind::Recurrent }).collect();
    let kinds = kinds_of_layers(f, "layer_types", shape.layers, KINDS)?.or(of_nested).unwrap_or_else(by_default);
    let mut assumptions = Vec::new();
    if f.optional_count_or_zero("num_nextn_predict_layers")?.is_some_and(|count| count > 0) {
        assumptions.push("the layers of multi-token prediction that `num_nextn_predict_layers` names are not sized".to_owned());
    }
    let layers = kinds.into_iter().zip(feed_forwards).map(|(kind, feed_forward)| {
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, shape.hidden);
        let mixer = if kind == Kind::Full {
            latent.tensors(&mut t, "self_attn");
            Mixer::Latent(latent.mixer)
        } else {
            delta.tensors(&mut t, "self_attn", "o_proj");
            for gate in ["f", "g"] {
                t.linear(&format!("self_attn.{gate}_a_proj"), delta.hidden, delta.head_dim, false).linear(
                    &format!("self_attn.{gate}_b_proj"),
                    delta.head_dim,
                    delta.width(),
                    false,
                );
            }
            Mixer::Recurrent(delta.recurrence())
        };
        let feed_forward = match feed_forward {
            Kind::Experts => of_experts.tensors(&mut t, "block_sparse_moe", W1_W3_W2, shape.hidden),
            _ => gated(&mut t, "mlp", GATE_UP_DOWN, shape.hidden, intermediate, false),
        };
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    let mut draft = Decoder::llama_like(shape, layers, false).never_tied(f)?;
    draft.assumptions.extend(assumptions);
    Ok(draft)
}

/// `full_attn_layers` and `kda_layers`, which count from one and must cover every layer.
fn nested_kinds(linear: &Fields, layers: u64) -> Result<Option<Vec<Kind>>, ConfigError> {
    let (full, delta) = (linear.layer_numbers("full_attn_layers")?, linear.layer_numbers("kda_layers")?);
    if full.is_empty() && delta.is_empty() {
        return Ok(None);
    }
    let kind = |number| match (full.contains(&number), delta.contains(&number)) {
        (true, false) => Ok(Kind::Full),
        (false, true) => Ok(Kind::Recurrent),
        _ => Err(linear.impossible("kda_layers", "each layer, counted from 1, must be in it or in `full_attn_layers`")),
    };
    if full.iter().chain(&delta).any(|&number| number == 0 || number > layers) {
        return Err(linear.impossible("full_attn_layers", "with `kda_layers` it must name each layer once, counted from 1"));
    }
    (1..=layers).map(kind).collect::<Result<_, _>>().map(Some)
}
