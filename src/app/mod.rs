//! The page. Thin: it holds what the user chose, asks the engine, and shows what comes back; no sizes are computed here.
//!
//! `scenario` and `shown` in [`state::State`] -> memo of the estimate -> the components. A component has two parts: `markup`, the
//! text of its elements, and `bind`, which ties what moves in them to the signals (see [`dom`]). Effects besides those stand at
//! the rim only: the address bar, the status line, the sweep that follows a pause.

mod browser;
mod controls;
mod curve;
mod dom;
mod field;
mod layers;
mod ledger;
mod load;
mod model_box;
mod notes;
mod scale;
mod share;
mod state;
mod status;
mod url;
mod verdict;

use leptos::mount::mount_to;
use leptos::prelude::*;
use wasm_bindgen::JsCast;

use state::{AppState, Load, State};

/// Puts the page in the place of its shell.
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        browser::explain(&format!("vramfit stopped because of a mistake of its own ({info}). Reload the page to go on; what you chose is in the address."));
    }));
    let Some(root) = dom::element("app") else {
        browser::explain("vramfit could not start: this document has no place for it.");
        return;
    };
    root.set_inner_html(&markup());
    mount_to(root.unchecked_into(), || {
        let state = State::new();
        url::follow(state);
        state::follow(state);
        bind(state);
        // Before the first paint: drawings get their widths, and the page is ready.
        state::measure(state);
        let later = browser::Later::default();
        dom::on_window("resize", move |_| later.run(100, Box::new(move || state::measure(state))));
        browser::ready();
    })
    .forget();
}

fn markup() -> String {
    [
        share::MARKUP,
        "<main class='page'><form id='inputs' class='inputs' aria-label='What to run'>",
        model_box::MARKUP,
        &controls::markup(),
        "</form><div id='answer' class='answer'>",
        verdict::MARKUP,
        ledger::MARKUP,
        "<div class='pair'>",
        curve::MARKUP,
        "<div class='column'>",
        layers::MARKUP,
        notes::MARKUP,
        "</div></div></div></main><a id='change-inputs' class='change-inputs' href='#inputs'>Change inputs</a>",
        status::MARKUP,
    ]
    .concat()
}

fn bind(state: AppState) {
    share::bind(state);
    model_box::bind(state);
    controls::bind(state);
    verdict::bind(state);
    ledger::bind(state);
    curve::bind(state);
    layers::bind(state);
    notes::bind(state);
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
