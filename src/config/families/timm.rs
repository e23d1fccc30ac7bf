//! Networks of convolutions as timm and torchvision name them: a config that gives only the name of the `architecture`, or one written
//! by hand (`{"model_type": "vgg", "depths": [2, 2, 3, 3, 3]}`).

use super::decoder::{Draft, Tensors, labels};
use super::vision::{Steps, Task, channels, classifier, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::{Role, Step, Window};

/// Convolutions of each stage of VGG (Simonyan and Zisserman, arXiv 1409.1556, table 1), and their channels.
const VGG: &[(&str, [u64; 5])] = &[("vgg11", [1, 1, 2, 2, 2]), ("vgg13", [2; 5]), ("vgg16", [2, 2, 3, 3, 3]), ("vgg19", [2, 2, 4, 4, 4])];
const VGG_WIDTHS: [u64; 5] = [64, 128, 256, 512, 512];

/// `DenseNet` (Huang et al., arXiv 1608.06993, table 1): layers of each block, what each adds, channels of the stem.
const DENSENET: &[(&str, [u64; 4], u64, u64)] = &[
    ("densenet121", [6, 12, 24, 16], 32, 64),
    ("densenet161", [6, 12, 36, 24], 48, 96),
    ("densenet169", [6, 12, 32, 32], 32, 64),
    ("densenet201", [6, 12, 48, 32], 32, 64),
];

/// `ResNet` (He et al., arXiv 1512.03385, table 1): blocks of each stage, and whether they are bottlenecks.
pub(super) const RESNET: &[(&str, [u64; 4], bool)] = &[
    ("resnet18", [2, 2, 2, 2], false),
    ("resnet34", [3, 4, 6, 3], false),
    ("resnet50", [3, 4, 6, 3], true),
    ("resnet101", [3, 4, 23, 3], true),
    ("resnet152", [3, 8, 36, 3], true),
];

/// Classes of a network that says nothing of them: `ImageNet`'s.
fn classes(f: &Fields) -> Result<u64, ConfigError> {
    f.touch("num_features");
    f.touch("pretrained_cfg");
    match f.optional_count("num_classes")? {
        Some(classes) => Ok(classes),
        None if f.has("num_labels") || f.has("id2label") => labels(f),
        None => Ok(1000),
    }
}

/// By the name of the architecture: `resnet50`, `vgg16_bn.tv_in1k`.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = by_name(f)?;
    // The bare model of transformers' wrapper has no classifier.
    if f.architecture()?.is_some_and(|class| class == "TimmWrapperModel") {
        let is_vgg = draft.decoder.tensors.iter().any(|tensor| tensor.name == "classifier.6.weight");
        draft
            .decoder
            .tensors
            .retain(|tensor| !["fc.", "classifier.weight", "classifier.bias", "classifier.6."].iter().any(|head| tensor.name.starts_with(head)));
        if is_vgg {
            draft.assumptions.push("architecture `TimmWrapperModel` is counted with VGG's two matrices before its classifier".to_owned());
        }
    }
    Ok(draft)
}

fn by_name(f: &Fields) -> Result<Draft, ConfigError> {
    let name = f.optional_text("architecture")?.unwrap_or_default();
    let (name, _) = name.split_once('.').unwrap_or((&name, ""));
    let (plain, is_normed) = name.strip_suffix("_bn").map_or((name, false), |plain| (plain, true));
    if let Some((_, depths)) = VGG.iter().find(|(known, _)| *known == plain) {
        return vgg(f, depths, &VGG_WIDTHS, is_normed);
    }
    if let Some(&(_, blocks, growth, stem)) = DENSENET.iter().find(|(known, ..)| *known == name) {
        return densenet(f, &blocks, growth, stem);
    }
    if let Some(&(_, blocks, is_deep)) = RESNET.iter().find(|(known, ..)| *known == name) {
        return resnet(f, &blocks, is_deep);
    }
    Err(f.impossible("architecture", "of timm's networks, VGG, ResNet and DenseNet are known by their names"))
}

/// VGG by hand.
pub(super) fn read_vgg(f: &Fields) -> Result<Draft, ConfigError> {
    let depths = depths(f, &VGG[2].1)?;
    let default: Vec<u64> = VGG_WIDTHS.iter().copied().chain(std::iter::repeat(512)).take(depths.len()).collect();
    let widths = per_stage_of(f, "hidden_sizes", &default, depths.len())?;
    vgg(f, &depths, &widths, f.flag("batch_norm", false)?)
}

/// Three by three convolutions with pools between them, and three matrices above.
fn vgg(f: &Fields, depths: &[u64], widths: &[u64], is_normed: bool) -> Result<Draft, ConfigError> {
    const INNER: u64 = 4096;
    const SIDE: u64 = 7;
    let classes = classes(f)?;
    let mut t = Tensors::default();
    let mut steps = Steps::default();
    let (mut before, mut number) = (channels(f)?, 0);
    for (&depth, &width) in depths.iter().zip(widths) {
        for _ in 0..depth {
            t.convolution(&format!("features.{number}"), &[width, before, 3, 3], true);
            steps = steps.convolution(3, 1, width);
            if is_normed {
                norm(&mut t, &format!("features.{}", number + 1), width, true);
                steps = steps.then(Step::BatchNorm);
            }
            steps = steps.then(Step::Rectifier);
            number += if is_normed { 3 } else { 2 };
            before = width;
        }
        steps = steps.then(Step::MaxPool(Window::tight(2, 2)));
        number += 1;
    }
    let flat = SIDE * SIDE * before;
    for (number, inputs, outputs) in [(0, flat, INNER), (3, INNER, INNER), (6, INNER, classes)] {
        linear(&mut t, Role::Score, &format!("classifier.{number}"), inputs, outputs, true);
    }
    let matrix = |steps: Steps| steps.convolution(1, 1, INNER).then(Step::Rectifier).then(Step::Dropout);
    let steps = matrix(matrix(steps.then(Step::AdaptivePool(SIDE)).then(Step::Flatten))).classified(Task::Classification { labels: classes });
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..staged(before, t.build(), Vec::new(), "") })
}

