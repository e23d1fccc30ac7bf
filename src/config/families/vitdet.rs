//! `ViTDet`: a `ViT` for detection, some layers in windows, some with a block of convolutions behind them; and `ViTMatte`, which cuts
//! out foregrounds over it.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors};
use super::networks::{Network, class, feed_forward, heads, layers, normed, norms, pair_or, ratio, size, times};
use super::vision::{Encoder, Style, channels, linear, norm, per_stage};
use super::{ConfigError, Fields};
use crate::model::Role;

/// The encoder, bare.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = size(f, "hidden_size", 768)?;
    let inner = times(hidden, ratio(f, "mlp_ratio", 4.0)?);
    let e = Encoder { hidden, layers: layers(f, "num_hidden_layers", 12)?, heads: heads(f, "num_attention_heads", 12, hidden)?, intermediate: inner };
    let (patch, image, trained) = (pair_or(f, "patch_size", [16, 16])?, pair_or(f, "image_size", [224, 224])?, pair_or(f, "pretrain_image_size", [224, 224])?);
    let (bias, relative) = (f.flag("qkv_bias", true)?, f.flag("use_relative_position_embeddings", false)?);
    let window = f.optional_count_or_zero("window_size")?.unwrap_or(0);
    let (windows, convolved) = (f.layer_numbers("window_block_indices")?, f.layer_numbers("residual_block_indices")?);
    f.touch("out_features");
    f.touch("out_indices");
    let mut one = Tensors::default();
    linear(&mut one, Role::Qkv, "attention.qkv", hidden, 3 * hidden, bias);
    linear(&mut one, Role::AttentionOutput, "attention.proj", hidden, hidden, true);
    norms(&mut one, &["norm1", "norm2"], hidden);
    feed_forward(&mut one, ["mlp.fc1", "mlp.fc2"], hidden, inner);
    let mut stack = Style::layers_of(&e, &one.build());
    for ((_, tensors), number) in stack.iter_mut().zip(0_u64..) {
        let mut more = Tensors::default();
        if relative {
            let sides = if window > 0 && windows.contains(&number) { [window; 2] } else { [image[0] / patch[0], image[1] / patch[1]] };
            for (name, side) in ["attention.rel_pos_h", "attention.rel_pos_w"].into_iter().zip(sides) {
                more.tensor(name, Role::Position, &[(2 * side).saturating_sub(1), hidden / e.heads]);
            }
        }
        if convolved.contains(&number) {
            for (place, shape) in [[hidden / 2, hidden, 1, 1], [hidden / 2, hidden / 2, 3, 3], [hidden, hidden / 2, 1, 1]].into_iter().enumerate() {
                normed(&mut more, &format!("residual.conv{}", place + 1), &format!("residual.norm{}", place + 1), shape);
            }
        }
        tensors.extend(more.build());
    }
    let mut network = Network::default();
    network.stack_of("vision", "encoder.layer", &e, stack);
    if f.flag("use_absolute_position_embeddings", true)? {
        let places = (trained[0] / patch[0]).saturating_mul(trained[1] / patch[1]).saturating_add(1);
        network.t.tensor("embeddings.position_embeddings", Role::Position, &[1, places, hidden]);
    }
    network.t.convolution("embeddings.projection", &[hidden, channels(f)?, patch[0], patch[1]], true);
    if !class.is_empty() && !class.ends_with("Model") && !class.ends_with("Backbone") {
        network.headless(&class);
    }
    Ok(network.draft(hidden))
}

const VITDET: Usual = Usual { model_type: "vitdet", config: "{}", stages: &[4] };

fn convolution(t: &mut Tensors, at: &str, shape: [u64; 4]) {
    normed(t, &format!("{at}.conv"), &format!("{at}.batch_norm"), shape);
}

/// `ViTMatte`: details by convolutions over the image, fused with what the backbone sees.
pub(super) fn read_matte(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let backbone = backbone(f, "backbone", VITDET, false)?;
    let hidden = size(f, "hidden_size", 384)?;
    let (details, fusions) = (per_stage(f, "convstream_hidden_sizes", &[48, 96, 192])?, per_stage(f, "fusion_hidden_sizes", &[256, 128, 64, 32])?);
    if fusions.len() != details.len() + 1 {
        return Err(f.impossible("fusion_hidden_sizes", "it must have one entry more than `convstream_hidden_sizes`"));
    }
    let colours = match f.nested(&["backbone_config"])? {
        Some(inner) => channels(&inner)?,
        None => 3,
    };
    let streams: Vec<u64> = std::iter::once(colours).chain(details).collect();
    let mut network = Network::default();
    let t = &mut network.t;
    for (number, step) in streams.windows(2).enumerate() {
        convolution(t, &format!("decoder.convstream.convs.{number}"), [step[1], step[0], 3, 3]);
    }
    let mut before = hidden;
    for (number, (&width, &detail)) in fusions.iter().zip(streams.iter().rev()).enumerate() {
        convolution(t, &format!("decoder.fusion_blocks.{number}.conv"), [width, before + detail, 3, 3]);
        before = width;
    }
    t.convolution("decoder.matting_head.matting_convs.0", &[16, before, 3, 3], true);
    norm(t, "decoder.matting_head.matting_convs.1", 16, true);
    t.convolution("decoder.matting_head.matting_convs.3", &[1, 16, 1, 1], true);
    if !class.is_empty() && !class.ends_with("ForImageMatting") {
        network.headless(&class);
    }
    Ok(network.over(backbone))
}
