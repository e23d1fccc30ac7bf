//! Emu 3: Llama over a vocabulary that images share, and the tokeniser that makes and reads their tokens, with convolutions over time.

use super::decoder::{Decoder, LLAMA_NORMS};
use super::decoder::{Draft, Head, Shape, Tensors, layers_by_span};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::vision_tower;
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span, Tensor};

/// `Emu3TextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 184_622),
    ("hidden_size", 4096),
    ("intermediate_size", 14_336),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
];

/// `Emu3VQVAEConfig`.
const TOKENIZER: &[(&str, u64)] = &[
    ("codebook_size", 32_768),
    ("embed_dim", 4),
    ("latent_channels", 4),
    ("in_channels", 3),
    ("out_channels", 3),
    ("temporal_downsample_factor", 4),
    ("base_channels", 256),
    ("num_res_blocks", 2),
    ("hidden_size", 1024),
];

/// Most levels, blocks and halvings that are read.
const MAX: u64 = 64;

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let intermediate = f.count("intermediate_size")?;
    let (attention, mlp) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let layer = Tensors::default().attention(&shape, attention, attention).gated_mlp(shape.hidden, intermediate, mlp).norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &layer, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "emu3_text_model", names: Names::Inside("model.text_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: false } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    f.touch("vocabulary_map");
    let vq = f.part(&["vq_config"])?.with_defaults(TOKENIZER);
    let width = vq.count("embed_dim")?;
    let tensors = Tensors::default().nested("model.vqmodel", Tokenizer::read(&vq)?.tensors()).build();
    Ok(draft.with(vision_tower(width, "", tensors, Vec::new())))
}

/// Emu 3's image tokeniser: like Chameleon's with attention at a quarter of its levels, and norms in its decoder that the codes steer.
struct Tokenizer {
    base: u64,
    multipliers: Vec<u64>,
    blocks: u64,
    attending: Vec<u64>,
    /// Width of attention in the levels that have it.
    width: u64,
    latent: u64,
    double: bool,
    embed: u64,
    entries: u64,
    image: [u64; 2],
    halvings: u64,
}

impl Tokenizer {
    fn read(f: &Fields) -> Result<Self, ConfigError> {
        let multipliers = f.counts_or("channel_multiplier", &[1, 2, 2, 4])?;
        if multipliers.is_empty() || multipliers.len() as u64 > MAX || multipliers.contains(&0) {
            return Err(f.impossible("channel_multiplier", "it must be a list of sizes, at least 1 each"));
        }
        let (blocks, factor) = (f.count("num_res_blocks")?, f.count("temporal_downsample_factor")?);
        if blocks > MAX {
            return Err(f.impossible("num_res_blocks", "it must be at most 64"));
        }
        // Attention runs with one head by default; how many there are changes no shape.
        f.touch("num_attention_heads");
        Ok(Self {
            base: f.count("base_channels")?,
            multipliers,
            blocks,
            attending: if f.has("attn_resolutions") { f.optional_counts("attn_resolutions")?.unwrap_or_default() } else { vec![3] },
            width: f.count("hidden_size")?,
            latent: f.count("latent_channels")?,
            double: f.flag("double_latent", false)?,
            embed: f.count("embed_dim")?,
            entries: f.count("codebook_size")?,
            image: [f.count("in_channels")?, f.count("out_channels")?],
            halvings: u64::from(factor.ilog2()),
        })
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut t = Tensors::default();
        self.encoder(&mut t);
        self.decoder(&mut t);
        t.embedding("quantize.embedding", self.entries, self.embed)
            .convolution("quant_conv.conv", &[self.embed, self.latent, 3, 1, 1], true)
            .convolution("post_quant_conv.conv", &[self.latent, self.embed, 3, 1, 1], true)
            .build()
    }

