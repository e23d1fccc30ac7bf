//! What one chooses: the GPU, the engine, formats, the load, and the settings that few need.

use leptos::prelude::*;
use vramfit::format::{fixed, grouped, tokens_short};
use vramfit::gpu::{self, Vendor};
use vramfit::plan::CURVE_START;
use vramfit::quantity::{Bytes, Decimal, GIB};
use vramfit::runtime::engine;
use vramfit::scenario::{KvCache, Runtime, Scenario, Weights};

use super::field::{Choice, Field, Slider, choice, count, field, slider};
use super::load;
use super::scale;
use super::state::AppState;

/// The value of the option that stands for a given size.
const CUSTOM: &str = "custom";

/// Everything below the model.
pub fn view(state: AppState) -> AnyView {
    view! {
        <div class="row row--gpu">{gpu_choice(state)} {gpu_count(state)}</div>
        {capacity(state)}
        <p class="note" id="gpu-facts">
            {gpu_facts(state)}
        </p>
        {runtime(state)}
        <div class="row">{weights(state)} {kv_cache(state)}</div>
        {context(state)}
        {batch(state)}
        {more(state)}
    }
    .into_any()
}

/// A part of the scenario that changes seldom.
fn of<T: PartialEq + Send + Sync + 'static>(state: AppState, read: fn(&Scenario) -> T) -> Memo<T> {
    Memo::new(move |_| state.scenario.with(read))
}

/// A count: what was chosen, else what the last estimate used.
fn used(state: AppState, read: fn(&Scenario) -> Option<u64>, key: &'static str) -> Memo<u64> {
    Memo::new(move |_| state.scenario.with(read).unwrap_or_else(|| state.used_count(key)))
}

/// A count as its field shows it; nothing where there is none.
fn shown(count: Memo<u64>) -> Memo<String> {
    Memo::new(move |_| Some(count.get()).filter(|&count| count > 0).map_or_else(String::new, grouped))
}

fn never() -> Signal<bool> {
    Signal::stored(false)
}

fn gpu_choice(state: AppState) -> AnyView {
    let value = Memo::new(move |_| {
        state.scenario.with(|scenario| match (&scenario.gpu, scenario.gpu_capacity) {
            (Some(name), _) => gpu::find(name).map_or_else(|_| name.clone(), |gpu| gpu.name.to_owned()),
            (None, Some(_)) => CUSTOM.to_owned(),
            (None, None) => Scenario::DEFAULT_GPU.to_owned(),
        })
    });
    let take = |state: AppState, name: &str| {
        let name = name.to_owned();
        state.choose(move |scenario| {
            if name == CUSTOM {
                let usable = scenario.card().map_or(Bytes(24 * GIB), |card| card.usable);
                (scenario.gpu, scenario.gpu_capacity) = (None, Some(usable));
            } else {
                (scenario.gpu, scenario.gpu_capacity) = (Some(name), None);
            }
        });
    };
    // One string instead of two hundred nodes: the names are the table's own.
    view! {
        <div class="field">
            <label for="gpu">"GPU"</label>
            <select
                id="gpu"
                prop:value=value
                on:change=move |event| take(state, &event_target_value(&event))
                inner_html=gpu_options()
            ></select>
        </div>
    }
    .into_any()
}

fn gpu_options() -> String {
    let mut out = String::with_capacity(8 << 10);
    for vendor in [Vendor::Nvidia, Vendor::Amd, Vendor::Apple, Vendor::Intel, Vendor::Google] {
        out.push_str("<optgroup label=\"");
        out.push_str(vendor.name());
        out.push_str("\">");
        for gpu in gpu::all().iter().filter(|gpu| gpu.vendor == vendor) {
            out.push_str("<option>");
            for letter in gpu.name.chars() {
                match letter {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    letter => out.push(letter),
                }
            }
            out.push_str("</option>");
        }
        out.push_str("</optgroup>");
    }
    out.push_str("<option value=\"custom\">Custom capacity</option>");
    out
}

fn gpu_count(state: AppState) -> AnyView {
    let count = used(state, |scenario| scenario.gpus.or(scenario.tensor_parallel), "tensor_parallel");
    field(
        state,
        Field {
            id: "gpus",
            label: "Count",
            value: shown(count),
            take: |state, text| {
                let gpus = self::count(text)?;
                state.choose(|scenario| (scenario.gpus, scenario.tensor_parallel) = (gpus, None));
                Ok(())
            },
            is_live: true,
            is_disabled: never(),
        },
    )
}

