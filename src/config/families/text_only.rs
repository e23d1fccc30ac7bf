//! Copies of a multimodal model for text only. mlx-lm writes the config without its `vision_config` (`save_config` of
//! mlx-lm 0.32.2) and the files without what is not the language model; everything else of the config stays.

use super::decoder::Draft;
use super::multimodal::{TEXT_CONFIGS, Wrapper, language, lasting};
use super::{ConfigError, Family, Fields, family_of};
use crate::model::ComponentKind;

const VISION: &str = "vision_config";

/// What the family reads, or the language model alone where the config gives its sizes and says nothing of the tower's.
pub(in crate::config) fn read(f: &Fields, family: &Family) -> Result<Draft, ConfigError> {
    let whole = (family.read)(f);
    let is_refused = matches!(&whole, Err(ConfigError::Missing { key, .. }) if key == VISION);
    if !is_refused && !f.is_left_out(VISION) {
        return whole;
    }
    let text = f.nested(TEXT_CONFIGS)?;
    // Without sizes the config leaves all to its class.
    if !is_refused && !text.as_ref().unwrap_or(f).has("hidden_size") {
        return whole;
    }
    let place = text.as_ref().map(|text| text.place().to_owned());
    let mut draft = match (whole, text) {
        (Ok(draft), _) if draft.kind == ComponentKind::TextDecoder => draft,
        (Err(error), Some(text)) if is_refused => {
            let own = text.optional_text("model_type")?.unwrap_or_else(|| format!("{}_text", family.model_type));
            if family_of(&own).is_none() {
                return Err(error);
            }
            // The wrapper's own class may be named as if it were a bare model (`InternVLChatModel`).
            let class = text.architecture()?.or(f.architecture()?);
            let f = class.map_or_else(|| f.with_defaults(&[]), |class| f.as_class(&class));
            language(&f, &Wrapper::new(lasting(own)))?
        }
        (other, _) => return other,
    };
    // What stayed is the language model's, in its object or beside the others' keys.
    match &place {
        Some(place) => f.only_counted(place),
        None => f.not_counted(VISION),
    }
    draft.others.retain(|part| !matches!(part.kind, ComponentKind::VisionTower | ComponentKind::AudioTower | ComponentKind::Projector));
    draft.assumptions.push(format!("`{VISION}` is not there, as in copies for text only: the language model alone is counted"));
    Ok(draft)
}

#[cfg(test)]
mod tests {
    const SIZES: &str = r#""hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 100"#;

    /// Parameters, and whether one line says what is left out.
    fn read(config: &str) -> (u64, bool) {
        let anatomy = crate::config::read(config).unwrap();
        (anatomy.parameters().unwrap().get(), anatomy.assumptions.iter().filter(|line| line.contains("`vision_config`")).count() == 1)
    }

    #[test]
    fn a_copy_for_text_only_is_the_language_model_alone() {
        let alone = |kind: &str| read(&format!(r#"{{"model_type": "{kind}", "tie_word_embeddings": false, {SIZES}}}"#)).0;
        for (model_type, class, kind) in [
            ("mistral3", "Mistral3ForConditionalGeneration", "mistral"),
            ("llava", "LlavaForConditionalGeneration", "llama"),
            ("internvl_chat", "InternVLChatModel", "llama"),
            ("qwen3_vl", "Qwen3VLForConditionalGeneration", "qwen3_vl_text"),
        ] {
            let own = r#""architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false"#;
            let copy = format!(
                r#"{{"model_type": "{model_type}", "architectures": ["{class}"], "tie_word_embeddings": false, "text_config": {{"model_type": "{kind}", {own}, {SIZES}}}}}"#
            );
            assert_eq!(read(&copy), (alone(kind), true), "{model_type}");
        }
        // Flat, as older files of Qwen2-VL are.
        let flat = format!(r#"{{"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"], "tie_word_embeddings": false, {SIZES}}}"#);
        assert_eq!(read(&flat), (alone("qwen2"), true));
        // A config that leaves everything to its class has its class's tower.
        let class = |more: &str| read(&format!(r#"{{"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"]{more}}}"#));
        assert_eq!(class("").0, class(r#", "vision_config": {}"#).0);
        assert!(class("").1);
    }
}
