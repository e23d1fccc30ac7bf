//! `FocalNet`: each pixel is modulated by its surroundings at several sizes, made by depthwise convolutions.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, feed_forward, pair_or, ratio, size, times};
use super::vision::{bare, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[2, 2, 6, 2])?;
    if depths.len() > 20 {
        return Err(f.impossible("depths", "it must have at most 20 stages"));
    }
    let levels = per_stage_of(f, "focal_levels", &[2, 2, 2, 2], depths.len())?;
    let windows = per_stage_of(f, "focal_windows", &[3, 3, 3, 3], depths.len())?;
    if levels.iter().any(|&levels| levels > 100) {
        return Err(f.impossible("focal_levels", "each must be at most 100"));
    }
    let (first, ratio) = (size(f, "embed_dim", 96)?, ratio(f, "mlp_ratio", 4.0)?);
    let patch = pair_or(f, "patch_size", [4, 4])?;
    let overlaps = f.flag("use_conv_embed", false)?;
    let is_scaled = f.flag("use_layerscale", false)?;
    let norms_inside = f.flag("use_post_layernorm_in_modulation", false)?;
    for key in ["hidden_sizes", "image_size", "use_post_layernorm", "normalize_modulator", "layerscale_value", "drop_path_rate", "out_features", "out_indices"]
    {
        f.touch(key);
    }
    let colours = channels(f)?;
    let is_masked = class.ends_with("ForMaskedImageModeling");
    let mut t = Tensors::default();
    if is_masked {
        t.tensor("focalnet.embeddings.mask_token", Role::Other, &[1, 1, first]);
    }
    let stem = if overlaps { [7, 7] } else { patch };
    t.convolution("focalnet.embeddings.patch_embeddings.projection", &[first, colours, stem[0], stem[1]], true);
    norm(&mut t, "focalnet.embeddings.norm", first, true);
    let mut width = first;
    for (stage, &depth) in depths.iter().enumerate() {
        let at = format!("focalnet.encoder.stages.{stage}");
        for layer in 0..depth {
            let at = format!("{at}.layers.{layer}");
            norm(&mut t, &format!("{at}.norm1"), width, true);
            norm(&mut t, &format!("{at}.norm2"), width, true);
            linear(&mut t, Role::Other, &format!("{at}.modulation.projection_in"), width, 2 * width + levels[stage] + 1, true);
            t.convolution(&format!("{at}.modulation.projection_context"), &[width, width, 1, 1], true);
            linear(&mut t, Role::Other, &format!("{at}.modulation.projection_out"), width, width, true);
            for level in 0..levels[stage] {
                let side = 2 * level + windows[stage];
                t.convolution(&format!("{at}.modulation.focal_layers.{level}.0"), &[width, 1, side, side], false);
            }
            if norms_inside {
                norm(&mut t, &format!("{at}.modulation.layernorm"), width, true);
            }
            feed_forward(&mut t, [&format!("{at}.mlp.fc1"), &format!("{at}.mlp.fc2")], width, times(width, ratio));
            if is_scaled {
                t.tensor(&format!("{at}.gamma_1"), Role::Other, &[width]).tensor(&format!("{at}.gamma_2"), Role::Other, &[width]);
            }
        }
        if stage + 1 < depths.len() {
            let side = if overlaps { 3 } else { 2 };
            t.convolution(&format!("{at}.downsample.projection"), &[2 * width, width, side, side], true);
            norm(&mut t, &format!("{at}.downsample.norm"), 2 * width, true);
            width *= 2;
        }
    }
    norm(&mut t, "focalnet.layernorm", width, true);
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        linear(&mut t, Role::Score, "classifier", width, labels(f)?, true);
    }
    let stride = size(f, "encoder_stride", 32)?;
    if is_masked {
        t.convolution("decoder.0", &[stride.saturating_mul(stride).saturating_mul(colours), width, 1, 1], true);
    }
    let mut draft = staged(width, t.build(), Vec::new(), "focalnet");
    if !is_classifier && !is_masked && !class.is_empty() && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
