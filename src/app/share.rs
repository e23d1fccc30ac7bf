//! The head of the page, and what one can take away: the link, the JSON, the unit.

use leptos::prelude::*;
use leptos::task::spawn_local;
use vramfit::format::Unit;
use vramfit::reader::desk;

use super::browser;
use super::dom;
use super::reader;
use super::state::{Answer, AppState};

/// The head.
pub const MARKUP: &str = "\
    <header class='topbar'>\
      <h1 class='brand'>vram<span>fit</span></h1>\
      <div class='actions'>\
        <button type='button' id='unit-toggle' title='Sizes in GiB (2^30 bytes) or GB (10^9 bytes)'></button>\
        <button type='button' id='download'><span>Download </span>JSON</button>\
        <button type='button' id='copy-link' class='primary'>Copy link</button>\
      </div>\
    </header>";

/// Makes it work.
pub fn bind(state: AppState) {
    dom::follow(move || {
        let unit = state.unit.get().name();
        dom::text("unit-toggle", unit);
        dom::attribute("unit-toggle", "aria-label", &["Unit: ", unit].concat());
    });
    dom::follow(move || dom::flag("download", "disabled", state.answer.with(|answer| !matches!(answer, Answer::Estimate(_)))));
    dom::on("unit-toggle", "click", move |_| state.unit.update(|unit| *unit = if *unit == Unit::Gib { Unit::Gb } else { Unit::Gib }));
    dom::on("download", "click", move |_| download(state));
    dom::on("copy-link", "click", move |_| copy_link(state));
}

fn copy_link(state: AppState) {
    let address = browser::address_with(&state.link.get_untracked());
    spawn_local(async move {
        let said = if browser::copy(&address).await { "Link copied." } else { "The browser does not let this page copy: the link is in the address bar." };
        state.said.set(said.to_owned());
    });
}

fn download(state: AppState) {
    let Some(shown) = state.shown.get_untracked() else { return };
    let query = state.scenario.with_untracked(desk::query);
    let name = shown.model.provenance.id.as_deref().unwrap_or("config").replace('/', "--");
    spawn_local(async move {
        let text = match reader::fetch().await {
            Some(_) => reader::report(&shown.bytes, &query),
            None => Err("The part of this page that writes it could not be fetched.".to_owned()),
        };
        let said = match text.map(|text| browser::download(&["vramfit-", &name, ".json"].concat(), &text)) {
            Ok(Ok(())) => "The estimate is downloaded as JSON.".to_owned(),
            Ok(Err(_)) => "The browser did not take the file.".to_owned(),
            Err(problem) => problem,
        };
        state.said.set(said);
    });
}
