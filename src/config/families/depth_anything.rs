//! Depth Anything, and the same prompted with a coarse map: a `DINOv2` backbone, four of its layers brought to four scales and fused,
//! three convolutions above.

use super::backbones::backbone;
use super::decoder::{Draft, Tensors, component};
use super::depth::{DINOV2, Neck};
use super::networks::{Network, class, size};
use super::{ConfigError, Fields};
use crate::model::ComponentKind;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, false)
}

/// Fusion reads a map of depths that a sensor gives.
pub(super) fn read_prompted(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, true)
}

fn model(f: &Fields, is_prompted: bool) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let backbone = backbone(f, "backbone", DINOV2, false)?;
    for key in ["patch_size", "head_in_index", "depth_estimation_type", "max_depth"] {
        f.touch(key);
    }
    let features = size(f, "reassemble_hidden_size", 384)?;
    let neck = Neck { inputs: &[features], reassembles: true, reads_class_token: false, default_widths: &[48, 96, 192, 384], default_fused: 64, is_prompted };
    let mut t = Tensors::default();
    let fused = neck.add(f, &mut t)?;
    let head = size(f, "head_hidden_size", 32)?;
    t.convolution("head.conv1", &[fused / 2, fused, 3, 3], true).convolution("head.conv2", &[head, fused / 2, 3, 3], true).convolution(
        "head.conv3",
        &[1, head, 1, 1],
        true,
    );
    let mut network = Network::default();
    if !class.is_empty() && !class.ends_with("ForDepthEstimation") {
        network.headless(&class);
    }
    network.part(component("head", ComponentKind::Other, fused, "", t.build(), Vec::new()));
    Ok(network.over(backbone))
}
