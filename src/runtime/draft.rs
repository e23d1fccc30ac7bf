//! What drafts tokens that the model then checks: a smaller model beside it, or its own multi-token-prediction module.
//!
//! Read from vLLM 0.33 `config/speculative.py` (`draft_tensor_parallel_size` is the model's by default) and
//! `v1/worker/gpu_model_runner.py` (on the last pipeline stage; its layers' keys and values are in the same pool); SGLang 0.5.23
//! `model_executor/pool_configurator.py` (its layers count in the size of a token); transformers 5.23 `assistant_model`.

use super::{Choices, Chosen, EstimateError, MAX_COUNT};
use crate::formula::Source;
use crate::model::{Component, ComponentKind, Model};
use crate::scenario::{DraftModel, Scenario};

/// What drafts.
#[derive(Clone, Copy)]
pub enum Draft<'a> {
    /// A model of its own.
    Model(&'a Model),
    /// A module of the model.
    Predictor(&'a Component),
}

impl<'a> Draft<'a> {
    /// What the scenario asks for, and how many tokens it drafts at once; none without.
    pub(super) fn of(model: &'a Model, scenario: &'a Scenario, choices: &mut Choices) -> Result<(Option<Self>, Chosen), EstimateError> {
        let serving = &scenario.serving;
        let none = Chosen { value: 0, source: Source::Derived("nothing is drafted".into()) };
        let Some(drafting) = &serving.draft else {
            let Some(tokens) = serving.speculative_tokens else { return Ok((None, none)) };
            let tokens = choices.count("speculative_tokens", Some(tokens), 1, "one token", MAX_COUNT)?;
            let module = model.anatomy.components.iter().find(|part| part.kind == ComponentKind::TokenPredictor);
            let missing = || EstimateError::Unsupported("this model has no multi-token-prediction module to draft with: name a draft model".to_owned());
            return Ok((Some(Self::Predictor(module.ok_or_else(missing)?)), tokens));
        };
        choices.said("draft_model", drafting.name.clone(), None);
        let tokens = choices.count("speculative_tokens", serving.speculative_tokens, 1, "one token; engines want it said", MAX_COUNT)?;
        Ok((Some(Self::Model(read(drafting)?)), tokens))
    }

    /// Its layers.
    pub fn layers(self) -> &'a Component {
        match self {
            Self::Model(model) => model.decoder(),
            Self::Predictor(module) => module,
        }
    }
}

/// The draft model. One that is only named cannot be counted, and an answer without it would be too small.
pub(super) fn read(drafting: &DraftModel) -> Result<&Model, EstimateError> {
    let unread = || {
        let name = &drafting.name;
        EstimateError::Unsupported(format!(
            "the draft model {name} was not read, so it cannot be counted: leave it out, open it once as the model, or ask the command line"
        ))
    };
    drafting.model.as_deref().ok_or_else(unread)
}
