//! CLIP and its kin: a text encoder and a vision tower that project into one space; and either of the two alone.

use super::decoder::{Draft, Tensors};
use super::vision::{BERT, CLIP, Encoder, Task, Tower, bare, classifier, linear, norm, task, tower};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Role};

/// Keys whose defaults differ between the text classes.
const DEFAULTS: [&str; 6] = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"];

fn with_defaults(f: &Fields, values: [u64; 6]) -> Fields {
    let defaults: Vec<_> = DEFAULTS.into_iter().zip(values).collect();
    f.with_defaults(&defaults)
}

const CLIP_TEXT: [u64; 6] = [49_408, 512, 2048, 12, 8, 77];
const OWL_TEXT: [u64; 6] = [49_408, 512, 2048, 12, 8, 16];
const SIGLIP_TEXT: [u64; 6] = [32_000, 768, 3072, 12, 12, 64];
const CHINESE_TEXT: [u64; 6] = [30_522, 768, 3072, 12, 12, 512];
const ALTCLIP_TEXT: [u64; 6] = [250_002, 1024, 4096, 24, 16, 514];

/// A text encoder and its vocabulary.
struct Text {
    tower: Tower,
    vocab: u64,
}

/// The pre-norm encoder that CLIP and `SigLIP` share; `SigLIP`'s has a head.
fn text(f: &Fields, defaults: [u64; 6], has_head: bool) -> Result<Text, ConfigError> {
    let f = &with_defaults(f, defaults);
    let e = Encoder::read(f)?;
    let vocab = f.count("vocab_size")?;
    let mut t = Tensors::default();
    t.tensor("embeddings.token_embedding.weight", Role::Embedding, &[vocab, e.hidden]);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[f.count("max_position_embeddings")?, e.hidden]);
    norm(&mut t, "final_layer_norm", e.hidden, true);
    if has_head {
        let outputs = f.optional_count("projection_size")?.unwrap_or(e.hidden);
        linear(&mut t, Role::Other, "head", e.hidden, outputs, true);
    }
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) };
    Ok(Text { tower: tower.below("text_model"), vocab })
}

/// The BERT of Chinese-CLIP and the XLM-RoBERTa of `AltCLIP`.
fn bert(f: &Fields, defaults: [u64; 6], types: u64, prefix: &str) -> Result<Text, ConfigError> {
    let f = &with_defaults(f, defaults);
    let e = Encoder::read(f)?;
    let vocab = f.count("vocab_size")?;
    let types = f.optional_count("type_vocab_size")?.unwrap_or(types);
    let mut t = Tensors::default();
    t.tensor("embeddings.word_embeddings.weight", Role::Embedding, &[vocab, e.hidden])
        .tensor("embeddings.position_embeddings.weight", Role::Position, &[f.count("max_position_embeddings")?, e.hidden])
        .tensor("embeddings.token_type_embeddings.weight", Role::Other, &[types, e.hidden]);
    norm(&mut t, "embeddings.LayerNorm", e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: BERT.layers(&e) };
    Ok(Text { tower: tower.below(prefix), vocab })
}

/// CLIP's own config: old files keep the text's under `text_config_dict` too, which wins.
fn part(f: &Fields, legacy: &str, key: &'static str) -> Result<Fields, ConfigError> {
    f.touch(key);
    let part = f.nested(&[legacy])?.map_or_else(|| f.part(&[key]), Ok)?;
    for key in ["projection_dim", "tie_word_embeddings", "tie_encoder_decoder", "cross_attention_hidden_size"] {
        part.touch(key);
    }
    Ok(part)
}

/// The vision tower of a config that holds CLIP's two parts.
pub(in crate::config) fn vision_of(f: &Fields) -> Result<Component, ConfigError> {
    Ok(vision_part(f, "clip_vision_model")?.component("vision", ComponentKind::VisionTower))
}

fn vision_part(f: &Fields, default_type: &str) -> Result<Tower, ConfigError> {
    tower(&part(f, "vision_config_dict", "vision_config")?, default_type)
}

/// Both, with projections into `projection_dim` and a temperature; the text comes `text_width` wide.
fn joined(f: &Fields, text: Text, text_width: u64, vision: Tower, default_projection: u64) -> Result<Draft, ConfigError> {
    let width = f.optional_count("projection_dim")?.unwrap_or(default_projection);
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "text_projection", text_width, width, false);
    linear(&mut t, Role::Other, "visual_projection", vision.hidden(), width, false);
    t.tensor("logit_scale", Role::Other, &[]);
    let vocab = text.vocab;
    Ok(text.tower.with(t).draft(ComponentKind::TextEncoder, "", vocab).with(vision.component("vision", ComponentKind::VisionTower)))
}

