//! `CvT`: queries, keys and values are made by depthwise convolutions before their matrices.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, normed, times};
use super::vision::{Encoder, Style, VIT, bare, block, channels, linear, norm, per_stage, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// A value per stage, of any kind.
fn each<T: Clone>(f: &Fields, key: &str, default: T, stages: usize, read: impl Fn(&serde_json::Value) -> Option<T>) -> Result<Vec<T>, ConfigError> {
    let list = match f.raw(key) {
        None => Some(vec![default; stages]),
        Some(value) => value.as_array().and_then(|list| list.iter().map(read).collect()),
    };
    list.filter(|list: &Vec<T>| list.len() == stages).ok_or_else(|| f.impossible(key, "it must be a list with one entry per stage"))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = per_stage(f, "depth", &[1, 2, 10])?;
    if depths.len() > 16 || depths.iter().sum::<u64>() > 1000 {
        return Err(f.impossible("depth", "it must have at most 16 stages, of 1000 layers in all"));
    }
    let stages = depths.len();
    let list = |key, default: &[u64]| per_stage_of(f, key, default, stages);
    let (widths, heads) = (list("embed_dim", &[64, 192, 384])?, list("num_heads", &[1, 3, 6])?);
    let (patches, kernels) = (list("patch_sizes", &[7, 3, 3])?, list("kernel_qkv", &[3, 3, 3])?);
    let ratios = each(f, "mlp_ratio", 4.0, stages, |value| value.as_f64().filter(|&ratio| ratio > 0.0 && ratio <= 10_000.0))?;
    let biases = each(f, "qkv_bias", true, stages, serde_json::Value::as_bool)?;
    let mut tokens = each(f, "cls_token", false, stages, serde_json::Value::as_bool)?;
    if !f.has("cls_token")
        && let Some(last) = tokens.last_mut()
    {
        *last = true;
    }
    let methods = each(f, "qkv_projection_method", "dw_bn".to_owned(), stages, |value| value.as_str().map(str::to_owned))?;
    for key in ["patch_stride", "patch_padding", "padding_q", "padding_kv", "stride_q", "stride_kv", "drop_rate", "attention_drop_rate", "drop_path_rate"] {
        f.touch(key);
    }
    let last = widths.last().copied().unwrap_or(0);
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    let mut before = channels(f)?;
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        if !width.is_multiple_of(heads[stage]) {
            return Err(f.impossible("num_heads", "each must divide its stage's width"));
        }
        let at = format!("cvt.encoder.stages.{stage}");
        if tokens[stage] {
            t.tensor(&format!("{at}.cls_token"), Role::Other, &[1, 1, last]);
        }
        let side = patches[stage];
        t.convolution(&format!("{at}.embedding.convolution_embeddings.projection"), &[width, before, side, side], true);
        norm(&mut t, &format!("{at}.embedding.convolution_embeddings.normalization"), width, true);
        let style = Style {
            qkv: &["attention.attention.projection_query", "attention.attention.projection_key", "attention.attention.projection_value"],
            ..VIT.biases(biases[stage], true, true)
        };
        let inner = times(width, ratios[stage]);
        let mut one = Tensors::default();
        one.extend(style.tensors(&Encoder { hidden: width, layers: depth, heads: heads[stage], intermediate: inner }));
        if methods[stage] == "dw_bn" {
            let side = kernels[stage];
            for name in ["query", "key", "value"] {
                let at = format!("attention.attention.convolution_projection_{name}.convolution_projection");
                normed(&mut one, &format!("{at}.convolution"), &format!("{at}.normalization"), [width, 1, side, side]);
            }
        }
        let one = one.build();
        for layer in 0..depth {
            t.nested(&format!("{at}.layers.{layer}"), one.clone());
            layers.push(block(width, heads[stage], inner));
        }
        before = width;
    }
    let is_classifier = class.ends_with("ForImageClassification");
    if is_classifier {
        norm(&mut t, "layernorm", last, true);
        linear(&mut t, Role::Score, "classifier", last, labels(f)?, true);
    }
    let mut draft = staged(last, t.build(), layers, "cvt");
    if !is_classifier && !class.is_empty() && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
