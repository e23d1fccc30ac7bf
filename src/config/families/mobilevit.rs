//! `MobileViT` 1 and 2: inverted residuals, and from the third stage on transformers over patches between convolutions.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{class, heads, normed, ratio, size, times};
use super::vision::{Encoder, VIT, bare, block, channels, linear, norm, per_stage, per_stage_of, staged};
use super::{ConfigError, Fields};
use crate::model::{Layer, Role};

/// The nearest multiple of `divisor`, at least one of them (`minimum`), and never less than nine tenths.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn divisible(value: f64, divisor: u64, minimum: u64) -> u64 {
    // Values are channels: a few thousands.
    let rounded = (((value + divisor as f64 / 2.0) as u64) / divisor * divisor).max(minimum);
    if (rounded as f64) < 0.9 * value { rounded + divisor } else { rounded }
}

#[allow(clippy::cast_precision_loss)]
const fn float(width: u64) -> f64 {
    width as f64
}

/// A convolution without a bias and its norm.
fn convolution(t: &mut Tensors, at: &str, shape: [u64; 4]) {
    normed(t, &format!("{at}.convolution"), &format!("{at}.normalization"), shape);
}

/// Wider, a depthwise convolution, narrower.
fn inverted(t: &mut Tensors, at: &str, inputs: u64, outputs: u64, expansion: f64) {
    let inner = divisible((float(inputs) * expansion).round_ties_even(), 8, 8);
    convolution(t, &format!("{at}.expand_1x1"), [inner, inputs, 1, 1]);
    convolution(t, &format!("{at}.conv_3x3"), [inner, 1, 3, 3]);
    convolution(t, &format!("{at}.reduce_1x1"), [outputs, inner, 1, 1]);
}