/// A vision tower alone, or with a classifier.
fn vision_only(f: &Fields, vision: Tower) -> Result<Draft, ConfigError> {
    let (task, class) = task(f)?;
    let mut t = Tensors::default();
    let width = vision.hidden();
    match task {
        Task::Classification { labels } => classifier(&mut t, "classifier", width, labels),
        Task::Model if class.ends_with("WithProjection") => {
            linear(&mut t, Role::Other, "visual_projection", width, f.count_or("projection_dim", 512)?, false);
        }
        Task::Model | Task::Other => _ = f.touch("projection_dim"),
    }
    let mut draft = vision.with(t).draft(ComponentKind::VisionTower, "", 0);
    if task == Task::Other {
        bare(&mut draft, &class);
    }
    Ok(draft)
}

/// Whether the class is a classifier over images, which has no text encoder.
fn classifies(f: &Fields) -> Result<bool, ConfigError> {
    Ok(matches!(task(f)?.0, Task::Classification { .. }))
}

/// CLIP, and Meta CLIP 2.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    // Either of the two alone, whose own fields may stand outside.
    let class = f.architecture()?.unwrap_or_default();
    let is = |part: &str| ["Model", "ModelWithProjection"].iter().any(|top| class.strip_suffix(top).is_some_and(|name| name.ends_with(part)));
    let nests = ["text_config", "text_config_dict", "vision_config", "vision_config_dict"].iter().any(|key| f.has(key));
    match (is("Vision"), is("Text"), nests) {
        (true, _, false) => return read_vision(f),
        (_, true, false) => return read_text(f),
        (_, true, true) => {
            f.pass_over(&["vision_config", "vision_config_dict"]);
            return text_only(f, text(&part(f, "text_config_dict", "text_config")?, CLIP_TEXT, false)?);
        }
        _ => {}
    }
    let vision = vision_part(f, "clip_vision_model")?;
    if classifies(f)? || is("Vision") {
        f.pass_over(&["text_config", "text_config_dict"]);
        return vision_only(f, vision);
    }
    let text = text(&part(f, "text_config_dict", "text_config")?, CLIP_TEXT, false)?;
    let width = text.tower.hidden();
    joined(f, text, width, vision, 512)
}

/// `CLIPSeg`: CLIP, and a narrow decoder over some of the tower's layers, which a text steers.
pub(super) fn read_seg(f: &Fields) -> Result<Draft, ConfigError> {
    let class = f.architecture()?.unwrap_or_default();
    let vision = vision_part(f, "clip_vision_model")?;
    let text = text(&part(f, "text_config_dict", "text_config")?, CLIP_TEXT, false)?;
    let (features, width) = (vision.hidden(), text.tower.hidden());
    let patches = vision.tensors.iter().find(|tensor| tensor.name.ends_with("patch_embedding.weight"));
    let patch = patches.and_then(|tensor| tensor.shape.last().copied());
    let draft = joined(f, text, width, vision, 512)?;
    for key in ["conditional_layer", "decoder_attention_dropout", "decoder_hidden_act"] {
        f.touch(key);
    }
    if !class.ends_with("ForImageSegmentation") {
        for key in ["extract_layers", "reduce_dim", "decoder_intermediate_size", "decoder_num_attention_heads", "use_complex_transposed_convolution"] {
            f.touch(key);
        }
        return Ok(draft);
    }
    let f = &f.with_defaults(&[("reduce_dim", 64), ("decoder_intermediate_size", 2048), ("decoder_num_attention_heads", 4), ("projection_dim", 512)]);
    let (narrow, steer) = (f.count("reduce_dim")?, f.count("projection_dim")?);
    let depth = f.counts_or("extract_layers", &[3, 6, 9])?.len() as u64;
    let patch = patch.ok_or_else(|| f.missing("patch_size"))?;
    let heads = f.count("decoder_num_attention_heads")?;
    if !narrow.is_multiple_of(heads) {
        return Err(f.impossible("decoder_num_attention_heads", "it must divide `reduce_dim`"));
    }
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "decoder.film_mul", steer, narrow, true);
    linear(&mut t, Role::Other, "decoder.film_add", steer, narrow, true);
    if f.flag("use_complex_transposed_convolution", false)? {
        let (half, side) = (narrow / 2, patch / 4);
        t.convolution("decoder.transposed_convolution.0", &[narrow, narrow, 3, 3], true)
            .tensor("decoder.transposed_convolution.2.weight", Role::Other, &[narrow, half, side, side])
            .tensor("decoder.transposed_convolution.2.bias", Role::Other, &[half])
            .tensor("decoder.transposed_convolution.4.weight", Role::Other, &[half, 1, side, side])
            .tensor("decoder.transposed_convolution.4.bias", Role::Other, &[1]);
    } else {
        t.tensor("decoder.transposed_convolution.weight", Role::Other, &[narrow, 1, patch, patch]).tensor(
            "decoder.transposed_convolution.bias",
            Role::Other,
            &[1],
        );
    }
    t.repeated("decoder.reduces.{}.weight", Role::Other, depth, &[narrow, features]).repeated("decoder.reduces.{}.bias", Role::Other, depth, &[narrow]);
    let encoder = Encoder { hidden: narrow, layers: depth, heads, intermediate: f.count("decoder_intermediate_size")? };
    let decoder = Tower { encoder, layers_at: "decoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&encoder) };
    Ok(draft.with(decoder.component("decoder", ComponentKind::Projector)))
}

