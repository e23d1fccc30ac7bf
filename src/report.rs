//! JSON out, in the contract's shape (`"schema": "vramfit/1"`), and the sentences that say the answer.

mod tensors;

use serde_json::{Map, Value, json};

use crate::encoding::Encoding;
use crate::estimate::{Basis, Bound, Device, Estimate, Ledger};
use crate::format::{Unit, grouped};
use crate::model::{Anatomy, Attention, Component, FeedForward, Files, Mixer, Model, Recurrence, Span};
use crate::plan::{Largest, LongestContext, Question};
use crate::quantity::{Bytes, Overflow, ParamCount};
use crate::scenario::Scenario;
use crate::weight_format::Weights;
pub use tensors::{Listed, listed};

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

/// `one H100`, `8 × H100`, `2 × A and 1 × B`.
fn cards(devices: &[Device]) -> String {
    let mut kinds: Vec<(&str, u64)> = Vec::new();
    for device in devices {
        let count = device.ranks.end - device.ranks.start;
        match kinds.iter_mut().find(|(gpu, _)| *gpu == device.gpu) {
            Some((_, sum)) => *sum += count,
            None => kinds.push((&device.gpu, count)),
        }
    }
    match kinds.as_slice() {
        [(gpu, 1)] => format!("one {gpu}"),
        kinds => kinds.iter().map(|(gpu, count)| format!("{count} × {gpu}")).collect::<Vec<_>>().join(" and "),
    }
}

/// The sentences that say the answer.
pub fn verdict(estimate: &Estimate, unit: Unit) -> Result<Verdict, Overflow> {
    let device = estimate.worst()?;
    let (bound, headroom) = device.headroom()?;
    let (stage, peak) = device.peak()?;
    let cards = cards(&estimate.devices);
    let is_alone = estimate.devices.len() == 1;
    let each = match device.ranks.end - device.ranks.start {
        1 if is_alone => "",
        _ if is_alone => " each",
        _ => " on the fullest",
    };
    let size = unit.text(headroom.size());
    let (claim, rest) =
        if headroom.fits() { ("Fits", format!(" on {cards}, {size} to spare{each}")) } else { ("Does not fit", format!(" on {cards}: {size} short{each}")) };
    let limit = match (&device.budget, bound) {
        (Some(budget), Bound::Budget) => format!("{} is {} of the {} usable", budget.name, unit.number(budget.bytes), unit.text(device.usable)),
        (Some(budget), Bound::Card) => format!("{} and the GPU context outside it are more than the {} usable", budget.name, unit.text(device.usable)),
        (None, _) => format!("{} are usable", unit.text(device.usable)),
    };
    let likely = unit.range(peak.low, peak.high).map_or_else(String::new, |range| [" Likely ", &range, " ", unit.name(), "."].concat());
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

/// Elements that a token leaves in the decoder's cache, summed by how far back the layers see; those of sparse-attention indexers apart.
pub fn cached_by_span(decoder: &Component) -> Vec<(String, u64)> {
    let mut kinds: Vec<(String, u64)> = Vec::new();
    let mut add = |kind: String, elements: u64| match kinds.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, sum)) => *sum = sum.saturating_add(elements),
        None if elements > 0 => kinds.push((kind, elements)),
        None => {}
    };
    for run in &decoder.layers {
        let mixer = run.layer.mixer;
        if let Some(span) = mixer.span() {
            add(span.to_string(), mixer.cache_elements_per_token().saturating_mul(run.count));
        }
        add("indexers".to_owned(), mixer.indexer_elements_per_token().saturating_mul(run.count));
    }
    kinds
}

/// What a sequence keeps of state in all layers of the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// Its bytes, past inputs of convolutions in the dtype of the weights (16 bits without one); the least where the engine chooses.
    pub least: u64,
    /// The most: states in float32 where the engine chooses.
    pub most: u64,
    /// The dtypes that the config or the family names for it, without repetition.
    pub named: Vec<Encoding>,
}

