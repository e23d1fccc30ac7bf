//! Phi-4-multimodal: Phi-3's decoder, SigLIP's tower and a conformer. Its authors' form (`phi4mm`) keeps two adapters of low
//! rank beside the decoder's matrices, which are part of the model; the form of transformers has them apart.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::towers::{TowerShape, attention_pooling, audio_tower, clip_layer, projector, vision_tower};
use super::{ConfigError, Fields, phi3};
use crate::model::{Component, Role};

/// `Phi4MultimodalConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 200_064),
    ("hidden_size", 3072),
    ("intermediate_size", 8192),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
];

/// `Phi4MultimodalVisionConfig`; the authors' form fixes it in its code.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("num_hidden_layers", 27),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("image_size", 448),
    ("patch_size", 14),
];

/// `Phi4MultimodalAudioConfig`.
const AUDIO: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("intermediate_size", 1536),
    ("num_blocks", 24),
    ("num_attention_heads", 16),
    ("ext_pw_out_channel", 1024),
    ("depthwise_separable_out_channel", 1024),
    ("depthwise_multiplier", 1),
    ("kernel_size", 3),
    ("input_size", 80),
    ("time_reduction", 8),
    ("bias_max_distance", 1000),
    ("nemo_conv_channels", 1024),
    ("downsample_rate", 1),
];

/// Where everything but the decoder lives.
const BASE: &str = "model.embed_tokens_extend";

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let draft = phi3::read(&f)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    vision.touch("crop_size");
    vision.touch("feature_layer");
    let audio = f.part(&["audio_config"])?.with_defaults(AUDIO);
    let sizes = Conformer::read(&audio)?;
    let rate = audio.count("downsample_rate")?;
    let [image, projection] = image(&vision, width, "global_img_feature_extensor", "sub_img_feature_extensor")?;
    let [sound, speech] = sizes.parts(&audio, width, rate, false)?;
    Ok(draft.with(image).with(projection).with(sound).with(speech))
}

/// The authors' form: the same sizes under other keys.
pub(super) fn read_phi4mm(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = phi3::read(f)?;
    for key in ["vision_lora", "speech_lora"] {
        if let Some(adapter) = f.nested(&[key])? {
            let rank = adapter.count("r")?;
            for name in ["dp", "layer", "lora_alpha"] {
                adapter.touch(name);
            }
            adapt(&mut draft.decoder, key.trim_end_matches("_lora"), rank);
        }
    }
    let width = draft.decoder.shape.hidden;
    let vision = f.in_code("vision_config", VISION);
    let [image, projection] = image(&vision, width, "glb_GN", "sub_GN")?;
    draft = draft.with(image).with(projection);
    for key in ["embd_layer", "img_processor", "audio_processor.name"] {
        f.touch(key);
    }
    let Some(audio) = f.nested(&["audio_processor"])? else { return Ok(draft) };
    audio.touch("name");
    let audio = audio.required_nested(&["config"])?.with_defaults(AUDIO);
    let [sound, speech] = Conformer::read_authors(&audio)?.parts(&audio, width, 1, true)?;
    Ok(draft.with(sound).with(speech))
}

/// Adds an adapter's two matrices to each matrix of the layers.
fn adapt(decoder: &mut Decoder, name: &str, rank: u64) {
    let Shape { hidden, heads, kv_heads, head_dim, .. } = decoder.shape;
    let queries = heads.saturating_mul(head_dim);
    let fused = queries.saturating_add(kv_heads.saturating_mul(head_dim).saturating_mul(2));
    for (layer, tensors) in &mut decoder.layers {
        let intermediate = layer.feed_forward.active_width();
        let modules = [
            ("self_attn.qkv_proj", hidden, fused),
            ("self_attn.o_proj", queries, hidden),
            ("mlp.gate_up_proj", hidden, intermediate.saturating_mul(2)),
            ("mlp.down_proj", intermediate, hidden),
        ];
        for (module, inputs, outputs) in modules {
            let mut adapter = Tensors::default();
            adapter.tensor(&format!("{module}.lora_A.{name}.weight"), Role::Other, &[rank, inputs]).tensor(
                &format!("{module}.lora_B.{name}.weight"),
                Role::Other,
                &[outputs, rank],
            );
            tensors.extend(adapter.build());
        }
    }
}

