//! Ovis 2: an AIMv2 tower whose features are spread over a vocabulary of their own, each with an embedding, before any language model.

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in, squared};
use super::vision::{CLIP, Encoder, Patches, Style, Tower, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `Ovis2VisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("intermediate_size", 2816),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 8),
    ("image_size", 224),
    ("patch_size", 14),
    ("vocab_size", 16_384),
    ("num_visual_indicator_tokens", 5),
];

/// AIMv2's layer: RMSNorms and a gate, biases where the config says.
const AIMV2: Style = Style {
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    output: "attention.out_proj",
    gate: "ffn.gate_proj",
    up: "ffn.up_proj",
    down: "ffn.down_proj",
    norms: &["rms_norm1", "rms_norm2"],
    norm_bias: false,
    ..CLIP
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "qwen2", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: true } };
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.left_out("text_config"));
    let draft = language_in(f, &text, &wrapper)?;
    // A copy of the language model's, less the tokens that were added to it.
    f.touch("vocab_size");
    let v = f.nested(&["vision_config"])?.unwrap_or_else(|| f.left_out("vision_config")).with_defaults(VISION);
    let (e, patches) = (Encoder::read(&v)?, Patches::read(&v)?);
    let attention = v.flag("qkv_bias", false)?;
    let style = AIMV2.biases(attention, attention, v.flag("mlp_bias", false)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number, e.hidden]);
    norm(&mut t, "embeddings.rms_norm", e.hidden, false);
    norm(&mut t, "rms_norm", e.hidden, false);
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: style.layers(&e) };

    let (tokens, indicators) = (v.count("vocab_size")?, v.count("num_visual_indicator_tokens")?);
    let spread = tokens.checked_sub(indicators).filter(|&spread| spread > 0);
    let spread = spread.ok_or_else(|| v.impossible("num_visual_indicator_tokens", "it must be less than the visual `vocab_size`"))?;
    let width = f.optional_count("hidden_size")?.unwrap_or(1536);
    let inputs = e.hidden.saturating_mul(squared(&v, "hidden_stride", 1)?);
    let projector = Tensors::default()
        .linear("model.vision_tower.head_linear", inputs, spread, false)
        .norm("model.vision_tower.head_norm", spread, true)
        .embedding("model.visual_embeddings_table", tokens, width)
        .build();
    // How the features are spread, and the tokens that mark an image.
    v.touch("tokenize_function");
    f.touch("visual_indicator_token_ids");
    let tower = tower.below("model.vision_tower.transformer").component("vision", ComponentKind::VisionTower);
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new())))
}
