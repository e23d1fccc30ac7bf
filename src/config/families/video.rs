//! Transformers over videos: `VideoMAE`, `ViViT`, `TimeSformer`, V-JEPA 2.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{Network, class, feed_forward, heads, layers, norms, pair_or, projections, ratio, size, times};
use super::vision::{Encoder, Style, VIT, channels, linear, norm, per_stage_of};
use super::{ConfigError, Fields};
use crate::model::Role;

/// The sizes that the first three take from their defaults.
fn encoder(f: &Fields) -> Result<Encoder, ConfigError> {
    let hidden = size(f, "hidden_size", 768)?;
    Ok(Encoder {
        hidden,
        layers: layers(f, "num_hidden_layers", 12)?,
        heads: heads(f, "num_attention_heads", 12, hidden)?,
        intermediate: size(f, "intermediate_size", 3072)?,
    })
}

/// `VideoMAE`: queries and values have biases, keys none; positions are computed.
pub(super) fn read_mae(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let e = encoder(f)?;
    let [height, width] = pair_or(f, "patch_size", [16, 16])?;
    let (tubelet, channels) = (size(f, "tubelet_size", 2)?, channels(f)?);
    // Before a version of its own there was one flag for all three.
    let has_bias = if f.has("qkv_bias") { f.flag("qkv_bias", true)? } else { f.flag("qv_bias", true)? };
    let pools = f.flag("use_mean_pooling", true)?;
    f.touch("num_frames");
    f.touch("image_size");
    f.touch("norm_pix_loss");
    let style = Style { qkv_bias: [has_bias, false, has_bias], ..VIT };
    let mut network = Network::default();
    let layers_of = |e: &Encoder| style.layers(e);
    network.stack_of("vision", "videomae.encoder.layer", &e, layers_of(&e));
    let t = &mut network.t;
    t.convolution("videomae.embeddings.patch_embeddings.projection", &[e.hidden, channels, tubelet, height, width], true);
    if !pools {
        norm(t, "videomae.layernorm", e.hidden, true);
    }
    let d = size(f, "decoder_hidden_size", 384)?;
    let decoder = Encoder {
        hidden: d,
        layers: layers(f, "decoder_num_hidden_layers", 4)?,
        heads: heads(f, "decoder_num_attention_heads", 6, d)?,
        intermediate: size(f, "decoder_intermediate_size", 1536)?,
    };
    if class.ends_with("ForVideoClassification") {
        if pools {
            norm(t, "fc_norm", e.hidden, true);
        }
        linear(t, Role::Score, "classifier", e.hidden, labels(f)?, true);
    } else if class.ends_with("ForPreTraining") {
        linear(t, Role::Other, "encoder_to_decoder", e.hidden, d, false);
        t.tensor("mask_token", Role::Other, &[1, 1, d]);
        norm(t, "decoder.norm", d, true);
        linear(t, Role::Other, "decoder.head", d, channels.saturating_mul(tubelet).saturating_mul(height).saturating_mul(height), true);
        network.stack_of("decoder", "decoder.decoder_layers", &decoder, layers_of(&decoder));
    } else if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(e.hidden))
}

/// `ViViT`: a class token and learned positions over tubelets.
pub(super) fn read_vivit(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let e = encoder(f)?;
    let tubelet = per_stage_of(f, "tubelet_size", &[2, 16, 16], 3)?;
    let [height, width] = pair_or(f, "image_size", [224, 224])?;
    let frames = size(f, "num_frames", 32)?;
    let patches = (frames / tubelet[0]).saturating_mul(height / tubelet[1]).saturating_mul(width / tubelet[2]);
    let has_bias = f.flag("qkv_bias", true)?;
    let style = Style {
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        output: "attention.o_proj",
        up: "mlp.fc1",
        down: "mlp.fc2",
        ..VIT.biases(has_bias, true, true)
    };
    let mut network = Network::default();
    network.stack_of("vision", "vivit.layers", &e, style.layers(&e));
    let t = &mut network.t;
    t.tensor("vivit.embeddings.cls_token", Role::Other, &[1, 1, e.hidden])
        .tensor("vivit.embeddings.position_embeddings", Role::Position, &[1, patches.saturating_add(1), e.hidden])
        .convolution("vivit.embeddings.patch_embeddings.projection", &[e.hidden, channels(f)?, tubelet[0], tubelet[1], tubelet[2]], true);
    norm(t, "vivit.layernorm", e.hidden, true);
    let pooled = f.optional_count("pooler_output_size")?.unwrap_or(e.hidden);
    if class.ends_with("ForVideoClassification") {
        linear(t, Role::Score, "classifier", e.hidden, labels(f)?, true);
    } else {
        linear(t, Role::Other, "pooler.dense", e.hidden, pooled, true);
        if !class.is_empty() && !class.ends_with("Model") {
            network.headless(&class);
        }
    }
    Ok(network.draft(e.hidden))
}

