//! The answer that one can read from across the room: the sentence, the bars, the moments.

use leptos::prelude::*;
use vramfit::chart;
use vramfit::estimate::{Device, Estimate};
use vramfit::format::{Unit, grouped};
use vramfit::plan::LongestContext;
use vramfit::quantity::{Bytes, Overflow};
use vramfit::report;

use super::state::{Answer, AppState, Load};

/// The sentences.
#[derive(Clone, Default, PartialEq)]
struct Said {
    fits: &'static str,
    claim: &'static str,
    rest: String,
    summary: String,
    problem: String,
}

/// A moment of the ledger.
#[derive(Clone, PartialEq)]
struct Moment {
    key: &'static str,
    label: String,
    bytes: Bytes,
    number: String,
    note: String,
}

/// A drawing of one device, or of several that hold the same.
#[derive(Clone, PartialEq)]
struct Bar {
    caption: String,
    is_alone: bool,
    svg: String,
}

/// The verdict.
pub fn view(state: AppState) -> AnyView {
    let said = Memo::new(move |_| said(state));
    let part = move |read: fn(&Said) -> String| Memo::new(move |_| said.with(read));
    let moments = Memo::new(move |_| {
        let unit = state.unit.get();
        state.of_estimate(|estimate| moments(estimate, unit)).unwrap_or_default()
    });
    let room = Memo::new(move |_| room(state));
    view! {
        <section class="card verdict" aria-labelledby="verdict">
            <h2 id="verdict" data-fits=move || said.with(|said| said.fits)>
                <span class="claim">{move || said.with(|said| said.claim)}</span>
                {part(|said| said.rest.clone())}
            </h2>
            <p id="summary">{part(|said| said.summary.clone())}</p>
            <p class="problem" role="alert">
                {part(|said| said.problem.clone())}
            </p>
            <div id="bars">{bars(state)}</div>
            <dl id="moments">
                {move || moments.get().into_iter().map(|moment| moment_view(state, moment)).collect_view()}
            </dl>
            <p id="room" class="note">
                {room}
            </p>
        </section>
    }
    .into_any()
}

fn said(state: AppState) -> Said {
    let unit = state.unit.get();
    let estimate = state.answer.with(|answer| match answer {
        Answer::Estimate(estimate) => Ok(estimate.clone()),
        Answer::Impossible(why) => {
            Err(Said { fits: "unknown", claim: "No answer", rest: " for this combination".to_owned(), problem: why.clone(), ..Said::default() })
        }
        Answer::Nothing => Err(waiting(state)),
    });
    let verdict = match estimate.map(|estimate| report::verdict(&estimate, unit)) {
        Err(said) => return said,
        Ok(Err(overflow)) => return Said { fits: "unknown", claim: "No answer", problem: overflow.to_string(), ..Said::default() },
        Ok(Ok(verdict)) => verdict,
    };
    let fits = if verdict.fits { "yes" } else { "no" };
    Said { fits, claim: verdict.claim, rest: verdict.rest, summary: verdict.summary, problem: String::new() }
}

/// While there is no model.
fn waiting(state: AppState) -> Said {
    let (claim, summary) = state.load.with(|load| match load {
        Load::Reading(reading) => ("Reading", format!("{} is being read from the Hub.", reading.name)),
        _ => ("No model yet", "Choose one of the list, or paste an id, an address or a config.json.".to_owned()),
    });
    Said { fits: "unknown", claim, summary, ..Said::default() }
}

/// `2 × H100 SXM5 80GB`
fn name(device: &Device) -> String {
    match device.ranks.end - device.ranks.start {
        1 => device.gpu.clone(),
        count => format!("{count} × {}", device.gpu),
    }
}

fn bars(state: AppState) -> AnyView {
    let bars = Memo::new(move |_| {
        let (unit, width) = (state.unit.get(), state.widths.get().bars);
        if width == 0 {
            return Vec::new();
        }
        let draw = |estimate: &Estimate| {
            let bar = |device: &Device| {
                let svg = chart::breakdown(device, unit, width)?.svg;
                let is_alone = estimate.devices.len() == 1 && device.ranks.end - device.ranks.start == 1;
                let caption = if is_alone { format!("Memory on {} at its peak", device.gpu) } else { format!("{}, each at its peak", name(device)) };
                Ok(Bar { caption, is_alone, svg })
            };
            estimate.devices.iter().map(bar).collect::<Result<Vec<_>, chart::ChartError>>()
        };
        state.of_estimate(draw).unwrap_or_default()
    });
    let view = move || {
        let bar = |Bar { caption, is_alone, svg }: Bar| {
            view! {
                <figure>
                    <figcaption class:visually-hidden=is_alone>{caption}</figcaption>
                    <div class="drawing" inner_html=svg></div>
                </figure>
            }
        };
        bars.get().into_iter().map(bar).collect_view()
    };
    view.into_any()
}

fn moments(estimate: &Estimate, unit: Unit) -> Result<Vec<Moment>, Overflow> {
    let device = estimate.worst()?;
    let (stage, peak) = device.peak()?;
    let moment = |key, label: &str, bytes, note: String| Moment { key, label: label.to_owned(), bytes, number: unit.number(bytes), note };
    let mut moments = vec![
        moment("loaded", "Loaded", device.loaded()?.expected, "before the first request".to_owned()),
        moment("steady", "Steady", device.steady()?.expected, "at this load".to_owned()),
        moment("peak", "Peak", peak.expected, stage.doing().to_owned()),
    ];
    if let (Some(claim), Some(budget)) = (device.claim, &device.budget) {
        let engine = budget.name.split(' ').next().unwrap_or_default();
        let ratio = estimate.choices.iter().find(|choice| choice.key == "gpu_memory_utilization").map_or("its share", |choice| choice.value.as_str());
        moments.push(moment("reserved", &format!("{engine} will claim"), claim, format!("{ratio} of the card, and its context")));
    }
    Ok(moments)
}

fn moment_view(state: AppState, moment: Moment) -> impl IntoView {
    let Moment { key, label, bytes, number, note } = moment;
    view! {
        <div>
            <dt>{label}</dt>
            <dd>
                <data value=bytes.get().to_string() data-moment=key>
                    {number}
                </data>
                <span class="unit">{state.unit.get().name()}</span>
                <span class="note">{note}</span>
            </dd>
        </div>
    }
}

/// What the rest of the memory is good for.
fn room(state: AppState) -> String {
    let longest = state.swept.with(|swept| swept.as_ref().map(|swept| swept.curve.longest));
    let mut sentences = Vec::new();
    if let Some(Some(capacity)) = state.of_estimate(|estimate| Ok::<_, Overflow>(estimate.capacity)) {
        let (whole, rest) = (capacity.concurrency_hundredths / 100, capacity.concurrency_hundredths % 100);
        sentences.push(format!(
            "There is room for {} cached tokens: {}.{rest:02} requests of {} tokens at once.",
            grouped(capacity.kv_cache_tokens),
            grouped(whole),
            grouped(state.used_count("context"))
        ));
    }
    sentences.extend(match longest {
        Some(LongestContext::Tokens(tokens)) => Some(format!("The longest context that fits is {} tokens.", grouped(tokens))),
        Some(LongestContext::Unlimited) => Some("Any context fits.".to_owned()),
        Some(LongestContext::Nothing) | None => None,
    });
    sentences.join(" ")
}
