//! JSON out, in the contract's shape (`"schema": "vramfit/1"`), and the sentences that say the answer.

use serde_json::{Map, Value, json};

use crate::encoding::Encoding;
use crate::estimate::{Bound, Device, Estimate, Stage};
use crate::format::{Unit, grouped};
use crate::model::{Attention, Component, FeedForward, Mixer, Model, Recurrence, Span};
use crate::plan::LongestContext;
use crate::quantity::Overflow;
use crate::scenario::Scenario;

/// The version of the JSON contract.
pub const SCHEMA: &str = "vramfit/1";
/// The version of the engine.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The date of the embedded data (GPUs, models, measured constants).
pub const DATA_VERSION: &str = "2026-11-21";

/// The verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every device has room.
    pub fits: bool,
    /// "Fits" or "Does not fit".
    pub claim: &'static str,
    /// The rest of the sentence: "on one H100, 2.3 GiB to spare".
    pub rest: String,
    /// The second sentence: need, stage, limit, band.
    pub summary: String,
}

/// The sentences that say the answer.
pub fn verdict(estimate: &Estimate, unit: Unit) -> Result<Verdict, Overflow> {
    let device = estimate.worst()?;
    let (bound, headroom) = device.headroom()?;
    let (stage, peak) = device.peak()?;
    let count = device.ranks.end - device.ranks.start;
    let cards = if count == 1 { format!("one {}", device.gpu) } else { format!("{count} × {}", device.gpu) };
    let each = if count == 1 { "" } else { " each" };
    let size = unit.text(headroom.size());
    let (claim, rest) =
        if headroom.fits() { ("Fits", format!(" on {cards}, {size} to spare{each}")) } else { ("Does not fit", format!(" on {cards}: {size} short{each}")) };
    let limit = match (&device.budget, bound) {
        (Some(budget), Bound::Budget) => format!("{} is {} of the {} usable", budget.name, unit.number(budget.bytes), unit.text(device.usable)),
        (Some(budget), Bound::Card) => format!("{} and the CUDA context outside it are more than the {} usable", budget.name, unit.text(device.usable)),
        (None, _) => format!("{} are usable", unit.text(device.usable)),
    };
    let likely = if peak.is_exact() { String::new() } else { format!(" Likely {} to {}.", unit.number(peak.low), unit.text(peak.high)) };
    let summary = format!("Needs {} at its peak{each}, {}; {limit}.{likely}", unit.text(peak.expected), stage.doing());
    Ok(Verdict { fits: headroom.fits(), claim, rest, summary })
}

/// The layers in words: `48 × GQA 32/4 × 128 over everything, MoE 8 of 128 × 768. A token leaves 49,152 cached values in all
/// of them.`
pub fn layers_sentence(decoder: &Component) -> String {
    let mut parts: Vec<(String, u64)> = Vec::new();
    let mut count = |name: String, layers: u64| match parts.iter_mut().find(|(part, _)| *part == name) {
        Some((_, sum)) => *sum += layers,
        None => parts.push((name, layers)),
    };
    let mut cached = 0u64;
    let mut state = 0u64;
    for run in &decoder.layers {
        let mixer = run.layer.mixer;
        let span = match mixer.span() {
            Some(Span::Full) => " over everything".to_owned(),
            Some(Span::Sliding(window)) => format!(" over a window of {} tokens", grouped(window)),
            Some(Span::Chunked(chunk)) => format!(" in chunks of {} tokens", grouped(chunk)),
            None => String::new(),
        };
        count(format!("{mixer}{span}"), run.count);
        cached = cached.saturating_add(mixer.cache_elements_per_token().saturating_mul(run.count));
        state = state.saturating_add(mixer.state_elements_per_sequence().saturating_mul(run.count));
    }
    for run in &decoder.layers {
        count(run.layer.feed_forward.to_string(), run.count);
    }
    let named: Vec<String> = parts.iter().map(|(name, layers)| format!("{} × {name}", grouped(*layers))).collect();
    let states = if state > 0 { format!(" A request keeps {} values of state.", grouped(state)) } else { String::new() };
    format!("{}. A token leaves {} cached values in all of them.{states}", named.join(", "), grouped(cached))
}

