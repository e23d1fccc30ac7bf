//! The vision towers that language models hold, by the `model_type` of their config.

use super::decoder::Tensors;
use super::vision::{BLIP, CLIP, Encoder, PIXTRAL, Patches, Style, Tower, linear, norm, pair};
use super::{ConfigError, Fields};
use crate::model::Role;

/// Sizes that classes of towers take for keys that are left out.
const DEFAULTS: [&str; 6] = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"];

/// A kind of tower: the `model_type`s of its config, its class's defaults (0: none), and its reader.
struct Kind {
    types: &'static [&'static str],
    defaults: [u64; 6],
    read: fn(&Fields) -> Result<Tower, ConfigError>,
}

const fn kind(types: &'static [&'static str], defaults: [u64; 6], read: fn(&Fields) -> Result<Tower, ConfigError>) -> Kind {
    Kind { types, defaults, read }
}

/// The towers that are understood.
const KINDS: &[Kind] = &[
    kind(&["owlvit_vision_model"], [768, 12, 12, 3072, 768, 32], clip),
    kind(&["owlv2_vision_model"], [768, 12, 12, 3072, 768, 16], clip),
    kind(&["clip_vision_model", "chinese_clip_vision_model", "clipseg_vision_model", "metaclip_2_vision_model", "clip"], [768, 12, 12, 3072, 224, 32], clip),
    kind(&["mlcd_vision_model", "mlcd"], [1664, 48, 16, 8192, 336, 14], mlcd),
    kind(&["siglip_vision_model", "siglip"], [768, 12, 12, 3072, 224, 16], siglip),
    kind(&["siglip2_vision_model"], [768, 12, 12, 3072, 0, 16], siglip2),
    kind(&["idefics2", "idefics2_vision"], [768, 12, 12, 3072, 224, 32], idefics),
    kind(&["idefics3", "idefics3_vision", "smolvlm", "smolvlm_vision"], [1152, 12, 16, 3072, 224, 32], idefics),
    kind(&["pixtral"], [1024, 24, 16, 4096, 1024, 16], pixtral),
    kind(&["internvl_vision", "interns1_vision"], [1024, 24, 16, 4096, 448, 14], internvl),
    kind(&["qianfan_ocr_vision"], [1024, 24, 16, 4096, 448, 14], qianfan),
    kind(&["intern_vit_6b"], [3200, 48, 25, 12_800, 224, 14], intern_vit),
    kind(&["blip_vision_model"], [768, 12, 12, 3072, 384, 16], blip),
    kind(&["blip_2_vision_model", "instructblip_vision_model", "instructblipvideo_vision_model"], [1408, 39, 16, 6144, 224, 14], blip),
    kind(&["git_vision_model"], [768, 12, 12, 3072, 224, 16], clip),
    kind(&["kosmos_2_vision_model"], [1024, 24, 16, 4096, 224, 14], clip),
    kind(&["altclip_vision_model"], [768, 12, 12, 3072, 224, 32], clip),
];

/// The tower that `f` describes; `default_type` is its `model_type` when the config names none.
pub(super) fn tower(f: &Fields, default_type: &str) -> Result<Tower, ConfigError> {
    let model_type = f.optional_text("model_type")?.filter(|name| !name.is_empty()).unwrap_or_else(|| default_type.to_owned());
    let Some(kind) = KINDS.iter().find(|kind| kind.types.contains(&model_type.as_str())) else {
        return Err(ConfigError::UnknownType { model_type, why: "it is the vision tower inside this model".to_owned() });
    };
    // Written into every nested config by some versions, and read by none of the towers.
    for key in
        ["projection_dim", "tie_word_embeddings", "tie_encoder_decoder", "cross_attention_hidden_size", "vocab_size", "num_image_tokens", "num_positions"]
    {
        f.touch(key);
    }
    let defaults: Vec<_> = DEFAULTS.into_iter().zip(kind.defaults).filter(|(_, value)| *value > 0).collect();
    (kind.read)(&f.with_defaults(&defaults))
}

/// MLCD: CLIP whose patches turn by their place; the class token's angles are learnt.
fn mlcd(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    f.touch("num_key_value_groups");
    f.not_counted("image_size");
    let mut t = Tensors::default();
    t.tensor("class_pos_emb", Role::Position, &[1, e.hidden / e.heads / 2]).tensor("embeddings.class_embedding", Role::Other, &[e.hidden]);
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, false);
    norm(&mut t, "pre_layrnorm", e.hidden, true);
    norm(&mut t, "post_layernorm", e.hidden, true);
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) })
}

/// CLIP, all below `vision_model`.
fn clip(f: &Fields) -> Result<Tower, ConfigError> {
    Ok(clip_alone(f)?.below("vision_model"))
}

/// CLIP: a class token, norms before and after the encoder.
pub(super) fn clip_alone(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let mut t = Tensors::default();
    t.tensor("embeddings.class_embedding", Role::Other, &[e.hidden]);
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, false);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number + 1, e.hidden]);
    norm(&mut t, "pre_layrnorm", e.hidden, true);
    norm(&mut t, "post_layernorm", e.hidden, true);
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) })
}

/// `SigLIP`: no class token; an attention-pooling head unless `vision_use_head` is false.
fn siglip(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number, e.hidden]);
    siglip_tower(f, &e, t)
}

/// `SigLIP` 2 (`NaFlex`): patches come flattened, positions are those of `num_patches`.
fn siglip2(f: &Fields) -> Result<Tower, ConfigError> {
    let e = Encoder::read(f)?;
    let [height, width] = pair(f, "patch_size")?;
    let channels = f.count_or("num_channels", 3)?;
    let inputs = height.checked_mul(width).and_then(|area| area.checked_mul(channels)).ok_or(ConfigError::Overflow)?;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "embeddings.patch_embedding", inputs, e.hidden, true);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[f.count_or("num_patches", 256)?, e.hidden]);
    siglip_tower(f, &e, t)
}