/// `TimeSformer`: attention over time, then over space, unless the config says both at once or space alone.
pub(super) fn read_timesformer(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let e = encoder(f)?;
    let (patch, image) = (pair_or(f, "patch_size", [16, 16])?, pair_or(f, "image_size", [224, 224])?);
    let patches = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]);
    let kind = f.optional_text("attention_type")?.unwrap_or_else(|| "divided_space_time".to_owned());
    if !["divided_space_time", "space_only", "joint_space_time"].contains(&kind.as_str()) {
        return Err(f.impossible("attention_type", "it must be `divided_space_time`, `space_only` or `joint_space_time`"));
    }
    let bias = f.flag("qkv_bias", true)?;
    let style = Style { qkv: &["attention.attention.qkv"], ..VIT }.biases(bias, true, true);
    let mut more = Tensors::default();
    if kind == "divided_space_time" {
        norm(&mut more, "temporal_layernorm", e.hidden, true);
        linear(&mut more, Role::Qkv, "temporal_attention.attention.qkv", e.hidden, 3 * e.hidden, bias);
        linear(&mut more, Role::AttentionOutput, "temporal_attention.output.dense", e.hidden, e.hidden, true);
        linear(&mut more, Role::Other, "temporal_dense", e.hidden, e.hidden, true);
    }
    let mut network = Network::default();
    network.stack_of("vision", "timesformer.encoder.layer", &e, style.layers_with(&e, &more.build()));
    let t = &mut network.t;
    t.tensor("timesformer.embeddings.cls_token", Role::Other, &[1, 1, e.hidden])
        .tensor("timesformer.embeddings.position_embeddings", Role::Position, &[1, patches.saturating_add(1), e.hidden])
        .convolution("timesformer.embeddings.patch_embeddings.projection", &[e.hidden, channels(f)?, patch[0], patch[1]], true);
    if kind != "space_only" {
        t.tensor("timesformer.embeddings.time_embeddings", Role::Position, &[1, size(f, "num_frames", 8)?, e.hidden]);
    }
    norm(t, "timesformer.layernorm", e.hidden, true);
    if class.ends_with("ForVideoClassification") {
        linear(t, Role::Score, "classifier", e.hidden, labels(f)?, true);
    } else if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(e.hidden))
}

/// V-JEPA 2: a `ViT` over videos and a narrower predictor; for classes, layers that pool what the first sees.
pub(super) fn read_vjepa2(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let bias = f.flag("qkv_bias", true)?;
    let stack = |keys: [&str; 4], defaults: [u64; 3]| -> Result<Encoder, ConfigError> {
        let hidden = size(f, keys[0], defaults[0])?;
        let inner = times(hidden, ratio(f, keys[3], 4.0)?);
        Ok(Encoder { hidden, layers: layers(f, keys[1], defaults[1])?, heads: heads(f, keys[2], defaults[2], hidden)?, intermediate: inner })
    };
    let encoder = stack(["hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio"], [1024, 24, 16])?;
    let predictor = stack(["pred_hidden_size", "pred_num_hidden_layers", "pred_num_attention_heads", "pred_mlp_ratio"], [384, 12, 12])?;
    let (patch, tubelet, channels) = (size(f, "patch_size", 16)?, size(f, "tubelet_size", 2)?, size(f, "in_chans", 3)?);
    let layer = |e: &Encoder| {
        let mut t = Tensors::default();
        for name in ["query", "key", "value"] {
            t.linear(&format!("attention.{name}"), e.hidden, e.hidden, bias);
        }
        t.linear("attention.proj", e.hidden, e.hidden, true);
        norms(&mut t, &["norm1", "norm2"], e.hidden);
        feed_forward(&mut t, ["mlp.fc1", "mlp.fc2"], e.hidden, e.intermediate);
        t.build()
    };
    let mut network = Network::default();
    network.stack("vision", "encoder.layer", &encoder, &layer(&encoder));
    network.stack("predictor", "predictor.layer", &predictor, &layer(&predictor));
    let (hidden, narrow) = (encoder.hidden, predictor.hidden);
    let t = &mut network.t;
    t.convolution("encoder.embeddings.patch_embeddings.proj", &[hidden, channels, tubelet, patch, patch], true);
    norm(t, "encoder.layernorm", hidden, true);
    linear(t, Role::Other, "predictor.embeddings.predictor_embeddings", hidden, narrow, true);
    t.tensor("predictor.embeddings.mask_tokens", Role::Other, &[size(f, "pred_num_mask_tokens", 10)?, 1, 1, narrow]);
    norm(t, "predictor.layernorm", narrow, true);
    linear(t, Role::Other, "predictor.proj", narrow, hidden, true);
    for key in ["crop_size", "frames_per_clip", "num_pooler_layers", "pred_zero_init_mask_tokens", "image_size"] {
        f.touch(key);
    }
    if class.ends_with("ForVideoClassification") {
        let inner = 4 * hidden;
        t.tensor("pooler.query_tokens", Role::Other, &[1, 1, hidden]);
        let at = "pooler.cross_attention_layer";
        projections(t, &format!("{at}.cross_attn"), &["q_proj", "k_proj", "v_proj"], hidden);
        norms(t, &[&format!("{at}.layer_norm1"), &format!("{at}.layer_norm2")], hidden);
        feed_forward(t, [&format!("{at}.mlp.fc1"), &format!("{at}.mlp.fc2")], hidden, inner);
        linear(t, Role::Score, "classifier", hidden, labels(f)?, true);
        let pooler = Encoder { layers: layers(f, "num_pooler_layers", 3)?, intermediate: inner, ..encoder };
        let mut layer = Tensors::default();
        projections(&mut layer, "self_attn", &["q_proj", "k_proj", "v_proj", "out_proj"], hidden);
        norms(&mut layer, &["layer_norm1", "layer_norm2"], hidden);
        feed_forward(&mut layer, ["mlp.fc1", "mlp.fc2"], hidden, inner);
        network.stack("pooler", "pooler.self_attention_layers", &pooler, &layer.build());
    } else if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}
