//! `BiT`: a `ResNet` with group norms and standardised weights, its norms before or behind its convolutions.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, size};
use super::vision::{bare, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// The nearest multiple of eight, and never less than nine tenths.
const fn divisible(value: u64) -> u64 {
    let rounded = (value + 4) / 8 * 8;
    let rounded = if rounded < 8 { 8 } else { rounded };
    if 10 * rounded < 9 * value { rounded + 8 } else { rounded }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[3, 4, 6, 3])?;
    let sizes = per_stage_of(f, "hidden_sizes", &[256, 512, 1024, 2048], depths.len())?;
    let (stem, factor) = (size(f, "embedding_size", 64)?, size(f, "width_factor", 1)?);
    let norms_first = match f.optional_text("layer_type")?.as_deref() {
        None | Some("preactivation") => true,
        Some("bottleneck") => false,
        Some(_) => return Err(f.impossible("layer_type", "it must be `preactivation` or `bottleneck`")),
    };
    for key in ["num_groups", "output_stride", "global_padding", "embedding_dynamic_padding", "drop_path_rate", "out_features", "out_indices"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    t.convolution("bit.embedder.convolution", &[stem, channels(f)?, 7, 7], false);
    if !norms_first {
        norm(&mut t, "bit.embedder.norm", stem, true);
    }
    let mut before = stem;
    for (stage, (&size, &depth)) in sizes.iter().zip(&depths).enumerate() {
        let width = divisible(size.saturating_mul(factor));
        let inner = divisible(width / 4);
        for number in 0..depth {
            let at = format!("bit.encoder.stages.{stage}.layers.{number}");
            if number == 0 {
                t.convolution(&format!("{at}.downsample.conv"), &[width, before, 1, 1], false);
                if !norms_first {
                    norm(&mut t, &format!("{at}.downsample.norm"), width, true);
                }
            }
            for (place, shape) in [[inner, before, 1, 1], [inner, inner, 3, 3], [width, inner, 1, 1]].into_iter().enumerate() {
                t.convolution(&format!("{at}.conv{}", place + 1), &shape, false);
                norm(&mut t, &format!("{at}.norm{}", place + 1), if norms_first { shape[1] } else { shape[0] }, true);
            }
            before = width;
        }
    }
    let last = sizes.last().copied().unwrap_or(0);
    if norms_first {
        norm(&mut t, "bit.norm", last, true);
    }
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        linear(&mut t, Role::Score, "classifier.1", last, labels(f)?, true);
    }
    let mut draft = staged(last, t.build(), Vec::new(), "bit");
    if !is_classifier && !class.is_empty() && !class.ends_with("Model") && !class.ends_with("Backbone") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
