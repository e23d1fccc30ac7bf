//! Memory against context: a drawing, a crosshair over it that reads values, and the same as a table.

use leptos::prelude::*;
use vramfit::chart::{self, Drawing};
use vramfit::estimate::Estimate;
use vramfit::format::{Unit, grouped};
use vramfit::memory::estimate;
use vramfit::plan::{self, CURVE_START, LongestContext, Point};
use vramfit::scenario::Scenario;

use super::browser;
use super::scale;
use super::state::{Answer, AppState};

/// The element that the crosshair is measured against.
const PLOT: &str = "curve-plot";
/// Height of the drawing in CSS pixels.
const HEIGHT: u32 = 260;
/// Positions of the context scale that an arrow key moves.
const ARROW: u64 = 2;

/// A place on the curve.
#[derive(Clone, Default, PartialEq)]
struct Cross {
    left: String,
    top: String,
    text: String,
}

/// The curve.
pub fn view(state: AppState) -> AnyView {
    let drawing = Memo::new(move |_| {
        let (unit, width) = (state.unit.get(), state.widths.get().curve);
        state.swept.with(|swept| {
            let swept = swept.as_ref().filter(|_| width > 0)?;
            chart::curve(&swept.curve, &swept.device, unit, width, HEIGHT).ok()
        })
    });
    let svg = Memo::new(move |_| drawing.with(|drawing| drawing.as_ref().map_or_else(String::new, |drawing| drawing.svg.clone())));
    let context = Memo::new(move |_| {
        let chosen = state.scenario.with(|scenario| scenario.context).unwrap_or_else(|| state.used_count("context"));
        state.cursor.get().unwrap_or(chosen).clamp(CURVE_START, state.context_end.get())
    });
    let cross = Memo::new(move |_| cross(state, drawing, context.get()));
    let text = Memo::new(move |_| cross.with(|cross| cross.text.clone()));
    let is_off = Memo::new(move |_| cross.with(|cross| cross.left.is_empty()));
    let left = Memo::new(move |_| cross.with(|cross| cross.left.clone()));
    let top = Memo::new(move |_| cross.with(|cross| cross.top.clone()));

    let at = move |client_x: i32| {
        let share = browser::share_of(PLOT, client_x)?;
        drawing.with_untracked(|drawing| drawing.as_ref().map(|drawing| drawing.plot.context_at(share * f64::from(drawing.width))))
    };
    let take = move |context: u64| {
        state.choose(|scenario| scenario.context = Some(context));
        state.cursor.set(None);
    };
    let on_key = move |event: web_sys::KeyboardEvent| {
        let position = scale::position_of_context(context.get_untracked());
        let last = scale::last_context(state.context_end.get_untracked());
        let next = match event.key().as_str() {
            "ArrowRight" | "ArrowUp" => position + ARROW,
            "ArrowLeft" | "ArrowDown" => position.saturating_sub(ARROW),
            "PageUp" => position + scale::PER_DOUBLING,
            "PageDown" => position.saturating_sub(scale::PER_DOUBLING),
            "Home" => 0,
            "End" => last,
            "Enter" => {
                event.prevent_default();
                return take(context.get_untracked());
            }
            _ => return,
        };
        event.prevent_default();
        state.cursor.set(Some(scale::context_at(next.min(last))));
    };
    view! {
        <figure id="curve" class="card">
            <figcaption>
                <h2>"Memory against context"</h2>
                <p class="note">{move || limit(state)}</p>
            </figcaption>
            <div
                id=PLOT
                class="plot"
                role="slider"
                tabindex="0"
                aria-label="Context on the curve"
                aria-valuemin=CURVE_START.to_string()
                aria-valuemax=move || state.context_end.get().to_string()
                aria-valuenow=move || context.get().to_string()
                aria-valuetext=text
                aria-describedby="curve-help"
                on:keydown=on_key
                on:blur=move |_| state.cursor.set(None)
                on:pointermove=move |event| {
                    if let Some(context) = at(event.client_x()) {
                        state.cursor.set(Some(context));
                    }
                }
                on:pointerleave=move |_| state.cursor.set(None)
                on:click=move |event| {
                    if let Some(context) = at(event.client_x()) {
                        take(context);
                    }
                }
            >
                <div class="drawing" inner_html=svg></div>
                <span class="cross" hidden=move || is_off.get() style:left=move || left.get()></span>
                <span class="dot" hidden=move || is_off.get() style:left=move || left.get() style:top=move || top.get()></span>
            </div>
            <p id="curve-readout">{text}</p>
            <p class="note" id="curve-help">
                "Point at the curve or use the arrow keys to read it; a click or Enter takes that context."
            </p>
            {table(state)}
        </figure>
    }
    .into_any()
}

