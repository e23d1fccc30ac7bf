//! Segment Anything 3: a `ViT` and its neck, CLIP's text encoder, an encoder of boxes, and a detector whose queries are masks; a tracker
//! of the same shape as the second's, alone or beside the detector for videos.

use super::decoder::{Draft, Tensors};
use super::networks::{Network, QKVO, class, feed_forward, heads, layers, norms, pair_or, projections, size};
use super::sam2::{masks, memory, part, prompts};
use super::vision::{CLIP, Encoder, Style, channels, linear, norm};
use super::{ConfigError, Fields, clip};
use crate::model::{ComponentKind, Role};

/// CLIP's text encoder as this model has it.
const TEXT: &str = r#"{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "projection_dim": 512,
    "max_position_embeddings": 32, "vocab_size": 49408}"#;

/// Matrices named by their places.
fn steps(t: &mut Tensors, at: &str, widths: &[u64]) {
    for (number, step) in widths.windows(2).enumerate() {
        linear(t, Role::Other, &format!("{at}.layer{}", number + 1), step[0], step[1], true);
    }
}

/// The image encoder as the first stack, its names below `at`; gives its hidden size.
fn encoder(f: &Fields, network: &mut Network, at: &str) -> Result<u64, ConfigError> {
    let hidden = size(f, "hidden_size", 1024)?;
    let e = Encoder {
        hidden,
        layers: layers(f, "num_hidden_layers", 32)?,
        heads: heads(f, "num_attention_heads", 16, hidden)?,
        intermediate: size(f, "intermediate_size", 4736)?,
    };
    let (patch, image) = (pair_or(f, "patch_size", [14, 14])?, pair_or(f, "pretrain_image_size", [336, 336])?);
    let patches = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]);
    for key in ["model_type", "architectures", "global_attn_indexes", "window_size", "image_size"] {
        f.touch(key);
    }
    let style = Style {
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        output: "attention.o_proj",
        norms: &["layer_norm1", "layer_norm2"],
        scales: if f.optional_number("layer_scale_init_value")?.is_some() { &["layer_scale1.lambda1", "layer_scale2.lambda1"] } else { &[] },
        ..CLIP
    };
    network.stack_of("vision", &format!("{at}layers"), &e, style.layers(&e));
    network
        .t
        .tensor(&format!("{at}embeddings.position_embeddings"), Role::Position, &[1, patches, hidden])
        .convolution(&format!("{at}embeddings.patch_embeddings.projection"), &[hidden, channels(f)?, patch[0], patch[1]], false)
        .norm(&format!("{at}layer_norm"), hidden, true);
    Ok(hidden)
}

/// Maps of several sizes from one; gives their width.
fn neck(f: &Fields, t: &mut Tensors, at: &str, hidden: u64) -> Result<u64, ConfigError> {
    let fused = size(f, "fpn_hidden_size", 256)?;
    f.touch("backbone_feature_sizes");
    let factors = match f.raw("scale_factors") {
        None => Some(vec![4.0, 2.0, 1.0, 0.5]),
        Some(value) => value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_f64).collect()),
    };
    let factors: Vec<f64> = factors.ok_or_else(|| f.impossible("scale_factors", "it must be a list of numbers"))?;
    for (number, factor) in factors.into_iter().enumerate() {
        let at = format!("{at}fpn_layers.{number}");
        let halvings = match factor {
            4.0 => 2,
            2.0 => 1,
            1.0 | 0.5 => 0,
            _ => return Err(f.impossible("scale_factors", "the factors are 4, 2, 1 and 0.5")),
        };
        let mut before = hidden;
        for step in 0..halvings {
            // Transposed: the bias has as many values as there are outputs.
            let place = format!("{at}.scale_layers.{}", 2 * step);
            t.tensor(&format!("{place}.weight"), Role::Other, &[before, before / 2, 2, 2]).tensor(&format!("{place}.bias"), Role::Other, &[before / 2]);
            before /= 2;
        }
        t.convolution(&format!("{at}.proj1"), &[fused, before, 1, 1], true).convolution(&format!("{at}.proj2"), &[fused, fused, 3, 3], true);
    }
    Ok(fused)
}

