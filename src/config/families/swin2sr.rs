//! `Swin2SR`: stages of the second Swin at one width, and convolutions that make a larger image.

use super::decoder::{Draft, Tensors};
use super::networks::{class, pair_or, ratio, size, times};
use super::vision::{Encoder, Style, VIT, bare, block, channels, depths, norm, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::Role;

/// Channels of what is enlarged.
const FEATURES: u64 = 64;

fn square(t: &mut Tensors, at: &str, inputs: u64, outputs: u64) {
    t.convolution(at, &[outputs, inputs, 3, 3], true);
}

/// Enlarges by two as often as it takes, or once by three.
fn enlarge(f: &Fields, t: &mut Tensors, by: u64) -> Result<(), ConfigError> {
    if by.is_power_of_two() {
        for step in 0..by.ilog2() {
            square(t, &format!("upsample.upsample.convolution_{step}"), FEATURES, 4 * FEATURES);
        }
        return Ok(());
    }
    if by != 3 {
        return Err(f.impossible("upscale", "it must be 3 or a power of two"));
    }
    square(t, "upsample.upsample.convolution", FEATURES, 9 * FEATURES);
    Ok(())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let depths = depths(f, &[6; 6])?;
    let heads = per_stage_of(f, "num_heads", &[6; 6], depths.len())?;
    let (width, ratio) = (size(f, "embed_dim", 180)?, ratio(f, "mlp_ratio", 2.0)?);
    let (patch, image) = (pair_or(f, "patch_size", [1, 1])?, pair_or(f, "image_size", [64, 64])?);
    let (colours, by) = (channels(f)?, size(f, "upscale", 2)?);
    let made = f.optional_count("num_channels_out")?.unwrap_or(colours);
    let bias = f.flag("qkv_bias", true)?;
    for key in ["window_size", "img_range", "hidden_size", "drop_path_rate"] {
        f.touch(key);
    }
    let style = Style { qkv: &["attention.self.query", "attention.self.key", "attention.self.value"], qkv_bias: [bias, false, bias], ..VIT };
    let mut t = Tensors::default();
    square(&mut t, "swin2sr.first_convolution", colours, width);
    t.convolution("swin2sr.embeddings.patch_embeddings.projection", &[width, width, patch[0], patch[1]], true);
    if f.flag("use_absolute_embeddings", false)? {
        let places = (image[0] / patch[0]).saturating_mul(image[1] / patch[1]).saturating_add(1);
        t.tensor("swin2sr.embeddings.position_embeddings", Role::Position, &[1, places, width]);
    }
    norm(&mut t, "swin2sr.embeddings.patch_embeddings.layernorm", width, true);
    let mut layers = Vec::new();
    let joins = f.optional_text("resi_connection")?.unwrap_or_else(|| "1conv".to_owned());
    let inner = times(width, ratio);
    for (stage, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        if !width.is_multiple_of(heads) {
            return Err(f.impossible("num_heads", "each must divide `embed_dim`"));
        }
        let at = format!("swin2sr.encoder.stages.{stage}");
        let mut one = Tensors::default();
        one.extend(style.tensors(&Encoder { hidden: width, layers: depth, heads, intermediate: inner }))
            .tensor("attention.self.logit_scale", Role::Other, &[heads, 1, 1])
            .linear("attention.self.continuous_position_bias_mlp.0", 2, 512, true)
            .linear("attention.self.continuous_position_bias_mlp.2", 512, heads, false);
        let one = one.build();
        for layer in 0..depth {
            t.nested(&format!("{at}.layers.{layer}"), one.clone());
            layers.push(block(width, heads, inner));
        }
        match joins.as_str() {
            "1conv" => square(&mut t, &format!("{at}.conv"), width, width),
            "3conv" => {
                square(&mut t, &format!("{at}.conv.0"), width, width / 4);
                t.convolution(&format!("{at}.conv.2"), &[width / 4, width / 4, 1, 1], true);
                square(&mut t, &format!("{at}.conv.4"), width / 4, width);
            }
            _ => return Err(f.impossible("resi_connection", "it must be `1conv` or `3conv`")),
        }
        t.convolution(&format!("{at}.patch_embed.projection"), &[width, width, patch[0], patch[1]], true);
    }
    norm(&mut t, "swin2sr.layernorm", width, true);
    square(&mut t, "swin2sr.conv_after_body", width, width);
    let enlarges = class.is_empty() || class.ends_with("ForImageSuperResolution");
    let kind = f.optional_text("upsampler")?.unwrap_or_else(|| "pixelshuffle".to_owned());
    if enlarges {
        let before = |t: &mut Tensors| square(t, "upsample.conv_before_upsample", width, FEATURES);
        match kind.as_str() {
            "pixelshuffle" => {
                before(&mut t);
                enlarge(f, &mut t, by)?;
                square(&mut t, "upsample.final_convolution", FEATURES, made);
            }
            "pixelshuffle_aux" => {
                before(&mut t);
                square(&mut t, "upsample.conv_bicubic", colours, FEATURES);
                square(&mut t, "upsample.conv_aux", FEATURES, colours);
                square(&mut t, "upsample.conv_after_aux.0", 3, FEATURES);
                enlarge(f, &mut t, by)?;
                square(&mut t, "upsample.final_convolution", FEATURES, made);
            }
            "pixelshuffledirect" => square(&mut t, "upsample.conv", width, by.saturating_mul(by).saturating_mul(made)),
            "nearest+conv" => {
                before(&mut t);
                for name in ["conv_up1", "conv_up2", "conv_hr"] {
                    square(&mut t, &format!("upsample.{name}"), FEATURES, FEATURES);
                }
                square(&mut t, "upsample.final_convolution", FEATURES, made);
            }
            // Noise and artefacts are taken off at the same size.
            _ => square(&mut t, "final_convolution", width, made),
        }
    }
    let mut draft = staged(width, t.build(), layers, "swin2sr");
    if !enlarges && !class.ends_with("Model") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
