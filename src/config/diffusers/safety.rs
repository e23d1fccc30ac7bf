//! Stable Diffusion's safety checker: CLIP's vision tower, and the embeddings of what it looks for.

use super::super::families::clip_vision;
use super::super::{ConfigError, Fields};
use super::Draft;
use super::blueprint::Blueprint;
use crate::model::{ComponentKind, Work};

/// 17 concepts and 3 of special care, each with an embedding and a threshold.
const CONCEPTS: &str = "
    visual_projection p v
    !concept_embeds 17 p
    !special_care_embeds 3 p
    !concept_embeds_weights 17
    !special_care_embeds_weights 3";

pub(super) fn checker(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["architectures", "text_config", "text_config_dict", "model_type"] {
        f.touch(key);
    }
    let width = f.count_or("projection_dim", 512)?;
    let tower = clip_vision(f)?;
    let mut tensors = tower.tensors;
    tensors.extend(Blueprint(&[("p", width), ("v", tower.hidden_size)]).tensors("", CONCEPTS)?);
    let layers = tower.layers.into_iter().flat_map(|run| (0..run.count).map(move |_| (run.layer, run.tensors.clone()))).collect();
    Ok(Draft { kind: ComponentKind::Other, hidden: tower.hidden_size, tensors, layers, work: Work::Tokens })
}
