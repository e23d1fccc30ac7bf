//! MiniCPM-V 4.6 and 4.7, and the OCR model of the same make: SigLIP's layers, between which windows of four patches become one;
//! four of these are put together once more before Qwen3.5.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in, with_projector};
use super::towers::SIGLIP_DEFAULTS;
use super::vision::{CLIP, Encoder, Patches, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, false)
}

pub(super) fn read_ocr(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, true)
}

fn read_with(f: &Fields, tied: bool) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: tied }, ..Wrapper::new("qwen3_5_text") };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    // How images are cut, and after which layer windows are merged.
    for key in ["downsample_mode", "image_size", "insert_layer_id", "patch_size", "slice_mode", "slice_config", "newline_id"] {
        f.touch(key);
    }
    let v = f.part(&["vision_config"])?.with_defaults(SIGLIP_DEFAULTS);
    for key in ["insert_layer_id", "model_type"] {
        v.touch(key);
    }
    let mut e = Encoder::read(&v)?;
    let patches = Patches::read(&v)?;
    if f.flag("drop_vision_last_layer", false)? {
        e.layers = e.layers.saturating_sub(1);
    }
    let window = match v.optional_counts("window_kernel_size")?.as_deref() {
        None => 4,
        Some([height, breadth]) if (1..=64).contains(height) && (1..=64).contains(breadth) => height * breadth,
        Some(_) => return Err(v.impossible("window_kernel_size", "it must be two sizes from 1 to 64")),
    };
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.embedding("embeddings.position_embedding", patches.number, e.hidden);
    norm(&mut t, "post_layernorm", e.hidden, true);
    let (inputs, inner) = (e.hidden.saturating_mul(window), e.intermediate.saturating_mul(window));
    for (leaf, role) in [("q_proj", Role::Query), ("k_proj", Role::Key), ("v_proj", Role::Value), ("out_proj", Role::AttentionOutput)] {
        linear(&mut t, role, &format!("vit_merger.self_attn.{leaf}"), e.hidden, e.hidden, true);
    }
    norm(&mut t, "vit_merger.layer_norm1", e.hidden, true);
    norm(&mut t, "vit_merger.pre_norm", inputs, true);
    linear(&mut t, Role::Other, "vit_merger.linear_1", inputs, inner, true);
    linear(&mut t, Role::Other, "vit_merger.linear_2", inner, e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) }.below("model.vision_tower");

    f.touch("merge_kernel_size");
    let times = f.count_or("merger_times", 1)?;
    if times > 64 {
        return Err(f.impossible("merger_times", "it must be at most 64"));
    }
    let merged = e.hidden.saturating_mul(4);
    let mut t = Tensors::default();
    for number in 0..times {
        let (at, out) = (format!("model.merger.mlp.{number}"), if number + 1 == times { width } else { e.hidden });
        norm(&mut t, &format!("{at}.pre_norm"), merged, true);
        linear(&mut t, Role::Other, &format!("{at}.linear_1"), merged, merged, true);
        linear(&mut t, Role::Other, &format!("{at}.linear_2"), merged, out, true);
    }
    Ok(with_projector(draft, tower, width, t.build()))
}
