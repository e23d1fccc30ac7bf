//! LFM2-VL: `SigLIP` 2, pixel unshuffle, two matrices (a norm before them in some), LFM2.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Names, Wrapper, language, squared, vision, with_projector};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("lfm2") })?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "siglip2_vision_model")?.below("model.vision_tower");
    let inputs = tower.hidden().saturating_mul(squared(f, "downsample_factor", 2)?);
    let inner = f.optional_count("projector_hidden_size")?.unwrap_or(2560);
    let bias = f.flag("projector_bias", true)?;
    let mut t = Tensors::default();
    if f.flag("projector_use_layernorm", true)? {
        norm(&mut t, "model.multi_modal_projector.layer_norm", inputs, true);
    }
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_1", inputs, inner, bias);
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_2", inner, width, bias);
    Ok(with_projector(draft, tower, width, t.build()))
}
