//! ERNIE-4.5-VL: text and images have experts of their own in each sparse layer, and share some; a tower and a resampler
//! over space and time. The authors' form (`ernie4_5_moe_vl`) keeps the language model's fields beside the tower's.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, fused_attention, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

/// `Ernie4_5_VLMoeTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 103_424),
    ("hidden_size", 2560),
    ("intermediate_size", 12_288),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 20),
    ("num_key_value_heads", 4),
    ("moe_k", 6),
    ("moe_num_shared_experts", 2),
    ("moe_layer_interval", 1),
];

/// `Ernie4_5_VLMoeVisionConfig`.
const VISION: &[(&str, u64)] =
    &[("depth", 32), ("hidden_size", 1280), ("num_heads", 16), ("in_channels", 3), ("patch_size", 14), ("spatial_merge_size", 2), ("temporal_merge_size", 2)];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let bias = f.flag("use_bias", false)?;
    let intermediate = f.count("intermediate_size")?;
    let pair = |key: &'static str, default: u64| {
        if !f.raw(key).is_some_and(serde_json::Value::is_array) {
            return f.optional_count(key).map(|count| [count.unwrap_or(default); 2]);
        }
        match f.optional_counts(key)?.as_deref() {
            Some(&[text, image]) if text > 0 && image > 0 => Ok([text, image]),
            _ => Err(f.impossible(key, "it must be a pair: for text and for images")),
        }
    };
    let experts = pair("moe_num_experts", 64)?;
    let widths = if f.raw("moe_intermediate_size").is_none() { [1536, 512] } else { pair("moe_intermediate_size", 0)? };
    let active = f.count("moe_k")?;
    if active > experts[0] {
        return Err(f.impossible("moe_k", "it cannot be more than the number of experts"));
    }
    let shared = f.optional_count_or_zero("moe_num_shared_experts")?.unwrap_or(0).saturating_mul(widths[0]);
    let sparse = sparse_layers(&f, &shape)?;
    let layers = (0..shape.layers).zip(sparse).map(|(_, is_sparse)| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias).norms(LLAMA_NORMS, shape.hidden);
        let feed_forward = if is_sparse {
            for (kind, count, width) in [("text_moe", experts[0], widths[0]), ("vision_moe", experts[1], widths[1])] {
                tensors
                    .linear(&format!("mlp.{kind}.gate"), shape.hidden, count, false)
                    // A parameter here, a buffer in most families.
                    .tensor(&format!("mlp.{kind}.gate.moe_statics.e_score_correction_bias"), Role::Other, &[1, count])
                    .experts(&format!("mlp.{kind}.experts.{{}}.gate_proj"), count, shape.hidden, width)
                    .experts(&format!("mlp.{kind}.experts.{{}}.up_proj"), count, shape.hidden, width)
                    .experts(&format!("mlp.{kind}.experts.{{}}.down_proj"), count, width, shape.hidden);
            }
            if shared > 0 {
                tensors
                    .linear("mlp.shared_experts.gate_proj", shape.hidden, shared, bias)
                    .linear("mlp.shared_experts.up_proj", shape.hidden, shared, bias)
                    .linear("mlp.shared_experts.down_proj", shared, shape.hidden, bias);
            }
            FeedForward::MixtureOfExperts { experts: experts[0], active, intermediate: widths[0], shared }
        } else {
            tensors.gated_mlp(shape.hidden, intermediate, bias);
            FeedForward::Dense { intermediate, gated: true }
        };
        (Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, tensors.build())
    });
    Ok(Decoder::llama_like(shape, layers.collect(), true).into())
}

/// `mlp_layer_types`, or the authors' range and interval, or all but the first.
fn sparse_layers(f: &Fields, shape: &Shape) -> Result<Vec<bool>, ConfigError> {
    if let Some(types) = f.optional_texts("mlp_layer_types")? {
        if types.len() as u64 != shape.layers {
            return Err(f.impossible("mlp_layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        return Ok(types.iter().map(|kind| kind == "sparse").collect());
    }
    // Pairs, for text and for images: the same layers in all published files.
    let bound = |key: &'static str| {
        if f.raw(key).is_some_and(serde_json::Value::is_array) {
            return Ok(f.optional_counts(key)?.and_then(|pair| pair.first().copied()));
        }
        f.optional_count_or_zero(key)
    };
    let (first, last) = (bound("moe_layer_start_index")?.unwrap_or(1), bound("moe_layer_end_index")?.unwrap_or(shape.layers));
    let interval = f.count("moe_layer_interval")?;
    Ok((0..shape.layers).map(|number| (first..=last).contains(&number) && (number + 1).is_multiple_of(interval)).collect())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "ernie4_5_vl_moe_text", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let draft = match f.nested(TEXT_CONFIGS)? {
        Some(text) => language_in(f, &text, &wrapper)?,
        None => read_text(f)?,
    };
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let hidden = vision.count("hidden_size")?;
    // The authors' form gives the width and a ratio.
    vision.touch("embed_dim");
    let intermediate = match vision.optional_count("intermediate_size")? {
        Some(width) => width,
        None => vision.count_or("mlp_ratio", 4)?.saturating_mul(hidden),
    };
    let tower = TowerShape { hidden, layers: vision.count("depth")?, heads: vision.count("num_heads")?, intermediate, gated: false };
    let tower = tower.checked(&vision, "depth", "num_heads")?;
    let mut layer = Tensors::default();
    let layer = fused_attention(layer.norm("norm1", hidden, true).norm("norm2", hidden, true), hidden, true, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .build();
    let (channels, patch) = (vision.count("in_channels")?, vision.count("patch_size")?);
    let tensors = Tensors::default()
        .linear("vision_model.patch_embed.proj", channels.saturating_mul(patch).saturating_mul(patch), hidden, false)
        .norm("vision_model.ln", hidden, true)
        .build();
    let (side, frames, width) = (vision.count("spatial_merge_size")?, vision.count("temporal_merge_size")?, draft.decoder.shape.hidden);
    let space = hidden.saturating_mul(side).saturating_mul(side);
    let time = space.saturating_mul(frames);
    let mut resampler = Tensors::default();
    for (name, inputs) in [("spatial_linear", space), ("temporal_linear", time)] {
        resampler
            .linear(&format!("model.resampler_model.{name}.0"), inputs, space, true)
            .linear(&format!("model.resampler_model.{name}.2"), space, space, true)
            .norm(&format!("model.resampler_model.{name}.3"), space, true);
    }
    resampler.linear("model.resampler_model.mlp", space, width, true).norm("model.resampler_model.after_norm", width, false);
    for key in ["spatial_conv_size", "temporal_conv_size", "pixel_hidden_size", "use_temporal_conv"] {
        f.touch(key);
    }
    Ok(draft.with(vision_tower(hidden, "vision_model.blocks", tensors, tower.layers(&layer))).with(projector(width, resampler.build())))
}
