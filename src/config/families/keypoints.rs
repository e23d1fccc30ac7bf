//! Key points and their matches: `SuperPoint`, `SuperGlue`, `LightGlue`.

use super::decoder::{Draft, Tensors};
use super::networks::{Network, class, heads, layers, projections, size};
use super::vision::{Encoder, linear, norm, per_stage};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `SuperPoint`'s tensors below `at`; gives the width of its descriptors.
fn detector(f: &Fields, t: &mut Tensors, at: &str) -> Result<u64, ConfigError> {
    let widths = per_stage(f, "encoder_hidden_sizes", &[64, 64, 128, 128])?;
    let inner = size(f, "decoder_hidden_size", 256)?;
    let (scores, described) = (size(f, "keypoint_decoder_dim", 65)?, size(f, "descriptor_decoder_dim", 256)?);
    for key in ["keypoint_threshold", "max_keypoints", "nms_radius", "border_removal_distance", "model_type"] {
        f.touch(key);
    }
    let mut before = 1;
    for (number, &width) in widths.iter().enumerate() {
        let at = format!("{at}encoder.conv_blocks.{number}");
        t.convolution(&format!("{at}.conv_a"), &[width, before, 3, 3], true).convolution(&format!("{at}.conv_b"), &[width, width, 3, 3], true);
        before = width;
    }
    for (name, outputs) in [("keypoint_decoder.conv_score", scores), ("descriptor_decoder.conv_descriptor", described)] {
        t.convolution(&format!("{at}{name}_a"), &[inner, before, 3, 3], true).convolution(&format!("{at}{name}_b"), &[outputs, inner, 1, 1], true);
    }
    Ok(described)
}

/// The detector inside a matcher.
fn inner_detector(f: &Fields, t: &mut Tensors) -> Result<u64, ConfigError> {
    let inner = f.part(&["keypoint_detector_config"])?;
    let kind = inner.optional_text("model_type")?.unwrap_or_else(|| "superpoint".to_owned());
    if kind != "superpoint" {
        return Err(ConfigError::UnknownType { model_type: kind, why: "it is the detector of key points inside this model".to_owned() });
    }
    detector(&inner, t, "keypoint_detector.")
}

pub(super) fn read_point(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let mut network = Network::default();
    let width = detector(f, &mut network.t, "")?;
    if !class.is_empty() && !class.ends_with("ForKeypointDetection") {
        network.headless(&class);
    }
    Ok(network.draft(width))
}

/// Matrices with batch norms between them.
fn mixer(t: &mut Tensors, at: &str, widths: &[u64]) {
    let last = widths.len().saturating_sub(2);
    for (number, step) in widths.windows(2).enumerate() {
        let name = format!("{at}.{number}");
        if number < last {
            linear(t, Role::Other, &format!("{name}.linear"), step[0], step[1], true);
            norm(t, &format!("{name}.batch_norm"), step[1], true);
        } else {
            linear(t, Role::Other, &name, step[0], step[1], true);
        }
    }
}

/// `SuperGlue`: key points of two images attend to their own and to each other.
pub(super) fn read_superglue(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = size(f, "hidden_size", 256)?;
    let sizes = per_stage(f, "keypoint_encoder_sizes", &[32, 64, 128, 256])?;
    let depth = f.optional_texts("gnn_layers_types")?.map_or(18, |list| list.len() as u64);
    if depth > 1000 {
        return Err(f.impossible("gnn_layers_types", "it must be at most 1000 layers"));
    }
    for key in ["sinkhorn_iterations", "matching_threshold"] {
        f.touch(key);
    }
    let encoder = Encoder { hidden, layers: depth, heads: heads(f, "num_attention_heads", 4, hidden)?, intermediate: 2 * hidden };
    let mut layer = Tensors::default();
    projections(&mut layer, "attention", &["self.query", "self.key", "self.value", "output.dense"], hidden);
    mixer(&mut layer, "mlp", &[2 * hidden, 2 * hidden, hidden]);
    let mut network = Network::default();
    network.stack("matcher", "gnn.layers", &encoder, &layer.build());
    inner_detector(f, &mut network.t)?;
    let widths: Vec<u64> = std::iter::once(3).chain(sizes).chain([hidden]).collect();
    mixer(&mut network.t, "keypoint_encoder.encoder", &widths);
    linear(&mut network.t, Role::Other, "final_projection.final_proj", hidden, hidden, true);
    network.t.tensor("bin_score", Role::Other, &[1]);
    if !class.is_empty() && !class.ends_with("ForKeypointMatching") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}

/// `LightGlue`: the same with rotary positions, and a match after every layer.
pub(super) fn read_lightglue(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = size(f, "descriptor_dim", 256)?;
    let attention = heads(f, "num_attention_heads", 4, hidden)?;
    let kv = f.optional_count("num_key_value_heads")?.unwrap_or(attention);
    if !attention.is_multiple_of(kv) {
        return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
    }
    let (bias, keys) = (f.flag("attention_bias", true)?, kv * (hidden / attention));
    for key in ["depth_confidence", "width_confidence", "filter_threshold", "intermediate_size", "hidden_size"] {
        f.touch(key);
    }
    let encoder = Encoder { hidden, layers: layers(f, "num_hidden_layers", 9)?, heads: attention, intermediate: 2 * hidden };
    let mut layer = Tensors::default();
    for (at, after) in [("self_attention", "self_mlp"), ("cross_attention", "cross_mlp")] {
        layer
            .linear(&format!("{at}.q_proj"), hidden, hidden, bias)
            .linear(&format!("{at}.k_proj"), hidden, keys, bias)
            .linear(&format!("{at}.v_proj"), hidden, keys, bias)
            .linear(&format!("{at}.o_proj"), hidden, hidden, bias)
            .linear(&format!("{after}.fc1"), 2 * hidden, 2 * hidden, true)
            .linear(&format!("{after}.fc2"), 2 * hidden, hidden, true);
        norm(&mut layer, &format!("{after}.layer_norm"), 2 * hidden, true);
    }
    let mut network = Network::default();
    network.stack("matcher", "transformer_layers", &encoder, &layer.build());
    let t = &mut network.t;
    let described = inner_detector(f, t)?;
    if described != hidden {
        linear(t, Role::Other, "input_projection", described, hidden, true);
    }
    linear(t, Role::Other, "positional_encoder.projector", 2, hidden / attention / 2, false);
    for number in 0..encoder.layers {
        linear(t, Role::Other, &format!("match_assignment_layers.{number}.final_projection"), hidden, hidden, true);
        linear(t, Role::Other, &format!("match_assignment_layers.{number}.matchability"), hidden, 1, true);
        if number + 1 < encoder.layers {
            linear(t, Role::Other, &format!("token_confidence.{number}.token"), hidden, 1, true);
        }
    }
    if !class.is_empty() && !class.ends_with("ForKeypointMatching") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}
