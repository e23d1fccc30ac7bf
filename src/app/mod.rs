//! The page. Thin: it holds what the user chose, asks the engine, and shows what comes back; no sizes are computed here.
//!
//! `scenario` and `shown` in [`state::State`] -> memo of the estimate -> the components. A component has two parts: `markup`, the
//! text of its elements, and `bind`, which ties what moves in them to the signals (see [`dom`]). Effects besides those stand at
//! the rim only: the address bar, the status line, the sweep that follows a pause.

mod browser;
mod combobox;
mod controls;
mod curve;
mod dom;
mod field;
mod files;
mod layers;
mod ledger;
mod load;
mod manual;
mod model_box;
mod notes;
mod reader;
mod scale;
mod settings;
mod share;
mod state;
mod status;
mod url;
mod verdict;

use std::time::Duration;

use leptos::mount::mount_to;
use leptos::prelude::*;
use wasm_bindgen::JsCast;

use state::{AppState, Load, State, Widths};

/// Puts the page in the place of its shell.
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        browser::explain(&format!("vramfit stopped because of a mistake of its own ({info}). Reload the page to go on; what you chose is in the address."));
    }));
    let Some(root) = dom::element("app") else {
        browser::explain("vramfit could not start: this document has no place for it.");
        return;
    };
    // The shell has the places of the drawings where the page has them, and is laid out already.
    let widths = Widths::measure();
    root.set_inner_html(&markup());
    mount_to(root.unchecked_into(), move || {
        let state = State::new();
        state.widths.set(widths);
        url::follow(state);
        state::follow(state);
        bind(state);
        browser::ready();
        // What few look at first is made once the answer is drawn, and after what the user did meanwhile.
        request_animation_frame(move || set_timeout(move || finish(state), Duration::from_millis(20)));
    })
    .forget();
}

/// Makes what lies below the answer, and the long lists of choices.
fn finish(state: AppState) {
    dom::html("pair", &[curve::MARKUP, "<div class='column'>", layers::MARKUP, notes::MARKUP, "</div>"].concat());
    controls::fill(state);
    curve::bind(state);
    layers::bind(state);
    notes::bind(state);
    let later = browser::Later::default();
    let measure = move || later.run(100, Box::new(move || state::measure(state)));
    measure();
    dom::on_window("resize", move |_| measure());
}

fn markup() -> String {
    [
        share::MARKUP,
        "<main class='page'><form id='inputs' class='inputs' aria-label='What to run'>",
        &model_box::markup(),
        &controls::markup(),
        "</form><div id='answer' class='answer'>",
        verdict::MARKUP,
        ledger::MARKUP,
        "<div id='pair' class='pair'></div></div></main><a id='change-inputs' class='change-inputs' href='#inputs'>Change inputs</a>",
        status::MARKUP,
    ]
    .concat()
}

fn bind(state: AppState) {
    share::bind(state);
    model_box::bind(state);
    files::bind(state);
    controls::bind(state);
    verdict::bind(state);
    ledger::bind(state);
    status::bind(state);
    dom::on("inputs", "submit", |event| event.prevent_default());
    dom::on("change-inputs", "click", |event| {
        event.prevent_default();
        browser::go_to("inputs", "model");
    });
    dom::follow(move || {
        let is_reading = state.load.with(|load| matches!(load, Load::Reading(_)));
        dom::attribute("answer", "class", if is_reading { "answer stale" } else { "answer" });
        dom::attribute("answer", "aria-busy", if is_reading { "true" } else { "false" });
    });
}
