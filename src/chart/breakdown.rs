//! The bar: what is held at the peak, term by term, against what there is.

use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordu64;
use plotters::style::text_anchor::HPos;

use super::svg::{self, Area, Labels, Letters, PIXEL, Paint, Place, Spot};
use super::{ChartError, Drawing, LEAST_WIDTH, Marks, Plot, drawable, pixels};
use crate::estimate::{Amount, Device, Term};
use crate::format::Unit;
use crate::quantity::Bytes;

/// Height of the bar in drawing units.
const BAR: i32 = 34 * PIXEL;
/// Height of a line of labels.
const ROW: i32 = 15 * PIXEL;
/// Between the bar and the labels of the limits.
const ABOVE: i32 = 4 * PIXEL;
/// Below the bar: the band and the figures of the axis.
const BELOW: i32 = 23 * PIXEL;
/// Between segments.
const SEAM: i32 = PIXEL;
/// A segment narrower than this has no seam.
const LEAST_WITH_SEAM: i32 = 3 * PIXEL;
/// Between the edge of a segment and its label.
const PADDING: i32 = 6 * PIXEL;

/// The stacked bar of a device at its peak, in the ledger's order, with the limits and the band.
///
/// # Errors
/// [`ChartError`] when a sum does not fit.
pub fn breakdown(device: &Device, unit: Unit, width: u32) -> Result<Drawing, ChartError> {
    let bar = Bar::of(device, unit, width)?;
    let height = bar.bottom + BELOW;
    let size = (bar.width, height.unsigned_abs() / PIXEL.unsigned_abs());
    let svg = svg::draw("breakdown", size, |area| bar.paint(area))?;
    let plot = Plot {
        left: pixels(bar.left),
        top: pixels(bar.top),
        right: pixels(bar.right),
        bottom: pixels(bar.bottom),
        start: 0,
        end: bar.max.get(),
        max_bytes: bar.max.get(),
    };
    Ok(Drawing { svg, width: size.0, height: size.1, plot })
}

/// A term's stretch of the bar in drawing units.
struct Segment {
    term: Term,
    bytes: Bytes,
    from: i32,
    to: i32,
}

