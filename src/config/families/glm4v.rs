//! GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-OCR: GLM-4's layers, dense or with experts, and a tower that a convolution
//! downsamples into the decoder's width.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::qwen_vl::patch_kernel;
use super::towers::{TowerShape, fused_attention, patches, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, FeedForward, Layer, Mixer, Span};

/// `Glm4vTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 151_552),
    ("hidden_size", 4096),
    ("intermediate_size", 13_696),
    ("num_hidden_layers", 40),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 2),
];

/// `GlmOcrTextConfig`.
const OCR_TEXT: &[(&str, u64)] = &[
    ("vocab_size", 59_392),
    ("hidden_size", 1024),
    ("intermediate_size", 4096),
    ("num_hidden_layers", 16),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 8),
];

/// `Glm4vMoeTextConfig`.
const MOE_TEXT: &[(&str, u64)] = &[
    ("vocab_size", 151_424),
    ("hidden_size", 4096),
    ("intermediate_size", 10_944),
    ("num_hidden_layers", 46),
    ("num_attention_heads", 96),
    ("num_key_value_heads", 8),
    ("moe_intermediate_size", 1408),
    ("num_experts_per_tok", 8),
    ("n_shared_experts", 1),
    ("num_experts", 128),
    ("first_k_dense_replace", 1),
];

/// `Glm4vVisionConfig` and `Glm4vMoeVisionConfig`.
const VISION: &[(&str, u64)] = &[
    ("depth", 24),
    ("hidden_size", 1536),
    ("num_heads", 12),
    ("in_channels", 3),
    ("image_size", 336),
    ("patch_size", 14),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 2),
    ("out_hidden_size", 4096),
    ("intermediate_size", 13_696),
];

/// Where `GlmOcrVisionConfig` and `Glm5NextVisionConfig` differ from it.
const SMALL_VISION: &[(&str, u64)] = &[("hidden_size", 1024), ("num_heads", 16), ("out_hidden_size", 1536), ("intermediate_size", 4096)];

/// What `Glm5NextVisionConfig` has besides.
const NEXT_VISION: &[(&str, u64)] = &[("projection_intermediate_size", 10_240)];

/// `GlmImageVisionConfig`.
const IMAGE_VISION: &[(&str, u64)] =
    &[("depth", 40), ("hidden_size", 1536), ("num_heads", 16), ("in_channels", 3), ("image_size", 2048), ("patch_size", 16), ("intermediate_size", 6144)];

/// GLM-4's norms: before and after attention and feed-forward.
const NORMS: &[&str] = &["input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    dense(&f.with_defaults(TEXT), true)
}

pub(super) fn read_ocr_text(f: &Fields) -> Result<Draft, ConfigError> {
    dense(&f.with_defaults(OCR_TEXT), false)
}

/// GLM-Image's decoder, which writes codes of images.
pub(super) fn read_image_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(&[("vocab_size", 168_064)]).with_defaults(TEXT);
    let bias = f.flag("attention_bias", true)?;
    dense(&f, bias)
}

