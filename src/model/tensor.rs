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
    /// Gate and up projection of routed experts in one matrix.
    ExpertGateUp,
    /// Up projection of a routed expert.
    ExpertUp,
    /// Down projection of a routed expert.
    ExpertDown,
    /// Not recognised.
    Other,
}

/// (role, name in the JSON contract, module names in checkpoints)
const ROLES: &[(Role, &str, &[&str])] = &[
    (Role::Embedding, "embedding", &["embed_tokens", "wte"]),
    (Role::Position, "position", &["wpe", "position_embedding", "pos_embed"]),
    (Role::Head, "head", &["lm_head"]),
    (Role::Score, "score", &["score"]),
    (Role::Norm, "norm", &["norm", "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "q_norm", "k_norm", "ln_1", "ln_2", "ln_f", "norm1", "norm2", "ln_q", "layer_norm1", "layer_norm2", "layernorm", "layernorm_pre", "layernorm_post", "post_layernorm", "pre_layrnorm", "post_conv_layernorm", "post_projection_norm", "post_self_attn_layernorm", "post_mlp_layernorm", "mm_soft_emb_norm", "final_layernorm", "final_layer_norm", "ln_post", "post_per_layer_input_norm", "per_layer_projection_norm", "post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2", "pre_layer_norm", "post_layer_norm", "conv_norm", "norm_pre_attn", "norm_post_attn", "norm0", "pre_norm", "norm_out"]),
    (Role::Query, "query", &["q_proj"]),
    (Role::Key, "key", &["k_proj"]),
    (Role::Value, "value", &["v_proj"]),
    (Role::Qkv, "qkv", &["qkv_proj", "c_attn", "qkv", "query_key_value", "wqkv"]),
    (Role::AttentionOutput, "attention_output", &["o_proj", "out_proj", "projection_layer", "wo"]),
    (Role::Gate, "gate", &["gate_proj"]),
    (Role::Up, "up", &["up_proj", "c_fc", "fc1", "linear_fc1", "dense_h_to_4h", "fc0"]),
    (Role::GateUp, "gate_up", &["gate_up_proj"]),
    (Role::Down, "down", &["down_proj", "fc2", "linear_fc2", "dense_4h_to_h"]),
    (Role::Router, "router", &["gate", "router"]),
    (Role::ExpertGate, "expert_gate", &["w1"]),
    (Role::ExpertUp, "expert_up", &["w3"]),
    (Role::ExpertGateUp, "expert_gate_up", &[]),
    (Role::ExpertDown, "expert_down", &["w2"]),
    (Role::Other, "other", &[]),
];

impl Role {
    /// The role's name in the JSON contract.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(role, ..)| *role == self).map_or("other", |(_, name, _)| name)
    }

    /// The role of a module by its path inside a layer or a model (`self_attn.q_proj`, `mlp.experts.{}.gate_proj`).
    pub fn of_module(path: &str) -> Self {
        let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let role = match leaf {
            // GPT-2 names two different matrices alike.
            "c_proj" if parent.ends_with("attn") => Self::AttentionOutput,
            "c_proj" => Self::Down,
            // A matrix wrapped in a module of its own.
            "linear" if !parent.is_empty() => return Self::of_module(parent),
            "proj" if parent.ends_with("attn") => Self::AttentionOutput,
            "dense" if parent.ends_with("self_attn") => Self::AttentionOutput,
            leaf => ROLES.iter().find(|(.., leaves)| leaves.contains(&leaf)).map_or(Self::Other, |(role, ..)| *role),
        };
        match role {
            Self::Gate if parent.contains("experts.") => Self::ExpertGate,
            Self::Up if parent.contains("experts.") => Self::ExpertUp,
            Self::GateUp if parent.contains("experts.") => Self::ExpertGateUp,
            Self::Down if parent.contains("experts.") => Self::ExpertDown,
            role => role,
        }
    }

    /// True for matrices of routed experts.
    pub const fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertGateUp | Self::ExpertDown)
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
