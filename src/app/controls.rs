//! What one chooses: the GPU, the engine, formats, the load, and the settings that few need.

use std::borrow::Cow;
use std::cell::Cell;

use leptos::prelude::*;
use vramfit::format::{fixed, grouped, tokens_short};
use vramfit::gpu::{self, Card, Vendor};
use vramfit::hub::{BadEndpoint, Endpoint};
use vramfit::plan::CURVE_START;
use vramfit::quantity::{Bytes, Decimal, GIB};
use vramfit::runtime::label;
use vramfit::scenario::{KvCache, Method, Optimizer, Runtime, Scenario, Task, Weights};
use web_sys::Event;

use super::dom;
use super::field::{Choice, Field, Slider, Track, count, option};
use super::load;
use super::reader;
use super::scale;
use super::settings;
use super::state::{Answer, AppState};

/// The value of the option that stands for a given size.
const CUSTOM: &str = "custom";
const CUSTOM_LABEL: &str = "Custom capacity";

/// Everything below the model.
pub fn markup() -> String {
    let mut out = String::with_capacity(16 << 10);
    out.push_str("<div class='row row--gpu'>");
    GPU.markup(&mut out, "");
    GPU_COUNT.markup(&mut out);
    out.push_str("</div>");
    CAPACITY.markup(&mut out);
    out.push_str("<p class='note' id='gpu-facts'></p>");
    let mut options = String::new();
    for runtime in Runtime::ALL {
        option(&mut options, RUNTIME.id, runtime.name(), label(*runtime));
    }
    out.push_str("<div class='row'>");
    TASK.markup(&mut out, &plain_options(TASK.id, Task::OPTIONS));
    RUNTIME.markup(&mut out, &options);
    METHOD.markup(&mut out, &plain_options(METHOD.id, Method::OPTIONS));
    out.push_str("</div><div class='row'>");
    WEIGHTS.markup(&mut out, "");
    options.clear();
    for kv_cache in KvCache::ALL {
        option(&mut options, KV_CACHE.id, kv_cache.name(), kv_cache.label());
    }
    KV_CACHE.markup(&mut out, &options);
    OPTIMIZER.markup(&mut out, &plain_options(OPTIMIZER.id, Optimizer::OPTIONS));
    out.push_str("</div>");
    WEIGHT_NUMBER.markup(&mut out);
    for (field, slider) in [(&CONTEXT, &CONTEXT_SLIDER), (&BATCH, &BATCH_SLIDER)] {
        out.push_str("<div class='group'>");
        field.markup(&mut out);
        slider.markup(&mut out);
        out.push_str("</div>");
    }
    out.push_str(
        "<details class='more' id='more'><summary>More settings<span id='changed' class='note'></span></summary>\
         <div class='more__body' id='more-settings'></div></details>",
    );
    out
}

/// Below the groups of "More settings".
const LAST: &str = "\
    <fieldset><legend>Hub</legend>\
    <div class='field'>\
      <label for='endpoint'>Hub endpoint</label>\
      <input id='endpoint' type='text' inputmode='url' autocomplete='off' spellcheck='false' aria-describedby='endpoint-problem'>\
      <p class='problem' id='endpoint-problem' aria-live='polite'></p>\
    </div>\
    <div class='field'>\
      <label for='token'>Access token</label>\
      <input id='token' type='password' autocomplete='off' aria-describedby='token-note'>\
      <p class='note' id='token-note'></p>\
    </div>\
    </fieldset>";

/// Makes it work.
pub fn bind(state: AppState) {
    let gpu = untrack(|| (GPU.value)(state));
    GPU.begin(&gpu, if gpu == CUSTOM { CUSTOM_LABEL } else { &gpu });
    let weights = state.scenario.with_untracked(|scenario| scenario.weights);
    WEIGHTS.begin(weights.stem(), &weights_label(weights));
    let choices = [&GPU, &TASK, &RUNTIME, &METHOD, &WEIGHTS, &KV_CACHE, &OPTIMIZER].map(|choice| choice.bind(state));
    let fields = [&GPU_COUNT, &CAPACITY, &WEIGHT_NUMBER, &CONTEXT, &BATCH].map(|field| field.bind(state));
    let sliders = [&CONTEXT_SLIDER, &BATCH_SLIDER].map(|slider| slider.bind(state));
    dom::follow(move || {
        choices.iter().chain(&fields).chain(&sliders).for_each(|show| show());
    });
    dom::follow(move || {
        state.setting.with(allow);
        dom::text("gpu-facts", &gpu_facts(state));
        dom::text("changed", &changed(state));
    });
    // Most runtimes are in the page's second module.
    for id in [TASK.id, RUNTIME.id] {
        dom::on(id, "focus", move |_| reader::prepare());
    }
    let is_made = Cell::new(false);
    dom::on("more", "toggle", move |_| {
        if !is_made.replace(true) {
            more(state);
        }
    });
}

