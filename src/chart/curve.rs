//! The curve: the peak against the context, term upon term, with the limits and the longest context that fits.

use plotters::coord::combinators::{IntoLogRange, LogCoord};
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordu64;
use plotters::style::text_anchor::HPos;
use plotters_backend::BackendCoord;

use super::svg::{self, Area, Labels, Letters, PIXEL, Paint, Place, Spot};
use super::{ChartError, Drawing, LEAST_WIDTH, Marks, Plot, drawable, pixels};
use crate::estimate::{Device, Term};
use crate::format::{Unit, grouped, tokens_short};
use crate::order::sort_short;
use crate::plan::{CURVE_START, Curve, LongestContext};
use crate::quantity::Bytes;

/// The least height of a curve in pixels.
const LEAST_HEIGHT: u32 = 120;
/// Above the plot, in drawing units: the unit's name, and half a figure.
const ABOVE: i32 = 20 * PIXEL;
/// Below the plot: the figures of the axis.
const BELOW: i32 = 18 * PIXEL;
/// Between a line and its label.
const OFF_LINE: i32 = 3 * PIXEL;
/// A curve that rises beyond this many times the usable memory leaves the drawing.
const TALLEST: u64 = 3;
/// The usable memory then fits this many times.
const CUT_AT: u64 = 2;
/// Between figures of the context: a factor of 8.
const OCTAVES: u32 = 3;

/// Memory against context: layers per term in the ledger's order, the peak as a line, the limits, and the longest context that
/// fits. `device` gives the limits.
///
/// # Errors
/// [`ChartError`] when the drawing library refuses.
pub fn curve(curve: &Curve, device: &Device, unit: Unit, width: u32, height: u32) -> Result<Drawing, ChartError> {
    let sheet = Sheet::of(curve, device, unit, width, height);
    let svg = svg::draw("curve", sheet.size, |area| sheet.paint(area))?;
    let plot = Plot {
        left: pixels(sheet.left),
        top: pixels(sheet.top),
        right: pixels(sheet.right),
        bottom: pixels(sheet.bottom),
        start: sheet.start,
        end: sheet.end,
        max_bytes: sheet.max.get(),
    };
    Ok(Drawing { svg, width: sheet.size.0, height: sheet.size.1, plot })
}

/// What is drawn, and where.
struct Sheet<'a> {
    curve: &'a Curve,
    device: &'a Device,
    /// In pixels.
    size: (u32, u32),
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    start: u64,
    end: u64,
    /// The end of the axis of sizes.
    max: Bytes,
    unit: Unit,
    marks: Vec<(Bytes, String)>,
    tokens: LogCoord<u64>,
}

impl<'a> Sheet<'a> {
    fn of(curve: &'a Curve, device: &'a Device, unit: Unit, width: u32, height: u32) -> Self {
        let ((width, right), (height, bottom)) = (drawable(width, LEAST_WIDTH), drawable(height, LEAST_HEIGHT));

        // Both ends stay where a logarithm and twice the value exist.
        let first = curve.points.first().map_or(CURVE_START, |point| point.context).clamp(1, 1 << 60);
        let last = curve.points.last().map_or(0, |point| point.context).min(1 << 61);
        let (start, end) = (first, if last > first { last } else { 2 * first });

        let peak = curve.points.iter().map(|point| point.peak).max().unwrap_or_default();
        let budget = device.budget.as_ref().map_or(Bytes::ZERO, |budget| budget.bytes);
        let usable = device.usable.get();
        let cut = usable > 0 && peak.get() / TALLEST >= usable;
        let shown = if cut { Bytes(usable.saturating_mul(CUT_AT)) } else { peak.max(device.usable) };
        let tallest = shown.max(budget).max(Bytes(unit.bytes() / 100));
        let marks = Marks::up_to(tallest, 5, unit);
        let max = marks.above(tallest);
        let marks = marks.list(max);

        let letters = Letters::plain(Paint::TICK_TEXT);
        let widest = marks.iter().map(|(_, figure)| letters.width(figure)).max().unwrap_or(0);
        // The unit stands above the figures and needs its room, too.
        let left = widest.max(letters.width(unit.name())) + 6 * PIXEL;
        Self {
            curve,
            device,
            size: (width, height),
            left,
            right: right - PIXEL,
            top: ABOVE,
            bottom: bottom - BELOW,
            start,
            end,
            max,
            unit,
            marks,
            tokens: LogCoord::from((start..end).log_scale()),
        }
    }

