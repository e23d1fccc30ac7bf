//! `MobileNet` 1 and 2, `EfficientNet`: inverted residuals of depthwise convolutions; widths are scaled and rounded to a divisor.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{MAX_BLOCKS, Steps, Task, bare, channels, classifier, norm, normed_convolution, per_stage, per_stage_of, staged, task};
use super::{ConfigError, Fields};
use crate::model::{Step, Window};

/// A factor of widths or depths within reason.
fn factor(f: &Fields, key: &'static str, default: f64) -> Result<f64, ConfigError> {
    match f.optional_number(key)?.unwrap_or(default) {
        factor if factor > 0.0 && factor <= 1000.0 => Ok(factor),
        _ => Err(f.impossible(key, "it must be more than 0 and at most 1000")),
    }
}

/// A bounded divisor or least width.
fn small(f: &Fields, key: &'static str, default: u64) -> Result<u64, ConfigError> {
    match f.count_or(key, default)? {
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

/// The convolutions of `MobileNet` 1 and 2.
struct Layers {
    activation: Step,
    /// Whether maps are padded as TensorFlow does, before the convolution.
    pads: bool,
}

impl Layers {
    fn read(f: &Fields) -> Result<Self, ConfigError> {
        Ok(Self { activation: activation(f)?, pads: f.flag("tf_padding", true)? })
    }

    /// A convolution and its norm; `dilation` spreads its kernel.
    fn linear(&self, steps: Steps, [kernel, stride, dilation]: [u64; 3], outputs: u64) -> Steps {
        let spread = Window { kernel: (kernel - 1).saturating_mul(dilation) + 1, stride, padding: 0 };
        let steps = if self.pads {
            steps.then(Step::PadSame(spread)).then(Step::Convolution(spread, outputs))
        } else {
            steps.then(Step::Convolution(Window::same(spread.kernel, stride), outputs))
        };
        steps.then(Step::BatchNorm)
    }

    fn active(&self, steps: Steps, shape: [u64; 3], outputs: u64) -> Steps {
        self.linear(steps, shape, outputs).then(self.activation.clone())
    }
}

/// What the backward pass of `hidden_act` reads: only `ReLU`'s reads its result.
fn activation(f: &Fields) -> Result<Step, ConfigError> {
    Ok(if f.optional_text("hidden_act")?.as_deref() == Some("relu") { Step::Rectifier } else { Step::Smooth })
}

/// Means of all pixels, a dropout, a classifier.
fn classified(steps: Steps, task: Task, drops: bool) -> Steps {
    match task {
        Task::Classification { labels } if drops => steps.then(Step::Dropout).convolution(1, 1, labels),
        task => steps.classified(task),
    }
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
    let layers = Layers::read(f)?;
    let mut steps = layers.active(Steps::default(), [3, 2, 1], before);
    // The width doubles at the first block and wherever it strides.
    for (number, doubles) in [true, true, false, true, false, true, false, false, false, false, false, true, false].into_iter().enumerate() {
        if doubles {
            depth *= 2;
        }
        let after = width(depth);
        normed_convolution(&mut t, &format!("mobilenet_v1.layer.{}", 2 * number), [before, 1, 3, 3]);
        normed_convolution(&mut t, &format!("mobilenet_v1.layer.{}", 2 * number + 1), [after, before, 1, 1]);
        let stride = if doubles && number > 0 { 2 } else { 1 };
        steps = layers.active(layers.active(steps, [3, stride, 1], before), [1, 1, 1], after);
        before = after;
    }
    let drops = f.optional_number("classifier_dropout_prob")?.unwrap_or(0.999) > 0.0;
    let steps = classified(steps.then(Step::GlobalPool), task, drops);
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..finish(t, before, task, &class, "mobilenet_v1", false) })
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

/// Strides of `MobileNet` 2's blocks.
const STRIDES: [u64; 16] = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

/// Widths between `MobileNet` 2's blocks.
const WIDTHS: [u64; 17] = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];

