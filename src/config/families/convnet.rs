//! Convolutional networks: `ConvNeXt` 1 and 2, `DINOv3`'s `ConvNeXt`, `ResNet`, `RegNet`. Running statistics of batch norms are buffers.

use super::decoder::{Draft, Tensors};
use super::vision::{Steps, Task, bare, channels, classifier, depths, linear, norm, normed_convolution, pair, per_stage_of, staged, task};
use super::{ConfigError, Fields};
use crate::model::{Role, Step, Window};

/// `ConvNeXt`: depthwise convolution, norm, two matrices, a layer scale.
pub(super) fn read_convnext(f: &Fields) -> Result<Draft, ConfigError> {
    convnext(f, "convnext", f.optional_number("layer_scale_init_value")?.unwrap_or(1e-6) > 0.0, false)
}

/// `ConvNeXt` 2: a response normalisation instead of the layer scale.
pub(super) fn read_convnext2(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("layer_scale_init_value");
    convnext(f, "convnextv2", false, true)
}

fn convnext(f: &Fields, base: &'static str, is_scaled: bool, is_second: bool) -> Result<Draft, ConfigError> {
    let depths = depths(f, &[3, 3, 9, 3])?;
    let widths = per_stage_of(f, "hidden_sizes", &[96, 192, 384, 768], depths.len())?;
    // Said besides the lists, and read only for their defaults.
    if f.optional_count("num_stages")?.is_some_and(|stages| stages != depths.len() as u64) {
        return Err(f.impossible("num_stages", "it must be the number of entries in `depths`"));
    }
    let patch = if f.has("patch_size") { pair(f, "patch_size")? } else { [4, 4] };
    let (task, class) = task(f)?;
    let mut t = Tensors::default();
    let mut steps = Steps::default().then(Step::Convolution(Window::tight(patch[0], patch[0]), widths[0])).then(Step::LayerNorm);
    t.convolution(&format!("{base}.embeddings.patch_embeddings"), &[widths[0], channels(f)?, patch[0], patch[1]], true);
    norm(&mut t, &format!("{base}.embeddings.layernorm"), widths[0], true);
    let mut before = widths[0];
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let stage_name = format!("{base}.encoder.stages.{stage}");
        // The first stage has the embedding's width and does not downsample.
        if stage > 0 {
            norm(&mut t, &format!("{stage_name}.downsampling_layer.0"), before, true);
            t.convolution(&format!("{stage_name}.downsampling_layer.1"), &[width, before, 2, 2], true);
            steps = steps.then(Step::LayerNorm).then(Step::Convolution(Window::tight(2, 2), width));
        }
        for number in 0..depth {
            let name = format!("{stage_name}.layers.{number}");
            if is_scaled {
                t.tensor(&format!("{name}.layer_scale_parameter"), Role::Other, &[width]);
            }
            t.convolution(&format!("{name}.dwconv"), &[width, 1, 7, 7], true);
            norm(&mut t, &format!("{name}.layernorm"), width, true);
            linear(&mut t, Role::Up, &format!("{name}.pwconv1"), width, 4 * width, true);
            if is_second {
                t.tensor(&format!("{name}.grn.weight"), Role::Norm, &[1, 1, 1, 4 * width]).tensor(
                    &format!("{name}.grn.bias"),
                    Role::Norm,
                    &[1, 1, 1, 4 * width],
                );
            }
            linear(&mut t, Role::Down, &format!("{name}.pwconv2"), 4 * width, width, true);
            steps = steps.residual(convnext_block(width, is_scaled, is_second), Steps::default());
        }
        before = width;
    }
    if class.ends_with("Backbone") {
        return Ok(Draft { work: steps.work(f, channels(f)?)?, ..headless(f, before, t, base, &class) });
    }
    norm(&mut t, &format!("{base}.layernorm"), before, true);
    let steps = steps.then(Step::GlobalPool).then(Step::LayerNorm).classified(task);
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..finish(t, before, task, &class, base, "classifier") })
}

/// Depthwise convolution, norm, two matrices.
fn convnext_block(width: u64, is_scaled: bool, is_second: bool) -> Steps {
    let mut block = Steps::default().convolution(7, 1, width).then(Step::LayerNorm).convolution(1, 1, 4 * width).then(Step::Smooth);
    if is_second {
        block = block.then(Step::ResponseNorm);
    }
    block = block.convolution(1, 1, width);
    if is_scaled { block.then(Step::Scale) } else { block }
}