/// A classifier, or `DeepLab`'s head over the last map.
fn finish(f: &Fields, mut t: Tensors, layers: Vec<Layer>, [last, wide]: [u64; 2], base: &'static str, pooled: u64) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let aspp = size(f, "aspp_out_channels", pooled)?;
    let rates = per_stage(f, "atrous_rates", &[6, 12, 18])?.len() as u64;
    f.touch("semantic_loss_ignore_index");
    let mut is_known = class.is_empty() || class.ends_with("Model");
    if class.ends_with("ForImageClassification") {
        linear(&mut t, Role::Score, "classifier", wide, labels(f)?, true);
        is_known = true;
    } else if class.ends_with("ForSemanticSegmentation") {
        let at = "segmentation_head.aspp";
        convolution(&mut t, &format!("{at}.convs.0"), [aspp, last, 1, 1]);
        for number in 1..=rates {
            convolution(&mut t, &format!("{at}.convs.{number}"), [aspp, last, 3, 3]);
        }
        convolution(&mut t, &format!("{at}.convs.{}.conv_1x1", rates + 1), [aspp, last, 1, 1]);
        convolution(&mut t, &format!("{at}.project"), [aspp, 5 * aspp, 1, 1]);
        t.convolution("segmentation_head.classifier.convolution", &[labels(f)?, aspp, 1, 1], true);
        is_known = true;
    }
    let mut draft = staged(last, t.build(), layers, base);
    if !is_known {
        bare(&mut draft, &class);
    }
    Ok(draft)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let hidden = per_stage_of(f, "hidden_sizes", &[144, 192, 240], 3)?;
    let necks = per_stage_of(f, "neck_hidden_sizes", &[16, 32, 64, 96, 128, 160, 640], 7)?;
    let (wider, expansion, kernel) = (ratio(f, "mlp_ratio", 2.0)?, ratio(f, "expand_ratio", 4.0)?, size(f, "conv_kernel_size", 3)?);
    let bias = f.flag("qkv_bias", true)?;
    for key in ["output_stride", "patch_size", "image_size"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    convolution(&mut t, "mobilevit.conv_stem", [necks[0], channels(f)?, 3, 3]);
    for (stage, blocks) in [(0, 1), (1, 3)] {
        for number in 0..blocks {
            let inputs = if number == 0 { necks[stage] } else { necks[stage + 1] };
            inverted(&mut t, &format!("mobilevit.encoder.layer.{stage}.layer.{number}"), inputs, necks[stage + 1], expansion);
        }
    }
    for (number, (&width, depth)) in hidden.iter().zip([2, 4, 3]).enumerate() {
        let (at, channels) = (format!("mobilevit.encoder.layer.{}", number + 2), necks[number + 3]);
        let attention = heads(f, "num_attention_heads", 4, width)?;
        inverted(&mut t, &format!("{at}.downsampling_layer"), necks[number + 2], channels, expansion);
        convolution(&mut t, &format!("{at}.conv_kxk"), [channels, channels, kernel, kernel]);
        t.convolution(&format!("{at}.conv_1x1.convolution"), &[width, channels, 1, 1], false);
        let inner = times(width, wider);
        let one = VIT.biases(bias, true, true).tensors(&Encoder { hidden: width, layers: depth, heads: attention, intermediate: inner });
        for layer in 0..depth {
            t.nested(&format!("{at}.transformer.layer.{layer}"), one.clone());
            layers.push(block(width, attention, inner));
        }
        norm(&mut t, &format!("{at}.layernorm"), width, true);
        convolution(&mut t, &format!("{at}.conv_projection"), [channels, width, 1, 1]);
        convolution(&mut t, &format!("{at}.fusion"), [channels, 2 * channels, kernel, kernel]);
    }
    if !class.ends_with("ForSemanticSegmentation") {
        convolution(&mut t, "mobilevit.conv_1x1_exp", [necks[6], necks[5], 1, 1]);
    }
    finish(f, t, layers, [necks[5], necks[6]], "mobilevit", 256)
}

/// The second: attention by one score a token, and all widths from one multiplier.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let multiplier = ratio(f, "width_multiplier", 1.0)?;
    let expansion = ratio(f, "expand_ratio", 2.0)?;
    let (kernel, wider) = (size(f, "conv_kernel_size", 3)?, ratio(f, "ffn_multiplier", 2.0)?);
    let depths = per_stage_of(f, "n_attn_blocks", &[2, 4, 3], 3)?;
    let units = per_stage_of(f, "base_attn_unit_dims", &[128, 192, 256], 3)?;
    if depths.iter().any(|&depth| depth > 1000) {
        return Err(f.impossible("n_attn_blocks", "each must be at most 1000"));
    }
    for key in ["output_stride", "patch_size", "image_size"] {
        f.touch(key);
    }
    let scaled = |base: u64, divisor: u64| divisible(float(base) * multiplier, divisor, divisor);
    let stem = divisible((32.0 * multiplier).clamp(16.0, 64.0), 8, 16);
    let widths = [scaled(64, 16), scaled(128, 8), scaled(256, 8), scaled(384, 8), scaled(512, 8)];
    let mut t = Tensors::default();
    let mut layers = Vec::new();
    convolution(&mut t, "mobilevitv2.conv_stem", [stem, channels(f)?, 3, 3]);
    inverted(&mut t, "mobilevitv2.encoder.layer.0.layer.0", stem, widths[0], expansion);
    inverted(&mut t, "mobilevitv2.encoder.layer.1.layer.0", widths[0], widths[1], expansion);
    inverted(&mut t, "mobilevitv2.encoder.layer.1.layer.1", widths[1], widths[1], expansion);
    for (number, (&unit, &depth)) in units.iter().zip(&depths).enumerate() {
        let (at, channels) = (format!("mobilevitv2.encoder.layer.{}", number + 2), widths[number + 2]);
        let width = scaled(unit, 8);
        inverted(&mut t, &format!("{at}.downsampling_layer"), widths[number + 1], channels, expansion);
        convolution(&mut t, &format!("{at}.conv_kxk"), [channels, 1, kernel, kernel]);
        t.convolution(&format!("{at}.conv_1x1.convolution"), &[width, channels, 1, 1], false);
        let inner = times(width, wider) / 16 * 16;
        for layer in 0..depth {
            let at = format!("{at}.transformer.layer.{layer}");
            norm(&mut t, &format!("{at}.layernorm_before"), width, true);
            norm(&mut t, &format!("{at}.layernorm_after"), width, true);
            linear(&mut t, Role::Qkv, &format!("{at}.attention.qkv_proj.convolution"), width, 2 * width + 1, true);
            linear(&mut t, Role::AttentionOutput, &format!("{at}.attention.out_proj.convolution"), width, width, true);
            linear(&mut t, Role::Up, &format!("{at}.ffn.conv1.convolution"), width, inner, true);
            linear(&mut t, Role::Down, &format!("{at}.ffn.conv2.convolution"), inner, width, true);
            layers.push(block(width, 1, inner));
        }
        norm(&mut t, &format!("{at}.layernorm"), width, true);
        convolution(&mut t, &format!("{at}.conv_projection"), [channels, width, 1, 1]);
    }
    finish(f, t, layers, [widths[4], widths[4]], "mobilevitv2", 512)
}
