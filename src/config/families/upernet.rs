//! `UPerNet`: a backbone, pools of several sizes over its last map, and maps fused from the smallest up; beside it a small second
//! head for training.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors, labels};
use super::networks::{Network, class, layers_or_none, normed, size};
use super::vision::per_stage;
use super::{ConfigError, Fields};

const RESNET: Usual = Usual { model_type: "resnet", config: "{}", stages: &[1, 2, 3, 4] };

fn convolution(t: &mut Tensors, at: &str, shape: [u64; 4]) {
    normed(t, &format!("{at}.conv"), &format!("{at}.batch_norm"), shape);
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let backbone = backbone(f, "backbone", RESNET, false)?;
    let width = size(f, "hidden_size", 512)?;
    let pools = per_stage(f, "pool_scales", &[1, 2, 3, 6])?.len() as u64;
    let labels = labels(f)?;
    let channels = &backbone.channels;
    let last = channels.last().copied().unwrap_or(0);
    let mut network = Network::default();
    let t = &mut network.t;
    t.convolution("decode_head.classifier", &[labels, width, 1, 1], true);
    for number in 0..pools {
        convolution(t, &format!("decode_head.psp_modules.{number}.1"), [width, last, 1, 1]);
    }
    convolution(t, "decode_head.bottleneck", [width, last + pools * width, 3, 3]);
    for (number, &channels) in channels.iter().take(channels.len().saturating_sub(1)).enumerate() {
        convolution(t, &format!("decode_head.lateral_convs.{number}"), [width, channels, 1, 1]);
        convolution(t, &format!("decode_head.fpn_convs.{number}"), [width, width, 3, 3]);
    }
    convolution(t, "decode_head.fpn_bottleneck", [width, channels.len() as u64 * width, 3, 3]);
    let (inner, count, joins) = (size(f, "auxiliary_channels", 256)?, layers_or_none(f, "auxiliary_num_convs", 1)?, f.flag("auxiliary_concat_input", false)?);
    let inputs = f.optional_count("auxiliary_in_channels")?;
    if f.flag("use_auxiliary_head", true)? {
        let Some(inputs) = inputs.or_else(|| channels.get(2).copied()) else {
            return Err(f.impossible("use_auxiliary_head", "the second head reads the third map of the backbone, which gives fewer"));
        };
        for number in 0..count {
            convolution(t, &format!("auxiliary_head.convs.{number}"), [inner, if number == 0 { inputs } else { inner }, 3, 3]);
        }
        if joins {
            convolution(t, "auxiliary_head.conv_cat", [inner, inputs + inner, 3, 3]);
        }
        t.convolution("auxiliary_head.classifier", &[labels, inner, 1, 1], true);
    }
    f.touch("loss_ignore_index");
    if !class.is_empty() && !class.ends_with("ForSemanticSegmentation") {
        network.headless(&class);
    }
    network.part(backbone.component);
    Ok(network.draft(width))
}
