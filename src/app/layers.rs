//! The layers as a strip of tiles, and in words.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::format::grouped;
use vramfit::model::{Component, Mixer, Span};

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
            dom::text("layers-words", &decoder.map_or_else(String::new, sentence));
            dom::html("layers-strip", &decoder.filter(|_| width > 0).map_or_else(String::new, |decoder| chart::layer_strip(decoder, width).svg));
        });
    });
}

/// `48 × full attention (GQA 32/4 × 128), MoE 8 of 128 × 768. A token leaves 49,152 cached values in all of them.`
fn sentence(decoder: &Component) -> String {
    let groups = decoder.cache_groups();
    let mixers = groups.iter().map(|group| {
        let span = match group.attention.span {
            Span::Full => "full attention".to_owned(),
            Span::Sliding(window) => format!("attention over a window of {} tokens", grouped(window)),
        };
        format!("{} × {span} ({})", grouped(group.layers), Mixer::Attention(group.attention))
    });
    let mut feed_forwards: Vec<String> = Vec::new();
    for run in &decoder.layers {
        let name = run.layer.feed_forward.to_string();
        if !feed_forwards.contains(&name) {
            feed_forwards.push(name);
        }
    }
    let parts: Vec<String> = mixers.chain(feed_forwards).collect();
    let values = groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.layers.saturating_mul(group.attention.cache_elements_per_token())));
    format!("{}. A token leaves {} cached values in all of them.", parts.join(", "), grouped(values))
}