/// Fills the long lists of choices, of which only what is chosen is there at first.
pub fn fill(state: AppState) {
    GPU.fill(state, &gpu_options());
    WEIGHTS.fill(state, &weights_options());
}

/// Makes "More settings", when it is first opened.
fn more(state: AppState) {
    let mut markup = String::with_capacity(16 << 10);
    settings::markup(&mut markup);
    markup.push_str(LAST);
    dom::html("more-settings", &markup);
    reader::prepare();
    settings::bind(state);
    dom::follow(move || {
        state.endpoint.with(|text| dom::set_value("endpoint", if text.is_empty() { "https://huggingface.co" } else { text }));
        dom::text("token-note", &token_note(state));
    });
    dom::on("endpoint", "change", move |event| on_endpoint(state, &event));
    dom::follow(move || state.token.with(|token| dom::set_value("token", token)));
    dom::on("token", "change", move |event| state.token.set(load::clean_token(&dom::typed(&event)).unwrap_or_default()));
}

/// Choices that do not apply are disabled, and say why.
fn allow(scenario: &Scenario) {
    dom::flag("capacity-field", "hidden", scenario.gpu_capacity.is_none());
    let is_training = scenario.task == Task::Train;
    for (id, is_for_training) in [("runtime-field", false), ("kv-field", false), ("method-field", true), ("optimizer-field", true)] {
        dom::flag(id, "hidden", is_for_training != is_training);
    }
    dom::text("context-label", if is_training { "Tokens per sequence" } else { CONTEXT.label });
    dom::text("batch-label", if is_training { "Micro-batch" } else { BATCH.label });
    dom::flag("weight-number-field", "hidden", scenario.weights.number().is_none());
    for kv_cache in KvCache::ALL {
        let id = [KV_CACHE.id, "-", kv_cache.name()].concat();
        let why = refusal(scenario.runtime, *kv_cache);
        dom::flag(&id, "disabled", why.is_some());
        dom::text(&id, &why.map_or_else(|| kv_cache.label().to_owned(), |why| format!("{}: {why}", kv_cache.label())));
    }
}

/// A count as its field shows it; nothing where there is none.
fn shown(count: u64) -> String {
    if count == 0 { String::new() } else { grouped(count) }
}

/// What a slider's position means; nothing where there is no count.
fn said(count: u64, unit: &str) -> String {
    if count == 0 { String::new() } else { [&grouped(count), unit].concat() }
}

static GPU: Choice = Choice {
    id: "gpu",
    label: "GPU",
    value: |state| {
        state.scenario.with(|scenario| match (&scenario.gpu, scenario.gpu_capacity) {
            // Another name than the table's is what the reader took it for, if it took it.
            (Some(name), _) => match gpu::exact(name) {
                None if state.answer.with(|answer| !matches!(answer, Answer::Estimate(_))) => name.clone(),
                known => chosen_or_used(state, known.map(|gpu| gpu.name), "gpu"),
            },
            (None, Some(_)) => CUSTOM.to_owned(),
            (None, None) => Scenario::DEFAULT_GPU.to_owned(),
        })
    },
    take: |state, name| {
        let before = untrack(|| (GPU.value)(state));
        state.choose(|scenario| {
            if name == CUSTOM {
                let usable = gpu::exact(&before).map_or(Bytes(24 * GIB), |gpu| Card::of(gpu).usable);
                (scenario.gpu, scenario.gpu_capacity) = (None, Some(usable));
            } else {
                (scenario.gpu, scenario.gpu_capacity) = (Some(name.to_owned()), None);
            }
        });
    },
};

fn gpu_options() -> String {
    let mut out = String::with_capacity(8 << 10);
    for vendor in [Vendor::Nvidia, Vendor::Amd, Vendor::Apple, Vendor::Intel, Vendor::Google] {
        dom::weave(&mut out, &["<optgroup label='", vendor.name(), "'>"]);
        for gpu in gpu::all().iter().filter(|gpu| gpu.vendor == vendor) {
            dom::weave(&mut out, &["<option>", gpu.name, "</option>"]);
        }
        out.push_str("</optgroup>");
    }
    option(&mut out, GPU.id, CUSTOM, CUSTOM_LABEL);
    out
}

