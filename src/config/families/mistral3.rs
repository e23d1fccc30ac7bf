//! Mistral Small 3.x, Ministral 3 and Devstral: Pixtral's tower, a projector that merges `spatial_merge_size`² patches, Mistral.

use super::decoder::{Draft, Tensors};
use super::multimodal::{TEXT_CONFIGS, Tie, Wrapper, feature_layers, language_in, squared, with_projector};
use super::vision::{linear, norm, tower};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    around(f, &Wrapper::new("mistral"), &[])
}

/// LightOn OCR: the same around Qwen3.
pub(super) fn read_lighton(f: &Fields) -> Result<Draft, ConfigError> {
    around(f, &Wrapper { tie: Tie::Wrapper { default: true }, ..Wrapper::new("qwen3") }, &[])
}

/// Any language model behind Pixtral's tower, whose class takes `defaults` where the config is silent.
pub(super) fn around(f: &Fields, wrapper: &Wrapper, defaults: &[(&str, u64)]) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, wrapper)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.part(&["vision_config"])?;
    let tower = tower(&vision.with_defaults(defaults), "pixtral")?.below("vision_tower");
    // Places are turned: the side of an image has no weights.
    if vision.optional_text("model_type")?.is_none_or(|kind| kind == "pixtral") {
        vision.not_counted("image_size");
    }
    let bias = f.flag("multimodal_projector_bias", false)?;
    let features = tower.hidden();
    let merged = features.saturating_mul(squared(f, "spatial_merge_size", 2)?);
    let mut t = Tensors::default();
    norm(&mut t, "multi_modal_projector.norm", features, false);
    linear(&mut t, Role::Other, "multi_modal_projector.patch_merger.merging_layer", merged, features, false);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_1", features.saturating_mul(feature_layers(f, 1)?), width, bias);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_2", width, width, bias);
    Ok(with_projector(draft, tower, width, t.build()))
}
