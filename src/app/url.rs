//! The address bar: a link opens its scenario, changes go into the link, another model is a step in the history.

use std::cell::RefCell;

use leptos::prelude::*;
use vramfit::link::Link;

use super::browser::{self, Entry, Later};
use super::dom;
use super::load;
use super::state::AppState;

/// The query as it was last read or written, and as links write it.
#[derive(Default)]
struct Address {
    shown: String,
    link: String,
}

thread_local! {
    static ADDRESS: RefCell<Address> = RefCell::default();
}

/// Opens the address, and keeps it and the page alike from then on.
pub fn follow(state: AppState) {
    open(state);
    dom::on_window("popstate", move |_| {
        // A jump within the page has the same query.
        if ADDRESS.with_borrow(|address| address.shown != browser::query()) {
            open(state);
        }
    });
    let later = Later::default();
    dom::follow(move || {
        // The link is made when it is written.
        state.endpoint.track();
        state.named.track();
        state.scenario.track();
        state.unknown.track();
        later.run(250, Box::new(move || write(state, Entry::Same)));
    });
}

/// Takes over what the address says.
fn open(state: AppState) {
    let query = browser::query();
    let Link { model, endpoint, scenario, unknown, problems } = Link::decode(&query);
    state.set_endpoint(endpoint.as_deref().unwrap_or_default());
    state.scenario.set(scenario);
    state.unknown.set(unknown);
    state.notices.set(problems);
    state.cursor.set(None);
    load::open(state, model);
    // What was opened is not written again until something changes.
    ADDRESS.set(Address { shown: query, link: state.link.get_untracked() });
}

/// Does what makes another model the one that is shown, as a step in the history.
pub fn step(state: AppState, change: impl FnOnce()) {
    // What was chosen before belongs to the entry before.
    write(state, Entry::Same);
    change();
    write(state, Entry::New);
}

fn write(state: AppState, entry: Entry) {
    let link = state.link.get_untracked();
    if ADDRESS.with_borrow(|address| address.link == link) {
        return;
    }
    browser::set_query(&link, entry);
    ADDRESS.set(Address { shown: browser::query(), link });
}