/// What is drawn, and where.
struct Bar<'a> {
    device: &'a Device,
    unit: Unit,
    peak: Amount,
    /// The end of the axis.
    max: Bytes,
    segments: Vec<Segment>,
    /// In pixels.
    width: u32,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl<'a> Bar<'a> {
    fn of(device: &'a Device, unit: Unit, width: u32) -> Result<Self, ChartError> {
        let (stage, peak) = device.peak()?;
        let budget = device.budget.as_ref().map_or(Bytes::ZERO, |budget| budget.bytes);
        // A bar of nothing has an axis, too.
        let max = device.usable.max(budget).max(peak.high).max(peak.expected).max(Bytes(unit.bytes() / 100));
        let (width, right) = drawable(width, LEAST_WIDTH);
        let rows = if device.budget.is_some() { 2 } else { 1 };
        let top = rows * ROW + ABOVE;
        let mut bar = Self { device, unit, peak, max, segments: Vec::new(), width, left: PIXEL, right: right - PIXEL, top, bottom: top + BAR };
        let mut held = Bytes::ZERO;
        for term in device.terms() {
            let bytes = device.term_at(term, stage)?.expected;
            let from = bar.x(held);
            held = held.plus(bytes)?;
            let to = bar.x(held);
            let seam = if from == bar.left || to - from < LEAST_WITH_SEAM { 0 } else { SEAM };
            bar.segments.push(Segment { term, bytes, from: from + seam, to });
        }
        Ok(bar)
    }

    fn x(&self, bytes: Bytes) -> i32 {
        RangedCoordu64::from(0..self.max.get()).map(&bytes.get().min(self.max.get()), (self.left, self.right))
    }

    fn paint(&self, area: &Area<'_>) -> Result<(), ChartError> {
        let usable = self.x(self.device.usable);
        let budget = self.device.budget.as_ref().map(|budget| self.x(budget.bytes));
        let rectangle = |paint, from, to| svg::rectangle(area, paint, (from, self.top), (to, self.bottom));

        let need = self.x(self.peak.expected);
        let limit = budget.unwrap_or(usable).min(usable);
        rectangle(Paint::FREE, need, limit)?;
        rectangle(Paint::REST, need.max(limit), usable)?;
        for segment in &self.segments {
            rectangle(Paint::segment(segment.term), segment.from, segment.to)?;
        }
        rectangle(Paint::OVER, usable, need)?;

        let (low, high) = (self.x(self.peak.low), self.x(self.peak.high));
        let (hook, foot) = (self.bottom + 2 * PIXEL, self.bottom + 5 * PIXEL);
        let bracket = [(low, hook), (low, foot), (high, foot), (high, hook)];
        svg::line(area, Paint::BAND, PIXEL, if high - low >= 2 * PIXEL { &bracket[..] } else { &[] })?;

        let mut labels = Labels::on(area);
        self.limits(area, &mut labels, usable, budget)?;
        self.names(&mut labels, [Some(usable), budget])?;
        self.figures(&mut labels)
    }

    /// The lines of the limits with their labels above the bar: the budget next to it, the card above that.
    fn limits(&self, area: &Area<'_>, labels: &mut Labels<'_, '_>, usable: i32, budget: Option<i32>) -> Result<(), ChartError> {
        let next_to_bar = self.top - ABOVE;
        let foot = self.bottom + ABOVE;
        let mut usable_head = next_to_bar;
        if let (Some(budget), Some(x)) = (&self.device.budget, budget) {
            svg::line(area, Paint::LIMIT, 2 * PIXEL, [(x, next_to_bar), (x, foot)])?;
            let number = self.unit.number(budget.bytes);
            let label = beside(labels, Letters::bold(Paint::LIMIT_TEXT), &number, budget.name, x, next_to_bar)?;
            // The line of the card rises to its label unless this one stands in the way.
            if !label.is_some_and(|label| (label.left..=label.right).contains(&usable)) {
                usable_head -= ROW;
            }
        }
        let (line, letters) = match budget {
            Some(_) => (Paint::USABLE, Letters::plain(Paint::USABLE_TEXT)),
            None => (Paint::LIMIT, Letters::bold(Paint::LIMIT_TEXT)),
        };
        svg::line(area, line, 2 * PIXEL, [(usable, usable_head), (usable, foot)])?;
        let row = if budget.is_some() { next_to_bar - ROW } else { next_to_bar };
        beside(labels, letters, &self.unit.number(self.device.usable), "usable", usable, row)?;
        for x in [Some(usable), budget].into_iter().flatten() {
            labels.avoid(Place { left: x - PIXEL, top: self.top, right: x + PIXEL, bottom: self.bottom });
        }
        Ok(())
    }

    /// Names and sizes in the segments, as far as they fit; never across the line of a limit.
    fn names(&self, labels: &mut Labels<'_, '_>, limits: [Option<i32>; 2]) -> Result<(), ChartError> {
        let letters = Letters::bold(Paint::TEXT_ON);
        let lower = i32::midpoint(self.top, self.bottom) + letters.size / 2;
        for segment in &self.segments {
            let number = self.unit.number(segment.bytes);
            let mut is_named = false;
            for text in [&format!("{} {number}", segment.term.label()), &number] {
                let starts = [Some(segment.from), limits[0], limits[1]].into_iter().flatten().map(|x| x + PADDING);
                let fits = |start: &i32| *start >= segment.from + PADDING && start + letters.width(text) + PADDING <= segment.to;
                let spots: Vec<Spot> = starts.filter(fits).map(|start| (HPos::Left, start, lower)).collect();
                is_named = is_named || labels.put(letters, text, &spots)?.is_some();
            }
            if !is_named {
                labels.blank(letters)?;
            }
        }
        Ok(())
    }

    /// The figures of the axis; the last one has the unit and goes first.
    fn figures(&self, labels: &mut Labels<'_, '_>) -> Result<(), ChartError> {
        let letters = Letters::plain(Paint::TICK_TEXT);
        let lower = self.bottom + BELOW - 2 * PIXEL;
        let mut marks = Marks::up_to(self.max, 5, self.unit).list(self.max);
        if let Some((_, last)) = marks.last_mut() {
            *last = format!("{last} {}", self.unit.name());
        }
        for (bytes, figure) in marks.iter().rev() {
            if labels.put(letters, figure, &[(HPos::Center, self.x(*bytes), lower)])?.is_none() {
                labels.blank(letters)?;
            }
        }
        Ok(())
    }
}

