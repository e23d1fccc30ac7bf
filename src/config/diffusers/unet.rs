//! The UNet of Stable Diffusion 1, 2 and XL (`UNet2DConditionModel`).

use super::super::{ConfigError, Fields};
use super::Draft;
use super::blueprint::Blueprint;
use crate::model::{ComponentKind, Denoising, Tensor, Work};

const RESNET: &str = "
    norm1 i +
    conv1 o i 3 3 +
    time_emb_proj o t +
    norm2 o +
    conv2 o o 3 3 +";
const SHORTCUT: &str = "conv_shortcut o i 1 1 +";
const SAMPLER: &str = "conv o o 3 3 +";
/// A projection in and out, and between them layers that look at themselves and at the text.
const ATTENTION: &str = "
    norm o +
    proj_in o o +
    proj_out o o +";
const LAYER: &str = "
    norm1 o +
    attn1.to_q o o
    attn1.to_k o o
    attn1.to_v o o
    attn1.to_out.0 o o +
    norm2 o +
    attn2.to_q o o
    attn2.to_k o x
    attn2.to_v o x
    attn2.to_out.0 o o +
    norm3 o +
    ff.net.0.proj 8o o +
    ff.net.2 o 4o +";
const ENDS: &str = "
    conv_in f n 3 3 +
    time_embedding.linear_1 t f +
    time_embedding.linear_2 t t +
    conv_norm_out f +
    conv_out out f 3 3 +";
const ADDED: &str = "
    add_embedding.linear_1 t a +
    add_embedding.linear_2 t t +";

/// Keys whose other values change the network in ways that are not read.
const UNREAD: &[&str] =
    &["class_embed_type", "encoder_hid_dim", "encoder_hid_dim_type", "num_class_embeds", "time_cond_proj_dim", "reverse_transformer_layers_per_block"];
/// Keys that change no shape.
const SHAPELESS: &[&str] = &[
    "act_fn",
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "attention_head_dim",
    "center_input_sample",
    "downsample_padding",
    "flip_sin_to_cos",
    "freq_shift",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "num_attention_heads",
    "use_linear_projection",
    "upcast_attention",
    "resnet_out_scale_factor",
    "mid_block_type",
    "conv_in_kernel",
    "conv_out_kernel",
    "class_embeddings_concat",
    "cross_attention_norm",
    "mid_block_only_cross_attention",
    "only_cross_attention",
    "dual_cross_attention",
    "resnet_skip_time_act",
    "resnet_time_scale_shift",
    "time_embedding_act_fn",
    "time_embedding_dim",
    "time_embedding_type",
    "timestep_post_act",
    "attention_type",
    "dropout",
];

/// The blocks of one UNet as they are added, with the widest moment of a step.
struct Blocks {
    /// Widths of the levels.
    widths: Vec<u64>,
    /// Width of what is known of the time.
    time: u64,
    /// Width of the text.
    text: u64,
    tensors: Vec<Tensor>,
}

impl Blocks {
    fn add(&mut self, prefix: &str, lines: &str, (inputs, outputs): (u64, u64)) -> Result<(), ConfigError> {
        let symbols = [("i", inputs), ("o", outputs), ("t", self.time), ("x", self.text)];
        self.tensors.extend(Blueprint(&symbols).tensors(prefix, lines)?);
        Ok(())
    }

    fn resnet(&mut self, prefix: &str, inputs: u64, outputs: u64) -> Result<(), ConfigError> {
        self.add(prefix, RESNET, (inputs, outputs))?;
        if inputs == outputs { Ok(()) } else { self.add(prefix, SHORTCUT, (inputs, outputs)) }
    }

    fn attention(&mut self, prefix: &str, width: u64, layers: u64) -> Result<(), ConfigError> {
        self.add(prefix, ATTENTION, (width, width))?;
        (0..layers).try_for_each(|layer| self.add(&format!("{prefix}transformer_blocks.{layer}."), LAYER, (width, width)))
    }
}

