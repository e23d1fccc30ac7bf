//! `ViT`s with little around them: `EoMT`, a `DINOv2` with queries among its tokens and masks above, and Pixio.

use super::decoder::{Draft, labels};
use super::networks::{Network, class, heads, layers, layers_or_none, pair_or, ratio, size, size_or_zero, times};
use super::vision::{CLIP, Encoder, Style, channels, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = size(f, "hidden_size", 1024)?;
    let is_gated = f.flag("use_swiglu_ffn", false)?;
    let wide = times(hidden, ratio(f, "mlp_ratio", 4.0)?);
    let inner = if is_gated { (2 * wide / 3).div_ceil(8) * 8 } else { wide };
    let e = Encoder { hidden, layers: layers(f, "num_hidden_layers", 24)?, heads: heads(f, "num_attention_heads", 16, hidden)?, intermediate: inner };
    let (patch, image) = (pair_or(f, "patch_size", [16, 16])?, pair_or(f, "image_size", [640, 640])?);
    let patches = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]);
    for key in ["layerscale_value", "num_blocks", "train_num_points", "oversample_ratio", "importance_sample_ratio"] {
        f.touch(key);
    }
    let style = Style {
        norms: &["norm1", "norm2"],
        scales: &["layer_scale1.lambda1", "layer_scale2.lambda1"],
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        output: "attention.out_proj",
        gate: if is_gated { "mlp.gate_proj" } else { "" },
        up: if is_gated { "mlp.up_proj" } else { "mlp.fc1" },
        down: if is_gated { "mlp.down_proj" } else { "mlp.fc2" },
        ..CLIP
    };
    let mut network = Network::default();
    let mut stack = style.layers(&e);
    for (layer, _) in &mut stack {
        layer.feed_forward = FeedForward::Dense { intermediate: inner, gated: is_gated };
    }
    network.stack_of("vision", "layers", &e, stack);
    let t = &mut network.t;
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, hidden])
        .tensor("embeddings.register_tokens", Role::Other, &[1, size_or_zero(f, "num_register_tokens", 4)?, hidden])
        .convolution("embeddings.patch_embeddings.projection", &[hidden, channels(f)?, patch[0], patch[1]], true)
        .embedding("embeddings.position_embeddings", patches, hidden)
        .embedding("query", size(f, "num_queries", 200)?, hidden);
    norm(t, "layernorm", hidden, true);
    for number in 0..layers_or_none(f, "num_upscale_blocks", 2)? {
        let at = format!("upscale_block.block.{number}");
        t.convolution(&format!("{at}.conv1"), &[hidden, hidden, 2, 2], true).convolution(&format!("{at}.conv2"), &[hidden, 1, 3, 3], false);
        norm(t, &format!("{at}.layernorm2d"), hidden, true);
    }
    for name in ["fc1", "fc2", "fc3"] {
        linear(t, Role::Other, &format!("mask_head.{name}"), hidden, hidden, true);
    }
    linear(t, Role::Score, "class_predictor", hidden, labels(f)?.saturating_add(1), true);
    if !class.is_empty() && !class.ends_with("ForUniversalSegmentation") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}

/// Pixio: several class tokens, no layer scales.
pub(super) fn read_pixio(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = size(f, "hidden_size", 1280)?;
    let inner = times(hidden, ratio(f, "mlp_ratio", 4.0)?);
    let e = Encoder { hidden, layers: layers(f, "num_hidden_layers", 32)?, heads: heads(f, "num_attention_heads", 16, hidden)?, intermediate: inner };
    let (patch, image) = (pair_or(f, "patch_size", [16, 16])?, pair_or(f, "image_size", [256, 256])?);
    let tokens = size(f, "n_cls_tokens", 8)?;
    let places = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]).saturating_add(tokens);
    for key in ["apply_layernorm", "reshape_hidden_states", "out_features", "out_indices", "drop_path_rate"] {
        f.touch(key);
    }
    let style = Style {
        norms: &["layernorm_before", "layernorm_after"],
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        output: "attention.o_proj",
        ..CLIP.biases(f.flag("qkv_bias", true)?, true, true)
    };
    let is_backbone = class.ends_with("Backbone");
    let base = if is_backbone { "pixio." } else { "" };
    let mut network = Network::default();
    network.stack_of("vision", &format!("{base}layers"), &e, style.layers(&e));
    let t = &mut network.t;
    t.tensor(&format!("{base}embeddings.cls_token"), Role::Other, &[1, tokens, hidden])
        .tensor(&format!("{base}embeddings.position_embeddings"), Role::Position, &[1, places, hidden])
        .convolution(&format!("{base}embeddings.patch_embeddings.projection"), &[hidden, channels(f)?, patch[0], patch[1]], true);
    norm(t, &format!("{base}layernorm"), hidden, true);
    if is_backbone {
        norm(t, "layernorm", hidden, true);
    } else if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}