/// OWL-ViT: CLIP whose patches are each a candidate, with a class and a box.
pub(super) fn read_owl(f: &Fields) -> Result<Draft, ConfigError> {
    owl(f, "owlvit_vision_model", &["box_head"])
}

/// OWL 2: the same with a judgement of whether there is an object.
pub(super) fn read_owl2(f: &Fields) -> Result<Draft, ConfigError> {
    owl(f, "owlv2_vision_model", &["box_head", "objectness_head"])
}

fn owl(f: &Fields, vision_type: &str, heads: &[&str]) -> Result<Draft, ConfigError> {
    let vision = vision_part(f, vision_type)?;
    let text = text(&part(f, "text_config_dict", "text_config")?, OWL_TEXT, false)?;
    let (width, features) = (text.tower.hidden(), vision.hidden());
    let mut t = Tensors::default();
    if f.architecture()?.is_some_and(|class| class.ends_with("ForObjectDetection")) {
        norm(&mut t, "layer_norm", features, true);
        linear(&mut t, Role::Other, "class_head.dense0", features, width, true);
        for name in ["logit_shift", "logit_scale"] {
            linear(&mut t, Role::Other, &format!("class_head.{name}"), features, 1, true);
        }
        for (head, outputs) in heads.iter().zip([4, 1]) {
            for (number, outputs) in [features, features, outputs].into_iter().enumerate() {
                linear(&mut t, Role::Other, &format!("{head}.dense{number}"), features, outputs, true);
            }
        }
    }
    let mut draft = joined(f, text, width, vision, 512)?;
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}

/// CLIP's text encoder, with its projection or without.
pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    text_only(f, text(f, CLIP_TEXT, false)?)
}

fn text_only(f: &Fields, text: Text) -> Result<Draft, ConfigError> {
    let (_, class) = task(f)?;
    let mut t = Tensors::default();
    if class.ends_with("WithProjection") {
        linear(&mut t, Role::Other, "text_projection", text.tower.hidden(), f.count_or("projection_dim", 512)?, false);
    } else {
        f.touch("projection_dim");
    }
    Ok(text.tower.with(t).draft(ComponentKind::TextEncoder, "", text.vocab))
}

/// A vision tower alone.
pub(super) fn read_vision(f: &Fields) -> Result<Draft, ConfigError> {
    vision_only(f, tower(f, "clip_vision_model")?)
}

/// Pixtral's tower; a model around it that keeps the tower's type is `LLaVA`.
pub(super) fn read_pixtral(f: &Fields) -> Result<Draft, ConfigError> {
    if f.architecture()?.is_some_and(|class| class.starts_with("Llava")) { super::llava::read(f) } else { read_vision(f) }
}

/// `SigLIP`.
pub(super) fn read_siglip(f: &Fields) -> Result<Draft, ConfigError> {
    siglip(f, "siglip_vision_model")
}

/// `SigLIP` 2 of variable resolution; those of fixed resolution are `SigLIP` to the class.
pub(super) fn read_siglip2(f: &Fields) -> Result<Draft, ConfigError> {
    siglip(f, "siglip2_vision_model")
}