static GPU_COUNT: Field = Field {
    id: "gpus",
    label: "Count",
    value: |state| shown(state.scenario.with(|scenario| scenario.gpus.or(scenario.tensor_parallel)).unwrap_or_else(|| state.used_count("gpus").max(1))),
    take: |state, text| {
        let gpus = count(text)?;
        state.choose(|scenario| (scenario.gpus, scenario.tensor_parallel) = (gpus, None));
        Ok(())
    },
    is_live: true,
};

/// The size of the card, where it was given.
static CAPACITY: Field = Field {
    id: "capacity",
    label: "Usable memory (GiB)",
    value: |state| {
        let size = state.scenario.with(|scenario| scenario.gpu_capacity).map_or_else(String::new, |size| fixed(size.get(), GIB, 2));
        size.strip_suffix(".00").unwrap_or(&size).replace(',', "")
    },
    take: |state, text| {
        let wrong = || "Type the memory that one process can get, in GiB, such as 23.6.".to_owned();
        let size: Decimal = text.trim().parse().map_err(|_| wrong())?;
        let bytes = size.floor_of(GIB).map_err(|_| wrong())?;
        if bytes == 0 {
            return Err(wrong());
        }
        state.choose(|scenario| scenario.gpu_capacity = Some(Bytes(bytes)));
        Ok(())
    },
    is_live: true,
};

/// `79.2 GiB usable · 3,350 GB/s · Hopper`
fn gpu_facts(state: AppState) -> String {
    let unit = state.unit.get();
    let Ok(card) = state.setting.with(Scenario::card) else { return String::new() };
    let mut facts = format!("{} usable", unit.text(card.usable));
    if let Some(gpu) = card.gpu {
        if let Some(bandwidth) = gpu.bandwidth_gb_s {
            facts.push_str(" · ");
            facts.push_str(&grouped(whole(bandwidth)));
            facts.push_str(" GB/s");
        }
        facts.push_str(" · ");
        facts.push_str(gpu.architecture);
    }
    facts
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn whole(value: f32) -> u64 {
    value.round() as u64
}

static TASK: Choice = Choice {
    id: "task",
    label: "Task",
    value: |state| state.scenario.with(|scenario| scenario.task.name().to_owned()),
    take: |state, name| {
        if let Ok(task) = name.parse() {
            state.choose(|scenario| scenario.task = task);
        }
    },
};

static METHOD: Choice = Choice {
    id: "method",
    label: "Method",
    value: |state| chosen_or_used(state, state.scenario.with(|scenario| scenario.training.method).map(Method::name), "method"),
    take: |state, name| state.choose(|scenario| scenario.training.method = name.parse().ok()),
};

static OPTIMIZER: Choice = Choice {
    id: "optimizer",
    label: "Optimizer",
    value: |state| chosen_or_used(state, state.scenario.with(|scenario| scenario.training.optimizer).map(Optimizer::name), "optimizer"),
    take: |state, name| state.choose(|scenario| scenario.training.optimizer = name.parse().ok()),
};

/// A choice's name, or that of what the last estimate used.
fn chosen_or_used(state: AppState, chosen: Option<&str>, key: &str) -> String {
    chosen.map_or_else(|| state.used(key).unwrap_or_default(), str::to_owned)
}

/// Options by name and label.
fn plain_options(id: &str, choices: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, label) in choices {
        option(&mut out, id, name, label);
    }
    out
}

static RUNTIME: Choice = Choice {
    id: "runtime",
    label: "Runtime",
    value: |state| state.scenario.with(|scenario| scenario.runtime.name().to_owned()),
    take: |state, name| {
        if let Ok(runtime) = name.parse() {
            state.choose(|scenario| scenario.runtime = runtime);
        }
    },
};

static WEIGHTS: Choice = Choice {
    id: "weights",
    label: "Weights",
    value: |state| state.scenario.with(|scenario| scenario.weights.stem().to_owned()),
    take: |state, stem| {
        if let Some(weights) = Weights::all().find(|weights| weights.stem() == stem) {
            state.choose(|scenario| scenario.weights = weights);
        }
    },
};

/// Every format of weights, by kind.
fn weights_options() -> String {
    let (mut out, mut kind, mut end) = (String::new(), Weights::AsStored.kind(), "");
    for weights in Weights::all() {
        if weights.kind() != kind {
            kind = weights.kind();
            dom::weave(&mut out, &[end, "", "<optgroup label='", kind, "'>"]);
            end = "</optgroup>";
        }
        option(&mut out, WEIGHTS.id, weights.stem(), &weights_label(weights));
    }
    out.push_str(end);
    out
}

/// What a format is called in the list; those with a number have it in a field of its own.
fn weights_label(weights: Weights) -> Cow<'static, str> {
    match weights {
        Weights::Scheme(row, _) if row.is_open() => row.scheme.method.name().into(),
        Weights::Bytes(_) => "Bytes per parameter".into(),
        _ => weights.label(),
    }
}

