//! Autoencoders between pixels and latents: images (`AutoencoderKL`) and video (Wan, CogVideoX, HunyuanVideo).

use super::super::{ConfigError, Fields};
use super::Draft;
use super::blueprint::Blueprint;
use crate::model::{ComponentKind, Decoding, Tensor, Work};

/// What differs between the families.
#[derive(Clone, Copy)]
struct Style {
    /// The kernel of convolutions.
    kernel: &'static str,
    /// The kernel of those that keep every pixel apart.
    point: &'static str,
    /// The module inside a convolution that pads it, with its dot.
    wrapped: &'static str,
    /// A norm: `+` with a bias.
    norm: &'static str,
    /// What the decoder's norms read of the latents besides; empty without.
    conditioned: &'static str,
}

const IMAGE: Style = Style { kernel: "3 3", point: "1 1", wrapped: "", norm: "+", conditioned: "" };
const VIDEO: Style = Style { kernel: "3 3 3", point: "1 1 1", wrapped: ".conv", norm: "+", conditioned: "" };

/// Modules under construction.
struct Builder {
    style: Style,
    latents: u64,
    tensors: Vec<Tensor>,
}

impl Builder {
    /// Lines in which `K` stands for the kernel, `P` for that of a point, `W` for what wraps a convolution, `N` for a norm's sign.
    fn add(&mut self, prefix: &str, lines: &str, (inputs, outputs): (u64, u64)) -> Result<(), ConfigError> {
        let Style { kernel, point, wrapped, norm, .. } = self.style;
        let lines = lines.replace('K', kernel).replace('P', point).replace('W', wrapped).replace('N', norm);
        let symbols = [("i", inputs), ("o", outputs), ("z", self.latents)];
        self.tensors.extend(Blueprint(&symbols).tensors(prefix, &lines)?);
        Ok(())
    }

    /// A norm, or one that reads the latents too.
    fn norm(&mut self, name: &str, width: u64) -> Result<(), ConfigError> {
        let is_conditioned = !self.style.conditioned.is_empty() && name.starts_with(self.style.conditioned);
        let lines = if is_conditioned { ".norm_layer o N\n.conv_yW o z P +\n.conv_bW o z P +" } else { ". o N" };
        // A line's name is what follows the prefix.
        let (prefix, lines) = if is_conditioned { (name.to_owned(), lines.to_owned()) } else { (String::new(), format!("{name} o N")) };
        self.add(&prefix, &lines, (width, width))
    }

    fn resnet(&mut self, prefix: &str, inputs: u64, outputs: u64) -> Result<(), ConfigError> {
        self.norm(&format!("{prefix}norm1"), inputs)?;
        self.norm(&format!("{prefix}norm2"), outputs)?;
        self.add(prefix, "conv1W o i K +\nconv2W o o K +", (inputs, outputs))?;
        if inputs == outputs { Ok(()) } else { self.add(prefix, "conv_shortcut o i P +", (inputs, outputs)) }
    }

    fn middle(&mut self, prefix: &str, width: u64, attention: Option<&str>) -> Result<(), ConfigError> {
        self.resnet(&format!("{prefix}mid_block.resnets.0."), width, width)?;
        if let Some(attention) = attention {
            self.add(&format!("{prefix}mid_block.attentions.0."), attention, (width, width))?;
        }
        self.resnet(&format!("{prefix}mid_block.resnets.1."), width, width)
    }

    fn draft(self, decoding: Decoding) -> Draft {
        Draft { kind: ComponentKind::Autoencoder, hidden: 0, tensors: self.tensors, layers: Vec::new(), work: Work::Decode(decoding) }
    }
}

const ATTENTION: &str = "
    group_norm o +
    to_q o o +
    to_k o o +
    to_v o o +
    to_out.0 o o +";

/// Widths of the levels and layers of each.
fn levels(f: &Fields, default: &[u64]) -> Result<Vec<u64>, ConfigError> {
    let widths = f.counts_or("block_out_channels", default)?;
    if widths.is_empty() || widths.len() > 16 || widths.contains(&0) {
        return Err(f.impossible("block_out_channels", "it must have one width for each level, at most 16"));
    }
    Ok(widths)
}

