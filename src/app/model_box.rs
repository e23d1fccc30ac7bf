//! The box that takes anything that names a model, with what is known of the model, what went wrong, and how far it is.

use leptos::prelude::*;
use vramfit::catalogue;
use vramfit::format::{Unit, fixed, grouped, parameters};
use vramfit::model::{FeedForward, Model, Origin};

use super::controls::token_note;
use super::load;
use super::state::{AppState, Failure, Load, Reading, Shown};

/// The model.
pub fn view(state: AppState) -> AnyView {
    view! {
        <div class="model">
            {combobox(state)}
            {facts(state)}
            {upgrade(state)}
            {progress(state)}
            <div id="model-error" role="alert">
                {move || state.load.with(|load| match load {
                    Load::Failed(failure) => Some(error(state, failure)),
                    _ => None,
                })}
            </div>
        </div>
    }
    .into_any()
}

/// The list of suggestions.
#[derive(Clone, Copy)]
struct List {
    is_open: RwSignal<bool>,
    /// The option that the arrow keys are at.
    active: RwSignal<Option<usize>>,
    found: Memo<Vec<&'static str>>,
}

impl List {
    fn close(self) {
        self.is_open.set(false);
        self.active.set(None);
    }

    /// One option down or up; the text itself lies between the last and the first.
    fn walk(self, is_down: bool) {
        let count = self.found.with_untracked(Vec::len);
        if count == 0 {
            return;
        }
        self.is_open.set(true);
        self.active.update(|active| {
            *active = match (*active, is_down) {
                (None, true) => Some(0),
                (None, false) => Some(count - 1),
                (Some(at), true) => Some(at + 1).filter(|at| *at < count),
                (Some(at), false) => at.checked_sub(1),
            };
        });
    }
}

fn option_id(index: usize) -> String {
    format!("model-option-{index}")
}

fn combobox(state: AppState) -> AnyView {
    // What was typed since the list was opened; the whole list before that.
    let query = RwSignal::new(String::new());
    let found = Memo::new(move |_| query.with(|query| catalogue::search(query)));
    let list = List { is_open: RwSignal::new(false), active: RwSignal::new(None), found };
    let is_shown = Memo::new(move |_| list.is_open.get() && found.with(|found| !found.is_empty()));
    let submit = move || {
        list.close();
        load::submit(state, &state.typed.get_untracked());
    };
    let choose = move |id: &'static str| {
        list.close();
        load::choose(state, id);
    };
    let on_input = move |event: web_sys::Event| {
        let text = event_target_value(&event);
        state.is_edited.set_value(true);
        query.set(if load::is_json(text.trim()) { "{".to_owned() } else { text.clone() });
        state.typed.set(text);
        list.active.set(None);
        list.is_open.set(true);
    };
    let on_key = move |event: web_sys::KeyboardEvent| match event.key().as_str() {
        "Enter" => {
            event.prevent_default();
            let picked = list.active.get_untracked().filter(|_| list.is_open.get_untracked());
            match picked.and_then(|at| found.with_untracked(|found| found.get(at).copied())) {
                Some(id) => choose(id),
                None => submit(),
            }
        }
        "Escape" => list.close(),
        direction @ ("ArrowDown" | "ArrowUp") => {
            event.prevent_default();
            if !list.is_open.get_untracked() && !state.is_edited.get_value() {
                query.set(String::new());
            }
            list.walk(direction == "ArrowDown");
        }
        _ => {}
    };
    let on_blur = move |_| {
        list.close();
        // A name that is whole is taken without Enter; anything else is left as it is.
        if state.is_edited.get_value() && state.typed.with_untracked(|text| load::is_whole_name(text.trim())) {
            submit();
        }
    };
    // So that typing or pasting replaces what is there.
    let on_focus = move |event: web_sys::FocusEvent| event_target::<web_sys::HtmlInputElement>(&event).select();
    let options = move || {
        let option = |(index, id): (usize, &'static str)| {
            let is_active = Memo::new(move |_| list.active.get() == Some(index));
            view! {
                <li
                    id=option_id(index)
                    role="option"
                    aria-selected=move || is_active.get().to_string()
                    // The focus stays in the box.
                    on:mousedown=move |event| event.prevent_default()
                    on:click=move |_| choose(id)
                >
                    {id}
                </li>
            }
        };
        if is_shown.get() { found.get().into_iter().enumerate().map(option).collect_view().into_any() } else { ().into_any() }
    };
    view! {
        <div class="field combobox">
            <label for="model">"Model"</label>
            <input
                id="model"
                type="text"
                role="combobox"
                autocomplete="off"
                autocapitalize="off"
                spellcheck="false"
                placeholder="An id, an address, or a config.json"
                aria-expanded=move || is_shown.get().to_string()
                aria-controls="model-list"
                aria-autocomplete="list"
                aria-activedescendant=move || list.active.get().filter(|_| is_shown.get()).map(option_id)
                prop:value=state.typed
                on:input=on_input
                on:keydown=on_key
                on:focus=on_focus
                on:blur=on_blur
            />
            <ul id="model-list" role="listbox" aria-label="Built-in models" hidden=move || !is_shown.get()>
                {options}
            </ul>
        </div>
    }
    .into_any()
}

