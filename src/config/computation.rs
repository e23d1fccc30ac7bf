//! What a forward pass does between its matrices, from keys that all families share.

use serde_json::Value;

use super::Fields;
use crate::model::Computation;

const ACTIVATION: &[&str] = &["hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act", "feed_forward_proj", "afn"];
const HIDDEN_DROPOUT: &[&str] = &["resid_pdrop", "hidden_dropout_prob", "hidden_dropout", "resid_dropout", "residual_dropout", "dropout_rate", "dropout"];
const ATTENTION_DROPOUT: &[&str] = &["attn_pdrop", "attention_probs_dropout_prob", "attention_dropout", "attn_dropout_prob"];

/// Reads it from the language model's own config where there is one. A key that is absent is taken as off: published configs write
/// their dropouts out.
pub(super) fn read(outer: &Fields, text: Option<&Fields>) -> Computation {
    let fields = text.unwrap_or(outer);
    let first = |keys: &[&str]| keys.iter().find_map(|key| fields.raw(key)).cloned();
    let is_on = |keys: &[&str]| first(keys).and_then(|value| value.as_f64()).is_some_and(|number| number > 0.0);
    Computation {
        activation: first(ACTIVATION).as_ref().and_then(Value::as_str).map(str::to_owned),
        hidden_dropout: is_on(HIDDEN_DROPOUT),
        attention_dropout: is_on(ATTENTION_DROPOUT),
        caps_logits: is_on(&["final_logit_softcapping"]),
        caps_scores: is_on(&["attn_logit_softcapping"]),
    }
}