/// A number for all levels, or one for each.
fn per_level(f: &Fields, key: &'static str, levels: usize, default: u64) -> Result<Vec<u64>, ConfigError> {
    let list = match f.raw(key) {
        Some(serde_json::Value::Array(_)) => f.optional_counts(key)?.unwrap_or_default(),
        _ => vec![f.count_or(key, default)?; levels],
    };
    if list.len() != levels || list.iter().any(|&n| n == 0 || n > 1000) {
        return Err(f.impossible(key, "it must be one number, or one for each of `block_out_channels`"));
    }
    Ok(list)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    for key in UNREAD {
        if f.raw(key).is_some() {
            return Err(f.impossible(key, "a UNet with this is not understood yet"));
        }
    }
    for key in SHAPELESS {
        f.touch(key);
    }
    let widths = f.counts_or("block_out_channels", &[320, 640, 1280, 1280])?;
    if widths.is_empty() || widths.len() > 16 || widths.contains(&0) {
        return Err(f.impossible("block_out_channels", "it must have one width for each level, at most 16"));
    }
    let levels = widths.len();
    let crosses = |key: &str, default: &str| -> Result<Vec<bool>, ConfigError> {
        match f.optional_texts(key)? {
            None => Ok((0..levels).map(|level| (level + 1 < levels) == (default == "down") || (level > 0 && default == "up")).collect()),
            Some(types) if types.len() == levels => Ok(types.iter().map(|kind| kind.starts_with("CrossAttn")).collect()),
            Some(_) => Err(f.impossible(key, "it must have one block for each of `block_out_channels`")),
        }
    };
    let (down, up) = (crosses("down_block_types", "down")?, crosses("up_block_types", "up")?);
    let layers = per_level(f, "layers_per_block", levels, 2)?;
    let depths = per_level(f, "transformer_layers_per_block", levels, 1)?;
    let (inputs, outputs) = (f.count_or("in_channels", 4)?, f.count_or("out_channels", 4)?);
    let text = f.count_or("cross_attention_dim", 1280)?;
    let first = widths[0];
    let mut blocks = Blocks { time: first.saturating_mul(4), text, tensors: Vec::new(), widths };
    let ends = [("f", first), ("n", inputs), ("t", blocks.time), ("out", outputs)];
    blocks.tensors = Blueprint(&ends).tensors("", ENDS)?;
    match f.optional_text("addition_embed_type")?.as_deref() {
        None => f.touch("projection_class_embeddings_input_dim").map_or((), drop),
        Some("text_time") => {
            let added = [("a", f.count("projection_class_embeddings_input_dim")?), ("t", blocks.time)];
            blocks.tensors.extend(Blueprint(&added).tensors("", ADDED)?);
        }
        Some(_) => return Err(f.impossible("addition_embed_type", "only `text_time` is understood")),
    }
    // What the way down leaves for the way up.
    let mut skips = vec![first];
    let mut width = first;
    for level in 0..levels {
        let wide = blocks.widths[level];
        for layer in 0..layers[level] {
            blocks.resnet(&format!("down_blocks.{level}.resnets.{layer}."), width, wide)?;
            if down[level] {
                blocks.attention(&format!("down_blocks.{level}.attentions.{layer}."), wide, depths[level])?;
            }
            width = wide;
            skips.push(wide);
        }
        if level + 1 < levels {
            blocks.add(&format!("down_blocks.{level}.downsamplers.0."), SAMPLER, (wide, wide))?;
            skips.push(wide);
        }
    }
    blocks.resnet("mid_block.resnets.0.", width, width)?;
    blocks.resnet("mid_block.resnets.1.", width, width)?;
    blocks.attention("mid_block.attentions.0.", width, depths[levels - 1])?;
    for (block, &attends) in up.iter().enumerate() {
        let level = levels - 1 - block;
        let wide = blocks.widths[level];
        for layer in 0..=layers[level] {
            let skip = skips.pop().ok_or(ConfigError::Overflow)?;
            blocks.resnet(&format!("up_blocks.{block}.resnets.{layer}."), width.saturating_add(skip), wide)?;
            if attends {
                blocks.attention(&format!("up_blocks.{block}.attentions.{layer}."), wide, depths[level])?;
            }
            width = wide;
        }
        if level > 0 {
            blocks.add(&format!("up_blocks.{block}.upsamplers.0."), SAMPLER, (wide, wide))?;
        }
    }
    let sample = super::side(f, "sample_size", 64)?;
    let denoising = Denoising { patch: 1, text_tokens: 0, values: widest(&blocks.widths, &down), copies: 2, output: (sample, sample, 1) };
    Ok(Draft { kind: ComponentKind::Denoiser, hidden: first, tensors: blocks.tensors, layers: Vec::new(), work: Work::Denoise(denoising) })
}

/// Values that one pixel of the latents holds at the worst moment: the feed-forward of an attention layer, whose gated projection is
/// eight times as wide, with what leads to it (26 widths in all), and what the levels above have left for the way up.
fn widest(widths: &[u64], crosses: &[bool]) -> u64 {
    let (mut left, mut most) = (0u64, 0u64);
    for ((level, &width), &crosses) in (0u32..).zip(widths).zip(crosses) {
        let pixels = |values: u64| values >> (2 * level);
        let block = if crosses { pixels(width.saturating_mul(26)) } else { pixels(width.saturating_mul(9)) };
        most = most.max(left.saturating_add(block));
        left = left.saturating_add(pixels(width.saturating_mul(3)));
    }
    most
}