/// The size of the card, where it was given.
fn capacity(state: AppState) -> impl IntoView {
    let is_given = of(state, |scenario| scenario.gpu_capacity.is_some());
    let value = Memo::new(move |_| {
        let size = state.scenario.with(|scenario| scenario.gpu_capacity).map_or_else(String::new, |size| fixed(size.get(), GIB, 2));
        size.strip_suffix(".00").unwrap_or(&size).replace(',', "")
    });
    let take = |state: AppState, text: &str| {
        let wrong = || "Type the memory that one process can get, in GiB, such as 23.6.".to_owned();
        let size: Decimal = text.trim().parse().map_err(|_| wrong())?;
        let bytes = size.floor_of(GIB).map_err(|_| wrong())?;
        if bytes == 0 {
            return Err(wrong());
        }
        state.choose(|scenario| scenario.gpu_capacity = Some(Bytes(bytes)));
        Ok(())
    };
    move || is_given.get().then(|| field(state, Field { id: "capacity", label: "Usable memory (GiB)", value, take, is_live: true, is_disabled: never() }))
}

/// `79.2 GiB usable · 3,350 GB/s · Hopper`
fn gpu_facts(state: AppState) -> Memo<String> {
    Memo::new(move |_| {
        let unit = state.unit.get();
        let Ok(card) = state.scenario.with(Scenario::card) else { return String::new() };
        let mut facts = vec![format!("{} usable", unit.text(card.usable))];
        if let Some(gpu) = card.gpu {
            facts.extend(gpu.bandwidth_gb_s.map(|bandwidth| format!("{} GB/s", grouped(whole(bandwidth)))));
            facts.push(gpu.architecture.to_owned());
        }
        facts.join(" · ")
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn whole(value: f32) -> u64 {
    value.round() as u64
}

fn runtime(state: AppState) -> AnyView {
    let options = Runtime::ALL.iter().map(|runtime| view! { <option value=runtime.name()>{engine(*runtime).label()}</option> }).collect_view();
    let value = Memo::new(move |_| state.scenario.with(|scenario| scenario.runtime.name().to_owned()));
    let take = |state: AppState, name: &str| {
        if let Ok(runtime) = name.parse() {
            state.choose(|scenario| scenario.runtime = runtime);
        }
    };
    choice(state, Choice { id: "runtime", label: "Runtime", options: options.into_any(), value, take })
}

fn weights(state: AppState) -> AnyView {
    let options = Weights::ALL.iter().map(|weights| view! { <option value=weights.name()>{weights.label()}</option> }).collect_view();
    let value = Memo::new(move |_| state.scenario.with(|scenario| scenario.weights.name().to_owned()));
    let take = |state: AppState, name: &str| {
        if let Ok(weights) = name.parse() {
            state.choose(|scenario| scenario.weights = weights);
        }
    };
    choice(state, Choice { id: "weights", label: "Weights", options: options.into_any(), value, take })
}

/// Why an engine cannot keep its cache in a format.
fn refusal(runtime: Runtime, kv_cache: KvCache) -> Option<&'static str> {
    match (runtime, kv_cache) {
        (Runtime::Vllm, KvCache::Fp32) => Some("not in vLLM"),
        (Runtime::Transformers, KvCache::Fp8) => Some("not in transformers"),
        _ => None,
    }
}

fn kv_cache(state: AppState) -> AnyView {
    let runtime = of(state, |scenario| scenario.runtime);
    let option = move |kv_cache: KvCache| {
        let why = Memo::new(move |_| refusal(runtime.get(), kv_cache));
        let label = Memo::new(move |_| why.get().map_or_else(|| kv_cache.label().to_owned(), |why| format!("{}: {why}", kv_cache.label())));
        view! {
            <option value=kv_cache.name() disabled=move || why.get().is_some()>
                {label}
            </option>
        }
    };
    let options = KvCache::ALL.iter().map(|kv_cache| option(*kv_cache)).collect_view();
    let value = Memo::new(move |_| state.scenario.with(|scenario| scenario.kv_cache.name().to_owned()));
    let take = |state: AppState, name: &str| {
        if let Ok(kv_cache) = name.parse() {
            state.choose(|scenario| scenario.kv_cache = kv_cache);
        }
    };
    choice(state, Choice { id: "kv", label: "KV cache", options: options.into_any(), value, take })
}

fn context(state: AppState) -> AnyView {
    let context = used(state, |scenario| scenario.context, "context");
    let typed = field(
        state,
        Field {
            id: "context",
            label: "Context per request",
            value: shown(context),
            take: |state, text| {
                let context = count(text)?;
                state.choose(|scenario| scenario.context = context);
                Ok(())
            },
            is_live: true,
            is_disabled: never(),
        },
    );
    let end = state.context_end;
    let mark = Memo::new(move |_| {
        let max = state.shown.with(|shown| shown.as_ref().and_then(|shown| shown.model.anatomy.max_context))?;
        Some((scale::position_of_context(max), format!("Made for up to {} tokens.", grouped(max))))
    });
    let slide = slider(
        state,
        Slider {
            id: "context-slider",
            label: "Context per request, slider",
            position: Memo::new(move |_| scale::position_of_context(context.get())),
            last: Memo::new(move |_| scale::last_context(end.get())),
            said: Memo::new(move |_| format!("{} tokens", grouped(context.get()))),
            take: |state, position| state.choose(|scenario| scenario.context = Some(scale::context_at(position))),
            mark,
            scale: Memo::new(move |_| {
                let doublings = (end.get() / CURVE_START).max(1).ilog2();
                let parts = [3, 2].into_iter().find(|parts| doublings.is_multiple_of(*parts)).unwrap_or(1);
                (0..=parts).map(|part| tokens_short(CURVE_START << (doublings / parts * part))).collect()
            }),
        },
    );
    view! { <div class="group">{typed} {slide}</div> }.into_any()
}

fn batch(state: AppState) -> AnyView {
    let batch = used(state, |scenario| scenario.batch, "batch");
    let typed = field(
        state,
        Field {
            id: "batch",
            label: "Requests at once",
            value: shown(batch),
            take: |state, text| {
                let batch = count(text)?;
                state.choose(|scenario| scenario.batch = batch);
                Ok(())
            },
            is_live: true,
            is_disabled: never(),
        },
    );
    let slide = slider(
        state,
        Slider {
            id: "batch-slider",
            label: "Requests at once, slider",
            position: Memo::new(move |_| scale::position_of_batch(batch.get())),
            last: Memo::new(|_| scale::LAST_BATCH),
            said: Memo::new(move |_| format!("{} at once", grouped(batch.get()))),
            take: |state, position| state.choose(|scenario| scenario.batch = Some(scale::batch_at(position))),
            mark: Memo::new(|_| None),
            scale: Memo::new(|_| ["1", "8", "64", "512"].map(str::to_owned).to_vec()),
        },
    );
    view! { <div class="group">{typed} {slide}</div> }.into_any()
}

/// The settings that few need.
fn more(state: AppState) -> AnyView {
    let is_vllm = of(state, |scenario| scenario.runtime == Runtime::Vllm);
    let not_vllm = Signal::derive(move || !is_vllm.get());
    let changed = Memo::new(move |_| {
        let of_scenario = state.scenario.with(|scenario| {
            let Scenario { gpu_memory_utilization, max_num_batched_tokens, max_num_seqs, enforce_eager, .. } = scenario;
            [gpu_memory_utilization.is_some(), max_num_batched_tokens.is_some(), max_num_seqs.is_some(), *enforce_eager]
        });
        let others = [state.endpoint.with(|text| !text.is_empty()), state.token.with(|text| !text.is_empty())];
        match of_scenario.iter().chain(&others).filter(|changed| **changed).count() {
            0 => String::new(),
            count => format!("{count} changed"),
        }
    });
    let utilization = Memo::new(move |_| {
        let chosen = state.scenario.with(|scenario| scenario.gpu_memory_utilization.map(|ratio| ratio.to_string()));
        let default = || state.used.with(|used| used.iter().find(|(key, _)| *key == "gpu_memory_utilization").map(|(_, value)| value.clone()));
        chosen.or_else(default).unwrap_or_default()
    });
    let limits = [
        field(
            state,
            Field {
                id: "util",
                label: "GPU memory utilization",
                value: utilization,
                take: |state, text| {
                    let text = text.trim();
                    let ratio = if text.is_empty() { None } else { Some(text.parse::<Decimal>().map_err(|error| format!("{error}."))?) };
                    if ratio.is_some_and(|ratio| !ratio.is_fraction()) {
                        return Err("It must be above 0 and at most 1, such as 0.92.".to_owned());
                    }
                    state.choose(|scenario| scenario.gpu_memory_utilization = ratio);
                    Ok(())
                },
                is_live: false,
                is_disabled: not_vllm,
            },
        ),
        field(
            state,
            Field {
                id: "mbt",
                label: "Batched tokens",
                value: shown(used(state, |scenario| scenario.max_num_batched_tokens, "max_num_batched_tokens")),
                take: |state, text| {
                    let tokens = count(text)?;
                    state.choose(|scenario| scenario.max_num_batched_tokens = tokens);
                    Ok(())
                },
                is_live: false,
                is_disabled: not_vllm,
            },
        ),
        field(
            state,
            Field {
                id: "mns",
                label: "Sequences",
                value: shown(used(state, |scenario| scenario.max_num_seqs, "max_num_seqs")),
                take: |state, text| {
                    let sequences = count(text)?;
                    state.choose(|scenario| scenario.max_num_seqs = sequences);
                    Ok(())
                },
                is_live: false,
                is_disabled: not_vllm,
            },
        ),
    ];
    let is_eager = of(state, |scenario| scenario.enforce_eager);
    let why =
        Memo::new(move |_| if is_vllm.get() { String::new() } else { "transformers takes what it needs and has none of these four settings.".to_owned() });
    view! {
        <details class="more">
            <summary>
                "More settings"
                <span class="note">{changed}</span>
            </summary>
            <div class="more__body">
                <p class="note">{why}</p>
                {limits.into_iter().collect_view()}
                <label class="check">
                    <input
                        id="eager"
                        type="checkbox"
                        disabled=not_vllm
                        prop:checked=is_eager
                        on:change=move |event| {
                            let is_eager = event_target_checked(&event);
                            state.choose(|scenario| scenario.enforce_eager = is_eager);
                        }
                    />
                    "Enforce eager"
                </label>
                {hub_settings(state)}
            </div>
        </details>
    }
    .into_any()
}

fn hub_settings(state: AppState) -> AnyView {
    let problem = RwSignal::new(String::new());
    let endpoint = Memo::new(move |_| Some(state.endpoint.get()).filter(|text| !text.is_empty()).unwrap_or_else(|| "https://huggingface.co".to_owned()));
    let on_endpoint = move |event: web_sys::Event| {
        let typed = event_target_value(&event);
        match Some(typed.trim()).filter(|text| !text.is_empty()).map(vramfit::hub::Endpoint::parse).transpose() {
            Ok(_) => {
                problem.set(String::new());
                state.set_endpoint(&typed);
            }
            Err(error) => problem.set(format!("{error}. {}", error.advice())),
        }
    };
    view! {
        <div class="field">
            <label for="endpoint">"Hub endpoint"</label>
            <input
                id="endpoint"
                type="text"
                inputmode="url"
                autocomplete="off"
                spellcheck="false"
                aria-describedby="endpoint-problem"
                prop:value=endpoint
                on:change=on_endpoint
            />
            <p class="problem" id="endpoint-problem" aria-live="polite">
                {problem}
            </p>
        </div>
        <div class="field">
            <label for="token">"Access token"</label>
            <input
                id="token"
                type="password"
                autocomplete="off"
                aria-describedby="token-note"
                prop:value=state.token
                on:change=move |event| state.token.set(load::clean_token(&event_target_value(&event)).unwrap_or_default())
            />
            <p class="note" id="token-note">
                {token_note(state)}
            </p>
        </div>
    }
    .into_any()
}

/// Where a token goes.
pub fn token_note(state: AppState) -> Memo<String> {
    Memo::new(move |_| {
        let place = state.hub().map_or_else(|_| "the endpoint".to_owned(), |endpoint| endpoint.to_string());
        format!("Kept until this page is closed, and sent to {place} only.")
    })
}