/// `72.9 vLLM budget` with its end at a line, its start there, or the number alone.
fn beside(labels: &mut Labels<'_, '_>, letters: Letters, number: &str, name: &str, x: i32, lower: i32) -> Result<Option<Place>, ChartError> {
    let spots = [(HPos::Right, x + PIXEL, lower), (HPos::Left, x - PIXEL, lower)];
    for text in [&format!("{number} {name}"), number] {
        if let Some(place) = labels.put(letters, text, &spots)? {
            return Ok(Some(place));
        }
    }
    labels.blank(letters)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Element, device, example, read, tenths, texts};
    use super::*;
    use crate::estimate::Basis;
    use proptest::prelude::*;

    fn segments(elements: &[Element]) -> Vec<(&str, f64, f64)> {
        let rectangles = elements.iter().filter(|element| element.name == "polygon" && !["fill-free", "fill-rest"].contains(&element.class()));
        rectangles.filter_map(|element| element.extent().map(|(from, to)| (element.class(), from, to - from))).collect()
    }

    #[test]
    fn segments_are_as_wide_as_their_bytes() {
        let drawing = breakdown(&example(), Unit::Gib, 800).unwrap();
        let elements = read(&drawing);
        let segments = segments(&elements);
        assert_eq!(segments.len(), testing::EXAMPLE.len());
        let mut held = 0;
        for ((class, x, width), (term, size)) in segments.into_iter().zip(testing::EXAMPLE) {
            assert_eq!(class, format!("fill-{}", term.name()));
            let per_tenth = 798.0 / 792.0;
            let (from, to) = (1.0 + f64::from(held) * per_tenth, 1.0 + f64::from(held + u32::try_from(size).unwrap()) * per_tenth);
            assert!((x - from).abs() < 1.2 && (x + width - to).abs() < 0.2, "{class}: {x} {width}, {from} to {to}");
            held += u32::try_from(size).unwrap();
        }
        assert_eq!((drawing.plot.end, drawing.plot.max_bytes), (tenths(792).get(), tenths(792).get()));
    }

    #[test]
    fn labels_say_what_fits() {
        let wide = breakdown(&example(), Unit::Gib, 800).unwrap();
        let elements = read(&wide);
        assert_eq!(texts(&elements), ["72.9 vLLM budget", "79.2 usable", "Weights 56.9", "6.00", "60 GiB", "40", "20", "0"],);
        let narrow = breakdown(&example(), Unit::Gib, 300).unwrap();
        let elements = read(&narrow);
        assert_eq!(texts(&elements), ["72.9 vLLM budget", "79.2 usable", "Weights 56.9", "60 GiB", "40", "20", "0"]);
        assert_eq!((narrow.width, narrow.height), (300, wide.height));
        let free: Vec<_> = elements.iter().map(Element::class).filter(|class| ["fill-free", "fill-rest"].contains(class)).collect();
        assert_eq!(free, ["fill-free", "fill-rest"]);
    }

    #[test]
    fn what_the_card_does_not_have_is_marked() {
        let large = device(tenths(240), None, &[(Term::Weights, tenths(200)), (Term::KvCache, tenths(100)), (Term::Activations, tenths(50))]);
        let elements = read(&breakdown(&large, Unit::Gib, 500).unwrap());
        let classes: Vec<_> = segments(&elements).into_iter().map(|(class, ..)| class).collect();
        assert_eq!(classes, ["fill-weights", "fill-kv_cache", "fill-activations", "over"]);
        let (over, held) = (segments(&elements)[3], segments(&elements)[2]);
        // From 24 of 35 GiB on, to the end of what is held.
        assert!((over.1 - (1.0 + 498.0 * 24.0 / 35.0)).abs() < 0.2 && (over.1 + over.2 - held.1 - held.2).abs() < 0.01, "{over:?} {held:?}");
        let free = elements.iter().find(|element| element.class() == "fill-free").unwrap();
        assert_eq!(free.extent(), None);
        assert_eq!(texts(&elements)[0], "24.0 usable");
    }

    #[test]
    fn the_band_is_a_bracket() {
        let mut wide = example();
        assert!(breakdown(&wide, Unit::Gib, 600).unwrap().svg.contains(r#"<polyline class="stroke-band" fill="none" points=""/>"#));
        for entry in &mut wide.ledger.entries {
            if entry.term == Term::Activations {
                entry.amount = Amount { low: tenths(20), expected: tenths(38), high: tenths(90) };
                entry.basis = Basis::Modelled;
            }
        }
        let drawing = breakdown(&wide, Unit::Gib, 600).unwrap();
        let elements = read(&drawing);
        let band = elements.iter().find(|element| element.class() == "stroke-band").unwrap();
        let points = testing::points(band.get("points").unwrap());
        assert_eq!(points.len(), 4);
        // 68.8 to 75.8 of 79.2 GiB in 598 pixels.
        assert!((points[0].0 - 520.5).abs() < 0.2 && (points[3].0 - 573.3).abs() < 0.2, "{points:?}");
    }

    #[test]
    fn nothing_is_a_drawing_too() {
        for empty in [device(Bytes::ZERO, None, &[]), device(Bytes::ZERO, Some(Bytes::ZERO), &[(Term::Weights, Bytes::ZERO)])] {
            let elements = read(&breakdown(&empty, Unit::Gib, 0).unwrap());
            assert!(segments(&elements).is_empty());
        }
        let huge = device(Bytes(1), None, &[(Term::Weights, Bytes(u64::MAX))]);
        read(&breakdown(&huge, Unit::Gb, u32::MAX).unwrap());
        let too_much = device(Bytes(1), None, &[(Term::Weights, Bytes(u64::MAX)), (Term::KvCache, Bytes(1))]);
        assert_eq!(breakdown(&too_much, Unit::Gib, 500), Err(ChartError::Overflow(crate::quantity::Overflow)));
    }

    proptest! {
        #[test]
        fn every_device_can_be_drawn(
            usable in 0..1u64 << 45,
            budget in proptest::option::of(0..1u64 << 45),
            sizes in proptest::collection::vec((0..1u64 << 44).prop_flat_map(|most| 0..=most), 9),
            width in 0..1200u32,
            shift in 0..40u32,
        ) {
            let terms: Vec<_> = Term::all().zip(sizes).map(|(term, size)| (term, Bytes(size >> shift))).collect();
            let device = device(Bytes(usable >> shift), budget.map(|bytes| Bytes(bytes >> shift)), &terms);
            let drawing = breakdown(&device, Unit::Gib, width).unwrap();
            let elements = read(&drawing);
            prop_assert!(drawing.svg.len() < 6000);
            let (_, peak) = device.peak().unwrap();
            let over = elements.iter().any(|element| element.class() == "over" && element.extent().is_some());
            prop_assert!(!over || peak.expected > device.usable);
            // Of the same terms and limits, whatever their sizes, the elements are the same.
            let half: Vec<_> = terms.iter().map(|(term, bytes)| (*term, Bytes(bytes.get() / 2))).collect();
            let half = self::device(device.usable, device.budget.map(|budget| budget.bytes), &half);
            let (_, half_peak) = half.peak().unwrap();
            if peak.expected <= half.usable && half_peak.expected <= half.usable {
                let kinds = |elements: &[Element]| elements.iter().map(Element::kind).collect::<Vec<_>>();
                prop_assert_eq!(kinds(&elements), kinds(&read(&breakdown(&half, Unit::Gib, width).unwrap())));
            }
        }
    }
}
