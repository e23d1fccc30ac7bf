//! What llama.cpp's graphs of a family do otherwise than Llama's (`src/models/*.cpp`, 0c1e57098).

use crate::model::{LayerRun, Model, Role};

/// How the graph of a family is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a difference of its own
pub(super) struct Style {
    /// Attention and feed-forward read the same norm and are added up together.
    pub is_parallel: bool,
    /// Norms stand before attention and feed-forward (else only behind them).
    pub has_pre_norms: bool,
    /// Queries and keys are rotated, which makes a second copy of them.
    pub is_rotated: bool,
    /// Positions are looked up on the host and added.
    pub has_position_table: bool,
    /// Rows are picked after the last norm instead of in the last layer: all hidden states are kept.
    pub picks_rows_late: bool,
    /// Keys of a delta-net are repeated for its value heads.
    pub repeats_keys: bool,
    /// Norms take a mean off too (`LLM_NORM`): ggml writes these beside what they read, not over it.
    pub has_layer_norms: bool,
}

const LLAMA: Style = Style {
    is_parallel: false,
    has_pre_norms: true,
    is_rotated: true,
    has_position_table: false,
    picks_rows_late: false,
    repeats_keys: false,
    has_layer_norms: false,
};

/// (families, what is otherwise)
const STYLES: &[(&[&str], Style)] = &[
    (&["cohere", "cohere2", "falcon", "phi", "gpt_neox"], Style { is_parallel: true, ..LLAMA }),
    (&["olmo2", "olmo3", "exaone4"], Style { has_pre_norms: false, ..LLAMA }),
    (&["gpt2", "gpt_bigcode", "opt"], Style { is_rotated: false, has_position_table: true, ..LLAMA }),
    (&["bloom", "mpt", "jamba", "nemotron_h"], Style { is_rotated: false, ..LLAMA }),
    (&["qwen3_next"], Style { repeats_keys: true, ..LLAMA }),
    (&["qwen3_5", "qwen3_5_moe"], Style { picks_rows_late: true, ..LLAMA }),
];

/// Fused projections that the converter takes apart.
const TAKEN_APART: &[&str] = &["W_pack", "wqkv"];

impl Style {
    /// The style of a model's family.
    pub(super) fn of(model: &Model) -> Self {
        let style = STYLES.iter().find(|(families, _)| families.contains(&family(model))).map_or(LLAMA, |(_, style)| *style);
        let has_bias = model.decoder().tensors.iter().any(|tensor| tensor.role == Role::Norm && tensor.name.ends_with("bias"));
        Self { has_layer_norms: has_bias || BARE_LAYER_NORMS.contains(&family(model)), ..style }
    }
}

/// Families whose norms take a mean off and have no bias that would tell.
const BARE_LAYER_NORMS: &[&str] = &["olmo", "cohere", "cohere2", "dbrx", "mpt"];

/// The family: parts of wrapped models are called `gemma3_text`.
fn family(model: &Model) -> &str {
    let name = model.anatomy.model_type.as_str();
    name.strip_suffix("_text").unwrap_or(name)
}

/// Families whose windows llama.cpp reads from their files and then passes over (`phi3.cpp`: "Phi SWA is currently disabled"), or
/// does not read at all.
const WITHOUT_WINDOWS: &[&str] = &[
    "phi3",
    "phimoe",
    "phi4mm",
    "mistral",
    "mixtral",
    "ministral",
    "mistral3",
    "qwen2",
    "qwen2_moe",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3",
    "qwen3_moe",
    "starcoder2",
    "llama",
];

/// Whether llama.cpp keeps short caches for the windows of a model's family.
pub(super) fn honours_windows(model: &Model) -> bool {
    !WITHOUT_WINDOWS.contains(&family(model))
}

/// True when queries, keys and values come from one matrix.
pub(super) fn has_fused_projection(run: &LayerRun) -> bool {
    run.tensors.iter().any(|tensor| tensor.role == Role::Qkv && !TAKEN_APART.iter().any(|name| tensor.name.contains(name)))
}

/// True when gate and up projection of the (shared) feed-forward are one matrix.
pub(super) fn has_fused_gate(run: &LayerRun) -> bool {
    run.tensors.iter().any(|tensor| tensor.role == Role::GateUp)
}

/// Outputs (rows) of the largest matrix with a role; 0 without one.
pub(super) fn rows(run: &LayerRun, role: Role) -> u64 {
    matrices(run, role).map(|shape| shape[0]).max().unwrap_or(0)
}

/// Inputs (columns) of the largest matrix with a role; 0 without one.
pub(super) fn columns(run: &LayerRun, role: Role) -> u64 {
    matrices(run, role).map(|shape| shape[1]).max().unwrap_or(0)
}

fn matrices(run: &LayerRun, role: Role) -> impl Iterator<Item = &[u64]> {
    run.tensors.iter().filter(move |tensor| tensor.role == role && tensor.shape.len() == 2).map(|tensor| tensor.shape.as_slice())
}