/// Which levels are followed by a change of resolution.
type Samplers<'a> = &'a dyn Fn(usize) -> bool;

/// Encoder and decoder of the same levels; `sampler` is the convolution that changes the resolution.
fn coder(b: &mut Builder, f: &Fields, widths: &[u64], samplers: Samplers, sampler: &str, attention: Option<&str>, norm_out: &str) -> Result<(), ConfigError> {
    let layers = f.count_or("layers_per_block", 1)?;
    if layers > 1000 {
        return Err(f.impossible("layers_per_block", "no autoencoder has more than 1,000"));
    }
    let (inputs, outputs) = (f.count_or("in_channels", 3)?, f.count_or("out_channels", 3)?);
    let (first, last) = (widths[0], widths[widths.len() - 1]);
    let mut width = first;
    b.add("", "encoder.conv_inW o i K +", (inputs, first))?;
    for (level, &wide) in widths.iter().enumerate() {
        for layer in 0..layers {
            b.resnet(&format!("encoder.down_blocks.{level}.resnets.{layer}."), width, wide)?;
            width = wide;
        }
        if samplers(level) {
            b.add(&format!("encoder.down_blocks.{level}.downsamplers.0."), sampler, (wide, wide))?;
        }
    }
    b.middle("encoder.", last, attention)?;
    b.add("", &format!("encoder.{norm_out} o +\nencoder.conv_outW 2z o K +"), (last, last))?;
    b.add("", "decoder.conv_inW o z K +", (last, last))?;
    b.middle("decoder.", last, attention)?;
    for (block, &wide) in widths.iter().rev().enumerate() {
        for layer in 0..=layers {
            b.resnet(&format!("decoder.up_blocks.{block}.resnets.{layer}."), width, wide)?;
            width = wide;
        }
        if samplers(block) {
            b.add(&format!("decoder.up_blocks.{block}.upsamplers.0."), sampler, (wide, wide))?;
        }
    }
    b.norm(&format!("decoder.{norm_out}"), first)?;
    b.add("", "decoder.conv_outW o i K +", (first, outputs))
}

/// Keys that change no shape.
fn touch(f: &Fields) {
    for key in [
        "act_fn",
        "down_block_types",
        "up_block_types",
        "norm_num_groups",
        "sample_size",
        "scaling_factor",
        "shift_factor",
        "latents_mean",
        "latents_std",
        "force_upcast",
        "norm_eps",
    ] {
        f.touch(key);
    }
}

/// What one pixel of the result holds at the widest moment of `AutoencoderKL`'s decoder, the first convolution of a block at the full
/// resolution that still has the width of the level below: the block's input and the convolution's, and its output; and the copies
/// of the last two that cuDNN makes in its own order of channels. In public logs of FLUX.1-dev on an H100 (diffusers 0.31, bfloat16,
/// 1024 × 1024) each image takes 2.01 GiB, which are 1,026 values per pixel.
fn widest_pixel(widths: &[u64]) -> u64 {
    let at = |(level, &width): (u32, &u64)| {
        let wide = widths.get(level as usize + 1).copied().unwrap_or(width).max(width);
        (wide.saturating_mul(3).saturating_add(width.saturating_mul(2))) >> (2 * level).min(63)
    };
    (0u32..).zip(widths).map(at).max().unwrap_or(0)
}

/// Stable Diffusion, FLUX and most pipelines of images.
pub(super) fn kl(f: &Fields) -> Result<Draft, ConfigError> {
    of_images(f, &[64], 4, 1)
}

/// FLUX.2: the same, with latents of 32 channels and two patches a side that the pipeline packs.
pub(super) fn flux2(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["batch_norm_eps", "batch_norm_momentum", "patch_size"] {
        f.raw(key);
    }
    of_images(f, &[128, 256, 512, 512], 32, 2)
}