    fn x(&self, context: u64) -> i32 {
        self.tokens.map(&context.clamp(self.start, self.end), (self.left, self.right))
    }

    /// Above the plot for sizes beyond it.
    fn y(&self, bytes: Bytes) -> i32 {
        let max = self.max.get();
        RangedCoordu64::from(0..max).map(&bytes.get().min(max.saturating_mul(8)), (self.bottom, self.top))
    }

    /// Where what is too tall is cut off: a hair above the plot, so that what just reaches its edge stays.
    const fn edge(&self) -> i32 {
        self.top - 1
    }

    fn paint(&self, area: &Area<'_>) -> Result<(), ChartError> {
        for (bytes, _) in &self.marks {
            let y = self.y(*bytes);
            svg::line(area, Paint::GRID, PIXEL, [(self.left, y), (self.right, y)])?;
        }
        self.layers(area)?;
        let mut labels = Labels::on(area);
        self.need(area, &mut labels)?;
        self.figures(&mut labels)?;
        let longest = match self.curve.longest {
            LongestContext::Tokens(context) if (self.start..=self.end).contains(&context) => Some(self.x(context)),
            _ => None,
        };
        if let Some(x) = longest {
            svg::line(area, Paint::LONGEST, PIXEL, [(x, self.top), (x, self.bottom)])?;
            labels.avoid(Place { left: x - PIXEL, top: self.top, right: x + PIXEL, bottom: self.bottom });
        }
        self.limits(area, &mut labels, longest)?;
        self.longest(&mut labels, longest)
    }

    /// The terms as layers.
    fn layers(&self, area: &Area<'_>) -> Result<(), ChartError> {
        let points = &self.curve.points;
        let mut held = vec![Bytes::ZERO; points.len()];
        let mut lower = self.outline(&held);
        for term in Term::all() {
            let mut any = false;
            for (held, point) in held.iter_mut().zip(points) {
                for (_, bytes) in point.terms.iter().filter(|(other, _)| *other == term) {
                    *held = Bytes(held.get().saturating_add(bytes.get()));
                    any |= *bytes > Bytes::ZERO;
                }
            }
            if !any || points.len() < 2 {
                continue;
            }
            let upper = self.outline(&held);
            let corners: Vec<BackendCoord> = upper.iter().chain(lower.iter().rev()).copied().collect();
            if corners.iter().any(|(_, y)| *y > self.edge()) {
                svg::polygon(area, Paint::area(term), corners)?;
            }
            lower = upper;
        }
        Ok(())
    }

    /// The peak, on top of the layers.
    fn need(&self, area: &Area<'_>, labels: &mut Labels<'_, '_>) -> Result<(), ChartError> {
        let peaks: Vec<Bytes> = self.curve.points.iter().map(|point| point.peak).collect();
        for run in visible(&self.outline(&peaks), self.edge()) {
            for (&(left, from), &(right, to)) in run.iter().zip(run.iter().skip(1)) {
                labels.avoid(Place { left, top: from.min(to) - PIXEL, right, bottom: from.max(to) + PIXEL });
            }
            svg::line(area, Paint::NEED, 2 * PIXEL, run)?;
        }
        Ok(())
    }

    /// Sizes at the points' contexts, cut off at the upper edge.
    fn outline(&self, sizes: &[Bytes]) -> Vec<BackendCoord> {
        let places: Vec<BackendCoord> = self.curve.points.iter().zip(sizes).map(|(point, bytes)| (self.x(point.context), self.y(*bytes))).collect();
        cut_off(&places, self.edge())
    }

    /// The figures of both axes.
    fn figures(&self, labels: &mut Labels<'_, '_>) -> Result<(), ChartError> {
        let letters = Letters::plain(Paint::TICK_TEXT);
        labels.put(letters, self.unit.name(), &[(HPos::Left, 0, letters.size)])?;
        for (bytes, figure) in &self.marks {
            labels.put(letters, figure, &[(HPos::Right, self.left - 5 * PIXEL, self.y(*bytes) + letters.size / 2)])?;
        }
        for context in contexts(self.start, self.end) {
            let lower = self.bottom + BELOW - PIXEL;
            labels.put(letters, &tokens_short(context), &[(HPos::Center, self.x(context), lower)])?;
        }
        Ok(())
    }

