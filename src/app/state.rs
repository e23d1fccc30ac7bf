//! What the page knows. The scenario and the model that is shown are what changes; the rest follows from them.

use std::sync::Arc;

use leptos::prelude::*;
use vramfit::estimate::Estimate;
use vramfit::format::Unit;
use vramfit::hub::{BadEndpoint, Endpoint};
use vramfit::link::{Link, ModelLink};
use vramfit::memory::{EstimateError, common_estimate, is_common};
use vramfit::model::Model;
use vramfit::plan::{self, Sweep};
use vramfit::reader::{Failure, Progress, desk};
use vramfit::scenario::{Scenario, Task};

use super::browser::{self, Later};
use super::dom;
use super::reader::{self, Fetched};

/// A model on the page, with what a link calls it.
#[derive(Clone)]
pub struct Shown {
    /// The model.
    pub model: Arc<Model>,
    /// The reader's answer that it came in.
    pub bytes: Arc<[u8]>,
    /// As a link names it.
    pub link: ModelLink,
    /// What is worth saying about how it came here; empty for nothing.
    pub note: String,
}

/// The reading of a model.
#[derive(Clone, PartialEq)]
pub enum Load {
    /// Nothing is under way.
    Idle,
    /// Headers are being read.
    Reading(Reading),
    /// It came to nothing.
    Failed(Failure),
}

/// A model that is being read.
#[derive(Clone, PartialEq)]
pub struct Reading {
    /// What it was called.
    pub name: String,
    /// How far it is, once the files are known.
    pub progress: Option<Progress>,
}

/// What the engine says.
#[derive(Clone)]
pub enum Answer {
    /// There is no model.
    Nothing,
    /// The rules are in the page's second module, which is on its way.
    Waiting,
    /// An estimate.
    Estimate(Arc<Estimate>),
    /// The combination cannot be, and why.
    Impossible(String),
}

/// Widths of the drawings in CSS pixels; 0 before they are known.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Widths {
    /// Of the bars.
    pub bars: u32,
    /// Of the curve.
    pub curve: u32,
    /// Of the strip of layers.
    pub layers: u32,
}

impl Widths {
    /// Reads them off the page.
    pub fn measure() -> Self {
        Self { bars: browser::width_of("bars"), curve: browser::width_of("curve-plot"), layers: browser::width_of("layers-strip") }
    }
}

/// Everything there is; it lives as long as the page.
pub type AppState = &'static State;

/// What the page holds.
pub struct State {
    /// What the user chose.
    pub scenario: ArcRwSignal<Scenario>,
    /// The same but for the length, which a slider moves: most of what is chosen does not change with it.
    pub setting: ArcMemo<Scenario>,
    /// The unit in which sizes are shown.
    pub unit: ArcRwSignal<Unit>,
    /// The last model that could be read.
    pub shown: ArcRwSignal<Option<Shown>>,
    /// The model as the address names it: the shown one, or one that is still to come.
    pub named: ArcRwSignal<Option<ModelLink>>,
    /// The reading of a model.
    pub load: ArcRwSignal<Load>,
    /// What stands in the model box.
    pub typed: ArcRwSignal<String>,
    /// The Hub's address as typed; empty for the default.
    pub endpoint: ArcRwSignal<String>,
    /// The access token: here and nowhere else.
    pub token: ArcRwSignal<String>,
    /// Keys of the link that are not known.
    pub unknown: ArcRwSignal<Vec<(String, String)>>,
    /// What could not be read in the link.
    pub notices: ArcRwSignal<Vec<String>>,
    /// One sentence about what just happened.
    pub said: ArcRwSignal<String>,
    /// Widths of the drawings.
    pub widths: ArcRwSignal<Widths>,
    /// Memory against context; follows the choices after a pause.
    pub swept: ArcRwSignal<Option<Arc<Sweep>>>,
    /// How far the page's second module is.
    pub reader: ArcRwSignal<Fetched>,
    /// Where the crosshair of the curve is, when it is not at the chosen context.
    pub cursor: ArcRwSignal<Option<u64>>,
    /// What the engine says.
    pub answer: ArcMemo<Answer>,
    /// The estimate; while another is on its way, the one before.
    pub last: ArcMemo<Option<Arc<Estimate>>>,
    /// The query of the link.
    pub link: ArcMemo<String>,
}

