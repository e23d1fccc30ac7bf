//! Memory against context: a drawing, a crosshair over it that reads values, and the same as a table.

use leptos::prelude::*;
use vramfit::chart::{self, Drawing};
use vramfit::estimate::Estimate;
use vramfit::format::{fixed, grouped};
use vramfit::plan::{self, CURVE_START, LongestContext, Point};
use web_sys::Event;

use super::browser;
use super::dom;
use super::scale;
use super::state::{Answer, AppState};

/// The element that the crosshair is measured against.
const PLOT: &str = "curve-plot";
/// Height of the drawing in CSS pixels.
const HEIGHT: u32 = 260;
/// Positions of the context scale that an arrow key moves.
const ARROW: u64 = 2;

/// A place on the curve.
#[derive(Default)]
struct Cross {
    /// Of the line across the plot, the point on the curve in the middle.
    points: String,
    text: String,
}

/// The curve.
pub const MARKUP: &str = "\
    <figure id='curve' class='card'>\
      <figcaption><h2>Memory against context</h2><p id='curve-limit' class='note'></p></figcaption>\
      <div id='curve-plot' class='plot' role='slider' tabindex='0' aria-label='Context on the curve' aria-valuemin='512' aria-describedby='curve-help'>\
        <div id='curve-drawing' class='drawing'></div>\
        <svg id='curve-pointer' class='pointer' aria-hidden='true'>\
          <marker id='curve-dot' markerUnits='userSpaceOnUse' overflow='visible'><circle class='dot' r='5'/></marker>\
          <polyline id='curve-cross' class='cross' fill='none' marker-mid='url(#curve-dot)'/>\
        </svg>\
      </div>\
      <p id='curve-readout'></p>\
      <p class='note' id='curve-help'>Point at the curve or use the arrow keys to read it; a click or Enter takes that context.</p>\
      <details id='curve-data' class='more'><summary>Data table</summary><div id='curve-table'></div></details>\
    </figure>";

/// Makes it work.
pub fn bind(state: AppState) {
    let drawing = ArcRwSignal::new(None::<Drawing>);
    let (drawn, pointed) = (drawing.clone(), drawing.clone());
    dom::follow(move || {
        let (unit, width) = (state.unit.get(), state.widths.get().curve);
        let mut now = state.swept.with(|swept| {
            let swept = swept.as_ref().filter(|_| width > 0)?;
            chart::curve(&swept.curve, &swept.device, unit, width, HEIGHT).ok()
        });
        dom::html("curve-drawing", &now.as_mut().map_or_else(String::new, |drawing| std::mem::take(&mut drawing.svg)));
        if let Some(drawing) = &now {
            dom::attribute("curve-pointer", "viewBox", &format!("0 0 {} {}", drawing.width, drawing.height));
        }
        drawing.set(now);
    });
    dom::follow(move || {
        let context = context(state);
        let Cross { points, text } = drawn.with(|drawing| cross(state, drawing.as_ref(), context));
        dom::text("curve-readout", &text);
        dom::attribute(PLOT, "aria-valuetext", &text);
        dom::attribute(PLOT, "aria-valuenow", &context.to_string());
        dom::attribute(PLOT, "aria-valuemax", &state.context_end().to_string());
        dom::attribute("curve-cross", "points", &points);
    });
    dom::follow(move || {
        dom::text("curve-limit", &limit(state));
        let is_blank = state.swept.with(Option::is_none) && state.answer.with(|answer| matches!(answer, Answer::Impossible(_)));
        dom::attribute("curve", "class", if is_blank { "card blank" } else { "card" });
    });
    on_pointer(state, pointed);
    dom::on(PLOT, "keydown", move |event| on_key(state, &event));
    dom::on(PLOT, "blur", move |_| state.cursor.set(None));
    let is_open = ArcRwSignal::new(false);
    let toggled = is_open.clone();
    // Made when it is asked for.
    dom::on("curve-data", "toggle", move |event| toggled.set(dom::target(&event, "open").is_truthy()));
    dom::follow(move || {
        dom::html("curve-table", &if is_open.get() { table(state) } else { String::new() });
    });
}

/// Where the crosshair is.
fn context(state: AppState) -> u64 {
    state.cursor.get().unwrap_or_else(|| state.length()).clamp(CURVE_START, state.context_end())
}

fn take(state: AppState, context: u64) {
    state.choose(|scenario| *scenario.length_mut() = Some(context));
    state.cursor.set(None);
}

