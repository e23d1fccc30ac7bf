//! Tensors and their roles.

use crate::encoding::Encoding;
use crate::quantity::{Overflow, ParamCount};

/// Equal tensors: `count` of one shape, encoding and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name as in the checkpoint; inside a layer relative to it; `{}` stands for an expert's number.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The shape of one.
    pub shape: Vec<u64>,
    /// How many (experts); 1 for the rest.
    pub count: u64,
    /// How its values are stored in the files; `None` in an inventory made from a config.
    pub stored: Option<Encoding>,
}

impl Tensor {
    /// Elements of all `count` tensors.
    pub fn elements(&self) -> Result<ParamCount, Overflow> {
        let one = self.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or(Overflow)?;
        ParamCount(one).times(self.count)
    }

    /// True for vectors: biases and norms, which row-parallel layers do not split.
    pub fn is_vector(&self) -> bool {
        self.shape.len() == 1
    }
}

/// What a tensor is for. Quantisers, tensor parallelism and adapters decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Token embedding.
    Embedding,
    /// Learned positions.
    Position,
    /// Output head over the vocabulary.
    Head,
    /// Classification or reward head.
    Score,
    /// Normalisation.
    Norm,
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// Query, key and value projections in one matrix.
    Qkv,
    /// Attention's output projection.
    AttentionOutput,
    /// Gate of a feed-forward.
    Gate,
    /// Up projection of a feed-forward.
    Up,
    /// Gate and up projection in one matrix.
    GateUp,
    /// Down projection of a feed-forward.
    Down,
    /// Router of a mixture of experts.
    Router,
    /// Gate of a routed expert.
    ExpertGate,
    /// Up projection of a routed expert.
    ExpertUp,
    /// Down projection of a routed expert.
    ExpertDown,
    /// Not recognised.
    Other,
}

/// (role, name in the JSON contract, module names in checkpoints)
const ROLES: &[(Role, &str, &[&str])] = &[
    (Role::Embedding, "embedding", &["embed_tokens", "wte", "shared", "word_embeddings", "tok_embeddings"]),
    (
        Role::Position,
        "position",
        &["wpe", "embed_positions", "position_embeddings", "relative_attention_bias", "global_relative_attention_bias", "rel_embeddings", "rel_attn_embed"],
    ),
    (Role::Head, "head", &["lm_head", "decoder", "predictions", "generator_lm_head", "vocab_projector", "proj_out"]),
    (Role::Score, "score", &["score", "classifier", "qa_outputs", "seq_relationship"]),
    (
        Role::Norm,
        "norm",
        &[
            "norm",
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
            "q_norm",
            "k_norm",
            "ln_1",
            "ln_2",
            "ln_f",
            "LayerNorm",
            "layer_norm",
            "layernorm",
            "final_layer_norm",
            "layernorm_embedding",
            "self_attn_layer_norm",
            "encoder_attn_layer_norm",
            "cross_attention_layer_norm",
            "ff_layer_norm",
            "sa_layer_norm",
            "output_layer_norm",
            "full_layer_layer_norm",
            "vocab_layer_norm",
            "layer_norm_emb",
            "ln",
            "global_input_layer_norm",
            "final_layernorm",
            "groupnorm",
            "attn_norm",
            "mlp_norm",
            "final_norm",
            "post_mlp_layernorm",
        ],
    ),
    (Role::Query, "query", &["q_proj", "query", "q_lin", "q", "query_proj", "query_global", "linear_q"]),
    (Role::Key, "key", &["k_proj", "key", "k_lin", "k", "key_proj", "key_global", "linear_k"]),
    (Role::Value, "value", &["v_proj", "value", "v_lin", "v", "value_proj", "value_global", "linear_v"]),
    (Role::Qkv, "qkv", &["qkv_proj", "c_attn", "Wqkv"]),
    (Role::AttentionOutput, "attention_output", &["o_proj", "out_lin", "o", "linear_out"]),
    (Role::Gate, "gate", &["gate_proj", "wi_0"]),
    (Role::Up, "up", &["up_proj", "c_fc", "lin1", "wi", "wi_1", "fc1", "ffn", "intermediate_dense"]),
    (Role::GateUp, "gate_up", &["gate_up_proj", "Wi"]),
    (Role::Down, "down", &["down_proj", "lin2", "wo", "fc2", "ffn_output", "output_dense"]),
    (Role::Router, "router", &["gate"]),
    (Role::ExpertGate, "expert_gate", &["w1"]),
    (Role::ExpertUp, "expert_up", &["w3"]),
    (Role::ExpertDown, "expert_down", &["w2"]),
    (Role::Other, "other", &[]),
];

