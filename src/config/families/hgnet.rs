//! `HGNetV2`: blocks of convolutions whose outputs are all joined and aggregated. Running statistics of batch norms are buffers.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, size};
use super::vision::{bare, channels, linear, norm, per_stage, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// A convolution, its batch norm, and where it is followed by an activation the affine block of two numbers.
struct Convolutions {
    is_affine: bool,
}

impl Convolutions {
    fn add(&self, t: &mut Tensors, name: &str, shape: [u64; 4], is_active: bool) {
        t.convolution(&format!("{name}.convolution"), &shape, false);
        norm(t, &format!("{name}.normalization"), shape[0], true);
        if is_active && self.is_affine {
            t.tensor(&format!("{name}.lab.scale"), Role::Other, &[1]).tensor(&format!("{name}.lab.bias"), Role::Other, &[1]);
        }
    }
}

/// One flag per stage.
fn flags(f: &Fields, key: &str, default: [bool; 4], stages: usize) -> Result<Vec<bool>, ConfigError> {
    let list = match f.raw(key) {
        None => Some(default.to_vec()),
        Some(value) => value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_bool).collect()),
    };
    list.filter(|list: &Vec<bool>| list.len() == stages).ok_or_else(|| f.impossible(key, "it must be a list of true and false, one per stage"))
}

/// The tensors, and the channels of stem and stages.
pub(super) fn network(f: &Fields) -> Result<(Tensors, Vec<u64>), ConfigError> {
    let inputs = per_stage(f, "stage_in_channels", &[48, 128, 512, 1024])?;
    let list = |key, default: &[u64]| per_stage_of(f, key, default, inputs.len());
    let (middles, outputs) = (list("stage_mid_channels", &[48, 96, 192, 384])?, list("stage_out_channels", &[128, 512, 1024, 2048])?);
    let (blocks, counts) = (list("stage_num_blocks", &[1, 1, 3, 1])?, list("stage_numb_of_layers", &[6; 4])?);
    let kernels = list("stage_kernel_size", &[3, 3, 5, 5])?;
    // Each is at most 100,000, and there are at most 16 of them.
    let all = blocks.iter().zip(&counts).fold(0_u64, |sum, (&blocks, &layers)| sum.saturating_add(blocks.saturating_mul(layers)));
    if inputs.len() > 16 || all > 10_000 {
        return Err(f.impossible(
            if inputs.len() > 16 { "stage_in_channels" } else { "stage_num_blocks" },
            "there must be at most 16 stages, and with `stage_numb_of_layers` at most 10,000 layers",
        ));
    }
    let shrinks = flags(f, "stage_downsample", [false, true, true, true], inputs.len())?;
    let are_light = flags(f, "stage_light_block", [false, false, true, true], inputs.len())?;
    let stem = per_stage_of(f, "stem_channels", &[3, 32, 48], 3)?;
    for key in ["stem_strides", "stage_downsample_strides", "depths"] {
        f.touch(key);
    }
    // What other networks are told about its stages.
    let sizes = per_stage(f, "hidden_sizes", &[256, 512, 1024, 2048])?;
    let told = std::iter::once(size(f, "embedding_size", 64)?).chain(sizes).collect();
    // No weight has it: the stem has widths of its own.
    f.not_counted("embedding_size");
    f.touch("num_channels");
    let c = Convolutions { is_affine: f.flag("use_learnable_affine_block", false)? };
    let mut t = Tensors::default();
    let [first, inner, last] = [stem[0], stem[1], stem[2]];
    c.add(&mut t, "embedder.stem1", [inner, first, 3, 3], true);
    c.add(&mut t, "embedder.stem2a", [inner / 2, inner, 2, 2], true);
    c.add(&mut t, "embedder.stem2b", [inner, inner / 2, 2, 2], true);
    c.add(&mut t, "embedder.stem3", [inner, 2 * inner, 3, 3], true);
    c.add(&mut t, "embedder.stem4", [last, inner, 1, 1], true);
    for stage in 0..inputs.len() {
        let at = format!("encoder.stages.{stage}");
        if shrinks[stage] {
            c.add(&mut t, &format!("{at}.downsample"), [inputs[stage], 1, 3, 3], false);
        }
        for block in 0..blocks[stage] {
            let at = format!("{at}.blocks.{block}");
            let before = if block == 0 { inputs[stage] } else { outputs[stage] };
            let (middle, kernel) = (middles[stage], kernels[stage]);
            for layer in 0..counts[stage] {
                let (at, from) = (format!("{at}.layers.{layer}"), if layer == 0 { before } else { middle });
                if are_light[stage] {
                    c.add(&mut t, &format!("{at}.conv1"), [middle, from, 1, 1], false);
                    c.add(&mut t, &format!("{at}.conv2"), [middle, 1, kernel, kernel], true);
                } else {
                    c.add(&mut t, &at, [middle, from, kernel, kernel], true);
                }
            }
            let half = outputs[stage] / 2;
            c.add(&mut t, &format!("{at}.aggregation.0"), [half, before + counts[stage] * middle, 1, 1], true);
            c.add(&mut t, &format!("{at}.aggregation.1"), [outputs[stage], half, 1, 1], true);
        }
    }
    Ok((t, told))
}

/// The network with a classifier.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    channels(f)?;
    let (mut t, widths) = network(f)?;
    let width = widths.last().copied().unwrap_or(0);
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        linear(&mut t, Role::Score, "fc", width, labels(f)?, true);
    }
    let mut draft = staged(width, t.build(), Vec::new(), "");
    if !is_classifier && !class.is_empty() && !class.ends_with("Backbone") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
