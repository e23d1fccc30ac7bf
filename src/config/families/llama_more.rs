//! Llama with tensors of its own in each layer: Diff-Llama's lambdas, BitNet's norms inside the blocks, Doge's dynamic mask.

use super::classic::{Bias, QueryKeyNorm, Sizes, Variant, all_sliding};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role};

/// Diff-Llama: four vectors per layer weigh the two attentions; the norm over heads has no parameters.
pub(super) fn diffllama(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 2048, layers: 16, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(8192), vocab: 32_000 }),
        mlp_bias: Bias::Never,
        more: |tensors, shape, _| {
            for name in ["lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"] {
                tensors.tensor(&format!("self_attn.{name}"), Role::Other, &[shape.head_dim]);
            }
        },
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// BitNet: a norm before each block's last matrix.
pub(super) fn bitnet(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 2560, layers: 30, heads: 20, kv_heads: Some(5), head_dim: None, intermediate: Some(6912), vocab: 128_256 }),
        mlp_bias: Bias::Never,
        more: |tensors, shape, intermediate| {
            tensors.norm("self_attn.attn_sub_norm", shape.hidden, false).norm("mlp.ffn_sub_norm", intermediate, false);
        },
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// Doge: a learned mask per key head and a weight on each residual; as a mixture, experts that are rows of two tables.
pub(super) fn doge(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 1024, layers: 32, heads: 8, kv_heads: None, head_dim: None, intermediate: Some(2048), vocab: 32_768 }),
        query_key_norm: QueryKeyNorm::OfHead("self_attn.q_norm", "self_attn.k_norm"),
        spans: all_sliding,
        more: residuals,
        ..Variant::LLAMA
    };
    let attention_bias = f.flag("attention_bias", false)?;
    let mut draft = variant.read(f)?;
    let shape = draft.decoder.shape;
    let mut more = Tensors::default();
    more.linear("self_attn.dt_proj", shape.kv_heads * shape.head_dim, shape.kv_heads, attention_bias);
    let experts = if f.flag("is_moe", false)? {
        let experts = f.count_or("num_experts", 16_384)?;
        more.linear("mlp.router_gate", shape.hidden, 2 * experts.isqrt(), false)
            .tensor("mlp.down_embed.weight", Role::ExpertUp, &[experts, shape.hidden])
            .tensor("mlp.up_embed.weight", Role::ExpertDown, &[experts, shape.hidden]);
        Some((experts, f.active_experts(experts, 64)?))
    } else {
        // In every file of the class.
        f.touch("num_experts");
        f.touch("num_experts_per_tok");
        None
    };
    let more = more.build();
    for (layer, tensors) in &mut draft.decoder.layers {
        tensors.extend(more.iter().cloned());
        if let (Some((experts, active)), FeedForward::Dense { intermediate, .. }) = (experts, layer.feed_forward) {
            layer.feed_forward = FeedForward::MixtureOfExperts { experts, active, intermediate: 1, shared: intermediate };
        }
    }
    Ok(draft)
}

fn residuals(tensors: &mut Tensors, shape: &Shape, _: u64) {
    tensors.tensor("self_attn.A", Role::Other, &[shape.kv_heads]).tensor("input_residual", Role::Other, &[shape.hidden]).tensor(
        "post_attention_residual",
        Role::Other,
        &[shape.hidden],
    );
}
