//! A draft model (`--model-draft`): a second model with caches and buffers of its own, on the same devices.
//!
//! Read from llama.cpp: `common/speculative.cpp`, `tools/server/server-context.cpp` (its context is as long as the model's, all of its
//! layers on the GPUs unless told otherwise).

use crate::estimate::{Entry, Estimate, Term};
use crate::runtime::{Choices, EstimateError, draft};
use crate::scenario::{LlamaCpp, Scenario, Serving, Weights};

/// What the draft model takes, as if it ran alone; nothing without one.
pub(super) struct Drafting(Option<Estimate>);

impl Drafting {
    /// `context` is the model's.
    pub(super) fn new(scenario: &Scenario, context: u64, choices: &mut Choices) -> Result<Self, EstimateError> {
        let Some(drafting) = &scenario.serving.draft else {
            return match scenario.serving.speculative_tokens {
                Some(_) => Err(EstimateError::Unsupported("llama.cpp drafts with a second model here: name one, or leave the drafted tokens out".to_owned())),
                None => Ok(Self(None)),
            };
        };
        choices.said("draft_model", drafting.name.clone(), None);
        let model = draft::read(drafting)?;
        let flags = &scenario.llama_cpp;
        let llama_cpp = LlamaCpp {
            tensor_split: flags.tensor_split.clone(),
            ubatch: flags.ubatch,
            flash_attention: flags.flash_attention,
            parallel: flags.parallel,
            no_kv_offload: flags.no_kv_offload,
            ..LlamaCpp::default()
        };
        let alone = Scenario { weights: Weights::AsStored, llama_cpp, serving: Serving::default(), context: Some(context), ..scenario.clone() };
        super::estimate(model, &alone).map(|answer| Self(Some(answer)))
    }

    /// What is on a device.
    pub(super) fn add_to(&self, number: usize, entries: &mut Vec<Entry>) {
        let number = number as u64;
        let device = self.0.iter().flat_map(|answer| &answer.devices).find(|device| device.ranks.contains(&number));
        entries.extend(device.into_iter().flat_map(|device| of_draft(&device.entries)));
    }

    /// What is on the host.
    pub(super) fn add_to_host(&self, entries: &mut Vec<Entry>) {
        entries.extend(self.0.iter().filter_map(|answer| answer.host.as_ref()).flat_map(|host| of_draft(&host.entries)));
    }
}

/// The same as the draft's; there is one context for both.
fn of_draft(entries: &[Entry]) -> impl Iterator<Item = Entry> {
    entries.iter().filter(|entry| entry.term != Term::RuntimeContext).map(|entry| Entry { term: Term::DraftModel, ..entry.clone() })
}
