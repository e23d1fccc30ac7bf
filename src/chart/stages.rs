//! The timeline: what is held in each stage of a run, one bar per stage in the order of time.

use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordu64;
use plotters::style::text_anchor::HPos;

use super::svg::{self, Area, Labels, Letters, PIXEL, Paint};
use super::{ChartError, Drawing, LEAST_WIDTH, Plot, drawable, pixels};
use crate::estimate::{Amount, Device, Stage, Term};
use crate::format::Unit;
use crate::quantity::Bytes;

/// From one bar to the next.
const STEP: i32 = 24 * PIXEL;
/// Height of a bar.
const BAR: i32 = 16 * PIXEL;
/// Room for the names of stages.
const NAMES: i32 = 104 * PIXEL;
/// Room for the sizes.
const SIZES: i32 = 48 * PIXEL;
/// Between names, bars and sizes.
const GAP: i32 = 6 * PIXEL;

/// A bar per stage of a device, stacked in the ledger's order, with the line of what the card has.
///
/// # Errors
/// [`ChartError`] when a sum does not fit.
pub fn stages(device: &Device, unit: Unit, width: u32) -> Result<Drawing, ChartError> {
    let totals: Vec<(Stage, Amount)> = device.stages.iter().map(|&stage| Ok((stage, device.at(stage)?))).collect::<Result<_, ChartError>>()?;
    let most = totals.iter().map(|(_, total)| total.expected).max().unwrap_or(Bytes::ZERO);
    let max = device.usable.max(most).max(Bytes(unit.bytes() / 100));
    let (width, end) = drawable(width, LEAST_WIDTH);
    let (left, right) = (NAMES, end - SIZES);
    let x = |bytes: Bytes| RangedCoordu64::from(0..max.get()).map(&bytes.get(), (left, right));
    let bottom = STEP * i32::try_from(totals.len()).unwrap_or(0);
    let height = bottom.unsigned_abs() / PIXEL.unsigned_abs();
    let paint = |area: &Area<'_>| -> Result<(), ChartError> {
        let usable = x(device.usable);
        let mut labels = Labels::on(area);
        for ((stage, total), row) in totals.iter().zip(0..) {
            let (top, foot) = (row * STEP + (STEP - BAR) / 2, row * STEP + i32::midpoint(STEP, BAR));
            let mut held = Bytes::ZERO;
            svg::rectangle(area, Paint::FREE, (x(total.expected).min(usable), top), (usable, foot))?;
            for term in device.terms() {
                let from = x(held);
                held = held.plus(device.term_at(term, *stage)?.expected)?;
                svg::rectangle(area, Paint::segment(term), (from, top), (x(held), foot))?;
            }
            svg::rectangle(area, Paint::OVER, (usable, top), (x(held), foot))?;
            let lower = foot - (BAR - Letters::plain(Paint::TICK_TEXT).size) / 2;
            labels.put(Letters::plain(Paint::TICK_TEXT), stage.label(), &[(HPos::Right, left - GAP, lower)])?;
            labels.put(Letters::bold(Paint::LIMIT_TEXT), &unit.number(total.expected), &[(HPos::Left, right + GAP, lower)])?;
        }
        svg::line(area, Paint::LIMIT, 2 * PIXEL, [(usable, 0), (usable, bottom)])
    };
    let svg = svg::draw("stages", (width, height), paint)?;
    let plot = Plot { left: pixels(left), top: 0.0, right: pixels(right), bottom: pixels(bottom), start: 0, end: max.get(), max_bytes: max.get() };
    Ok(Drawing { svg, width, height, plot })
}

/// The same in words: a list of stages with their sizes and what is largest in each.
///
/// # Errors
/// [`ChartError`] when a sum does not fit.
pub fn stages_in_words(device: &Device, unit: Unit) -> Result<Vec<String>, ChartError> {
    let words = |&stage: &Stage| {
        let sizes: Vec<(Term, Bytes)> = device.terms().map(|term| Ok((term, device.term_at(term, stage)?.expected))).collect::<Result<_, ChartError>>()?;
        let largest = sizes.iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(term, _)| term.label());
        Ok(format!("{}: {}, most of it {}", stage.label(), unit.text(device.at(stage)?.expected), largest.to_lowercase()))
    };
    device.stages.iter().map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Element, device, example, read, tenths, texts};
    use super::*;

    #[test]
    fn each_stage_has_a_bar_and_its_size() {
        let device = example();
        let drawing = stages(&device, Unit::Gib, 800).unwrap();
        let elements = read(&drawing);
        let words = texts(&elements);
        for &stage in device.stages {
            let number = Unit::Gib.number(device.at(stage).unwrap().expected);
            assert!(words.contains(&stage.label()) && words.contains(&number.as_str()), "{words:?}");
        }
        assert_eq!(stages_in_words(&device, Unit::Gib).unwrap().len(), device.stages.len());
    }

    #[test]
    fn a_bar_is_as_long_as_its_bytes_and_marked_beyond_the_card() {
        let device = device(tenths(100), None, &[(Term::Weights, tenths(80)), (Term::KvCache, tenths(40))]);
        let drawing = stages(&device, Unit::Gib, 800).unwrap();
        let elements = read(&drawing);
        let length = |class: &str| elements.iter().filter(|element| element.class() == class).find_map(Element::extent).map(|(from, to)| to - from);
        let per_tenth = (drawing.plot.right - drawing.plot.left) / 120.0;
        assert!((length("fill-weights").unwrap() - 80.0 * per_tenth).abs() < 0.2);
        assert!((length("fill-kv_cache").unwrap() - 40.0 * per_tenth).abs() < 0.2);
        assert!((length("over").unwrap() - 20.0 * per_tenth).abs() < 0.2);
    }
}
