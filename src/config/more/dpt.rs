//! DPT: ViT's encoder, four of whose layers are made into images of four sizes and fused from the smallest up.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{linear, norm, per_stage};
use super::{ConfigError, Fields, vit};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.flag("is_hybrid", false)? || f.raw("backbone_config").is_some() {
        return Err(f.impossible("is_hybrid", "another backbone than ViT is not known here"));
    }
    for key in ["backbone_config", "backbone", "backbone_featmap_shape", "head_in_index", "neck_ignore_stages", "semantic_loss_ignore_index"] {
        f.touch(key);
    }
    let class = f.architecture()?.unwrap_or_default();
    let mut draft = vit::read(&f.with_defaults(&[("image_size", 384)]).as_class("Model"))?;
    draft.decoder.base = "dpt";
    draft.decoder.layer_prefix = "dpt.encoder.layer";
    for tensor in &mut draft.decoder.tensors {
        tensor.name = tensor.name.replacen("vit.", "dpt.", 1);
    }
    let hidden = draft.decoder.shape.hidden;
    let widths = per_stage(f, "neck_hidden_sizes", &[96, 192, 384, 768])?;
    let fused = f.optional_count("fusion_hidden_size")?.unwrap_or(256);
    let factors: Vec<f64> = match f.raw("reassemble_factors").and_then(serde_json::Value::as_array) {
        Some(list) => list.iter().filter_map(serde_json::Value::as_f64).collect(),
        None => vec![4.0, 2.0, 1.0, 0.5],
    };
    let projects = f.optional_text("readout_type")?.is_none_or(|kind| kind == "project");
    let normed = f.flag("use_batch_norm_in_fusion_residual", false)?;
    let bias = f.optional_flag("use_bias_in_fusion_residual")?.unwrap_or(!normed);
    let projects_head = f.flag("add_projection", false)?;
    let has_second = f.flag("use_auxiliary_head", true)?;
    if class.is_empty() || class.ends_with("Model") {
        return Ok(draft);
    }
    draft.decoder.tensors.retain(|tensor| !tensor.name.contains("pooler"));
    let mut t = Tensors::default();
    for (number, (&width, &factor)) in widths.iter().zip(&factors).enumerate() {
        let at = format!("neck.reassemble_stage.layers.{number}");
        t.convolution(&format!("{at}.projection"), &[width, hidden, 1, 1], true);
        if factor < 1.0 {
            t.convolution(&format!("{at}.resize"), &[width, width, 3, 3], true);
        } else if factor > 1.0 && factor <= 1024.0 {
            // Whole by the class; its kernel is as large as the factor.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let side = factor as u64;
            t.convolution(&format!("{at}.resize"), &[width, width, side, side], true);
        }
        if projects {
            linear(&mut t, Role::Other, &format!("neck.reassemble_stage.readout_projects.{number}.0"), hidden.saturating_mul(2), hidden, true);
        }
        t.convolution(&format!("neck.convs.{number}"), &[fused, width, 3, 3], false);
        let at = format!("neck.fusion_stage.layers.{number}");
        t.convolution(&format!("{at}.projection"), &[fused, fused, 1, 1], true);
        for half in [1, 2] {
            for step in [1, 2] {
                t.convolution(&format!("{at}.residual_layer{half}.convolution{step}"), &[fused, fused, 3, 3], bias);
                if normed {
                    norm(&mut t, &format!("{at}.residual_layer{half}.batch_norm{step}"), fused, true);
                }
            }
        }
    }
    if class.ends_with("ForDepthEstimation") {
        if projects_head {
            t.convolution("head.projection", &[256, 256, 3, 3], true);
        }
        t.convolution("head.head.0", &[fused / 2, fused, 3, 3], true).convolution("head.head.2", &[32, fused / 2, 3, 3], true).convolution(
            "head.head.4",
            &[1, 32, 1, 1],
            true,
        );
    } else if class.ends_with("ForSemanticSegmentation") {
        for head in ["head", "auxiliary_head"].into_iter().take(1 + usize::from(has_second)) {
            t.convolution(&format!("{head}.head.0"), &[fused, fused, 3, 3], false);
            norm(&mut t, &format!("{head}.head.1"), fused, true);
            t.convolution(&format!("{head}.head.4"), &[labels(f)?, fused, 1, 1], true);
        }
    } else {
        draft.assumptions.push(format!("architecture `{class}` is counted without its head"));
    }
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}
