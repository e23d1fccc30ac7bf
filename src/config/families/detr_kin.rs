//! DETR's kin: conditional DETR and DAB-DETR, whose queries carry positions apart from what they look for, and deformable DETR,
//! whose layers look at a few points of several maps.

use super::backbones::{Backbone, Usual, backbone};
use super::decoder::{Draft, Tensors, labels};
use super::detr::RESNET_50;
use super::networks::{Network, QKVO, class, deformable, feed_forward, heads, layers, norms, perceptron, projections, size, size_or_zero};
use super::vision::{Encoder, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Role, Tensor};

/// The keys of the encoder and of the decoder: layers, heads, inner width.
const STACKS: [[&str; 3]; 2] =
    [["encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"], ["decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"]];

fn stack(f: &Fields, [count, attention, inner]: [&str; 3], width: u64, default: u64) -> Result<Encoder, ConfigError> {
    Ok(Encoder { hidden: width, layers: layers(f, count, 6)?, heads: heads(f, attention, 8, width)?, intermediate: size(f, inner, default)? })
}

fn aliased(f: &Fields) -> Fields {
    f.with_alias("d_model", "hidden_size").with_alias("encoder_attention_heads", "num_attention_heads").with_alias("encoder_layers", "num_hidden_layers")
}

/// Tables of 50 rows and columns where positions are learned.
fn positions(f: &Fields, t: &mut Tensors, width: u64) -> Result<(), ConfigError> {
    if f.optional_text("position_embedding_type")?.is_some_and(|kind| kind == "learned") {
        for table in ["row", "column"] {
            t.embedding(&format!("model.position_embedding.{table}_embeddings"), 50, width / 2);
        }
    }
    Ok(())
}

fn last(backbone: &Backbone) -> u64 {
    backbone.channels.last().copied().unwrap_or(0)
}

/// The first layer without this module.
fn only_first(layers: &mut [(crate::model::Layer, Vec<Tensor>)], module: &str) {
    for (_, tensors) in layers.iter_mut().skip(1) {
        tensors.retain(|tensor| !tensor.name.contains(module));
    }
}

pub(super) fn read_conditional(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &aliased(f);
    let class = class(f)?;
    let width = size(f, "d_model", 256)?;
    let [encoder, decoder] = [stack(f, STACKS[0], width, 2048)?, stack(f, STACKS[1], width, 2048)?];
    let backbone = backbone(f, "model.backbone.model", RESNET_50, true)?;
    let mut network = Network::default();
    let mut layer = Tensors::default();
    projections(&mut layer, "self_attn", &["q_content_proj", "q_pos_proj", "k_content_proj", "k_pos_proj", "v_proj", "o_proj"], width);
    let crossing = ["q_content_proj", "q_pos_proj", "k_content_proj", "k_pos_proj", "v_proj", "q_pos_sine_proj", "o_proj"];
    projections(&mut layer, "encoder_attn", &crossing, width);
    norms(&mut layer, &["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], width, decoder.intermediate);
    let mut decoder_layers = super::vision::Style::layers_of(&decoder, &layer.build());
    only_first(&mut decoder_layers, "encoder_attn.q_pos_proj");
    network.stack_of("decoder", "model.decoder.layers", &decoder, decoder_layers);
    projections(&mut layer, "self_attn", QKVO, width);
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], width, encoder.intermediate);
    network.stack("encoder", "model.encoder.layers", &encoder, &layer.build());
    let t = &mut network.t;
    positions(f, t, width)?;
    t.embedding("model.query_position_embeddings", size(f, "num_queries", 300)?, width)
        .convolution("model.input_projection", &[width, last(&backbone), 1, 1], true)
        .norm("model.decoder.layernorm", width, true);
    perceptron(t, "model.decoder.query_scale", &[width, width, width]);
    perceptron(t, "model.decoder.ref_point_head", &[width, width, 2]);
    if !class.ends_with("Model") {
        linear(t, Role::Score, "class_labels_classifier", width, labels(f)?, true);
        perceptron(t, "bbox_predictor", &[width, width, width, 4]);
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            network.headless(&class);
        }
    }
    network.part(backbone.component);
    Ok(network.draft(width))
}

