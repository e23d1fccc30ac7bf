//! Drawings as SVG text, the same on the page and on the command line: the bar at the peak, the bars of all stages, the curve over
//! the context, the strip of layers.
//!
//! Drawn with plotters on the paper of `svg`, which knows classes instead of colours; their list is there. The table behind a
//! drawing is its accessible form, so drawings are hidden from screen readers.

mod breakdown;
mod curve;
mod layers;
mod stages;
mod svg;

pub use breakdown::breakdown;
pub use curve::curve;
pub use layers::layer_strip;
pub use stages::{stages, stages_in_words};

use plotters::drawing::DrawingAreaErrorKind;

use crate::format::{Unit, grouped};
use crate::quantity::{Bytes, Overflow};

/// A drawing could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChartError {
    /// A sum did not fit.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The drawing library refused.
    #[error("the drawing could not be made")]
    Drawing,
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for ChartError {
    fn from(_: DrawingAreaErrorKind<E>) -> Self {
        Self::Drawing
    }
}

/// A finished drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The `svg` element.
    pub svg: String,
    /// Its width in CSS pixels, as its `viewBox` has it; widths that cannot be drawn are moved into the range that can.
    pub width: u32,
    /// Its height, likewise.
    pub height: u32,
    /// Where values are in it.
    pub plot: Plot,
}

/// The plotting area in CSS pixels of the drawing, and what its edges stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plot {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Lower edge.
    pub bottom: f64,
    /// At the left edge: tokens (curve), bytes (breakdown) or layers (strip).
    pub start: u64,
    /// At the right edge, likewise.
    pub end: u64,
    /// At the upper edge of a curve, at the right edge of a bar.
    pub max_bytes: u64,
}

impl Plot {
    /// The context at a horizontal position of a curve; positions outside it count as its edge.
    pub fn context_at(&self, x: f64) -> u64 {
        let (start, end) = self.doublings();
        let along = ((x - self.left) / (self.right - self.left)).clamp(0.0, 1.0);
        rounded(exp2(start + along * (end - start))).max(self.start).min(self.end)
    }

    /// The horizontal position of a context in a curve; outside the plot for contexts beyond its edges.
    pub fn x_of(&self, context: u64) -> f64 {
        let (start, end) = self.doublings();
        if end <= start {
            return self.left;
        }
        self.left + (log2(context) - start) / (end - start) * (self.right - self.left)
    }

    /// The vertical position of a size in a curve; the upper edge for what lies above it.
    pub fn y_of(&self, bytes: Bytes) -> f64 {
        let part = float(bytes.get()) / float(self.max_bytes.max(1));
        self.bottom - part.min(1.0) * (self.bottom - self.top)
    }

    fn doublings(&self) -> (f64, f64) {
        (log2(self.start), log2(self.end))
    }
}

/// For positions, which need no more than the 53 bits that are kept.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

/// Binary places of the two functions below, far finer than a pixel. They do without the tables of the usual ones, which would be
/// a good part of the page.
const PLACES: u32 = 40;

/// The binary logarithm, bit by bit: a square doubles it. That of 0 counts as that of 1.
fn log2(value: u64) -> f64 {
    let whole = value.max(1).ilog2();
    let mut rest = float(value.max(1)) / float(1 << whole);
    let (mut out, mut place) = (f64::from(whole), 0.5);
    for _ in 0..PLACES {
        rest *= rest;
        if rest >= 2.0 {
            rest /= 2.0;
            out += place;
        }
        place /= 2.0;
    }
    out
}

/// Two to the power of a number from 0 to 64: a root for each binary place.
fn exp2(power: f64) -> f64 {
    let whole = rounded(power.floor()).min(63);
    let mut rest = power - float(whole);
    let (mut out, mut root, mut place) = (float(1 << whole), 2.0f64, 1.0);
    for _ in 0..PLACES {
        (root, place) = (root.sqrt(), place / 2.0);
        if rest >= place {
            rest -= place;
            out *= root;
        }
    }
    out
}

/// The nearest whole number; 0 for what is not a number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// Drawing units as CSS pixels.
fn pixels(units: i32) -> f64 {
    f64::from(units) / f64::from(svg::PIXEL)
}