/// `DenseNet` by hand.
pub(super) fn read_densenet(f: &Fields) -> Result<Draft, ConfigError> {
    let blocks = depths(f, &DENSENET[0].1)?;
    let growth = f.count_or("growth_rate", 32)?;
    let stem = f.count_or("embedding_size", 64)?;
    if growth > 100_000 || stem > 100_000 {
        return Err(f.impossible("growth_rate", "it must be at most 100,000"));
    }
    densenet(f, &blocks, growth, stem)
}

/// Each layer adds channels to what all before it made; transitions halve both channels and sides.
fn densenet(f: &Fields, blocks: &[u64], growth: u64, stem: u64) -> Result<Draft, ConfigError> {
    let classes = classes(f)?;
    let mut t = Tensors::default();
    t.convolution("features.conv0", &[stem, channels(f)?, 7, 7], false);
    norm(&mut t, "features.norm0", stem, true);
    let mut steps = Steps::default().normed(7, 2, stem).then(Step::Rectifier).then(Step::MaxPool(Window::same(3, 2)));
    let mut width = stem;
    for (block, &layers) in blocks.iter().enumerate() {
        if block > 0 {
            norm(&mut t, &format!("features.transition{block}.norm"), width, true);
            t.convolution(&format!("features.transition{block}.conv"), &[width / 2, width, 1, 1], false);
            steps = steps.then(Step::BatchNorm).then(Step::Rectifier).convolution(1, 1, width / 2).then(Step::AveragePool(Window::tight(2, 2)));
            width /= 2;
        }
        for layer in 0..layers {
            let name = format!("features.denseblock{}.denselayer{}", block + 1, layer + 1);
            norm(&mut t, &format!("{name}.norm1"), width, true);
            t.convolution(&format!("{name}.conv1"), &[4 * growth, width, 1, 1], false);
            norm(&mut t, &format!("{name}.norm2"), 4 * growth, true);
            t.convolution(&format!("{name}.conv2"), &[growth, 4 * growth, 3, 3], false);
            let body = Steps::default().then(Step::BatchNorm).then(Step::Rectifier).normed(1, 1, 4 * growth).then(Step::Rectifier).convolution(3, 1, growth);
            steps = steps.then(Step::Dense(body.0));
            width += growth;
        }
    }
    norm(&mut t, "features.norm5", width, true);
    classifier(&mut t, "classifier", width, classes);
    let steps = steps.then(Step::BatchNorm).then(Step::Rectifier).then(Step::GlobalPool).classified(Task::Classification { labels: classes });
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..staged(width, t.build(), Vec::new(), "") })
}

/// `ResNet` with torchvision's names.
fn resnet(f: &Fields, blocks: &[u64], is_deep: bool) -> Result<Draft, ConfigError> {
    let classes = classes(f)?;
    let mut t = Tensors::default();
    t.convolution("conv1", &[64, channels(f)?, 7, 7], false);
    norm(&mut t, "bn1", 64, true);
    let mut steps = Steps::default().normed(7, 2, 64).then(Step::Rectifier).then(Step::MaxPool(Window::same(3, 2)));
    let mut before = 64;
    for (stage, &count) in blocks.iter().enumerate() {
        let inner = 64 << stage;
        let width = if is_deep { 4 * inner } else { inner };
        for number in 0..count {
            let name = format!("layer{}.{number}", stage + 1);
            let stride = if number == 0 && stage > 0 { 2 } else { 1 };
            let sides: &[(u64, u64, u64)] = if is_deep { &[(1, 1, inner), (3, stride, inner), (1, 1, width)] } else { &[(3, stride, inner), (3, 1, width)] };
            let (mut body, mut inputs) = (Steps::default(), before);
            for (place, &(kernel, stride, outputs)) in sides.iter().enumerate() {
                t.convolution(&format!("{name}.conv{}", place + 1), &[outputs, inputs, kernel, kernel], false);
                norm(&mut t, &format!("{name}.bn{}", place + 1), outputs, true);
                body = if place > 0 { body.then(Step::Rectifier) } else { body };
                body = body.normed(kernel, stride, outputs);
                inputs = outputs;
            }
            let mut shortcut = Steps::default();
            if before != width || stride > 1 {
                t.convolution(&format!("{name}.downsample.0"), &[width, before, 1, 1], false);
                norm(&mut t, &format!("{name}.downsample.1"), width, true);
                shortcut = shortcut.normed(1, stride, width);
            }
            steps = steps.residual(body, shortcut).then(Step::Rectifier);
            before = width;
        }
    }
    classifier(&mut t, "fc", before, classes);
    let steps = steps.then(Step::GlobalPool).classified(Task::Classification { labels: classes });
    Ok(Draft { work: steps.work(f, channels(f)?)?, ..staged(before, t.build(), Vec::new(), "") })
}
