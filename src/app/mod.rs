//! The page. Thin: it holds what the user chose, asks the engine, and shows what comes back; no sizes are computed here.
//!
//! `scenario` and `shown` in [`state::AppState`] -> memo of the estimate -> memos of texts and drawings -> views. Effects stand at
//! the rim only: the address bar, the status line, the sweep that follows a pause.

mod browser;
mod controls;
mod curve;
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

use state::{AppState, Load};

/// Puts the page in the place of its shell.
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        browser::explain(&format!("vramfit stopped because of a mistake of its own ({info}). Reload the page to go on; what you chose is in the address."));
    }));
    let Some(root) = browser::element("app") else {
        browser::explain("vramfit could not start: this document has no place for it.");
        return;
    };
    root.set_inner_html("");
    mount_to(root.unchecked_into(), || {
        let state = AppState::new();
        url::follow(state);
        state::follow(state);
        let later = browser::Later::new();
        queue_microtask(move || settle(state, later));
        page(state)
    })
    .forget();
}

/// After the first build, before the first paint: drawings get their widths, and the page is ready.
fn settle(state: AppState, later: browser::Later) {
    state::measure(state);
    window_event_listener(leptos::ev::resize, move |_| later.run(100, move || state::measure(state)));
    browser::ready();
}

fn page(state: AppState) -> AnyView {
    let is_reading = Memo::new(move |_| state.load.with(|load| matches!(load, Load::Reading(_))));
    view! {
        {share::header(state)}
        <main class="page">
            <form id="inputs" class="inputs" aria-label="What to run" on:submit=move |event| event.prevent_default()>
                {model_box::view(state)}
                {controls::view(state)}
            </form>
            <div id="answer" class="answer" class:stale=is_reading aria-busy=move || is_reading.get().to_string()>
                {verdict::view(state)}
                {ledger::view(state)}
                <div class="pair">
                    {curve::view(state)}
                    <div class="column">
                        {layers::view(state)}
                        {notes::view(state)}
                    </div>
                </div>
            </div>
        </main>
        <a
            class="change-inputs"
            href="#inputs"
            on:click=move |event| {
                event.prevent_default();
                browser::go_to("inputs", "model");
            }
        >
            "Change inputs"
        </a>
        {status::view(state)}
    }
    .into_any()
}
