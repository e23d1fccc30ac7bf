//! DeepSeek-VL (SigLIP and a projector beside Llama's layers) and DeepSeek-VL2 (tiles, beside DeepSeek-V2's).

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{Tower, patches, projector, scaled, siglip, timm_tower};
use super::{ConfigError, Fields};
use crate::model::Role;

/// What DeepSeek-VL2's own code takes when the config is silent.
const VISION2: &[(&str, u64)] = &[("image_size", 384), ("patch_size", 16), ("width", 1024), ("layers", 24), ("heads", 16)];
const PROJECTOR2: &[(&str, u64)] = &[("input_dim", 1152), ("n_embed", 2048), ("depth", 2), ("mlp_ratio", 1), ("downsample_ratio", 2)];

/// Most matrices of a projector that are read.
const MAX_DEPTH: u64 = 64;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "llama", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.left_out("text_config"));
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.nested(&["vision_config"])?.unwrap_or_else(|| f.left_out("vision_config"));
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
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.left_out("text_config"));
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.nested(&["vision_config"])?.unwrap_or_else(|| f.left_out("vision_config"));
    let tower = siglip(&vision, "model.vision_model", "model.vision_model.encoder.layers")?;
    let high = f.nested(&["high_res_vision_config"])?.unwrap_or_else(|| f.left_out("high_res_vision_config"));
    let (wide, outputs) = (high.optional_count("hidden_size")?.unwrap_or(768), high.optional_count("output_channels")?.unwrap_or(256));
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

pub(super) fn read_v2(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "deepseek_v2", names: Names::Behind("language"), head: Head::Language, tie: Tie::Text };
    let text = f.required_nested(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    // Switches of its authors' training code.
    text.touch("lm_head");
    text.touch("rm_head");
    let vision = f.required_nested(&["vision_config"])?.with_defaults(VISION2);
    let hidden = vision.count("width")?;
    let tower = Tower {
        hidden,
        layers: vision.count("layers")?,
        heads: vision.count("heads")?,
        intermediate: scaled(&vision, "mlp_ratio", 4.0, hidden)?,
        gated: false,
    };
    let tower = timm_tower(tower.checked(&vision, "layers", "heads")?, patches(&vision)?, vision.count("patch_size")?, "vision", "vision.blocks");
    vision.touch("model_name");

    let plan = f.nested(&["projector_config"])?.unwrap_or_else(|| f.left_out("projector_config")).with_defaults(PROJECTOR2);
    let (inputs, width, depth) = (plan.count("input_dim")?, plan.count("n_embed")?, plan.count("depth")?);
    if !(2..=MAX_DEPTH).contains(&depth) {
        return Err(plan.impossible("depth", "it must be from 2 to 64"));
    }
    let inner = width.saturating_mul(plan.count("mlp_ratio")?);
    let ratio = plan.count("downsample_ratio")?;
    let kind = plan.optional_text("projector_type")?.unwrap_or_else(|| "downsample_mlp_gelu".to_owned());
    let sizes: Vec<[u64; 2]> = match kind.as_str() {
        "downsample_mlp_gelu" => {
            let first = inputs.saturating_mul(ratio).saturating_mul(ratio);
            let between = std::iter::repeat_n([inner, inner], usize::try_from(depth - 2).unwrap_or(0));
            std::iter::once([first, inner]).chain(between).chain([[inner, width]]).collect()
        }
        "mlp_gelu" => std::iter::once([inputs, width]).chain(std::iter::repeat_n([width, width], usize::try_from(depth - 1).unwrap_or(0))).collect(),
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
