//! Where models come from: the first one is in the page itself, all others come from the reader, a module of its own that is
//! fetched when a model is first asked for. A new wish ends the one before it; an answer that comes too late is dropped.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use js_sys::Array;
use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::config::manual::is_manual;
use vramfit::link::ModelLink;
use vramfit::reader::{self, Answer, Failure, Found, Offer, Progress, What, Wish};
use wasm_bindgen::closure::Closure;
use web_sys::{AbortController, AbortSignal};

use super::state::{AppState, Load, Reading, Shown};
use super::url;

/// Models that were read and are kept for Back and Forward.
const KEPT: usize = 8;

/// Something to read.
#[derive(Clone)]
struct Job {
    /// What it is called in messages.
    name: String,
    /// What names it.
    what: What,
    /// Whether it becomes a step in the history.
    is_step: bool,
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
    /// What was picked or dropped last, for the reader.
    static GIVEN: RefCell<Array> = RefCell::new(Array::new());
    static LAST: RefCell<Option<Job>> = const { RefCell::new(None) };
    static READ: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
    /// The search that is under way.
    static SEARCH: RefCell<Option<AbortController>> = const { RefCell::new(None) };
    /// The ids of the built-in models, a line each; empty until the reader has said them.
    static BUILT_IN: Cell<&'static str> = const { Cell::new("") };
}

/// The user types in the model box.
pub fn edit() {
    EDITED.set(true);
}

/// Whether something stands in the model box that nobody has taken yet.
pub fn is_edited() -> bool {
    EDITED.get()
}

/// The ids of the built-in models, a line each; empty until [`ask_built_in`] has asked for them.
pub fn built_in() -> &'static str {
    BUILT_IN.get()
}

/// Asks the reader which models are built in. Without the reader there are none.
pub async fn ask_built_in() {
    let Some(reader) = super::reader::fetch().await else { return };
    if let (true, Ok(ids)) = (BUILT_IN.get().is_empty(), reader.models()) {
        BUILT_IN.set(ids.leak());
    }
}

/// Breaks off the search that is under way.
pub fn stop_search() {
    if let Some(controller) = SEARCH.take() {
        controller.abort();
    }
}

/// What the Hub has for a text that is being typed: a line of what is worth saying, then ids, a line each. `None` where another
/// search, or none, is wanted by now.
pub async fn search(state: AppState, text: &str) -> Option<String> {
    stop_search();
    let controller = AbortController::new().ok()?;
    let signal = controller.signal();
    SEARCH.set(Some(controller));
    let reader = super::reader::fetch().await?;
    let (endpoint, token) = (state.endpoint.get_untracked(), state.token.get_untracked());
    let lines = reader.search(text, &endpoint, &token, &signal).await.ok()?;
    lines.as_string().filter(|_| !signal.aborted())
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
    let job = if is_json(text) {
        Job { name: "the config".to_owned(), what: What::Config(text.to_owned()), is_step: true }
    } else if is_manual(text) {
        by_hand(text.to_owned(), true)
    } else {
        let what = What::Hub { text: text.to_owned(), revision: None, may_be_built_in: true };
        Job { name: if text.contains("://") { "that address" } else { text }.to_owned(), what, is_step: true }
    };
    start(state, job);
}

/// Whether a text is a pasted config rather than a name.
pub fn is_json(text: &str) -> bool {
    text.starts_with(['{', '['])
}

/// Whether a text is certain enough to be a name that it need not be confirmed with Enter.
pub fn is_whole_name(text: &str) -> bool {
    is_json(text) || (text.contains('/') && !text.contains(char::is_whitespace) && !text.ends_with('/'))
}

/// Takes the sizes of a model by hand.
pub fn take_by_hand(state: AppState, sizes: String) {
    EDITED.set(false);
    start(state, by_hand(sizes, true));
}

/// Takes a model of the catalogue.
pub fn choose(state: AppState, id: &str) {
    EDITED.set(false);
    start(state, named(id, true));
}

fn by_hand(sizes: String, is_step: bool) -> Job {
    Job { name: "the sizes".to_owned(), what: What::Manual(sizes), is_step }
}

fn named(id: &str, is_step: bool) -> Job {
    Job { name: id.to_owned(), what: What::Named(id.to_owned()), is_step }
}

/// Reads the headers of the model that is shown.
pub fn read_headers(state: AppState) {
    let link = state.shown.with_untracked(|shown| shown.as_ref().map(|shown| shown.link.clone()));
    if let Some(ModelLink::Hub { id, revision }) = link {
        start(state, Job { name: id.clone(), what: What::Hub { text: id, revision, may_be_built_in: false }, is_step: false });
    }
}

/// Opens what a link names; the first model for a link without one.
pub fn open(state: AppState, link: Option<ModelLink>) {
    begin();
    EDITED.set(false);
    let Some(link) = link else {
        if let Some(Answer { result: Ok(found), .. }) = reader::decode(reader::FIRST) {
            show(state, shown(found, reader::FIRST.into()), false);
        }
        return;
    };
    state.named.set(Some(link.clone()));
    let before = kept(state, &link);
    let (id, revision) = match link {
        ModelLink::Config(text) => {
            state.typed.set(text.clone());
            return start(state, Job { name: "the config".to_owned(), what: What::Config(text), is_step: false });
        }
        ModelLink::Manual(sizes) => {
            state.typed.set(sizes.clone());
            return start(state, by_hand(sizes, false));
        }
        ModelLink::Files(name) => {
            state.typed.set(name.clone());
            return match before {
                Some(shown) => show(state, shown, false),
                None => state.load.set(Load::Failed(Failure::new(
                    &["this link was made from a file that it does not hold: `", &name, "`"].concat(),
                    "Choose the file again with “Files…”.",
                ))),
            };
        }
        ModelLink::Hub { id, revision } => (id, revision),
    };
    state.typed.set(id.clone());
    if let Some(shown) = before {
        return show(state, shown, false);
    }
    // A link that names its Hub means that Hub's model, and so does one that names a revision.
    if revision.is_none() && state.endpoint.with_untracked(String::is_empty) {
        return start(state, named(&id, false));
    }
    let may_be_built_in = revision.is_none();
    start(state, Job { name: id.clone(), what: What::Hub { text: id, revision, may_be_built_in }, is_step: false });
}

