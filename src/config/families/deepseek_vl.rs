//! DeepSeek-VL (SigLIP and a projector beside Llama's layers), DeepSeek-VL2 (tiles, beside DeepSeek-V2's) and DeepSeek-OCR (two towers).

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, patches, projector, scaled, siglip, timm_tower, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Role};

/// What DeepSeek-VL2's own code takes when the config is silent.
const VISION2: &[(&str, u64)] = &[("image_size", 384), ("patch_size", 16), ("width", 1024), ("layers", 24), ("heads", 16)];
const PROJECTOR2: &[(&str, u64)] = &[("input_dim", 1152), ("n_embed", 2048), ("depth", 2), ("mlp_ratio", 1), ("downsample_ratio", 2)];

/// Most matrices of a projector that are read.
const MAX_DEPTH: u64 = 64;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "llama", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?;
    let tower = siglip(&vision, "model.vision_model", "model.vision_model.encoder.layers")?;
    let hidden = draft.decoder.shape.hidden;
    let aligner =
        Tensors::default().linear("model.aligner.linear1", tower.hidden_size, hidden, true).linear("model.aligner.linear2", hidden, hidden, true).build();
    Ok(draft.with(tower).with(projector(hidden, aligner)))
}

/// DeepSeek-VL with a second tower for large images, SAM's, whose features are narrowed once before and once after they are enlarged.
pub(super) fn read_hybrid(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "llama", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: true } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?;
    let tower = siglip(&vision, "model.vision_model", "model.vision_model.encoder.layers")?;
    let high = f.part(&["high_res_vision_config"])?;
    let (wide, outputs) = (high.count_or("hidden_size", 768)?, high.count_or("output_channels", 256)?);
    let high = super::sam::tower(&high)?.below("model.high_res_vision_model.vision_encoder");
    let hidden = draft.decoder.shape.hidden;
    let (half, twice, four) = (hidden / 2, outputs.saturating_mul(2), outputs.saturating_mul(4));
    let aligner = Tensors::default()
        .convolution("model.high_res_vision_neck.conv1", &[outputs, wide, 1, 1], false)
        .norm("model.high_res_vision_neck.layer_norm1", outputs, true)
        .convolution("model.high_res_vision_neck.conv2", &[outputs, outputs, 3, 3], false)
        .norm("model.high_res_vision_neck.layer_norm2", outputs, true)
        .convolution("model.high_res_vision_proj.conv1", &[twice, outputs, 3, 3], false)
        .convolution("model.high_res_vision_proj.conv2", &[four, twice, 3, 3], false)
        .tensor("model.high_res_vision_alpha", Role::Other, &[1])
        .linear("model.aligner.vision_proj", tower.hidden_size, half, true)
        .linear("model.aligner.high_res_vision_proj", four, half, true)
        .linear("model.aligner.proj", hidden, hidden, true)
        .build();
    let high = high.component("high_resolution_vision", crate::model::ComponentKind::VisionTower);
    Ok(draft.with(tower).with(high).with(projector(hidden, aligner)))
}

/// DeepSeek-OCR, under the name of DeepSeek-VL2: SAM's tower and, over its features, CLIP's; one matrix to the language model. Its files
/// name both towers; their shapes are in its code.
fn read_ocr(f: &Fields, draft: Draft, vision: &Fields, parts: &Fields) -> Result<Draft, ConfigError> {
    for key in ["image_size", "mlp_ratio", "model_name", "model_type"] {
        vision.touch(key);
    }
    let sam = parts.part(&["sam_vit_b"])?;
    let (width, layers, heads) = (sam.count_or("width", 768)?, sam.count_or("layers", 12)?, sam.count_or("heads", 12)?);
    let high = sam.with_derived("hidden_size", width).with_derived("num_hidden_layers", layers).with_derived("num_attention_heads", heads);
    // In its code.
    let high = high.with_derived("image_size", 1024).with_derived("patch_size", 16);
    let high = super::sam::tower(&high)?.below("model.sam_model");
    let down = sam.counts_or("downsample_channels", &[512, 1024])?;
    let plan = f.part(&["projector_config"])?;
    for key in ["projector_type", "model_type"] {
        plan.touch(key);
    }
    for key in ["tile_tag", "global_view_pos", "candidate_resolutions"] {
        f.touch(key);
    }
    let (inputs, out) = (plan.count_or("input_dim", 2048)?, plan.count_or("n_embed", 1280)?);
    let mut t = Tensors::default();
    // SAM's neck gives 256 channels; two convolutions halve its sides.
    let mut channels = 256;
    for (number, &wider) in down.iter().enumerate() {
        t.convolution(&format!("model.sam_model.net_{}", number + 2), &[wider, channels, 3, 3], false);
        channels = wider;
    }
    t.linear("model.projector.layers", inputs, out, true).tensor("model.view_seperator", Role::Other, &[out]);
    let high = high.component("high_resolution_vision", ComponentKind::VisionTower);
    let second = match (parts.nested(&["clip-l-14-224"])?, parts.nested(&["qwen2-0-5b"])?) {
        (Some(clip), _) => {
            t.tensor("model.image_newline", Role::Other, &[out]);
            ocr_clip(&clip)?
        }
        (None, Some(small)) => ocr_queries(&small)?,
        (None, None) => return Err(vision.impossible("width", "only the towers `clip-l-14-224` and `qwen2-0-5b` behind SAM's are known")),
    };
    Ok(draft.with(high).with(second).with(projector(out, t.build())))
}