fn headless(f: &Fields, width: u64, mut t: Tensors, base: &'static str, class: &str) -> Draft {
    f.touch("out_features");
    let mut draft = staged(width, t.build(), Vec::new(), base);
    bare(&mut draft, class);
    draft
}

fn finish(mut t: Tensors, width: u64, task: Task, class: &str, base: &'static str, head: &str) -> Draft {
    if let Task::Classification { labels } = task {
        classifier(&mut t, head, width, labels);
    }
    let mut draft = staged(width, t.build(), Vec::new(), base);
    if task == Task::Other {
        bare(&mut draft, class);
    }
    draft
}

/// `DINOv3`'s `ConvNeXt`: other names, and the stem is the first downsampling.
pub(super) fn read_dinov3(f: &Fields) -> Result<Draft, ConfigError> {
    let depths = depths(f, &[3, 3, 9, 3])?;
    let widths = per_stage_of(f, "hidden_sizes", &[96, 192, 384, 768], depths.len())?;
    let is_scaled = f.optional_number("layer_scale_init_value")?.unwrap_or(1e-6) > 0.0;
    let (task, class) = task(f)?;
    let mut t = Tensors::default();
    let mut steps = Steps::default();
    let mut before = channels(f)?;
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let (kernel, [first, second]) = if stage == 0 { (4, [0, 1]) } else { (2, [1, 0]) };
        t.convolution(&format!("stages.{stage}.downsample_layers.{first}"), &[width, before, kernel, kernel], true);
        norm(&mut t, &format!("stages.{stage}.downsample_layers.{second}"), if stage == 0 { width } else { before }, true);
        let shrink = Step::Convolution(Window::tight(kernel, kernel), width);
        steps = if stage == 0 { steps.then(shrink).then(Step::LayerNorm) } else { steps.then(Step::LayerNorm).then(shrink) };
        for number in 0..depth {
            let name = format!("stages.{stage}.layers.{number}");
            if is_scaled {
                t.tensor(&format!("{name}.gamma"), Role::Other, &[width]);
            }
            t.convolution(&format!("{name}.depthwise_conv"), &[width, 1, 7, 7], true);
            norm(&mut t, &format!("{name}.layer_norm"), width, true);
            linear(&mut t, Role::Up, &format!("{name}.pointwise_conv1"), width, 4 * width, true);
            linear(&mut t, Role::Down, &format!("{name}.pointwise_conv2"), 4 * width, width, true);
            steps = steps.residual(convnext_block(width, is_scaled, false), Steps::default());
        }
        before = width;
    }
    norm(&mut t, "layer_norm", before, true);
    let steps = steps.then(Step::GlobalPool).then(Step::LayerNorm).classified(task);
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..finish(t, before, task, &class, "", "classifier") })
}

/// `ResNet`: basic blocks of two convolutions, or bottlenecks of three; a shortcut where width or stride changes.
pub(super) fn read_resnet(f: &Fields) -> Result<Draft, ConfigError> {
    let is_basic = layer_type(f, "bottleneck", ["basic", "bottleneck"])?;
    let is_early = f.flag("downsample_in_bottleneck", false)?;
    residual(f, "resnet", [64, 7], [&[256, 512, 1024, 2048], &[3, 4, 6, 3]], false, |t, name, [before, width, stride], _| {
        let convolution = |t: &mut Tensors, number: u64, inputs, outputs, kernel| {
            normed_convolution(t, &format!("{name}.layer.{number}"), [outputs, inputs, kernel, kernel]);
        };
        if is_basic {
            convolution(t, 0, before, width, 3);
            convolution(t, 1, width, width, 3);
            Ok(Steps::default().normed(3, stride, width).then(Step::Rectifier).normed(3, 1, width))
        } else {
            let inner = width / 4;
            convolution(t, 0, before, inner, 1);
            convolution(t, 1, inner, inner, 3);
            convolution(t, 2, inner, width, 1);
            let [first, second] = if is_early { [stride, 1] } else { [1, stride] };
            let body = Steps::default().normed(1, first, inner).then(Step::Rectifier).normed(3, second, inner).then(Step::Rectifier);
            Ok(body.normed(1, 1, width))
        }
    })
}

