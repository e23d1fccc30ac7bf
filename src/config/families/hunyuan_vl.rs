//! Hunyuan-VL (`HunyuanOCR`): a `SigLIP`-like tower with positions up to the largest image, a merger of convolutions, Hunyuan's dense decoder.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_of};
use super::towers::{TowerShape, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `HunYuanVLVisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("num_hidden_layers", 27),
    ("patch_size", 16),
    ("spatial_merge_size", 2),
    ("max_image_size", 2048),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper {
        default_type: "hunyuan_v1_dense",
        names: Names::Inside("model.language_model"),
        head: Head::ByArchitecture,
        tie: Tie::Wrapper { default: true },
    };
    // The published files hold the language model's fields beside the tower's object.
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.with_defaults(&[]));
    let draft = language_of(f, &text, "hunyuan_v1_dense".to_owned(), &wrapper)?;
    text.touch("model_type");
    let out = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(VISION);
    let tower = TowerShape::read(&v, TowerShape::KEYS)?;
    let (hidden, inner) = (tower.hidden, tower.intermediate);
    let mut layer = Tensors::default();
    for leaf in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        layer.linear(&format!("self_attn.{leaf}"), hidden, hidden, true);
    }
    layer.norm("layer_norm1", hidden, true).norm("layer_norm2", hidden, true).linear("mlp.fc1", hidden, inner, true).linear("mlp.fc2", inner, hidden, true);
    let (patch, channels, merge) = (v.count("patch_size")?, v.count("num_channels")?, v.count("spatial_merge_size")?);
    let side = v.count("max_image_size")? / patch;
    let positions = side.saturating_mul(side).saturating_add(1);
    let outside = Tensors::default()
        .convolution("model.visual.embeddings.patch_embedding", &[hidden, channels, patch, patch], true)
        .tensor("model.visual.embeddings.position_embedding.weight", Role::Position, &[positions, hidden])
        .build();
    let (twice, four) = (hidden.saturating_mul(2), hidden.saturating_mul(4));
    let merger = Tensors::default()
        .convolution("model.visual.perceive.proj_conv", &[twice, hidden, merge, merge], true)
        .convolution("model.visual.perceive.proj_out", &[four, twice, 1, 1], true)
        .linear("model.visual.perceive.mlp", four, out, true)
        .tensor("model.visual.perceive.image_newline", Role::Other, &[four])
        .tensor("model.visual.perceive.image_begin", Role::Other, &[out])
        .tensor("model.visual.perceive.image_end", Role::Other, &[out])
        .tensor("model.visual.perceive.image_sep", Role::Other, &[out])
        .norm("model.visual.perceive.before_rms", hidden, false)
        .norm("model.visual.perceive.after_rms", out, false)
        .build();
    // Copies of the decoder's width, and how images are cut.
    for key in [
        "text_hidden_size",
        "out_hidden_size",
        "num_key_value_heads",
        "temporal_patch_size",
        "img_max_token_num",
        "min_image_size",
        "max_vit_seq_len",
        "interpolate_mode",
    ] {
        v.touch(key);
    }
    Ok(draft.with(vision_tower(hidden, "model.visual.layers", outside, tower.layers(&layer.build()))).with(projector(out, merger)))
}
