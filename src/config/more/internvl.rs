//! `InternVL`: an `InternViT` tower, pixel shuffle, a norm and two matrices, any language model; in transformers' form
//! (`internvl`) and in its own (`internvl_chat`).

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Tie, Wrapper, language, vision};
use super::vision::{Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Role};

/// transformers' form.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, "qwen2", "internvl_vision")
}

/// Qianfan-OCR: the same around Qwen3.
pub(super) fn read_qianfan(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, "qwen3", "qianfan_ocr_vision")
}

fn read_with(f: &Fields, text_type: &'static str, tower_type: &str) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper::new(text_type))?;
    let tower = vision(f, tower_type)?.below("vision_tower");
    let names = ["multi_modal_projector.layer_norm", "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"];
    let projector = projector(f, &tower, draft.decoder.shape.hidden, names)?;
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}

/// The form of its own repositories: the language model is built from its own config, head and tie included.
pub(super) fn read_chat(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { head: Head::Language, tie: Tie::Text, ..Wrapper::new("llama") })?;
    f.touch("architectures");
    let tower = vision(f, "intern_vit_6b")?.below("vision_model");
    let projector = projector(f, &tower, draft.decoder.shape.hidden, ["mlp1.0", "mlp1.1", "mlp1.3"])?;
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}

/// H2OVL, whose code is `InternVL`'s around Danube.
pub(super) fn read_h2ovl(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_chat(f)?;
    draft.assumptions.push("read as InternVL's own form, which its code follows".to_owned());
    Ok(draft)
}

fn projector(f: &Fields, tower: &Tower, width: u64, [layer_norm, first, second]: [&str; 3]) -> Result<Component, ConfigError> {
    // The features are always those of one layer.
    f.touch("vision_feature_layer");
    let ratio = f.optional_number("downsample_ratio")?.unwrap_or(0.5);
    let merge = (1_u64..=64).rev().find(|&merge| f64::from(u32::try_from(merge).unwrap_or(1)) * ratio <= 1.0);
    let merge = merge.filter(|_| ratio > 0.0).ok_or_else(|| f.impossible("downsample_ratio", "it must be between 1/64 and 1"))?;
    let merged = tower.hidden().saturating_mul(merge * merge);
    let mut t = Tensors::default();
    norm(&mut t, layer_norm, merged, true);
    linear(&mut t, Role::Other, first, merged, width, true);
    linear(&mut t, Role::Other, second, width, width, true);
    Ok(component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new()))
}
