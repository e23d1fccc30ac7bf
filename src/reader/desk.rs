//! What the reader computes of a model: whatever the first module has no rules for.
//!
//! Scenarios come as the queries of links, which both modules read and write.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Found, What, answer};
use crate::catalogue;
use crate::chart;
use crate::estimate::Estimate;
use crate::format::{Unit, sentence};
use crate::hub::ModelRef;
use crate::link::{Link, ModelLink};
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
pub struct Drafts(Vec<Known>);

/// A model that was read.
struct Known {
    /// What it is on the Hub: as it was read, and as it was asked for.
    names: Vec<ModelRef>,
    /// The file or folder of one's own that it is.
    own: Option<String>,
    model: Arc<Model>,
}

impl Drafts {
    /// So many are kept.
    const MOST: usize = 8;

    /// Keeps a model that was read, where it has a name to be found by.
    pub fn keep(&mut self, asked: &What, found: &Found) {
        let asked = match asked {
            What::Hub { text, revision, .. } => answer::reference(text, revision.as_ref()).ok(),
            What::Named(id) => answer::reference(id, None).ok(),
            What::Config(_) | What::Manual(_) | What::Files { .. } => None,
        };
        let (read, own) = match &found.link {
            ModelLink::Hub { id, revision } => (answer::reference(id, revision.as_ref()).ok(), None),
            _ => (None, found.model.provenance.id.clone()),
        };
        let names: Vec<ModelRef> = read.into_iter().chain(asked).collect();
        if names.is_empty() && own.is_none() {
            return;
        }
        self.0.retain(|known| known.own != own || known.names.first() != names.first());
        if self.0.len() >= Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Known { names, own, model: Arc::new(found.model.clone()) });
    }

    /// The model with a name: an id, or an address on the Hub. A revision, a folder, a file or a recipe that it names must be what was read; of
    /// several revisions the one that was read last counts where it names none.
    fn find(&self, name: &str) -> Option<Arc<Model>> {
        let wanted = name.parse::<ModelRef>().ok();
        let is_wanted = |known: &ModelRef| {
            wanted.as_ref().is_some_and(|wanted| wanted.is_same_part(known) && (wanted.revision.is_none() || known.revision == wanted.revision))
        };
        let read = self.0.iter().rev().find(|known| known.own.as_deref() == Some(name) || known.names.iter().any(is_wanted));
        read.map(|known| known.model.clone()).or_else(|| {
            let plain = wanted.as_ref().filter(|wanted| wanted.is_plain())?;
            catalogue::open(plain.id.as_str())?.ok().map(Arc::new)
        })
    }
}

/// What a query asks of a model: with its draft model, without what the engine has not, and a sentence about each such setting.
fn asked(model: &Model, query: &str, drafts: &Drafts) -> (Scenario, Vec<String>) {
    let mut scenario = Link::decode(query).scenario;
    let mut said = Vec::new();
    // A name that is no card's is refused where the estimate is made.
    if let Ok((Cow::Owned(named), taken)) = scenario.with_table_gpus() {
        (scenario, said) = (named, taken);
    }
    if let Some(draft) = &mut scenario.serving.draft {
        draft.model = drafts.find(&draft.name);
    }
    if scenario.task == Task::Train {
        return (scenario, said);
    }
    let (scenario, aside) = memory::set_aside(&scenario, model);
    said.extend(aside);
    (scenario, said)
}

fn computed(model: &Model, query: &str, drafts: &Drafts) -> Result<(Scenario, Estimate), EstimateError> {
    let (scenario, said) = asked(model, query, drafts);
    let mut estimate = memory::estimate(model, &scenario)?;
    estimate.warnings.extend(said);
    Ok((scenario, estimate))
}

/// The answer that was given last: what is drawn of it is not computed again.
#[derive(Default)]
pub struct Last(Option<(String, Estimate)>);

