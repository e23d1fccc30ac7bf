//! Swin 1 and 2: windows of attention in stages that double the width; version 2 has relative positions from a small
//! network, no bias on keys, and norms after instead of before.

use super::decoder::{Draft, Tensors};
use super::vision::{Encoder, Patches, Steps, Style, Task, VIT, bare, block, classifier, depths, linear, norm, per_stage_of, staged, task};
use super::{ConfigError, Fields};
use crate::model::{Role, Step, Tensor, Window};

/// Swin.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let window = f.count_or("window_size", 7)?;
    let side = window.saturating_mul(2).saturating_sub(1);
    let table = side.checked_mul(side).ok_or(ConfigError::Overflow)?;
    let bias = f.flag("qkv_bias", true)?;
    let style = Style { qkv: &["attention.self.query", "attention.self.key", "attention.self.value"], qkv_bias: [bias; 3], ..VIT };
    stages(f, "swin", [4, 0], style, |heads| Tensors::default().tensor("attention.self.relative_position_bias_table", Role::Position, &[table, heads]).build())
}

/// Donut's Swin has no norm at its end.
pub(super) fn read_donut(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read(f)?;
    draft.decoder.tensors.retain(|tensor| !tensor.name.starts_with("swin.layernorm."));
    Ok(draft)
}

/// Swin 2.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("pretrained_window_sizes");
    let bias = f.flag("qkv_bias", true)?;
    let style = Style { qkv: &["attention.self.query", "attention.self.key", "attention.self.value"], qkv_bias: [bias, false, bias], ..VIT };
    stages(f, "swinv2", [2, 1], style, |heads| {
        let mut t = Tensors::default();
        t.tensor("attention.self.logit_scale", Role::Other, &[heads, 1, 1]);
        linear(&mut t, Role::Position, "attention.self.continuous_position_bias_mlp.0", 2, 512, true);
        linear(&mut t, Role::Position, "attention.self.continuous_position_bias_mlp.2", 512, heads, false);
        t.build()
    })
}

/// `merged_norm`: how many widths the norm of a merging layer spans; `more_positions`: absolute ones besides the patches.
fn stages(
    f: &Fields,
    base: &'static str,
    [merged_norm, more_positions]: [u64; 2],
    style: Style,
    more: impl Fn(u64) -> Vec<Tensor>,
) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("image_size", 224), ("patch_size", 4), ("embed_dim", 96)]);
    let depths = depths(f, &[2, 2, 6, 2])?;
    let heads = per_stage_of(f, "num_heads", &[3, 6, 12, 24], depths.len())?;
    // Both follow from the lists.
    f.touch("hidden_size");
    f.touch("num_layers");
    let patches = Patches::read(f)?;
    let first = f.count("embed_dim")?;
    let ratio = f.optional_number("mlp_ratio")?.unwrap_or(4.0);
    if ratio <= 0.0 || ratio > 64.0 {
        return Err(f.impossible("mlp_ratio", "it must be above 0 and at most 64"));
    }
    if first > 100_000 || depths.len() > 16 {
        return Err(f.impossible("embed_dim", "stages double it to more than any model's width"));
    }
    let (task, class) = task(f)?;
    let is_masked = class.ends_with("ForMaskedImageModeling");
    let mut t = Tensors::default();
    if is_masked {
        t.tensor(&format!("{base}.embeddings.mask_token"), Role::Other, &[1, 1, first]);
    }
    patches.convolution(&mut t, &format!("{base}.embeddings.patch_embeddings.projection"), first, true);
    if f.flag("use_absolute_embeddings", false)? {
        t.tensor(&format!("{base}.embeddings.position_embeddings"), Role::Position, &[1, patches.number + more_positions, first]);
    }
    norm(&mut t, &format!("{base}.embeddings.norm"), first, true);
    let side = f.count_or("window_size", 7)?;
    if side > 10_000 {
        return Err(f.impossible("window_size", "it must be at most 10,000"));
    }
    let is_second = merged_norm == 2;
    if is_second {
        // Its biases come from a network over distances, whatever the window.
        f.not_counted("window_size");
    }
    let [patch, other] = patches.size;
    if patch != other {
        return Err(f.impossible("patch_size", "patches that are not square are not followed"));
    }
    let mut steps = Steps::default().then(Step::Convolution(Window::tight(patch, patch), first)).then(Step::LayerNorm);
    let mut width = first;
    let mut layers = Vec::new();
    for (stage, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        if stage > 0 {
            let name = format!("{base}.encoder.layers.{}.downsample", stage - 1);
            linear(&mut t, Role::Other, &format!("{name}.reduction"), 4 * width, 2 * width, false);
            norm(&mut t, &format!("{name}.norm"), merged_norm * width, true);
            width *= 2;
            steps = in_order(steps.then(Step::Fold), Steps::default().convolution(1, 1, width), is_second);
        }
        if !width.is_multiple_of(heads) {
            return Err(f.impossible("num_heads", "each must divide its stage's width"));
        }
        // Exact: the ratio is a small number with few binary digits, the width below 2^40; the class truncates likewise.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let intermediate = (width as f64 * ratio) as u64;
        let encoder = Encoder { hidden: width, layers: depth, heads, intermediate };
        let block_tensors: Vec<_> = style.tensors(&encoder).into_iter().chain(more(heads)).collect();
        for number in 0..depth {
            t.nested(&format!("{base}.encoder.layers.{stage}.blocks.{number}"), block_tensors.clone());
            layers.push(block(width, heads, intermediate));
            let attention = Steps::default().then(Step::Windows { heads, side, is_cosine: is_second, is_shifted: number % 2 == 1 });
            let matrices = Steps::default().convolution(1, 1, intermediate).then(Step::Smooth).convolution(1, 1, width);
            for part in [attention, matrices] {
                steps = steps.residual(in_order(Steps::default(), part, is_second), Steps::default());
            }
        }
    }
    norm(&mut t, &format!("{base}.layernorm"), width, true);
    if let Task::Classification { labels } = task {
        classifier(&mut t, "classifier", width, labels);
    }
    if is_masked {
        let stride = f.count_or("encoder_stride", 32)?;
        let area = stride.checked_mul(stride).and_then(|area| area.checked_mul(patches.channels)).ok_or(ConfigError::Overflow)?;
        t.convolution("decoder.0", &[area, width, 1, 1], true);
    } else {
        f.touch("encoder_stride");
    }
    let steps = steps.then(Step::LayerNorm);
    let steps = if is_masked { steps } else { steps.then(Step::GlobalPool).classified(task) };
    let mut draft = Draft { work: steps.work(f, patches.channels)?, ..staged(width, t.build(), layers, base) };
    if task == Task::Other && !is_masked {
        bare(&mut draft, &class);
    }
    Ok(draft)
}

/// A norm before what it is for, or in the second version behind it.
fn in_order(before: Steps, part: Steps, is_second: bool) -> Steps {
    let (first, last) = if is_second { (None, Some(Step::LayerNorm)) } else { (Some(Step::LayerNorm), None) };
    Steps(before.0.into_iter().chain(first).chain(part.0).chain(last).collect())
}
