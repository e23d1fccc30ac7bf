//! `LLaVA` and its kin: a CLIP-like tower and a projector of two matrices before any language model. The first `LLaVA` files
//! (`mm_vision_tower` instead of `vision_config`) are a language model with a projector; their tower is another file's.

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Tie, Wrapper, feature_layers, language, vision, with_projector};
use super::vision::{Tower, linear, norm};
use super::{ConfigError, Fields, family_of};
use crate::model::{ComponentKind, Role};

const CLIP: &str = "clip_vision_model";

/// Languages of the first files by what their class begins with, where it is not Llama's; the longer names first.
const LANGUAGES: &[(&str, &str)] =
    &[("LlavaQwen3", "qwen3"), ("LlavaQwen", "qwen2"), ("LlavaMistral", "mistral"), ("LlavaMixtral", "mixtral"), ("LlavaGemma", "gemma")];

/// `LLaVA` 1.5.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if !f.has("vision_config") && f.has("mm_vision_tower") {
        let class = f.architecture()?.unwrap_or_default();
        let language = LANGUAGES.iter().find(|(begin, _)| class.starts_with(begin)).map_or("llama", |(_, language)| language);
        return read_first(f, language);
    }
    Ok(two_matrices(f, &wrapper("llama", Tie::Either), CLIP)?.0)
}

/// `LLaVA` 1.6 (`NeXT`): the same with a vector that ends image rows.
pub(super) fn read_next(f: &Fields) -> Result<Draft, ConfigError> {
    with_newline(f, &wrapper("llama", Tie::Wrapper { default: false }), CLIP)
}

/// Its video model.
pub(super) fn read_next_video(f: &Fields) -> Result<Draft, ConfigError> {
    with_newline(f, &wrapper("llama", Tie::Either), CLIP)
}

/// LLaVA-OneVision.
pub(super) fn read_onevision(f: &Fields) -> Result<Draft, ConfigError> {
    with_newline(f, &wrapper("qwen2", Tie::Either), "siglip_vision_model")
}

/// Video-LLaVA: one tower for images, one for videos.
pub(super) fn read_video(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = language(f, &wrapper("llama", Tie::Wrapper { default: false }))?;
    let width = draft.decoder.shape.hidden;
    let image = vision(f, CLIP)?.below("image_tower");
    let video = vision(f, CLIP)?.below("video_tower");
    let projector = projector(f, &image, width)?;
    draft.others.extend([image.component("vision", ComponentKind::VisionTower), video.component("video", ComponentKind::VisionTower)]);
    draft.others.push(component("projector", ComponentKind::Projector, width, "", projector, Vec::new()));
    Ok(draft)
}

/// `ViP-LLaVA`: a norm over the features of several layers of the tower, side by side.
pub(super) fn read_vip(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &wrapper("llama", Tie::Wrapper { default: false }))?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, CLIP)?.below("vision_tower");
    let inputs = tower.hidden().saturating_mul(feature_layers(f, 5)?);
    let mut t = Tensors::default();
    norm(&mut t, "multi_modal_projector.projector_layernorm", inputs, true);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_1", inputs, width, true);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_2", width, width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}

/// The first files, whose language model the type names.
pub(super) fn read_first_mistral(f: &Fields) -> Result<Draft, ConfigError> {
    read_first(f, "mistral")
}

/// The same on Qwen2.
pub(super) fn read_first_qwen(f: &Fields) -> Result<Draft, ConfigError> {
    read_first(f, "qwen2")
}

const fn wrapper(default_type: &'static str, tie: Tie) -> Wrapper {
    Wrapper { tie, ..Wrapper::new(default_type) }
}

fn two_matrices(f: &Fields, wrapper: &Wrapper, tower: &str) -> Result<(Draft, u64), ConfigError> {
    let draft = language(f, wrapper)?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, tower)?.below("vision_tower");
    let projector = projector(f, &tower, width)?;
    let draft = draft.with(tower.component("vision", ComponentKind::VisionTower));
    Ok((draft.with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new())), width))
}

