//! What mlx-lm 0.32.2 does with families and files that it has no rule for.

use super::{EstimateError, Settled};
use crate::encoding::Encoding;
use crate::model::Model;
use crate::runtime::mlx::has_family;
use crate::scenario::Weights;
use crate::weight_format::{Group, Method, Scheme};

/// Families whose `sanitize` turns FP8 into bfloat16 while loading (`models/*.py`), and those that their code runs (`MODEL_REMAPPING`,
/// `mistral3`, `glm_moe_dsa`, `kimi_vl`, `kimi_k25`).
const DEQUANTISED: &[&str] = &[
    "deepseek_v3",
    "deepseek_v32",
    "mimo_v2_flash",
    "minimax",
    "minimax_m3_vl",
    "ministral3",
    "mistral4",
    "kimi_k2",
    "joyai_llm_flash",
    "minimax_m2",
    "glm_moe_dsa",
];

/// Its own 8 bits: power-of-two scales of blocks of 32 × 32 stay packed (`load_model`).
fn is_kept(scheme: &Scheme) -> bool {
    scheme.scale_bits == 8 && scheme.group == Group::Block(32, 32)
}

/// What loading does with files of a method.
///
/// # Errors
/// [`EstimateError::Unsupported`] where `load_model` raises.
pub(super) fn settle_method(model: &Model, method: &str, settled: &mut Settled) -> Result<(), EstimateError> {
    let schemes = model.anatomy.quantization.as_ref().map_or(&[][..], |quantization| &quantization.schemes);
    match method {
        "modelopt" if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.method == Method::Nvfp4) => {
            Err(EstimateError::Unsupported("mlx-lm 0.32 loads NVFP4 alone of what ModelOpt writes: choose other files, or a format with --weights".to_owned()))
        }
        "fp8" if !schemes.iter().any(is_kept) => {
            if model.anatomy.types().iter().any(|family| DEQUANTISED.contains(family)) {
                settled.scenario.to_mut().weights = Weights::Plain(Encoding::BF16);
                settled.assumptions.push("mlx-lm turns FP8 files of this family into bfloat16 while loading (sanitize)".to_owned());
            } else {
                let said =
                    "mlx-lm 0.32 keeps FP8 with power-of-two scales of blocks of 32 × 32 alone, and has no code for this family's: counted as the files are";
                settled.warnings.push(said.to_owned());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is said where it lacks the family.
pub(super) fn without_family(model: &Model) -> Option<String> {
    let family = &model.anatomy.model_type;
    (!has_family(model)).then(|| format!("mlx-lm 0.32 has no family `{family}` (mlx-vlm or mlx-whisper may): counted by mlx-lm's rules"))
}
