//! The strip: a tile per layer, its class by what mixes tokens in it.

use std::fmt::Write;

use super::{Drawing, LEAST_WIDTH, Plot, drawable, pixels, svg};
use crate::format::parameters;
use crate::model::{Attention, Component, Keeps, LayerRun, Mixer, Span};
use crate::quantity::ParamCount;

/// A tile and the space beside it are at least this wide, in drawing units: what is more goes on in another row.
const LEAST_PITCH: i32 = 6 * svg::PIXEL;
/// A tile and the space beside it are at most this wide.
const WIDEST_PITCH: i32 = 40 * svg::PIXEL;
/// Between tiles and between rows.
const GAP: i32 = 2 * svg::PIXEL;
/// Height of a tile.
const TALL: i32 = 22 * svg::PIXEL;
/// With more layers a tile stands for several.
const MOST_TILES: u64 = 512;

/// One tile per layer, in rows as long as the width allows, each with its description in a `title`.
pub fn layer_strip(component: &Component, width: u32) -> Drawing {
    let (width, room) = drawable(width, LEAST_WIDTH);
    let layers = component.layers.iter().fold(0u64, |sum, run| sum.saturating_add(run.count));
    let per_tile = layers.div_ceil(MOST_TILES).max(1);
    let tiles = i32::try_from(layers.div_ceil(per_tile)).unwrap_or(0);

    let in_row = room / LEAST_PITCH;
    let rows = ((tiles + in_row - 1) / in_row).max(1);
    let per_row = ((tiles + rows - 1) / rows).max(1);
    let pitch = (room / per_row).min(WIDEST_PITCH);
    let size = (width, (rows * (TALL + GAP) - GAP).unsigned_abs() / svg::PIXEL.unsigned_abs());

    let mut out = String::new();
    svg::open(&mut out, "layers", size);
    for index in 0..tiles {
        let first = u64::from(index.unsigned_abs()).saturating_mul(per_tile);
        let Some(run) = run_of(component, first) else { continue };
        let place = (index % per_row * pitch, index / per_row * (TALL + GAP));
        svg::tile(&mut out, kind(run), place, (pitch - GAP, TALL), &title(run, first, first.saturating_add(per_tile).min(layers)));
    }
    out.push_str("</svg>");
    let plot = Plot { left: 0.0, top: 0.0, right: pixels(per_row * pitch), bottom: f64::from(size.1), start: 0, end: layers, max_bytes: 0 };
    Drawing { svg: out, width: size.0, height: size.1, plot }
}

/// The run that a layer is in.
fn run_of(component: &Component, layer: u64) -> Option<&LayerRun> {
    let mut end = 0u64;
    component.layers.iter().find(|run| {
        end = end.saturating_add(run.count);
        layer < end
    })
}

/// What a tile's class says of a layer.
const fn kind(run: &LayerRun) -> &'static str {
    match run.layer.mixer {
        Mixer::Attention(Attention { keeps: Keeps::Encoder, .. }) => "cross",
        Mixer::Attention(Attention { span: Span::Full, .. }) => "full",
        Mixer::Attention(_) => "sliding",
        Mixer::Latent(_) => "latent",
        Mixer::Recurrent(_) => "recurrent",
        Mixer::Parallel(..) => "parallel",
        Mixer::None => "none",
    }
}

/// `Layer 12: GQA 32/4 × 128, full; MoE 8 of 128 × 768; 627 M parameters`
fn title(run: &LayerRun, first: u64, end: u64) -> String {
    let mut out = if end - first > 1 { format!("Layers {first} to {}", end - 1) } else { format!("Layer {first}") };
    let span = run.layer.mixer.span().map(|span| format!(", {span}")).unwrap_or_default();
    let _ = write!(out, ": {}{span}; {}", run.layer.mixer, run.layer.feed_forward);
    let elements = run.tensors.iter().try_fold(ParamCount::ZERO, |sum, tensor| sum.plus(tensor.elements()?));
    if let Ok(elements) = elements
        && elements > ParamCount::ZERO
    {
        let _ = write!(out, "; {} parameters", parameters(elements));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Element, read};
    use super::*;
    use crate::model::{ComponentKind, FeedForward, Layer, Role, Tensor};

    fn run(count: u64, span: Span) -> LayerRun {
        let attention = Attention { heads: 32, kv_heads: 4, key_dim: 128, value_dim: 128, span, keeps: Keeps::Own };
        let feed_forward = FeedForward::Dense { intermediate: 14_336, gated: true };
        let tensor = Tensor { name: "self_attn.q_proj.weight".to_owned(), role: Role::Query, shape: vec![4096, 2048], count: 1, stored: None };
        LayerRun { count, layer: Layer { mixer: Mixer::Attention(attention), feed_forward }, tensors: vec![tensor] }
    }

    fn component(layers: Vec<LayerRun>) -> Component {
        Component {
            name: "text".into(),
            kind: ComponentKind::TextDecoder,
            hidden_size: 2048,
            vocab_size: 32_000,
            base: "model".into(),
            layer_prefix: "model.layers".into(),
            tensors: Vec::new(),
            layers,
            work: crate::model::Work::Tokens,
        }
    }

    fn tiles(elements: &[Element]) -> Vec<&Element> {
        elements.iter().filter(|element| element.name == "rect").collect()
    }

    #[test]
    fn every_layer_has_a_tile() {
        let drawing = layer_strip(&component((0..24).flat_map(|_| [run(1, Span::Sliding(4096)), run(1, Span::Full)]).collect()), 300);
        let elements = read(&drawing);
        let tiles = tiles(&elements);
        assert_eq!((tiles.len(), drawing.height), (48, 22));
        assert_eq!((tiles[0].class(), tiles[1].class()), ("tile tile--sliding", "tile tile--full"));
        let names: Vec<_> = elements.iter().filter(|element| element.name == "title").map(|element| element.text.as_str()).collect();
        assert_eq!(names.len(), 48);
        assert_eq!(names[13], "Layer 13: GQA 32/4 × 128, full; gated 14336; 8.39 M parameters");
    }

    #[test]
    fn more_than_a_row_holds_goes_on_below() {
        let drawing = layer_strip(&component(vec![run(94, Span::Full)]), 300);
        let elements = read(&drawing);
        let tiles = tiles(&elements);
        assert_eq!((tiles.len(), drawing.height), (94, 46));
        assert_eq!(tiles.iter().filter(|tile| tile.number("y") > 1.0).count(), 47);
        assert!(tiles.iter().all(|tile| tile.number("width") >= 4.0));
    }

    #[test]
    fn any_number_of_layers_and_any_width_is_drawn() {
        for width in [0, 300, 900, u32::MAX] {
            for count in [0, 1, 12, 80, 511, 513, 100_000, u64::MAX] {
                let drawing = layer_strip(&component(vec![run(count, Span::Full)]), width);
                let elements = read(&drawing);
                let tiles = tiles(&elements);
                assert!(tiles.len() <= 512 && tiles.is_empty() == (count == 0), "{count} layers in {width} pixels");
            }
        }
        let two = layer_strip(&component(vec![run(u64::MAX, Span::Full), run(u64::MAX, Span::Full)]), 300);
        assert!(tiles(&read(&two)).len() <= 512);
    }
}
