//! `BridgeTower`: CLIP's tower and RoBERTa's encoder whose upper layers feed layers that attend to each other.

use super::blip::cross_attention;
use super::decoder::{Draft, Tensors};
use super::networks::{layers, size};
use super::vision::{BERT, CLIP, Encoder, Patches, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `BridgeTowerVisionConfig` and `BridgeTowerTextConfig` of transformers 5.23.
const VISION: &[(&str, u64)] = &[("hidden_size", 768), ("num_hidden_layers", 12), ("patch_size", 16), ("image_size", 288)];
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 50_265),
    ("hidden_size", 768),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("intermediate_size", 3072),
    ("max_position_embeddings", 514),
    ("type_vocab_size", 1),
];

/// The tower's layers: one matrix for queries, keys and values, named as `PyTorch` names it.
const LAYER: Style = Style { qkv: &[], output: "attn.out_proj", up: "mlp.c_fc", down: "mlp.c_proj", norms: &["ln_1", "ln_2"], ..CLIP };

fn vision(f: &Fields) -> Result<Tower, ConfigError> {
    let (hidden, patches) = (size(f, "hidden_size", 768)?, Patches::read(f)?);
    let depth = layers(f, "num_hidden_layers", 12)?;
    // The class takes heads of 64, and may leave the last layer out.
    if !hidden.is_multiple_of(64) {
        return Err(f.impossible("hidden_size", "the class has heads of 64"));
    }
    let used = if f.flag("remove_last_layer", false)? { depth - 1 } else { depth };
    let e = Encoder { hidden, layers: used, heads: hidden / 64, intermediate: hidden * 4 };
    let mut t = Tensors::default();
    t.tensor("embeddings.class_embedding", Role::Other, &[hidden]);
    patches.convolution(&mut t, "embeddings.patch_embedding", hidden, false);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number.saturating_add(1), hidden]);
    for name in ["ln_pre", "ln_post"] {
        norm(&mut t, name, hidden, true);
    }
    if !f.flag("share_layernorm", true)? {
        for number in 0..depth {
            norm(&mut t, &format!("ln_separate.{number}"), hidden, true);
        }
    }
    f.touch("model_type");
    f.touch("stop_gradient");
    let mut own = Tensors::default();
    own.tensor("attn.in_proj_weight", Role::Qkv, &[3 * hidden, hidden]).tensor("attn.in_proj_bias", Role::Qkv, &[3 * hidden]);
    Ok(Tower { encoder: e, layers_at: "transformer.resblocks".to_owned(), tensors: t.build(), layers: LAYER.layers_with(&e, &own.build()) }
        .below("vision_model.visual"))
}