fn on_pointer(state: AppState, drawing: ArcRwSignal<Option<Drawing>>) {
    let at = move |event: &Event| {
        let share = browser::share_of(PLOT, dom::get(event, "clientX").as_f64()?)?;
        drawing.with_untracked(|drawing| drawing.as_ref().map(|drawing| drawing.plot.context_at(share * f64::from(drawing.width))))
    };
    let at_click = at.clone();
    dom::on(PLOT, "pointermove", move |event| {
        if let Some(context) = at(&event) {
            state.cursor.set(Some(context));
        }
    });
    dom::on(PLOT, "pointerleave", move |_| state.cursor.set(None));
    dom::on(PLOT, "click", move |event| {
        if let Some(context) = at_click(&event) {
            take(state, context);
        }
    });
}

fn on_key(state: AppState, event: &Event) {
    let context = untrack(|| context(state));
    let position = scale::position_of_context(context);
    let last = scale::last_context(untrack(|| state.context_end()));
    let next = match dom::key(event).as_str() {
        "ArrowRight" | "ArrowUp" => position + ARROW,
        "ArrowLeft" | "ArrowDown" => position.saturating_sub(ARROW),
        "PageUp" => position + scale::PER_DOUBLING,
        "PageDown" => position.saturating_sub(scale::PER_DOUBLING),
        "Home" => 0,
        "End" => last,
        "Enter" => {
            event.prevent_default();
            return take(state, context);
        }
        _ => return,
    };
    event.prevent_default();
    state.cursor.set(Some(scale::context_at(next.min(last))));
}

/// The crosshair at a context.
fn cross(state: AppState, drawing: Option<&Drawing>, context: u64) -> Cross {
    let Some(point) = point(state, context) else { return Cross::default() };
    let unit = state.unit.get();
    let range = unit.range(point.low, point.high).map_or_else(String::new, |range| [", likely ", &range].concat());
    let text = [&grouped(context), " tokens: ", &unit.text(point.peak), &range].concat();
    let Some(drawing) = drawing else { return Cross { text, ..Cross::default() } };
    let (x, y) = (tenths(drawing.plot.x_of(context)), tenths(drawing.plot.y_of(point.peak)));
    Cross { points: format!("{x} 0 {x} {y} {x} {}", drawing.height), text }
}

/// A length in pixels, to the tenth.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn tenths(length: f64) -> String {
    fixed((length * 10.0) as u64, 10, 1).replace(',', "")
}

/// The peak at a context: that of the estimate on the page where it is the same.
fn point(state: AppState, context: u64) -> Option<Point> {
    let of = |estimate: &Estimate| plan::point(context, estimate).ok();
    let is_chosen = state.length() == context;
    state.answer.with(|answer| match answer {
        Answer::Estimate(estimate) if is_chosen => of(estimate),
        Answer::Estimate(_) => state.shown.with(|shown| {
            let mut scenario = state.scenario.get();
            *scenario.length_mut() = Some(context);
            match super::state::answer(shown.as_ref()?, &scenario, || state.reader.get()) {
                Answer::Estimate(estimate) => of(&estimate),
                _ => None,
            }
        }),
        _ => None,
    })
}

/// The finding.
fn limit(state: AppState) -> String {
    state.swept.with(|swept| match swept.as_ref().map(|swept| swept.curve.longest) {
        Some(LongestContext::Tokens(tokens)) => {
            format!("Fits up to {} tokens per {}.", grouped(tokens), if state.is_training() { "sequence" } else { "request" })
        }
        Some(LongestContext::Unlimited) => "Fits at every context.".to_owned(),
        Some(LongestContext::Nothing) => "Does not fit at any context.".to_owned(),
        None => "There is no curve for this combination.".to_owned(),
    })
}

/// The curve in figures, one row per doubling.
fn table(state: AppState) -> String {
    let unit = state.unit.get();
    let mut out = String::new();
    dom::weave(
        &mut out,
        &[
            "<table><caption class='visually-hidden'>Memory at the peak against context</caption><thead><tr><th scope='col'>Tokens per request</th>\
             <th scope='col' class='figure'>Peak, ",
            unit.name(),
            "</th><th scope='col' class='figure'>Likely</th></tr></thead><tbody>",
        ],
    );
    state.swept.with(|swept| {
        let points = swept.as_ref().map(|swept| swept.curve.points.as_slice()).unwrap_or_default();
        for point in points.iter().filter(|point| point.context.is_power_of_two()) {
            let (context, peak, low, high) = (grouped(point.context), unit.number(point.peak), unit.number(point.low), unit.number(point.high));
            let opening = "</td><td class='figure'>";
            dom::weave(&mut out, &["<tr><th scope='row'>", &context, "</th><td class='figure'>", &peak, opening, &low, " to ", &high, "</td></tr>"]);
        }
    });
    out.push_str("</tbody></table>");
    out
}
