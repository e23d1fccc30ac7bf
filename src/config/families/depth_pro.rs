//! Depth Pro: `DINOv2` over the whole image and over patches of it at several scales, maps fused from the smallest up; if wanted a
//! third for the field of view.

use super::decoder::{Draft, Tensors};
use super::networks::{Network, class, layers_or_none, size};
use super::vision::{linear, norm, per_stage};
use super::{ConfigError, Fields, vit};
use crate::model::ComponentKind;

/// One of its encoders, below `at`, and its hidden size.
fn encoder(f: &Fields, key: &'static str, at: &str) -> Result<(crate::model::Component, u64), ConfigError> {
    let inner = f.part(&[key])?;
    if inner.optional_text("model_type")?.is_some_and(|kind| kind != "dinov2") {
        return Err(inner.impossible("model_type", "only `dinov2` is understood as this model's encoder"));
    }
    for key in ["architectures", "out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states"] {
        inner.touch(key);
    }
    // The class sets their images to the size of its patches.
    let image = size(f, "patch_size", 384)?;
    let tower = vit::dinov2_tower(&inner.with_defaults(&[]).replaced("image_size", image), 14, false)?.below(at);
    let hidden = tower.hidden();
    Ok((tower.component("encoder", ComponentKind::VisionTower), hidden))
}

/// A convolution of single pixels if wanted, then those that double the map.
fn upsample(t: &mut Tensors, at: &str, [inputs, inner, outputs]: [u64; 3], steps: u64) {
    t.convolution(&format!("{at}.layers.0"), &[inner, inputs, 1, 1], false);
    for step in 0..steps {
        // Transposed: inputs before outputs.
        t.convolution(&format!("{at}.layers.{}", step + 1), &[if step == 0 { inner } else { outputs }, outputs, 2, 2], false);
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let (patches, narrow) = encoder(f, "patch_model_config", "depth_pro.encoder.patch_encoder.model")?;
    let (image, wide) = encoder(f, "image_model_config", "depth_pro.encoder.image_encoder.model")?;
    let fused = size(f, "fusion_hidden_size", 256)?;
    let scaled = per_stage(f, "scaled_images_feature_dims", &[1024, 1024, 512])?;
    let hooked = per_stage(f, "intermediate_feature_dims", &[256, 256])?;
    for key in ["intermediate_hook_ids", "scaled_images_ratios", "scaled_images_overlap_ratios", "merge_padding_value"] {
        f.touch(key);
    }
    let mut network = Network::default();
    let t = &mut network.t;
    let at = "depth_pro.neck.feature_upsample";
    t.tensor(&format!("{at}.image_block.layers.0.weight"), crate::model::Role::Other, &[wide, scaled[0], 2, 2]).tensor(
        &format!("{at}.image_block.layers.0.bias"),
        crate::model::Role::Other,
        &[scaled[0]],
    );
    for (number, &width) in scaled.iter().enumerate() {
        upsample(t, &format!("{at}.scaled_images.{number}"), [narrow, width, width], 1);
    }
    for (number, &width) in hooked.iter().enumerate() {
        let inner = if number == 0 { fused } else { width };
        upsample(t, &format!("{at}.intermediate.{number}"), [narrow, inner, width], 2 + number as u64);
    }
    t.convolution("depth_pro.neck.fuse_image_with_low_res", &[scaled[0], 2 * scaled[0], 1, 1], true);
    let maps: Vec<u64> = scaled.iter().chain(&hooked).copied().collect();
    for (number, &width) in maps.iter().enumerate() {
        if number + 1 < maps.len() || width != fused {
            t.convolution(&format!("depth_pro.neck.feature_projection.projections.{number}"), &[fused, width, 3, 3], false);
        }
    }
    let sees_field = f.flag("use_fov_model", false)?;
    let heads = layers_or_none(f, "num_fov_head_layers", 2)?;
    let normed = f.flag("use_batch_norm_in_fusion_residual", false)?;
    let bias = f.optional_flag("use_bias_in_fusion_residual")?.unwrap_or(if f.has("use_bias_in_fusion_residual") { !normed } else { true });
    f.touch("fov_model_config");
    if !class.ends_with("Model") {
        for number in 0..maps.len() {
            let is_last = number + 1 == maps.len();
            let at = if is_last { "fusion_stage.final".to_owned() } else { format!("fusion_stage.intermediate.{number}") };
            for half in [1, 2] {
                for step in [1, 2] {
                    t.convolution(&format!("{at}.residual_layer{half}.convolution{step}"), &[fused, fused, 3, 3], bias);
                    if normed {
                        norm(t, &format!("{at}.residual_layer{half}.batch_norm{step}"), fused, true);
                    }
                }
            }
            if !is_last {
                t.convolution(&format!("{at}.deconv"), &[fused, fused, 2, 2], false);
            }
            t.convolution(&format!("{at}.projection"), &[fused, fused, 1, 1], true);
        }
        let half = fused / 2;
        t.convolution("head.layers.0", &[half, fused, 3, 3], true)
            .convolution("head.layers.1", &[half, half, 2, 2], true)
            .convolution("head.layers.2", &[32, half, 3, 3], true)
            .convolution("head.layers.4", &[1, 32, 1, 1], true);
        if sees_field {
            if heads > 20 {
                return Err(f.impossible("num_fov_head_layers", "it must be at most 20"));
            }
            let (field, hidden) = encoder(f, "fov_model_config", "fov_model.fov_encoder.model")?;
            linear(t, crate::model::Role::Other, "fov_model.fov_encoder.neck", hidden, half, true);
            t.convolution("fov_model.conv", &[half, fused, 3, 3], true);
            for number in 0..heads {
                let (inputs, outputs) = (fused.div_ceil(2 << number), fused.div_ceil(4 << number));
                t.convolution(&format!("fov_model.head.layers.{}", 2 * number), &[outputs, inputs, 3, 3], true);
            }
            // What is left of the grid after halving it as often.
            let grid = size(f, "patch_size", 384)? / image_patch(f)?;
            let side = grid.saturating_sub(1) / (1 << heads) + 1;
            t.convolution(&format!("fov_model.head.layers.{}", 2 * heads), &[1, fused.div_ceil(2 << heads), side, side], true);
            network.part(field);
        }
        if !class.is_empty() && !class.ends_with("ForDepthEstimation") {
            network.headless(&class);
        }
    }
    network.part(image);
    Ok(network.over(super::backbones::Backbone { component: patches, channels: vec![narrow] }))
}

fn image_patch(f: &Fields) -> Result<u64, ConfigError> {
    match f.nested(&["image_model_config"])? {
        Some(inner) => size(&inner, "patch_size", 14),
        None => Ok(14),
    }
}
