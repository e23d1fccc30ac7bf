//! `ColPali` and its kin (`ColQwen2`, `ColModernVBERT`): a vision-language model without its head, and a matrix that narrows each token to
//! an embedding.

use super::decoder::{Draft, Head, Tensors, component};
use super::vision::linear;
use super::{ConfigError, Fields, family_of};
use crate::model::{ComponentKind, Role};

/// `embedding_dim` numbers per token; the model stands under `vlm_config`.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let inner = f.required_nested(&["vlm_config"])?;
    let model_type = inner.optional_text("model_type")?.unwrap_or_else(|| "paligemma".to_owned());
    let Some(family) = family_of(&model_type) else {
        return Err(ConfigError::UnknownType { model_type, why: "it is the vision-language model inside this one".to_owned() });
    };
    let inner = inner.as_class("Model");
    let mut draft = (family.read)(&inner)?;
    for key in ["architectures", "tie_word_embeddings", "vocab_size"] {
        inner.touch(key);
        f.touch(key);
    }
    draft.decoder.head = Head::Nothing;
    let width = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "embedding_proj_layer", width, f.count_or("embedding_dim", 128)?, true);
    Ok(draft.with(component("embedding", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}

/// Classes of colpali-engine under the type of the model that they narrow, and what they call the matrix.
const NARROWED: &[(&str, &str)] =
    &[("ColPali", "custom_text_proj"), ("ColQwen2", "custom_text_proj"), ("ColQwen2_5", "custom_text_proj"), ("ColIdefics3", "linear")];

/// What their matrix narrows to.
const NARROW: u64 = 128;

/// A model as `read` reads it, or what one of these classes makes of it.
pub(super) fn or_narrowed(f: &Fields, read: fn(&Fields) -> Result<Draft, ConfigError>) -> Result<Draft, ConfigError> {
    let class = f.architecture()?.unwrap_or_default();
    let Some((_, module)) = NARROWED.iter().find(|(name, _)| *name == class) else { return read(f) };
    let mut draft = read(&f.as_class("Model"))?;
    draft.decoder.head = Head::Nothing;
    draft.assumptions.push(format!("architecture `{class}` is counted without a language-model head, which some releases of its code keep"));
    let width = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, module, width, NARROW, true);
    Ok(draft.with(component("embedding", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn late_interaction_narrows_the_bare_model() {
        let count = |model_type: &str, class: &str| {
            let text = r#""text_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
                "vocab_size": 100, "head_dim": 16}, "tie_word_embeddings": false"#;
            let anatomy = crate::config::read(&format!(r#"{{"model_type": "{model_type}", "architectures": ["{class}"], {text}, "vision_config": {{}}}}"#));
            let anatomy = anatomy.unwrap();
            (anatomy.parameters().unwrap().get(), anatomy.assumptions.iter().any(|line| line.contains(class)))
        };
        for (model_type, bare, class) in [
            ("paligemma", "PaliGemmaModel", "ColPali"),
            ("idefics3", "Idefics3Model", "ColIdefics3"),
            ("qwen2_vl", "Qwen2VLModel", "ColQwen2"),
            ("qwen2_5_vl", "Qwen2_5_VLModel", "ColQwen2_5"),
        ] {
            assert_eq!(count(model_type, class), (count(model_type, bare).0 + 64 * 128 + 128, true), "{class}");
        }
    }
}
