//! The answer that one can read from across the room: the sentence, the bars, the moments.

use leptos::prelude::*;
use vramfit::chart::{self, ChartError};
use vramfit::estimate::{Device, Estimate};
use vramfit::format::{Unit, grouped};
use vramfit::plan::LongestContext;
use vramfit::quantity::{Bytes, Overflow};
use vramfit::reader::desk;
use vramfit::report;

use super::dom;
use super::reader;
use super::state::{Answer, AppState, Load};

/// The sentences.
#[derive(Default)]
struct Said {
    fits: &'static str,
    claim: &'static str,
    rest: String,
    summary: String,
    problem: String,
}

/// The verdict.
pub const MARKUP: &str = "\
    <section class='card verdict' aria-labelledby='verdict'>\
      <h2 id='verdict' data-fits='unknown'><span id='claim' class='claim'></span><span id='claim-rest'></span></h2>\
      <p id='impossible' class='problem' role='alert'></p>\
      <p id='summary'></p>\
      <div id='bars'></div>\
      <dl id='moments'></dl>\
      <div id='timeline'></div>\
      <p id='room'></p>\
    </section>";

/// Keeps it up to date.
pub fn bind(state: AppState) {
    dom::follow(move || {
        let Said { fits, claim, rest, summary, problem } = said(state);
        dom::text("claim", claim);
        dom::text("claim-rest", &rest);
        dom::attribute("verdict", "data-fits", fits);
        dom::text("summary", &summary);
        dom::text("impossible", &problem);
        let (unit, width) = (state.unit.get(), state.widths.get().bars);
        let bars = if width == 0 { None } else { state.of_estimate(|estimate| bars(estimate, unit, width)) };
        dom::html("bars", &bars.unwrap_or_default());
        dom::html("timeline", &timeline(state, unit, width));
        dom::html("moments", &state.of_estimate(|estimate| moments(estimate, unit, state.is_training())).unwrap_or_default());
    });
    dom::follow(move || {
        let room = room(state);
        dom::flag("room", "hidden", room.is_empty());
        dom::text("room", &room);
    });
}

fn said(state: AppState) -> Said {
    let unit = state.unit.get();
    let estimate = state.answer.with(|answer| match answer {
        Answer::Estimate(estimate) => Ok(estimate.clone()),
        Answer::Impossible(why) => {
            Err(Said { fits: "unknown", claim: "No answer", rest: " for this combination".to_owned(), problem: why.clone(), ..Said::default() })
        }
        Answer::Nothing => Err(waiting(state)),
        Answer::Waiting => Err(Said { fits: "unknown", claim: "A moment", rest: ": the rules for this are being fetched".to_owned(), ..Said::default() }),
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
        Load::Failed(failure) => ("No model yet", [&failure.problem, " ", &failure.advice].concat()),
        Load::Idle => ("No model yet", "Choose one of the list, or paste an id, an address or a config.json.".to_owned()),
    });
    Said { fits: "unknown", claim, summary, ..Said::default() }
}

/// `2 × H100 SXM5 80GB`; with the numbers of the GPUs where devices hold different things.
fn name(device: &Device, is_one_of_several: bool) -> String {
    let (first, end) = (device.ranks.start, device.ranks.end);
    match end - first {
        1 if is_one_of_several => format!("GPU {first}, {}", device.gpu),
        count if is_one_of_several => format!("GPUs {first} to {}, {count} × {}", end - 1, device.gpu),
        1 => device.gpu.clone(),
        count => format!("{count} × {}", device.gpu),
    }
}

/// A drawing per device; one for several that hold the same.
fn bars(estimate: &Estimate, unit: Unit, width: u32) -> Result<String, ChartError> {
    let is_alone = estimate.devices.len() == 1 && estimate.devices.iter().all(|device| device.ranks.end - device.ranks.start == 1);
    let mut out = String::new();
    for device in &estimate.devices {
        let (class, caption) = if is_alone {
            (" class='visually-hidden'", format!("Memory on {} at its peak", device.gpu))
        } else {
            (
                "",
                format!(
                    "{}{}",
                    name(device, estimate.devices.len() > 1),
                    if device.ranks.end - device.ranks.start > 1 { ", each at its peak" } else { " at its peak" }
                ),
            )
        };
        dom::weave(&mut out, &["<figure><figcaption", "", class, "", ">", &caption, "</figcaption><div class='drawing'>"]);
        out.push_str(&chart::breakdown(device, unit, width)?.svg);
        out.push_str("</div></figure>");
    }
    Ok(out)
}

/// The stages of a training step, drawn by the page's second module, which computes them.
fn timeline(state: AppState, unit: Unit, width: u32) -> String {
    let is_drawn = width > 0 && state.is_training() && state.answer.with(|answer| matches!(answer, Answer::Estimate(_)));
    let drawn = state.shown.with(|shown| {
        let shown = shown.as_ref().filter(|_| is_drawn)?;
        reader::timeline(&shown.bytes, &state.scenario.with(desk::query), unit, width).ok()
    });
    drawn.unwrap_or_default()
}

fn moments(estimate: &Estimate, unit: Unit, is_training: bool) -> Result<String, Overflow> {
    let device = estimate.worst()?;
    let (stage, peak) = device.peak()?;
    let mut out = String::new();
    let mut moment = |key: &str, label: &str, bytes: Bytes, note: &str| {
        let (value, number) = (bytes.get().to_string(), unit.number(bytes));
        let opening = ["</dt><dd><data data-moment='", key, "' value='", &value, "'>"].concat();
        dom::weave(
            &mut out,
            &["<div><dt>", label, &opening, &number, "</data><span class='unit'>", unit.name(), "</span><span class='note'>", note, "</span></dd></div>"],
        );
    };
    if let Some(minimum) = device.minimum {
        moment("minimum", "Minimum to run", minimum, "one request");
    }
    let steady = if is_training { device.steady_stage().doing() } else { "at this load" };
    moment("loaded", "Loaded", device.loaded()?.expected, "before any work");
    moment("steady", "Steady", device.steady()?.expected, steady);
    moment("peak", "Peak", peak.expected, stage.doing());
    if let (Some(claim), Some(budget)) = (device.claim, &device.budget) {
        let engine = budget.name.split(' ').next().unwrap_or_default();
        let ratio = estimate
            .choices
            .iter()
            .find(|choice| choice.key.contains("fraction") || choice.key == "gpu_memory_utilization")
            .map_or("", |choice| choice.value.as_str());
        moment("reserved", &format!("{engine} will claim"), claim, &format!("a share of {ratio}, and what is outside it"));
    }
    if let Some(host) = &estimate.host {
        let (stage, peak) = host.peak()?;
        moment("host", "On the host", peak.expected, stage.doing());
    }
    Ok(out)
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
        Some(LongestContext::Tokens(tokens)) => Some(format!("The longest that fits is {} tokens.", grouped(tokens))),
        Some(LongestContext::Unlimited) => Some("Any context fits.".to_owned()),
        Some(LongestContext::Nothing) | None => None,
    });
    sentences.join(" ")
}
