//! `LeViT`: convolutions, then stages of attention with biases for distances, every matrix followed by a batch norm.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, normed, size};
use super::vision::{bare, block, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// A matrix without a bias and its batch norm.
fn matrix(t: &mut Tensors, at: &str, inputs: u64, outputs: u64) {
    linear(t, Role::Other, &format!("{at}.linear"), inputs, outputs, false);
    norm(t, &format!("{at}.batch_norm"), outputs, true);
}

/// Two of them around an inner width.
fn mixer(t: &mut Tensors, at: &str, width: u64, ratio: u64) {
    matrix(t, &format!("{at}.module.linear_up"), width, width * ratio);
    matrix(t, &format!("{at}.module.linear_down"), width * ratio, width);
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[4, 4, 4])?;
    let list = |key, default: &[u64]| per_stage_of(f, key, default, depths.len());
    let (widths, heads) = (list("hidden_sizes", &[128, 256, 384])?, list("num_attention_heads", &[4, 8, 12])?);
    let (keys, ratios, wider) = (list("key_dim", &[16, 16, 16])?, list("mlp_ratio", &[2, 2, 2])?, list("attention_ratio", &[2, 2, 2])?);
    let kernel = size(f, "kernel_size", 3)?;
    for key in ["stride", "padding", "down_ops"] {
        f.touch(key);
    }
    // Between its three stages the class shrinks maps with numbers of its own.
    let mut grid = size(f, "image_size", 224)? / size(f, "patch_size", 16)?;
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    let mut before = channels(f)?;
    for (number, part) in [8, 4, 2, 1].into_iter().enumerate() {
        let width = widths[0] / part;
        let at = format!("levit.patch_embeddings.embedding_layer_{}", number + 1);
        normed(&mut t, &format!("{at}.convolution"), &format!("{at}.batch_norm"), [width, before, kernel, kernel]);
        before = width;
    }
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let at = format!("levit.encoder.stages.{stage}.layers");
        let (key, values) = (keys[stage] * heads[stage], wider[stage].saturating_mul(keys[stage] * heads[stage]));
        let distances = grid.saturating_mul(grid);
        for layer in 0..depth {
            let one = format!("{at}.{}", 2 * layer);
            t.tensor(&format!("{one}.module.attention_biases"), Role::Position, &[heads[stage], distances]);
            matrix(&mut t, &format!("{one}.module.queries_keys_values"), width, values.saturating_add(2 * key));
            matrix(&mut t, &format!("{one}.module.projection"), values, width);
            mixer(&mut t, &format!("{at}.{}", 2 * layer + 1), width, ratios[stage]);
            layers.push(block(width, heads[stage], width * ratios[stage]));
        }
        // Two sub-samplings, as the class writes them.
        if let (Some(&next), true) = (widths.get(stage + 1), stage < 2) {
            let attention = width / keys[0];
            let (key, values) = (keys[0] * attention, 4 * keys[0] * attention);
            let one = format!("{at}.{}", 2 * depth);
            t.tensor(&format!("{one}.attention_biases"), Role::Position, &[attention, distances]);
            matrix(&mut t, &format!("{one}.keys_values"), width, values + key);
            matrix(&mut t, &format!("{one}.queries"), width, key);
            matrix(&mut t, &format!("{one}.projection"), values, next);
            mixer(&mut t, &format!("{at}.{}", 2 * depth + 1), next, 2);
            grid = grid.div_ceil(2);
        }
    }
    let last = widths.last().copied().unwrap_or(0);
    let heads: &[&str] = match class.as_str() {
        name if name.ends_with("WithTeacher") => &["classifier", "classifier_distill"],
        name if name.ends_with("ForImageClassification") => &["classifier"],
        _ => &[],
    };
    for head in heads {
        norm(&mut t, &format!("{head}.batch_norm"), last, true);
        linear(&mut t, Role::Score, &format!("{head}.linear"), last, labels(f)?, true);
    }
    let mut draft = staged(last, t.build(), layers, "levit");
    if depths.len() != 3 {
        draft.assumptions.push("its class shrinks maps between three stages; other numbers of stages are counted likewise".to_owned());
    }
    if heads.is_empty() && !class.is_empty() && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