/// What is known of the model that is shown.
fn facts(state: AppState) -> AnyView {
    let shape = Memo::new(move |_| state.shown.with(|shown| shown.as_ref().map_or_else(String::new, |shown| shape(&shown.model))));
    let source = Memo::new(move |_| {
        let unit = state.unit.get();
        state.shown.with(|shown| shown.as_ref().map_or_else(String::new, |shown| source(shown, unit)))
    });
    view! {
        <p id="model-facts" class="note">
            <span>{shape}</span>
            " "
            <span>{source}</span>
        </p>
    }
    .into_any()
}

/// `30.53 B parameters, 3.35 B active · 48 layers · GQA 32/4 × 128 · 128 experts, 8 active`
fn shape(model: &Model) -> String {
    let total = model.anatomy.parameters().unwrap_or_default();
    let active = model.anatomy.active_parameters().unwrap_or_default();
    let used = if active == total { String::new() } else { format!(", {} active", parameters(active)) };
    let mut facts = vec![format!("{} parameters{used}", parameters(total))];
    facts.push(format!("{} layers", grouped(model.decoder().layer_count())));
    facts.extend(model.decoder().layers.first().map(|run| run.layer.mixer.to_string()));
    if let Some(FeedForward::MixtureOfExperts { experts, active, .. }) = model.decoder().widest_feed_forward() {
        facts.push(format!("{experts} experts, {active} active"));
    }
    facts.join(" · ")
}

/// `16 shard headers read at ad44e77 · 56.9 GiB stored · bf16`
fn source(shown: &Shown, unit: Unit) -> String {
    let Model { anatomy, provenance } = &*shown.model;
    let at = provenance.revision.as_ref().map_or_else(String::new, |revision| format!(" at {}", revision.get(..7).unwrap_or(revision)));
    let mut facts = vec![match (provenance.source, &provenance.files) {
        (Origin::Headers, Some(files)) if files.count == 1 => format!("Header of 1 file read{at}"),
        (Origin::Headers, Some(files)) => format!("Headers of {} files read{at}", grouped(files.count)),
        (Origin::Catalogue, _) => "Built-in figures, not checked against the files".to_owned(),
        _ => format!("From config.json{at}"),
    }];
    facts.extend(provenance.files.as_ref().map(|files| format!("{} stored", unit.text(files.bytes))));
    facts.extend(anatomy.dtype.map(|dtype| dtype.name.to_owned()));
    facts.extend(anatomy.quantization.clone());
    if !shown.note.is_empty() {
        facts.push(shown.note.clone());
    }
    facts.join(" · ")
}

