//! Grounding DINO: a backbone, BERT, layers in which words and maps look at each other, and a decoder whose queries look at both.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors};
use super::networks::{Network, class, deformable, feed_forward, heads, layers, norms, perceptron, projections, size};
use super::vision::{Encoder, linear, norm};
use super::{ConfigError, Fields, family_of};
use crate::model::{Component, ComponentKind, Role};

const SWIN: Usual = Usual { model_type: "swin", config: "{}", stages: &[2, 3, 4] };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, false)
}

/// As `MMDetection` trains it: a bias for each score.
pub(super) fn read_mm(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, true)
}

/// A text encoder inside a detector, without a pooler; its tensors below `at`.
fn text(f: &Fields, at: &str) -> Result<Component, ConfigError> {
    let inner = f.part(&["text_config"])?;
    let model_type = inner.optional_text("model_type")?.unwrap_or_else(|| "bert".to_owned());
    let Some(family) = family_of(&model_type) else {
        return Err(ConfigError::UnknownType { model_type, why: "it is the text encoder inside this model".to_owned() });
    };
    let draft = (family.read)(&inner.with_values(BERT).as_class("BertModel"))?;
    let parts = draft.into_components(&inner.with_values(BERT).as_class("BertModel"), &mut Vec::new())?;
    let mut part = parts.into_iter().next().ok_or(ConfigError::NoType)?;
    part.name = "text".into();
    part.kind = ComponentKind::TextEncoder;
    part.tensors.retain(|tensor| !tensor.name.contains("pooler"));
    for tensor in &mut part.tensors {
        tensor.name = format!("{at}.{}", tensor.name.trim_start_matches("bert."));
    }
    part.layer_prefix = format!("{at}.{}", part.layer_prefix.trim_start_matches("bert.")).into();
    Ok(part)
}

/// BERT's own sizes, where its config leaves them out.
const BERT: &str = r#"{"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "max_position_embeddings": 512, "type_vocab_size": 2}"#;