/// The states of a model; `None` without recurrences.
///
/// # Errors
/// [`Overflow`] past 2^64 - 1.
pub fn states(anatomy: &Anatomy) -> Result<Option<States>, Overflow> {
    let computation = anatomy.dtype.unwrap_or(Encoding::BF16);
    let mut states: Option<States> = None;
    for run in anatomy.components.first().map_or(&[][..], |decoder| &decoder.layers[..]) {
        let Some(recurrence) = run.layer.mixer.recurrence() else { continue };
        let sum = states.get_or_insert(States { least: 0, most: 0, named: Vec::new() });
        let add = |total: u64, otherwise| {
            let one = recurrence.bytes(computation, recurrence.state_dtype.unwrap_or(otherwise))?;
            total.checked_add(one.checked_mul(run.count).ok_or(Overflow)?).ok_or(Overflow)
        };
        (sum.least, sum.most) = (add(sum.least, computation)?, add(sum.most, Encoding::F32)?);
        sum.named.extend(recurrence.state_dtype.filter(|dtype| recurrence.state > 0 && !sum.named.contains(dtype)));
    }
    Ok(states)
}

impl States {
    /// `2,048 bytes, state in float32`, or both widths where the engine chooses.
    pub fn sentence(&self) -> String {
        let named: Vec<String> = self.named.iter().map(ToString::to_string).collect();
        match (self.least == self.most, named.is_empty()) {
            (true, true) => format!("{} bytes", grouped(self.least)),
            (true, false) => format!("{} bytes, the state in {}", grouped(self.least), named.join(" and ")),
            (false, _) => format!(
                "{} bytes with the state in the dtype of computation (vLLM), {} with it in float32 (SGLang, transformers, llama.cpp, MLX)",
                grouped(self.least),
                grouped(self.most)
            ),
        }
    }
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
        object(&mut [
            ("kv_cache_bytes", capacity.kv_cache_bytes.get().into()),
            ("kv_cache_tokens", capacity.kv_cache_tokens.into()),
            ("max_context", longest_json(longest)),
            ("max_concurrency", hundredths(capacity.concurrency_hundredths)),
        ])
    });
    let sentence = format!("{}{}", verdict.claim, verdict.rest);
    Ok(object(&mut [
        ("schema", SCHEMA.into()),
        ("version", VERSION.into()),
        ("data_version", DATA_VERSION.into()),
        ("model", model_json(model, estimate.trainable)?),
        ("scenario", scenario_json(scenario, estimate)),
        ("devices", Value::Array(devices)),
        ("host", estimate.host.as_ref().map(host_json).transpose()?.into()),
        ("capacity", capacity.into()),
        ("verdict", object(&mut [("fits", verdict.fits.into()), ("sentence", sentence.into()), ("summary", verdict.summary.into())])),
        ("assumptions", texts(&[&estimate.assumptions])),
        ("warnings", texts(&[&estimate.warnings])),
    ]))
}

/// The anatomy as JSON: the model, and its tensors besides.
pub fn inspect_json(model: &Model) -> Result<Value, Overflow> {
    let mut anatomy = model_json(model, None)?;
    anatomy["tensors"] = tensors::tensors_json(&model.anatomy)?.into();
    Ok(json!({"schema": SCHEMA, "version": VERSION, "model": anatomy}))
}

/// The answer to an inverse question: `null` where no value is too large, 0 where none fits. `max_context` repeats it for the context;
/// `warnings` are sentences about what was asked.
pub fn solve_json(model: &Model, question: Question, found: Largest, warnings: &[String]) -> Value {
    let found: Value = match found {
        Largest::Nothing => 0.into(),
        Largest::Count(count) => count.into(),
        Largest::Unlimited => Value::Null,
        Largest::Sharding(stage) => stage.name().into(),
    };
    let mut answer = json!({
        "schema": SCHEMA,
        "version": VERSION,
        "model": {"id": model.provenance.id, "max_context": model.anatomy.max_context},
        "for": question.name(),
        "answer": found,
        "warnings": warnings,
    });
    if question == Question::Context {
        answer["max_context"] = found;
    }
    answer
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
                "ggml": encoding.ggml,
                "block_elements": encoding.block_elements,
                "block_bytes": encoding.block_bytes,
            })
        })
        .collect();
    let weights: Vec<_> = Weights::all()
        .map(|format| {
            json!({
                "name": format.name(),
                "label": format.label(),
                "kind": format.kind(),
                "bits_per_weight": format.bits_per_weight().and_then(|bits| bits.parse::<f64>().ok()),
                "layout": format.layout(),
                "takes": format.takes().0,
                "leaves": format.takes().1,
                "source": format.source(),
            })
        })
        .collect();
    json!({"schema": SCHEMA, "data_version": DATA_VERSION, "formats": formats, "weights": weights})
}

