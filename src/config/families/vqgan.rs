//! Image tokenisers: convolutions down to a codebook of image tokens, and in Janus up again to an image.

use super::decoder::Tensors;
use super::{ConfigError, Fields};
use crate::model::{Role, Tensor};

/// How the modules of a level are called.
#[derive(Clone, Copy)]
pub(super) struct Naming {
    pub down: &'static str,
    pub up: &'static str,
    pub block: &'static str,
    pub middle: [&'static str; 3],
}

/// As transformers does.
pub(super) const TRANSFORMERS: Naming = Naming { down: "down", up: "up", block: "block", middle: ["mid.block_1", "mid.attn_1", "mid.block_2"] };

/// As LlamaGen does, whose tokeniser Janus' own code has.
pub(super) const LLAMAGEN: Naming = Naming { down: "conv_blocks", up: "conv_blocks", block: "res", middle: ["mid.0", "mid.1", "mid.2"] };

/// The sizes of a tokeniser.
pub(super) struct Tokenizer {
    pub naming: Naming,
    /// Channels in and out of an image.
    pub image: [u64; 2],
    pub base: u64,
    pub multipliers: Vec<u64>,
    pub blocks: u64,
    pub latent: u64,
    pub double_latent: bool,
    /// Width of a codebook entry, and how many there are.
    pub embed: u64,
    pub entries: u64,
    /// Whether a level has attention.
    pub attends: Vec<bool>,
    pub middle_attends: bool,
    /// Whether it makes images again.
    pub decodes: bool,
}

/// Class defaults that Chameleon's and Janus' tokenisers share.
pub(super) const DEFAULTS: &[(&str, u64)] = &[("latent_channels", 256), ("in_channels", 3), ("out_channels", 3), ("base_channels", 128), ("num_res_blocks", 2)];

/// Most levels and blocks that are read.
const MAX: u64 = 64;

impl Tokenizer {
    /// Reads what the classes of transformers share; attention is set by the family.
    pub fn read(f: &Fields) -> Result<Self, ConfigError> {
        let f = f.with_defaults(DEFAULTS);
        let multipliers = f.counts_or("channel_multiplier", &[1, 1, 2, 2, 4])?;
        if multipliers.is_empty() || multipliers.len() as u64 > MAX || multipliers.contains(&0) {
            return Err(f.impossible("channel_multiplier", "it must be a list of sizes, at least 1 each"));
        }
        let blocks = f.count("num_res_blocks")?;
        if blocks > MAX {
            return Err(f.impossible("num_res_blocks", "it must be at most 64"));
        }
        Ok(Self {
            naming: TRANSFORMERS,
            image: [f.count("in_channels")?, f.count("out_channels")?],
            base: f.count("base_channels")?,
            attends: vec![false; multipliers.len()],
            multipliers,
            blocks,
            latent: f.count("latent_channels")?,
            double_latent: f.flag("double_latent", false)?,
            embed: 0,
            entries: 0,
            middle_attends: true,
            decodes: false,
        })
    }

    /// All its tensors.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = Tensors::default();
        self.encoder(&mut tensors);
        tensors.embedding("quantize.embedding", self.entries, self.embed).convolution("quant_conv", &[self.embed, self.latent, 1, 1], true).convolution(
            "post_quant_conv",
            &[self.latent, self.embed, 1, 1],
            true,
        );
        if self.decodes {
            self.decoder(&mut tensors);
        }
        tensors.build()
    }

    fn encoder(&self, tensors: &mut Tensors) {
        let name = |path: &str| format!("encoder.{path}");
        tensors.convolution(&name("conv_in"), &[self.base, self.image[0], 3, 3], true);
        let mut channels = self.base;
        let last = self.multipliers.len() - 1;
        for (level, multiplier) in self.multipliers.iter().enumerate() {
            let prefix = name(&format!("{}.{level}", self.naming.down));
            self.level(tensors, &prefix, level, self.blocks, &mut channels, self.base.saturating_mul(*multiplier));
            if level != last {
                tensors.convolution(&format!("{prefix}.downsample.conv"), &[channels, channels, 3, 3], true);
            }
        }
        self.middle(tensors, "encoder", channels);
        let latent = if self.double_latent { self.latent.saturating_mul(2) } else { self.latent };
        tensors.norm(&name("norm_out"), channels, true).convolution(&name("conv_out"), &[latent, channels, 3, 3], true);
    }

    fn decoder(&self, tensors: &mut Tensors) {
        let name = |path: &str| format!("decoder.{path}");
        let mut channels = self.multipliers.last().map_or(self.base, |multiplier| self.base.saturating_mul(*multiplier));
        tensors.convolution(&name("conv_in"), &[channels, self.latent, 3, 3], true);
        self.middle(tensors, "decoder", channels);
        for (number, (level, multiplier)) in self.multipliers.iter().enumerate().rev().enumerate() {
            let prefix = name(&format!("{}.{number}", self.naming.up));
            self.level(tensors, &prefix, level, self.blocks + 1, &mut channels, self.base.saturating_mul(*multiplier));
            if level != 0 {
                tensors.convolution(&format!("{prefix}.upsample.conv"), &[channels, channels, 3, 3], true);
            }
        }
        tensors.norm(&name("norm_out"), channels, true).convolution(&name("conv_out"), &[self.image[1], channels, 3, 3], true);
    }

    /// The blocks of one level, which takes `channels` to `out`.
    fn level(&self, tensors: &mut Tensors, prefix: &str, level: usize, blocks: u64, channels: &mut u64, out: u64) {
        for number in 0..blocks {
            residual(tensors, &format!("{prefix}.{}.{number}", self.naming.block), *channels, out);
            *channels = out;
            if self.attends[level] {
                attention(tensors, &format!("{prefix}.attn.{number}"), out);
            }
        }
    }

    fn middle(&self, tensors: &mut Tensors, part: &str, channels: u64) {
        let [first, attn, second] = self.naming.middle;
        residual(tensors, &format!("{part}.{first}"), channels, channels);
        if self.middle_attends {
            attention(tensors, &format!("{part}.{attn}"), channels);
        }
        residual(tensors, &format!("{part}.{second}"), channels, channels);
    }
}

fn residual(tensors: &mut Tensors, prefix: &str, inputs: u64, outputs: u64) {
    tensors
        .norm(&format!("{prefix}.norm1"), inputs, true)
        .convolution(&format!("{prefix}.conv1"), &[outputs, inputs, 3, 3], true)
        .norm(&format!("{prefix}.norm2"), outputs, true)
        .convolution(&format!("{prefix}.conv2"), &[outputs, outputs, 3, 3], true);
    if inputs != outputs {
        tensors.convolution(&format!("{prefix}.nin_shortcut"), &[outputs, inputs, 1, 1], true);
    }
}

fn attention(tensors: &mut Tensors, prefix: &str, channels: u64) {
    tensors.norm(&format!("{prefix}.norm"), channels, true);
    for (leaf, role) in [("q", Role::Query), ("k", Role::Key), ("v", Role::Value), ("proj_out", Role::AttentionOutput)] {
        tensors.tensor(&format!("{prefix}.{leaf}.weight"), role, &[channels, channels, 1, 1]).tensor(&format!("{prefix}.{leaf}.bias"), role, &[channels]);
    }
}