impl Last {
    /// Forgets it, as another model is asked of or a draft model was read.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// The answer to a query, and that it is the last one.
    fn of(&mut self, model: &Model, query: &str, drafts: &Drafts) -> Result<&Estimate, EstimateError> {
        let known = self.0.take().filter(|(asked, _)| asked == query);
        let answer = match known {
            Some(known) => known,
            None => (query.to_owned(), computed(model, query, drafts)?.1),
        };
        Ok(&self.0.insert(answer).1)
    }
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
pub fn estimate(model: &Model, query: &str, drafts: &Drafts, last: &mut Last) -> Result<Estimate, String> {
    shown(last.of(model, query, drafts).cloned())
}

/// Memory against context.
pub fn sweep(model: &Model, query: &str, drafts: &Drafts) -> Result<Sweep, String> {
    plan::sweep(&|scenario| memory::estimate(model, scenario), model, &asked(model, query, drafts).0).map_err(problem)
}

/// What is held in each stage of a run, on the device that decides: a drawing of so many pixels, and the same in words.
pub fn timeline(model: &Model, query: &str, drafts: &Drafts, last: &mut Last, (unit, width): (Unit, u32)) -> Result<String, String> {
    let estimate = last.of(model, query, drafts).map_err(problem)?;
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
        let said = |query: &str| estimate(&model, query, &Drafts::default(), &mut Last::default()).unwrap();
        for (query, opening) in [
            ("rt=sglang&util=0.5", "SGLang does not have this: a share of the card"),
            ("rt=llama.cpp&mns=4", "llama.cpp does not have this: a limit of sequences per step"),
            ("kv=q8_0", "vLLM does not have this: keys and values in ggml's blocks"),
            ("rt=tgi&mns=4", "TGI does not have this: a limit of sequences per step"),
        ] {
            let kept = said(query);
            assert!(kept.warnings.iter().any(|warning| warning.starts_with(opening)), "{query}: {:?}", kept.warnings);
            let engine = query.split('&').find(|part| part.starts_with("rt=")).unwrap_or_default();
            assert_eq!(kept.devices, said(engine).devices, "{query}");
        }
        // An engine that has it uses it, and the link still has it.
        assert_ne!(said("util=0.5").devices, said("").devices);
        let (scenario, _) = asked(&model, "rt=sglang&util=0.5", &Drafts::default());
        assert_eq!(scenario.gpu_memory_utilization, None);
    }

    #[test]
    fn a_link_takes_every_name_of_a_gpu() {
        let model = built_in("Qwen/Qwen3-8B");
        let said = |query: &str| estimate(&model, query, &Drafts::default(), &mut Last::default());
        for (name, card, open) in [("H200", "H200 SXM", false), ("NVIDIA+A100-SXM4-80GB", "A100 80GB SXM", false), ("rtx3060", "GeForce RTX 3060 12GB", true)] {
            let query = format!("gpu={name}");
            let answer = said(&query).unwrap();
            assert_eq!(answer.devices[0].gpu, card);
            assert_eq!(answer.warnings.iter().any(|warning| warning.contains("says no size")), open, "{:?}", answer.warnings);
            assert_eq!(asked(&model, &query, &Drafts::default()).0.gpu.as_deref(), Some(card));
            // The first module leaves such names to this one.
            let scenario = Link::decode(&query).scenario;
            assert!(!memory::is_common(&model, &scenario) && memory::is_common(&model, &scenario.with_table_gpus().unwrap().0));
        }
        assert!(said("gpu=Apple+T4").unwrap_err().contains("by NVIDIA"));
        assert!(said("gpu=H100").unwrap_err().contains("several"));
    }

    #[test]
    fn what_is_drawn_is_what_was_answered() {
        let (model, other, drafts) = (built_in("Qwen/Qwen3-8B"), built_in("Qwen/Qwen3-0.6B"), Drafts::default());
        let mut last = Last::default();
        let drawn = |model: &Model, last: &mut Last, query: &str| timeline(model, query, &drafts, last, (Unit::Gib, 640)).unwrap();
        let answer = estimate(&model, "task=train", &drafts, &mut last).unwrap();
        let drawing = drawn(&model, &mut last, "task=train");
        assert_eq!(last.0, Some(("task=train".to_owned(), answer)));
        // Another query is computed anew; of another model only what was not kept.
        assert_ne!(drawn(&model, &mut last, "task=train&mb=4"), drawing);
        assert_eq!(drawn(&other, &mut last, "task=train&mb=4"), drawn(&model, &mut Last::default(), "task=train&mb=4"));
        last.forget();
        assert_ne!(drawn(&other, &mut last, "task=train&mb=4"), drawn(&model, &mut Last::default(), "task=train&mb=4"));
    }