/// A width that can be drawn, in pixels and in drawing units.
fn drawable(size: u32, least: u32) -> (u32, i32) {
    let size = size.clamp(least, 4000);
    (size, i32::try_from(size).unwrap_or(i32::MAX / svg::PIXEL) * svg::PIXEL)
}

/// The least width of a drawing in pixels: narrower ones are made this wide and shrink in the page.
const LEAST_WIDTH: u32 = 160;

/// The marks of an axis: multiples of a round number of thousandths of the unit.
#[derive(Clone, Copy, Debug)]
struct Marks {
    unit: Unit,
    /// Thousandths of the unit.
    step: u128,
}

impl Marks {
    /// About `count` marks, at most that many above zero.
    fn up_to(max: Bytes, count: u128, unit: Unit) -> Self {
        let least = thousandths(max, unit).div_ceil(count);
        let mut power = 1;
        loop {
            for digit in [1, 2, 4, 5] {
                if digit * power >= least {
                    return Self { unit, step: digit * power };
                }
            }
            power *= 10;
        }
    }

    /// The first mark that is not below `bytes`.
    fn above(self, bytes: Bytes) -> Bytes {
        self.bytes(thousandths(bytes, self.unit).div_ceil(self.step).max(1))
    }

    /// Every mark from zero to `max`, with its figure.
    fn list(self, max: Bytes) -> Vec<(Bytes, String)> {
        let count = thousandths(max, self.unit) / self.step;
        let marks = (0..=count).map(|index| (self.bytes(index), self.figure(index)));
        marks.filter(|(bytes, _)| *bytes <= max).collect()
    }

    fn bytes(self, index: u128) -> Bytes {
        Bytes(u64::try_from(index * self.step * u128::from(self.unit.bytes()) / 1000).unwrap_or(u64::MAX))
    }