fn image(f: &Fields, width: u64, global: &str, sub: &str) -> Result<[Component; 2], ConfigError> {
    let tower = TowerShape::read(f, TowerShape::KEYS)?;
    let (hidden, patch) = (tower.hidden, f.count("patch_size")?);
    let positions = super::towers::patches(f)?;
    let tensors = Tensors::default()
        .convolution("embeddings.patch_embedding", &[hidden, f.count("num_channels")?, patch, patch], true)
        .embedding("embeddings.position_embedding", positions, hidden)
        .norm("post_layernorm", hidden, true)
        .nested("head", attention_pooling(hidden, tower.intermediate))
        .build();
    let tensors = Tensors::default().nested(&format!("{BASE}.image_embed.img_processor"), tensors).build();
    let name = |leaf: &str| format!("{BASE}.image_embed.{leaf}");
    let projection = Tensors::default()
        .linear(&name("img_projection.0"), hidden, width, true)
        .linear(&name("img_projection.2"), width, width, true)
        .tensor(&name(global), Role::Other, &[1, 1, hidden])
        .tensor(&name(sub), Role::Other, &[1, 1, 1, hidden])
        .build();
    let tower = vision_tower(hidden, "model.embed_tokens_extend.image_embed.img_processor.encoder.layers", tensors, tower.layers(&clip_layer(&tower)));
    Ok([tower, projector(width, projection)])
}

/// The sound tower's sizes.
struct Conformer {
    tower: TowerShape,
    /// Outputs of the convolutions over channels.
    outer: u64,
    separable: u64,
    multiplier: u64,
    kernel: u64,
    input: u64,
    reduction: u64,
    buckets: u64,
    channels: u64,
}

impl Conformer {
    fn read(f: &Fields) -> Result<Self, ConfigError> {
        let distance = f.count("bias_max_distance")?;
        let [hidden, _, heads, intermediate] = TowerShape::KEYS;
        Ok(Self {
            tower: TowerShape { gated: true, ..TowerShape::read(f, [hidden, "num_blocks", heads, intermediate])? },
            outer: f.count("ext_pw_out_channel")?,
            separable: f.count("depthwise_separable_out_channel")?,
            multiplier: f.count("depthwise_multiplier")?,
            kernel: f.count("kernel_size")?,
            input: f.count("input_size")?,
            reduction: f.count("time_reduction")?,
            buckets: if f.flag("bias_symmetric", false)? { distance } else { distance.saturating_mul(2) },
            channels: f.count("nemo_conv_channels")?,
        })
    }

    fn read_authors(f: &Fields) -> Result<Self, ConfigError> {
        let tower = TowerShape { gated: true, ..TowerShape::read(f, ["attention_dim", "num_blocks", "attention_heads", "linear_units"])? };
        let bias = f.part(&["relative_attention_bias_args"])?;
        bias.touch("type");
        let distance = bias.count_or("t5_bias_max_distance", 1000)?;
        let symmetric = bias.flag("t5_bias_symmetric", false)?;
        let subsampling = f.part(&["nemo_conv_settings"])?;
        for key in ["input_layer", "causal", "batch_norm", "bias_in_glu", "cnn_layer_norm", "ext_pw_kernel_size", "encoder_embedding_config"] {
            f.touch(key);
        }
        Ok(Self {
            tower,
            outer: f.count("ext_pw_out_channel")?,
            separable: f.count_or("depthwise_seperable_out_channel", 1024)?,
            multiplier: f.count("depthwise_multiplier")?,
            kernel: f.count("kernel_size")?,
            input: f.count("input_size")?,
            reduction: f.count("time_reduction")?,
            buckets: if symmetric { distance } else { distance.saturating_mul(2) },
            channels: subsampling.count_or("conv_channels", 1024)?,
        })
    }

