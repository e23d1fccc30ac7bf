//! The paper: a backend for plotters that writes SVG in which colours are class names, so dark mode, print and high contrast
//! need no new drawing, and no style attribute meets a Content-Security-Policy.
//!
//! plotters draws in tenths of a CSS pixel (its coordinates are integers); they are printed in pixels with one decimal. Text is
//! measured with a fixed advance, so a drawing is the same on every machine. What has no size or finds no room is written all the
//! same, empty, and shapes are polygons and polylines, whose points are no style: so one attribute of an element moves it, and the
//! browser neither makes elements anew nor asks its style sheets. Fonts and colours are the stylesheet's:
//!
//! | class | what it is | meant |
//! | --- | --- | --- |
//! | `chart` with `chart--breakdown`, `chart--stages`, `chart--curve`, `chart--layers` | the `svg` element | font family, tabular figures |
//! | `fill-TERM` | a segment of the bar, e.g. `fill-weights`, `fill-kv_cache` | `fill: var(--term)` |
//! | `over` | around the part of the bar beyond what the card has | a mark that needs no colour, e.g. an outline |
//! | `area-TERM` | a layer of the curve | the same colour, lighter |
//! | `fill-free` | the room up to the limit that binds | a quiet fill |
//! | `fill-rest` | the room beyond it, up to what the card has | quieter |
//! | `stroke-line` | lines of the grid | `stroke: var(--line)` |
//! | `stroke-limit`, `text-limit` | the limit that binds: the budget, else what the card has | `var(--limit)`, `var(--ink)` |
//! | `stroke-usable`, `text-usable` | what the card has, beside a budget | `var(--ink-2)` |
//! | `stroke-need` | the peak against the context | `stroke: var(--accent)` |
//! | `stroke-longest`, `text-longest` | the longest context that fits | `var(--bad)` |
//! | `stroke-band` | the band of the need | `stroke: var(--ink-2)` |
//! | `text-tick` | figures of the axes | `fill: var(--ink-2)` |
//! | `text-on` | text on a segment | a fill with contrast on every term's colour |
//! | `tile` with `tile--full`, `tile--sliding`, `tile--latent`, `tile--recurrent`, `tile--parallel`, `tile--cross`, `tile--none` | a layer of the strip | `fill` by kind |
//!
//! Strokes come with `fill="none"` and, where they are not one pixel wide, with their width.

use std::convert::Infallible;
use std::fmt::Write;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle, TextStyle};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

use super::ChartError;
use crate::estimate::Term;

/// Drawing units in a CSS pixel.
pub(super) const PIXEL: i32 = 10;

/// What [`Paint`] can be. The two that end in a dash go on with the name of a term.
const CLASSES: [&str; 16] = [
    "fill-",
    "area-",
    "over",
    "fill-free",
    "fill-rest",
    "stroke-line",
    "stroke-limit",
    "stroke-usable",
    "stroke-need",
    "stroke-longest",
    "stroke-band",
    "text-tick",
    "text-limit",
    "text-usable",
    "text-longest",
    "text-on",
];

/// A class of each kind.
#[cfg(test)]
pub(super) fn every_class() -> impl Iterator<Item = String> {
    CLASSES.iter().map(|class| if class.ends_with('-') { format!("{class}weights") } else { (*class).to_owned() })
}

/// What something is drawn with: a class. plotters carries it as a colour: (row of [`CLASSES`], term, nothing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    row: u8,
    /// The position of the term in the ledger, from 1; 0 where there is none.
    term: u8,
}

impl Paint {
    pub(super) const OVER: Self = Self::row(2);
    pub(super) const FREE: Self = Self::row(3);
    pub(super) const REST: Self = Self::row(4);
    pub(super) const GRID: Self = Self::row(5);
    pub(super) const LIMIT: Self = Self::row(6);
    pub(super) const USABLE: Self = Self::row(7);
    pub(super) const NEED: Self = Self::row(8);
    pub(super) const LONGEST: Self = Self::row(9);
    pub(super) const BAND: Self = Self::row(10);
    pub(super) const TICK_TEXT: Self = Self::row(11);
    pub(super) const LIMIT_TEXT: Self = Self::row(12);
    pub(super) const USABLE_TEXT: Self = Self::row(13);
    pub(super) const LONGEST_TEXT: Self = Self::row(14);
    pub(super) const TEXT_ON: Self = Self::row(15);