/// The whole answer as JSON.
pub fn estimate_json(model: &Model, scenario: &Scenario, estimate: &Estimate, longest: LongestContext) -> Result<Value, Overflow> {
    let verdict = verdict(estimate, Unit::Gib)?;
    let mut devices = Vec::new();
    for device in &estimate.devices {
        for index in device.ranks.clone() {
            devices.push(device_json(index, device)?);
        }
    }
    let capacity = estimate.capacity.map(|capacity| {
        json!({
            "kv_cache_bytes": capacity.kv_cache_bytes.get(),
            "kv_cache_tokens": capacity.kv_cache_tokens,
            "max_context": longest_json(longest),
            "max_concurrency": hundredths(capacity.concurrency_hundredths),
        })
    });
    Ok(json!({
        "schema": SCHEMA,
        "version": VERSION,
        "data_version": DATA_VERSION,
        "model": model_json(model)?,
        "scenario": scenario_json(scenario, estimate),
        "devices": devices,
        "host": null,
        "capacity": capacity,
        "verdict": {"fits": verdict.fits, "sentence": format!("{}{}", verdict.claim, verdict.rest), "summary": verdict.summary},
        "assumptions": estimate.assumptions,
        "warnings": estimate.warnings,
    }))
}

/// The anatomy as JSON.
pub fn inspect_json(model: &Model) -> Result<Value, Overflow> {
    Ok(json!({"schema": SCHEMA, "version": VERSION, "model": model_json(model)?}))
}

/// The answer to "what is the longest context": `null` where none is too long.
pub fn solve_json(model: &Model, longest: LongestContext) -> Value {
    json!({
        "schema": SCHEMA,
        "version": VERSION,
        "model": {"id": model.provenance.id, "max_context": model.anatomy.max_context},
        "for": "context",
        "max_context": longest_json(longest),
    })
}

/// Every GPU of the catalogue.
pub fn gpus_json() -> Value {
    let gpus: Vec<_> = crate::gpu::all()
        .iter()
        .map(|gpu| {
            let card = crate::gpu::Card::of(gpu);
            json!({
                "name": gpu.name,
                "architecture": gpu.architecture,
                "memory_type": gpu.memory_type,
                "capacity_bytes": card.capacity.get(),
                "usable_bytes": card.usable.get(),
                "usable_source": card.usable_source.to_string(),
                "bandwidth_gb_s": gpu.bandwidth_gb_s,
                "source": gpu.source,
            })
        })
        .collect();
    json!({"schema": SCHEMA, "data_version": DATA_VERSION, "gpus": gpus})
}

/// Every storage format.
pub fn formats_json() -> Value {
    let formats: Vec<_> = Encoding::all()
        .map(|encoding| {
            json!({
                "name": encoding.name,
                "config_name": encoding.config_name,
                "flag": encoding.flag,
                "block_elements": encoding.block_elements,
                "block_bytes": encoding.block_bytes,
            })
        })
        .collect();
    json!({"schema": SCHEMA, "data_version": DATA_VERSION, "formats": formats})
}