    /// `0`, `20`, `0.05`
    fn figure(self, index: u128) -> String {
        let value = index * self.step;
        let whole = grouped(u64::try_from(value / 1000).unwrap_or(u64::MAX));
        match u64::try_from(value % 1000).unwrap_or(0) {
            0 => whole,
            rest => format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

/// A size in thousandths of a unit, rounded up.
fn thousandths(bytes: Bytes, unit: Unit) -> u128 {
    (u128::from(bytes.get()) * 1000).div_ceil(u128::from(unit.bytes()))
}

/// What the tests of the drawings share: devices made by hand, and a reader of SVG that is stricter than a browser.
#[cfg(test)]
mod testing {
    use super::svg;
    use crate::estimate::{ALWAYS, Amount, Basis, Budget, Device, Entry, Ledger, Stage, Term};
    use crate::formula::Expr;
    use crate::quantity::{Bytes, GIB};

    /// Tenths of a GiB.
    pub fn tenths(count: u64) -> Bytes {
        Bytes(count * GIB / 10)
    }

    pub fn entry(term: Term, bytes: Bytes) -> Entry {
        Entry { term, amount: Amount::exactly(bytes), basis: Basis::Exact, formula: Expr::constant(bytes.get()), source: "test", stages: ALWAYS }
    }

    pub fn device(usable: Bytes, budget: Option<Bytes>, terms: &[(Term, Bytes)]) -> Device {
        Device {
            ranks: 0..1,
            gpu: "H100".to_owned(),
            capacity: usable,
            usable,
            budget: budget.map(|bytes| Budget { bytes, formula: Expr::constant(bytes.get()), name: "vLLM budget", outside: &[Term::RuntimeContext] }),
            claim: budget,
            minimum: None,
            ledger: Ledger { stages: Stage::SERVING, entries: terms.iter().map(|(term, bytes)| entry(*term, *bytes)).collect() },
            slack: None,
        }
    }

    /// The example of the design: 70.6 of 72.9 of 79.2 GiB.
    pub const EXAMPLE: [(Term, u64); 6] =
        [(Term::Weights, 569), (Term::KvCache, 60), (Term::Activations, 38), (Term::Logits, 20), (Term::CudaGraphs, 8), (Term::RuntimeContext, 11)];

    pub fn example() -> Device {
        device(tenths(792), Some(tenths(729)), &EXAMPLE.map(|(term, size)| (term, tenths(size))))
    }

    #[derive(Debug)]
    pub struct Element {
        pub name: String,
        pub attributes: Vec<(String, String)>,
        pub text: String,
    }

    impl Element {
        pub fn get(&self, key: &str) -> Option<&str> {
            self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
        }

        pub fn number(&self, key: &str) -> f64 {
            self.get(key).unwrap_or_else(|| panic!("{key} of {self:?}")).parse().unwrap()
        }

        /// What stays when its places and its text change.
        pub fn kind(&self) -> (String, Vec<String>, bool) {
            (self.name.clone(), self.attributes.iter().map(|(name, _)| name.clone()).collect(), self.text.is_empty())
        }

        pub fn class(&self) -> &str {
            self.get("class").unwrap_or_default()
        }

        /// From where to where a polygon reaches sideways; `None` for one without points.
        pub fn extent(&self) -> Option<(f64, f64)> {
            let xs = || points(self.get("points").unwrap()).into_iter().map(|(x, _)| x);
            xs().reduce(f64::min).zip(xs().reduce(f64::max))
        }

        /// The box of a text: left, top, right, bottom.
        fn text_box(&self) -> (f64, f64, f64, f64) {
            let size = self.number("font-size");
            let em = if self.get("font-weight").is_some() { 0.66 } else { 0.6 };
            let width = f64::from(u32::try_from(unescape(&self.text).chars().count()).unwrap()) * size * em;
            let left = match self.get("text-anchor") {
                Some("start") => self.number("x"),
                Some("middle") => self.number("x") - width / 2.0,
                Some("end") => self.number("x") - width,
                other => panic!("{other:?}"),
            };
            (left, self.number("y") - size * 0.8, left + width, self.number("y") + size * 0.2)
        }
    }

    fn unescape(text: &str) -> String {
        let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
        assert!(!plain.replace("&amp;", "").contains('&'), "{text}");
        plain.replace("&amp;", "&")
    }

    fn is_documented(class: &str) -> bool {
        let (documentation, _) = include_str!("svg.rs").split_once("use std").unwrap();
        let named = match class.split_once('-') {
            Some(("fill" | "area", term)) if Term::all().any(|known| known.name() == term) => class.replace(term, "TERM"),
            _ => class.to_owned(),
        };
        documentation.contains(&format!("`{named}`"))
    }

    /// The points of a polygon or a line.
    pub fn points(points: &str) -> Vec<(f64, f64)> {
        let numbers: Vec<f64> = points.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len().is_multiple_of(2), "{points}");
        numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// Reads a drawing and checks what holds for all of them.
    pub fn read(drawing: &super::Drawing) -> Vec<Element> {
        let (mut elements, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut rest = drawing.svg.as_str();
        assert!(!rest.contains('#') && !rest.contains("style=") && !rest.contains("rgb") && !rest.contains("NaN"), "{rest}");
        while let Some((text, tail)) = rest.split_once('<') {
            match open.last() {
                Some(&index) => elements[index].text.push_str(text),
                None => assert!(text.is_empty(), "{text}"),
            }
            let (tag, tail) = tail.split_once('>').expect("a tag ends");
            rest = tail;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().map(|index| elements[index].name.as_str()), Some(name));
                continue;
            }
            let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, mut list) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut attributes = Vec::new();
            while let Some((key, tail)) = list.trim_start().split_once("=\"") {
                let (value, tail) = tail.split_once('"').expect("a value ends");
                attributes.push((key.to_owned(), value.to_owned()));
                list = tail;
            }
            assert!(list.is_empty(), "{tag}");
            if !empty {
                open.push(elements.len());
            }
            elements.push(Element { name: name.to_owned(), attributes, text: String::new() });
        }
        assert!(open.is_empty() && rest.is_empty(), "{rest}");
        check(drawing, &elements);
        elements
    }

    fn check(drawing: &super::Drawing, elements: &[Element]) {
        let (width, height) = (f64::from(drawing.width), f64::from(drawing.height));
        let inside = |left: f64, top: f64, right: f64, bottom: f64| left > -0.11 && top > -0.11 && right < width + 0.11 && bottom < height + 0.11;
        assert_eq!(elements[0].name, "svg");
        assert_eq!(elements[0].get("viewBox"), Some(format!("0 0 {} {}", drawing.width, drawing.height).as_str()));
        let mut texts: Vec<(f64, f64, f64, f64)> = Vec::new();
        for element in elements {
            for class in element.class().split_whitespace() {
                assert!(is_documented(class), "{class}");
            }
            match element.name.as_str() {
                "svg" | "title" => {
                    unescape(&element.text);
                }
                "rect" => {
                    let (x, y) = (element.number("x"), element.number("y"));
                    assert!(inside(x, y, x + element.number("width"), y + element.number("height")), "{element:?}");
                }
                "polygon" | "polyline" => {
                    for (x, y) in points(element.get("points").unwrap()) {
                        assert!(inside(x, y, x, y), "{element:?}");
                    }
                }
                "text" if element.text == svg::BLANK => {}
                "text" => {
                    let place = element.text_box();
                    assert!(inside(place.0, place.1, place.2, place.3), "{element:?}");
                    for other in &texts {
                        let apart = place.0 >= other.2 || other.0 >= place.2 || place.1 >= other.3 - 0.11 || other.1 >= place.3 - 0.11;
                        assert!(apart, "{element:?} covers another text");
                    }
                    texts.push(place);
                }
                other => panic!("{other}"),
            }
        }
    }

    /// Every text of a drawing.
    pub fn texts(elements: &[Element]) -> Vec<&str> {
        elements.iter().filter(|element| element.name == "text" && element.text != svg::BLANK).map(|element| element.text.as_str()).collect()
    }

    #[test]
    fn every_class_is_documented() {
        assert!(svg::every_class().all(|class| is_documented(&class)));
        assert!(!is_documented("fill-nothing") && !is_documented("area-TERMS"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{GIB, MIB};

    fn figures(max: Bytes, count: u128) -> Vec<String> {
        Marks::up_to(max, count, Unit::Gib).list(max).into_iter().map(|(_, figure)| figure).collect()
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(figures(Bytes(84 * GIB), 5), ["0", "20", "40", "60", "80"]);
        assert_eq!(figures(Bytes(24 * GIB), 5), ["0", "5", "10", "15", "20"]);
        assert_eq!(figures(Bytes(300 * MIB), 5), ["0", "0.1", "0.2"]);
        assert_eq!(figures(Bytes::ZERO, 5), ["0"]);
        assert_eq!(figures(Bytes(u64::MAX), 5), ["0", "4,000,000,000", "8,000,000,000", "12,000,000,000", "16,000,000,000"]);
        let marks = Marks::up_to(Bytes(79 * GIB), 4, Unit::Gib);
        assert_eq!((marks.above(Bytes(79 * GIB)), marks.above(Bytes(80 * GIB))), (Bytes(80 * GIB), Bytes(80 * GIB)));
        assert_eq!(marks.above(Bytes(u64::MAX)), Bytes(u64::MAX));
    }

    #[test]
    fn logarithms_and_powers_are_those_of_the_library() {
        for value in [0, 1, 2, 3, 7, 512, 1000, 131_072, 1_048_577, u64::MAX] {
            let expected = float(value.max(1)).log2();
            assert!((log2(value) - expected).abs() < 1e-9, "{value}");
            assert!((exp2(expected) / expected.exp2() - 1.0).abs() < 1e-9, "{value}");
        }
        assert!((0..64).all(|power| (log2(1 << power) - f64::from(power)).abs() < f64::EPSILON));
    }

    #[test]
    fn a_plot_maps_both_ways() {
        let plot = Plot { left: 30.0, top: 20.0, right: 330.0, bottom: 220.0, start: 512, end: 131_072, max_bytes: 80 * GIB };
        for (context, x) in [(512, 30.0), (1024, 67.5), (8192, 180.0), (131_072, 330.0)] {
            assert!((plot.x_of(context) - x).abs() < 1e-9);
            assert_eq!(plot.context_at(x), context);
        }
        assert_eq!((plot.context_at(-1e9), plot.context_at(1e9), plot.context_at(f64::NAN)), (512, 131_072, 512));
        assert!((plot.y_of(Bytes(20 * GIB)) - 170.0).abs() < 1e-9);
        assert!((plot.y_of(Bytes(u64::MAX)) - 20.0).abs() < 1e-9);
        let nothing = Plot { left: 0.0, top: 0.0, right: 0.0, bottom: 0.0, start: 0, end: 0, max_bytes: 0 };
        assert_eq!((nothing.context_at(1.0), nothing.x_of(7).is_finite(), nothing.y_of(Bytes(1)).is_finite()), (0, true, true));
    }
}