    const fn row(row: u8) -> Self {
        Self { row, term: 0 }
    }

    fn of(row: u8, term: Term) -> Self {
        let position = Term::all().take_while(|other| *other != term).count();
        Self { row, term: u8::try_from(position + 1).unwrap_or(0) }
    }

    /// A segment of the bar.
    pub(super) fn segment(term: Term) -> Self {
        Self::of(0, term)
    }

    /// A layer of the curve.
    pub(super) fn area(term: Term) -> Self {
        Self::of(1, term)
    }
}

impl Color for Paint {
    fn to_backend_color(&self) -> BackendColor {
        BackendColor { rgb: (self.row, self.term, 0), alpha: 1.0 }
    }
}

/// The letters of a label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letters {
    pub(super) paint: Paint,
    /// Font size in drawing units.
    pub(super) size: i32,
    pub(super) bold: bool,
}

impl Letters {
    pub(super) const fn plain(paint: Paint) -> Self {
        Self { paint, size: 11 * PIXEL, bold: false }
    }

    pub(super) const fn bold(paint: Paint) -> Self {
        Self { paint, size: 11 * PIXEL, bold: true }
    }

    /// The width that a text is given.
    pub(super) fn width(self, text: &str) -> i32 {
        advance(text, self.size, self.bold)
    }
}

/// A fixed advance: 0.6 em, in bold 0.66 em.
fn advance(text: &str, size: i32, bold: bool) -> i32 {
    let letters = i32::try_from(text.chars().take(1000).count()).unwrap_or(1000);
    let percent = if bold { 66 } else { 60 };
    letters * size * percent / 100
}

/// The whole drawing, in drawing units.
pub(super) type Area<'a> = DrawingArea<Svg<'a>, Shift>;

