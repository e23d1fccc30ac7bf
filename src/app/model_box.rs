//! The box that takes anything that names a model, with what is known of the model, what went wrong, and how far it is.

use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::catalogue;
use vramfit::format::{Unit, fixed, grouped, parameters};
use vramfit::model::{FeedForward, Model, Origin};
use vramfit::reader::{Failure, Offer};
use wasm_bindgen::JsCast;
use web_sys::{Event, HtmlInputElement};

use super::controls::token_note;
use super::load;
use super::state::{AppState, Load, Reading, Shown};
use super::{dom, files};

/// The model.
pub fn markup() -> String {
    [BEFORE_FILES, files::MARKUP, AFTER_FILES].concat()
}

const BEFORE_FILES: &str = "<div class='model'><div class='field combobox'><div class='label-row'><label for='model'>Model</label>";

const AFTER_FILES: &str = "\
        </div>\
        <input id='model' type='text' role='combobox' autocomplete='off' autocapitalize='off' spellcheck='false'\
          placeholder='An id, an address, a config.json, or drop files' aria-expanded='false' aria-controls='model-list' aria-autocomplete='list'>\
        <ul id='model-list' role='listbox' aria-label='Built-in models' hidden></ul>\
      </div>\
      <p id='model-facts' class='note'><span id='model-shape'></span> <span id='model-source'></span></p>\
      <button type='button' id='model-headers' class='link' hidden>Read the files' headers from the Hub</button>\
      <div id='model-reading' class='loading' hidden>\
        <div id='model-progress' role='progressbar' aria-label='Reading the model' aria-valuemin='0'>\
          <span id='progress-text'></span><span id='progress-bar' class='loading__bar'></span>\
        </div>\
        <button type='button' id='model-cancel'>Cancel</button>\
      </div>\
      <div id='model-error' role='alert'></div>\
    </div>";

/// Makes it work.
pub fn bind(state: AppState) {
    combobox(state);
    dom::follow(move || {
        let unit = state.unit.get();
        let (shape, source) = state.shown.with(|shown| shown.as_ref().map(|shown| (shape(&shown.model), source(shown, unit)))).unwrap_or_default();
        dom::text("model-shape", &shape);
        dom::text("model-source", &source);
    });
    // The way from built-in figures to those of the files.
    dom::follow(move || {
        let is_built_in = state.shown.with(|shown| shown.as_ref().is_some_and(|shown| shown.model.provenance.source == Origin::Catalogue));
        let may = is_built_in && state.load.with(|load| matches!(load, Load::Idle));
        dom::flag("model-headers", "hidden", !may);
    });
    dom::on("model-headers", "click", move |_| load::read_headers(state));
    dom::on("model-cancel", "click", move |_| load::cancel(state));
    dom::follow(move || {
        let mut problem = String::new();
        state.load.with(|load| {
            dom::flag("model-reading", "hidden", !matches!(load, Load::Reading(_)));
            match load {
                Load::Reading(reading) => show_progress(reading),
                Load::Failed(failure) => error(&mut problem, failure, state),
                Load::Idle => {}
            }
        });
        dom::html("model-error", &problem);
    });
    let use_token = move || {
        if let Some(draft) = dom::element("error-token") {
            load::use_token(state, &dom::get(&draft, "value").as_string().unwrap_or_default());
        }
    };
    dom::on("model-error", "click", move |event| {
        if let Some(index) = dom::nearest(&event, "data-file") {
            return load::take(state, index.parse().unwrap_or_default());
        }
        match dom::nearest(&event, "data-does").as_deref() {
            Some("retry") => load::retry(state),
            Some(_) => use_token(),
            None => {}
        }
    });
    dom::on("model-error", "keydown", move |event| {
        if dom::key(&event) == "Enter" && dom::nearest(&event, "data-draft").is_some() {
            event.prevent_default();
            use_token();
        }
    });
}

/// The list of suggestions.
#[derive(Default)]
struct List {
    is_open: bool,
    /// The option that the arrow keys are at.
    active: Option<usize>,
    found: Vec<&'static str>,
}

impl List {
    /// With what was typed since it was opened; with everything before that.
    fn find(&mut self, query: &str) {
        // No id is in a pasted config.
        let query = if load::is_json(query.trim()) { "{" } else { query };
        self.found = catalogue::search(load::built_in(), query);
    }

    fn close(&mut self) {
        self.is_open = false;
        self.active = None;
    }

    fn is_shown(&self) -> bool {
        self.is_open && !self.found.is_empty()
    }

    /// One option down or up; the text itself lies between the last and the first.
    fn walk(&mut self, is_down: bool) {
        let count = self.found.len();
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
    fn picked(&self) -> Option<&'static str> {
        self.found.get(self.active.filter(|_| self.is_open)?).copied()
    }

