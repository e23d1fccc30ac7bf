//! Where models come from: the built-in catalogue at once, a pasted config at once, the Hub after a while. A new wish ends the
//! one before it; an answer that comes too late is dropped.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::hub::{self, HubError, ModelRef, RepoId};
use vramfit::link::ModelLink;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::{catalogue, config};
use web_sys::AbortController;

use super::browser::FetchTransport;
use super::state::{AppState, Failure, Load, Reading, Shown, sentence};
use super::url;

/// Models that were read and are kept for Back and Forward.
const KEPT: usize = 8;

/// Something to read from the Hub.
#[derive(Clone)]
struct Job {
    /// What it is called in messages.
    name: String,
    /// What to read.
    reference: ModelRef,
    /// Whether it becomes a step in the history.
    is_step: bool,
    /// Whether the catalogue will do when the Hub cannot be reached.
    may_fall_back: bool,
}

/// A model that was read, with the Hub that it came from.
struct Kept {
    endpoint: String,
    shown: Shown,
}

thread_local! {
    /// Counts wishes; an answer to an older one is dropped.
    static WISH: Cell<u64> = const { Cell::new(0) };
    /// Whether the user has changed the model box since a model was last taken from it.
    static EDITED: Cell<bool> = const { Cell::new(false) };
    static UNDER_WAY: RefCell<Option<AbortController>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<Job>> = const { RefCell::new(None) };
    static READ: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// The user types in the model box.
pub fn edit() {
    EDITED.set(true);
}

/// Whether something stands in the model box that nobody has taken yet.
pub fn is_edited() -> bool {
    EDITED.get()
}

/// Ends whatever is under way; the number of the new wish.
fn begin() -> u64 {
    if let Some(controller) = UNDER_WAY.take() {
        controller.abort();
    }
    WISH.set(WISH.get() + 1);
    WISH.get()
}

/// Takes what was typed or pasted: a config.json, an id, an address.
pub fn submit(state: AppState, text: &str) {
    EDITED.set(false);
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    if is_json(text) {
        begin();
        match pasted(text) {
            Ok(shown) => show(state, shown, true),
            Err(failure) => state.load.set(Load::Failed(failure)),
        }
        return;
    }
    match text.parse::<ModelRef>() {
        Ok(reference) => start(state, Job { name: reference.id.to_string(), reference, is_step: true, may_fall_back: true }),
        Err(error) => {
            begin();
            fail(state, &error);
        }
    }
}

/// Whether a text is a pasted config rather than a name.
pub fn is_json(text: &str) -> bool {
    text.starts_with(['{', '['])
}

/// Whether a text is certain enough to be a name that it need not be confirmed with Enter.
pub fn is_whole_name(text: &str) -> bool {
    is_json(text) || catalogue::find(text).is_some() || (text.contains('/') && text.parse::<ModelRef>().is_ok())
}

/// Takes a model of the catalogue.
pub fn choose(state: AppState, id: &str) {
    EDITED.set(false);
    begin();
    if let Some(shown) = built_in(id, String::new()) {
        show(state, shown, true);
    }
}

/// Reads the headers of the model that is shown.
pub fn read_headers(state: AppState) {
    let link = state.shown.with_untracked(|shown| shown.as_ref().map(|shown| shown.link.clone()));
    if let Some(ModelLink::Hub { id, revision }) = link
        && let Ok(repo) = RepoId::parse(&id)
    {
        start(state, Job { name: id, reference: reference(repo, revision), is_step: false, may_fall_back: false });
    }
}

/// Opens what a link names; the default model for a link without one.
pub fn open(state: AppState, link: Option<ModelLink>) {
    begin();
    EDITED.set(false);
    let (id, revision) = match link {
        None => {
            if let Some(shown) = built_in(catalogue::DEFAULT_MODEL, String::new()) {
                show(state, shown, false);
            }
            return;
        }
        Some(ModelLink::Config(text)) => {
            state.typed.set(text.clone());
            state.named.set(Some(ModelLink::Config(text.clone())));
            match pasted(&text) {
                Ok(shown) => show(state, shown, false),
                Err(failure) => state.load.set(Load::Failed(failure)),
            }
            return;
        }
        Some(ModelLink::Hub { id, revision }) => (id, revision),
    };
    state.typed.set(id.clone());
    state.named.set(Some(ModelLink::Hub { id: id.clone(), revision: revision.clone() }));
    if let Some(shown) = kept(state, &id, revision.as_deref()) {
        show(state, shown, false);
        return;
    }
    let mut may_fall_back = false;
    if revision.is_none()
        && let Some(shown) = built_in(&id, String::new())
    {
        show(state, shown, false);
        // A link that names its Hub means that Hub's model; the catalogue bridges the time until it answers.
        if state.endpoint.with_untracked(String::is_empty) {
            return;
        }
        may_fall_back = true;
    }
    match RepoId::parse(&id) {
        Ok(repo) => start(state, Job { name: id, reference: reference(repo, revision), is_step: false, may_fall_back }),
        Err(error) => fail(state, &error),
    }
}

/// Does the last thing again.
pub fn retry(state: AppState) {
    if let Some(job) = LAST.with_borrow(Clone::clone) {
        start(state, job);
    }
}

/// Tries again with an access token.
pub fn use_token(state: AppState, text: &str) {
    let Some(token) = clean_token(text) else {
        state.load.update(|load| {
            if let Load::Failed(failure) = load {
                "An access token has letters, digits and signs only, and no spaces.".clone_into(&mut failure.problem);
            }
        });
        return;
    };
    state.token.set(token);
    retry(state);
}

/// A token without the spaces around it; `None` for what cannot be one, and could not be sent.
pub fn clean_token(text: &str) -> Option<String> {
    let text = text.trim();
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| text.to_owned())
}