/// The second tower of the first DeepSeek-OCR: CLIP's over SAM's features.
fn ocr_clip(clip: &Fields) -> Result<Component, ConfigError> {
    let number = |part: &Fields, key: &str, default: u64| part.count_or(key, default);
    let (seen, depth, heads) = (number(clip, "width", 1024)?, number(clip, "layers", 24)?, number(clip, "heads", 16)?);
    let (side, patch) = (number(clip, "image_size", 224)?, number(clip, "patch_size", 14)?);
    let inner = seen.saturating_mul(4);
    let tower = TowerShape { hidden: seen, layers: depth, heads, intermediate: inner, gated: false }.checked(clip, "layers", "heads")?;
    let layer = Tensors::default()
        .linear("self_attn.qkv_proj", seen, seen.saturating_mul(3), true)
        .linear("self_attn.out_proj", seen, seen, true)
        .linear("mlp.fc1", seen, inner, true)
        .linear("mlp.fc2", inner, seen, true)
        .norm("layer_norm1", seen, true)
        .norm("layer_norm2", seen, true)
        .build();
    let at = |leaf: &str| format!("model.vision_model.{leaf}");
    let places = (side / patch).saturating_mul(side / patch).saturating_add(1);
    let outside = Tensors::default()
        .tensor(&at("embeddings.class_embedding"), Role::Other, &[seen])
        .convolution(&at("embeddings.patch_embedding"), &[seen, 3, patch, patch], false)
        .tensor(&at("embeddings.position_embedding.weight"), Role::Position, &[places, seen])
        .norm(&at("pre_layrnorm"), seen, true)
        .build();
    Ok(vision_tower(seen, "model.vision_model.transformer.layers", outside, tower.layers(&layer)))
}

/// Queries of DeepSeek-OCR 2, for images of 768 and of 1024 pixels a side.
const QUERIES: [(u64, u64); 2] = [(768, 144), (1024, 256)];

/// The second tower of DeepSeek-OCR 2: the layers of Qwen2 0.5B over SAM's features and learned queries. Its sizes stand in its code.
fn ocr_queries(f: &Fields) -> Result<Component, ConfigError> {
    let hidden = f.count_or("dim", 896)?;
    let tower = TowerShape { hidden, layers: 24, heads: 14, intermediate: 4864, gated: true }.checked(f, "dim", "dim")?;
    let keys = (hidden / tower.heads).saturating_mul(2);
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, hidden, true)
        .linear("self_attn.k_proj", hidden, keys, true)
        .linear("self_attn.v_proj", hidden, keys, true)
        .linear("self_attn.o_proj", hidden, hidden, false)
        .gated_mlp(hidden, tower.intermediate, false)
        .norms(super::decoder::LLAMA_NORMS, hidden)
        .build();
    let mut outside = Tensors::default();
    outside.norm("model.qwen2_model.model.model.norm", hidden, false);
    for (side, queries) in QUERIES {
        outside.tensor(&format!("model.qwen2_model.query_{side}.weight"), Role::Other, &[queries, hidden]);
    }
    Ok(vision_tower(hidden, "model.qwen2_model.model.model.layers", outside.build(), tower.layers(&layer)))
}