    fn encoder(&self, t: &mut Tensors) {
        t.convolution("encoder.conv_in", &[self.base, self.image[0], 3, 3], true);
        let mut channels = self.base;
        for (level, multiplier) in self.multipliers.iter().enumerate() {
            let (at, out) = (format!("encoder.down_block.down.{level}"), self.base.saturating_mul(*multiplier));
            for number in 0..self.blocks {
                residual(t, &format!("{at}.block.{number}"), channels, out, None);
                channels = out;
                if self.attending.contains(&(level as u64)) {
                    attention(t, &format!("{at}.attn.{number}"), self.width);
                    t.norm(&format!("{at}.attn_norms.{number}"), out, true);
                }
            }
            if level + 1 != self.multipliers.len() {
                t.convolution(&format!("{at}.downsample.conv"), &[out, out, 3, 3], true);
            }
        }
        self.middle(t, "encoder", channels, None);
        let out = if self.double { self.latent.saturating_mul(2) } else { self.latent };
        t.norm("encoder.norm_out", channels, true).convolution("encoder.conv_out", &[out, channels, 3, 3], true);
        for number in 0..self.halvings {
            t.convolution(&format!("encoder.time_conv.{number}.conv.conv"), &[out, out, 4, 3, 3], true);
        }
        self.over_time(t, "encoder", out);
    }

    fn decoder(&self, t: &mut Tensors) {
        self.over_time(t, "decoder", self.latent);
        for number in 0..self.halvings {
            t.convolution(&format!("decoder.time_conv.{number}.conv.conv"), &[self.latent, self.latent, 3, 3, 3], true);
        }
        let steered = Some(self.embed);
        let mut channels = self.multipliers.last().map_or(self.base, |multiplier| self.base.saturating_mul(*multiplier));
        t.convolution("decoder.conv_in", &[channels, self.latent, 3, 3], true);
        self.middle(t, "decoder", channels, steered);
        for (level, multiplier) in self.multipliers.iter().enumerate().rev() {
            let (at, out) = (format!("decoder.up_block.up.{level}"), self.base.saturating_mul(*multiplier));
            for number in 0..=self.blocks {
                residual(t, &format!("{at}.block.{number}"), channels, out, steered);
                channels = out;
                if self.attending.contains(&(level as u64)) {
                    attention(t, &format!("{at}.attn.{number}"), self.width);
                    norm(t, &format!("{at}.attn_norms.{number}"), out, steered);
                }
            }
            if level != 0 {
                t.convolution(&format!("{at}.upsample.conv"), &[out, out, 3, 3], true);
            }
        }
        norm(t, "decoder.norm_out", channels, steered);
        t.convolution("decoder.conv_out", &[self.image[1], channels, 3, 3], true);
    }

    fn middle(&self, t: &mut Tensors, part: &str, channels: u64, steered: Option<u64>) {
        let at = format!("{part}.middle_block");
        residual(t, &format!("{at}.block_1"), channels, channels, steered);
        attention(t, &format!("{at}.attn_1"), self.width);
        norm(t, &format!("{at}.attn_norm"), channels, steered);
        residual(t, &format!("{at}.block_2"), channels, channels, steered);
    }

    /// Blocks over time, one per residual block of a level.
    fn over_time(&self, t: &mut Tensors, part: &str, channels: u64) {
        for number in 0..self.blocks {
            let at = format!("{part}.time_res_stack.{number}");
            for leaf in [1, 2] {
                t.norm(&format!("{at}.norm{leaf}"), channels, true).convolution(&format!("{at}.conv{leaf}.conv"), &[channels, channels, 3, 3, 3], true);
            }
        }
    }
}

fn residual(t: &mut Tensors, at: &str, inputs: u64, outputs: u64, steered: Option<u64>) {
    norm(t, &format!("{at}.norm1"), inputs, steered);
    norm(t, &format!("{at}.norm2"), outputs, steered);
    t.convolution(&format!("{at}.conv1"), &[outputs, inputs, 3, 3], true).convolution(&format!("{at}.conv2"), &[outputs, outputs, 3, 3], true);
    if inputs != outputs {
        t.convolution(&format!("{at}.nin_shortcut"), &[outputs, inputs, 1, 1], true);
    }
}

/// A norm; with codes this wide, one that they scale and shift.
fn norm(t: &mut Tensors, at: &str, width: u64, steered: Option<u64>) {
    let Some(codes) = steered else {
        t.norm(at, width, true);
        return;
    };
    t.norm(&format!("{at}.norm_layer"), width, true);
    for leaf in ["conv_y", "conv_b"] {
        t.convolution(&format!("{at}.{leaf}"), &[width, codes, 1, 1], true);
    }
}

fn attention(t: &mut Tensors, at: &str, width: u64) {
    for leaf in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        t.linear(&format!("{at}.{leaf}"), width, width, true);
    }
}
