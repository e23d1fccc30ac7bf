//! Keye-VL, by its own code (vLLM's `keye.py`, `keye_vl1_5.py`): Qwen3 with its fields beside the tower's object, `SigLIP`'s tower with
//! positions for packed patches too, and two matrices over two by two patches.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, Tie, Wrapper, language_of};
use super::towers::{SIGLIP_DEFAULTS, projector, siglip};
use super::{ConfigError, Fields};

/// Positions of packed patches.
const PACKED: u64 = 32_768;
/// Patches side by side before the projector.
const MERGED: u64 = 4;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "qwen3", names: Names::Inside("model"), head: Head::Language, tie: Tie::Text };
    let draft = language_of(f, f, "qwen3".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.required_nested(&["vision_config"])?.with_defaults(SIGLIP_DEFAULTS);
    for key in ["model_type", "spatial_merge_size", "tokens_per_second", "temporal_patch_size", "has_learnable_position_embedding"] {
        vision.touch(key);
    }
    // The files hold the tower's pooling head: vLLM's loader passes over `head.attention`, `head.mlp` and `head.probe` by name.
    let mut tower = siglip(&vision, "visual.vision_model", "visual.vision_model.encoder.layers")?;
    let seen = tower.hidden_size;
    let mut t = Tensors::default();
    tower.tensors.extend(t.embedding("visual.vision_model.embeddings.packing_position_embedding", PACKED, seen).build());
    // Version 1.5 norms the patches side by side, the first one each alone (vLLM 0.33, `keye_vl1_5.py` and `keye.py`).
    let between = seen.saturating_mul(MERGED);
    let mut t = Tensors::default();
    let normed = if f.model_type() == "KeyeVL1_5" { between } else { seen };
    t.norm("mlp_AR.pre_norm", normed, true).linear("mlp_AR.linear_1", between, between, true).linear("mlp_AR.linear_2", between, width, true);
    Ok(draft.with(tower).with(projector(width, t.build())))
}
