//! What a forward pass does between its matrices, from keys that all families share.

use serde_json::Value;

use super::{Fields, TEXT_CONFIGS};
use crate::model::Computation;

const ACTIVATION: &[&str] = &["hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act", "feed_forward_proj", "afn"];
const HIDDEN_DROPOUT: &[&str] = &["resid_pdrop", "hidden_dropout_prob", "hidden_dropout", "resid_dropout", "residual_dropout", "dropout_rate", "dropout"];
/// T5 and its kin have one rate for everything.
const ATTENTION_DROPOUT: &[&str] = &["attn_pdrop", "attention_probs_dropout_prob", "attention_dropout", "attn_dropout_prob", "dropout_rate"];

/// Families whose classes cap scores and logits where config.json does not say (transformers 5.23: 50 and 30).
const CAPPED: &[&str] = &["gemma2", "vaultgemma"];

/// The `model_type` of the nested config that the language model is read from: wrappers' names for it, or the decoder of two models
/// put together.
fn text_type(outer: &Fields) -> String {
    let mut keys = TEXT_CONFIGS.iter().copied().chain(std::iter::once("decoder"));
    keys.find_map(|key| outer.type_under(key)).unwrap_or_default().to_owned()
}

/// Reads it from the language model's own config where there is one. A key that is absent is taken as off: published configs write
/// their dropouts out.
pub(super) fn read(outer: &Fields, text: Option<&Fields>) -> Computation {
    let fields = text.unwrap_or(outer);
    let first = |keys: &[&str]| keys.iter().find_map(|key| fields.raw(key)).cloned();
    let is_on = |keys: &[&str]| first(keys).and_then(|value| value.as_f64()).is_some_and(|number| number > 0.0);
    let text_type = text_type(outer);
    let is_capped = CAPPED.contains(&text_type.as_str()) || text_type.is_empty() && CAPPED.contains(&outer.model_type().as_str());
    // An explicit null turns a cap off.
    let caps = |key: &str| if fields.raw(key).is_none() { is_capped } else { is_on(&[key]) };
    Computation {
        activation: first(ACTIVATION).as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
        hidden_dropout: is_on(HIDDEN_DROPOUT),
        attention_dropout: is_on(ATTENTION_DROPOUT),
        caps_logits: caps("final_logit_softcapping"),
        caps_scores: caps("attn_logit_softcapping"),
        text_type,
        // Phi-MoE's router takes its input times noise once more, and its own noise is a threshold; Mixtral's and MiniMax's is for inputs.
        noises: match fields.raw("input_jitter_noise") {
            Some(_) => 2 * u64::from(is_on(&["input_jitter_noise"])),
            None => u64::from(is_on(&["router_jitter_noise"])),
        },
        without_gradient: super::families::hrm_text::without_gradient(fields),
    }
}
