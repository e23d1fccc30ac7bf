//! The box that takes anything that names a model, with what is known of the model, what went wrong, and how far it is.

use leptos::prelude::*;
use vramfit::format::{Unit, fixed, grouped, parameters};
use vramfit::model::{FeedForward, Model, Origin};
use vramfit::reader::{Failure, Offer};

use super::controls::token_note;
use super::load;
use super::state::{AppState, Load, Reading, Shown};
use super::{combobox, dom, files, manual};

/// The model.
pub fn markup() -> String {
    [BEFORE_FILES, files::MARKUP, AFTER_FILES, manual::MARKUP, "</div>"].concat()
}

const BEFORE_FILES: &str = "<div class='model'><div class='field combobox'><div class='label-row'><label for='model'>Model</label>";

const AFTER_FILES: &str = "\
        </div>\
        <input id='model' type='text' role='combobox' autocomplete='off' autocapitalize='off' spellcheck='false'\
          placeholder='An id, an address, a config.json, or drop files' aria-expanded='false' aria-controls='model-list' aria-autocomplete='list'>\
        <div id='model-popup' class='popup' hidden>\
          <div id='model-list' role='listbox' aria-label='Models' hidden></div>\
          <p id='model-note' class='note' role='status'></p>\
        </div>\
      </div>\
      <p id='model-facts' class='note'><span id='model-shape'></span> <span id='model-source'></span></p>\
      <button type='button' id='model-headers' class='link' hidden>Read the files' headers from the Hub</button>\
      <div id='model-reading' class='loading' hidden>\
        <div id='model-progress' role='progressbar' aria-label='Reading the model' aria-valuemin='0'>\
          <span id='progress-text'></span><span id='progress-bar' class='loading__bar'></span>\
        </div>\
        <button type='button' id='model-cancel'>Cancel</button>\
      </div>\
      <div id='model-error' role='alert'></div>";

/// Makes it work.
pub fn bind(state: AppState) {
    combobox::bind(state);
    manual::bind(state);
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
        (Origin::Manual, _) => "By hand".to_owned(),
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
        Some(progress) if progress.pause > 0 => format!("The Hub asks to wait: once more in {} s", progress.pause.div_ceil(1000)),
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
