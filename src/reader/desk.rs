//! What the reader computes of a model: whatever the first module has no rules for.
//!
//! Scenarios come as the queries of links, which both modules read and write.

use std::sync::Arc;

use crate::catalogue;
use crate::chart;
use crate::estimate::Estimate;
use crate::format::{Unit, sentence};
use crate::hub::ModelRef;
use crate::link::Link;
use crate::markup;
use crate::memory::{self, EstimateError};
use crate::model::Model;
use crate::plan::{self, Sweep};
use crate::report;
use crate::scenario::{Scenario, Task};

/// The query that says a scenario.
pub fn query(scenario: &Scenario) -> String {
    Link { scenario: scenario.clone(), ..Link::default() }.encode()
}

/// Models that may draft tokens for another: those that were read last, and the built-in ones.
#[derive(Default)]
pub struct Drafts(Vec<Arc<Model>>);

impl Drafts {
    /// So many are kept.
    const MOST: usize = 8;

    /// Keeps a model that was read.
    pub fn keep(&mut self, model: &Model) {
        self.0.retain(|known| known.provenance.id != model.provenance.id);
        if self.0.len() >= Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Arc::new(model.clone()));
    }

    /// The model with a name: an id, or an address on the Hub.
    fn find(&self, name: &str) -> Option<Arc<Model>> {
        let id = name.parse::<ModelRef>().map_or_else(|_| name.to_owned(), |reference| reference.id.to_string());
        let read = self.0.iter().find(|model| model.provenance.id.as_deref() == Some(id.as_str())).cloned();
        read.or_else(|| catalogue::open(&id)?.ok().map(Arc::new))
    }
}

/// What a query asks of a model: with its draft model, without what the engine has not, and a sentence about each such setting.
fn asked(model: &Model, query: &str, drafts: &Drafts) -> (Scenario, Vec<String>) {
    let mut scenario = Link::decode(query).scenario;
    if let Some(draft) = &mut scenario.serving.draft {
        draft.model = drafts.find(&draft.name);
    }
    if scenario.task == Task::Serve { memory::set_aside(&scenario, model) } else { (scenario, Vec::new()) }
}

fn computed(model: &Model, query: &str, drafts: &Drafts) -> Result<(Scenario, Estimate), EstimateError> {
    let (scenario, said) = asked(model, query, drafts);
    let mut estimate = memory::estimate(model, &scenario)?;
    estimate.warnings.extend(said);
    Ok((scenario, estimate))
}

fn problem(error: impl std::fmt::Display) -> String {
    sentence(&error.to_string())
}

/// An answer that can be shown: whatever the page sums of it stays in range. Otherwise why there is none, as a sentence.
pub fn shown(said: Result<Estimate, EstimateError>) -> Result<Estimate, String> {
    let estimate = said.map_err(problem)?;
    estimate.worst().and_then(crate::estimate::Device::headroom).map_err(problem)?;
    Ok(estimate)
}

/// The estimate.
pub fn estimate(model: &Model, query: &str, drafts: &Drafts) -> Result<Estimate, String> {
    shown(computed(model, query, drafts).map(|(_, estimate)| estimate))
}

/// Memory against context.
pub fn sweep(model: &Model, query: &str, drafts: &Drafts) -> Result<Sweep, String> {
    plan::sweep(&|scenario| memory::estimate(model, scenario), model, &asked(model, query, drafts).0).map_err(problem)
}

/// What is held in each stage of a run, on the device that decides: a drawing of so many pixels, and the same in words.
pub fn timeline(model: &Model, query: &str, drafts: &Drafts, (unit, width): (Unit, u32)) -> Result<String, String> {
    let (_, estimate) = computed(model, query, drafts).map_err(problem)?;
    let device = estimate.worst().map_err(problem)?;
    let words = chart::stages_in_words(device, unit).map_err(problem)?.join("; ");
    let drawing = chart::stages(device, unit, width).map_err(problem)?.svg;
    let mut out = String::new();
    markup::weave(
        &mut out,
        &["<figure><figcaption>Over the stages of a step<span class='visually-hidden'>: ", &words, "</span></figcaption><div class='drawing'>"],
    );
    Ok([&out, &drawing, "</div></figure>"].concat())
}

/// The whole anatomy, as tables.
pub fn anatomy(model: &Model) -> Result<String, String> {
    super::anatomy::tables(&model.anatomy).map_err(problem)
}

/// The estimate as JSON, in the contract's shape.
pub fn report(model: &Model, query: &str, drafts: &Drafts) -> Result<String, String> {
    let (scenario, estimate) = computed(model, query, drafts).map_err(problem)?;
    let longest = plan::longest_context(model, &scenario).map_err(problem)?;
    report::estimate_json(model, &scenario, &estimate, longest).map(|report| format!("{report:#}")).map_err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Term;

    fn built_in(id: &str) -> Model {
        catalogue::open(id).unwrap().unwrap()
    }

    #[test]
    fn what_another_engine_left_is_set_aside_and_said() {
        let model = built_in("Qwen/Qwen3-8B");
        let said = |query: &str| estimate(&model, query, &Drafts::default()).unwrap();
        for (query, flag) in [
            ("rt=sglang&util=0.5", "SGLang has no --gpu-memory-utilization"),
            ("rt=llama.cpp&mns=4", "llama.cpp has no --max-num-seqs"),
            ("kv=q8_0", "vLLM has no --kv-cache q8_0"),
            ("rt=tgi&mns=4", "TGI has no --max-num-seqs"),
        ] {
            let kept = said(query);
            assert!(kept.warnings.iter().any(|warning| warning.starts_with(flag)), "{query}: {:?}", kept.warnings);
            let engine = query.split('&').find(|part| part.starts_with("rt=")).unwrap_or_default();
            assert_eq!(kept.devices, said(engine).devices, "{query}");
        }
        // An engine that has it uses it, and the link still has it.
        assert_ne!(said("util=0.5").devices, said("").devices);
        let (scenario, _) = asked(&model, "rt=sglang&util=0.5", &Drafts::default());
        assert_eq!(scenario.gpu_memory_utilization, None);
    }

    #[test]
    fn built_in_models_and_those_that_were_read_may_draft() {
        let model = built_in("Qwen/Qwen3-8B");
        let drafted = |name: &str, drafts: &Drafts| {
            let estimate = estimate(&model, &format!("draft={name}"), drafts)?;
            Ok::<_, String>(estimate.devices[0].entries.iter().find(|entry| entry.term == Term::DraftModel).unwrap().amount.expected)
        };
        let mut drafts = Drafts::default();
        let small = drafted("Qwen/Qwen3-0.6B", &drafts).unwrap();
        assert_eq!(drafted("https://huggingface.co/Qwen/Qwen3-0.6B", &drafts), Ok(small));
        assert!(drafted("someone/draft", &drafts).unwrap_err().contains("open it once"));
        let mut own = built_in("Qwen/Qwen3-0.6B");
        own.provenance.id = Some("someone/draft".to_owned());
        drafts.keep(&own);
        assert_eq!(drafted("someone/draft", &drafts), Ok(small));
    }
}
