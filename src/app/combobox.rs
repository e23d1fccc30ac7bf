//! The list under the model box: built-in models at once, the Hub's after a pause in typing.

use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::catalogue;
use wasm_bindgen::JsCast;
use web_sys::{Event, HtmlInputElement};

use super::browser::Later;
use super::state::AppState;
use super::{dom, load};

/// The element that one types in.
const BOX: &str = "model";

/// Milliseconds without a key before the Hub is asked.
const PAUSE: u32 = 250;

thread_local! {
    static LATER: Later = Later::default();
}

/// The list of suggestions.
#[derive(Default)]
struct List {
    is_open: bool,
    /// The option that the arrow keys are at.
    active: Option<usize>,
    /// Built-in models.
    found: Vec<&'static str>,
    /// Models on the Hub that are not among those.
    hub: Vec<String>,
    /// What is worth saying about the search on the Hub.
    note: String,
}

impl List {
    /// With what was typed since it was opened; with everything before that.
    fn find(&mut self, query: &str) {
        // No id is in a pasted config.
        let query = if load::is_json(query.trim()) { "{" } else { query };
        self.found = catalogue::search(load::built_in(), query);
        // What the Hub said to the text before stays where it is an answer to this one too.
        let hub = if query.is_empty() { String::new() } else { self.hub.join("\n") };
        self.take(&["\n", &catalogue::search(&hub, query).join("\n")].concat());
    }

    /// Takes what the Hub has: what is worth saying in the first line, then ids.
    fn take(&mut self, lines: &str) {
        let mut lines = lines.lines();
        lines.next().unwrap_or_default().clone_into(&mut self.note);
        let is_new = |id: &&str| !id.is_empty() && self.found.iter().all(|known| !known.eq_ignore_ascii_case(id));
        self.hub = lines.filter(is_new).map(str::to_owned).collect();
    }

    fn close(&mut self) {
        self.is_open = false;
        self.active = None;
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.found.iter().copied().chain(self.hub.iter().map(String::as_str))
    }

    /// One option down or up; the text itself lies between the last and the first.
    fn walk(&mut self, is_down: bool) {
        let count = self.options().count();
        self.is_open = true;
        if count == 0 {
            return;
        }
        self.active = match (self.active, is_down) {
            (None, true) => Some(0),
            (None, false) => Some(count - 1),
            (Some(at), true) => Some(at + 1).filter(|at| *at < count),
            (Some(at), false) => at.checked_sub(1),
        };
    }

    /// What Enter takes.
    fn picked(&self) -> Option<String> {
        self.options().nth(self.active.filter(|_| self.is_open)?).map(str::to_owned)
    }

    /// Puts it on the page.
    fn show(&self) {
        const GROUPS: [&str; 2] =
            ["<div role='group' aria-label='Built in'>", "<div role='group' aria-label='On the Hub'><p aria-hidden='true'>On the Hub</p>"];
        let mut options = String::new();
        let mut active = String::new();
        for (index, id) in self.options().enumerate().filter(|_| self.is_open) {
            let is_first_of_hub = index == self.found.len();
            if index == 0 || is_first_of_hub {
                options.push_str(if index == 0 { "" } else { "</div>" });
                options.push_str(GROUPS[usize::from(is_first_of_hub)]);
            }
            let index_text = index.to_string();
            let is_active = self.active == Some(index);
            if is_active {
                active = ["model-option-", &index_text].concat();
            }
            let selected = if is_active { "true" } else { "false" };
            let opening = ["<div role='option' id='model-option-", &index_text, "' aria-selected='", selected, "' data-model='"].concat();
            dom::weave(&mut options, &[&opening, id, "'>", id, "</div>"]);
        }
        let has_options = !options.is_empty();
        if has_options {
            options.push_str("</div>");
        }
        let note = if self.is_open { self.note.as_str() } else { "" };
        dom::html("model-list", &options);
        dom::flag("model-list", "hidden", !has_options);
        dom::text("model-note", note);
        dom::flag("model-popup", "hidden", !has_options && note.is_empty());
        dom::attribute(BOX, "aria-expanded", if has_options { "true" } else { "false" });
        if active.is_empty() {
            dom::flag(BOX, "aria-activedescendant", false);
        } else {
            dom::attribute(BOX, "aria-activedescendant", &active);
        }
    }
}

/// Nobody waits for the Hub's suggestions any more.
fn stop() {
    LATER.with(Later::stop);
    load::stop_search();
}

/// Makes it work.
pub fn bind(state: AppState) {
    let list = ArcRwSignal::new(List::default());
    let (shown, typed, keyed, left, entered) = (list.clone(), list.clone(), list.clone(), list.clone(), list.clone());
    dom::follow(move || shown.with(List::show));
    dom::follow(move || state.typed.with(|text| dom::set_value(BOX, text)));
    dom::on(BOX, "input", move |event| {
        let text = dom::typed(&event);
        load::edit();
        stop();
        typed.update(|list| {
            list.find(&text);
            list.active = None;
            list.is_open = true;
        });
        let (list, words) = (typed.clone(), text.clone());
        let ask = move || {
            spawn_local(async move {
                if let Some(lines) = load::search(state, &words).await {
                    list.update(|list| list.take(&lines));
                }
            });
        };
        LATER.with(|later| later.run(PAUSE, Box::new(ask)));
        state.typed.set(text);
    });
    dom::on(BOX, "keydown", move |event| on_key(state, &keyed, &event));
    dom::on(BOX, "blur", move |_| {
        stop();
        left.update(List::close);
        // A name that is whole is taken without Enter; anything else is left as it is.
        let text = state.typed.get_untracked();
        if load::is_edited() && load::is_whole_name(text.trim()) {
            load::submit(state, &text);
        }
    });
    dom::on(BOX, "focus", move |event| {
        // So that typing or pasting replaces what is there.
        if let Some(target) = event.target() {
            target.unchecked_into::<HtmlInputElement>().select();
        }
        if load::built_in().is_empty() {
            let list = entered.clone();
            spawn_local(async move {
                load::ask_built_in().await;
                let query = if load::is_edited() { state.typed.get_untracked() } else { String::new() };
                list.update(|list| list.find(&query));
            });
        }
    });
    // The focus stays in the box.
    dom::on("model-list", "mousedown", |event| event.prevent_default());
    dom::on("model-list", "click", move |event| {
        if let Some(id) = dom::nearest(&event, "data-model") {
            stop();
            list.update(List::close);
            load::choose(state, &id);
        }
    });
}

fn on_key(state: AppState, list: &ArcRwSignal<List>, event: &Event) {
    match dom::key(event).as_str() {
        "Enter" => {
            event.prevent_default();
            stop();
            let picked = list.with_untracked(List::picked);
            list.update(List::close);
            match picked {
                Some(id) => load::choose(state, &id),
                None => load::submit(state, &state.typed.get_untracked()),
            }
        }
        "Escape" => {
            stop();
            list.update(List::close);
        }
        direction @ ("ArrowDown" | "ArrowUp") => {
            event.prevent_default();
            list.update(|list| {
                if !list.is_open && !load::is_edited() {
                    list.find("");
                }
                list.walk(direction == "ArrowDown");
            });
        }
        _ => {}
    }
}