/// `MobileNet` 2.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let multiplier = factor(f, "depth_multiplier", 1.0)?;
    let expand = factor(f, "expand_ratio", 6.0)?;
    let divisor = small(f, "depth_divisible_by", 8)?;
    let least = small(f, "min_depth", 8)?;
    let output_stride = f.count_or("output_stride", 32)?;
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let width = |depth: u64| divisible((float(depth) * multiplier).round_ties_even(), divisor, least);
    let widths = WIDTHS.map(width);
    let mut t = Tensors::default();
    let stem = width(32);
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.first_conv", [stem, channels(f)?, 3, 3]);
    let layers = Layers::read(f)?;
    let mut steps = layers.active(Steps::default(), [3, 2, 1], stem);
    if !f.flag("first_layer_is_expansion", true)? {
        steps = layers.active(steps, [1, 1, 1], stem);
        normed_convolution(&mut t, "mobilenet_v2.conv_stem.expand_1x1", [stem, stem, 1, 1]);
    }
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.conv_3x3", [stem, 1, 3, 3]);
    normed_convolution(&mut t, "mobilenet_v2.conv_stem.reduce_1x1", [widths[0], stem, 1, 1]);
    steps = layers.linear(layers.active(steps, [3, 1, 1], stem), [1, 1, 1], widths[0]);
    // From the chosen stride on, kernels spread instead.
    let (mut reached, mut spread) = (2, 1);
    for (number, pair) in widths.windows(2).enumerate() {
        let (before, after) = (pair[0], pair[1]);
        let expanded = divisible((float(before) * expand).round_ties_even(), divisor, least);
        let name = format!("mobilenet_v2.layer.{number}");
        normed_convolution(&mut t, &format!("{name}.expand_1x1"), [expanded, before, 1, 1]);
        normed_convolution(&mut t, &format!("{name}.conv_3x3"), [expanded, 1, 3, 3]);
        normed_convolution(&mut t, &format!("{name}.reduce_1x1"), [after, expanded, 1, 1]);
        let (stride, dilation) = if reached == output_stride { (1, spread) } else { (STRIDES[number], 1) };
        if reached == output_stride {
            spread *= STRIDES[number];
        } else {
            reached *= stride;
        }
        let is_residual = stride == 1 && before == after;
        let from = if is_residual { Steps::default() } else { std::mem::take(&mut steps) };
        let block = layers.active(layers.active(from, [1, 1, 1], expanded), [3, stride, dilation], expanded);
        let block = layers.linear(block, [1, 1, 1], after);
        steps = if is_residual { steps.residual(block, Steps::default()) } else { block };
    }
    let last = widths[16];
    let output = if f.flag("finegrained_output", true)? && multiplier < 1.0 { 1280 } else { width(1280) };
    normed_convolution(&mut t, "mobilenet_v2.conv_1x1", [output, last, 1, 1]);
    let steps = layers.active(steps, [1, 1, 1], output);
    let is_segmentation = class.ends_with("ForSemanticSegmentation");
    if is_segmentation {
        normed_convolution(&mut t, "segmentation_head.conv_pool", [256, last, 1, 1]);
        normed_convolution(&mut t, "segmentation_head.conv_aspp", [256, last, 1, 1]);
        normed_convolution(&mut t, "segmentation_head.conv_projection", [256, 512, 1, 1]);
        t.convolution("segmentation_head.classifier.convolution", &[labels(f)?, 256, 1, 1], true);
    }
    let drops = f.optional_number("classifier_dropout_prob")?.unwrap_or(0.8) > 0.0;
    let draft = finish(t, output, task, &class, "mobilenet_v2", is_segmentation);
    // The maps of the segmentation head are not followed.
    if is_segmentation {
        return Ok(draft);
    }
    Ok(Draft { work: classified(steps.then(Step::GlobalPool), task, drops).work(f, channels(f)?)?, ..draft })
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
    let strides = list("strides", &[1, 2, 2, 2, 1, 2, 1])?;
    let padded = f.optional_counts("depthwise_padding")?.unwrap_or_default();
    let (activation, drops) = (activation(f)?, f.optional_number("drop_connect_rate")?.unwrap_or(0.2) > 0.0);
    // Follows from the lists.
    f.touch("num_hidden_layers");
    // Images of any size pass.
    f.touch("image_size");
    let (task, class) = task(f)?;
    let width = |depth: u64| divisible(float(depth) * wide, divisor, divisor);
    let mut t = Tensors::default();
    t.convolution("efficientnet.embeddings.convolution", &[width(32), channels(f)?, 3, 3], false);
    norm(&mut t, "efficientnet.embeddings.batchnorm", width(32), true);
    let convolution = |steps: Steps, window: Window, outputs: u64| steps.then(Step::Convolution(window, outputs)).then(Step::BatchNorm);
    let mut steps = convolution(Steps::default().then(Step::Pad(1)), Window::tight(3, 2), width(32)).then(activation.clone());
    let mut number: u64 = 0;
    let mut last = width(32);
    for stage in 0..stages {
        let count = whole((deep * float(repeats[stage])).ceil());
        if number.saturating_add(count) > MAX_BLOCKS {
            return Err(f.impossible("num_block_repeats", "times `depth_coefficient` they must be at most 1,000 blocks in all"));
        }
        if kernels[stage] == 1 && strides[stage] == 2 {
            return Err(f.impossible("kernel_sizes", "a kernel of 1 with a stride of 2 crops its map, which is not followed"));
        }
        let mut before = width(inputs[stage]);
        let after = width(outputs[stage]);
        for repeat in 0..count {
            let name = format!("efficientnet.encoder.blocks.{number}");
            let (kernel, stride) = (kernels[stage], if repeat == 0 { strides[stage] } else { 1 });
            let is_residual = stride == 1 && repeat > 0;
            let mut block = if is_residual { Steps::default() } else { std::mem::take(&mut steps) };
            let inner = before.saturating_mul(expands[stage]);
            if expands[stage] != 1 {
                t.convolution(&format!("{name}.expansion.expand_conv"), &[inner, before, 1, 1], false);
                norm(&mut t, &format!("{name}.expansion.expand_bn"), inner, true);
                block = convolution(block, Window::same(1, 1), inner).then(activation.clone());
            }
            // Maps that are halved are padded first, by one less unless the block is listed.
            let window = if stride == 2 { Window::tight(kernel, 2) } else { Window::same(kernel, stride) };
            if stride == 2 {
                block = block.then(Step::Pad(kernel / 2 * 2 - u64::from(!padded.contains(&number))));
            }
            block = convolution(block, window, inner).then(activation.clone());
            t.convolution(&format!("{name}.depthwise_conv.depthwise_conv"), &[inner, 1, kernels[stage], kernels[stage]], false);
            norm(&mut t, &format!("{name}.depthwise_conv.depthwise_norm"), inner, true);
            let squeezed = whole(float(before) * squeeze).max(1);
            t.convolution(&format!("{name}.squeeze_excite.reduce"), &[squeezed, inner, 1, 1], true);
            t.convolution(&format!("{name}.squeeze_excite.expand"), &[inner, squeezed, 1, 1], true);
            t.convolution(&format!("{name}.projection.project_conv"), &[after, inner, 1, 1], false);
            norm(&mut t, &format!("{name}.projection.project_bn"), after, true);
            block = convolution(block.then(Step::Gate(squeezed)), Window::same(1, 1), after);
            steps = if is_residual { steps.residual(if drops { block.then(Step::Dropout) } else { block }, Steps::default()) } else { block };
            before = after;
            number += 1;
        }
        last = after;
    }
    let top = width(1280);
    t.convolution("efficientnet.encoder.top_conv", &[top, last, 1, 1], false);
    // The class norms and classifies this width; it is that of the last convolution in every published size.
    let hidden = f.count_or("hidden_dim", 2560)?;
    norm(&mut t, "efficientnet.encoder.top_bn", hidden, true);
    let steps = convolution(steps, Window::same(1, 1), top).then(activation);
    let pooled = steps.then(if f.optional_text("pooling_type")?.as_deref() == Some("max") { Step::GlobalPool } else { Step::AdaptivePool(1) });
    let drops = f.optional_number("dropout_rate")?.unwrap_or(0.5) > 0.0;
    Ok(Draft { work: classified(pooled, task, drops).work(f, channels(f)?)?, ..finish(t, hidden, task, &class, "efficientnet", false) })
}