fn of_images(f: &Fields, widths: &[u64], latents: u64, layers: u64) -> Result<Draft, ConfigError> {
    touch(f);
    let f = &f.with_defaults(&[("layers_per_block", layers)]);
    let widths = levels(f, widths)?;
    let latents = f.optional_count("latent_channels")?.unwrap_or(latents);
    let mut b = Builder { style: IMAGE, latents, tensors: Vec::new() };
    let attention = f.flag("mid_block_add_attention", true)?.then_some(ATTENTION);
    let last = widths.len() - 1;
    coder(&mut b, f, &widths, &|level| level < last, "conv o o K +", attention, "conv_norm_out")?;
    if f.flag("use_quant_conv", true)? {
        b.add("", "quant_conv 2z 2z P +", (0, 0))?;
    }
    if f.flag("use_post_quant_conv", true)? {
        b.add("", "post_quant_conv z z P +", (0, 0))?;
    }
    let scale = 1u64 << last;
    Ok(b.draft(Decoding { scale, frame_scale: 1, per_pixel: widest_pixel(&widths), per_frame_pixel: 0, channels: latents }))
}

/// CogVideoX: convolutions over time, no attention, norms of the decoder that read the latents. Frames are decoded two latents at a time.
pub(super) fn cogvideox(f: &Fields) -> Result<Draft, ConfigError> {
    touch(f);
    for key in ["sample_height", "sample_width", "invert_scale_latents", "latents_mean", "latents_std"] {
        f.raw(key);
    }
    let f = &f.with_defaults(&[("layers_per_block", 3)]);
    let widths = levels(f, &[128, 256, 256, 512])?;
    let latents = f.count_or("latent_channels", 16)?;
    let mut b = Builder { style: Style { conditioned: "decoder.", ..VIDEO }, latents, tensors: Vec::new() };
    let last = widths.len() - 1;
    // Its samplers work on each frame alone.
    coder(&mut b, f, &widths, &|level| level < last, "conv o o 3 3 +", None, "norm_out")?;
    if f.flag("use_quant_conv", false)? || f.flag("use_post_quant_conv", false)? {
        return Err(f.impossible("use_quant_conv", "a CogVideoX autoencoder with it is not understood"));
    }
    let frame_scale = f.count_or("temporal_compression_ratio", 4)?;
    Ok(b.draft(Decoding { scale: 1 << last, frame_scale, per_pixel: scaled(22_900, widths[0], 128), per_frame_pixel: 0, channels: latents }))
}

/// HunyuanVideo: convolutions over time; the whole video at once unless it is tiled.
pub(super) fn hunyuan_video(f: &Fields) -> Result<Draft, ConfigError> {
    touch(f);
    let f = &f.with_defaults(&[("layers_per_block", 2)]);
    let widths = levels(f, &[128, 256, 512, 512])?;
    let latents = f.count_or("latent_channels", 16)?;
    let (scale, frame_scale) = (f.count_or("spatial_compression_ratio", 8)?, f.count_or("temporal_compression_ratio", 4)?);
    let mut b = Builder { style: VIDEO, latents, tensors: Vec::new() };
    let attention = f.flag("mid_block_add_attention", true)?.then_some(ATTENTION);
    let last = widths.len() - 1;
    let (sides, times) = (scale.max(1).ilog2() as usize, frame_scale.max(1).ilog2() as usize);
    let changes = |level: usize| level < sides || (level + 1 + times > last && level < last);
    coder(&mut b, f, &widths, &changes, "conv.conv o o K +", attention, "conv_norm_out")?;
    // Its shortcuts are wrapped too, which changes no shape.
    b.add("", "quant_conv 2z 2z P +\npost_quant_conv z z P +", (0, 0))?;
    Ok(b.draft(Decoding { scale, frame_scale, per_pixel: 0, per_frame_pixel: scaled(1160, widths[0], 128), channels: latents }))
}

