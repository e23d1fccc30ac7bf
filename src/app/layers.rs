//! The layers as a strip of tiles, and in words.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::format::grouped;
use vramfit::model::{Component, Mixer, Span};

use super::state::AppState;

/// The strip.
pub fn view(state: AppState) -> AnyView {
    let of_decoder =
        move |read: &dyn Fn(&Component) -> String| state.shown.with(|shown| shown.as_ref().map_or_else(String::new, |shown| read(shown.model.decoder())));
    let strip = Memo::new(move |_| {
        let width = state.widths.get().layers;
        if width == 0 { String::new() } else { of_decoder(&|decoder| chart::layer_strip(decoder, width).svg) }
    });
    let words = Memo::new(move |_| of_decoder(&sentence));
    view! {
        <section id="layers" class="card" aria-labelledby="layers-title">
            <h2 id="layers-title">"Layers"</h2>
            <div id="layers-strip" class="drawing" inner_html=strip></div>
            <p class="note">{words}</p>
        </section>
    }
    .into_any()
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