    /// Puts it on the page.
    fn show(&self) {
        let mut options = String::new();
        let mut active = String::new();
        for (index, id) in self.found.iter().enumerate().filter(|_| self.is_shown()) {
            let index_text = index.to_string();
            let is_active = self.active == Some(index);
            if is_active {
                active = ["model-option-", &index_text].concat();
            }
            let selected = if is_active { "true" } else { "false" };
            let opening = ["<li role='option' id='model-option-", &index_text, "' aria-selected='", selected, "' data-model='"].concat();
            dom::weave(&mut options, &[&opening, id, "'>", id, "</li>"]);
        }
        dom::html("model-list", &options);
        dom::flag("model-list", "hidden", !self.is_shown());
        dom::attribute(BOX, "aria-expanded", if self.is_shown() { "true" } else { "false" });
        if active.is_empty() {
            dom::flag(BOX, "aria-activedescendant", false);
        } else {
            dom::attribute(BOX, "aria-activedescendant", &active);
        }
    }
}

/// The element that one types in.
const BOX: &str = "model";

fn combobox(state: AppState) {
    let list = ArcRwSignal::new(List::default());
    let (shown, typed, keyed, left, entered) = (list.clone(), list.clone(), list.clone(), list.clone(), list.clone());
    dom::follow(move || shown.with(List::show));
    dom::follow(move || state.typed.with(|text| dom::set_value(BOX, text)));
    dom::on(BOX, "input", move |event| {
        let text = dom::typed(&event);
        load::edit();
        typed.update(|list| {
            list.find(&text);
            list.active = None;
            list.is_open = true;
        });
        state.typed.set(text);
    });
    dom::on(BOX, "keydown", move |event| on_key(state, &keyed, &event));
    dom::on(BOX, "blur", move |_| {
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
            list.update(List::close);
            load::choose(state, &id);
        }
    });
}

fn on_key(state: AppState, list: &ArcRwSignal<List>, event: &Event) {
    match dom::key(event).as_str() {
        "Enter" => {
            event.prevent_default();
            let picked = list.with_untracked(List::picked);
            list.update(List::close);
            match picked {
                Some(id) => load::choose(state, id),
                None => load::submit(state, &state.typed.get_untracked()),
            }
        }
        "Escape" => list.update(List::close),
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
        (Origin::Gguf, Some(files)) if files.count > 1 => format!("Headers of {} GGUF files read{at}", grouped(files.count)),
        (Origin::Gguf, _) => format!("Header of a GGUF file read{at}"),
        (Origin::Catalogue, _) => "Built-in figures, not checked against the files".to_owned(),
        _ => format!("From config.json{at}"),
    }];
    facts.extend(provenance.files.as_ref().map(|files| format!("{} stored", unit.text(files.bytes))));
    facts.extend(anatomy.dtype.map(|dtype| dtype.name.to_owned()));
    facts.extend(anatomy.quantization.as_ref().map(|quantization| quantization.method.clone()));
    if !shown.note.is_empty() {
        facts.push(shown.note.clone());
    }
    facts.join(" · ")
}

/// How far the reading is.
fn show_progress(reading: &Reading) {
    let text = progress_text(reading);
    let (done, all) = reading.progress.map_or((0, 1), |progress| (progress.files_done, progress.files.max(1)));
    dom::text("progress-text", &text);
    dom::attribute("model-progress", "aria-valuetext", &text);
    dom::attribute("model-progress", "aria-valuenow", &done.to_string());
    dom::attribute("model-progress", "aria-valuemax", &all.to_string());
    dom::style("progress-bar", "width", &format!("{}%", done * 100 / all));
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

/// The files to choose from.
fn choice(out: &mut String, files: &[Offer], unit: Unit) {
    out.push_str("<ul class='choice'>");
    for (index, Offer { file, .. }) in files.iter().enumerate() {
        let size = file.bytes.map_or_else(String::new, |bytes| unit.text(bytes));
        let parts = if file.parts > 1 { [" in ", &file.parts.to_string(), " files"].concat() } else { String::new() };
        dom::weave(out, &["<li><button type='button' data-file='", &index.to_string(), "' title='", &file.path, "'><b>", &file.recipe, "</b> ", &size, &parts]);
        out.push_str("</button></li>");
    }
    out.push_str("</ul>");
}

/// What went wrong, and what to do.
fn error(out: &mut String, failure: &Failure, state: AppState) {
    let Failure { problem, advice, may_retry, wants_token, files } = failure;
    let kind = if files.is_empty() { "<div class='error'><p><strong>" } else { "<div class='error ask'><p><strong>" };
    dom::weave(out, &[kind, problem, "</strong> ", advice, "</p>"]);
    if !files.is_empty() {
        choice(out, files, state.unit.get());
    }
    if *may_retry {
        out.push_str("<button type='button' data-does='retry'>Try again</button>");
    }
    if *wants_token {
        const TOKEN: &str = "\
            <div class='field'>\
              <label for='error-token'>Access token</label>\
              <div class='row row--button'>\
                <input id='error-token' type='password' autocomplete='off' aria-describedby='error-token-note' data-draft>\
                <button type='button' data-does='token'>Use token</button>\
              </div>\
              <p class='note' id='error-token-note'>";
        dom::weave(out, &[TOKEN, &token_note(state), "</p></div>"]);
    }
    out.push_str("</div>");
}
