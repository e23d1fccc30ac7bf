//! `ViTPose`: a `ViT` without a class token, with experts for data sets in the larger ones, and one or three convolutions above.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{Network, class, heads, layers, normed, pair_or, ratio, size, times};
use super::vision::{Encoder, Style, VIT, channels, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role};

/// The backbone as the first stack of a network, below `at`.
fn backbone(f: &Fields, network: &mut Network, at: &str) -> Result<u64, ConfigError> {
    let hidden = size(f, "hidden_size", 768)?;
    let inner = times(hidden, ratio(f, "mlp_ratio", 4.0)?);
    let e = Encoder { hidden, layers: layers(f, "num_hidden_layers", 12)?, heads: heads(f, "num_attention_heads", 12, hidden)?, intermediate: inner };
    let (patch, image) = (pair_or(f, "patch_size", [16, 16])?, pair_or(f, "image_size", [256, 192])?);
    let patches = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]);
    let (experts, part) = (size(f, "num_experts", 1)?, size(f, "part_features", 256)?);
    for key in ["model_type", "out_features", "out_indices", "stage_names", "architectures"] {
        f.touch(key);
    }
    let style = Style { up: "mlp.fc1", down: "mlp.fc2", ..VIT.biases(f.flag("qkv_bias", true)?, true, true) };
    let mut stack = style.layers(&e);
    if experts > 1 {
        if experts > 1000 {
            return Err(f.impossible("num_experts", "it must be at most 1000"));
        }
        if part > hidden {
            return Err(
                f.impossible(if f.raw("part_features").is_some() { "part_features" } else { "hidden_size" }, "`part_features` must be at most `hidden_size`")
            );
        }
        // A part of what the second matrix makes is a data set's own.
        let mut second = Tensors::default();
        linear(&mut second, Role::Down, "mlp.fc2", inner, hidden - part, true);
        second.repeated("mlp.experts.{}.weight", Role::ExpertDown, experts, &[part, inner]).repeated("mlp.experts.{}.bias", Role::ExpertDown, experts, &[part]);
        let second = second.build();
        for (layer, tensors) in &mut stack {
            tensors.retain(|tensor| !tensor.name.starts_with("mlp.fc2"));
            tensors.extend(second.iter().cloned());
            layer.feed_forward = FeedForward::Dense { intermediate: inner, gated: false };
        }
    }
    network.stack_of("vision", &format!("{at}encoder.layer"), &e, stack);
    let t = &mut network.t;
    t.tensor(&format!("{at}embeddings.position_embeddings"), Role::Position, &[1, patches.saturating_add(1), hidden]).convolution(
        &format!("{at}embeddings.patch_embeddings.projection"),
        &[hidden, channels(f)?, patch[0], patch[1]],
        true,
    );
    norm(t, &format!("{at}layernorm"), hidden, true);
    Ok(hidden)
}

/// The backbone alone.
pub(super) fn read_backbone(f: &Fields) -> Result<Draft, ConfigError> {
    let mut network = Network::default();
    let hidden = backbone(f, &mut network, "")?;
    Ok(network.draft(hidden))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let inner = f.part(&["backbone_config"])?;
    if inner.optional_text("model_type")?.is_some_and(|kind| kind != "vitpose_backbone") {
        return Err(inner.impossible("model_type", "only `vitpose_backbone` is understood as this model's backbone"));
    }
    for key in ["backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs", "scale_factor"] {
        f.touch(key);
    }
    let mut network = Network::default();
    let hidden = backbone(&inner, &mut network, "backbone.")?;
    let points = labels(f)?;
    let t = &mut network.t;
    if f.flag("use_simple_decoder", true)? {
        t.convolution("head.conv", &[points, hidden, 3, 3], true);
    } else {
        normed(t, "head.deconv1", "head.batchnorm1", [256, hidden, 4, 4]);
        normed(t, "head.deconv2", "head.batchnorm2", [256, 256, 4, 4]);
        t.convolution("head.conv", &[points, 256, 1, 1], true);
    }
    if !class.is_empty() && !class.ends_with("ForPoseEstimation") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}
