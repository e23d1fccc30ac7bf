//! Nemotron 3 Omni as transformers 5.23 builds it: Nemotron-H behind RADIO's tower and, where the config has one, Parakeet's ear; each
//! joined by a norm and two matrices.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_of};
use super::towers::{projector, scaled};
use super::vision::{CLIP, Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `RadioConfig`.
const RADIO: &[(&str, u64)] = &[
    ("hidden_size", 1280),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("patch_size", 16),
    ("max_img_size", 2048),
    ("num_cls_tokens", 3),
    ("num_registers", 7),
];

const LAYER: Style = Style {
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    output: "attention.o_proj",
    norms: &["norm1", "norm2"],
    scales: &["layer_scale1.lambda1", "layer_scale2.lambda1"],
    ..CLIP
};

/// RADIO's tower: patches of images and of packed frames, places for the largest image.
fn radio(f: &Fields, frames: Option<u64>) -> Result<Tower, ConfigError> {
    let f = f.with_defaults(RADIO);
    let hidden = f.count("hidden_size")?;
    let wide = scaled(&f, "mlp_ratio", 4.0, hidden)?;
    // With a gate, two thirds of the width, up to a multiple of eight (`RadioSwiGLUFFN`).
    let is_gated = f.flag("use_swiglu_ffn", false)?;
    let e = Encoder::read_with(&f, if is_gated { (wide.saturating_mul(2) / 3).div_ceil(8) * 8 } else { wide })?;
    let patch = f.count("patch_size")?;
    let side = f.count("max_img_size")? / patch;
    if side == 0 {
        return Err(f.impossible("max_img_size", "it must be at least `patch_size`"));
    }
    for key in ["model_type", "image_size", "summary_idxs", "norm_mean", "norm_std", "layerscale_value", "patch_dim", "video_patch_dim"] {
        f.touch(key);
    }
    // The authors' own form names a tower of timm's.
    let named = f.raw("args").and_then(|args| args.get("model")).and_then(serde_json::Value::as_str);
    if named.is_some_and(|name| !name.starts_with("vit_huge_patch16")) && !f.has("hidden_size") {
        return Err(f.impossible("args", "its `model` must be `vit_huge_patch16`, or the sizes must stand beside it"));
    }
    let pixels = f.count("num_channels")?.saturating_mul(patch).saturating_mul(patch);
    let mut t = Tensors::default();
    t.tensor("embeddings.position_embedding", Role::Position, &[1, side.saturating_mul(side), hidden]).tensor(
        "embeddings.cls_register_token",
        Role::Other,
        &[f.count("num_cls_tokens")?.saturating_add(f.optional_count_or_zero("num_registers")?.unwrap_or(7)), hidden],
    );
    linear(&mut t, Role::Other, "embeddings.patch_projection", pixels, hidden, false);
    if let Some(frames) = f.optional_count("video_temporal_patch_size")?.or(frames.filter(|_| !f.has("video_temporal_patch_size"))) {
        linear(&mut t, Role::Other, "embeddings.video_patch_projection", pixels.saturating_mul(frames), hidden, false);
    }
    let bias = f.flag("qkv_bias", true)?;
    let style = if is_gated { Style { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj", ..LAYER } } else { LAYER };
    let style = Style { qkv_bias: [bias; 3], ..style };
    Ok(Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) })
}

/// RADIO alone.
pub(super) fn read_radio(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    Ok(radio(f, None)?.draft(ComponentKind::VisionTower, "", 0))
}

/// A norm and two matrices.
fn join(t: &mut Tensors, at: &str, sizes: [u64; 3], bias: bool) {
    let [inputs, between, outputs] = sizes;
    norm(t, &format!("{at}.layer_norm"), inputs, false);
    linear(t, Role::Other, &format!("{at}.linear_1"), inputs, between, bias);
    linear(t, Role::Other, &format!("{at}.linear_2"), between, outputs, bias);
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("vision_hidden_size", "vit_hidden_size");
    let text = f.part(TEXT_CONFIGS)?;
    text.touch("model_type");
    let wrapper = Wrapper { names: Names::Behind("language_model"), head: Head::Language, tie: Tie::Text, ..Wrapper::new("nemotron_h") };
    let mut draft = language_of(f, &text, "nemotron_h".to_owned(), &wrapper)?;
    let out = draft.decoder.shape.hidden;
    let predicts = text.optional_count_or_zero("num_nextn_predict_layers")?.is_some_and(|layers| layers > 0);
    let tower = radio(&f.part(&["vision_config"])?, Some(f.count_or("video_temporal_patch_size", 2)?))?;
    let seen = f.count_or("vision_hidden_size", 1280)?;
    // `int(1 / ratio)` of the class: patches side by side in each direction.
    let merged = match f.optional_number("downsample_ratio")?.unwrap_or(0.5) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 1 to 64
        ratio if (1.0 / 64.0..=1.0).contains(&ratio) => (1.0 / ratio) as u64,
        _ => return Err(f.impossible("downsample_ratio", "it must be from 1/64 to 1")),
    };
    let between = f.count_or("projector_hidden_size", 4096)?;
    let mut t = Tensors::default();
    if predicts {
        norm(&mut t, "vision_final_layernorm", seen, true);
    }
    join(&mut t, "multi_modal_projector", [seen.saturating_mul(merged * merged), between, out], false);
    if let Some(audio) = f.nested(&["audio_config", "sound_config"])? {
        // The published files say nothing of biases and have none.
        let audio = if audio.has("attention_bias") { audio } else { audio.with_values(r#"{"attention_bias": false}"#) };
        let ear = super::parakeet::encoder_inside(&audio, "audio_tower", "audio_tower.layers")?;
        let bias = audio.flag("projection_bias", false)?;
        join(&mut t, "embed_audio", [ear.hidden_size, audio.count("projection_hidden_size")?, out], bias);
        draft = draft.with(ear);
    }
    for key in ["force_image_size", "video_pruning_rate"] {
        f.touch(key);
    }
    Ok(draft.with(tower.below("vision_model").component("vision", ComponentKind::VisionTower)).with(projector(out, t.build())))
}