fn longest_json(longest: LongestContext) -> Value {
    match longest {
        LongestContext::Nothing => json!(0),
        LongestContext::Tokens(tokens) => json!(tokens),
        LongestContext::Unlimited => Value::Null,
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn hundredths(value: u64) -> Value {
    json!(value as f64 / 100.0)
}

fn model_json(model: &Model) -> Result<Value, Overflow> {
    let anatomy = &model.anatomy;
    let mut by_component = Map::new();
    let mut by_role: Map<String, Value> = Map::new();
    for component in &anatomy.components {
        by_component.insert(component.name.to_owned(), json!(component.parameters()?.get()));
    }
    for (tensor, times) in anatomy.tensors() {
        let sum = by_role.entry(tensor.role.name()).or_insert(json!(0));
        let more = tensor.elements()?.times(times)?.get();
        *sum = json!(sum.as_u64().unwrap_or(0).checked_add(more).ok_or(Overflow)?);
    }
    let files = model.provenance.files.as_ref();
    let layers = |component: &Component| component.layers.iter().map(layer_json).collect::<Vec<_>>();
    let components = anatomy.components.iter().map(|component| {
        Ok(json!({"name": component.name, "kind": component.kind.name(), "parameters": component.parameters()?.get(), "layers": layers(component)}))
    });
    Ok(json!({
        "id": model.provenance.id,
        "revision": model.provenance.revision,
        "model_type": anatomy.model_type,
        "source": model.provenance.source.name(),
        "parameters": {
            "total": anatomy.parameters()?.get(),
            "active": anatomy.active_parameters()?.get(),
            "trainable": anatomy.parameters()?.get(),
            "stored": files.map(|files| files.elements.get()),
            "by_component": by_component,
            "by_role": by_role,
        },
        "stored_bytes": files.map(|files| files.bytes.get()),
        "max_context": anatomy.max_context,
        "dtype": anatomy.dtype.map(|dtype| dtype.to_string()),
        "quantization": anatomy.quantization,
        "layers": layers(model.decoder()),
        "components": components.collect::<Result<Vec<_>, Overflow>>()?,
        "keys_used": anatomy.keys_used,
        "keys_not_understood": anatomy.keys_not_understood,
        "assumptions": anatomy.assumptions.iter().chain(&model.provenance.notes).collect::<Vec<_>>(),
    }))
}

fn layer_json(run: &crate::model::LayerRun) -> Value {
    let mixer = run.layer.mixer;
    let feed_forward = match run.layer.feed_forward {
        FeedForward::Dense { intermediate, gated } => json!({"kind": "dense", "intermediate": intermediate, "gated": gated}),
        FeedForward::MixtureOfExperts { experts, active, intermediate, shared } => {
            json!({"kind": "moe", "experts": experts, "active": active, "intermediate": intermediate, "shared": shared})
        }
        FeedForward::None => Value::Null,
    };
    json!({
        "count": run.count,
        "mixer": mixer_json(&mixer),
        "feed_forward": feed_forward,
        "span": mixer.span().map(|span| span.to_string()),
        "cache_elements_per_token": mixer.cache_elements_per_token(),
        "indexer_elements_per_token": mixer.indexer_elements_per_token(),
        "state_elements_per_sequence": mixer.state_elements_per_sequence(),
    })
}

fn mixer_json(mixer: &Mixer) -> Value {
    let attention = |attention: &Attention| json!({"kind": "attention", "heads": attention.heads, "kv_heads": attention.kv_heads, "key_dim": attention.key_dim, "value_dim": attention.value_dim});
    let recurrence = |recurrence: &Recurrence| json!({"kind": recurrence.kind.to_string(), "conv_channels": recurrence.conv_channels, "conv_kernel": recurrence.conv_kernel, "state_elements": recurrence.state});
    match mixer {
        Mixer::Attention(one) => attention(one),
        Mixer::Latent(latent) => json!({
            "kind": "mla", "heads": latent.heads, "kv_lora_rank": latent.kv_lora_rank, "rope_dim": latent.rope_dim, "key_dim": latent.nope_dim, "value_dim": latent.value_dim,
        }),
        Mixer::Recurrent(one) => recurrence(one),
        Mixer::Parallel(one, other) => json!({"kind": "parallel", "attention": attention(one), "recurrence": recurrence(other)}),
        Mixer::None => Value::Null,
    }
}

/// Every setting as it was used; `defaults` names those that the user did not choose, with the rule.
fn scenario_json(scenario: &Scenario, estimate: &Estimate) -> Value {
    let mut object = Map::new();
    let mut defaults = Map::new();
    object.insert("task".to_owned(), json!("serve"));
    for choice in &estimate.choices {
        let value = choice.value.parse::<u64>().map_or_else(|_| json!(choice.value), |number| json!(number));
        object.insert(choice.key.to_owned(), value);
        if let Some(rule) = &choice.default {
            defaults.insert(choice.key.to_owned(), json!(rule));
        }
    }
    object.insert("gpu_capacity_bytes".to_owned(), json!(scenario.gpu_capacity.map(crate::quantity::Bytes::get)));
    object.insert("enforce_eager".to_owned(), json!(scenario.enforce_eager));
    object.insert("defaults".to_owned(), Value::Object(defaults));
    Value::Object(object)
}

fn device_json(index: u64, device: &Device) -> Result<Value, Overflow> {
    let (peak_stage, peak) = device.peak()?;
    let (bound, headroom) = device.headroom()?;
    let mut entries = Vec::new();
    for term in device.terms() {
        let at_peak = device.term_at(term, peak_stage)?;
        let of_term = || device.entries.iter().filter(move |entry| entry.term == term);
        // The formula of the stage that decides; a term that is not held then shows its largest.
        let shown: Vec<_> = of_term().filter(|entry| entry.stages.contains(&peak_stage)).collect();
        let shown = if shown.is_empty() { of_term().max_by_key(|entry| entry.amount.expected).into_iter().collect() } else { shown };
        let joined = |text: &dyn Fn(&crate::estimate::Entry) -> String| shown.iter().map(|entry| text(entry)).collect::<Vec<_>>().join("; ");
        entries.push(json!({
            "term": term.name(),
            "bytes": at_peak.expected.get(),
            "low_bytes": at_peak.low.get(),
            "high_bytes": at_peak.high.get(),
            "at": {
                "loaded": device.term_at(term, Stage::Load)?.expected.get(),
                "steady": device.term_at(term, Stage::Decode)?.expected.get(),
                "peak": at_peak.expected.get(),
            },
            "basis": shown.first().map(|entry| entry.basis.name()),
            "formula": joined(&|entry| entry.formula.to_string()),
            "source": joined(&|entry| entry.source.to_owned()),
        }));
    }
    let mut stages = Vec::new();
    for stage in Stage::SERVING {
        let mut terms = Map::new();
        for term in device.terms() {
            let bytes = device.term_at(term, stage)?.expected.get();
            if bytes > 0 {
                terms.insert(term.name().to_owned(), json!(bytes));
            }
        }
        stages.push(json!({"name": stage.name(), "bytes": device.at(stage)?.expected.get(), "entries": terms}));
    }
    let context = device.term_at(crate::estimate::Term::RuntimeContext, peak_stage)?.expected;
    let allocator = device.budget.is_none().then(|| peak.expected.minus(context)).transpose()?;
    Ok(json!({
        "index": index,
        "gpu": device.gpu,
        "capacity_bytes": device.capacity.get(),
        "usable_bytes": device.usable.get(),
        "budget_bytes": device.budget.as_ref().map(|budget| budget.bytes.get()),
        "entries": entries,
        "stages": stages,
        "loaded_bytes": device.loaded()?.expected.get(),
        "steady_bytes": device.steady()?.expected.get(),
        "peak_bytes": peak.expected.get(),
        "peak_stage": peak_stage.name(),
        "reserved_bytes": device.claim.map(crate::quantity::Bytes::get),
        "allocator_reserved_bytes": allocator.map(crate::quantity::Bytes::get),
        "fits": headroom.fits(),
        "headroom_bytes": i64::try_from(headroom.signed()).unwrap_or(if headroom.fits() { i64::MAX } else { i64::MIN }),
        "bound_by": bound.name(),
    }))
}