fn text(f: &Fields) -> Result<Tower, ConfigError> {
    let e = Encoder::read(f)?;
    let mut t = Tensors::default();
    for (table, key, role) in [
        ("word_embeddings", "vocab_size", Role::Embedding),
        ("position_embeddings", "max_position_embeddings", Role::Position),
        ("token_type_embeddings", "type_vocab_size", Role::Other),
    ] {
        t.tensor(&format!("embeddings.{table}.weight"), role, &[f.count(key)?, e.hidden]);
    }
    norm(&mut t, "embeddings.LayerNorm", e.hidden, true);
    linear(&mut t, Role::Other, "pooler.dense", e.hidden, e.hidden, true);
    f.touch("model_type");
    Ok(Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: BERT.layers(&e) }.below("text_model"))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let part = |key: &'static str, defaults| Ok::<_, ConfigError>(f.part(&[key])?.with_defaults(defaults));
    let words = part("text_config", TEXT)?;
    let (eyes, reader) = (vision(&part("vision_config", VISION)?)?, text(&words)?);
    let vocab = words.count("vocab_size")?;
    let (hidden, depth) = (size(f, "hidden_size", 768)?, layers(f, "num_hidden_layers", 6)?);
    let class = f.architecture()?.unwrap_or_else(|| "BridgeTowerModel".to_owned());
    let mut t = Tensors::default();
    let shared = f.flag("share_cross_modal_transformer_layers", true)?;
    for (side, inputs) in [("text", reader.hidden()), ("image", eyes.hidden())] {
        let at = format!("cross_modal_{side}_transform");
        if shared {
            linear(&mut t, Role::Other, &at, inputs, hidden, true);
        } else {
            (0..depth).for_each(|number| linear(&mut t, Role::Other, &format!("{at}.{number}"), inputs, hidden, true));
        }
    }
    t.tensor("token_type_embeddings.weight", Role::Other, &[2, hidden]);
    let one_link = f.flag("share_link_tower_layers", false)?;
    let kind = f.optional_text("link_tower_type")?.unwrap_or_else(|| "add".to_owned());
    let scale = match kind.as_str() {
        "add" => None,
        "scaled_add" => Some("scaled_factor"),
        "interpolate" => Some("beta"),
        _ => return Err(f.impossible("link_tower_type", "only `add`, `scaled_add` and `interpolate` are known")),
    };
    for side in ["text", "image"] {
        linear(&mut t, Role::Other, &format!("cross_modal_{side}_pooler.dense"), hidden, hidden, true);
        norm(&mut t, &format!("cross_modal_{side}_layernorm"), hidden, true);
        for number in 0..if one_link { 1 } else { depth - 1 } {
            let at = if one_link { format!("cross_modal_{side}_link_tower") } else { format!("cross_modal_{side}_link_tower.{number}") };
            norm(&mut t, &format!("{at}.LayerNorm"), hidden, true);
            if let Some(scale) = scale {
                t.tensor(&format!("{at}.{scale}"), Role::Other, &[]);
            }
        }
    }
    for unread in ["num_attention_heads", "init_layernorm_from_vision_encoder", "intermediate_size", "logit_scale_init_value"] {
        f.touch(unread);
    }
    let below = |tower: Tower| if class == "BridgeTowerModel" { tower } else { tower.below("bridgetower") };
    let both = Encoder { layers: depth, ..reader.encoder };
    let crossing = cross_attention(&both, both.hidden, "self");
    let stack = |side: &str| {
        let tensors = Tower { encoder: both, layers_at: format!("cross_modal_{side}_layers"), tensors: Vec::new(), layers: BERT.layers_with(&both, &crossing) };
        below(tensors)
    };
    let (of_text, of_image) = (stack("text"), stack("image"));
    let mut draft = below(reader.with(t)).with(head(f, &class, hidden, vocab)?).draft(ComponentKind::TextEncoder, "", vocab);
    if !KNOWN.contains(&class.as_str()) {
        draft.assumptions.push(format!("architecture `{class}` is counted without its head"));
    }
    let draft = draft.with(below(eyes).component("vision", ComponentKind::VisionTower));
    Ok(draft.with(of_text.component("cross_modal_text", ComponentKind::Other)).with(of_image.component("cross_modal_image", ComponentKind::Other)))
}

const KNOWN: [&str; 4] = ["BridgeTowerModel", "BridgeTowerForMaskedLM", "BridgeTowerForImageAndTextRetrieval", "BridgeTowerForContrastiveLearning"];

/// What stands above, by the class.
fn head(f: &Fields, class: &str, hidden: u64, vocab: u64) -> Result<Tensors, ConfigError> {
    let mut t = Tensors::default();
    let tied = f.flag("tie_word_embeddings", false)?;
    match class {
        "BridgeTowerForMaskedLM" => {
            linear(&mut t, Role::Other, "mlm_score.transform.dense", hidden, hidden, true);
            norm(&mut t, "mlm_score.transform.LayerNorm", hidden, true);
            t.tensor("mlm_score.bias", Role::Head, &[vocab]);
            if !tied {
                t.tensor("mlm_score.decoder.weight", Role::Head, &[vocab, hidden]);
            }
        }
        "BridgeTowerForImageAndTextRetrieval" => linear(&mut t, Role::Score, "itm_score.fc", 2 * hidden, 2, true),
        "BridgeTowerForContrastiveLearning" => {
            let width = f.count("contrastive_hidden_size")?;
            for (side, inputs) in [("text", hidden), ("image", hidden), ("cross_modal", 2 * hidden)] {
                linear(&mut t, Role::Other, &format!("itc_{side}_head.fc"), inputs, width, true);
            }
            t.tensor("logit_scale", Role::Other, &[]);
        }
        _ => {}
    }
    f.touch("contrastive_hidden_size");
    Ok(t)
}
