//! A model that is put together from sizes alone ([`crate::config::manual`]): in each layer grouped or latent attention, over
//! everything or a window, or a recurrence; then a dense feed-forward or a mixture of experts.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::latent::{Defaults, Latent, latent_shape};
use super::recurrent::{DeltaNet, Mamba2, shape_without_attention};
use super::{ConfigError, Fields};
use crate::model::{Mixer, Span};

/// Sizes of latent attention as most models have them (DeepSeek-V2 and -V3, Kimi-K2), and no compression of queries.
const LATENT: Defaults = Defaults { query_rank: None, rank: 512, rope: 64, nope: 128, value: 128 };

/// A recurrence that a layer may have in place of attention.
enum Block {
    Mamba2(Mamba2),
    DeltaNet(DeltaNet),
}

impl Block {
    fn read(f: &Fields, hidden: u64) -> Result<Option<Self>, ConfigError> {
        let Some(kind) = f.optional_text("recurrent")? else { return Ok(None) };
        let (heads, head_dim, state) = (f.count("state_heads")?, f.count("state_head_dim")?, f.count("state_size")?);
        let (groups, kernel) = (f.optional_count("state_groups")?, f.count_or("conv_kernel", 4)?);
        Ok(Some(match kind.as_str() {
            "mamba2" => Self::Mamba2(Mamba2 {
                hidden,
                inner: heads.saturating_mul(head_dim),
                heads,
                head_dim,
                groups: groups.unwrap_or(1),
                state,
                kernel,
                conv_bias: true,
                in_bias: false,
                out_bias: false,
                gated_norm: true,
                state_dtype: None,
            }),
            "gated-delta-net" => Self::DeltaNet(DeltaNet {
                hidden,
                key_heads: groups.unwrap_or(heads),
                key_dim: state,
                value_heads: heads,
                value_dim: head_dim,
                kernel,
                state_dtype: None,
            }),
            _ => return Err(f.impossible("recurrent", "the recurrences are `mamba2` and `gated-delta-net`")),
        }))
    }

    /// Its tensors, and the mixer that it is.
    fn add(&self, tensors: &mut Tensors) -> Mixer {
        Mixer::Recurrent(match self {
            Self::Mamba2(block) => {
                block.tensors(tensors, "mamba");
                block.recurrence()
            }
            Self::DeltaNet(block) => {
                let (keys_values, values) = (block.channels(), block.values());
                block.tensors(tensors, &[("in_proj_qkvz", keys_values.saturating_add(values)), ("in_proj_ba", block.value_heads.saturating_mul(2))]);
                block.recurrence()
            }
        })
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let is_latent = f.has("kv_lora_rank");
    let shape = match f.has("num_attention_heads") {
        true if is_latent => latent_shape(f)?,
        true => Shape::read(f)?,
        false => shape_without_attention(f)?,
    };
    let latent = if is_latent { Some(Latent::read(f, shape.heads, LATENT)?) } else { None };
    let block = Block::read(f, shape.hidden)?;
    let window = f.optional_count("sliding_window")?.map_or(Span::Full, Span::Sliding);
    // Every layer attends to everything where nothing else is said.
    let interval = f.optional_count("full_attention_interval")?;
    let sparse = if f.has("num_experts") { sparse_layers(f, &shape, 0)? } else { vec![false; usize::try_from(shape.layers).unwrap_or(0)] };
    let mixture = Mixture::read(f, MixtureDefaults { experts: 1, active: 1, width: 1, shared: 0 })?;
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        let is_full = interval.is_some_and(|interval| (number as u64 + 1).is_multiple_of(interval));
        match (&block, latent) {
            (Some(block), _) if !is_full => Ok(block.add(tensors)),
            (_, Some(latent)) => {
                latent.add(tensors, "self_attn", shape.hidden);
                Ok(latent.mixer(0))
            }
            (block, None) => {
                tensors.attention(&shape, false, false);
                // Beside a recurrence the attention that there is may have a window; else it tells layers apart.
                Ok(Mixer::Attention(shape.attention(if is_full && block.is_none() { Span::Full } else { window })))
            }
        }
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}