/// The number of a format that is open.
static WEIGHT_NUMBER: Field = Field {
    id: "weight-number",
    label: "Bits per weight, or bytes per parameter",
    value: |state| state.scenario.with(|scenario| scenario.weights.number().map_or_else(String::new, |number| number.to_string())),
    take: |state, text| match text.trim().parse() {
        Ok(number) if number != Decimal::new(0, 0) => {
            state.choose(|scenario| scenario.weights = scenario.weights.with_number(number));
            Ok(())
        }
        _ => Err("Type a number above 0, such as 4.65.".to_owned()),
    },
    is_live: true,
};

static KV_CACHE: Choice = Choice {
    id: "kv",
    label: "KV cache",
    value: |state| state.scenario.with(|scenario| scenario.kv_cache.name().to_owned()),
    take: |state, name| {
        if let Ok(kv_cache) = name.parse() {
            state.choose(|scenario| scenario.kv_cache = kv_cache);
        }
    },
};

/// Why an engine cannot keep its cache in a format.
fn refusal(runtime: Runtime, kv_cache: KvCache) -> Option<&'static str> {
    match (runtime, kv_cache) {
        (Runtime::Transformers, KvCache::Fp8) => Some("not in transformers"),
        (Runtime::Transformers, _) => None,
        (_, KvCache::Fp32) => Some("for transformers only"),
        _ => None,
    }
}

static CONTEXT: Field = Field {
    id: "context",
    label: "Context per request",
    value: |state| shown(state.length()),
    take: |state, text| {
        let context = count(text)?;
        state.choose(|scenario| *scenario.length_mut() = context);
        Ok(())
    },
    is_live: true,
};

static CONTEXT_SLIDER: Slider = Slider {
    id: "context-slider",
    label: "Context per request, slider",
    take: |state, position| state.choose(|scenario| *scenario.length_mut() = Some(scale::context_at(position))),
    stand: |state| {
        let context = state.length();
        (scale::position_of_context(context), said(context, " tokens"))
    },
    track: |state| {
        let max = state.shown.with(|shown| shown.as_ref().and_then(|shown| shown.model.anatomy.max_context));
        let end = state.context_end();
        let doublings = (end / CURVE_START).max(1).ilog2();
        let parts = if doublings.is_multiple_of(3) { 3 } else { 1 + u32::from(doublings.is_multiple_of(2)) };
        Track {
            last: scale::last_context(end),
            mark: max.map(|max| (scale::position_of_context(max), format!("Made for up to {} tokens.", grouped(max)))),
            scale: (0..=parts).map(|part| tokens_short(CURVE_START << (doublings / parts * part))).collect(),
        }
    },
};

static BATCH: Field = Field {
    id: "batch",
    label: "Requests at once",
    value: |state| shown(state.count()),
    take: |state, text| {
        let batch = count(text)?;
        state.choose(|scenario| *scenario.count_mut() = batch);
        Ok(())
    },
    is_live: true,
};

static BATCH_SLIDER: Slider = Slider {
    id: "batch-slider",
    label: "Requests at once, slider",
    take: |state, position| state.choose(|scenario| *scenario.count_mut() = Some(scale::batch_at(position))),
    stand: |state| {
        let batch = state.count();
        (scale::position_of_batch(batch), said(batch, " at once"))
    },
    track: |_| Track { last: scale::LAST_BATCH, mark: None, scale: ["1", "8", "64", "512"].map(str::to_owned).to_vec() },
};

/// `2 changed`
fn changed(state: AppState) -> String {
    let others = usize::from(state.endpoint.with(|text| !text.is_empty())) + usize::from(state.token.with(|text| !text.is_empty()));
    match state.setting.with(settings::changed) + others {
        0 => String::new(),
        count => format!("{count} changed"),
    }
}

fn on_endpoint(state: AppState, event: &Event) {
    let typed = dom::typed(event);
    let problem = match Some(typed.trim()).filter(|text| !text.is_empty()).map(Endpoint::parse).transpose() {
        Ok(_) => {
            state.set_endpoint(&typed);
            String::new()
        }
        Err(error) => format!("{error}. {}", BadEndpoint::ADVICE),
    };
    dom::text("endpoint-problem", &problem);
}

/// Where a token goes.
pub fn token_note(state: AppState) -> String {
    let place = state.hub().map_or_else(|_| "the endpoint".to_owned(), |endpoint| endpoint.to_string());
    format!("Kept until this page is closed, and sent to {place} only.")
}
