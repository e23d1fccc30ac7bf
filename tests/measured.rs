//! Predicted beside measured: public logs of engines, each a record with its source in `measured/*.jsonl`.
//!
//! A record says what was run (`settings`) and what the log says in bytes or tokens (`measured`); what cannot be compared is kept
//! with the reason (`left`, `skipped`), and so is a figure that lies outside the prediction's band (`beyond`). The test fails when a
//! median leaves its limit (`measured/limits.json`), or a figure its band without a reason.
//!
//! `scripts/measured` prints the table and writes it into docs/measured.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use vramfit::estimate::{Amount, Device, Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::quantity::Bytes;
use vramfit::runtime::EstimateError;
use vramfit::scenario::{Runtime, Scenario};

const CONFIGS: &str = include_str!("measured/configs.jsonl");
const LIMITS: &str = include_str!("measured/limits.json");
const RECORDS: &[(Runtime, &str)] = &[
    (Runtime::Vllm, include_str!("measured/vllm.jsonl")),
    (Runtime::Sglang, include_str!("measured/sglang.jsonl")),
    (Runtime::Transformers, include_str!("measured/transformers.jsonl")),
];

/// Around a band: allocators round, in parts of a figure.
fn slack(term: &str, measured: f64) -> f64 {
    match term {
        "weights" => measured * 0.01,
        "kv_tokens" | "kv_bytes_per_token" => measured * 0.005,
        // Logs print hundredths of a GiB.
        _ => (measured * 0.005).max(0.01 * f64::from(1u32 << 30)),
    }
}

struct Comparison {
    runtime: Runtime,
    version: String,
    term: &'static str,
    id: String,
    model: String,
    measured: f64,
    low: f64,
    predicted: f64,
    high: f64,
    beyond: Option<String>,
}

impl Comparison {
    fn error(&self) -> f64 {
        (self.predicted - self.measured) / self.measured * 100.0
    }

    fn is_in_band(&self) -> bool {
        let slack = slack(self.term, self.measured);
        (self.low - slack..=self.high + slack).contains(&self.measured)
    }
}

