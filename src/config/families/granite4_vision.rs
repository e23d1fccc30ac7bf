//! Granite 4 Vision: a SigLIP or CLIP tower, whose layers are read through Q-Formers over windows of patches, one for each layer of
//! Granite that they are added to.

use super::blip::q_former;
use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in, vision};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// What the class takes where `qformer_config` is left out.
const Q_FORMER: &[(&str, u64)] =
    &[("vocab_size", 30_522), ("num_hidden_layers", 1), ("intermediate_size", 3072), ("cross_attention_frequency", 1), ("max_position_embeddings", 2048)];

/// Groups of patches beside those of `deepstack_layer_map`, one per corner of a square.
const CORNERS: u64 = 4;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("granite4_vision_text") };
    let text = f.part(TEXT_CONFIGS)?;
    let mut draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "clip_vision_model")?.below("model.vision_tower");
    draft.decoder.tensors.extend(Tensors::default().tensor("model.image_newline", Role::Other, &[width]).build());
    let features = tower.hidden();
    let former = f.part(&["qformer_config"])?.with_defaults(Q_FORMER);
    former.touch("model_type");
    // The class sets both to the tower's width.
    former.touch("encoder_hidden_size");
    let former = former.replaced("hidden_size", features).replaced("num_attention_heads", features / 64);
    let rate = f.optional_text("downsample_rate")?.ok_or_else(|| f.missing("downsample_rate"))?;
    let sides = rate.split_once('/').and_then(|(query, window)| Some((query.parse::<u64>().ok()?, window.parse::<u64>().ok()?)));
    let Some((query, window)) = sides.filter(|(query, window)| (1..=1024).contains(query) && (1..=1024).contains(window)) else {
        return Err(f.impossible("downsample_rate", "it must be the sides of two squares, such as \"1/4\""));
    };
    let mapped = match f.raw("deepstack_layer_map") {
        None => 0,
        Some(serde_json::Value::Array(pairs)) if pairs.len() <= 1000 => pairs.len() as u64,
        Some(_) => return Err(f.impossible("deepstack_layer_map", "it must be a list of pairs of layers")),
    };
    for key in ["image_grid_pinpoints", "image_seq_length", "projector_dropout", "spatial_target_layers", "spatial_vision_layer"] {
        f.touch(key);
    }
    for key in ["vision_feature_layer", "vision_feature_select_strategy", "use_image_newline_parameter"] {
        f.touch(key);
    }
    let one = q_former(&former, features, false)?;
    draft = draft.with(tower.component("vision", ComponentKind::VisionTower));
    for number in 0..mapped + CORNERS {
        let at = match number.checked_sub(mapped) {
            None => format!("model.layerwise_projectors.{number}"),
            Some(corner) => format!("model.spatial_projectors.{corner}"),
        };
        let mut t = Tensors::default();
        t.tensor(&format!("{at}.query"), Role::Other, &[1, query * query, features]).tensor(
            &format!("{at}.image_positions"),
            Role::Other,
            &[1, window * window, features],
        );
        norm(&mut t, &format!("{at}.norm"), features, true);
        linear(&mut t, Role::Other, &format!("{at}.out_linear"), features, width, true);
        let mut former = one.clone();
        former.name = format!("q_former.{number}").into();
        former.layer_prefix = format!("{at}.{}", former.layer_prefix).into();
        for tensor in &mut former.tensors {
            tensor.name = format!("{at}.{}", tensor.name);
        }
        let projector = component(format!("projector.{number}"), ComponentKind::Projector, width, "", t.build(), Vec::new());
        draft = draft.with(former).with(projector);
    }
    Ok(draft)
}
