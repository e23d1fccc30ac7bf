//! `SwiftFormer`: convolutions, and at the end of each stage additive attention by one vector of weights.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, ratio, size, times};
use super::vision::{bare, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// A depthwise convolution, a norm, two convolutions of single pixels around `inner`, a layer scale.
fn local(t: &mut Tensors, at: &str, width: u64, inner: u64) {
    t.convolution(&format!("{at}.depth_wise_conv"), &[width, 1, 3, 3], true);
    norm(t, &format!("{at}.norm"), width, true);
    t.convolution(&format!("{at}.point_wise_conv1"), &[inner, width, 1, 1], true)
        .convolution(&format!("{at}.point_wise_conv2"), &[width, inner, 1, 1], true)
        .tensor(&format!("{at}.layer_scale"), Role::Other, &[width, 1, 1]);
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[3, 3, 6, 4])?;
    let widths = per_stage_of(f, "embed_dims", &[48, 56, 112, 220], depths.len())?;
    let shrinks = match f.raw("downsamples") {
        None => Some(vec![true; depths.len()]),
        Some(value) => value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_bool).collect()),
    };
    let shrinks: Vec<bool> = shrinks
        .filter(|list: &Vec<bool>| list.len() == depths.len())
        .ok_or_else(|| f.impossible("downsamples", "it must be a list of true and false, one per stage"))?;
    let (ratio, side, is_scaled) = (ratio(f, "mlp_ratio", 4.0)?, size(f, "down_patch_size", 3)?, f.flag("use_layer_scale", true)?);
    for key in ["image_size", "down_stride", "down_pad", "drop_mlp_rate", "drop_conv_encoder_rate", "layer_scale_init_value"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    let first = widths[0];
    t.convolution("swiftformer.patch_embed.patch_embedding.0", &[first / 2, channels(f)?, 3, 3], true);
    norm(&mut t, "swiftformer.patch_embed.patch_embedding.1", first / 2, true);
    t.convolution("swiftformer.patch_embed.patch_embedding.3", &[first, first / 2, 3, 3], true);
    norm(&mut t, "swiftformer.patch_embed.patch_embedding.4", first, true);
    let mut place = 0;
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let inner = times(width, ratio);
        for number in 0..depth {
            let at = format!("swiftformer.encoder.network.{place}.blocks.{number}");
            if number + 1 < depth {
                local(&mut t, &at, width, inner);
                continue;
            }
            local(&mut t, &format!("{at}.local_representation"), width, width);
            for name in ["to_query", "to_key", "proj", "final"] {
                t.linear(&format!("{at}.attn.{name}"), width, width, true);
            }
            t.tensor(&format!("{at}.attn.w_g"), Role::Other, &[width, 1]);
            norm(&mut t, &format!("{at}.linear.norm1"), width, true);
            t.convolution(&format!("{at}.linear.fc1"), &[inner, width, 1, 1], true).convolution(&format!("{at}.linear.fc2"), &[width, inner, 1, 1], true);
            if is_scaled {
                t.tensor(&format!("{at}.layer_scale_1"), Role::Other, &[width, 1, 1]).tensor(&format!("{at}.layer_scale_2"), Role::Other, &[width, 1, 1]);
            }
        }
        place += 1;
        if let Some(&next) = widths.get(stage + 1)
            && (shrinks[stage] || next != width)
        {
            let at = format!("swiftformer.encoder.network.{place}");
            t.convolution(&format!("{at}.proj"), &[next, width, side, side], true);
            norm(&mut t, &format!("{at}.norm"), next, true);
            place += 1;
        }
    }
    let last = widths.last().copied().unwrap_or(0);
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        norm(&mut t, "norm", last, true);
        for head in ["head", "dist_head"] {
            linear(&mut t, Role::Score, head, last, labels(f)?, true);
        }
    }
    let mut draft = staged(last, t.build(), Vec::new(), "swiftformer");
    if !is_classifier && !class.is_empty() && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