    /// The lines of the limits; the higher one is labelled above itself, the lower one where there is room.
    fn limits(&self, area: &Area<'_>, labels: &mut Labels<'_, '_>, longest: Option<i32>) -> Result<(), ChartError> {
        let budget = self.device.budget.as_ref();
        let usable = match budget {
            Some(_) => (self.device.usable, "usable", Paint::USABLE, Letters::plain(Paint::USABLE_TEXT)),
            None => (self.device.usable, "usable", Paint::LIMIT, Letters::bold(Paint::LIMIT_TEXT)),
        };
        let budget = budget.map(|budget| (budget.bytes, budget.name, Paint::LIMIT, Letters::bold(Paint::LIMIT_TEXT)));
        let mut limits: Vec<_> = [Some(usable), budget].into_iter().flatten().collect();
        sort_short(&mut limits, |(bytes, ..)| std::cmp::Reverse(*bytes));
        for (bytes, _, paint, _) in &limits {
            let y = self.y(*bytes);
            svg::line(area, *paint, PIXEL, [(self.left, y), (self.right, y)])?;
            labels.avoid(Place { left: self.left, top: y - PIXEL, right: self.right, bottom: y + PIXEL });
        }
        for (bytes, name, _, letters) in limits {
            let (y, mut spots) = (self.y(bytes), Vec::new());
            for lower in [y - OFF_LINE, y + OFF_LINE + letters.size, y - 2 * OFF_LINE - letters.size] {
                spots.push((HPos::Left, self.left + 6 * PIXEL, lower));
                spots.extend(longest.map(|x| (HPos::Left, x + 6 * PIXEL, lower)));
                spots.push((HPos::Right, self.right - 4 * PIXEL, lower));
            }
            let number = self.unit.number(bytes);
            let spots = self.in_plot(spots);
            if labels.put(letters, &format!("{number} {name}"), &spots)?.is_none() {
                labels.put(letters, &number, &spots)?;
            }
        }
        Ok(())
    }

    /// `fits up to 45,312`, beside its line, or at the edge behind which it is.
    fn longest(&self, labels: &mut Labels<'_, '_>, line: Option<i32>) -> Result<(), ChartError> {
        let LongestContext::Tokens(context) = self.curve.longest else { return Ok(()) };
        let text = format!("fits up to {}", grouped(context));
        let (text, anchors) = match line {
            Some(x) => (text, vec![(HPos::Left, x + 5 * PIXEL), (HPos::Right, x - 5 * PIXEL)]),
            None if context > self.end => (format!("{text} →"), vec![(HPos::Right, self.right - 4 * PIXEL)]),
            None => (format!("← {text}"), vec![(HPos::Left, self.left + 4 * PIXEL)]),
        };
        let letters = Letters::plain(Paint::LONGEST_TEXT);
        // From the foot of the plot upwards.
        let rows = (0..6).map(|row| self.bottom - 6 * PIXEL - row * (letters.size + OFF_LINE));
        let spots = rows.flat_map(|lower| anchors.iter().map(move |(anchor, x)| (*anchor, *x, lower))).collect();
        labels.put(letters, &text, &self.in_plot(spots))?;
        Ok(())
    }

    /// Spots whose text does not reach below the plot, where the axis has its figures.
    fn in_plot(&self, mut spots: Vec<Spot>) -> Vec<Spot> {
        spots.retain(|(.., lower)| *lower <= self.bottom);
        spots
    }
}

/// The contexts that have figures: the ends first, then powers of two a factor of 8 apart.
fn contexts(start: u64, end: u64) -> impl Iterator<Item = u64> {
    let first = start.next_power_of_two();
    let between = std::iter::successors(Some(first), |context| context.checked_mul(1 << OCTAVES));
    [start, end].into_iter().chain(between.take_while(move |&context| context < end).filter(move |&context| context > start))
}

/// A line with what lies above `top` moved down to it, and with the points where it crosses that edge.
fn cut_off(line: &[BackendCoord], top: i32) -> Vec<BackendCoord> {
    let mut out: Vec<BackendCoord> = Vec::with_capacity(line.len() + 2);
    let mut before: Option<BackendCoord> = None;
    for &point in line {
        if let Some(before) = before.filter(|before| (before.1 < top) != (point.1 < top)) {
            out.push((crossing(before, point, top), top));
        }
        out.push((point.0, point.1.max(top)));
        before = Some(point);
    }
    out
}

/// Where the line between two points that lie on different sides of `top` meets it.
fn crossing(from: BackendCoord, to: BackendCoord, top: i32) -> i32 {
    let [from_x, from_y, to_x, to_y, top] = [from.0, from.1, to.0, to.1, top].map(i64::from);
    i32::try_from(from_x + (to_x - from_x) * (top - from_y) / (to_y - from_y)).unwrap_or(to.0)
}