/// An object of these keys. A list of pairs is far less code on the page than what the `json!` macro makes of them.
fn object(pairs: &mut [(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (key, value) in pairs {
        object.insert((*key).to_owned(), value.take());
    }
    Value::Object(object)
}

/// Lists of texts, one after the other, as one.
fn texts(lists: &[&[String]]) -> Value {
    let mut all = Vec::new();
    for list in lists {
        for text in *list {
            all.push(Value::String(text.clone()));
        }
    }
    Value::Array(all)
}

fn longest_json(longest: LongestContext) -> Value {
    match longest {
        LongestContext::Nothing => 0.into(),
        LongestContext::Tokens(tokens) => tokens.into(),
        LongestContext::Unlimited => Value::Null,
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn hundredths(value: u64) -> Value {
    (value as f64 / 100.0).into()
}

/// Parameters by the role of their tensors, in order of first appearance.
pub fn parameters_by_role(anatomy: &Anatomy) -> Result<Vec<(&'static str, u64)>, Overflow> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for (tensor, times) in anatomy.tensors() {
        let (role, more) = (tensor.role.name(), tensor.elements()?.times(times)?.get());
        match sums.iter_mut().find(|(known, _)| *known == role) {
            Some((_, sum)) => *sum = sum.checked_add(more).ok_or(Overflow)?,
            None => sums.push((role, more)),
        }
    }
    Ok(sums)
}

fn model_json(model: &Model, trainable: Option<ParamCount>) -> Result<Value, Overflow> {
    let anatomy = &model.anatomy;
    let mut by_component = Map::new();
    for component in &anatomy.components {
        by_component.insert(component.name.clone().into_owned(), component.parameters()?.get().into());
    }
    let by_role: Map<String, Value> = parameters_by_role(anatomy)?.into_iter().map(|(role, sum)| (role.to_owned(), sum.into())).collect();
    let files = model.provenance.files.as_ref();
    let layers = |component: &Component| component.layers.iter().map(layer_json).collect::<Vec<_>>();
    let components = anatomy.components.iter().map(|component| {
        Ok(object(&mut [
            ("name", Value::from(component.name.as_ref())),
            ("kind", Value::from(component.kind.name())),
            ("parameters", Value::from(component.parameters()?.get())),
            ("layers", Value::from(layers(component))),
        ]))
    });
    let components = components.collect::<Result<Vec<_>, Overflow>>()?;
    let mut by_part = Map::new();
    for (part, bytes) in files.map(Files::by_part).transpose()?.unwrap_or_default() {
        by_part.insert(part.to_owned(), bytes.get().into());
    }
    Ok(object(&mut [
        ("id", Value::from(model.provenance.id.clone())),
        ("revision", Value::from(model.provenance.revision.clone())),
        ("model_type", Value::from(anatomy.model_type.as_str())),
        ("source", Value::from(model.provenance.source.name())),
        (
            "parameters",
            object(&mut [
                ("total", Value::from(anatomy.parameters()?.get())),
                ("active", Value::from(anatomy.active_parameters()?.get())),
                ("trainable", Value::from(trainable.map_or_else(|| anatomy.parameters(), Ok)?.get())),
                ("stored", Value::from(files.map(|files| files.elements.get()))),
                ("by_component", Value::from(by_component)),
                ("by_role", Value::from(by_role)),
            ]),
        ),
        ("stored_bytes", Value::from(files.map(|files| files.bytes.get()))),
        ("stored_bytes_by_part", Value::from(by_part)),
        ("max_context", Value::from(anatomy.max_context)),
        ("dtype", Value::from(anatomy.dtype.map(|dtype| dtype.to_string()))),
        ("quantization", Value::from(anatomy.quantization.as_ref().map(|quantization| quantization.method.as_str()))),
        ("layers", Value::from(layers(model.decoder()))),
        ("state_bytes_per_sequence", states(anatomy)?.map_or(Value::Null, |states| object(&mut [("low", states.least.into()), ("high", states.most.into())]))),
        ("components", Value::from(components)),
        ("keys_used", texts(&[&anatomy.keys_used])),
        ("keys_not_understood", texts(&[&anatomy.keys_not_understood])),
        ("assumptions", texts(&[&anatomy.assumptions, &model.provenance.notes])),
    ]))
}

fn layer_json(run: &crate::model::LayerRun) -> Value {
    let mixer = run.layer.mixer;
    let feed_forward = match run.layer.feed_forward {
        FeedForward::Dense { intermediate, gated } => {
            object(&mut [("kind", Value::from("dense")), ("intermediate", Value::from(intermediate)), ("gated", Value::from(gated))])
        }
        FeedForward::MixtureOfExperts { experts, active, intermediate, shared } => object(&mut [
            ("kind", Value::from("moe")),
            ("experts", Value::from(experts)),
            ("active", Value::from(active)),
            ("intermediate", Value::from(intermediate)),
            ("shared", Value::from(shared)),
        ]),
        FeedForward::None => Value::Null,
    };
    object(&mut [
        ("count", Value::from(run.count)),
        ("mixer", mixer_json(&mixer)),
        ("feed_forward", feed_forward),
        ("span", Value::from(mixer.span().map(|span| span.to_string()))),
        ("cache_elements_per_token", Value::from(mixer.cache_elements_per_token())),
        ("indexer_elements_per_token", Value::from(mixer.indexer_elements_per_token())),
        ("state_elements_per_sequence", Value::from(mixer.state_elements_per_sequence())),
    ])
}

fn mixer_json(mixer: &Mixer) -> Value {
    let sizes = |kind: Value, sizes: &[(&'static str, u64)]| {
        let mut fields = vec![("kind", kind)];
        fields.extend(sizes.iter().map(|(name, size)| (*name, Value::from(*size))));
        object(&mut fields)
    };
    let attention = |one: &Attention| {
        sizes(Value::from("attention"), &[("heads", one.heads), ("kv_heads", one.kv_heads), ("key_dim", one.key_dim), ("value_dim", one.value_dim)])
    };
    let recurrence = |one: &Recurrence| {
        let kind = Value::from(one.kind.to_string());
        let mut fields = sizes(kind, &[("conv_channels", one.conv_channels), ("conv_kernel", one.conv_kernel), ("state_elements", one.state)]);
        // Null: the engine's choice.
        fields["state_dtype"] = Value::from(one.state_dtype.map(|dtype| dtype.to_string()));
        fields
    };
    match mixer {
        Mixer::Attention(one) => attention(one),
        Mixer::Latent(one) => sizes(
            Value::from("mla"),
            &[("heads", one.heads), ("kv_lora_rank", one.kv_lora_rank), ("rope_dim", one.rope_dim), ("key_dim", one.nope_dim), ("value_dim", one.value_dim)],
        ),
        Mixer::Recurrent(one) => recurrence(one),
        Mixer::Parallel(one, other) => object(&mut [("kind", Value::from("parallel")), ("attention", attention(one)), ("recurrence", recurrence(other))]),
        Mixer::None => Value::Null,
    }
}

/// Every setting as it was used; `defaults` names those that the user did not choose, with the rule.
fn scenario_json(scenario: &Scenario, estimate: &Estimate) -> Value {
    let mut object = Map::new();
    let mut defaults = Map::new();
    object.insert("task".to_owned(), scenario.task.name().into());
    for choice in &estimate.choices {
        let value = choice.value.parse::<u64>().map_or_else(|_| Value::from(choice.value.as_str()), Value::from);
        object.insert(choice.key.to_owned(), value);
        if let Some(rule) = &choice.default {
            defaults.insert(choice.key.to_owned(), Value::from(rule.as_str()));
        }
    }
    object.insert("gpu_capacity_bytes".to_owned(), scenario.gpu_capacity.map(crate::quantity::Bytes::get).into());
    object.insert("enforce_eager".to_owned(), scenario.enforce_eager.into());
    object.insert("defaults".to_owned(), Value::Object(defaults));
    Value::Object(object)
}

/// The entries of a ledger, a row per term.
fn entries_json(ledger: &Ledger) -> Result<Value, Overflow> {
    let (peak_stage, _) = ledger.peak()?;
    let mut entries = Vec::new();
    for term in ledger.terms() {
        let at_peak = ledger.term_at(term, peak_stage)?;
        let of_term = || ledger.entries.iter().filter(move |entry| entry.term == term);
        // The formula of the stage that decides; a term that is not held then shows its largest.
        let shown: Vec<_> = of_term().filter(|entry| entry.stages.contains(&peak_stage)).collect();
        let shown = if shown.is_empty() { of_term().max_by_key(|entry| entry.amount.expected).into_iter().collect() } else { shown };
        let joined = |text: &dyn Fn(&crate::estimate::Entry) -> String| shown.iter().map(|entry| text(entry)).collect::<Vec<_>>().join("; ");
        entries.push(object(&mut [
            ("term", Value::from(term.name())),
            ("bytes", Value::from(at_peak.expected.get())),
            ("low_bytes", Value::from(at_peak.low.get())),
            ("high_bytes", Value::from(at_peak.high.get())),
            (
                "at",
                object(&mut [
                    ("loaded", Value::from(ledger.term_at(term, ledger.loaded_stage())?.expected.get())),
                    ("steady", Value::from(ledger.term_at(term, ledger.steady_stage())?.expected.get())),
                    ("peak", Value::from(at_peak.expected.get())),
                ]),
            ),
            ("basis", Value::from(ledger.basis_at(term, peak_stage).or(shown.first().map(|entry| entry.basis)).map(Basis::name))),
            ("formula", Value::from(joined(&|entry| entry.formula.to_string()))),
            ("source", Value::from(joined(&|entry| entry.source.to_owned()))),
        ]));
    }
    Ok(entries.into())
}

fn host_json(host: &Ledger) -> Result<Value, Overflow> {
    let peak = host.peak()?.1.expected.get();
    Ok(object(&mut [("entries", entries_json(host)?), ("peak_bytes", Value::from(peak))]))
}

fn device_json(index: u64, device: &Device) -> Result<Value, Overflow> {
    let (peak_stage, peak) = device.peak()?;
    let (bound, headroom) = device.headroom()?;
    let mut stages = Vec::new();
    for &stage in device.stages {
        let mut terms = Map::new();
        for term in device.terms() {
            let bytes = device.term_at(term, stage)?.expected.get();
            if bytes > 0 {
                terms.insert(term.name().to_owned(), bytes.into());
            }
        }
        stages.push(object(&mut [
            ("name", Value::from(stage.name())),
            ("bytes", Value::from(device.at(stage)?.expected.get())),
            ("entries", Value::from(terms)),
        ]));
    }
    let context = device.term_at(crate::estimate::Term::RuntimeContext, peak_stage)?.expected;
    let slack = device.slack.as_ref().map_or(Bytes::ZERO, |slack| slack.amount.expected);
    let allocator = device.budget.is_none().then(|| peak.expected.minus(context)?.plus(slack)).transpose()?;
    Ok(object(&mut [
        ("index", Value::from(index)),
        ("gpu", Value::from(device.gpu.as_str())),
        ("capacity_bytes", Value::from(device.capacity.get())),
        ("usable_bytes", Value::from(device.usable.get())),
        ("budget_bytes", Value::from(device.budget.as_ref().map(|budget| budget.bytes.get()))),
        ("entries", entries_json(device)?),
        ("stages", Value::from(stages)),
        ("minimum_bytes", Value::from(device.minimum.map(crate::quantity::Bytes::get))),
        ("loaded_bytes", Value::from(device.loaded()?.expected.get())),
        ("steady_bytes", Value::from(device.steady()?.expected.get())),
        ("peak_bytes", Value::from(peak.expected.get())),
        ("peak_stage", Value::from(peak_stage.name())),
        ("reserved_bytes", Value::from(device.claim.map(crate::quantity::Bytes::get))),
        ("allocator_reserved_bytes", Value::from(allocator.map(crate::quantity::Bytes::get))),
        ("fits", Value::from(headroom.fits())),
        ("headroom_bytes", Value::from(i64::try_from(headroom.signed()).unwrap_or(if headroom.fits() { i64::MAX } else { i64::MIN }))),
        ("bound_by", Value::from(bound.name())),
    ]))
}
