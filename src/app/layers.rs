//! The anatomy: the layers as a strip of tiles, in words, and as tables, which the page's second module writes.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::report;

use super::dom;
use super::reader::{self, Fetched};
use super::state::AppState;

/// The strip.
pub const MARKUP: &str = "\
    <section id='layers' class='card' aria-labelledby='layers-title'>\
      <h2 id='layers-title'>Layers</h2>\
      <div id='layers-strip' class='drawing'></div>\
      <p id='layers-words' class='note'></p>\
      <details id='anatomy' class='more'><summary>The whole anatomy</summary><div id='anatomy-tables'></div></details>\
    </section>";

/// Keeps it up to date.
pub fn bind(state: AppState) {
    dom::follow(move || {
        let width = state.widths.get().layers;
        state.shown.with(|shown| {
            let decoder = shown.as_ref().map(|shown| shown.model.decoder());
            dom::text("layers-words", &decoder.map_or_else(String::new, report::layers_sentence));
            dom::html("layers-strip", &decoder.filter(|_| width > 0).map_or_else(String::new, |decoder| chart::layer_strip(decoder, width).svg));
        });
    });
    let is_open = ArcRwSignal::new(false);
    let toggled = is_open.clone();
    // Made when it is asked for.
    dom::on("anatomy", "toggle", move |event| {
        reader::prepare();
        toggled.set(dom::target(&event, "open").is_truthy());
    });
    dom::follow(move || {
        let is_shown = is_open.get() && state.reader.get() == Fetched::Here;
        let tables = state.shown.with(|shown| shown.as_ref().filter(|_| is_shown).map(|shown| reader::anatomy(&shown.bytes)));
        dom::html("anatomy-tables", &tables.and_then(Result::ok).unwrap_or_default());
    });
}