/// `RegNet`: grouped convolutions; squeeze-and-excitation in Y layers.
pub(super) fn read_regnet(f: &Fields) -> Result<Draft, ConfigError> {
    let is_x = layer_type(f, "y", ["x", "y"])?;
    let group = f.count_or("groups_width", 64)?;
    residual(f, "regnet", [32, 3], [&[128, 192, 512, 1088], &[2, 6, 12, 2]], true, |t, name, [before, width, stride], f| {
        let groups = (width / group).max(1);
        if !width.is_multiple_of(groups) {
            return Err(f.impossible("groups_width", "it must divide the sizes in `hidden_sizes`"));
        }
        normed_convolution(t, &format!("{name}.layer.0"), [width, before, 1, 1]);
        normed_convolution(t, &format!("{name}.layer.1"), [width, width / groups, 3, 3]);
        let mut last = 2;
        let mut body = Steps::default().normed(1, 1, width).then(Step::Rectifier).normed(3, stride, width).then(Step::Rectifier);
        if !is_x {
            // Rounded to even, as Python does.
            let inner = before / 4 + u64::from(before % 4 == 3 || (before % 4 == 2 && (before / 4) % 2 == 1));
            t.convolution(&format!("{name}.layer.2.attention.0"), &[inner, width, 1, 1], true);
            t.convolution(&format!("{name}.layer.2.attention.2"), &[width, inner, 1, 1], true);
            last = 3;
            body = body.then(Step::Gate(inner));
        }
        normed_convolution(t, &format!("{name}.layer.{last}"), [width, width, 1, 1]);
        Ok(body.normed(1, 1, width))
    })
}

/// Whether `layer_type` is the first of two.
fn layer_type(f: &Fields, default: &str, [first, second]: [&str; 2]) -> Result<bool, ConfigError> {
    match f.optional_text("layer_type")?.as_deref().unwrap_or(default) {
        kind if kind == first => Ok(true),
        kind if kind == second => Ok(false),
        _ => Err(f.impossible("layer_type", "it is none of the two that this model type knows")),
    }
}

/// The frame that `ResNet` and `RegNet` share: a stem, stages of blocks with a shortcut where they need one, a classifier.
fn residual(
    f: &Fields,
    base: &'static str,
    [stem, stem_kernel]: [u64; 2],
    [default_widths, default_depths]: [&[u64]; 2],
    first_strides: bool,
    block: impl Fn(&mut Tensors, &str, [u64; 3], &Fields) -> Result<Steps, ConfigError>,
) -> Result<Draft, ConfigError> {
    let depths = depths(f, default_depths)?;
    let widths = per_stage_of(f, "hidden_sizes", default_widths, depths.len())?;
    let stem = f.optional_count("embedding_size")?.unwrap_or(stem);
    let first_strides = f.flag("downsample_in_first_stage", first_strides)?;
    f.touch("downsample_in_bottleneck");
    let (task, class) = task(f)?;
    let mut t = Tensors::default();
    normed_convolution(&mut t, &format!("{base}.embedder.embedder"), [stem, channels(f)?, stem_kernel, stem_kernel]);
    let mut steps = Steps::default().normed(stem_kernel, 2, stem).then(Step::Rectifier);
    if base == "resnet" {
        steps = steps.then(Step::MaxPool(Window::same(3, 2)));
    }
    let mut before = stem;
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        for number in 0..depth {
            let name = format!("{base}.encoder.stages.{stage}.layers.{number}");
            let strides = number == 0 && (stage > 0 || first_strides);
            let stride = if strides { 2 } else { 1 };
            let mut shortcut = Steps::default();
            if before != width || strides {
                normed_convolution(&mut t, &format!("{name}.shortcut"), [width, before, 1, 1]);
                shortcut = shortcut.normed(1, stride, width);
            }
            let body = block(&mut t, &name, [before, width, stride], f)?;
            steps = steps.residual(body, shortcut).then(Step::Rectifier);
            before = width;
        }
    }
    let is_backbone = class.ends_with("Backbone");
    let steps = if is_backbone { steps } else { steps.then(Step::GlobalPool).classified(task) };
    let mut draft = finish(t, before, task, &class, base, "classifier.1");
    if is_backbone {
        draft.assumptions.clear();
    }
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..draft })
}
