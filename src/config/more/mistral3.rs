//! Mistral Small 3.x, Ministral 3 and Devstral: Pixtral's tower, a projector that merges `spatial_merge_size`² patches, Mistral.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Tie, Wrapper, feature_layers, language, squared, vision, with_projector};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    around(f, &Wrapper::new("mistral"))
}

/// LightOn OCR: the same around Qwen3.
pub(super) fn read_lighton(f: &Fields) -> Result<Draft, ConfigError> {
    around(f, &Wrapper { tie: Tie::Wrapper { default: true }, ..Wrapper::new("qwen3") })
}

fn around(f: &Fields, wrapper: &Wrapper) -> Result<Draft, ConfigError> {
    let draft = language(f, wrapper)?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "pixtral")?.below("vision_tower");
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
