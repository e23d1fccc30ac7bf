//! Depth Anything: a `DINOv2` backbone, four of its layers brought to four scales and fused, three convolutions above.

use super::decoder::{Draft, Tensors, component};
use super::vision::per_stage;
use super::vit::dinov2_tower;
use super::{ConfigError, Fields};
use crate::model::ComponentKind;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let backbone = f.required_nested(&["backbone_config"])?;
    if backbone.optional_text("model_type")?.is_some_and(|kind| kind != "dinov2") {
        return Err(backbone.impossible("model_type", "only `dinov2` backbones are understood"));
    }
    let tower = dinov2_tower(&backbone, 14, false)?.below("backbone");
    for key in ["architectures", "patch_size", "head_in_index", "depth_estimation_type", "max_depth"] {
        f.touch(key);
    }
    let features = f.optional_count("reassemble_hidden_size")?.unwrap_or(384);
    let widths = per_stage(f, "neck_hidden_sizes", &[48, 96, 192, 384])?;
    let factors = match f.raw("reassemble_factors") {
        None => vec![4.0, 2.0, 1.0, 0.5],
        Some(value) => value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_f64).collect::<Option<Vec<_>>>()).unwrap_or_default(),
    };
    if factors.len() != widths.len() || factors.iter().any(|&factor| !(factor > 0.0 && factor <= 1024.0)) {
        return Err(f.impossible("reassemble_factors", "it must have one factor per entry of `neck_hidden_sizes`"));
    }
    let fused = f.optional_count("fusion_hidden_size")?.unwrap_or(64);
    let head = f.optional_count("head_hidden_size")?.unwrap_or(32);
    let mut t = Tensors::default();
    for (number, (&width, &factor)) in widths.iter().zip(&factors).enumerate() {
        let name = format!("neck.reassemble_stage.layers.{number}");
        t.convolution(&format!("{name}.projection"), &[width, features, 1, 1], true);
        // Transposed to enlarge, nothing to keep, 3 x 3 to shrink.
        if factor > 1.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let kernel = factor as u64;
            t.convolution(&format!("{name}.resize"), &[width, width, kernel, kernel], true);
        } else if factor < 1.0 {
            t.convolution(&format!("{name}.resize"), &[width, width, 3, 3], true);
        }
        t.convolution(&format!("neck.convs.{number}"), &[fused, width, 3, 3], false);
        let name = format!("neck.fusion_stage.layers.{number}");
        t.convolution(&format!("{name}.projection"), &[fused, fused, 1, 1], true);
        for part in ["residual_layer1.convolution1", "residual_layer1.convolution2", "residual_layer2.convolution1", "residual_layer2.convolution2"] {
            t.convolution(&format!("{name}.{part}"), &[fused, fused, 3, 3], true);
        }
    }
    t.convolution("head.conv1", &[fused / 2, fused, 3, 3], true).convolution("head.conv2", &[head, fused / 2, 3, 3], true).convolution(
        "head.conv3",
        &[1, head, 1, 1],
        true,
    );
    Ok(tower.draft(ComponentKind::VisionTower, "", 0).with(component("head", ComponentKind::Other, fused, "", t.build(), Vec::new())))
}
