//! What was assumed, and what one should know.

use leptos::prelude::*;

use vramfit::format::sentence;

use super::dom;
use super::state::{Answer, AppState};

/// The list.
pub const MARKUP: &str = "\
    <section id='notes' class='card' aria-labelledby='assumptions-title'>\
      <h2 id='assumptions-title'>What this rests on</h2>\
      <div id='assumptions'><ul id='known'></ul><ul id='defaults'></ul></div>\
    </section>";

/// Keeps it up to date.
pub fn bind(state: AppState) {
    dom::follow(move || {
        let (known, defaults) = (known(state), defaults(state));
        dom::flag("notes", "hidden", known.is_empty() && defaults.is_empty());
        dom::flag("known", "hidden", known.is_empty());
        dom::flag("defaults", "hidden", defaults.is_empty());
        dom::html("known", &known);
        dom::html("defaults", &defaults);
    });
}

/// Appends a sentence to the list.
fn note(out: &mut String, opening: &str, text: &str) {
    dom::weave(out, &[opening, &sentence(text), "</li>"]);
}

const PLAIN: &str = "<li>";

/// What was assumed, and what is odd.
fn known(state: AppState) -> String {
    const WARNING: &str = "<li class='warning'>";
    let mut out = String::new();
    state.notices.with(|notices| notices.iter().for_each(|text| note(&mut out, WARNING, text)));
    state.answer.with(|answer| {
        if let Answer::Estimate(estimate) = answer {
            estimate.warnings.iter().for_each(|text| note(&mut out, WARNING, text));
            estimate.assumptions.iter().for_each(|text| note(&mut out, PLAIN, text));
        } else {
            // Without an estimate, what is known of the model.
            state.shown.with(|shown| {
                if let Some(shown) = shown {
                    shown.model.anatomy.assumptions.iter().for_each(|text| note(&mut out, PLAIN, text));
                    shown.model.provenance.notes.iter().for_each(|text| note(&mut out, PLAIN, text));
                }
            });
        }
    });
    let strange = state.shown.with(|shown| shown.as_ref().map_or_else(String::new, |shown| shown.model.anatomy.keys_not_understood.join(", ")));
    if !strange.is_empty() {
        note(&mut out, PLAIN, &format!("Keys of config.json that may matter and are not understood: {strange}"));
    }
    out
}

/// The settings that nobody chose, with the rules that did.
fn defaults(state: AppState) -> String {
    let mut out = String::new();
    state.answer.with(|answer| {
        let Answer::Estimate(estimate) = answer else { return };
        for choice in &estimate.choices {
            if let Some(rule) = &choice.default {
                let opening = if out.is_empty() { "<li>Left at their defaults:<ul><li>" } else { PLAIN };
                dom::weave(&mut out, &[opening, &name(choice.key), ": ", &choice.value, " (", rule, ")</li>"]);
            }
        }
    });
    if !out.is_empty() {
        out.push_str("</ul></li>");
    }
    out
}

/// A setting's key in words.
fn name(key: &str) -> String {
    key.replace('_', " ")
}