fn rows(text: &'static str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

fn model_of(name: &str) -> Model {
    let row = rows(CONFIGS).find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not among the configs"));
    let anatomy = vramfit::config::read(&row["config"].to_string()).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn scenario_of(runtime: Runtime, settings: &Value) -> Scenario {
    let count = |key: &str| settings[key].as_u64();
    let text = |key: &str| settings[key].as_str();
    let mut scenario = Scenario {
        gpu: text("gpu").map(str::to_owned),
        gpu_capacity: count("gpu_capacity_bytes").map(Bytes),
        gpus: count("gpus"),
        tensor_parallel: count("tensor_parallel"),
        runtime,
        context: count("context"),
        batch: count("batch"),
        weights: text("weights").unwrap_or("as-stored").parse().unwrap(),
        kv_cache: text("kv_cache").unwrap_or("auto").parse().unwrap(),
        gpu_memory_utilization: text("gpu_memory_utilization").map(|share| share.parse().unwrap()),
        max_num_batched_tokens: count("max_num_batched_tokens"),
        max_num_seqs: count("max_num_seqs"),
        enforce_eager: settings["enforce_eager"] == true,
        ..Scenario::default()
    };
    scenario.parallel.pipeline = count("pipeline_parallel");
    scenario.parallel.expert = count("expert_parallel");
    scenario.serving.runtime_version = text("runtime_version").map(|version| version.parse().unwrap());
    scenario.serving.mem_fraction_static = text("mem_fraction_static").map(|share| share.parse().unwrap());
    scenario
}

#[allow(clippy::cast_precision_loss)] // sizes of memory
fn number(bytes: Bytes) -> f64 {
    bytes.get() as f64
}

fn band(amount: Amount) -> (f64, f64, f64) {
    (number(amount.low), number(amount.expected), number(amount.high))
}

fn sum(device: &Device, terms: &[Term], stage: Stage) -> Amount {
    terms.iter().fold(Amount::default(), |sum, &term| sum.plus(device.term_at(term, stage).unwrap()).unwrap())
}

/// The largest of the stages.
fn largest(device: &Device, terms: &[Term]) -> Amount {
    device.stages.iter().map(|&stage| sum(device, terms, stage)).max_by_key(|amount| amount.expected).unwrap_or_default()
}

/// (low, predicted, high) of a term, on the device that has most of it.
#[allow(clippy::cast_precision_loss)]
fn predicted(answer: &Estimate, term: &str) -> (f64, f64, f64) {
    let of = |read: &dyn Fn(&Device) -> Amount| band(answer.devices.iter().map(read).max_by_key(|amount| amount.expected).unwrap());
    let capacity = answer.capacity;
    match term {
        // What the logs say was loaded: tables with the parameters.
        "weights" => of(&|device| sum(device, &[Term::Weights, Term::Buffers], device.loaded_stage())),
        "activation" => of(&|device| largest(device, &[Term::Activations, Term::Logits])),
        "non_torch" => of(&|device| {
            let outside = device.budget.as_ref().map_or(&[][..], |budget| budget.outside);
            let terms = [Term::Workspace, Term::Communication, Term::RuntimeContext];
            largest(device, if outside.contains(&Term::RuntimeContext) { &terms[..2] } else { &terms })
        }),
        "graphs" => of(&|device| largest(device, &[Term::CudaGraphs])),
        "peak" | "peak_quantised" => {
            let without_context = |device: &Device| {
                let (stage, peak) = device.peak().unwrap();
                let context = device.term_at(Term::RuntimeContext, stage).unwrap();
                let less = |size: Bytes, context: Bytes| size.minus(context).unwrap_or(Bytes::ZERO);
                Amount { low: less(peak.low, context.low), expected: less(peak.expected, context.expected), high: less(peak.high, context.high) }
            };
            let each = answer.devices.iter().map(|device| (device.ranks.end - device.ranks.start, without_context(device)));
            each.fold((0.0, 0.0, 0.0), |sum, (ranks, amount)| {
                let (low, expected, high) = band(amount);
                let ranks = ranks as f64;
                (sum.0 + ranks * low, sum.1 + ranks * expected, sum.2 + ranks * high)
            })
        }
        "kv_bytes_per_token" => {
            let capacity = capacity.unwrap();
            let each = number(capacity.kv_cache_bytes) / capacity.kv_cache_tokens as f64;
            (each, each, each)
        }
        "kv_available" | "kv_tokens" => {
            let capacity = capacity.unwrap();
            // What the others may take more or less, the cache has less or more.
            let device = answer.worst().unwrap();
            let others = [Term::Weights, Term::Buffers, Term::Activations, Term::Logits, Term::Workspace, Term::Communication, Term::Adapters];
            let (low, expected, high) = band(largest(device, &others));
            let bytes = number(capacity.kv_cache_bytes);
            let size = if term == "kv_tokens" { capacity.kv_cache_tokens as f64 } else { bytes };
            let per_byte = if bytes > 0.0 { size / bytes } else { 0.0 };
            ((size - (high - expected) * per_byte).max(0.0), size, size + (expected - low) * per_byte)
        }
        other => panic!("{other} is not a term of the records"),
    }
}

const TERMS: &[&str] = &["weights", "kv_bytes_per_token", "kv_available", "kv_tokens", "activation", "non_torch", "graphs", "peak", "peak_quantised"];

/// Every comparison, and why the other records have none.
fn compare() -> (Vec<Comparison>, BTreeMap<(&'static str, String), usize>) {
    let mut all = Vec::new();
    let mut skipped = BTreeMap::new();
    for &(runtime, records) in RECORDS {
        for record in rows(records) {
            let mut skip = |reason: &str| *skipped.entry((runtime.label(), reason.to_owned())).or_insert(0) += 1;
            if let Some(reason) = record["skipped"].as_str() {
                skip(reason);
                continue;
            }
            let id = record["id"].as_str().unwrap();
            let model = model_of(record["config"].as_str().unwrap());
            let answer = match estimate(&model, &scenario_of(runtime, &record["settings"])) {
                Ok(answer) => answer,
                Err(EstimateError::Unsupported(reason)) => {
                    skip(&reason);
                    continue;
                }
                Err(error) => panic!("{id}: {error}"),
            };
            for (key, measured) in record["measured"].as_object().unwrap() {
                let term = TERMS.iter().find(|term| *term == key).unwrap_or_else(|| panic!("{id}: {key}"));
                let (low, predicted, high) = predicted(&answer, term);
                let version = record["settings"]["runtime_version"].as_str().map_or_else(|| "not stated".to_owned(), str::to_owned);
                let beyond = record["beyond"][key].as_str().map(str::to_owned);
                let (id, model) = (id.to_owned(), record["model"].as_str().unwrap().to_owned());
                all.push(Comparison { runtime, version, term, id, model, measured: measured.as_f64().unwrap(), low, predicted, high, beyond });
            }
        }
    }
    (all, skipped)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// A line for each group of comparisons: count, medians, the worst.
fn summary(out: &mut String, all: &[Comparison], key: impl Fn(&Comparison) -> String, head: &str) {
    let mut groups: BTreeMap<String, Vec<&Comparison>> = BTreeMap::new();
    for one in all {
        groups.entry(key(one)).or_default().push(one);
    }
    writeln!(out, "{head}\n| --- | ---: | ---: | ---: | ---: | --- |").unwrap();
    for (name, group) in groups {
        let errors: Vec<f64> = group.iter().map(|one| one.error()).collect();
        let worst = group.iter().max_by(|a, b| a.error().abs().total_cmp(&b.error().abs())).unwrap();
        let absolute = median(errors.iter().map(|error| error.abs()).collect());
        let inside = group.iter().filter(|one| one.is_in_band()).count();
        writeln!(out, "| {name} | {} | {:+.2} | {absolute:.2} | {inside} | {} {:+.1} |", group.len(), median(errors), worst.id, worst.error()).unwrap();
    }
}

fn report(all: &[Comparison], skipped: &BTreeMap<(&'static str, String), usize>) -> String {
    let mut out = String::from(
        "# Predicted beside measured\n\nWritten by `scripts/measured`. Public logs of engines, the records with their sources are in tests/measured. Errors are (predicted − measured) / measured in percent; sizes in GiB, tokens and bytes per token as they are.\n\n## By runtime and term\n\n",
    );
    summary(&mut out, all, |one| format!("{} {}", one.runtime.label(), one.term), "| what | records | median % | median of sizes % | in band | worst |");
    out.push_str("\n## By version\n\n");
    let versioned: Vec<&str> = vec!["weights", "kv_available", "peak"];
    let by_version = |one: &Comparison| format!("{} {} {}", one.runtime.label(), one.version, one.term);
    let chosen: Vec<Comparison> =
        all.iter().filter(|one| versioned.contains(&one.term) && one.runtime != Runtime::Transformers).map(Comparison::again).collect();
    summary(&mut out, &chosen, by_version, "| what | records | median % | median of sizes % | in band | worst |");
    out.push_str(
        "\n## Every figure\n\n| record | model | term | predicted | measured | % | why beyond its band |\n| --- | --- | --- | ---: | ---: | ---: | --- |\n",
    );
    for one in all {
        let is_size = !["kv_tokens", "kv_bytes_per_token"].contains(&one.term);
        let shown = |value: f64| if is_size { format!("{:.3}", value / f64::from(1u32 << 30)) } else { format!("{value:.0}") };
        let (predicted, measured) = (shown(one.predicted), shown(one.measured));
        let why = one.beyond.as_deref().unwrap_or("");
        writeln!(out, "| {} | {} | {} | {predicted} | {measured} | {:+.2} | {why} |", one.id, one.model, one.term, one.error()).unwrap();
    }
    out.push_str("\n## Not compared\n\n| runtime | records | why |\n| --- | ---: | --- |\n");
    for ((runtime, reason), count) in skipped {
        writeln!(out, "| {runtime} | {count} | {reason} |").unwrap();
    }
    out
}

impl Comparison {
    fn again(&self) -> Self {
        Self { version: self.version.clone(), id: self.id.clone(), model: self.model.clone(), beyond: self.beyond.clone(), ..*self }
    }
}

#[test]
fn medians_keep_their_limits_and_figures_their_bands() {
    let (all, skipped) = compare();
    let report = report(&all, &skipped);
    println!("{report}");
    if let Some(path) = std::env::var_os("VRAMFIT_WRITE") {
        std::fs::write(path, &report).unwrap();
    }
    let mut wrong = Vec::new();
    let limits: Value = serde_json::from_str(LIMITS).unwrap();
    for (runtime, terms) in limits.as_object().unwrap() {
        for (term, limit) in terms.as_object().unwrap() {
            let errors: Vec<f64> = all.iter().filter(|one| one.runtime.name() == runtime && one.term == term).map(|one| one.error().abs()).collect();
            let (count, median) = (errors.len(), if errors.is_empty() { f64::INFINITY } else { median(errors) });
            if median > limit.as_f64().unwrap() {
                wrong.push(format!("{runtime} {term}: the median of {count} errors is {median:.2} %, its limit is {limit} %"));
            }
        }
    }
    for one in all.iter().filter(|one| limits[one.runtime.name()].is_object()) {
        match (one.is_in_band(), &one.beyond) {
            (false, None) => wrong.push(format!("{} {}: {:.4e} is outside {:.4e} to {:.4e}", one.id, one.term, one.measured, one.low, one.high)),
            (true, Some(why)) => wrong.push(format!("{} {}: is in its band, yet its record says why it is not: {why}", one.id, one.term)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