pub(super) fn read_v2(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "deepseek_v2", names: Names::Behind("language"), head: Head::Language, tie: Tie::Text };
    let text = f.required_nested(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    // Switches of its authors' training code.
    text.touch("lm_head");
    text.touch("rm_head");
    let vision = f.required_nested(&["vision_config"])?;
    if let Some(parts) = vision.nested(&["width"]).ok().flatten() {
        return read_ocr(f, draft, &vision, &parts);
    }
    let vision = vision.with_defaults(VISION2);
    let hidden = vision.count("width")?;
    let tower = TowerShape {
        hidden,
        layers: vision.count("layers")?,
        heads: vision.count("heads")?,
        intermediate: scaled(&vision, "mlp_ratio", 4.0, hidden)?,
        gated: false,
    };
    let tower = timm_tower(tower.checked(&vision, "layers", "heads")?, patches(&vision)?, vision.count("patch_size")?, "vision", "vision.blocks");
    vision.touch("model_name");

    let plan = f.part(&["projector_config"])?.with_defaults(PROJECTOR2);
    let (inputs, width) = (plan.count("input_dim")?, plan.count("n_embed")?);
    let depth = || match plan.count("depth")? {
        depth if (2..=MAX_DEPTH).contains(&depth) => Ok(usize::try_from(depth).unwrap_or(0)),
        _ => Err(plan.impossible("depth", "it must be from 2 to 64")),
    };
    let kind = plan.optional_text("projector_type")?.unwrap_or_else(|| "downsample_mlp_gelu".to_owned());
    let sizes: Vec<[u64; 2]> = match kind.as_str() {
        "downsample_mlp_gelu" => {
            let (inner, ratio) = (width.saturating_mul(plan.count("mlp_ratio")?), plan.count("downsample_ratio")?);
            let first = inputs.saturating_mul(ratio).saturating_mul(ratio);
            let between = std::iter::repeat_n([inner, inner], depth()? - 2);
            std::iter::once([first, inner]).chain(between).chain([[inner, width]]).collect()
        }
        "mlp_gelu" => std::iter::once([inputs, width]).chain(std::iter::repeat_n([width, width], depth()? - 1)).collect(),
        "linear" => vec![[inputs, width]],
        "identity" => Vec::new(),
        _ => return Err(plan.impossible("projector_type", "this projector is not known here")),
    };
    let mut tensors = Tensors::default();
    for (number, [inputs, outputs]) in sizes.into_iter().enumerate() {
        tensors.linear(&format!("projector.layers.{}", 2 * number), inputs, outputs, true);
    }
    match f.optional_text("tile_tag")?.as_deref() {
        None | Some("2D") => _ = tensors.tensor("image_newline", Role::Other, &[width]).tensor("view_seperator", Role::Other, &[width]),
        Some("1D") => {
            let tiles = f.raw("candidate_resolutions").and_then(|list| list.as_array()).map_or(1, Vec::len) as u64;
            tensors.tensor("tile_indicators", Role::Other, &[tiles + 1, width]);
        }
        Some(_) => return Err(f.impossible("tile_tag", "it must be 1D or 2D")),
    }
    f.touch("candidate_resolutions");
    f.touch("global_view_pos");
    Ok(draft.with(tower).with(projector(width, tensors.build())))
}

#[cfg(test)]
mod tests {
    /// DeepSeek-OCR.
    #[test]
    fn published_count() {
        let text = r#"{"hidden_size": 1280, "intermediate_size": 6848, "moe_intermediate_size": 896, "num_hidden_layers": 12, "num_attention_heads": 10,
            "num_key_value_heads": 10, "vocab_size": 129280, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
            "use_mla": false, "q_lora_rank": null, "kv_lora_rank": null, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "topk_method": "greedy"}"#;
        let sam = r#"{"downsample_channels": [512, 1024], "global_attn_indexes": [2, 5, 8, 11], "heads": 12, "layers": 12, "width": 768}"#;
        let clip = r#"{"heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024}"#;
        let config = format!(
            r#"{{"model_type": "deepseek_vl_v2", "language_config": {text}, "projector_config": {{"input_dim": 2048, "n_embed": 1280, "projector_type": "linear"}},
                "vision_config": {{"image_size": 1024, "model_name": "deeplip_b_l", "width": {{"clip-l-14-224": {clip}, "sam_vit_b": {sam}}}}}}}"#
        );
        assert_eq!(crate::config::read(&config).unwrap().parameters().unwrap().get(), 3_336_106_240);
        // DeepSeek-OCR 2: Qwen2's layers in the place of CLIP's.
        let second =
            config.replace(&format!(r#""clip-l-14-224": {clip}"#), r#""qwen2-0-5b": {"dim": 896}"#).replace("[512, 1024]", "[512, 896]").replace("2048", "896");
        assert_eq!(crate::config::read(&second).unwrap().parameters().unwrap().get(), 3_389_119_360);
        assert!(crate::config::read(&config.replace("clip-l-14-224", "another")).is_err());
    }
}