/// Encoder and neck, and the hidden size of the first.
fn vision(f: &Fields, network: &mut Network, at: &str) -> Result<(u64, u64), ConfigError> {
    let hidden = encoder(&part(f, "backbone_config")?, network, &format!("{at}backbone."))?;
    let fused = neck(f, &mut network.t, &format!("{at}neck."), hidden)?;
    Ok((fused, hidden))
}

pub(super) fn read_vit(f: &Fields) -> Result<Draft, ConfigError> {
    let mut network = Network::default();
    let hidden = encoder(f, &mut network, "")?;
    Ok(network.draft(hidden))
}

pub(super) fn read_vision(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let mut network = Network::default();
    let (_, hidden) = vision(f, &mut network, "")?;
    Ok(network.draft(hidden))
}

/// A stack whose layers look at themselves and at something else, with three norms.
fn stack(f: &Fields, count: u64, network: &mut Network, name: &'static str, at: &str) -> Result<u64, ConfigError> {
    let f = &f.with_alias("num_layers", "num_hidden_layers");
    let hidden = size(f, "hidden_size", 256)?;
    let e = Encoder {
        hidden,
        layers: layers(f, "num_layers", count)?,
        heads: heads(f, "num_attention_heads", 8, hidden)?,
        intermediate: size(f, "intermediate_size", 2048)?,
    };
    let mut layer = Tensors::default();
    let is_decoder = name == "detr_decoder";
    let looks: &[&str] = if is_decoder { &["self_attn", "text_cross_attn", "vision_cross_attn"] } else { &["self_attn", "cross_attn"] };
    for look in looks {
        projections(&mut layer, look, QKVO, hidden);
    }
    let names: &[&str] = if is_decoder {
        &["self_attn_layer_norm", "text_cross_attn_layer_norm", "vision_cross_attn_layer_norm", "mlp_layer_norm"]
    } else {
        &["layer_norm1", "layer_norm2", "layer_norm3"]
    };
    norms(&mut layer, names, hidden);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], hidden, e.intermediate);
    network.stack(name, &format!("{at}layers"), &e, &layer.build());
    Ok(hidden)
}

