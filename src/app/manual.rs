//! The form for a model by hand: a field for each size. Which there are and what is wrong with them, the reader says.

use std::cell::Cell;

use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::link::ModelLink;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

use super::state::{AppState, Shown};
use super::{dom, load};

/// The form, folded away; it is made when it is first opened.
pub const MARKUP: &str = "<details id='by-hand' class='more'><summary>By hand</summary><div class='more__body' id='by-hand-body'></div></details>";

thread_local! {
    /// What the reader said of the sizes; empty until the form was opened.
    static SIZES: Cell<&'static str> = const { Cell::new("") };
}

/// Below the fields.
const LAST: &str = "\
    </fieldset><p class='note'>Leave out what you do not know: what is assumed then is said. Parameters in all may stand for the intermediate size.</p>\
    <button type='button' data-does='by-hand'>Use these sizes</button>";

/// Makes it work.
pub fn bind(state: AppState) {
    dom::on("by-hand", "toggle", move |_| {
        spawn_local(async move {
            if SIZES.get().is_empty() && make().await.is_some() {
                state.shown.with_untracked(|shown| fill(shown.as_ref()));
            }
        });
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

/// The sizes that there are, a line each: the name and, behind `=`, what it is.
fn sizes() -> impl Iterator<Item = (&'static str, &'static str)> {
    SIZES.get().lines().filter_map(|line| line.split_once('='))
}

/// Makes the fields; `None` where the reader cannot be fetched: then the next opening tries again.
async fn make() -> Option<()> {
    let lines = super::reader::fetch().await?.sizes().ok()?;
    SIZES.set(lines.leak());
    let mut out = String::from("<fieldset aria-label='Sizes of a model by hand'>");
    for (name, label) in sizes() {
        let id = id_of(name);
        let head = ["<div class='field'><label for='", &id, "'>"].concat();
        let input = ["</label><input id='", &id, "' class='number' type='text' autocomplete='off' spellcheck='false'></div>"].concat();
        dom::weave(&mut out, &[&head, label, &input]);
    }
    dom::html("by-hand-body", &[&out, LAST].concat());
    Some(())
}

/// Shows the sizes of the model that is shown, if it is one by hand.
fn fill(shown: Option<&Shown>) {
    let Some(ModelLink::Manual(sizes)) = shown.map(|shown| &shown.link) else { return };
    for (size, _) in self::sizes() {
        let value = sizes.split(',').filter_map(|pair| pair.split_once(':')).find(|(name, _)| *name == size).map_or("", |(_, value)| value);
        let id = id_of(size);
        // Whoever typed into it since, typed over what was written last.
        dom::forget_value(&id);
        dom::set_value(&id, value);
    }
    dom::flag("by-hand", "open", true);
}

fn take(state: AppState) {
    let mut given = String::new();
    for (size, _) in sizes() {
        let value = dom::element(&id_of(size)).and_then(|field| dom::get(&field, "value").as_string()).unwrap_or_default();
        // Spaces part the sizes.
        let value: String = value.chars().filter(|letter| !letter.is_whitespace()).collect();
        if !value.is_empty() {
            given.push_str(&[if given.is_empty() { "" } else { "," }, size, ":", &value].concat());
        }
    }
    load::take_by_hand(state, given);
}