/// The crosshair at a context.
fn cross(state: AppState, drawing: Memo<Option<Drawing>>, context: u64) -> Cross {
    let Some(point) = point(state, context) else { return Cross::default() };
    let unit = state.unit.get();
    let range = if point.low == point.high { String::new() } else { format!(", likely {} to {}", unit.number(point.low), unit.number(point.high)) };
    let text = format!("{} tokens: {}{range}", grouped(context), unit.text(point.peak));
    drawing.with(|drawing| {
        let Some(drawing) = drawing else { return Cross { text: text.clone(), ..Cross::default() } };
        let percent = |part: f64, whole: u32| format!("{}%", part * 100.0 / f64::from(whole.max(1)));
        Cross { left: percent(drawing.plot.x_of(context), drawing.width), top: percent(drawing.plot.y_of(point.peak), drawing.height), text: text.clone() }
    })
}

/// The peak at a context: that of the estimate on the page where it is the same.
fn point(state: AppState, context: u64) -> Option<Point> {
    let of = |estimate: &Estimate| plan::point(context, estimate).ok();
    let is_chosen = state.used_count("context") == context;
    state.answer.with(|answer| match answer {
        Answer::Estimate(estimate) if is_chosen => of(estimate),
        Answer::Estimate(_) => state.shown.with(|shown| {
            let scenario = Scenario { context: Some(context), ..state.scenario.get() };
            of(&estimate(&shown.as_ref()?.model, &scenario).ok()?)
        }),
        _ => None,
    })
}

/// The finding.
fn limit(state: AppState) -> String {
    state.swept.with(|swept| match swept.as_ref().map(|swept| swept.curve.longest) {
        Some(LongestContext::Tokens(tokens)) => format!("Fits up to {} tokens per request.", grouped(tokens)),
        Some(LongestContext::Unlimited) => "Fits at every context.".to_owned(),
        Some(LongestContext::Nothing) => "Does not fit at any context.".to_owned(),
        None => "There is no curve for this combination.".to_owned(),
    })
}

/// The curve in figures, one row per doubling.
fn table(state: AppState) -> AnyView {
    // Made when it is asked for.
    let is_open = RwSignal::new(false);
    let rows = move || {
        let unit = state.unit.get();
        state.swept.with(|swept| {
            let points = swept.as_ref().map(|swept| swept.curve.points.as_slice()).unwrap_or_default();
            points.iter().filter(|point| point.context.is_power_of_two()).map(|point| table_row(point, unit)).collect_view()
        })
    };
    let body = move || {
        is_open.get().then(|| {
            view! {
                <table>
                    <caption class="visually-hidden">"Memory at the peak against context"</caption>
                    <thead>
                        <tr>
                            <th scope="col">"Tokens per request"</th>
                            <th scope="col" class="figure">
                                {move || format!("Peak, {}", state.unit.get().name())}
                            </th>
                            <th scope="col" class="figure">
                                "Likely"
                            </th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            }
            .into_any()
        })
    };
    view! {
        <details class="more" on:toggle=move |event| is_open.set(browser::is_open(&event))>
            <summary>"Data table"</summary>
            {body}
        </details>
    }
    .into_any()
}

fn table_row(point: &Point, unit: Unit) -> AnyView {
    view! {
        <tr>
            <th scope="row">{grouped(point.context)}</th>
            <td class="figure">{unit.number(point.peak)}</td>
            <td class="figure">{format!("{} to {}", unit.number(point.low), unit.number(point.high))}</td>
        </tr>
    }
    .into_any()
}