/// DAB-DETR: queries are boxes.
pub(super) fn read_dab(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("encoder_attention_heads", "num_attention_heads").with_alias("encoder_layers", "num_hidden_layers");
    let class = class(f)?;
    let width = size(f, "hidden_size", 256)?;
    let [encoder, decoder] = [stack(f, STACKS[0], width, 2048)?, stack(f, STACKS[1], width, 2048)?];
    let backbone = backbone(f, "model.backbone.conv_encoder.model", RESNET_50, true)?;
    let is_parametric = f.optional_text("activation_function")?.is_none_or(|name| name == "prelu");
    let keeps_positions = f.flag("keep_query_pos", false)?;
    let mut network = Network::default();
    let mut layer = Tensors::default();
    for (at, parts) in [
        ("self_attn", ["query_content", "query_pos", "key_content", "key_pos", "value"].as_slice()),
        ("cross_attn", &["query_content", "query_pos", "key_content", "key_pos", "value", "query_pos_sine"]),
    ] {
        for part in parts {
            layer.linear(&format!("{at}.{at}_{part}_proj"), width, width, true);
        }
        layer.linear(&format!("{at}.{at}.output_proj"), width, width, true).norm(&format!("{at}.{at}_layer_norm"), width, true);
    }
    norm(&mut layer, "mlp.final_layer_norm", width, true);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], width, decoder.intermediate);
    if is_parametric {
        layer.tensor("mlp.activation_fn.weight", Role::Other, &[1]);
    }
    let mut decoder_layers = super::vision::Style::layers_of(&decoder, &layer.build());
    if !keeps_positions {
        only_first(&mut decoder_layers, "cross_attn_query_pos_proj");
    }
    network.stack_of("decoder", "model.decoder.layers", &decoder, decoder_layers);
    projections(&mut layer, "self_attn", &["q_proj", "k_proj", "v_proj", "out_proj"], width);
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["fc1", "fc2"], width, encoder.intermediate);
    if is_parametric {
        layer.tensor("activation_fn.weight", Role::Other, &[1]);
    }
    network.stack("encoder", "model.encoder.layers", &encoder, &layer.build());
    let t = &mut network.t;
    let box_size = size(f, "query_dim", 4)?;
    t.embedding("model.query_refpoint_embeddings", size(f, "num_queries", 300)?, box_size)
        .convolution("model.input_projection", &[width, last(&backbone), 1, 1], true)
        .norm("model.decoder.layernorm", width, true);
    if f.flag("normalize_before", false)? {
        norm(t, "model.encoder.norm", width, true);
    }
    let patterns = size_or_zero(f, "num_patterns", 0)?;
    if patterns > 0 {
        t.embedding("model.patterns", patterns, width);
    }
    perceptron(t, "model.encoder.query_scale", &[width, width, width]);
    perceptron(t, "model.decoder.query_scale", &[width, width, width]);
    perceptron(t, "model.decoder.ref_point_head", &[box_size / 2 * width, width, width]);
    perceptron(t, "model.decoder.ref_anchor_head", &[width, width, 2]);
    if !class.ends_with("Model") {
        linear(t, Role::Score, "class_embed", width, labels(f)?, true);
        // The decoder refines its boxes by the same matrices, unless it is said otherwise.
        perceptron(t, "bbox_predictor", &[width, width, width, 4]);
        if !f.flag("tie_word_embeddings", true)? {
            perceptron(t, "model.decoder.bbox_embed", &[width, width, width, 4]);
        }
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            network.headless(&class);
        }
    }
    network.part(backbone.component);
    Ok(network.draft(width))
}

