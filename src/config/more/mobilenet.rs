//! `MobileNet` 1 and 2, `EfficientNet`: inverted residuals of depthwise convolutions; widths are scaled and rounded to a divisor.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{Task, bare, channels, classifier, norm, normed_convolution, per_stage, per_stage_of, staged, task};
use super::{ConfigError, Fields};

/// A factor of widths or depths within reason.
fn factor(f: &Fields, key: &'static str, default: f64) -> Result<f64, ConfigError> {
    match f.optional_number(key)?.unwrap_or(default) {
        factor if factor > 0.0 && factor <= 1000.0 => Ok(factor),
        _ => Err(f.impossible(key, "it must be more than 0 and at most 1000")),
    }
}

/// A bounded divisor or least width.
fn small(f: &Fields, key: &'static str, default: u64) -> Result<u64, ConfigError> {
    match f.optional_count(key)?.unwrap_or(default) {
        n if n <= 100_000 => Ok(n),
        _ => Err(f.impossible(key, "it must be at most 100,000")),
    }
}

/// The whole part. Widths are at most 10^8, far below where floats skip whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number.clamp(0.0, 1e12) as u64
}

#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

/// To the nearest multiple, at least `least`, but never more than a tenth down.
fn divisible(value: f64, divisor: u64, least: u64) -> u64 {
    let near = (whole(value + float(divisor) / 2.0) / divisor * divisor).max(least);
    if float(near) < 0.9 * value { near + divisor } else { near }
}

/// `MobileNet` 1.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let multiplier = factor(f, "depth_multiplier", 1.0)?;
    let least = small(f, "min_depth", 8)?;
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let width = |depth: u64| whole(float(depth) * multiplier).max(least);
    let mut t = Tensors::default();
    let mut depth = 32;
    let mut before = width(depth);
    normed_convolution(&mut t, "mobilenet_v1.conv_stem", [before, channels(f)?, 3, 3]);
    // The width doubles at the first block and wherever it strides.
    for (number, doubles) in [true, true, false, true, false, true, false, false, false, false, false, true, false].into_iter().enumerate() {
        if doubles {
            depth *= 2;
        }
        let after = width(depth);
        normed_convolution(&mut t, &format!("mobilenet_v1.layer.{}", 2 * number), [before, 1, 3, 3]);
        normed_convolution(&mut t, &format!("mobilenet_v1.layer.{}", 2 * number + 1), [after, before, 1, 1]);
        before = after;
    }
    Ok(finish(t, before, task, &class, "mobilenet_v1", false))
}

fn finish(mut t: Tensors, width: u64, task: Task, class: &str, base: &'static str, is_complete: bool) -> Draft {
    if let Task::Classification { labels } = task {
        classifier(&mut t, "classifier", width, labels);
    }
    let mut draft = staged(width, t.build(), Vec::new(), base);
    if task == Task::Other && !is_complete {
        bare(&mut draft, class);
    }
    draft
}

/// Widths between `MobileNet` 2's blocks.
const WIDTHS: [u64; 17] = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];

/// `MobileNet` 2.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let multiplier = factor(f, "depth_multiplier", 1.0)?;
    let expand = factor(f, "expand_ratio", 6.0)?;
    let divisor = small(f, "depth_divisible_by", 8)?;
    let least = small(f, "min_depth", 8)?;
    f.touch("output_stride");
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let width = |depth: u64| divisible((float(depth) * multiplier).round_ties_even(), divisor, least);
    let widths = WIDTHS.map(width);
    let mut t = Tensors::default();
    let stem = width(32);
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.first_conv", [stem, channels(f)?, 3, 3]);
    if !f.flag("first_layer_is_expansion", true)? {
        normed_convolution(&mut t, "mobilenet_v2.conv_stem.expand_1x1", [stem, stem, 1, 1]);
    }
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.conv_3x3", [stem, 1, 3, 3]);
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.reduce_1x1", [widths[0], stem, 1, 1]);
    for (number, pair) in widths.windows(2).enumerate() {
        let (before, after) = (pair[0], pair[1]);
        let expanded = divisible((float(before) * expand).round_ties_even(), divisor, least);
        let name = format!("mobilenet_v2.layer.{number}");
        normed_convolution(&mut t, &format!("{name}.expand_1x1"), [expanded, before, 1, 1]);
        normed_convolution(&mut t, &format!("{name}.conv_3x3"), [expanded, 1, 3, 3]);
        normed_convolution(&mut t, &format!("{name}.reduce_1x1"), [after, expanded, 1, 1]);
    }
    let last = widths[16];
    let output = if f.flag("finegrained_output", true)? && multiplier < 1.0 { 1280 } else { width(1280) };
    normed_convolution(&mut t, "mobilenet_v2.conv_1x1", [output, last, 1, 1]);
    let is_segmentation = class.ends_with("ForSemanticSegmentation");
    if is_segmentation {
        normed_convolution(&mut t, "segmentation_head.conv_pool", [256, last, 1, 1]);
        normed_convolution(&mut t, "segmentation_head.conv_aspp", [256, last, 1, 1]);
        normed_convolution(&mut t, "segmentation_head.conv_projection", [256, 512, 1, 1]);
        t.convolution("segmentation_head.classifier.convolution", &[labels(f)?, 256, 1, 1], true);
    }
    Ok(finish(t, output, task, &class, "mobilenet_v2", is_segmentation))
}

