//! Aya Vision and Command A Vision: `SigLIP`, pixel shuffle, a gated pair of matrices, Cohere 2.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Wrapper, language, squared, vision, with_projector};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

/// Aya Vision: a norm before the projector.
pub(super) fn read_aya(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, true)
}

/// Command A Vision.
pub(super) fn read_command(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, false)
}

fn read(f: &Fields, is_aya: bool) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper::new("cohere2"))?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "siglip_vision_model")?.below("vision_tower");
    let inputs = tower.hidden().saturating_mul(squared(f, "downsample_factor", 2)?);
    let inner = f.optional_count("alignment_intermediate_size")?.unwrap_or(if is_aya { width } else { 36_864 });
    let mut t = Tensors::default();
    if is_aya {
        norm(&mut t, "multi_modal_projector.layernorm", inputs, true);
    }
    linear(&mut t, Role::Other, "multi_modal_projector.linear_1", inputs, inner, true);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_2", inner / 2, width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}
