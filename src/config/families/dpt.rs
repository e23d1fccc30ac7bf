//! DPT: ViT's encoder, or another backbone, four of whose layers are made into images of four sizes and fused from the smallest up.

use super::backbones::backbone;
use super::decoder::{Draft, Tensors, labels};
use super::depth::{DINOV2, Neck};
use super::networks::{Network, class};
use super::vision::norm;
use super::{ConfigError, Fields, vit};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.flag("is_hybrid", false)? {
        return Err(f.impossible("is_hybrid", "convolutions before the transformer are not known here"));
    }
    for key in ["backbone_featmap_shape", "head_in_index", "neck_ignore_stages", "semantic_loss_ignore_index"] {
        f.touch(key);
    }
    let class = class(f)?;
    let has_backbone = f.raw("backbone_config").is_some() || f.raw("backbone").is_some();
    let (mut draft, inputs, kind) = if has_backbone {
        let backbone = backbone(f, "backbone", DINOV2, false)?;
        let kind = f.nested(&["backbone_config"])?.map(|inner| inner.optional_text("model_type")).transpose()?.flatten();
        let channels = backbone.channels.clone();
        (Network::default().over(backbone), channels, kind)
    } else {
        f.touch("backbone_config");
        f.touch("backbone");
        let mut draft = vit::read(&f.with_defaults(&[("image_size", 384)]).as_class("Model"))?;
        draft.decoder.base = "dpt";
        draft.decoder.layer_prefix = "dpt.encoder.layer";
        for tensor in &mut draft.decoder.tensors {
            tensor.name = tensor.name.replacen("vit.", "dpt.", 1);
        }
        let hidden = draft.decoder.shape.hidden;
        (draft, vec![hidden], None)
    };
    let projects = f.optional_text("readout_type")?.is_none_or(|kind| kind == "project");
    let projects_head = f.flag("add_projection", false)?;
    let has_second = f.flag("use_auxiliary_head", true)?;
    if class.is_empty() || class.ends_with("Model") {
        return Ok(draft);
    }
    draft.decoder.tensors.retain(|tensor| !tensor.name.contains("pooler"));
    let mut t = Tensors::default();
    let neck = Neck {
        inputs: &inputs,
        // Windows give maps as they are.
        reassembles: kind.as_deref().is_none_or(|kind| !["swinv2", "swin"].contains(&kind)),
        reads_class_token: projects,
        default_widths: &[96, 192, 384, 768],
        default_fused: 256,
        is_prompted: false,
    };
    let fused = neck.add(f, &mut t)?;
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