/// GLM-Image: a tower that sees whole patches, and the codes that they stand for.
pub(super) fn read_image(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    let wrapper =
        Wrapper { default_type: "glm_image_text", names: Names::Inside("model.language_model"), head: Head::Nothing, tie: Tie::Wrapper { default: false } };
    let mut draft = language_in(f, &text, &wrapper)?;
    let is_bare = f.architecture()?.is_some_and(|class| class.ends_with("Model"));
    let codes = text.count_or("vision_vocab_size", 16_512)?;
    if is_bare {
        text.not_counted("vision_vocab_size");
    } else {
        let head = Tensors::default().linear("lm_head", draft.decoder.shape.hidden, codes, false).build();
        draft.decoder.tensors.extend(head);
    }
    let v = f.part(&["vision_config"])?.with_defaults(IMAGE_VISION);
    let tower = TowerShape::read(&v, ["hidden_size", "depth", "num_heads", "intermediate_size"])?;
    let (hidden, inner, bias) = (tower.hidden, tower.intermediate, v.flag("attention_bias", true)?);
    v.touch("spatial_merge_size");
    let mut layer = Tensors::default();
    layer.norm("norm1", hidden, true).norm("norm2", hidden, true);
    fused_attention(&mut layer, hidden, bias, bias).linear("mlp.fc1", hidden, inner, true).linear("mlp.fc2", inner, hidden, true);
    let patch = v.count("patch_size")?;
    let outside = Tensors::default()
        .embedding("model.visual.embeddings.position_embedding", patches(&v)?, hidden)
        .convolution("model.visual.patch_embed.proj", &[hidden, v.count("in_channels")?, patch, patch], true)
        .build();
    let codebook = f.part(&["vq_config"])?.with_defaults(&[("num_embeddings", 16_384), ("embed_dim", 2048), ("latent_channels", 1536)]);
    codebook.touch("in_channels");
    let (width, channels) = (codebook.count("embed_dim")?, codebook.count("latent_channels")?);
    let codes = Tensors::default()
        .embedding("model.vqmodel.quantize.embedding", codebook.count("num_embeddings")?, width)
        .convolution("model.vqmodel.quant_conv", &[width, channels, 1, 1], true)
        .convolution("model.vqmodel.post_quant_conv", &[channels, width, 1, 1], true)
        .build();
    Ok(draft.with(vision_tower(hidden, "model.visual.blocks", outside, tower.layers(&layer.build()))).with(projector(width, codes)))
}

/// Biases on q, k and v are the class's choice; it reads no `attention_bias`.
fn dense(f: &Fields, qkv_bias: bool) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default()
        .attention(&shape, qkv_bias, false)
        .linear("mlp.gate_up_proj", shape.hidden, intermediate.saturating_mul(2), false)
        .linear("mlp.down_proj", intermediate, shape.hidden, false)
        .norms(NORMS, shape.hidden)
        .build();
    f.touch("attention_bias");
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| Span::Full);
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read_moe_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(MOE_TEXT);
    // The class rounds the size of a head down where the config leaves it out.
    let head_dim = f.count("hidden_size")? / f.count("num_attention_heads")?;
    let shape = Shape::read_with_head_dim(&f.with_derived("head_dim", head_dim.max(1)), head_dim.max(1))?;
    let attention_bias = f.flag("attention_bias", true)?;
    let experts = f.count("num_experts")?;
    let active = f.active_experts(experts, 8)?;
    let (width, intermediate) = (f.count("moe_intermediate_size")?, f.count("intermediate_size")?);
    let shared = f.count("n_shared_experts")?.saturating_mul(width);
    let first_sparse = f.optional_count_or_zero("first_k_dense_replace")?.unwrap_or(0);
    // In the published file, but the class has no such norms.
    f.flag("use_qk_norm", false)?;
    let layers = (0..shape.layers).map(|number| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, attention_bias, false).norms(LLAMA_NORMS, shape.hidden);
        let feed_forward = if number >= first_sparse {
            tensors
                .linear("mlp.gate", shape.hidden, experts, false)
                .experts("mlp.experts.{}.gate_proj", experts, shape.hidden, width)
                .experts("mlp.experts.{}.up_proj", experts, shape.hidden, width)
                .experts("mlp.experts.{}.down_proj", experts, width, shape.hidden)
                .linear("mlp.shared_experts.gate_proj", shape.hidden, shared, false)
                .linear("mlp.shared_experts.up_proj", shape.hidden, shared, false)
                .linear("mlp.shared_experts.down_proj", shared, shape.hidden, false);
            FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared }
        } else {
            tensors.gated_mlp(shape.hidden, intermediate, false);
            FeedForward::Dense { intermediate, gated: true }
        };
        (Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, tensors.build())
    });
    Ok(Decoder::llama_like(shape, layers.collect(), false).into())
}

