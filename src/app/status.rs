//! One sentence about what just changed, for those who do not see it change, and for what cannot be seen.

use leptos::prelude::*;

use super::browser::Later;
use super::state::{Answer, AppState, Load};

/// The status line, and the short message that shows at the foot of the window.
pub fn view(state: AppState) -> AnyView {
    let status = RwSignal::new(String::new());
    let message = RwSignal::new(String::new());
    let (settled, over) = (Later::new(), Later::new());
    let news = Memo::new(move |_| news(state));
    Effect::new(move |_| {
        let news = news.get();
        // At most once a second, and after the last change.
        settled.run(1000, move || status.set(news));
    });
    Effect::new(move |_| {
        let said = state.said.get();
        if !said.is_empty() {
            status.set(said.clone());
            message.set(said);
            over.run(3000, move || {
                message.set(String::new());
                state.said.set(String::new());
            });
        }
    });
    view! {
        <p id="status" class="visually-hidden" role="status">
            {status}
        </p>
        <p class="message" aria-hidden="true">
            {message}
        </p>
    }
    .into_any()
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
        Answer::Nothing => String::new(),
    })
}
