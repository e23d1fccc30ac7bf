//! What was assumed, and what one should know.

use leptos::prelude::*;

use super::state::{Answer, AppState};

/// A sentence of the list.
#[derive(Clone, PartialEq)]
struct Note {
    is_warning: bool,
    text: String,
}

/// The list.
pub fn view(state: AppState) -> AnyView {
    let notes = Memo::new(move |_| notes(state));
    let list = move || {
        notes
            .get()
            .into_iter()
            .map(|note| {
                view! { <li class:warning=note.is_warning>{note.text}</li> }
            })
            .collect_view()
    };
    view! {
        <section class="card" aria-labelledby="assumptions-title">
            <h2 id="assumptions-title">"What this rests on"</h2>
            <ul id="assumptions">{list}</ul>
        </section>
    }
    .into_any()
}

fn notes(state: AppState) -> Vec<Note> {
    let warning = |text: String| Note { is_warning: true, text: super::state::sentence(&text) };
    let plain = |text: String| Note { is_warning: false, text: super::state::sentence(&text) };
    let mut notes: Vec<Note> = state.notices.get().into_iter().map(warning).collect();
    state.answer.with(|answer| {
        if let Answer::Estimate(estimate) = answer {
            notes.extend(estimate.warnings.iter().cloned().map(warning));
            notes.extend(estimate.assumptions.iter().cloned().map(plain));
            let defaults: Vec<String> = estimate
                .choices
                .iter()
                .filter_map(|choice| choice.default.as_ref().map(|rule| format!("{} {} ({rule})", name(choice.key), choice.value)))
                .collect();
            if !defaults.is_empty() {
                notes.push(plain(format!("Not chosen, so left at the default: {}", defaults.join("; "))));
            }
        } else {
            // Without an estimate, what is known of the model.
            state.shown.with(|shown| {
                let model = shown.as_ref().map(|shown| &shown.model);
                notes.extend(model.iter().flat_map(|model| model.anatomy.assumptions.iter().chain(&model.provenance.notes)).cloned().map(plain));
            });
        }
    });
    let strange = state.shown.with(|shown| shown.as_ref().map_or_else(Vec::new, |shown| shown.model.anatomy.keys_not_understood.clone()));
    if !strange.is_empty() {
        notes.push(plain(format!("Keys of config.json that may matter and are not understood: {}", strange.join(", "))));
    }
    notes
}

/// A setting's key in words.
fn name(key: &str) -> String {
    key.replace('_', " ")
}
