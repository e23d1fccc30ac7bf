//! Kimi-K3's language model: Kimi delta attention with every fourth layer latent, output gates, experts in a narrower space
//! than the hidden state, and learned residuals over blocks of layers.

use super::decoder::{Decoder, LLAMA_NORMS, Tensors};
use super::experts::{BLOCK_SPARSE, Mixture, MixtureDefaults, gated, sparse_layers};
use super::latent::{Defaults, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role};

const LATENT: Defaults = Defaults { query_rank: Some(1536), rank: 512, rope: 64, nope: 128, value: 128 };

/// Kimi delta attention: as many heads for queries and keys as for values.
struct Delta {
    heads: u64,
    head_dim: u64,
    kernel: u64,
    /// Whether the output gate is one matrix instead of two through `head_dim`.
    full_rank_gate: bool,
}

impl Delta {
    fn add(&self, tensors: &mut Tensors, hidden: u64) -> Mixer {
        let width = self.heads.saturating_mul(self.head_dim);
        for one in ["q", "k", "v"] {
            tensors.linear(&format!("self_attn.{one}_proj"), hidden, width, false).convolution(
                &format!("self_attn.{one}_conv1d"),
                &[width, 1, self.kernel],
                false,
            );
        }
        tensors
            .linear("self_attn.f_a_proj", hidden, self.head_dim, false)
            .linear("self_attn.f_b_proj", self.head_dim, width, false)
            .linear("self_attn.b_proj", hidden, self.heads, false)
            // Padded in the published model.
            .tensor("self_attn.A_log", Role::Other, &[self.heads.next_multiple_of(128)])
            .tensor("self_attn.dt_bias", Role::Other, &[width]);
        if self.full_rank_gate {
            tensors.linear("self_attn.g_proj", hidden, width, false);
        } else {
            tensors.linear("self_attn.g_a_proj", hidden, self.head_dim, false).linear("self_attn.g_b_proj", self.head_dim, width, false);
        }
        tensors.norm("self_attn.o_norm", self.head_dim, false).linear("self_attn.o_proj", width, hidden, false);
        Mixer::Recurrent(Recurrence {
            kind: RecurrenceKind::KimiDelta,
            conv_channels: width.saturating_mul(3),
            conv_kernel: self.kernel,
            state: width.saturating_mul(self.head_dim),
        })
    }
}

pub(super) fn text(f: &Fields) -> Result<Decoder, ConfigError> {
    let shape = latent_shape(f)?;
    let hidden = shape.hidden;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 896, active: 16, width: 3072, shared: 2 })?;
    let narrow = f.optional_count("routed_expert_hidden_size")?;
    let has_norm = f.flag("latent_moe_use_norm", false)?;
    let latent = Latent::read(f, shape.heads, LATENT)?;
    let has_gate = f.flag("mla_use_output_gate", false)?;
    // Rotary parts keep their width when no rotation is applied.
    f.flag("mla_use_nope", false)?;
    let linear = f.required_nested(&["linear_attn_config"])?;
    let full_layers = linear.layer_numbers("full_attn_layers")?;
    linear.layer_numbers("kda_layers")?;
    let delta = Delta {
        heads: linear.optional_count("num_heads")?.unwrap_or(shape.heads),
        head_dim: linear.optional_count("head_dim")?.unwrap_or(128),
        kernel: linear.optional_count("short_conv_kernel_size")?.unwrap_or(4),
        full_rank_gate: linear.flag("use_full_rank_gate", false)?,
    };
    let has_residuals = f.optional_count("attn_res_block_size")?.is_some();
    let dense = f.count("intermediate_size")?;
    let layers = sparse.iter().zip(1..).map(|(&is_sparse, number)| {
        let mut tensors = Tensors::default();
        // Layers are counted from one in these lists.
        let mixer = if full_layers.contains(&number) {
            latent.add(&mut tensors, "self_attn", hidden);
            if has_gate {
                tensors.linear("self_attn.g_proj", hidden, latent.heads.saturating_mul(latent.value), false);
            }
            latent.mixer(0)
        } else {
            delta.add(&mut tensors, hidden)
        };
        let feed_forward = if is_sparse {
            // Router and shared experts read the hidden state, routed experts its projection.
            let routed = Mixture { shared: 0, ..mixture };
            tensors.linear(BLOCK_SPARSE.router, hidden, mixture.experts, false);
            routed.add_routed(&mut tensors, BLOCK_SPARSE, narrow.unwrap_or(hidden));
            if let Some(narrow) = narrow {
                tensors.linear("block_sparse_moe.routed_expert_down_proj", hidden, narrow, false).linear(
                    "block_sparse_moe.routed_expert_up_proj",
                    narrow,
                    hidden,
                    false,
                );
                if has_norm {
                    tensors.norm("block_sparse_moe.routed_expert_norm", narrow, false);
                }
            }
            if mixture.shared > 0 {
                gated(&mut tensors, BLOCK_SPARSE.shared, hidden, mixture.shared, false);
            }
            mixture.feed_forward()
        } else {
            tensors.gated_mlp(hidden, dense, false);
            FeedForward::Dense { intermediate: dense, gated: true }
        };
        if has_residuals {
            tensors.norms(&["self_attention_res_norm", "mlp_res_norm"], hidden).linear("self_attention_res_proj", hidden, 1, false).linear(
                "mlp_res_proj",
                hidden,
                1,
                false,
            );
        }
        (Layer { mixer, feed_forward }, tensors.norms(LLAMA_NORMS, hidden).build())
    });
    let layers = layers.collect();
    let mut decoder = Decoder::llama_like(shape, layers, false);
    if has_residuals {
        decoder
            .tensors
            .extend(Tensors::default().norm("model.output_attn_res_norm", hidden, false).linear("model.output_attn_res_proj", hidden, 1, false).build());
    }
    Ok(decoder)
}
