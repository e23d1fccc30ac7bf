//! Blocks of vision and audio towers: what sees a whole image or sound at once and keeps nothing.

use super::decoder::{Tensors, component};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// The sizes of a tower's layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TowerShape {
    pub hidden: u64,
    pub layers: u64,
    pub heads: u64,
    pub intermediate: u64,
    /// Whether the feed-forward has a gate.
    pub gated: bool,
}

impl TowerShape {
    /// Most layers that are read, as for decoders.
    const MAX_LAYERS: u64 = 10_000;

    /// The keys of width, layers, heads and inner width that transformers gives most towers.
    pub const KEYS: [&'static str; 4] = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"];
    /// Those of towers of sound that follow Whisper's.
    pub const WHISPER_KEYS: [&'static str; 4] = ["d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"];

    /// A tower whose sizes stand under these keys, without gates.
    pub fn read(f: &Fields, keys: [&'static str; 4]) -> Result<Self, ConfigError> {
        let [hidden, layers, heads, intermediate] = keys;
        let tower = Self { hidden: f.count(hidden)?, layers: f.count(layers)?, heads: f.count(heads)?, intermediate: f.count(intermediate)?, gated: false };
        tower.checked(f, layers, heads)
    }

    /// The sizes as read from `f`, whose key `layers_key` gave the number of layers and `heads_key` that of heads.
    pub fn checked(self, f: &Fields, layers_key: &str, heads_key: &str) -> Result<Self, ConfigError> {
        if self.layers > Self::MAX_LAYERS {
            return Err(f.impossible(layers_key, "no tower has more than 10,000 layers"));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(f.impossible(heads_key, "the heads must divide the tower's hidden size"));
        }
        Ok(self)
    }

    /// The tower's layers, all of the same tensors.
    pub fn layers(&self, tensors: &[Tensor]) -> Vec<(Layer, Vec<Tensor>)> {
        (0..self.layers).map(|_| (self.layer(), tensors.to_vec())).collect()
    }

    /// The same with heads of this size that attend within `span`.
    pub fn layers_within(&self, span: Span, head: u64, tensors: &[Tensor]) -> Vec<(Layer, Vec<Tensor>)> {
        let attention = Attention { heads: self.heads, kv_heads: self.heads, key_dim: head, value_dim: head, span, keeps: Keeps::Nothing };
        let layer = Layer { mixer: Mixer::Attention(attention), ..self.layer() };
        (0..self.layers).map(|_| (layer, tensors.to_vec())).collect()
    }

    /// One layer without its tensors.
    pub fn layer(&self) -> Layer {
        let head = self.hidden / self.heads;
        let attention = Attention { heads: self.heads, kv_heads: self.heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
        Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: self.intermediate, gated: self.gated } }
    }
}

/// A vision tower of the usual name.
pub(super) fn vision_tower(hidden: u64, layer_prefix: &'static str, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>) -> Component {
    component("vision", ComponentKind::VisionTower, hidden, layer_prefix, tensors, layers)
}

/// An audio tower of the usual name.
pub(super) fn audio_tower(hidden: u64, layer_prefix: &'static str, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>) -> Component {
    component("audio", ComponentKind::AudioTower, hidden, layer_prefix, tensors, layers)
}

/// A projector of the usual name: tensors outside layers only. `hidden` is the width that it maps to.
pub(super) fn projector(hidden: u64, tensors: Vec<Tensor>) -> Component {
    component("projector", ComponentKind::Projector, hidden, "", tensors, Vec::new())
}

/// Patches of a square image of `image_size` in squares of `patch_size`.
pub(super) fn patches(f: &Fields) -> Result<u64, ConfigError> {
    let side = f.count("image_size")? / f.count("patch_size")?;
    if side == 0 {
        return Err(f.impossible("patch_size", "a patch cannot be larger than the image"));
    }
    Ok(side.saturating_mul(side))
}

/// The layer of CLIP and SigLIP: separate projections with biases, two matrices, two LayerNorms.
pub(super) fn clip_layer(tower: &TowerShape) -> Vec<Tensor> {
    let TowerShape { hidden, intermediate, .. } = *tower;
    Tensors::default()
        .linear("self_attn.q_proj", hidden, hidden, true)
        .linear("self_attn.k_proj", hidden, hidden, true)
        .linear("self_attn.v_proj", hidden, hidden, true)
        .linear("self_attn.out_proj", hidden, hidden, true)
        .norm("layer_norm1", hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .norm("layer_norm2", hidden, true)
        .build()
}

/// Query, key and value in one matrix, and the output projection.
pub(super) fn fused_attention(layer: &mut Tensors, hidden: u64, qkv_bias: bool, output_bias: bool) -> &mut Tensors {
    layer.linear("attn.qkv", hidden, hidden.saturating_mul(3), qkv_bias).linear("attn.proj", hidden, hidden, output_bias)
}

/// `SiglipVisionConfig` of transformers 5.23.
pub(super) const SIGLIP_DEFAULTS: &[(&str, u64)] = &[
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("num_channels", 3),
    ("image_size", 224),
    ("patch_size", 16),
];

/// SigLIP's tower behind `prefix` (`vision_tower.vision_model`), with its pooling head unless `vision_use_head` says no.
pub(super) fn siglip(f: &Fields, prefix: &str, layer_prefix: &'static str) -> Result<Component, ConfigError> {
    let f = f.with_defaults(SIGLIP_DEFAULTS);
    let tower = TowerShape::read(&f, TowerShape::KEYS)?;
    let (hidden, patch) = (tower.hidden, f.count("patch_size")?);
    let mut tensors = Tensors::default();
    tensors
        .convolution("embeddings.patch_embedding", &[hidden, f.count("num_channels")?, patch, patch], true)
        .embedding("embeddings.position_embedding", patches(&f)?, hidden)
        .norm("post_layernorm", hidden, true);
    if f.flag("vision_use_head", true)? {
        tensors.nested("head", attention_pooling(hidden, tower.intermediate));
    }
    let tensors = Tensors::default().nested(prefix, tensors.build()).build();
    Ok(vision_tower(hidden, layer_prefix, tensors, tower.layers(&clip_layer(&tower))))
}

/// SigLIP's pooling head: one learned query that attends to all patches, and a feed-forward.
pub(super) fn attention_pooling(hidden: u64, intermediate: u64) -> Vec<Tensor> {
    Tensors::default()
        .tensor("probe", Role::Other, &[1, 1, hidden])
        .tensor("attention.in_proj_weight", Role::Qkv, &[hidden.saturating_mul(3), hidden])
        .tensor("attention.in_proj_bias", Role::Qkv, &[hidden.saturating_mul(3)])
        .linear("attention.out_proj", hidden, hidden, true)
        .norm("layernorm", hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .build()
}

/// Sizes by name of the SigLIP and CLIP towers that remote code names instead of describing: hidden, layers, heads,
/// intermediate, image, patch.
pub(super) const NAMED_TOWERS: &[(&str, [u64; 6])] = &[
    ("siglip_so400m_patch14_384", [1152, 27, 16, 4304, 384, 14]),
    ("siglip_so400m_patch14_224", [1152, 27, 16, 4304, 224, 14]),
    ("siglip_large_patch16_384", [1024, 24, 16, 4096, 384, 16]),
    ("siglip_large_patch16_256", [1024, 24, 16, 4096, 256, 16]),
];

/// A width as a multiple of another by a ratio that need not be whole, rounded down as Python's `int` does.
pub(super) fn scaled(f: &Fields, key: &str, default: f64, width: u64) -> Result<u64, ConfigError> {
    let ratio = f.optional_number(key)?.unwrap_or(default);
    if !(0.001..=1e6).contains(&ratio) {
        return Err(f.impossible(key, "it must be a positive ratio"));
    }
    // At most 2^40 × 10^6, at least 0: inside `u64`, and exact for widths of real models.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let scaled = (width as f64 * ratio) as u64;
    Ok(scaled.max(1))
}

/// SigLIP's tower as timm builds it, pooling head included.
pub(super) fn timm_tower(tower: TowerShape, positions: u64, patch: u64, prefix: &str, layer_prefix: &'static str) -> Component {
    let TowerShape { hidden, intermediate, .. } = tower;
    let mut layer = Tensors::default();
    let layer = fused_attention(layer.norm("norm1", hidden, true), hidden, true, true)
        .norm("norm2", hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .build();
    let tensors = Tensors::default()
        .convolution("patch_embed.proj", &[hidden, 3, patch, patch], true)
        .tensor("pos_embed", Role::Position, &[1, positions, hidden])
        .norm("norm", hidden, true)
        .tensor("attn_pool.latent", Role::Other, &[1, 1, hidden])
        .linear("attn_pool.q", hidden, hidden, true)
        .linear("attn_pool.kv", hidden, hidden.saturating_mul(2), true)
        .linear("attn_pool.proj", hidden, hidden, true)
        .norm("attn_pool.norm", hidden, true)
        .linear("attn_pool.mlp.fc1", hidden, intermediate, true)
        .linear("attn_pool.mlp.fc2", intermediate, hidden, true)
        .build();
    let tensors = Tensors::default().nested(prefix, tensors).build();
    vision_tower(hidden, layer_prefix, tensors, tower.layers(&layer))
}