impl State {
    /// An empty page.
    pub fn new() -> AppState {
        let scenario = ArcRwSignal::new(Scenario::default());
        let setting = {
            let scenario = scenario.clone();
            ArcMemo::new(move |_| {
                let mut scenario = scenario.get();
                *scenario.length_mut() = None;
                scenario
            })
        };
        let shown = ArcRwSignal::new(None::<Shown>);
        let named = ArcRwSignal::new(None);
        let endpoint = ArcRwSignal::new(String::new());
        let unknown = ArcRwSignal::new(Vec::new());
        let reader = reader::fetched();
        let answer = {
            let (scenario, shown, reader) = (scenario.clone(), shown.clone(), reader.clone());
            // Whatever changes in what it reads is worth a new answer.
            let said = move |_: Option<&Answer>| {
                shown.with(|shown| shown.as_ref().map_or(Answer::Nothing, |shown| scenario.with(|scenario| answer(shown, scenario, || reader.get()))))
            };
            ArcMemo::new_with_compare(said, |_, _| true)
        };
        let last = {
            let answer = answer.clone();
            ArcMemo::new_with_compare(
                move |before: Option<&Option<Arc<Estimate>>>| {
                    answer.with(|answer| match answer {
                        Answer::Estimate(estimate) => Some(estimate.clone()),
                        Answer::Waiting => before.cloned().flatten(),
                        Answer::Nothing | Answer::Impossible(_) => None,
                    })
                },
                |_, _| true,
            )
        };
        let link = {
            let (endpoint, named, scenario, unknown) = (endpoint.clone(), named.clone(), scenario.clone(), unknown.clone());
            ArcMemo::new(move |_| {
                let endpoint = Some(endpoint.get()).filter(|text| !text.is_empty());
                Link { model: named.get(), endpoint, scenario: scenario.get(), unknown: unknown.get(), problems: Vec::new() }.encode()
            })
        };
        Box::leak(Box::new(Self {
            scenario,
            setting,
            unit: ArcRwSignal::new(Unit::default()),
            shown,
            named,
            load: ArcRwSignal::new(Load::Idle),
            typed: ArcRwSignal::new(String::new()),
            endpoint,
            token: ArcRwSignal::new(String::new()),
            unknown,
            notices: ArcRwSignal::new(Vec::new()),
            said: ArcRwSignal::new(String::new()),
            widths: ArcRwSignal::new(Widths::default()),
            swept: ArcRwSignal::new(None),
            reader,
            cursor: ArcRwSignal::new(None),
            answer,
            last,
            link,
        }))
    }

    /// Whether the model is trained.
    pub fn is_training(&self) -> bool {
        self.scenario.with(|scenario| scenario.task == Task::Train)
    }

    /// Changes what the user chose.
    pub fn choose(&self, change: impl FnOnce(&mut Scenario)) {
        self.scenario.update(change);
    }

    /// The Hub to ask.
    pub fn hub(&self) -> Result<Endpoint, BadEndpoint> {
        self.endpoint.with(|text| if text.is_empty() { Ok(Endpoint::default()) } else { Endpoint::parse(text) })
    }

    /// Another Hub. A token is for the one it was typed for, so it is forgotten.
    pub fn set_endpoint(&self, text: &str) {
        let text = if Endpoint::parse(text).is_ok_and(|endpoint| endpoint == Endpoint::default()) { "" } else { text.trim() };
        if self.endpoint.with_untracked(|endpoint| endpoint != text) {
            self.endpoint.set(text.to_owned());
            self.token.set(String::new());
        }
    }

