//! `PaliGemma` 1 and 2: `SigLIP`, one matrix, Gemma or Gemma 2.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Wrapper, language, vision, with_projector};
use super::vision::linear;
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper::new("gemma"))?;
    let tower = vision(f, "siglip_vision_model")?.below("vision_tower");
    let width = f.count_or("projection_dim", 2048)?;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "multi_modal_projector.linear", tower.hidden(), width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}
