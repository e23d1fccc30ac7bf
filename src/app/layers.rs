//! The layers as a strip of tiles, and in words.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::report;

use super::dom;
use super::state::AppState;

/// The strip.
pub const MARKUP: &str = "\
    <section id='layers' class='card' aria-labelledby='layers-title'>\
      <h2 id='layers-title'>Layers</h2>\
      <div id='layers-strip' class='drawing'></div>\
      <p id='layers-words' class='note'></p>\
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
}