/// Takes files and folders, as the browser hands them over.
pub fn pick(state: AppState, given: Array) {
    if given.length() > 0 {
        EDITED.set(false);
        GIVEN.set(given);
        start(state, Job { name: "the files".to_owned(), what: What::Files { chosen: None }, is_step: true });
    }
}

/// Takes one of the files that the last answer left to choose from.
pub fn take(state: AppState, index: usize) {
    let offer = state.load.with_untracked(|load| match load {
        Load::Failed(failure) => failure.files.get(index).cloned(),
        _ => None,
    });
    if let Some(Offer { file, what }) = offer {
        start(state, Job { name: file.path, what, is_step: true });
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
    state.load.set(if has_answer { Load::Idle } else { failed("The reading was cancelled.", "Try again.") });
}

fn failed(problem: &str, advice: &str) -> Load {
    Load::Failed(Failure { may_retry: true, ..Failure::new(problem, advice) })
}

fn start(state: AppState, job: Job) {
    let number = begin();
    LAST.set(Some(job.clone()));
    let Ok(controller) = AbortController::new() else { return };
    let signal = controller.signal();
    UNDER_WAY.set(Some(controller));
    // Who asks nobody is at the files at once.
    let progress = matches!(job.what, What::Files { .. }).then_some(Progress::default());
    state.load.set(Load::Reading(Reading { name: job.name.clone(), progress }));
    let asked = state.endpoint.get_untracked();
    let wish = Wish {
        what: job.what.clone(),
        endpoint: Some(asked.clone()).filter(|text| !text.is_empty()),
        token: Some(state.token.get_untracked()).filter(|token| !token.is_empty()),
    };
    spawn_local(async move {
        let answer = ask(state, number, &wish, &signal).await;
        if WISH.get() != number {
            return;
        }
        UNDER_WAY.set(None);
        let Some((Answer { endpoint, result }, bytes)) = answer else {
            // The browser fetches a module again only when the page is loaded again, hence the advice.
            return state
                .load
                .set(failed("The part of this page that reads models could not be fetched.", "Check the connection and try again, or reload the page."));
        };
        if let Some(own) = &endpoint {
            // The address of another Hub was pasted.
            state.set_endpoint(own);
        }
        match result {
            Ok(found) => arrive(state, shown(found, bytes), &job, endpoint.as_ref().unwrap_or(&asked)),
            Err(failure) => state.load.set(Load::Failed(failure)),
        }
    });
}

/// Asks the reader, whose answer comes with its bytes; `None` when it cannot be fetched or breaks off.
async fn ask(state: AppState, number: u64, wish: &Wish, signal: &AbortSignal) -> Option<(Answer, Arc<[u8]>)> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts far below 2^53
    let progress = Closure::<dyn Fn(f64, f64, f64, f64)>::new(move |files_done: f64, files: f64, bytes: f64, pause: f64| {
        if WISH.get() == number {
            state.load.update(|load| {
                if let Load::Reading(reading) = load {
                    let bytes = bytes as u64;
                    reading.progress = Some(Progress { files_done: files_done as u64, files: files as u64, bytes, bytes_total: None, pause: pause as u64 });
                }
            });
        }
    });
    let reader = super::reader::fetch().await?;
    let bytes = reader.read(reader::encode(wish), progress.as_ref(), signal, &GIVEN.with_borrow(Clone::clone)).await.ok()?;
    let bytes = js_sys::Uint8Array::from(bytes).to_vec();
    Some((reader::decode(&bytes)?, bytes.into()))
}

fn shown(found: Found, bytes: Arc<[u8]>) -> Shown {
    Shown { model: Arc::new(found.model), bytes, link: found.link, note: found.note }
}

/// A model was read.
fn arrive(state: AppState, shown: Shown, job: &Job, endpoint: &str) {
    READ.with_borrow_mut(|read| {
        read.retain(|kept| kept.endpoint != endpoint || kept.shown.link != shown.link);
        if read.len() >= KEPT {
            read.remove(0);
        }
        read.push(Kept { endpoint: endpoint.to_owned(), shown: shown.clone() });
    });
    show(state, shown, job.is_step);
}

/// Puts a model on the page.
fn show(state: AppState, shown: Shown, is_step: bool) {
    let change = || {
        // Whoever goes on typing is not interrupted.
        if !EDITED.get() {
            state.typed.set(match &shown.link {
                ModelLink::Hub { id, .. } => id.clone(),
                ModelLink::Config(text) | ModelLink::Manual(text) | ModelLink::Files(text) => text.clone(),
            });
        }
        state.load.set(Load::Idle);
        state.cursor.set(None);
        state.named.set(Some(shown.link.clone()));
        state.shown.set(Some(shown));
    };
    if is_step { url::step(state, change) } else { change() }
}

/// A model that was read before. A name without a revision may mean another one by now.
fn kept(state: AppState, link: &ModelLink) -> Option<Shown> {
    let endpoint = state.endpoint.get_untracked();
    if matches!(link, ModelLink::Hub { revision: None, .. }) {
        return None;
    }
    READ.with_borrow(|read| read.iter().find(|kept| kept.shown.link == *link && kept.endpoint == endpoint).map(|kept| kept.shown.clone()))
}
