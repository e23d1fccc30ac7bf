//! Kimi-K3's language model: Kimi delta attention with every fourth layer latent, output gates, experts in a narrower space
//! than the hidden state, and learned residuals over blocks of layers.

use super::decoder::{Decoder, LLAMA_NORMS, Tensors};
use super::delta::{Delta, Gate};
use super::experts::{BLOCK_SPARSE, Mixture, MixtureDefaults, gated, sparse_layers};
use super::latent::{Defaults, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer};

const LATENT: Defaults = Defaults { query_rank: Some(1536), rank: 512, rope: 64, nope: 128, value: 128 };

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
    let heads = linear.optional_count("num_heads")?.unwrap_or(shape.heads);
    let delta = Delta {
        heads,
        head_dim: linear.count_or("head_dim", 128)?,
        kernel: linear.count_or("short_conv_kernel_size", 4)?,
        forget: Gate::LowRank,
        output: if linear.flag("use_full_rank_gate", false)? { Gate::Full } else { Gate::LowRank },
        // Padded in the published model.
        decays: heads.next_multiple_of(128),
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
            delta.add(&mut tensors, "self_attn", "o_proj", hidden)
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
