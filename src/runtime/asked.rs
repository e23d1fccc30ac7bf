//! What was asked of an engine that counts by layers and memories instead of equal ranks, with every default filled in.

use super::setup::{beyond_maximum, default_context, stored_dtype};
use super::{Choices, Chosen, EstimateError, MAX_COUNT};
use crate::encoding::Encoding;
use crate::gpu::Card;
use crate::model::Model;
use crate::scenario::{Scenario, Weights};

/// A scenario with the defaults of such an engine.
pub(super) struct Asked<'a> {
    /// The model.
    pub model: &'a Model,
    /// What was asked.
    pub scenario: &'a Scenario,
    /// Tokens per request.
    pub context: Chosen,
    /// Requests at once.
    pub batch: Chosen,
    /// The format of the weights; what "as stored" means where neither files nor config say it.
    pub weights: Weights,
    /// The dtype of what is not quantised.
    pub dtype: Encoding,
    /// The encoding of keys and values.
    pub kv_encoding: Encoding,
    /// Every setting as used.
    pub choices: Choices,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

impl<'a> Asked<'a> {
    /// Fills in what every such engine has. `context` is the engine's default with its rule; `kv` the encoding of keys and values
    /// unless told otherwise, where that is not the model's dtype.
    pub(super) fn new(
        model: &'a Model,
        scenario: &'a Scenario,
        cards: &[Card],
        context: (u64, &'static str),
        kv: Option<(Encoding, &'static str)>,
    ) -> Result<Self, EstimateError> {
        let label = super::label(scenario.runtime);
        let mut choices = Choices::default();
        choices.said("runtime", label.to_owned(), None);
        let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
        choices.said("gpu", names.join(", "), scenario.gpu.is_none().then(|| "none was named".to_owned()));
        let (tokens, rule) = default_context(model, context);
        let context = choices.count("context", scenario.context, tokens, rule, MAX_COUNT)?;
        let batch = choices.count("batch", scenario.batch, 1, "one request at a time", MAX_COUNT)?;
        let (stored, _, mut assumptions) = stored_dtype(model);
        let (weights, reason) = crate::weights::meant(model, scenario.weights);
        let dtype = weights.encoding().unwrap_or(stored);
        choices.said("weights", weights.name().into_owned(), reason);
        let (default, rule) = kv.unwrap_or((dtype, "the dtype of the model"));
        let kv_encoding = scenario.kv_cache.encoding().unwrap_or(default);
        choices.said("kv_cache", kv_encoding.to_string(), scenario.kv_cache.encoding().is_none().then(|| rule.to_owned()));
        assumptions.extend(beyond_maximum(model, context.value));
        let mut notes: Vec<&String> = cards.iter().flat_map(|card| &card.notes).collect();
        notes.dedup();
        assumptions.extend(notes.into_iter().cloned());
        Ok(Self { model, scenario, context, batch, weights, dtype, kv_encoding, choices, assumptions })
    }
}