    /// Something of the estimate; `None` when there is none or a sum of it does not fit.
    pub fn of_estimate<T, E>(&self, read: impl FnOnce(&Estimate) -> Result<T, E>) -> Option<T> {
        self.answer.with(|answer| match answer {
            Answer::Estimate(estimate) => read(estimate).ok(),
            _ => None,
        })
    }

    /// Where the curve and the context slider end.
    pub fn context_end(&self) -> u64 {
        self.shown.with(|shown| shown.as_ref().map_or(1 << 17, |shown| plan::curve_end(&shown.model)))
    }

    /// Tokens of a request or of a sequence to train on, as chosen or as the last estimate used them.
    pub fn length(&self) -> u64 {
        let (chosen, key) = self.scenario.with(|scenario| (scenario.length(), if scenario.task == Task::Train { "seq_len" } else { "context" }));
        chosen.unwrap_or_else(|| self.used_count(key))
    }

    /// Requests at once, or sequences of a micro-batch.
    pub fn count(&self) -> u64 {
        let (chosen, key) = self.scenario.with(|scenario| (scenario.count(), if scenario.task == Task::Train { "micro_batch" } else { "batch" }));
        chosen.unwrap_or_else(|| self.used_count(key))
    }

    /// A setting as the last estimate used it; `None` before there is one.
    pub fn used(&self, key: &str) -> Option<String> {
        self.last.with(|last| last.as_ref()?.choices.iter().find(|choice| choice.key == key).map(|choice| choice.value.clone()))
    }

    /// A count as the last estimate used it; 0 before there is one.
    pub fn used_count(&self, key: &str) -> u64 {
        self.used(key).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// What the engine says about a scenario: this module's part of it, else the reader's, once that is here.
pub fn answer(shown: &Shown, scenario: &Scenario, reader: impl FnOnce() -> Fetched) -> Answer {
    let said = match (common_estimate(&shown.model, scenario), reader) {
        (Some(said), _) => desk::shown(said),
        (None, reader) => match reader() {
            Fetched::Here => reader::estimate(&shown.bytes, &desk::query(scenario)),
            Fetched::NotYet => return Answer::Waiting,
            Fetched::Failed => Err(UNFETCHED.to_owned()),
        },
    };
    match said {
        Ok(estimate) => Answer::Estimate(Arc::new(estimate)),
        Err(problem) => Answer::Impossible(problem),
    }
}

const UNFETCHED: &str = "The part of this page that has the rules for this could not be fetched. Check the connection and reload the page.";

/// Keeps the sweep over contexts up to date, each time after a pause: the page is drawn and a slider moves without it.
pub fn follow(state: AppState) {
    dom::follow(move || {
        if state.answer.with(|answer| matches!(answer, Answer::Waiting)) {
            reader::prepare();
        }
    });
    let later = Later::default();
    dom::follow(move || {
        // It chooses its own contexts.
        let (scenario, shown) = (state.setting.get(), state.shown.get());
        if shown.as_ref().is_some_and(|shown| !is_common(&shown.model, &scenario)) {
            state.reader.track();
        }
        let sweep = move || state.swept.set(shown.and_then(|shown| swept(&shown, &scenario)).map(Arc::new));
        later.run(100, Box::new(sweep));
    });
}

fn swept(shown: &Shown, scenario: &Scenario) -> Option<Sweep> {
    let own = |scenario: &Scenario| common_estimate(&shown.model, scenario).unwrap_or_else(|| Err(EstimateError::Unsupported(String::new())));
    if is_common(&shown.model, scenario) { plan::sweep(&own, &shown.model, scenario).ok() } else { reader::sweep(&shown.bytes, &desk::query(scenario)).ok() }
}

/// Drawings follow the width of the page.
pub fn measure(state: AppState) {
    let widths = Widths::measure();
    if state.widths.get_untracked() != widths {
        state.widths.set(widths);
    }
}