/// How the towers differ.
#[derive(Clone, Copy)]
struct Kind {
    text: &'static str,
    /// Tables of the class's defaults, the more particular first.
    defaults: &'static [&'static [(&'static str, u64)]],
    /// GLM-OCR: norms on query and key heads, biases in the feed-forward, no learned positions.
    ocr: bool,
    tie: Tie,
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    wrap(f, Kind { text: "glm4v_text", defaults: &[VISION], ocr: false, tie: Tie::Either })
}

/// GLM-4.6V: the same, tied by its own flag alone.
pub(super) fn read_glm46v(f: &Fields) -> Result<Draft, ConfigError> {
    wrap(f, Kind { text: "glm4v_text", defaults: &[VISION], ocr: false, tie: Tie::Wrapper { default: false } })
}

pub(super) fn read_moe(f: &Fields) -> Result<Draft, ConfigError> {
    wrap(f, Kind { text: "glm4v_moe_text", defaults: &[VISION], ocr: false, tie: Tie::Either })
}

pub(super) fn read_ocr(f: &Fields) -> Result<Draft, ConfigError> {
    wrap(f, Kind { text: "glm_ocr_text", defaults: &[SMALL_VISION, VISION], ocr: true, tie: Tie::Either })
}

/// GLM-5.3: GLM-OCR's tower, with a merger of a width of its own.
pub(super) fn read_next(f: &Fields) -> Result<Draft, ConfigError> {
    wrap(f, Kind { text: "glm5_next_text", defaults: &[NEXT_VISION, SMALL_VISION, VISION], ocr: true, tie: Tie::Wrapper { default: false } })
}

fn wrap(f: &Fields, kind: Kind) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: kind.text, names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: kind.tie };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let vision = f.part(&["vision_config"])?;
    let vision = kind.defaults.iter().fold(vision, |vision, table| vision.with_defaults(table));
    let [tower, merger] = tower(&vision, kind.ocr)?;
    Ok(draft.with(tower).with(merger))
}

fn tower(f: &Fields, ocr: bool) -> Result<[Component; 2], ConfigError> {
    let (hidden, intermediate, out) = (f.count("hidden_size")?, f.count("intermediate_size")?, f.count("out_hidden_size")?);
    let attention_bias = f.flag("attention_bias", ocr)?;
    // In GLM-4V's tower the feed-forward is as wide as what the tower gives out; the merger as `intermediate_size`.
    let width = if ocr { intermediate } else { out };
    let tower = TowerShape { hidden, layers: f.count("depth")?, heads: f.count("num_heads")?, intermediate: width, gated: true };
    let tower = tower.checked(f, "depth", "num_heads")?;
    let mut layer = Tensors::default();
    fused_attention(layer.norms(&["norm1", "norm2"], hidden), hidden, attention_bias, ocr && attention_bias).gated_mlp(hidden, width, ocr && attention_bias);
    if ocr {
        layer.norm("attn.q_norm", hidden / tower.heads, false).norm("attn.k_norm", hidden / tower.heads, false);
    }
    let mut tensors = Tensors::default();
    tensors.convolution("patch_embed.proj", &patch_kernel(f, hidden)?, true).norm("post_layernorm", hidden, false);
    let positions = patches(f)?;
    if ocr {
        f.not_counted("image_size");
    } else {
        tensors.embedding("embeddings.position_embedding", positions, hidden).norm("post_conv_layernorm", hidden, false);
    }
    let side = f.count("spatial_merge_size")?;
    let context = match f.optional_count("projection_intermediate_size")? {
        Some(width) => width,
        None if ocr => out.saturating_mul(f.count("in_channels")?),
        None => intermediate,
    };
    let merger = Tensors::default()
        .convolution("downsample", &[out, hidden, side, side], true)
        .linear("merger.proj", out, out, false)
        .norm("merger.post_projection_norm", out, true)
        .linear("merger.gate_proj", out, context, false)
        .linear("merger.up_proj", out, context, false)
        .linear("merger.down_proj", context, out, false)
        .build();
    let behind = |tensors| Tensors::default().nested("model.visual", tensors).build();
    let tower = vision_tower(hidden, "model.visual.blocks", behind(tensors.build()), tower.layers(&layer.build()));
    Ok([tower, projector(out, behind(merger))])
}