fn model(f: &Fields, has_bias: bool) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("d_model", "hidden_size").with_alias("encoder_attention_heads", "num_attention_heads");
    let class = class(f)?;
    let width = size(f, "d_model", 256)?;
    let levels = size(f, "num_feature_levels", 4)?;
    if levels > 64 {
        return Err(f.impossible("num_feature_levels", "it must be at most 64"));
    }
    let stack = |count, attention, inner| -> Result<Encoder, ConfigError> {
        Ok(Encoder { hidden: width, layers: layers(f, count, 6)?, heads: heads(f, attention, 8, width)?, intermediate: size(f, inner, 2048)? })
    };
    let encoder = stack("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")?;
    let decoder = stack("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")?;
    let samples = |key, heads: u64| Ok::<_, ConfigError>(heads.saturating_mul(levels).saturating_mul(size(f, key, 4)?));
    let backbone = backbone(f, "model.backbone.conv_encoder.model", SWIN, true)?;
    let words = text(f, "model.text_backbone")?;
    let mut network = Network::default();

    let mut layer = Tensors::default();
    let qkvo = &["query", "key", "value", "out_proj"];
    for at in ["self_attn", "encoder_attn_text"] {
        projections(&mut layer, at, qkvo, width);
    }
    deformable(&mut layer, "encoder_attn", width, samples("decoder_n_points", decoder.heads)?);
    norms(&mut layer, &["self_attn_layer_norm", "encoder_attn_text_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["fc1", "fc2"], width, decoder.intermediate);
    network.stack("decoder", "model.decoder.layers", &decoder, &layer.build());

    let half = encoder.intermediate / 2;
    projections(&mut layer, "text_enhancer_layer.self_attn", qkvo, width);
    feed_forward(&mut layer, ["text_enhancer_layer.fc1", "text_enhancer_layer.fc2"], width, half);
    norms(&mut layer, &["text_enhancer_layer.layer_norm_before", "text_enhancer_layer.layer_norm_after"], width);
    norms(&mut layer, &["fusion_layer.layer_norm_vision", "fusion_layer.layer_norm_text"], width);
    for name in ["vision_proj", "text_proj", "values_vision_proj", "values_text_proj"] {
        layer.linear(&format!("fusion_layer.attn.{name}"), width, half, true);
    }
    for name in ["out_vision_proj", "out_text_proj"] {
        layer.linear(&format!("fusion_layer.attn.{name}"), half, width, true);
    }
    for name in ["vision_param", "text_param"] {
        layer.tensor(&format!("fusion_layer.{name}"), Role::Other, &[width]);
    }
    deformable(&mut layer, "deformable_layer.self_attn", width, samples("encoder_n_points", encoder.heads)?);
    norms(&mut layer, &["deformable_layer.self_attn_layer_norm", "deformable_layer.final_layer_norm"], width);
    feed_forward(&mut layer, ["deformable_layer.fc1", "deformable_layer.fc2"], width, encoder.intermediate);
    network.stack("encoder", "model.encoder.layers", &encoder, &layer.build());

    let t = &mut network.t;
    let mut before = backbone.channels.last().copied().unwrap_or(0);
    let maps = if levels > 1 { backbone.channels.clone() } else { vec![before] };
    for number in 0..maps.len().max(usize::try_from(levels).unwrap_or(0)) {
        let at = format!("model.input_proj_vision.{number}");
        let (channels, kernel) = maps.get(number).map_or((before, 3), |&channels| (channels, 1));
        t.convolution(&format!("{at}.0"), &[width, channels, kernel, kernel], true).norm(&format!("{at}.1"), width, true);
        if number >= maps.len() {
            before = width;
        }
    }
    t.tensor("model.level_embed", Role::Other, &[levels, width]);
    linear(t, Role::Other, "model.text_projection", words.hidden_size, width, true);
    if f.optional_text("position_embedding_type")?.is_some_and(|kind| kind == "learned") {
        for table in ["row", "column"] {
            t.embedding(&format!("model.backbone.position_embedding.{table}_embeddings"), 50, width / 2);
        }
    }
    let in_two = f.flag("two_stage", true)?;
    let queries = size(f, "num_queries", 900)?;
    if f.flag("embedding_init_target", true)? || !in_two {
        t.embedding("model.query_position_embeddings", queries, width);
    }
    let shares_boxes = f.flag("decoder_bbox_embed_share", true)?;
    f.touch("two_stage_bbox_embed_share");
    if in_two {
        linear(t, Role::Other, "model.enc_output", width, width, true);
        norm(t, "model.enc_output_norm", width, true);
        perceptron(t, "model.encoder_output_bbox_embed", &[width, width, width, 4]);
        if has_bias {
            t.tensor("model.encoder_output_class_embed.bias", Role::Other, &[1]);
        }
    } else {
        t.embedding("model.reference_points", queries, 4);
    }
    norm(t, "model.decoder.layer_norm", width, true);
    perceptron(t, "model.decoder.reference_points_head", &[size(f, "query_dim", 4)? / 2 * width, width, width]);
    f.touch("max_text_len");
    if !class.ends_with("Model") {
        // Untied, each layer has its own heads and the decoder a copy of them.
        let is_tied = f.flag("tie_word_embeddings", true)?;
        let shares_scores = f.flag("decoder_cls_embed_share", true)?;
        for at in ["", "model.decoder."].into_iter().take(if is_tied { 1 } else { 2 }) {
            for number in 0..if shares_boxes && is_tied { 1 } else { decoder.layers } {
                perceptron(t, &format!("{at}bbox_embed.{number}"), &[width, width, width, 4]);
            }
            for number in 0..if shares_scores && is_tied { 1 } else { decoder.layers } {
                if has_bias {
                    t.tensor(&format!("{at}class_embed.{number}.bias"), Role::Other, &[1]);
                }
            }
        }
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            network.headless(&class);
        }
    }
    network.part(backbone.component);
    network.part(words);
    Ok(network.draft(width))
}