/// Breaks off the reading.
pub fn cancel(state: AppState) {
    begin();
    let has_answer = state.shown.with_untracked(Option::is_some);
    state.load.set(if has_answer { Load::Idle } else { failure(&HubError::Cancelled) });
}

fn start(state: AppState, job: Job) {
    let wish = begin();
    if let Some(own) = &job.reference.endpoint {
        // The address of another Hub was pasted.
        state.set_endpoint(own.as_str());
    }
    LAST.set(Some(job.clone()));
    let endpoint = match untrack(|| state.hub()) {
        Ok(endpoint) => endpoint,
        Err(error) => return fail(state, &error),
    };
    state.load.set(Load::Reading(Reading { name: job.name.clone(), progress: None }));
    let controller = AbortController::new().ok();
    let transport = FetchTransport { signal: controller.as_ref().map(AbortController::signal) };
    UNDER_WAY.set(controller);
    let token = Some(state.token.get_untracked()).filter(|token| !token.is_empty());
    spawn_local(async move {
        let progress = |now: hub::Progress| {
            if WISH.get() == wish {
                state.load.update(|load| {
                    if let Load::Reading(reading) = load {
                        reading.progress = Some(now);
                    }
                });
            }
        };
        let result = hub::open(&transport, &endpoint, &job.reference, token.as_deref(), &progress).await;
        if WISH.get() != wish {
            return;
        }
        UNDER_WAY.set(None);
        match result {
            Ok(model) => arrive(state, model, &job, endpoint.as_str()),
            Err(error) => miss(state, &error, &job),
        }
    });
}

/// A model came from the Hub.
fn arrive(state: AppState, model: Model, job: &Job, endpoint: &str) {
    let id = model.provenance.id.clone().unwrap_or_else(|| job.name.clone());
    let revision = model.provenance.revision.clone().or_else(|| job.reference.revision.clone());
    let shown = Shown { model: Arc::new(model), link: ModelLink::Hub { id, revision }, note: String::new() };
    READ.with_borrow_mut(|read| {
        read.retain(|kept| kept.endpoint != endpoint || kept.shown.link != shown.link);
        if read.len() >= KEPT {
            read.remove(0);
        }
        read.push(Kept { endpoint: endpoint.to_owned(), shown: shown.clone() });
    });
    show(state, shown, job.is_step);
}

/// No model came from the Hub.
fn miss(state: AppState, error: &HubError, job: &Job) {
    let cannot_reach = matches!(error, HubError::Offline { .. } | HubError::TimedOut);
    let note = "The Hub cannot be reached, so these are the built-in figures.".to_owned();
    if cannot_reach
        && job.may_fall_back
        && job.reference.revision.is_none()
        && let Some(shown) = built_in(job.reference.id.as_str(), note)
    {
        show(state, shown, job.is_step);
        return;
    }
    fail(state, error);
}

/// Puts a model on the page.
fn show(state: AppState, shown: Shown, is_step: bool) {
    let change = || {
        // Whoever goes on typing is not interrupted.
        if !EDITED.get() {
            state.typed.set(match &shown.link {
                ModelLink::Hub { id, .. } => id.clone(),
                ModelLink::Config(text) => text.clone(),
            });
        }
        state.load.set(Load::Idle);
        state.cursor.set(None);
        state.named.set(Some(shown.link.clone()));
        state.shown.set(Some(shown));
    };
    if is_step { url::step(state, change) } else { change() }
}

fn fail(state: AppState, error: &HubError) {
    state.load.set(failure(error));
}

fn failure(error: &HubError) -> Load {
    Load::Failed(Failure { problem: sentence(&error.to_string()), advice: error.advice(), may_retry: error.may_retry(), wants_token: error.wants_token() })
}

fn reference(id: RepoId, revision: Option<String>) -> ModelRef {
    ModelRef { id, revision, folder: None, file: None, endpoint: None }
}

/// The catalogue's model.
fn built_in(id: &str, note: String) -> Option<Shown> {
    let model = catalogue::open(id)?.ok()?;
    let id = model.provenance.id.clone()?;
    Some(Shown { model: Arc::new(model), link: ModelLink::Hub { id, revision: None }, note })
}

/// A model that was read before.
fn kept(state: AppState, id: &str, revision: Option<&str>) -> Option<Shown> {
    let endpoint = untrack(|| state.hub()).ok()?;
    READ.with_borrow(|read| {
        let found = read.iter().find(|kept| {
            let is_it = matches!(&kept.shown.link, ModelLink::Hub { id: known, revision: Some(commit) } if known == id && Some(commit.as_str()) == revision);
            is_it && kept.endpoint == endpoint.as_str()
        });
        found.map(|kept| kept.shown.clone())
    })
}

/// A pasted config.json.
fn pasted(text: &str) -> Result<Shown, Failure> {
    let anatomy = config::read(text).map_err(|error| Failure {
        problem: sentence(&error.to_string()),
        advice: "Paste the whole of the model's config.json.",
        may_retry: false,
        wants_token: false,
    })?;
    let provenance = Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() };
    // Without its spaces, so that the link stays short.
    let link = ModelLink::Config(config::json::compact(text));
    Ok(Shown { model: Arc::new(Model { anatomy, provenance }), link, note: String::new() })
}
