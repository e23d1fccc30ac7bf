//! FLAVA: an encoder of images, one of text and one over both; for pretraining the codebook of DALL-E's tokens of an image and the
//! heads that predict them.

use super::decoder::{Draft, Tensors, component};
use super::networks::{layers, size};
use super::vision::{Encoder, Patches, Tower, VIT, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Role};

/// What the classes of the parts give.
const SIZES: &[(&str, u64)] = &[("hidden_size", 768), ("intermediate_size", 3072), ("num_hidden_layers", 12), ("num_attention_heads", 12)];
const IMAGE: &[(&str, u64)] = &[("image_size", 224), ("patch_size", 16), ("vocab_size", 8192)];
const TEXT: &[(&str, u64)] = &[("vocab_size", 30_522), ("max_position_embeddings", 512), ("type_vocab_size", 2)];
const BOTH: &[(&str, u64)] = &[("num_hidden_layers", 6)];

/// How it is trained.
const UNREAD: [&str; 11] = [
    "tie_word_embeddings",
    "ce_ignore_index",
    "global_backprop_contrastive",
    "global_contrastive_weight",
    "itm_weight",
    "mim_weight",
    "mlm_weight",
    "mmm_image_weight",
    "mmm_text_weight",
    "return_loss",
    "skip_unmasked_multimodal_encoder",
];

fn part(f: &Fields, key: &'static str, defaults: &[(&str, u64)]) -> Result<Fields, ConfigError> {
    let part = f.part(&[key])?;
    part.touch("model_type");
    Ok(part.with_defaults(defaults).with_defaults(SIZES))
}

/// The layers with the norm and the pooler above them.
fn encoder(f: &Fields, mut t: Tensors) -> Result<Tower, ConfigError> {
    let e = Encoder::read(f)?;
    norm(&mut t, "layernorm", e.hidden, true);
    linear(&mut t, Role::Other, "pooler.dense", e.hidden, e.hidden, true);
    let style = VIT.biases(f.flag("qkv_bias", true)?, true, true);
    Ok(Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) })
}

fn image(f: &Fields) -> Result<Tower, ConfigError> {
    let (hidden, patches) = (f.count("hidden_size")?, Patches::read(f)?);
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, hidden]);
    if f.flag("mask_token", true)? {
        t.tensor("embeddings.mask_token", Role::Other, &[1, 1, hidden]);
    }
    t.tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number.saturating_add(1), hidden]);
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", hidden, true);
    encoder(f, t)
}

fn text(f: &Fields) -> Result<Tower, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let mut t = Tensors::default();
    t.tensor("embeddings.word_embeddings.weight", Role::Embedding, &[f.count("vocab_size")?, hidden])
        .tensor("embeddings.position_embeddings.weight", Role::Position, &[f.count("max_position_embeddings")?, hidden])
        .tensor("embeddings.token_type_embeddings.weight", Role::Other, &[f.count("type_vocab_size")?, hidden]);
    norm(&mut t, "embeddings.LayerNorm", hidden, true);
    encoder(f, t)
}

fn both(f: &Fields) -> Result<Tower, ConfigError> {
    let mut t = Tensors::default();
    if f.flag("use_cls_token", true)? {
        t.tensor("cls_token", Role::Other, &[1, 1, f.count("hidden_size")?]);
    }
    encoder(f, t)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (images, words) = (part(f, "image_config", IMAGE)?, part(f, "text_config", TEXT)?);
    let (eyes, reader, over) = (image(&images)?, text(&words)?, both(&part(f, "multimodal_config", BOTH)?)?);
    let (seen, said, joint) = (eyes.hidden(), reader.hidden(), over.hidden());
    let projection = size(f, "projection_dim", 768)?;
    let class = f.architecture()?.unwrap_or_else(|| "FlavaModel".to_owned());
    let (vocab, codes) = (words.count("vocab_size")?, images.count("vocab_size")?);
    let below = |tower: Tower, module: &str| {
        let tower = tower.below(module);
        if class == "FlavaModel" { tower } else { tower.below("flava") }
    };
    let at = |name: &str| if class == "FlavaModel" { name.to_owned() } else { format!("flava.{name}") };
    let mut t = Tensors::default();
    t.tensor(&at("logit_scale"), Role::Other, &[]);
    for (name, inputs, outputs) in [
        ("image_projection", seen, projection),
        ("text_projection", said, projection),
        ("image_to_mm_projection", seen, joint),
        ("text_to_mm_projection", said, joint),
    ] {
        linear(&mut t, Role::Other, &at(name), inputs, outputs, true);
    }
    let books = f.part(&["image_codebook_config"])?;
    let has_book = f.flag("init_codebook", true)?;
    let width = size(f, "hidden_size", 768)?;
    let mut book = None;
    if class == "FlavaForPreTraining" {
        for (name, width, rows) in [("mim_head", seen, codes), ("mlm_head", said, vocab), ("mmm_image_head", seen, codes), ("mmm_text_head", said, vocab)] {
            linear(&mut t, Role::Other, &format!("{name}.transform.dense"), width, width, true);
            norm(&mut t, &format!("{name}.transform.LayerNorm"), width, true);
            linear(&mut t, Role::Head, &format!("{name}.decoder"), width, rows, true);
        }
        linear(&mut t, Role::Other, "itm_head.pooler.dense", width, width, true);
        linear(&mut t, Role::Score, "itm_head.seq_relationship", width, 2, true);
    }
    let read = codebook(&books)?;
    if class == "FlavaForPreTraining" && has_book {
        book = Some(read);
    }
    for unread in UNREAD {
        f.touch(unread);
    }
    let mut draft = below(reader, "text_model").with(t).draft(ComponentKind::TextEncoder, "", vocab);
    if !["FlavaModel", "FlavaForPreTraining"].contains(&class.as_str()) {
        draft.assumptions.push(format!("architecture `{class}` is counted without its head"));
    }
    let eyes = below(eyes, "image_model").component("vision", ComponentKind::VisionTower);
    Ok(draft.with(eyes).with(below(over, "multimodal_model").component("multimodal", ComponentKind::Other)).with_any(book))
}

/// The tokens of an image: groups of blocks, each group twice as wide as the one before. The class builds two blocks in each of four.
fn codebook(f: &Fields) -> Result<Component, ConfigError> {
    let (first, channels, vocab) = (size(f, "hidden_size", 256)?, size(f, "input_channels", 3)?, size(f, "vocab_size", 8192)?);
    let blocks = layers(f, "num_blocks_per_group", 2)?;
    for unread in ["model_type", "num_groups", "freeze"] {
        f.touch(unread);
    }
    let mut t = Tensors::default();
    t.convolution("image_codebook.blocks.input", &[first, channels, 7, 7], true);
    let mut inputs = first;
    for (group, factor) in (1..).zip([1, 2, 4, 8]) {
        let width = first * factor;
        for block in 1..=blocks {
            let at = format!("image_codebook.blocks.group_{group}.group.block_{block}");
            if inputs != width {
                t.convolution(&format!("{at}.id_path"), &[width, inputs, 1, 1], true);
            }
            let inner = width / 4;
            for (number, shape) in (1..).zip([[inner, inputs, 3, 3], [inner, inner, 3, 3], [inner, inner, 3, 3], [width, inner, 1, 1]]) {
                t.convolution(&format!("{at}.res_path.path.conv_{number}"), &shape, true);
            }
            inputs = width;
        }
    }
    t.convolution("image_codebook.blocks.output.conv", &[vocab, inputs, 1, 1], true);
    Ok(component("codebook", ComponentKind::VisionTower, inputs, "", t.build(), Vec::new()))
}