/// The detector, below `at`; gives the hidden size of its image encoder.
fn detector(f: &Fields, network: &mut Network, at: &str) -> Result<u64, ConfigError> {
    let (_, seen) = vision(&part(f, "vision_config")?, network, &format!("{at}vision_encoder."))?;
    let text = part(f, "text_config")?.with_values(TEXT).as_class("CLIPTextModelWithProjection");
    let mut words = clip::read_text(&text)?.into_components(&text, &mut Vec::new())?.into_iter().next().ok_or(ConfigError::NoType)?;
    words.name = "text".into();
    words.kind = ComponentKind::TextEncoder;
    for tensor in &mut words.tensors {
        tensor.name = format!("{at}text_encoder.{}", tensor.name);
    }
    words.layer_prefix = format!("{at}text_encoder.{}", words.layer_prefix).into();
    let [boxes, encoder, decoder] = [part(f, "geometry_encoder_config")?, part(f, "detr_encoder_config")?, part(f, "detr_decoder_config")?];
    let hidden = stack(&boxes, 3, network, "geometry_encoder", &format!("{at}geometry_encoder."))?;
    let joined = stack(&encoder, 6, network, "detr_encoder", &format!("{at}detr_encoder."))?;
    let asked = stack(&decoder, 6, network, "detr_decoder", &format!("{at}detr_decoder."))?;
    let t = &mut network.t;
    linear(t, Role::Other, &format!("{at}text_projection"), words.hidden_size, joined, true);
    let (own, roi) = (format!("{at}geometry_encoder"), size(&boxes, "roi_size", 7)?);
    t.embedding(&format!("{own}.label_embed"), 2, hidden)
        .embedding(&format!("{own}.cls_embed"), 1, hidden)
        .linear(&format!("{own}.boxes_direct_project"), 4, hidden, true)
        .convolution(&format!("{own}.boxes_pool_project"), &[hidden, hidden, roi, roi], true)
        .linear(&format!("{own}.boxes_pos_enc_project"), hidden + 2, hidden, true)
        .linear(&format!("{own}.final_proj"), hidden, hidden, true);
    for name in ["vision_layer_norm", "prompt_layer_norm", "output_layer_norm"] {
        norm(t, &format!("{own}.{name}"), hidden, true);
    }
    let (own, queries) = (format!("{at}detr_decoder"), size(&decoder, "num_queries", 200)?);
    let attention = heads(&decoder, "num_attention_heads", 8, asked)?;
    t.embedding(&format!("{own}.query_embed"), queries, asked).embedding(&format!("{own}.reference_points"), queries, 4).embedding(
        &format!("{own}.presence_token"),
        1,
        asked,
    );
    norms(t, &[&format!("{own}.output_layer_norm"), &format!("{own}.presence_layer_norm")], asked);
    steps(t, &format!("{own}.box_head"), &[asked, asked, asked, 4]);
    steps(t, &format!("{own}.presence_head"), &[asked, asked, asked, 1]);
    steps(t, &format!("{own}.ref_point_head"), &[2 * asked, asked, asked]);
    for side in ["x", "y"] {
        steps(t, &format!("{own}.box_rpb_embed_{side}"), &[2, asked, attention]);
    }
    let mask = part(f, "mask_decoder_config")?;
    let (width, own) = (size(&mask, "hidden_size", 256)?, format!("{at}mask_decoder"));
    mask.touch("num_attention_heads");
    for number in 0..layers(&mask, "num_upsampling_stages", 3)? {
        t.convolution(&format!("{own}.pixel_decoder.conv_layers.{number}"), &[width, width, 3, 3], true);
        norm(t, &format!("{own}.pixel_decoder.norms.{number}"), width, true);
    }
    for number in 0..3 {
        linear(t, Role::Other, &format!("{own}.mask_embedder.layers.{number}"), width, width, true);
    }
    t.convolution(&format!("{own}.instance_projection"), &[width, width, 1, 1], true).convolution(
        &format!("{own}.semantic_projection"),
        &[1, width, 1, 1],
        true,
    );
    projections(t, &format!("{own}.prompt_cross_attn"), QKVO, width);
    norm(t, &format!("{own}.prompt_cross_attn_norm"), width, true);
    let (own, inner) = (format!("{at}dot_product_scoring"), size(&decoder, "intermediate_size", 2048)?);
    steps(t, &format!("{own}.text_mlp"), &[asked, inner, asked]);
    norm(t, &format!("{own}.text_mlp_out_norm"), asked, true);
    projections(t, &own, &["text_proj", "query_proj"], asked);
    network.part(words);
    Ok(seen)
}

/// The tracker's parts besides its image encoder.
fn tracker(f: &Fields, network: &mut Network, width: u64, remembers: bool) -> Result<(), ConfigError> {
    network.t.tensor("no_memory_embedding", Role::Other, &[1, 1, width]);
    network.part(prompts(&part(f, "prompt_encoder_config")?)?);
    network.part(masks(&part(f, "mask_decoder_config")?)?);
    if remembers { memory(f, network, width) } else { Ok(()) }
}

fn tracked(f: &Fields, remembers: bool) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let mut network = Network::default();
    let (width, hidden) = vision(&part(f, "vision_config")?, &mut network, "vision_encoder.")?;
    tracker(f, &mut network, width, remembers)?;
    if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}

pub(super) fn read_tracker(f: &Fields) -> Result<Draft, ConfigError> {
    tracked(f, false)
}

pub(super) fn read_tracker_video(f: &Fields) -> Result<Draft, ConfigError> {
    tracked(f, true)
}

/// The detector.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let mut network = Network::default();
    let hidden = detector(f, &mut network, "")?;
    if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}

/// Detector and tracker over one image encoder; the tracker has a neck of its own. Other classes take one of the two.
pub(super) fn read_video(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let (detects, tracks) = (part(f, "detector_config")?, part(f, "tracker_config")?);
    match class.as_str() {
        "Sam3Model" => return read(&detects.as_class("Sam3Model")),
        "Sam3TrackerModel" => return tracked(&tracks.as_class("Sam3TrackerModel"), false),
        "Sam3TrackerVideoModel" => return tracked(&tracks.as_class("Sam3TrackerVideoModel"), true),
        _ => {}
    }
    let mut network = Network::default();
    let hidden = detector(&detects, &mut network, "detector_model.")?;
    let width = neck(&part(&tracks, "vision_config")?, &mut network.t, "tracker_neck.", hidden)?;
    tracker(&tracks, &mut network, width, true)?;
    if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}
