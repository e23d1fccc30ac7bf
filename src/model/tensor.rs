//! Tensors and their roles.

use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::quantity::{Overflow, ParamCount};

/// Equal tensors: `count` of one shape, encoding and role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// Projection of the hidden state to a latent that queries, or keys and values, are made from (MLA).
    LatentDown,
    /// Projection of that latent to the heads' keys and values.
    LatentUp,
    /// Projection of what heads give to latents, group by group, before the output projection (DeepSeek V4).
    OutputDown,
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
    /// Gate and up projection of routed experts in one tensor.
    ExpertGateUp,
    /// Down projection of a routed expert.
    ExpertDown,
    /// What a recurrence's input is projected by.
    MixerInput,
    /// A recurrence's output projection.
    MixerOutput,
    /// A recurrence's causal convolution.
    MixerConvolution,
    /// Decays, time steps and skips of a recurrence.
    MixerState,
    /// What an adapter puts beside a matrix.
    Adapter,
    /// Not recognised.
    Other,
}

/// (role, name in the JSON contract, module names in checkpoints)
const ROLES: &[(Role, &str, &[&str])] = &[
    (
        Role::Embedding,
        "embedding",
        &[
            "embed_tokens",
            "wte",
            "word_embeddings",
            "embed_in",
            "tok_embeddings",
            "tokens_embed",
            "token_embeddings",
            "embeddings",
            "embed_tokens_per_layer",
            "embed",
            "shared",
        ],
    ),
    (
        Role::Position,
        "position",
        &[
            "wpe",
            "embed_positions",
            "positions_embed",
            "position_embedding",
            "pos_embed",
            "position_embeddings",
            "relative_attention_bias",
            "global_relative_attention_bias",
            "rel_embeddings",
            "rel_attn_embed",
        ],
    ),
    (
        Role::Head,
        "head",
        &["lm_head", "embed_out", "output_layer", "output_projection", "head", "decoder", "predictions", "generator_lm_head", "vocab_projector", "proj_out"],
    ),
    (Role::Score, "score", &["score", "v_head", "classifier", "qa_outputs", "seq_relationship"]),
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
            "self_attn_layer_norm",
            "final_layer_norm",
            "layer_norm",
            "ln_attn",
            "ln_mlp",
            "word_embeddings_layernorm",
            "final_layernorm",
            "ln",
            "norm_1",
            "norm_2",
            "norm_f",
            "q_layernorm",
            "k_layernorm",
            "query_layernorm",
            "key_layernorm",
            "attention_layernorm",
            "feedforward_layernorm",
            "post_self_attn_layernorm",
            "post_mlp_layernorm",
            "attention_norm",
            "ffn_norm",
            "attn_norm",
            "mlp_norm",
            "final_norm",
            "layernorm",
            "layernorm1",
            "layernorm2",
            "attn_sub_norm",
            "ffn_sub_norm",
            "ln1",
            "ln2",
            "ln_x",
            "pre_ln",
            "ln_out",
            "q_a_layernorm",
            "kv_a_layernorm",
            "enorm",
            "hnorm",
            "pre_mlp_layernorm",
            "residual_layernorm",
            "kv_norm",
            "inter_norm",
            "norm1",
            "norm2",
            "ln_q",
            "layer_norm1",
            "layer_norm2",
            "layernorm_pre",
            "layernorm_post",
            "post_layernorm",
            "pre_layrnorm",
            "post_conv_layernorm",
            "post_projection_norm",
            "mm_soft_emb_norm",
            "ln_post",
            "post_per_layer_input_norm",
            "per_layer_projection_norm",
            "post_feedforward_layernorm_1",
            "post_feedforward_layernorm_2",
            "pre_feedforward_layernorm_2",
            "pre_layer_norm",
            "post_layer_norm",
            "conv_norm",
            "norm_pre_attn",
            "norm_post_attn",
            "norm0",
            "pre_norm",
            "norm_out",
            "LayerNorm",
            "layernorm_embedding",
            "encoder_attn_layer_norm",
            "cross_attention_layer_norm",
            "ff_layer_norm",
            "sa_layer_norm",
            "output_layer_norm",
            "full_layer_layer_norm",
            "vocab_layer_norm",
            "layer_norm_emb",
            "global_input_layer_norm",
            "groupnorm",
        ],
    ),
    (Role::Query, "query", &["q_proj", "Wq", "q_b_proj", "query", "q_lin", "q", "query_proj", "query_global", "linear_q"]),
    (Role::Key, "key", &["k_proj", "Wk", "key", "k_lin", "k", "key_proj", "key_global", "linear_k"]),
    (Role::Value, "value", &["v_proj", "Wv", "value", "v_lin", "v", "value_proj", "value_global", "linear_v"]),
    (Role::Qkv, "qkv", &["qkv_proj", "c_attn", "query_key_value", "Wqkv", "wqkv", "W_pack", "qkv"]),
    (Role::OutputDown, "output_down", &["wo_a"]),
    (Role::AttentionOutput, "attention_output", &["o_proj", "out_proj", "wo", "projection_layer", "out_lin", "o"]),
    (Role::Gate, "gate", &["gate_proj", "c_fc_0", "proj_up_gate", "wi_0"]),
    (
        Role::Up,
        "up",
        &[
            "up_proj",
            "c_fc",
            "fc1",
            "fc_in",
            "dense_h_to_4h",
            "c_fc_1",
            "c_fc2",
            "proj_up",
            "linear_fc1",
            "fc0",
            "lin1",
            "wi",
            "wi_1",
            "ffn",
            "intermediate_dense",
        ],
    ),
    (Role::GateUp, "gate_up", &["gate_up_proj", "proj_1", "Wi", "input_linear", "proj_up_gate_z"]),
    (
        Role::Down,
        "down",
        &["down_proj", "fc2", "fc_out", "dense_4h_to_h", "proj_2", "output_linear", "proj_down", "linear_fc2", "lin2", "ffn_output", "output_dense"],
    ),
    (Role::Router, "router", &["gate", "router", "wg"]),
    (Role::ExpertGate, "expert_gate", &["w1"]),
    (Role::ExpertUp, "expert_up", &["w3"]),
    (Role::ExpertDown, "expert_down", &["w2"]),
    (
        Role::MixerInput,
        "mixer_input",
        &[
            "in_proj",
            "in_proj_qkvz",
            "in_proj_ba",
            "in_proj_qkv",
            "in_proj_z",
            "in_proj_b",
            "in_proj_a",
            "x_proj",
            "dt_proj",
            "a_proj",
            "b_proj",
            "g_proj",
            "f_proj",
            "f_a_proj",
            "f_b_proj",
            "g_a_proj",
            "g_b_proj",
            "linear_x",
            "linear_y",
            "ogate_preact",
            "igate_preact",
            "fgate_preact",
        ],
    ),
    (Role::MixerOutput, "mixer_output", &["linear_out"]),
    (Role::MixerConvolution, "mixer_convolution", &["conv1d", "q_conv1d", "k_conv1d", "v_conv1d", "conv_1d"]),
    (Role::MixerState, "mixer_state", &[]),
    (Role::LatentDown, "latent_down", &["q_a_proj", "kv_a_proj_with_mqa"]),
    (Role::LatentUp, "latent_up", &["kv_b_proj"]),
    (Role::ExpertGateUp, "expert_gate_up", &[]),
    (Role::Adapter, "adapter", &[]),
    (Role::Other, "other", &[]),
];

