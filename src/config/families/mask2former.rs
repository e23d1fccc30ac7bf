//! `MaskFormer` and `Mask2Former`: a backbone, a decoder of pixels over its maps, a decoder of queries, each of which is a class and
//! a mask.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors, labels};
use super::networks::{Network, QKVO, class, deformable, feed_forward, heads, layers, normed, norms, projections, size};
use super::vision::{Encoder, linear, norm, per_stage};
use super::{ConfigError, Fields};
use crate::model::Role;

/// Swin-S, as the second takes it where its config has no backbone.
const SMALL: Usual = Usual { model_type: "swin", config: r#"{"depths": [2, 2, 18, 2]}"#, stages: &[1, 2, 3, 4] };

/// Swin-B, as the first takes it.
const BASE: Usual = Usual {
    model_type: "swin",
    config: r#"{"depths": [2, 2, 18, 2], "embed_dim": 128, "num_heads": [4, 8, 16, 32], "window_size": 12, "image_size": 384}"#,
    stages: &[1, 2, 3, 4],
};

/// A convolution without a bias and its group norm, named by their places.
fn convolution(t: &mut Tensors, at: &str, shape: [u64; 4]) {
    normed(t, &format!("{at}.0"), &format!("{at}.1"), shape);
}

/// Three matrices that make a mask of a query.
pub(super) fn mask_head(t: &mut Tensors, at: &str, width: u64, outputs: u64) {
    for (number, outputs) in [width, width, outputs].into_iter().enumerate() {
        linear(t, Role::Other, &format!("{at}.{number}.0"), width, outputs, true);
    }
}

/// `Mask2Former`.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("hidden_dim", "hidden_size").with_alias("decoder_layers", "num_hidden_layers");
    let class = class(f)?;
    let (feature, mask, hidden) = (size(f, "feature_size", 256)?, size(f, "mask_feature_size", 256)?, size(f, "hidden_dim", 256)?);
    let backbone = backbone(f, "model.pixel_level_module.encoder", SMALL, false)?;
    let levels = 3;
    let mut network = Network::default();
    let decoder = Encoder {
        hidden,
        // The first prediction is made before any layer.
        layers: layers(f, "decoder_layers", 10)?.saturating_sub(1),
        heads: heads(f, "num_attention_heads", 8, hidden)?,
        intermediate: size(f, "dim_feedforward", 2048)?,
    };
    let mut layer = Tensors::default();
    projections(&mut layer, "self_attn", &["k_proj", "v_proj", "q_proj", "out_proj"], hidden);
    layer.tensor("cross_attn.in_proj_weight", Role::Qkv, &[3 * hidden, hidden]).tensor("cross_attn.in_proj_bias", Role::Qkv, &[3 * hidden]).linear(
        "cross_attn.out_proj",
        hidden,
        hidden,
        true,
    );
    norms(&mut layer, &["self_attn_layer_norm", "cross_attn_layer_norm", "final_layer_norm"], hidden);
    feed_forward(&mut layer, ["fc1", "fc2"], hidden, decoder.intermediate);
    network.stack("decoder", "model.transformer_module.decoder.layers", &decoder, &layer.build());
    pixels(f, &mut network, &backbone.channels, [feature, mask], "feature_strides")?;
    let t = &mut network.t;
    let at = "model.transformer_module";
    let queries = size(f, "num_queries", 100)?;
    t.embedding(&format!("{at}.queries_embedder"), queries, hidden).embedding(&format!("{at}.queries_features"), queries, hidden).embedding(
        &format!("{at}.level_embed"),
        levels,
        hidden,
    );
    if feature != hidden || f.flag("enforce_input_projection", false)? {
        for number in 0..levels {
            t.convolution(&format!("{at}.input_projections.{number}"), &[hidden, feature, 1, 1], true);
        }
    }
    norm(t, &format!("{at}.decoder.layernorm"), hidden, true);
    mask_head(t, &format!("{at}.decoder.mask_predictor.mask_embedder"), hidden, mask);
    head(f, &mut network, &class, hidden, "ForUniversalSegmentation")?;
    network.part(backbone.component);
    Ok(network.draft(hidden))
}