    /// The tower and its two projections, of which one serves when there are images too.
    fn parts(&self, f: &Fields, width: u64, rate: u64, stored_statistics: bool) -> Result<[Component; 2], ConfigError> {
        let TowerShape { hidden, intermediate, heads, .. } = self.tower;
        let halvings = u64::from(self.reduction.ilog2());
        let mut bins = self.input;
        for _ in 0..halvings {
            bins = (bins - 1) / 2 + 1;
        }
        if halvings == 0 {
            return Err(f.impossible("time_reduction", "it must be at least 2"));
        }
        let mut layer = Tensors::default();
        for name in ["feed_forward_in", "feed_forward_out"] {
            layer
                .norm(&format!("{name}.layer_norm"), hidden, true)
                .linear(&format!("{name}.gate_up_proj"), hidden, intermediate.saturating_mul(2), true)
                .linear(&format!("{name}.down_proj"), intermediate, hidden, true);
        }
        let inner = hidden.saturating_mul(self.multiplier);
        let layer = layer
            .linear("self_attn.q_proj", hidden, hidden, true)
            .linear("self_attn.k_proj", hidden, hidden, true)
            .linear("self_attn.v_proj", hidden, hidden, true)
            .linear("self_attn.o_proj", hidden, hidden, true)
            .norm("conv.layer_norm", hidden, true)
            .convolution("conv.glu.ext_pw_conv_1d", &[self.outer.saturating_mul(2), hidden, 1], true)
            .tensor("conv.glu.b1", Role::Other, &[1, self.outer, 1])
            .tensor("conv.glu.b2", Role::Other, &[1, self.outer, 1])
            .convolution("conv.dw_sep_conv_1d.dw_conv", &[inner, 1, self.kernel], true)
            .convolution("conv.dw_sep_conv_1d.pw_conv", &[self.separable, inner, 1], true)
            .convolution("conv.ext_pw_conv_1d", &[self.outer, hidden, 1], true)
            .norm("layer_norm_att", hidden, true)
            .norm("layer_norm", hidden, true)
            .build();
        let channels = self.channels;
        let mut tensors = Tensors::default();
        tensors.convolution("embed.conv.0", &[channels, 1, 3, 3], true);
        for number in 1..halvings {
            // A depthwise and a pointwise convolution, and an activation after each pair.
            let at = 3 * number - 1;
            tensors.convolution(&format!("embed.conv.{at}"), &[channels, 1, 3, 3], true).convolution(
                &format!("embed.conv.{}", at + 1),
                &[channels, channels, 1, 1],
                true,
            );
        }
        tensors.linear("embed.out", channels.saturating_mul(bins), hidden, true).embedding("relative_attention_bias_layer.bias_values", self.buckets, heads);
        if stored_statistics {
            // Parameters in the authors' form, buffers in that of transformers.
            tensors.tensor("encoder_embedding.global_mean", Role::Other, &[self.input]).tensor("encoder_embedding.global_invstd", Role::Other, &[self.input]);
        }
        let tensors = Tensors::default().nested(&format!("{BASE}.audio_embed.encoder"), tensors.build()).build();
        let mut projection = Tensors::default();
        for name in ["speech", "vision"] {
            projection.linear(&format!("{BASE}.audio_embed.audio_projection.{name}.0"), hidden.saturating_mul(rate), width, true).linear(
                &format!("{BASE}.audio_embed.audio_projection.{name}.2"),
                width,
                width,
                true,
            );
        }
        let tower = audio_tower(hidden, "model.embed_tokens_extend.audio_embed.encoder.encoders", tensors, self.tower.layers(&layer));
        Ok([tower, projector(width, projection.build())])
    }
}