/// A whole drawing of `width` by `height` pixels.
pub(super) fn draw(kind: &str, (width, height): (u32, u32), paint: impl FnOnce(&Area<'_>) -> Result<(), ChartError>) -> Result<String, ChartError> {
    let mut out = String::with_capacity(4096);
    open(&mut out, kind, (width, height));
    let scale = PIXEL.unsigned_abs();
    paint(&Svg { out: &mut out, size: (width * scale, height * scale) }.into_drawing_area())?;
    out.push_str("</svg>");
    Ok(out)
}

/// The start tag of a drawing; `</svg>` ends it.
pub(super) fn open(out: &mut String, kind: &str, (width, height): (u32, u32)) {
    let _ =
        write!(out, r#"<svg xmlns="http://www.w3.org/2000/svg" class="chart chart--{kind}" viewBox="0 0 {width} {height}" width="100%" aria-hidden="true">"#);
}

/// A tile of the strip of layers, with a title: plotters has no word for those.
pub(super) fn tile(out: &mut String, kind: &str, (x, y): BackendCoord, (width, height): BackendCoord, title: &str) {
    let _ = write!(out, r#"<rect class="tile tile--{kind}""#);
    for (name, value) in [("x", x), ("y", y), ("width", width), ("height", height)] {
        attribute(out, name, value);
    }
    out.push_str("><title>");
    escape(out, title);
    out.push_str("</title></rect>");
}

/// A filled rectangle; where it has no width or no height, one without points.
pub(super) fn rectangle(area: &Area<'_>, paint: Paint, from: BackendCoord, to: BackendCoord) -> Result<(), ChartError> {
    let to = if from.0 < to.0 && from.1 < to.1 { to } else { from };
    Ok(area.draw(&Rectangle::new([from, to], paint.filled()))?)
}

/// A line through points, `width` drawing units wide.
pub(super) fn line(area: &Area<'_>, paint: Paint, width: i32, points: impl Into<Vec<BackendCoord>>) -> Result<(), ChartError> {
    Ok(area.draw(&PathElement::<BackendCoord>::new(points, paint.stroke_width(width.unsigned_abs())))?)
}

/// A filled polygon.
pub(super) fn polygon(area: &Area<'_>, paint: Paint, points: Vec<BackendCoord>) -> Result<(), ChartError> {
    Ok(area.draw(&Polygon::new(points, paint.filled()))?)
}

/// A box in drawing units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

impl Place {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// One place that a label may take: its anchor there, and the lower edge of its line.
pub(super) type Spot = (HPos, i32, i32);

/// What stands in an empty label.
pub(super) const BLANK: &str = " ";

/// Where text may not go any more: labels neither meet nor leave the drawing.
pub(super) struct Labels<'a, 'out> {
    area: &'a Area<'out>,
    taken: Vec<Place>,
}

impl<'a, 'out> Labels<'a, 'out> {
    /// Space between labels.
    const GAP: i32 = 3 * PIXEL;

    pub(super) fn on(area: &'a Area<'out>) -> Self {
        Self { area, taken: Vec::new() }
    }

    /// Keeps labels off a place.
    pub(super) fn avoid(&mut self, place: Place) {
        self.taken.push(place);
    }

    /// An empty label, in the place of one that has no room.
    pub(super) fn blank(&self, letters: Letters) -> Result<(), ChartError> {
        let spot = (HPos::Left, 0, letters.size);
        self.write(letters, BLANK, spot)
    }

    fn write(&self, letters: Letters, text: &str, (anchor, x, lower): Spot) -> Result<(), ChartError> {
        let weight = if letters.bold { FontStyle::Bold } else { FontStyle::Normal };
        let style = TextStyle::from((FontFamily::SansSerif, letters.size, weight)).color(&letters.paint).pos(Pos::new(anchor, VPos::Bottom));
        Ok(self.area.draw_text(text, &style, (x, lower))?)
    }

    /// Writes `text` at the first spot that is free, moved sideways into the drawing; nothing where none is.
    pub(super) fn put(&mut self, letters: Letters, text: &str, spots: &[Spot]) -> Result<Option<Place>, ChartError> {
        let (width, (right, bottom)) = (letters.width(text), self.area.dim_in_pixel());
        let (right, bottom) = (i32::try_from(right).unwrap_or(i32::MAX), i32::try_from(bottom).unwrap_or(i32::MAX));
        for &(anchor, x, lower) in spots {
            let start = match anchor {
                HPos::Left => x,
                HPos::Center => x - width / 2,
                HPos::Right => x - width,
            };
            let start = start.min(right - width).max(0);
            let place = Place { left: start, top: lower - letters.size, right: start + width, bottom: lower };
            let inside = place.right <= right && place.top >= 0 && place.bottom <= bottom;
            let kept = Place { left: place.left - Self::GAP, right: place.right + Self::GAP, ..place };
            if !inside || self.taken.iter().any(|taken| taken.meets(&kept)) {
                continue;
            }
            let x = match anchor {
                HPos::Left => place.left,
                HPos::Center => place.left + width / 2,
                HPos::Right => place.right,
            };
            self.write(letters, text, (anchor, x, lower))?;
            self.taken.push(place);
            return Ok(Some(place));
        }
        Ok(None)
    }
}

/// The backend: appends elements to a string.
pub(super) struct Svg<'a> {
    out: &'a mut String,
    /// In drawing units.
    size: (u32, u32),
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Svg<'_> {
    /// `<name class="..."`
    fn start(&mut self, name: &str, color: BackendColor) {
        let (row, term, _) = color.rgb;
        let class = CLASSES.get(usize::from(row)).copied().unwrap_or_default();
        let term = usize::from(term).checked_sub(1).and_then(|position| Term::all().nth(position));
        let _ = write!(self.out, r#"<{name} class="{class}{}""#, term.map_or("", Term::name));
    }

    /// ` points="..."/>`: points on a straight run left out.
    fn points(&mut self, points: impl IntoIterator<Item = BackendCoord>) {
        self.out.push_str(r#" points=""#);
        let mut kept: Vec<BackendCoord> = Vec::new();
        for point in points {
            match kept.as_mut_slice() {
                [.., pen, end] if continues(*pen, *end, point) => *end = point,
                _ => kept.push(point),
            }
        }
        for (index, (x, y)) in kept.into_iter().enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            number(self.out, x);
            self.out.push(' ');
            number(self.out, y);
        }
        self.out.push_str("\"/>");
    }
}

/// ` name="12.5"`
fn attribute(out: &mut String, name: &str, value: i32) {
    let _ = write!(out, r#" {name}=""#);
    number(out, value);
    out.push('"');
}

/// True when `next` prolongs the straight run from `pen` to `end`.
fn continues(pen: BackendCoord, end: BackendCoord, next: BackendCoord) -> bool {
    let run = (i64::from(end.0) - i64::from(pen.0), i64::from(end.1) - i64::from(pen.1));
    let more = (i64::from(next.0) - i64::from(end.0), i64::from(next.1) - i64::from(end.1));
    run.0 * more.1 == run.1 * more.0 && run.0 * more.0 + run.1 * more.1 >= 0
}

/// Tenths as a number with at most one decimal: `12.5`, `-3`, `.4`.
fn number(out: &mut String, tenths: i32) {
    if tenths < 0 {
        out.push('-');
    }
    let (whole, tenth) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
    let _ = match (whole, tenth) {
        (whole, 0) => write!(out, "{whole}"),
        (0, tenth) => write!(out, ".{tenth}"),
        (whole, tenth) => write!(out, "{whole}.{tenth}"),
    };
}

/// Text as XML has it.
pub(super) fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML has no other control characters.
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
}

/// A font size of plotters in drawing units.
#[allow(clippy::cast_possible_truncation)] // a whole number far below 2^31
fn font_size(size: f64) -> i32 {
    size.round() as i32
}

impl DrawingBackend for Svg<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect(point, (point.0 + 1, point.1 + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        self.start("polygon", style.color());
        if !fill {
            self.out.push_str(r#" fill="none""#);
        }
        let corners = [from, (to.0, from.1), to, (from.0, to.1)];
        self.points(corners.into_iter().take(if from == to { 0 } else { 4 }));
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        self.start("polyline", style.color());
        self.out.push_str(r#" fill="none""#);
        let width = i32::try_from(style.stroke_width()).unwrap_or(PIXEL);
        if width != PIXEL {
            attribute(self.out, "stroke-width", width);
        }
        if style.color().rgb.0 == Paint::LONGEST.row {
            self.out.push_str(r#" stroke-dasharray="2 3""#);
        }
        self.points(path);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vert: I, style: &S) -> Drawn {
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        self.start("polygon", style.color());
        self.points(vert);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, (x, y): BackendCoord) -> Drawn {
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        let size = font_size(style.size());
        let baseline = match style.anchor().v_pos {
            VPos::Top => y + size * 8 / 10,
            VPos::Center => y + size * 35 / 100,
            VPos::Bottom => y - size * 2 / 10,
        };
        self.start("text", style.color());
        attribute(self.out, "x", x);
        attribute(self.out, "y", baseline);
        attribute(self.out, "font-size", size);
        if matches!(style.style(), FontStyle::Bold) {
            self.out.push_str(r#" font-weight="600""#);
        }
        self.out.push_str(match style.anchor().h_pos {
            HPos::Left => r#" text-anchor="start">"#,
            HPos::Center => r#" text-anchor="middle">"#,
            HPos::Right => r#" text-anchor="end">"#,
        });
        escape(self.out, text);
        self.out.push_str("</text>");
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(&self, text: &str, style: &T) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let size = font_size(style.size());
        Ok((advance(text, size, matches!(style.style(), FontStyle::Bold)).unsigned_abs(), size.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(paint: impl FnOnce(&Area<'_>) -> Result<(), ChartError>) -> String {
        let svg = draw("test", (100, 50), paint).unwrap();
        let (start, rest) = svg.split_once('>').unwrap();
        assert!(start.contains(r#"class="chart chart--test" viewBox="0 0 100 50" width="100%" aria-hidden="true""#), "{start}");
        rest.strip_suffix("</svg>").unwrap().to_owned()
    }

    #[test]
    fn numbers_have_at_most_one_decimal() {
        for (tenths, text) in [(0, "0"), (4, ".4"), (-4, "-.4"), (10, "1"), (125, "12.5"), (-30, "-3"), (i32::MIN, "-214748364.8")] {
            let mut out = String::new();
            number(&mut out, tenths);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn elements_carry_classes_instead_of_colours() {
        let svg = printed(|area| {
            rectangle(area, Paint::segment(Term::KvCache), (0, 5), (100, 25))?;
            rectangle(area, Paint::OVER, (100, 5), (105, 25))?;
            rectangle(area, Paint::FREE, (20, 5), (20, 25))?;
            rectangle(area, Paint::REST, (20, 5), (10, 25))?;
            line(area, Paint::LIMIT, 10, [(15, 0), (15, 100)])?;
            line(area, Paint::NEED, 20, Vec::<BackendCoord>::new())?;
            polygon(area, Paint::area(Term::Fragmentation), vec![(0, 100), (50, 100), (100, 100), (100, 60), (0, 75)])
        });
        let expected = [
            r#"<polygon class="fill-kv_cache" points="0 .5 10 .5 10 2.5 0 2.5"/>"#,
            r#"<polygon class="over" points="10 .5 10.5 .5 10.5 2.5 10 2.5"/>"#,
            r#"<polygon class="fill-free" points=""/>"#,
            r#"<polygon class="fill-rest" points=""/>"#,
            r#"<polyline class="stroke-limit" fill="none" points="1.5 0 1.5 10"/>"#,
            r#"<polyline class="stroke-need" fill="none" stroke-width="2" points=""/>"#,
            r#"<polygon class="area-fragmentation" points="0 10 10 10 10 6 0 7.5"/>"#,
        ];
        assert_eq!(svg, expected.concat());
    }

    #[test]
    fn what_is_transparent_is_not_drawn() {
        let svg = printed(|area| {
            let clear = plotters::style::RGBAColor(0, 0, 0, 0.0);
            area.draw(&Rectangle::new([(0, 0), (10, 10)], clear.filled()))?;
            area.draw(&PathElement::<BackendCoord>::new([(0, 0), (10, 10)], clear))?;
            area.draw(&Polygon::<BackendCoord>::new([(0, 0), (10, 10), (0, 10)], clear.filled()))?;
            Ok(area.draw_text("x", &TextStyle::from((FontFamily::SansSerif, 110)).color(&clear), (0, 0))?)
        });
        assert_eq!(svg, "");
    }

    #[test]
    fn labels_are_escaped_and_keep_off_each_other() {
        let svg = printed(|area| {
            let mut labels = Labels::on(area);
            let letters = Letters::plain(Paint::TICK_TEXT);
            assert!(labels.put(letters, "<a & 'b'>", &[(HPos::Left, 0, 120)])?.is_some());
            assert!(labels.put(letters, "c", &[(HPos::Left, 100, 120)])?.is_none());
            assert!(labels.put(letters, "d", &[(HPos::Left, 100, 120), (HPos::Right, 5000, 300)])?.is_some());
            assert!(labels.put(letters, "too wide for the drawing", &[(HPos::Left, 0, 450)])?.is_none());
            assert!(labels.put(letters, "low", &[(HPos::Left, 0, 501)])?.is_none());
            labels.blank(letters)
        });
        let expected = [
            r#"<text class="text-tick" x="0" y="9.8" font-size="11" text-anchor="start">&lt;a &amp; &apos;b&apos;&gt;</text>"#,
            r#"<text class="text-tick" x="100" y="27.8" font-size="11" text-anchor="end">d</text>"#,
            r#"<text class="text-tick" x="0" y="8.8" font-size="11" text-anchor="start"> </text>"#,
        ];
        assert_eq!(svg, expected.concat());
    }

    #[test]
    fn text_is_measured_alike_everywhere() {
        printed(|area| {
            let style = TextStyle::from((FontFamily::SansSerif, 100));
            assert_eq!(area.estimate_text_size("äöü → ₂", &style)?, (420, 100));
            Ok(())
        });
    }
}
