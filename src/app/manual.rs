//! The form for a model by hand: a field for each size. What is wrong with them, the reader says.

use leptos::prelude::*;
use vramfit::config::manual::SIZES;
use vramfit::link::ModelLink;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

use super::state::AppState;
use super::{dom, load};

/// The form, folded away.
pub fn markup() -> String {
    let mut out =
        String::from("<details id='by-hand' class='more'><summary>By hand</summary><div class='more__body'><fieldset aria-label='Sizes of a model by hand'>");
    for size in SIZES {
        let id = ["by-hand-", size.name].concat();
        let head = ["<div class='field'><label for='", &id, "'>"].concat();
        let input = ["</label><input id='", &id, "' class='number' type='text' autocomplete='off' spellcheck='false'></div>"].concat();
        dom::weave(&mut out, &[&head, size.label, &input]);
    }
    out + "</fieldset><p class='note'>Leave out what you do not know: what is assumed then is said. Parameters in all may stand for the intermediate size.</p>\
        <button type='button' id='by-hand-take'>Use these sizes</button></div></details>"
}

/// Makes it work.
pub fn bind(state: AppState) {
    dom::on("by-hand-take", "click", move |_| take(state));
    dom::on("by-hand", "keydown", move |event| {
        let is_in_field = event.target().is_some_and(|target| target.is_instance_of::<HtmlInputElement>());
        if is_in_field && dom::key(&event) == "Enter" {
            event.prevent_default();
            take(state);
        }
    });
    // A link's sizes come into the form.
    dom::follow(move || {
        let sizes = state.shown.with(|shown| match shown.as_ref().map(|shown| &shown.link) {
            Some(ModelLink::Manual(sizes)) => Some(sizes.clone()),
            _ => None,
        });
        let Some(sizes) = sizes else { return };
        for size in SIZES {
            let value = sizes.split(',').filter_map(|pair| pair.split_once(':')).find(|(name, _)| *name == size.name).map_or("", |(_, value)| value);
            dom::set_value(&["by-hand-", size.name].concat(), value);
        }
        dom::flag("by-hand", "open", true);
    });
}

fn take(state: AppState) {
    let mut sizes = String::new();
    for size in SIZES {
        let value = dom::element(&["by-hand-", size.name].concat()).and_then(|field| dom::get(&field, "value").as_string()).unwrap_or_default();
        // Commas part the sizes; in a number they part its digits.
        let value: String = value.chars().filter(|letter| !letter.is_whitespace() && *letter != ',').collect();
        if !value.is_empty() {
            sizes.push_str(if sizes.is_empty() { "" } else { "," });
            sizes.push_str(size.name);
            sizes.push(':');
            sizes.push_str(&value);
        }
    }
    load::take_by_hand(state, sizes);
}