/// Modules whose last name alone does not tell their role; the first that fits counts.
const ENDINGS: &[(&str, Role)] = &[
    ("attention.output.dense", Role::AttentionOutput),
    ("attention.dense", Role::AttentionOutput),
    ("self_attn.output", Role::AttentionOutput),
    ("intermediate.dense", Role::Up),
    ("output.dense", Role::Down),
    ("attn.Wo", Role::AttentionOutput),
    ("attn.out_proj", Role::AttentionOutput),
    ("attention.out_proj", Role::AttentionOutput),
    ("cross_attention.out_proj", Role::AttentionOutput),
    ("encoder_attn.out_proj", Role::AttentionOutput),
    ("self_attn.out_proj", Role::AttentionOutput),
    ("self.in_proj", Role::Qkv),
    ("mlp.Wo", Role::Down),
    ("classifier.out_proj", Role::Score),
    ("classification_head.out_proj", Role::Score),
    ("router.classifier", Role::Router),
    ("pred_layer.proj", Role::Head),
];

impl Role {
    /// The role's name in the JSON contract.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(role, ..)| *role == self).map_or("other", |(_, name, _)| name)
    }

    /// The role of a module by its path inside a layer or a model (`self_attn.q_proj`, `mlp.experts.{}.gate_proj`).
    pub fn of_module(path: &str) -> Self {
        let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let by_ending = ENDINGS.iter().find(|(ending, _)| path.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('.')));
        let role = match leaf {
            _ if by_ending.is_some() => by_ending.map_or(Self::Other, |(_, role)| *role),
            // GPT-2 names two different matrices alike.
            "c_proj" if parent.ends_with("attn") => Self::AttentionOutput,
            "c_proj" => Self::Down,
            leaf => ROLES.iter().find(|(.., leaves)| leaves.contains(&leaf)).map_or(Self::Other, |(role, ..)| *role),
        };
        match role {
            Self::Gate if parent.contains("experts.") => Self::ExpertGate,
            Self::Up if parent.contains("experts.") => Self::ExpertUp,
            Self::Down if parent.contains("experts.") => Self::ExpertDown,
            role => role,
        }
    }

    /// True for matrices of routed experts.
    pub const fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_follow_the_module_path() {
        for (path, role) in [
            ("self_attn.q_proj", Role::Query),
            ("attn.c_proj", Role::AttentionOutput),
            ("mlp.c_proj", Role::Down),
            ("mlp.gate_proj", Role::Gate),
            ("mlp.experts.{}.gate_proj", Role::ExpertGate),
            ("block_sparse_moe.experts.{}.w2", Role::ExpertDown),
            ("mlp.gate", Role::Router),
            ("lm_head", Role::Head),
            ("rotary_emb", Role::Other),
        ] {
            assert_eq!(Role::of_module(path), role, "{path}");
        }
    }

    #[test]
    fn impossible_shapes_are_errors() {
        let tensor = Tensor { name: "x".into(), role: Role::Other, shape: vec![1 << 40, 1 << 40], count: 1, stored: None };
        assert_eq!(tensor.elements(), Err(Overflow));
    }
}