/// The decoder of pixels: layers over the three smallest maps, into which finer ones are fused; it gives masks of `mask` channels.
pub(super) fn pixels(f: &Fields, network: &mut Network, channels: &[u64], [feature, mask]: [u64; 2], strides: &'static str) -> Result<(), ConfigError> {
    let levels = 3;
    let inner = size(f, "encoder_feedforward_dim", 1024)?;
    let encoder =
        Encoder { hidden: feature, layers: layers(f, "encoder_layers", 6)?, heads: heads(f, "num_attention_heads", 8, feature)?, intermediate: inner };
    let mut layer = Tensors::default();
    deformable(&mut layer, "self_attn", feature, encoder.heads.saturating_mul(levels * 4));
    norms(&mut layer, &["self_attn_layer_norm", "final_layer_norm"], feature);
    feed_forward(&mut layer, ["fc1", "fc2"], feature, inner);
    network.stack("pixel_decoder", "model.pixel_level_module.decoder.encoder.layers", &encoder, &layer.build());

    let t = &mut network.t;
    let at = "model.pixel_level_module.decoder";
    t.tensor(&format!("{at}.level_embed"), Role::Other, &[levels, feature]);
    for (number, &inputs) in channels.iter().rev().take(3).enumerate() {
        t.convolution(&format!("{at}.input_projections.{number}.0"), &[feature, inputs, 1, 1], true);
        norm(t, &format!("{at}.input_projections.{number}.1"), feature, true);
    }
    t.convolution(&format!("{at}.mask_projection"), &[mask, feature, 1, 1], true);
    for (number, &inputs) in channels.iter().take(fused(f, strides)?).enumerate() {
        convolution(t, &format!("{at}.adapter_{}", number + 1), [feature, inputs, 1, 1]);
        convolution(t, &format!("{at}.layer_{}", number + 1), [feature, feature, 3, 3]);
    }
    Ok(())
}

/// Maps that are fused besides the three that have layers: those between `common_stride` and the finest of the three.
fn fused(f: &Fields, strides: &'static str) -> Result<usize, ConfigError> {
    let strides = per_stage(f, strides, &[4, 8, 16, 32])?;
    let finest = strides.iter().rev().take(3).min().copied().unwrap_or(8);
    let common = size(f, "common_stride", 4)?;
    Ok(usize::try_from((finest / common).max(1).ilog2()).unwrap_or(0))
}

fn head(f: &Fields, network: &mut Network, class: &str, hidden: u64, known: &str) -> Result<(), ConfigError> {
    if !class.ends_with("Model") {
        linear(&mut network.t, Role::Score, "class_predictor", hidden, labels(f)?.saturating_add(1), true);
        if !class.is_empty() && !class.ends_with(known) {
            network.headless(class);
        }
    }
    Ok(())
}

/// `MaskFormer`: maps are fused from the smallest up, and queries are DETR's.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("mask_feature_size", "hidden_size");
    let class = class(f)?;
    let (feature, mask) = (size(f, "fpn_feature_size", 256)?, size(f, "mask_feature_size", 256)?);
    // All four stages of a Swin are read, whatever its config says.
    let usual = Usual { stages: &[1, 2, 3, 4], ..BASE };
    let backbone = super::backbones::all_of_swin(f, "model.pixel_level_module.encoder", usual)?;
    let detr = f.part(&["decoder_config"])?;
    detr.touch("model_type");
    let hidden = size(&detr, "d_model", 256)?;
    let decoder = Encoder {
        hidden,
        layers: layers(&detr, "decoder_layers", 6)?,
        heads: heads(&detr, "decoder_attention_heads", 8, hidden)?,
        intermediate: size(&detr, "decoder_ffn_dim", 2048)?,
    };
    for key in ["encoder_layers", "encoder_ffn_dim", "encoder_attention_heads", "num_hidden_layers"] {
        detr.touch(key);
    }
    f.touch("num_attention_heads");
    f.touch("num_hidden_layers");
    let mut network = Network::default();
    let mut layer = Tensors::default();
    projections(&mut layer, "self_attn", QKVO, hidden);
    projections(&mut layer, "encoder_attn", QKVO, hidden);
    norms(&mut layer, &["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"], hidden);
    feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], hidden, decoder.intermediate);
    network.stack("decoder", "model.transformer_module.decoder.layers", &decoder, &layer.build());
    let t = &mut network.t;
    let at = "model.pixel_level_module.decoder";
    let last = backbone.channels.last().copied().unwrap_or(0);
    convolution(t, &format!("{at}.fpn.stem"), [feature, last, 3, 3]);
    for (number, &channels) in backbone.channels.iter().rev().skip(1).enumerate() {
        convolution(t, &format!("{at}.fpn.layers.{number}.proj"), [feature, channels, 1, 1]);
        convolution(t, &format!("{at}.fpn.layers.{number}.block"), [feature, feature, 3, 3]);
    }
    t.convolution(&format!("{at}.mask_projection"), &[mask, feature, 3, 3], true);
    let at = "model.transformer_module";
    t.embedding(&format!("{at}.queries_embedder"), size(&detr, "num_queries", 100)?, hidden);
    if last != hidden {
        t.convolution(&format!("{at}.input_projection"), &[hidden, last, 1, 1], true);
    }
    norm(t, &format!("{at}.decoder.layernorm"), hidden, true);
    if !class.ends_with("Model") {
        mask_head(t, "mask_embedder", hidden, mask);
    }
    head(f, &mut network, &class, hidden, "ForInstanceSegmentation")?;
    network.part(backbone.component);
    Ok(network.draft(hidden))
}
