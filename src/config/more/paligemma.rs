//! `PaliGemma` 1 and 2: `SigLIP`, one matrix, Gemma or Gemma 2; and `ColPali`, which puts an embedding above it.

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Wrapper, language, vision, with_projector};
use super::vision::linear;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, &Wrapper::new("gemma"))
}

/// `embedding_dim` numbers per token; the `PaliGemma` stands under `vlm_config` and has no head.
pub(super) fn read_colpali(f: &Fields) -> Result<Draft, ConfigError> {
    let inner = f.required_nested(&["vlm_config"])?;
    inner.touch("model_type");
    let draft = read_with(&inner, &Wrapper { head: Head::Nothing, ..Wrapper::new("gemma") })?;
    f.touch("architectures");
    let width = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "embedding_proj_layer", width, f.optional_count("embedding_dim")?.unwrap_or(128), true);
    Ok(draft.with(component("embedding", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}

fn read_with(f: &Fields, wrapper: &Wrapper) -> Result<Draft, ConfigError> {
    let draft = language(f, wrapper)?;
    let tower = vision(f, "siglip_vision_model")?.below("vision_tower");
    let width = f.optional_count("projection_dim")?.unwrap_or(2048);
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "multi_modal_projector.linear", tower.hidden(), width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}