/// Deformable DETR.
pub(super) fn read_deformable(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &aliased(f);
    let class = class(f)?;
    let width = size(f, "d_model", 256)?;
    let [encoder, decoder] = [stack(f, STACKS[0], width, 1024)?, stack(f, STACKS[1], width, 1024)?];
    let levels = size(f, "num_feature_levels", 4)?;
    if levels > 64 {
        return Err(f.impossible("num_feature_levels", "it must be at most 64"));
    }
    let usual = Usual { stages: if levels > 1 { &[2, 3, 4] } else { &[4] }, ..RESNET_50 };
    let backbone = backbone(f, "model.backbone.model", usual, true)?;
    let samples = |key, heads: u64| Ok::<_, ConfigError>(heads.saturating_mul(levels).saturating_mul(size(f, key, 4)?));
    let mut network = Network::default();
    let mut layer = Tensors::default();
    projections(&mut layer, "self_attn", QKVO, width);
    deformable(&mut layer, "encoder_attn", width, samples("decoder_n_points", decoder.heads)?);
    norms(&mut layer, &["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], width, decoder.intermediate);
    network.stack("decoder", "model.decoder.layers", &decoder, &layer.build());
    deformable(&mut layer, "self_attn", width, samples("encoder_n_points", encoder.heads)?);
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], width);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], width, encoder.intermediate);
    network.stack("encoder", "model.encoder.layers", &encoder, &layer.build());

    let t = &mut network.t;
    positions(f, t, width)?;
    t.tensor("model.level_embed", Role::Other, &[levels, width]);
    let mut before = last(&backbone);
    let project = |t: &mut Tensors, number: usize, channels: u64, kernel: u64| {
        t.convolution(&format!("model.input_proj.{number}.0"), &[width, channels, kernel, kernel], true).norm(
            &format!("model.input_proj.{number}.1"),
            width,
            true,
        );
    };
    if levels > 1 {
        for (number, &channels) in backbone.channels.iter().enumerate() {
            project(t, number, channels, 1);
        }
        for number in backbone.channels.len()..usize::try_from(levels).unwrap_or(0) {
            project(t, number, before, 3);
            before = width;
        }
    } else {
        project(t, 0, before, 1);
    }
    let in_two = f.flag("two_stage", false)?;
    f.touch("two_stage_num_proposals");
    let queries = size(f, "num_queries", 300)?;
    if in_two {
        linear(t, Role::Other, "model.enc_output", width, width, true);
        norm(t, "model.enc_output_norm", width, true);
        linear(t, Role::Other, "model.pos_trans", 2 * width, 2 * width, true);
        norm(t, "model.pos_trans_norm", 2 * width, true);
    } else {
        t.embedding("model.query_position_embeddings", queries, 2 * width);
        linear(t, Role::Other, "model.reference_points", width, 2, true);
    }
    let refines = f.flag("with_box_refine", false)?;
    if !class.ends_with("Model") {
        let labels = labels(f)?;
        // Heads of all layers are one, unless the layers refine boxes or propose them.
        let all = decoder.layers + u64::from(in_two);
        // Untied, each layer has its own, and the decoder a copy of those that it uses.
        let is_tied = f.flag("tie_word_embeddings", true)?;
        let sets = |is_used: bool| {
            let own = ("", if is_used || !is_tied { all } else { 1 });
            [Some(own), (is_used && !is_tied).then_some(("model.decoder.", all))].into_iter().flatten().flat_map(|(at, count)| (0..count).map(move |n| (at, n)))
        };
        for (at, number) in sets(in_two) {
            linear(t, Role::Score, &format!("{at}class_embed.{number}"), width, labels, true);
        }
        for (at, number) in sets(refines) {
            perceptron(t, &format!("{at}bbox_embed.{number}"), &[width, width, width, 4]);
        }
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            network.headless(&class);
        }
    }
    network.part(backbone.component);
    Ok(network.draft(width))
}