/// The stretches of a cut-off line that do not run along the edge.
fn visible(line: &[BackendCoord], top: i32) -> Vec<Vec<BackendCoord>> {
    let runs = line.chunk_by(|from, to| from.1 > top || to.1 > top);
    runs.filter(|run| run.len() > 1).map(<[BackendCoord]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Element, device, example, read, tenths, texts};
    use super::*;
    use crate::plan::Point;
    use crate::quantity::GIB;
    use proptest::prelude::*;

    fn point(context: u64, terms: Vec<(Term, Bytes)>) -> Point {
        let peak = Bytes(terms.iter().fold(0, |sum, (_, bytes)| bytes.get().saturating_add(sum)));
        Point { context, peak, low: peak, high: peak, terms }
    }

    /// 58 GiB and then 192 KiB per token, three points per doubling from 512 to 128K.
    fn rising(longest: LongestContext) -> Curve {
        let contexts = (9..17).flat_map(|power| [1u64 << power, (1 << power) * 5 / 4, (1 << power) * 8 / 5]).chain([1 << 17]);
        let points = contexts
            .map(|context| point(context, vec![(Term::Weights, tenths(569)), (Term::KvCache, Bytes(context * 196_608)), (Term::RuntimeContext, tenths(11))]));
        Curve { points: points.collect(), longest }
    }

    fn outline<'a>(elements: &'a [Element], class: &'a str) -> impl Iterator<Item = Vec<(f64, f64)>> + 'a {
        elements.iter().filter(move |element| element.class() == class).map(|element| testing::points(element.get("points").unwrap()))
    }

    #[test]
    fn a_curve_has_areas_limits_and_the_longest_context() {
        let drawing = curve(&rising(LongestContext::Tokens(45_312)), &example(), Unit::Gib, 460, 240).unwrap();
        let elements = read(&drawing);
        let classes: Vec<_> = elements.iter().map(Element::class).filter(|class| class.starts_with("area-")).collect();
        assert_eq!(classes, ["area-weights", "area-kv_cache", "area-runtime_context"]);
        for text in ["GiB", "0", "20", "40", "60", "80", "512", "4K", "32K", "128K", "79.2 usable", "72.9 vLLM budget", "fits up to 45,312"] {
            assert!(texts(&elements).contains(&text), "{text} in {:?}", texts(&elements));
        }
        let plot = drawing.plot;
        assert_eq!((plot.start, plot.end, plot.max_bytes), (512, 131_072, 100 * GIB));
        let need = outline(&elements, "stroke-need").next().unwrap();
        assert!((need[0].0 - plot.left).abs() < 0.2 && (need[0].1 - plot.y_of(tenths(581))).abs() < 0.3, "{:?} {plot:?}", need[0]);
        let end = need[need.len() - 1];
        assert!((end.0 - plot.right).abs() < 0.2 && (end.1 - plot.y_of(tenths(820))).abs() < 0.3, "{end:?} {plot:?}");
        let vertical = outline(&elements, "stroke-longest").next().unwrap();
        assert!((vertical[0].0 - plot.x_of(45_312)).abs() < 0.2 && (vertical[1].0 - vertical[0].0).abs() < 1e-9);
        let budget = outline(&elements, "stroke-limit").next().unwrap();
        assert!((budget[0].1 - plot.y_of(tenths(729))).abs() < 0.2);
        assert!(drawing.svg.len() < 6000, "{}", drawing.svg.len());
    }

    #[test]
    fn positions_map_back_to_contexts() {
        let plot = curve(&rising(LongestContext::Unlimited), &example(), Unit::Gib, 460, 240).unwrap().plot;
        for context in [512, 513, 1000, 4096, 45_312, 131_071, 131_072] {
            let back = plot.context_at(plot.x_of(context));
            assert!(back.abs_diff(context) <= 1, "{context} {back}");
        }
    }

    #[test]
    fn a_curve_far_above_the_card_leaves_the_drawing() {
        let small = device(tenths(80), None, &[(Term::Weights, tenths(10))]);
        let steep = (9..=17).map(|power| point(1 << power, vec![(Term::Weights, tenths(10)), (Term::KvCache, Bytes((1 << power) * 1_000_000))]));
        let steep = Curve { points: steep.collect(), longest: LongestContext::Tokens(7516) };
        let drawing = curve(&steep, &small, Unit::Gib, 460, 240).unwrap();
        let elements = read(&drawing);
        assert_eq!(drawing.plot.max_bytes, 16 * GIB);
        let need: Vec<_> = outline(&elements, "stroke-need").collect();
        assert_eq!(need.len(), 1);
        let end = need[0][need[0].len() - 1];
        assert!((end.1 - drawing.plot.top).abs() < 0.2 && end.0 < drawing.plot.right - 50.0, "{end:?}");
        // 16 GiB are reached at 16,106 tokens, a little earlier on the straight line between two points.
        let reached = drawing.plot.context_at(end.0);
        assert!((15_500..16_384).contains(&reached), "{reached}");
        assert_eq!(outline(&elements, "area-kv_cache").count(), 1);
    }

    #[test]
    fn what_lies_beyond_the_axis_is_said_at_its_edge() {
        for (tokens, text) in [(300_000, "fits up to 300,000 →"), (100, "← fits up to 100")] {
            let elements = read(&curve(&rising(LongestContext::Tokens(tokens)), &example(), Unit::Gib, 460, 240).unwrap());
            assert!(texts(&elements).contains(&text), "{:?}", texts(&elements));
            assert_eq!(outline(&elements, "stroke-longest").count(), 0);
        }
        for longest in [LongestContext::Nothing, LongestContext::Unlimited] {
            assert!(!curve(&rising(longest), &example(), Unit::Gib, 460, 240).unwrap().svg.contains("longest"));
        }
    }

    #[test]
    fn odd_curves_are_drawn_too() {
        let longest = LongestContext::Tokens(1000);
        let huge = point(u64::MAX, vec![(Term::Weights, Bytes(u64::MAX)), (Term::KvCache, Bytes(u64::MAX))]);
        for points in [
            vec![],
            vec![point(512, vec![])],
            vec![point(0, vec![]), point(0, vec![])],
            vec![point(1000, vec![(Term::Weights, tenths(10))])],
            vec![huge.clone()],
            vec![point(1, vec![]), huge],
        ] {
            let odd = Curve { points, longest };
            for device in [example(), device(Bytes::ZERO, None, &[]), device(Bytes(u64::MAX), Some(Bytes(u64::MAX)), &[])] {
                for (width, height) in [(0, 0), (300, 220), (u32::MAX, u32::MAX)] {
                    read(&curve(&odd, &device, Unit::Gb, width, height).unwrap());
                }
            }
        }
    }

    #[test]
    fn cut_lines_keep_their_slope() {
        let line = [(0, 100), (10, 50), (20, -50), (30, -80), (40, 20)];
        let cut = cut_off(&line, 0);
        assert_eq!(cut, [(0, 100), (10, 50), (15, 0), (20, 0), (30, 0), (38, 0), (40, 20)]);
        assert_eq!(visible(&cut, 0), [vec![(0, 100), (10, 50), (15, 0)], vec![(38, 0), (40, 20)]]);
        assert!(visible(&[(0, 0), (10, 0)], 0).is_empty() && visible(&[], 0).is_empty());
    }

    #[test]
    fn figures_of_the_context_are_powers_of_two() {
        let all = |start, end| contexts(start, end).collect::<Vec<_>>();
        assert_eq!(all(512, 131_072), [512, 131_072, 4096, 32_768]);
        assert_eq!(all(1000, 5000), [1000, 5000, 1024]);
        assert_eq!(all(1 << 60, 1 << 61), [1 << 60, 1 << 61]);
    }

    proptest! {
        #[test]
        fn every_curve_can_be_drawn(
            usable in 0..1u64 << 42,
            budget in proptest::option::of(0..1u64 << 42),
            start in 1..10_000u64,
            slopes in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 24), 9),
            count in 0..46u32,
            longest in 1..1u64 << 20,
            width in 0..1000u32,
            height in 0..400u32,
        ) {
            let contexts = (0..count).map(|index| (start << (index / 3)) + (start << (index / 3)) * u64::from(index % 3) / 3);
            let points = contexts.map(|context| {
                let sizes = Term::all().zip(&slopes).map(|(term, (fixed, slope))| (term, Bytes(fixed + slope * context)));
                point(context, sizes.collect())
            });
            let drawn = Curve { points: points.collect(), longest: LongestContext::Tokens(longest) };
            let device = device(Bytes(usable), budget.map(Bytes), &[]);
            let drawing = curve(&drawn, &device, Unit::Gib, width, height).unwrap();
            read(&drawing);
            prop_assert!(drawing.svg.len() < 12 << 10, "{}", drawing.svg.len());
            for point in &drawn.points {
                let back = drawing.plot.context_at(drawing.plot.x_of(point.context));
                prop_assert!(back.abs_diff(point.context) <= 1 + point.context / 1000);
            }
        }
    }
}