/// `EfficientNet`.
pub(super) fn read_efficient(f: &Fields) -> Result<Draft, ConfigError> {
    let (wide, deep) = (factor(f, "width_coefficient", 2.0)?, factor(f, "depth_coefficient", 3.1)?);
    let divisor = small(f, "depth_divisor", 8)?;
    let squeeze = factor(f, "squeeze_expansion_ratio", 0.25)?;
    let inputs = per_stage(f, "in_channels", &[32, 16, 24, 40, 80, 112, 192])?;
    let stages = inputs.len();
    let list = |key, default: &[u64]| per_stage_of(f, key, default, stages);
    let outputs = list("out_channels", &[16, 24, 40, 80, 112, 192, 320])?;
    let kernels = list("kernel_sizes", &[3, 3, 5, 3, 5, 5, 3])?;
    let expands = list("expand_ratios", &[1, 6, 6, 6, 6, 6, 6])?;
    let repeats = list("num_block_repeats", &[1, 2, 2, 3, 3, 4, 1])?;
    f.touch("strides");
    f.touch("depthwise_padding");
    // Follows from the lists.
    f.touch("num_hidden_layers");
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let width = |depth: u64| divisible(float(depth) * wide, divisor, divisor);
    let mut t = Tensors::default();
    t.convolution("efficientnet.embeddings.convolution", &[width(32), channels(f)?, 3, 3], false);
    norm(&mut t, "efficientnet.embeddings.batchnorm", width(32), true);
    let mut number = 0;
    let mut last = width(32);
    for stage in 0..stages {
        let count = whole((deep * float(repeats[stage])).ceil());
        if count > 1000 || stages > 64 {
            return Err(f.impossible("num_block_repeats", "it must have at most 64 stages of at most 1,000 blocks"));
        }
        let mut before = width(inputs[stage]);
        let after = width(outputs[stage]);
        for _ in 0..count {
            let name = format!("efficientnet.encoder.blocks.{number}");
            let inner = before.saturating_mul(expands[stage]);
            if expands[stage] != 1 {
                t.convolution(&format!("{name}.expansion.expand_conv"), &[inner, before, 1, 1], false);
                norm(&mut t, &format!("{name}.expansion.expand_bn"), inner, true);
            }
            t.convolution(&format!("{name}.depthwise_conv.depthwise_conv"), &[inner, 1, kernels[stage], kernels[stage]], false);
            norm(&mut t, &format!("{name}.depthwise_conv.depthwise_norm"), inner, true);
            let squeezed = whole(float(before) * squeeze).max(1);
            t.convolution(&format!("{name}.squeeze_excite.reduce"), &[squeezed, inner, 1, 1], true);
            t.convolution(&format!("{name}.squeeze_excite.expand"), &[inner, squeezed, 1, 1], true);
            t.convolution(&format!("{name}.projection.project_conv"), &[after, inner, 1, 1], false);
            norm(&mut t, &format!("{name}.projection.project_bn"), after, true);
            before = after;
            number += 1;
        }
        last = after;
    }
    let top = width(1280);
    t.convolution("efficientnet.encoder.top_conv", &[top, last, 1, 1], false);
    // The class norms and classifies this width; it is that of the last convolution in every published size.
    let hidden = f.optional_count("hidden_dim")?.unwrap_or(2560);
    norm(&mut t, "efficientnet.encoder.top_bn", hidden, true);
    Ok(finish(t, hidden, task, &class, "efficientnet", false))
}