    #[test]
    fn built_in_models_and_those_that_were_read_may_draft() {
        let model = built_in("Qwen/Qwen3-8B");
        let drafted = |name: &str, drafts: &Drafts| {
            let estimate = estimate(&model, &format!("draft={name}"), drafts, &mut Last::default())?;
            Ok::<_, String>(estimate.devices[0].entries.iter().find(|entry| entry.term == Term::DraftModel).unwrap().amount.expected)
        };
        let mut drafts = Drafts::default();
        let small = drafted("Qwen/Qwen3-0.6B", &drafts).unwrap();
        assert_eq!(drafted("https://huggingface.co/Qwen/Qwen3-0.6B", &drafts), Ok(small));
        assert!(drafted("someone/draft", &drafts).unwrap_err().contains("open it once"));
        assert!(drafted("Qwen/Qwen3-0.6B@v2", &drafts).is_err(), "a revision is not what the catalogue has");
        drafts.keep(&What::Named("someone/draft".to_owned()), &on_hub("Qwen/Qwen3-0.6B", "someone/draft", None));
        assert_eq!(drafted("someone/draft", &drafts), Ok(small));
    }

    /// A built-in model as if it were read of the Hub.
    fn on_hub(model: &str, id: &str, revision: Option<&str>) -> Found {
        let link = ModelLink::Hub { id: id.to_owned(), revision: revision.map(str::to_owned) };
        Found { model: built_in(model), link, note: String::new() }
    }

    #[test]
    fn a_draft_is_of_the_revision_and_file_that_its_name_says() {
        let asked = |text: &str| What::Hub { text: text.to_owned(), revision: None, may_be_built_in: true };
        let kind = |drafts: &Drafts, name: &str| drafts.find(name).map(|model| model.provenance.id.clone().unwrap_or_default());
        let (small, large) = (Some("Qwen/Qwen3-0.6B".to_owned()), Some("Qwen/Qwen3-8B".to_owned()));
        let mut drafts = Drafts::default();
        drafts.keep(&asked("org/name@v2"), &on_hub("Qwen/Qwen3-0.6B", "org/name", Some("aaa")));
        drafts.keep(&asked("org/name"), &on_hub("Qwen/Qwen3-8B", "org/name", Some("bbb")));
        assert_eq!(
            ["org/name@v2", "org/name@aaa", "org/name@bbb", "org/name"].map(|name| kind(&drafts, name)),
            [&small, &small, &large, &large].map(Clone::clone)
        );
        for name in ["org/name@v3", "hf://org/name/a.gguf", "https://huggingface.co/org/name/tree/bbb/folder", "org/other"] {
            assert_eq!(kind(&drafts, name), None, "{name}");
        }
        // A file that was chosen is another model than the repository.
        drafts.keep(&asked("hf://org/name/a.gguf"), &on_hub("Qwen/Qwen3-0.6B", "hf://org/name/a.gguf", Some("bbb")));
        assert_eq!(
            ["hf://org/name/a.gguf", "hf://org/name@bbb/a.gguf", "org/name"].map(|name| kind(&drafts, name)),
            [&small, &small, &large].map(Clone::clone)
        );
        // So is a recipe, which is found in either case of its letters and as the file that it is.
        drafts.keep(&asked("org/name:Q4_K_M"), &on_hub("Qwen/Qwen3-0.6B", "hf://org/name/q4.gguf", Some("bbb")));
        assert_eq!(
            ["org/name:q4_k_m", "hf://org/name/q4.gguf", "org/name", "org/name:Q8_0"].map(|name| kind(&drafts, name)),
            [small.clone(), small.clone(), large.clone(), None]
        );
        assert_eq!(kind(&drafts, "Qwen/Qwen3-8B:Q8_0"), None, "the built-in model is no GGUF file");
        // What has no name pushes nothing out.
        let mut pasted = on_hub("Qwen/Qwen3-8B", "", None);
        (pasted.link, pasted.model.provenance.id) = (ModelLink::Config(String::new()), None);
        for _ in 0..=Drafts::MOST {
            drafts.keep(&What::Config(String::new()), &pasted);
        }
        assert_eq!(kind(&drafts, "org/name@v2"), small);
        // One's own file is found by its name.
        pasted.model.provenance.id = Some("my draft.gguf".to_owned());
        drafts.keep(&What::Files { chosen: None }, &pasted);
        assert!(drafts.find("my draft.gguf").is_some());
    }
}