/// Modules that hold a recurrence.
const MIXERS: &[&str] = &["mamba", "mixer", "linear_attn", "conv", "mlstm_layer"];
/// Modules whose last name alone does not tell their role; the first that fits counts.
const ENDINGS: &[(&str, Role)] = &[
    // diffusers
    ("to_q", Role::Query),
    ("to_k", Role::Key),
    ("to_v", Role::Value),
    ("to_out.0", Role::AttentionOutput),
    ("to_add_out", Role::AttentionOutput),
    ("add_q_proj", Role::Query),
    ("add_k_proj", Role::Key),
    ("add_v_proj", Role::Value),
    ("net.0.proj", Role::Up),
    ("net.2", Role::Down),
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
    // DeepSeek V4: queries from their latent, the output from its.
    ("attn.wq_b", Role::Query),
    ("attn.wo_b", Role::AttentionOutput),
    ("classifier.out_proj", Role::Score),
    ("classification_head.out_proj", Role::Score),
    ("router.classifier", Role::Router),
    ("pred_layer.proj", Role::Head),
    ("DenseReluDense.wo", Role::Down),
    ("temporal_block.linear_out", Role::MixerOutput),
];

impl Role {
    /// The role's name in the JSON contract.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(role, ..)| *role == self).map_or("other", |(_, name, _)| name)
    }

    /// The names of all roles.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROLES.iter().map(|(_, name, _)| *name)
    }

    /// The role of a module by its path inside a layer or a model (`self_attn.q_proj`, `mlp.experts.{}.gate_proj`).
    pub fn of_module(path: &str) -> Self {
        let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let by_ending = ENDINGS.iter().find(|(ending, _)| path.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('.')));
        let role = match leaf {
            _ if by_ending.is_some() => by_ending.map_or(Self::Other, |(_, role)| *role),
            // GPT-2 names two different matrices alike.
            "c_proj" | "proj" if parent.ends_with("attn") => Self::AttentionOutput,
            "c_proj" => Self::Down,
            // Named alike by attention and by other things.
            "dense" | "Wo" if parent.ends_with("attn") || parent.ends_with("attention") => Self::AttentionOutput,
            // Qwen-1 calls its gate what others call their down projection.
            "w1" if parent == "mlp" => Self::Up,
            "w2" if parent == "mlp" => Self::Gate,
            "Wo" if parent == "mlp" => Self::Down,
            "output" if parent.is_empty() => Self::Head,
            "linear" if parent == "lm_head" => Self::Head,
            // Attention's own output projection has this name in other families.
            "out_proj" if MIXERS.iter().any(|mixer| parent.ends_with(mixer)) => Self::MixerOutput,
            // A matrix wrapped in a module of its own.
            "linear" if !parent.is_empty() => return Self::of_module(parent),
            leaf => ROLES.iter().find(|(.., leaves)| leaves.contains(&leaf)).map_or_else(|| Self::of_unlisted(leaf), |(role, ..)| *role),
        };
        match role {
            Self::Gate if parent.contains("experts.") => Self::ExpertGate,
            Self::Up if parent.contains("experts.") => Self::ExpertUp,
            Self::GateUp if parent.contains("experts") => Self::ExpertGateUp,
            // Mixtral's names outside of its experts.
            Self::ExpertGate if !parent.contains("experts.") => Self::Gate,
            Self::ExpertUp if !parent.contains("experts.") => Self::Up,
            Self::ExpertDown if !parent.contains("experts.") => Self::Down,
            Self::Down if parent.contains("experts.") => Self::ExpertDown,
            role => role,
        }
    }

    /// Norms have many names.
    fn of_unlisted(leaf: &str) -> Self {
        if leaf.contains("norm") { Self::Norm } else { Self::Other }
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
            ("feed_forward.w2", Role::Down),
            ("mlp.w2", Role::Gate),
            ("self_attention.dense", Role::AttentionOutput),
            ("output", Role::Head),
            ("ffn.shared_experts.w2", Role::Down),
            ("mlp.experts.gate_up_proj", Role::ExpertGateUp),
            ("self_attn.kv_a_proj_with_mqa", Role::LatentDown),
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