fn with_newline(f: &Fields, wrapper: &Wrapper, tower: &str) -> Result<Draft, ConfigError> {
    let (mut draft, width) = two_matrices(f, wrapper, tower)?;
    if let Some(projector) = draft.others.last_mut() {
        projector.tensors.extend(Tensors::default().tensor("image_newline", Role::Other, &[width]).build());
    }
    Ok(draft)
}

fn projector(f: &Fields, tower: &Tower, width: u64) -> Result<Vec<crate::model::Tensor>, ConfigError> {
    let bias = f.flag("multimodal_projector_bias", true)?;
    let inputs = tower.hidden().saturating_mul(feature_layers(f, 1)?);
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "multi_modal_projector.linear_1", inputs, width, bias);
    linear(&mut t, Role::Other, "multi_modal_projector.linear_2", width, width, bias);
    Ok(t.build())
}

/// `mm_projector_type`: `linear`, `mlpNx_gelu` (N matrices) or `identity`; the tower is loaded from `mm_vision_tower`.
fn read_first(f: &Fields, text: &'static str) -> Result<Draft, ConfigError> {
    let family = family_of(text).ok_or(ConfigError::NoType)?;
    let mut draft = (family.read)(f)?;
    let width = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    if f.optional_text("mm_resampler_type")?.is_some() {
        return Err(f.impossible("mm_resampler_type", "a resampler before the projector is not understood"));
    }
    if let Some(tower) = f.optional_text("mm_vision_tower")? {
        let kind = f.optional_text("mm_projector_type")?.unwrap_or_else(|| "linear".to_owned());
        let inputs = f.count("mm_hidden_size")?;
        let depth = kind.strip_prefix("mlp").and_then(|rest| rest.strip_suffix("x_gelu")).and_then(|n| n.parse::<u64>().ok());
        match (kind.as_str(), depth) {
            ("linear", _) => linear(&mut t, Role::Other, "model.mm_projector", inputs, width, true),
            ("identity", _) => {}
            (_, Some(depth @ 1..=16)) => {
                linear(&mut t, Role::Other, "model.mm_projector.0", inputs, width, true);
                for number in 1..depth {
                    linear(&mut t, Role::Other, &format!("model.mm_projector.{}", 2 * number), width, width, true);
                }
            }
            _ => return Err(f.impossible("mm_projector_type", "it must be `linear`, `identity` or `mlpNx_gelu`")),
        }
        if f.optional_text("mm_patch_merge_type")?.is_some_and(|kind| kind.contains("unpad")) {
            t.tensor("model.image_newline", Role::Other, &[width]);
        }
        draft.assumptions.push(format!("the vision tower `{tower}` is loaded from its own repository and is not counted here"));
    }
    Ok(draft.with(component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_class_of_the_first_files_names_their_language() {
        let read = |class: &str| {
            let config = format!(
                r#"{{"model_type": "llava", "architectures": ["{class}"], "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true, "mm_hidden_size": 1152,
                    "mm_projector_type": "mlp2x_gelu", "mm_vision_tower": "google/siglip-so400m-patch14-384"}}"#
            );
            let anatomy = crate::config::read(&config).unwrap();
            assert!(anatomy.assumptions.iter().all(|line| line.contains("siglip")), "{:?}", anatomy.assumptions);
            anatomy.parameters().unwrap().get()
        };
        // Qwen2-0.5B and two matrices.
        let projector = 1152 * 896 + 896 + 896 * 896 + 896;
        assert_eq!(read("LlavaQwenForCausalLM"), 494_032_768 + projector);
        // Llama has no biases on queries, keys and values.
        assert_eq!(read("LlavaLlamaForCausalLM"), 494_032_768 - 24 * (896 + 2 * 128) + projector);
    }
}