/// Wan and Qwen-Image: convolutions over time that keep what they saw of the frames before; norms without a bias.
pub(super) fn wan(f: &Fields) -> Result<Draft, ConfigError> {
    for key in [
        "attn_scales",
        "dropout",
        "latents_mean",
        "latents_std",
        "scale_factor_spatial",
        "scale_factor_temporal",
        "clip_output",
        "is_residual",
        "patch_size",
        "input_channels",
    ] {
        f.raw(key);
    }
    if f.raw("is_residual").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(f.impossible("is_residual", "the residual autoencoder of Wan 2.2 is not understood yet"));
    }
    let base = f.count_or("base_dim", 96)?;
    let latents = f.count_or("z_dim", 16)?;
    let layers = f.count_or("num_res_blocks", 2)?;
    let factors = f.counts_or("dim_mult", &[1, 2, 4, 4])?;
    if factors.is_empty() || factors.len() > 16 || layers > 1000 || factors.iter().any(|&n| n == 0 || n > 1 << 20) || base > 1 << 20 {
        return Err(f.impossible("dim_mult", "it must have one factor for each level, at most 16"));
    }
    let last = factors.len() - 1;
    let over_time: Vec<bool> = match f.raw("temperal_downsample").and_then(serde_json::Value::as_array) {
        Some(list) => list.iter().map(|item| item.as_bool().unwrap_or(false)).collect(),
        None => vec![false, true, true],
    };
    let is_over_time = |level: usize| over_time.get(level).copied().unwrap_or(false);
    let mut b = Builder { style: Style { wrapped: "", norm: "", ..VIDEO }, latents, tensors: Vec::new() };
    let widths: Vec<u64> = factors.iter().map(|factor| factor * base).collect();
    let attention = Some("norm o\nto_qkv 3o o 1 1 +\nproj o o 1 1 +");
    let mut width = base;
    b.add("", "encoder.conv_in o 3 K +", (3, base))?;
    for (level, &wide) in widths.iter().enumerate() {
        for layer in 0..layers {
            b.resnet(&format!("encoder.down_blocks.{level}.resnets.{layer}."), width, wide)?;
            width = wide;
        }
        if level < last {
            b.add(&format!("encoder.down_blocks.{level}."), "resample.1 o o 3 3 +", (wide, wide))?;
            if is_over_time(level) {
                b.add(&format!("encoder.down_blocks.{level}."), "time_conv o o 3 1 1 +", (wide, wide))?;
            }
        }
    }
    b.middle("encoder.", width, attention)?;
    b.add("", "encoder.norm_out o\nencoder.conv_out 2z o K +\nquant_conv 2z 2z P +\npost_quant_conv z z P +\ndecoder.conv_in o z K +", (width, width))?;
    b.middle("decoder.", width, attention)?;
    for (block, &wide) in widths.iter().rev().enumerate() {
        for layer in 0..=layers {
            b.resnet(&format!("decoder.up_blocks.{block}.resnets.{layer}."), width, wide)?;
            width = wide;
        }
        if block < last {
            let prefix = format!("decoder.up_blocks.{block}.upsamplers.0.");
            b.add(&prefix, "resample.1 o i 3 3 +", (wide, wide / 2))?;
            if is_over_time(last - 1 - block) {
                b.add(&prefix, "time_conv 2o o 3 1 1 +", (wide, wide))?;
            }
            width = wide / 2;
        }
    }
    b.add("", "decoder.norm_out o\ndecoder.conv_out 3 o K +", (width, width))?;
    let frame_scale = 1u64 << over_time.iter().filter(|over| **over).count().min(16);
    let decoding = Decoding { scale: 1 << last, frame_scale, per_pixel: scaled(1730, base, 96), per_frame_pixel: 0, channels: latents };
    // Past the first frame, what the convolutions keep of the frames before comes to it.
    Ok(b.draft(if frame_scale > 1 { Decoding { per_pixel: scaled(5060, base, 96), per_frame_pixel: 3, ..decoding } } else { decoding }))
}

/// A measured number of values for another width than that of the measurement.
fn scaled(values: u64, width: u64, measured_at: u64) -> u64 {
    values.saturating_mul(width).div_ceil(measured_at)
}
