//! `ModernVBERT`: SigLIP's tower, a matrix over neighbouring patches, and `ModernBERT`, which reads both ways.

use super::decoder::{Draft, Tensors, labels};
use super::multimodal::{TEXT_CONFIGS, squared, with_projector};
use super::vision::{linear, tower};
use super::{ConfigError, Fields, modernbert};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    let mut draft = modernbert::read(&text.as_class("Model"))?;
    for key in ["model_type", "tie_word_embeddings"] {
        text.touch(key);
    }
    for tensor in &mut draft.decoder.tensors {
        tensor.name = tensor.name.replacen("model.", "model.text_model.", 1);
    }
    (draft.decoder.base, draft.decoder.layer_prefix) = ("model.text_model", "model.text_model.layers");
    let (width, vocab) = (draft.decoder.shape.hidden, draft.decoder.shape.vocab);

    let class = f.architecture()?.unwrap_or_default();
    let norm_bias = text.flag("norm_bias", false)?;
    let mut head = Tensors::default();
    if !class.ends_with("Model") {
        head.linear("projection_head.dense", width, width, text.flag("classifier_bias", false)?).norm("projection_head.norm", width, norm_bias);
    }
    // The language model's config decides; the wrapper has copies of these.
    for key in ["classifier_bias", "classifier_dropout", "classifier_pooling", "initializer_cutoff_factor"] {
        f.touch(key);
    }
    let (tied, has_bias) = (f.flag("tie_word_embeddings", false)?, text.flag("decoder_bias", true)?);
    if class.ends_with("Classification") {
        head.linear("classifier", width, labels(f)?, true);
    } else if !class.ends_with("Model") {
        if !class.ends_with("ForMaskedLM") {
            draft.assumptions.push(format!("architecture `{class}` is counted with the masked-language-model head"));
        }
        if !tied {
            head.linear("lm_head", width, vocab, false);
        }
        if has_bias {
            head.tensor("lm_head.bias", Role::Head, &[vocab]);
        }
    }
    draft.decoder.tensors.extend(head.build());

    let seen = f.part(&["vision_config"])?;
    let tower = tower(&seen, "siglip_vision_model")?.below("model.vision_model");
    let mut t = Tensors::default();
    let inputs = tower.hidden().saturating_mul(squared(f, "pixel_shuffle_factor", 4)?);
    linear(&mut t, Role::Other, "model.connector.modality_projection", inputs, width, false);
    Ok(with_projector(draft, tower, width, t.build()))
}
