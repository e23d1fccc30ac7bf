//! Kimi-VL and Kimi-K2.5: MoonViT beside a DeepSeek-V3 decoder. Their authors' files and transformers spell the tower's
//! sizes differently.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `Kimi_K25VisionConfig` of transformers 5.23, and `MoonViTConfig`.
const VISION: &[(&str, u64)] =
    &[("patch_size", 14), ("hidden_size", 1152), ("intermediate_size", 4304), ("num_hidden_layers", 27), ("num_attention_heads", 16), ("positions", 64)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "deepseek_v3", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.required_nested(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let either = |spelling: &str, key: &'static str| match vision.optional_count(spelling)? {
        Some(count) => Ok(count),
        None => vision.count(key),
    };
    let tower = TowerShape {
        hidden: either("vt_hidden_size", "hidden_size")?,
        layers: either("vt_num_hidden_layers", "num_hidden_layers")?,
        heads: either("vt_num_attention_heads", "num_attention_heads")?,
        intermediate: either("vt_intermediate_size", "intermediate_size")?,
        gated: false,
    };
    let tower = tower.checked(&vision, "num_hidden_layers", "num_attention_heads")?;
    let (hidden, intermediate, patch) = (tower.hidden, tower.intermediate, vision.count("patch_size")?);
    let position = |sizes: [&str; 2]| match sizes.map(|key| vision.optional_count(key)) {
        [Ok(Some(n)), _] | [Ok(None), Ok(Some(n))] => Ok(n),
        [Err(error), _] | [_, Err(error)] => Err(error),
        [Ok(None), Ok(None)] => vision.count("positions"),
    };
    let (height, width) = (position(["init_pos_emb_height", "pos_emb_height"])?, position(["init_pos_emb_width", "pos_emb_width"])?);
    let layer = Tensors::default()
        .norm("norm0", hidden, true)
        .norm("norm1", hidden, true)
        .linear("wqkv", hidden, hidden.saturating_mul(3), true)
        .linear("wo", hidden, hidden, true)
        .linear("mlp.fc0", hidden, intermediate, true)
        .linear("mlp.fc1", intermediate, hidden, true)
        .build();
    let tensors = Tensors::default()
        .convolution("vision_tower.patch_embed.proj", &[hidden, 3, patch, patch], true)
        .tensor("vision_tower.patch_embed.pos_emb.weight", Role::Position, &[height, width, hidden])
        .norm("vision_tower.encoder.final_layernorm", hidden, true)
        .build();
    let merge = vision.counts_or("merge_kernel_size", &[2, 2])?;
    let merged = merge.iter().fold(hidden, |width, side| width.saturating_mul(*side));
    let out = draft.decoder.shape.hidden;
    // Positions in time are computed; the rest says how videos are cut.
    for key in
        ["init_pos_emb_time", "pos_emb_time", "pos_emb_type", "merge_type", "video_attn_type", "mm_projector_type", "projector_hidden_act", "text_hidden_size"]
    {
        vision.touch(key);
    }
    for key in ["mm_hidden_size", "projector_ln_eps"] {
        vision.touch(key);
    }
    for key in ["projection_hidden_size", "projection_layer_norm_eps", "use_unified_vision_chunk", "video_placeholder"] {
        f.touch(key);
    }
    // Kimi-K2.5 names its projector `mm_projector`.
    let names = match f.model_type().as_str() {
        "kimi_vl" => ["multi_modal_projector.pre_norm", "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"],
        _ => ["mm_projector.pre_norm", "mm_projector.proj.0", "mm_projector.proj.2"],
    };
    let merger = Tensors::default().norm(names[0], hidden, true).linear(names[1], merged, merged, true).linear(names[2], merged, out, true).build();
    Ok(draft.with(vision_tower(hidden, "vision_tower.encoder.blocks", tensors, tower.layers(&layer))).with(projector(out, merger)))
}
