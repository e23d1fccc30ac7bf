//! One sentence about what just changed, for those who do not see it change, and for what cannot be seen.

use leptos::prelude::*;

use super::browser::Later;
use super::dom;
use super::state::{Answer, AppState, Load};

/// The status line, and the short message that shows at the foot of the window.
pub const MARKUP: &str = "\
    <p id='status' class='visually-hidden' role='status'></p>\
    <p id='message' class='message' aria-hidden='true'></p>";

/// Keeps them up to date.
pub fn bind(state: AppState) {
    let (settled, over) = (Later::default(), Later::default());
    dom::follow(move || {
        state.load.track();
        state.answer.track();
        state.unit.track();
        // At most once a second, and after the last change.
        settled.run(1000, Box::new(move || dom::text("status", &untrack(|| news(state)))));
    });
    dom::follow(move || {
        let said = state.said.get();
        if said.is_empty() {
            return;
        }
        dom::text("status", &said);
        dom::text("message", &said);
        over.run(
            3000,
            Box::new(move || {
                dom::text("message", "");
                state.said.set(String::new());
            }),
        );
    });
}

fn news(state: AppState) -> String {
    let reading = state.load.with(|load| match load {
        Load::Reading(reading) => Some(format!("Reading {}.", reading.name)),
        _ => None,
    });
    reading.unwrap_or_else(|| match state.answer.get() {
        Answer::Estimate(estimate) => {
            vramfit::report::verdict(&estimate, state.unit.get()).map_or_else(|_| String::new(), |verdict| format!("{}{}.", verdict.claim, verdict.rest))
        }
        Answer::Impossible(why) => why,
        Answer::Nothing | Answer::Waiting => String::new(),
    })
}
