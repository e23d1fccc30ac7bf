//! The form for a model by hand: a field for each size. What is wrong with them, the reader says.

use std::cell::Cell;

use leptos::prelude::*;
use vramfit::config::manual::SIZES;
use vramfit::link::ModelLink;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

use super::state::{AppState, Shown};
use super::{dom, load};

/// The form, folded away; it is made when it is first opened.
pub const MARKUP: &str = "<details id='by-hand' class='more'><summary>By hand</summary><div class='more__body' id='by-hand-body'></div></details>";

/// Below the fields.
const LAST: &str = "\
    </fieldset><p class='note'>Leave out what you do not know: what is assumed then is said. Parameters in all may stand for the intermediate size.</p>\
    <button type='button' data-does='by-hand'>Use these sizes</button>";

/// Makes it work.
pub fn bind(state: AppState) {
    let is_made = Cell::new(false);
    dom::on("by-hand", "toggle", move |_| {
        if !is_made.replace(true) {
            make();
            state.shown.with_untracked(|shown| fill(shown.as_ref()));
        }
    });
    dom::on("by-hand", "click", move |event| {
        if dom::nearest(&event, "data-does").is_some() {
            take(state);
        }
    });
    dom::on("by-hand", "keydown", move |event| {
        let is_in_field = event.target().is_some_and(|target| target.is_instance_of::<HtmlInputElement>());
        if is_in_field && dom::key(&event) == "Enter" {
            event.prevent_default();
            take(state);
        }
    });
    // A link's sizes come into the form.
    dom::follow(move || state.shown.with(|shown| fill(shown.as_ref())));
}

fn id_of(name: &str) -> String {
    ["by-hand-", name].concat()
}

fn make() {
    let mut out = String::from("<fieldset aria-label='Sizes of a model by hand'>");
    for size in SIZES {
        let id = id_of(size.name);
        let head = ["<div class='field'><label for='", &id, "'>"].concat();
        let input = ["</label><input id='", &id, "' class='number' type='text' autocomplete='off' spellcheck='false'></div>"].concat();
        dom::weave(&mut out, &[&head, size.label, &input]);
    }
    dom::html("by-hand-body", &[&out, LAST].concat());
}

/// Shows the sizes of the model that is shown, if it is one by hand.
fn fill(shown: Option<&Shown>) {
    let Some(ModelLink::Manual(sizes)) = shown.map(|shown| &shown.link) else { return };
    for size in SIZES {
        let value = sizes.split(',').filter_map(|pair| pair.split_once(':')).find(|(name, _)| *name == size.name).map_or("", |(_, value)| value);
        let id = id_of(size.name);
        // Whoever typed into it since, typed over what was written last.
        dom::forget_value(&id);
        dom::set_value(&id, value);
    }
    dom::flag("by-hand", "open", true);
}

fn take(state: AppState) {
    let mut sizes = String::new();
    for size in SIZES {
        let value = dom::element(&id_of(size.name)).and_then(|field| dom::get(&field, "value").as_string()).unwrap_or_default();
        // Spaces part the sizes.
        let value: String = value.chars().filter(|letter| !letter.is_whitespace()).collect();
        if !value.is_empty() {
            sizes.push_str(&[if sizes.is_empty() { "" } else { "," }, size.name, ":", &value].concat());
        }
    }
    load::take_by_hand(state, sizes);
}
