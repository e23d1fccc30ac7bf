//! The address bar: a link opens its scenario, changes go into the link, another model is a step in the history.

use leptos::prelude::*;
use vramfit::link::Link;

use super::browser::{self, Entry, Later};
use super::load;
use super::state::AppState;

/// The query as it was last read or written, and as links write it.
#[derive(Clone, Copy)]
struct Address {
    shown: StoredValue<String>,
    link: StoredValue<String>,
}

thread_local! {
    static ADDRESS: std::cell::Cell<Option<Address>> = const { std::cell::Cell::new(None) };
}

/// Opens the address, and keeps it and the page alike from then on.
pub fn follow(state: AppState) {
    let address = Address { shown: StoredValue::new(String::new()), link: StoredValue::new(String::new()) };
    ADDRESS.set(Some(address));
    open(state, address);
    window_event_listener(leptos::ev::popstate, move |_| {
        // A jump within the page has the same query.
        if browser::query() != address.shown.get_value() {
            open(state, address);
        }
    });
    let later = Later::new();
    Effect::new(move |_| {
        state.link.track();
        later.run(250, move || write(state, address, Entry::Same));
    });
}

/// Takes over what the address says.
fn open(state: AppState, address: Address) {
    let query = browser::query();
    let Link { model, endpoint, scenario, unknown, problems } = Link::decode(&query);
    address.shown.set_value(query);
    state.set_endpoint(endpoint.as_deref().unwrap_or_default());
    state.scenario.set(scenario);
    state.unknown.set(unknown);
    state.notices.set(problems);
    state.cursor.set(None);
    load::open(state, model);
    // What was opened is not written again until something changes.
    address.link.set_value(state.link.get_untracked());
}

/// Does what makes another model the one that is shown, as a step in the history.
pub fn step(state: AppState, change: impl FnOnce()) {
    let Some(address) = ADDRESS.get() else {
        change();
        return;
    };
    // What was chosen before belongs to the entry before.
    write(state, address, Entry::Same);
    change();
    write(state, address, Entry::New);
}

fn write(state: AppState, address: Address, entry: Entry) {
    let link = state.link.get_untracked();
    if address.link.get_value() == link {
        return;
    }
    browser::set_query(&link, entry);
    address.link.set_value(link);
    address.shown.set_value(browser::query());
}
