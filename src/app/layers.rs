//! The layers as a strip of tiles, and in words.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::model::Component;
use vramfit::report;

use super::state::AppState;

/// The strip.
pub fn view(state: AppState) -> AnyView {
    let of_decoder =
        move |read: &dyn Fn(&Component) -> String| state.shown.with(|shown| shown.as_ref().map_or_else(String::new, |shown| read(shown.model.decoder())));
    let strip = Memo::new(move |_| {
        let width = state.widths.get().layers;
        if width == 0 { String::new() } else { of_decoder(&|decoder| chart::layer_strip(decoder, width).svg) }
    });
    let words = Memo::new(move |_| of_decoder(&report::layers_sentence));
    view! {
        <section id="layers" class="card" aria-labelledby="layers-title">
            <h2 id="layers-title">"Layers"</h2>
            <div id="layers-strip" class="drawing" inner_html=strip></div>
            <p class="note">{words}</p>
        </section>
    }
    .into_any()
}
