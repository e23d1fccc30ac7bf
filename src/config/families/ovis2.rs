//! Ovis, in its own files and in transformers' (Ovis 2): a tower, `AIMv2` or `SigLIP`, whose features are spread over a
//! vocabulary of their own, each with an embedding, before any language model.

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

/// `AIMv2`'s layer: RMSNorms and a gate, biases where the config says.
pub(super) const AIMV2: Style = Style {
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    output: "attention.out_proj",
    gate: "ffn.gate_proj",
    up: "ffn.up_proj",
    down: "ffn.down_proj",
    norms: &["rms_norm1", "rms_norm2"],
    norm_bias: false,
    ..CLIP
};

/// `AIMv2`'s tower: RMSNorms, also after the patches.
pub(super) fn aimv2(v: &Fields) -> Result<Tower, ConfigError> {
    let (e, patches) = (Encoder::read(v)?, Patches::read(v)?);
    let attention = v.flag("qkv_bias", false)?;
    let style = AIMV2.biases(attention, attention, v.flag("use_bias", v.flag("mlp_bias", false)?)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    // Native resolution has positions that are computed.
    if !v.flag("is_native", false)? {
        t.tensor("embeddings.position_embedding.weight", Role::Position, &[patches.number, e.hidden]);
    }
    norm(&mut t, "embeddings.rms_norm", e.hidden, false);
    norm(&mut t, "rms_norm", e.hidden, false);
    Ok(Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: style.layers(&e) })
}

/// The form of its own repositories, versions 1.5 to 2: `llm_config` and `visual_tokenizer_config` with the tower inside.
pub(super) fn read_own(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "qwen2", names: Names::Behind("llm"), head: Head::Language, tie: Tie::Text };
    let draft = language_in(f, &f.required_nested(TEXT_CONFIGS)?, &wrapper)?;
    f.touch("architectures");
    for key in ["conversation_formatter_class", "multimodal_max_length", "llm_attn_implementation", "disable_tie_weight"] {
        f.touch(key);
    }
    let v = f.required_nested(&["visual_tokenizer_config"])?;
    for key in ["model_type", "tokenize_function", "tau", "depths", "drop_cls_token", "use_indicators", "backbone_kwargs"] {
        v.touch(key);
    }
    let backbone = v.required_nested(&["backbone_config"])?;
    let tower = match backbone.optional_text("model_type")?.as_deref() {
        Some("aimv2") => aimv2(&backbone.with_defaults(VISION))?,
        _ => super::vision::tower(&backbone, "siglip_vision_model")?,
    };
    // As many tokens mark images in every version.
    let tokens = v.count_or("vocab_size", 16_384)?;
    let spread = tokens.checked_sub(INDICATORS).filter(|&spread| spread > 0).ok_or_else(|| v.impossible("vocab_size", "it must be more than 5"))?;
    let width = f.optional_count("hidden_size")?.unwrap_or(draft.decoder.shape.hidden);
    let inputs = tower.hidden().saturating_mul(squared(&v, "hidden_stride", 1)?);
    let projector = Tensors::default()
        .linear("visual_tokenizer.head.0", inputs, spread, false)
        .norm("visual_tokenizer.head.1", spread, true)
        .embedding("vte", tokens, width)
        .build();
    let tower = tower.below("visual_tokenizer.backbone").component("vision", ComponentKind::VisionTower);
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new())))
}

/// Visual tokens that mark where an image begins, ends and is cut.
const INDICATORS: u64 = 5;

/// transformers' form.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "qwen2", names: Names::Inside("model.language_model"), head: Head::Nothing, tie: Tie::Wrapper { default: true } };
    let text = f.part(TEXT_CONFIGS)?;
    let mut draft = language_in(f, &text, &wrapper)?;
    // A head that is not the embedding has the wrapper's sizes: its vocabulary lacks the tokens that were added to the language model's.
    let vocab = f.count_or("vocab_size", 151_643)?;
    let has_head = super::decoder::has_language_head(f, &mut draft.assumptions)?;
    if has_head && !f.flag("tie_word_embeddings", true)? {
        let width = f.count_or("hidden_size", 1536)?;
        draft.decoder.tensors.extend(Tensors::default().linear("lm_head", width, vocab, false).build());
    }
    let v = f.part(&["vision_config"])?.with_defaults(VISION);
    let tower = aimv2(&v)?;
    let (tokens, indicators) = (v.count("vocab_size")?, v.count("num_visual_indicator_tokens")?);
    let spread = tokens.checked_sub(indicators).filter(|&spread| spread > 0);
    let spread = spread.ok_or_else(|| v.impossible("num_visual_indicator_tokens", "it must be less than the visual `vocab_size`"))?;
    let width = f.count_or("hidden_size", 1536)?;
    let inputs = tower.hidden().saturating_mul(squared(&v, "hidden_stride", 1)?);
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

#[cfg(test)]
mod tests {
    /// Ovis 2 1B: transformers' file has each of its parameters once, its own the tied head twice.
    #[test]
    fn published_count() {
        let text = r#"{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                       "vocab_size": 151936, "tie_word_embeddings": true}"#;
        let tower = r#""hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 8, "image_size": 448, "patch_size": 14"#;
        let own = format!(
            r#"{{"model_type": "ovis", "hidden_size": 896, "llm_config": {text},
                 "visual_tokenizer_config": {{"vocab_size": 65536, "hidden_stride": 2, "backbone_config": {{"model_type": "aimv2", {tower}}}}}}}"#
        );
        let transformers = format!(
            r#"{{"model_type": "ovis2", "hidden_size": 896, "text_config": {text}, "vision_config": {{{tower}, "vocab_size": 65536, "hidden_stride": 2}}}}"#
        );
        for config in [own, transformers] {
            assert_eq!(crate::config::read(&config).unwrap().parameters().unwrap().get(), 1_131_283_318);
        }
    }
}
