//! Unlimited-OCR as transformers 5.23 writes it: DeepSeek-OCR's two towers, side by side before one matrix, and its mixture with
//! Llama's attention. Its authors' own files are [`super::deepseek_vl`]'s.

use super::decoder::{Draft, Tensors};
use super::deepseek_ocr2::high_resolution;
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_of};
use super::towers::projector;
use super::vision::tower;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `UnlimitedOcrVisionEncoderConfig`: CLIP's large tower.
const ENCODER: &[(&str, u64)] =
    &[("hidden_size", 1024), ("intermediate_size", 4096), ("num_hidden_layers", 24), ("num_attention_heads", 16), ("image_size", 224), ("patch_size", 14)];

/// `UnlimitedOcrSamVisionConfig`, whose inner width follows from no ratio.
const SAM: &[(&str, u64)] =
    &[("hidden_size", 768), ("num_hidden_layers", 12), ("num_attention_heads", 12), ("mlp_dim", 3072), ("image_size", 1024), ("patch_size", 16)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    const AT: &str = "model.vision_tower.vision_encoder";
    let text = f.part(TEXT_CONFIGS)?;
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("unlimited_ocr_text") };
    let mut draft = language_of(f, &text, "unlimited_ocr_text".to_owned(), &wrapper)?;
    let out = draft.decoder.shape.hidden;
    // Authors' files have it beside the language model's object.
    if f.raw("sliding_window").or(text.raw("sliding_window")).is_some() {
        draft.assumptions.push("the prompt stays in the cache whole and only what is generated slides: its cache is counted without a window".to_owned());
    }
    let vision = f.part(&["vision_config"])?;
    vision.touch("model_type");
    let (high, outputs) = high_resolution(&vision.part(&["sam_config"])?.with_defaults(SAM), &[512, 1024])?;
    let encoder = vision.part(&["encoder_config"])?.with_defaults(ENCODER).with_text("model_type", "clip_vision_model");
    let mut second = tower(&encoder, "clip_vision_model")?;
    // It reads the other tower's features, and gives its own as they are.
    second.tensors.retain(|tensor| !["patch_embedding", "post_layernorm"].iter().any(|part| tensor.name.contains(part)));
    for tensor in &mut second.tensors {
        tensor.name = tensor.name.trim_start_matches("vision_model.").to_owned();
    }
    second.layers_at = second.layers_at.trim_start_matches("vision_model.").to_owned();
    let seen = second.hidden().saturating_add(outputs);
    let mut t = Tensors::default();
    t.linear("model.multi_modal_projector", seen, out, true);
    for name in ["model.view_separator", "model.image_newline"] {
        t.tensor(name, Role::Other, &[out]);
    }
    Ok(draft.with(high).with(second.below(AT).component("vision", ComponentKind::VisionTower)).with(projector(out, t.build())))
}
