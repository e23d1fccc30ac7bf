//! Experts in MXFP4: what kernels pad, and what they leave beside their own copies.
//!
//! `layers/quantization/mxfp4.py` (`create_weights`, `process_weights_after_loading`) until 0.18, then
//! `layers/fused_moe/oracle/mxfp4.py` (`_get_priority_backends_for_gpt_oss`, `_get_priority_backends`,
//! `mxfp4_round_up_hidden_size_and_intermediate_size`).

use super::version::Rules;
use crate::estimate::Entry;
use crate::gpu::{Card, Vendor};
use crate::quantity::Overflow;
use crate::runtime::Setup;
use crate::runtime::mxfp4::{Kernels, padding};

const MARLIN: Kernels = Kernels { inner: 128, hidden: 256, keeps_scales: false };
/// Blackwell of data centres, with FlashInfer.
const TRTLLM: Kernels = Kernels { inner: 128, hidden: 256, keeps_scales: false };
const ROCM: Kernels = Kernels { inner: 256, hidden: 256, keeps_scales: false };
const XPU: Kernels = Kernels { inner: 64, hidden: 1, keeps_scales: false };
const TRITON: Kernels = Kernels { inner: 64, hidden: 1, keeps_scales: false };

const SOURCE: &str = "vLLM layers/quantization/mxfp4.py, fused_moe/oracle/mxfp4.py: experts are padded for the kernels of the card; until 0.26 Triton on Hopper keeps the scales that were read beside its own";

/// The kernels that a card gets.
fn kernels(card: &Card, rules: Rules, is_gpt_oss: bool) -> Kernels {
    match card.gpu {
        Some(gpu) if gpu.vendor == Vendor::Amd => ROCM,
        Some(gpu) if gpu.vendor == Vendor::Intel => XPU,
        Some(gpu) if gpu.architecture.starts_with("Blackwell") && gpu.memory_type.starts_with("HBM") => {
            Kernels { inner: if rules.pads_experts_less() { TRTLLM.inner } else { 256 }, ..TRTLLM }
        }
        Some(gpu) if gpu.architecture == "Hopper" && is_gpt_oss => Kernels { keeps_scales: rules.keeps_expert_scales(), ..TRITON },
        _ => MARLIN,
    }
}

/// What a rank holds beyond the experts of the files; `None` without experts in MXFP4, or where nothing is padded.
pub(super) fn entry(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
    padding(setup, kernels(&setup.card, rules, setup.model.anatomy.model_type.starts_with("gpt_oss")), SOURCE)
}
