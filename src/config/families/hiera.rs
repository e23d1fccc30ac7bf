//! `Hiera`: a plain transformer in stages, each twice as wide as the one before; for pre-training a decoder over its masked units.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, feed_forward, pair_or, ratio, size, times};
use super::vision::{bare, block, channels, depths, linear, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[2, 3, 16, 3])?;
    let heads = per_stage_of(f, "num_heads", &[1, 2, 4, 8], depths.len())?;
    let (first, growth, ratio) = (size(f, "embed_dim", 96)?, ratio(f, "embed_dim_multiplier", 2.0)?, ratio(f, "mlp_ratio", 4.0)?);
    let (patch, stride, image) = (pair_or(f, "patch_size", [7, 7])?, pair_or(f, "patch_stride", [4, 4])?, pair_or(f, "image_size", [224, 224])?);
    let tokens = (image[0] / stride[0]).saturating_mul(image[1] / stride[1]);
    for key in ["patch_padding", "num_query_pool", "query_stride", "masked_unit_size", "masked_unit_attention", "mask_ratio", "normalize_pixel_loss"] {
        f.touch(key);
    }
    for key in ["decoder_hidden_size", "decoder_depth", "decoder_num_heads", "hidden_size", "num_layers", "out_features", "out_indices"] {
        f.touch(key);
    }
    let is_backbone = class.ends_with("Backbone");
    let at = |name: &str| if is_backbone { name.to_owned() } else { format!("hiera.{name}") };
    let mut t = Tensors::default();
    t.tensor(&at("embeddings.position_embeddings"), Role::Position, &[1, tokens, first]).convolution(
        &at("embeddings.patch_embeddings.projection"),
        &[first, channels(f)?, patch[0], patch[1]],
        true,
    );
    let mut layers = Vec::new();
    let (mut before, mut width) = (first, first);
    for (stage, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        if stage > 0 {
            width = times(width, growth);
        }
        if width > 1_000_000 || !width.is_multiple_of(heads) {
            return Err(f.impossible("num_heads", "each must divide its stage's width, which must be at most a million"));
        }
        let inner = times(width, ratio);
        for layer in 0..depth {
            let at = at(&format!("encoder.stages.{stage}.layers.{layer}"));
            norm(&mut t, &format!("{at}.layernorm_before"), before, true);
            linear(&mut t, Role::Qkv, &format!("{at}.attn.qkv"), before, 3 * width, true);
            linear(&mut t, Role::AttentionOutput, &format!("{at}.attn.proj"), width, width, true);
            norm(&mut t, &format!("{at}.layernorm_after"), width, true);
            feed_forward(&mut t, [&format!("{at}.mlp.fc1"), &format!("{at}.mlp.fc2")], width, inner);
            if before != width {
                linear(&mut t, Role::Other, &format!("{at}.proj"), before, width, true);
            }
            layers.push(block(width, heads, inner));
            before = width;
        }
    }
    let is_classifier = class.ends_with("ForImageClassification");
    if is_backbone {
        norm(&mut t, &format!("hidden_states_norms.stage{}", depths.len()), width, true);
    } else {
        norm(&mut t, "hiera.pooler.layernorm", width, true);
    }
    if is_classifier {
        linear(&mut t, Role::Score, "classifier", width, labels(f)?, true);
    }
    let mut draft = staged(width, t.build(), layers, "hiera");
    if !is_classifier && !is_backbone && !class.is_empty() && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
