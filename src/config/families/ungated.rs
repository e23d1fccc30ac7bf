//! Families with Llama's names and a feed-forward of two matrices: Nemotron and Minitron, Arcee, Apertus, Jais 2, nanochat.

use super::classic::{Bias, Mlp, NormKind, QueryKeyNorm, Sizes, Variant};
use super::decoder::Draft;
use super::{ConfigError, Fields};
use crate::model::Role;

const UNGATED: Variant = Variant { mlp: Mlp::UpDown("mlp.up_proj", "mlp.down_proj"), ..Variant::LLAMA };

/// Nemotron: LayerNorms with bias.
pub(super) fn nemotron(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes { hidden: 6144, layers: 32, heads: 48, kv_heads: None, head_dim: None, intermediate: Some(24_576), vocab: 256_000 };
    Variant { sizes: Some(sizes), norm_kind: NormKind::WeightAndBias, ..UNGATED }.read(f)
}

/// Arcee: Llama without a gate.
pub(super) fn arcee(f: &Fields) -> Result<Draft, ConfigError> {
    let sizes = Sizes { hidden: 2560, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(18_432), vocab: 32_000 };
    Variant { sizes: Some(sizes), ..UNGATED }.read(f)
}

/// Apertus: norms on query and key heads; the activation xIELU has two parameters per layer.
pub(super) fn apertus(f: &Fields) -> Result<Draft, ConfigError> {
    // Other values exist in no published file and would change nothing in the class.
    f.touch("qk_norm");
    f.touch("post_norm");
    f.touch("mlp_bias");
    let has_parameters = f.optional_text("hidden_act")?.is_none_or(|name| name == "xielu");
    let variant = Variant {
        sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(14_336), vocab: 131_072 }),
        mlp_bias: Bias::Never,
        query_key_norm: QueryKeyNorm::OfHead("self_attn.q_norm", "self_attn.k_norm"),
        norms: &["attention_layernorm", "feedforward_layernorm"],
        more: |tensors, _, _| _ = tensors.tensor("mlp.act_fn.alpha_p", Role::Other, &[1]).tensor("mlp.act_fn.alpha_n", Role::Other, &[1]),
        ..UNGATED
    };
    if has_parameters { variant.read(f) } else { Variant { more: |_, _, _| {}, ..variant }.read(f) }
}

/// Jais 2: LayerNorms and biases everywhere.
pub(super) fn jais2(f: &Fields) -> Result<Draft, ConfigError> {
    let bias = Bias::Key("attention_bias", true);
    let variant = Variant {
        sizes: Some(Sizes { hidden: 3328, layers: 32, heads: 26, kv_heads: None, head_dim: None, intermediate: Some(26_624), vocab: 150_272 }),
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: Bias::Key("mlp_bias", true),
        norm_kind: NormKind::WeightAndBias,
        ..UNGATED
    };
    variant.read(f)
}

/// nanochat: no norm has parameters.
pub(super) fn nanochat(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 768, layers: 12, heads: 6, kv_heads: None, head_dim: None, intermediate: Some(8192), vocab: 50_304 }),
        mlp: Mlp::UpDown("mlp.fc1", "mlp.fc2"),
        mlp_bias: Bias::Never,
        norm_kind: NormKind::Plain,
        ..UNGATED
    };
    variant.read(f)
}