/// The way from built-in figures to those of the files.
fn upgrade(state: AppState) -> AnyView {
    let may = Memo::new(move |_| {
        let is_built_in = state.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.model.provenance.source == Origin::Catalogue));
        is_built_in && state.load.with(|load| matches!(load, Load::Idle))
    });
    view! {
        <button type="button" class="link" hidden=move || !may.get() on:click=move |_| load::read_headers(state)>
            "Read the files' headers from the Hub"
        </button>
    }
    .into_any()
}

/// How far the reading is.
fn progress(state: AppState) -> AnyView {
    let reading = Memo::new(move |_| {
        state.load.with(|load| match load {
            Load::Reading(reading) => Some(reading.clone()),
            _ => None,
        })
    });
    let is_reading = Memo::new(move |_| reading.with(Option::is_some));
    let files = move |read: fn(&Reading) -> u64| Memo::new(move |_| reading.with(|reading| reading.as_ref().map_or(0, read)));
    let done = files(|reading| reading.progress.map_or(0, |progress| progress.files_done));
    let all = files(|reading| reading.progress.map_or(1, |progress| progress.files.max(1)));
    let text = Memo::new(move |_| reading.with(|reading| reading.as_ref().map_or_else(String::new, progress_text)));
    let view = move || {
        is_reading.get().then(|| {
            view! {
                <div class="loading">
                    <div
                        id="model-progress"
                        role="progressbar"
                        aria-label="Reading the model"
                        aria-valuemin="0"
                        aria-valuemax=move || all.get().to_string()
                        aria-valuenow=move || done.get().to_string()
                        aria-valuetext=text
                    >
                        <span>{text}</span>
                        <span class="loading__bar" style:width=move || format!("{}%", done.get() * 100 / all.get().max(1))></span>
                    </div>
                    <button type="button" on:click=move |_| load::cancel(state)>
                        "Cancel"
                    </button>
                </div>
            }
            .into_any()
        })
    };
    view.into_any()
}

fn progress_text(reading: &Reading) -> String {
    match reading.progress {
        None => format!("Asking the Hub for {}", reading.name),
        Some(progress) if progress.files == 0 => format!("Reading {}", reading.name),
        Some(progress) => {
            let received = match progress.bytes {
                bytes if bytes < 1_000_000 => format!("{} KB", bytes.div_ceil(1000)),
                bytes => format!("{} MB", fixed(bytes, 1_000_000, 1)),
            };
            format!("{} of {} files, {received}", grouped(progress.files_done), grouped(progress.files))
        }
    }
}

/// What went wrong, and what to do.
fn error(state: AppState, failure: &Failure) -> AnyView {
    let Failure { problem, advice, may_retry, wants_token } = failure.clone();
    let retry = may_retry.then(|| {
        view! {
            <button type="button" on:click=move |_| load::retry(state)>
                "Try again"
            </button>
        }
    });
    let token = wants_token.then(|| {
        let draft = RwSignal::new(String::new());
        view! {
            <div class="field">
                <label for="error-token">"Access token"</label>
                <div class="row row--button">
                    <input
                        id="error-token"
                        type="password"
                        autocomplete="off"
                        aria-describedby="error-token-note"
                        prop:value=draft
                        on:input=move |event| draft.set(event_target_value(&event))
                        on:keydown=move |event| {
                            if event.key() == "Enter" {
                                event.prevent_default();
                                load::use_token(state, &draft.get_untracked());
                            }
                        }
                    />
                    <button type="button" on:click=move |_| load::use_token(state, &draft.get_untracked())>
                        "Use token"
                    </button>
                </div>
                <p class="note" id="error-token-note">
                    {token_note(state)}
                </p>
            </div>
        }
    });
    view! {
        <div class="error">
            <p>
                <strong>{problem}</strong>
                " "
                {advice}
            </p>
            {retry}
            {token}
        </div>
    }
    .into_any()
}