fn siglip(f: &Fields, vision_type: &str) -> Result<Draft, ConfigError> {
    let vision = vision_part(f, vision_type)?;
    if classifies(f)? {
        return vision_only(f, vision);
    }
    let text = text(&part(f, "text_config_dict", "text_config")?, SIGLIP_TEXT, true)?;
    let mut t = Tensors::default();
    t.tensor("logit_scale", Role::Other, &[1]).tensor("logit_bias", Role::Other, &[1]);
    Ok(text.tower.with(t).draft(ComponentKind::TextEncoder, "", text.vocab).with(vision.component("vision", ComponentKind::VisionTower)))
}

/// `SigLIP`'s text encoder.
pub(super) fn read_siglip_text(f: &Fields) -> Result<Draft, ConfigError> {
    let text = text(f, SIGLIP_TEXT, true)?;
    f.touch("architectures");
    Ok(text.tower.draft(ComponentKind::TextEncoder, "", text.vocab))
}

/// Chinese-CLIP: BERT reads the text.
pub(super) fn read_chinese(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let text = bert(&part(f, "text_config_dict", "text_config")?, CHINESE_TEXT, 2, "text_model")?;
    let width = text.tower.hidden();
    joined(f, text, width, vision_part(f, "chinese_clip_vision_model")?, 512)
}

/// `AltCLIP`: XLM-RoBERTa reads the text, a norm and a matrix bring it to `project_dim`.
pub(super) fn read_altclip(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let fields = part(f, "text_config_dict", "text_config")?;
    let mut text = bert(&fields, ALTCLIP_TEXT, 1, "text_model.roberta")?;
    let hidden = text.tower.hidden();
    let width = fields.count_or("project_dim", 768)?;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "text_model.transformation", hidden, width, true);
    norm(&mut t, "text_model.pre_LN", hidden, true);
    text.tower = text.tower.with(t);
    joined(f, text, width, vision_part(f, "altclip_vision_model")?, 768)
}

const AIMV2_TEXT: [u64; 6] = [49_408, 768, 2048, 12, 6, 77];
/// `Aimv2VisionConfig` of transformers 5.23.
const AIMV2_VISION: &[(&str, u64)] =
    &[("hidden_size", 1024), ("intermediate_size", 2816), ("num_hidden_layers", 24), ("num_attention_heads", 8), ("image_size", 224), ("patch_size", 14)];

/// `AIMv2`'s tower with its head: one token that attends to all patches.
fn aimv2_tower(f: &Fields) -> Result<Tower, ConfigError> {
    let f = &f.with_defaults(AIMV2_VISION);
    f.touch("model_type");
    let tower = super::ovis2::aimv2(f)?;
    let hidden = tower.hidden();
    let mut t = Tensors::default();
    if f.flag("use_head", true)? {
        let bias = f.flag("qkv_bias", false)?;
        t.tensor("head.cls_token", Role::Other, &[1, 1, hidden]);
        linear(&mut t, Role::Key, "head.k_proj", hidden, hidden, bias);
        linear(&mut t, Role::Value, "head.v_proj", hidden, hidden, bias);
        linear(&mut t, Role::AttentionOutput, "head.output_proj", hidden, hidden, true);
    }
    Ok(tower.with(t))
}

/// `AIMv2`'s tower alone.
pub(super) fn read_aimv2_vision(f: &Fields) -> Result<Draft, ConfigError> {
    vision_only(f, aimv2_tower(f)?)
}

/// `AIMv2` with a text encoder, trained together as CLIP is.
pub(super) fn read_aimv2(f: &Fields) -> Result<Draft, ConfigError> {
    let part = |key: &'static str| f.part(&[key]);
    let t = with_defaults(&part("text_config")?, AIMV2_TEXT);
    t.touch("model_type");
    let (e, vocab) = (Encoder::read(&t)?, t.count("vocab_size")?);
    let attention = t.flag("qkv_bias", false)?;
    let style = super::ovis2::AIMV2.biases(attention, attention, t.flag("mlp_bias", false)?);
    let mut tensors = Tensors::default();
    tensors.tensor("embeddings.token_embedding.weight", Role::Embedding, &[vocab, e.hidden]).tensor(
        "embeddings.position_embedding.weight",
        Role::Position,
        &[t.count("max_position_embeddings")?, e.hidden],
    );
    norm(&mut tensors, "rms_norm", e.hidden, false);
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: tensors.build(), layers: style.layers(&e) };
    f.touch("architectures");
    f.touch("max_logit_scale");
    let vision = aimv2_tower(&part("vision_config")?)?.below("vision_model");
    joined(f, Text { tower: tower.below("text_model"), vocab }, e.hidden, vision, 512)
}