fn siglip_tower(f: &Fields, e: &Encoder, mut t: Tensors) -> Result<Tower, ConfigError> {
    norm(&mut t, "post_layernorm", e.hidden, true);
    if f.flag("vision_use_head", true)? {
        t.tensor("head.probe", Role::Other, &[1, 1, e.hidden]).tensor("head.attention.in_proj_weight", Role::Qkv, &[3 * e.hidden, e.hidden]).tensor(
            "head.attention.in_proj_bias",
            Role::Qkv,
            &[3 * e.hidden],
        );
        linear(&mut t, Role::AttentionOutput, "head.attention.out_proj", e.hidden, e.hidden, true);
        norm(&mut t, "head.layernorm", e.hidden, true);
        linear(&mut t, Role::Up, "head.mlp.fc1", e.hidden, e.intermediate, true);
        linear(&mut t, Role::Down, "head.mlp.fc2", e.intermediate, e.hidden, true);
    }
    let tower = Tower { encoder: *e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(e) };
    Ok(tower.below("vision_model"))
}

/// Idefics 2 and 3, `SmolVLM`: `SigLIP` without a head, and without a module around it.
pub(super) fn idefics(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number, e.hidden]);
    norm(&mut t, "post_layernorm", e.hidden, true);
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) })
}

/// Pixtral: rotary positions in two dimensions, images of any size.
fn pixtral(f: &Fields) -> Result<Tower, ConfigError> {
    let e = Encoder::read(f)?;
    let patches = Patches::read(f)?;
    // The class does not read it: heads are always `hidden_size` over `num_attention_heads` wide.
    f.touch("head_dim");
    let mut t = Tensors::default();
    patches.convolution(&mut t, "patch_conv", e.hidden, false);
    norm(&mut t, "ln_pre", e.hidden, false);
    Ok(Tower { encoder: e, layers_at: "transformer.layers".to_owned(), tensors: t.build(), layers: PIXTRAL.layers(&e) })
}

/// `InternViT` as transformers has it.
fn internvl(f: &Fields) -> Result<Tower, ConfigError> {
    intern(f, false, "encoder.layer")
}

/// The same with biases unless the config says no.
fn qianfan(f: &Fields) -> Result<Tower, ConfigError> {
    intern(f, true, "layers")
}

fn intern(f: &Fields, bias: bool, layers_at: &str) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let norm_bias = norm_has_bias(f, "layer_norm")?;
    f.touch("layer_scale_init_value");
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden]);
    if f.flag("use_mask_token", false)? {
        t.tensor("embeddings.mask_token", Role::Other, &[1, 1, e.hidden]);
    }
    if f.flag("use_absolute_position_embeddings", true)? {
        t.tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number + 1, e.hidden]);
    }
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", e.hidden, true);
    if !f.flag("use_mean_pooling", true)? {
        norm(&mut t, "layernorm", e.hidden, true);
    }
    let style = Style {
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        qkv_bias: [f.flag("attention_bias", bias)?; 3],
        output: "attention.projection_layer",
        norms: &["layernorm_before", "layernorm_after"],
        norm_bias,
        scales: &["lambda_1", "lambda_2"],
        ..CLIP
    };
    let mut more = Tensors::default();
    if f.flag("use_qk_norm", false)? {
        norm(&mut more, "attention.q_norm", e.hidden, false);
        norm(&mut more, "attention.k_norm", e.hidden, false);
    }
    Ok(Tower { encoder: e, layers_at: layers_at.to_owned(), tensors: t.build(), layers: style.layers_with(&e, &more.build()) })
}

/// `InternViT` as its own repository has it.
fn intern_vit(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let norm_bias = norm_has_bias(f, "rms_norm")?;
    let mut t = Tensors::default();
    t.tensor("embeddings.class_embedding", Role::Other, &[1, 1, e.hidden]);
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.tensor("embeddings.position_embedding", Role::Position, &[1, patches.number + 1, e.hidden]);
    let style = Style {
        qkv: &["attn.qkv"],
        qkv_bias: [f.flag("qkv_bias", false)?; 3],
        output: "attn.proj",
        norms: &["norm1", "norm2"],
        norm_bias,
        scales: &["ls1", "ls2"],
        ..CLIP
    };
    let mut more = Tensors::default();
    if f.flag("qk_normalization", true)? {
        norm(&mut more, "attn.q_norm", e.hidden, false);
        norm(&mut more, "attn.k_norm", e.hidden, false);
    }
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: style.layers_with(&e, &more.build()) })
}

/// Whether `norm_type` is a norm with a bias.
fn norm_has_bias(f: &Fields, default: &str) -> Result<bool, ConfigError> {
    match f.optional_text("norm_type")?.as_deref().unwrap_or(default) {
        "layer_norm" => Ok(true),
        "rms_norm" => Ok(false),
        _ => Err(f.impossible("norm_type", "it must be `layer_norm` or `rms_norm`")),
    }
}

/// BLIP: queries, keys and values in one matrix.
fn blip(f: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let bias = f.flag("qkv_bias", true)?;
    let mut t = Tensors::default();
    t.tensor("embeddings.class_embedding", Role::Other, &[1, 1, e.hidden]);
    t.tensor("embeddings.position_embedding", Role::Position, &[1, patches.number + 1, e.hidden]);
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    norm(&mut t, "post_layernorm", e.hidden, true);
    let style = Style { qkv_bias: [bias; 3], ..BLIP };
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: style.layers(&e) })
}
