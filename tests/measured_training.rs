//! Training: predicted beside measured, from records in `measured/training.jsonl`, each with its source.
//!
//! A record's settings are written as in links. What it measured is told apart and never mixed: `allocated` is the peak of tensors,
//! `reserved` that of what the allocator holds, `loaded` what it holds after loading, `trainable` a count of parameters. What cannot
//! be compared is kept with the reason (`left`), and so is what lies outside of its band (`beyond`).
//!
//! `scripts/measured` writes docs/measured-training.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use vramfit::estimate::{Device, Estimate, Term};
use vramfit::link;
use vramfit::memory::estimate;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::quantity::Bytes;
use vramfit::scenario::{Scenario, Task};

const CONFIGS: &str = include_str!("measured/training-configs.jsonl");
const RECORDS: &str = include_str!("measured/training.jsonl");

/// (what, the largest median of absolute errors in percent, the most that a figure may lie beside its band in percent)
const LIMITS: &[(&str, f64, f64)] = &[("allocated", 10.0, 1.0), ("reserved", 10.0, 1.0), ("loaded", 4.0, 1.5), ("trainable", 0.0, 0.0)];

fn rows(text: &'static str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

fn model(name: &str) -> Model {
    let row = rows(CONFIGS).find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not among the configs"));
    let anatomy = vramfit::config::read(&row["config"].to_string()).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn scenario(settings: &str) -> Scenario {
    // Memory without end: what is measured does not depend on the card's size.
    let mut scenario = Scenario { task: Task::Train, gpu: None, gpu_capacity: Some(Bytes(1 << 46)), ..Scenario::default() };
    for (key, value) in settings.split('&').filter_map(|pair| pair.split_once('=')) {
        link::set(&mut scenario, key, value).unwrap_or_else(|why| panic!("{key}={value}: {why}"));
    }
    scenario
}

#[allow(clippy::cast_precision_loss)] // sizes of memory
fn number(bytes: u64) -> f64 {
    bytes as f64
}

/// (low, expected, high) of one measured thing: the allocator's figures are without the driver's context.
fn predicted(answer: &Estimate, what: &str) -> [f64; 3] {
    let of = |device: &Device| {
        let (stage, amount) = match what {
            "loaded" => (device.loaded_stage(), device.loaded().unwrap()),
            _ => device.peak().unwrap(),
        };
        let context = device.term_at(Term::RuntimeContext, stage).unwrap();
        let slack = device.slack.as_ref().filter(|_| what == "reserved").map(|slack| slack.amount).unwrap_or_default();
        let own = |all: Bytes, context: Bytes, slack: Bytes| number(all.get() - context.get() + slack.get());
        [own(amount.low, context.low, slack.low), own(amount.expected, context.expected, slack.expected), own(amount.high, context.high, slack.high)]
    };
    if what == "trainable" {
        return [number(answer.trainable.unwrap().get()); 3];
    }
    answer.devices.iter().map(of).max_by(|one, other| one[1].total_cmp(&other[1])).unwrap()
}

struct Comparison {
    id: String,
    model: String,
    what: &'static str,
    measured: f64,
    predicted: [f64; 3],
    beyond: Option<String>,
    /// The model and the settings.
    asked: String,
    /// What the settings do not say of the run.
    unsaid: Option<String>,
}

impl Comparison {
    fn error(&self) -> f64 {
        (self.predicted[1] - self.measured) / self.measured * 100.0
    }

    fn is_in_band(&self, percent: f64) -> bool {
        let slack = self.measured * percent / 100.0;
        (self.predicted[0] - slack..=self.predicted[2] + slack).contains(&self.measured)
    }
}

fn compare() -> (Vec<Comparison>, BTreeMap<(String, String), usize>) {
    let (mut all, mut left) = (Vec::new(), BTreeMap::new());
    for record in rows(RECORDS) {
        for (what, why) in record["left"].as_object().into_iter().flatten() {
            *left.entry((what.clone(), why.as_str().unwrap().to_owned())).or_insert(0) += 1;
        }
        let id = record["id"].as_str().unwrap();
        let settings = record["settings"].as_str().unwrap();
        let answer = estimate(&model(record["config"].as_str().unwrap()), &scenario(settings)).unwrap_or_else(|error| panic!("{id}: {error}"));
        for (key, measured) in record["measured"].as_object().unwrap() {
            let (what, ..) = *LIMITS.iter().find(|(what, ..)| what == key).unwrap_or_else(|| panic!("{id}: {key}"));
            all.push(Comparison {
                id: id.to_owned(),
                model: record["model"].as_str().unwrap().to_owned(),
                what,
                measured: measured.as_f64().unwrap(),
                predicted: predicted(&answer, what),
                beyond: record["beyond"][what].as_str().map(str::to_owned),
                asked: format!("{} {settings}", record["config"].as_str().unwrap()),
                unsaid: record["unsaid"].as_str().map(str::to_owned),
            });
        }
    }
    (all, left)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// (how many, the median of errors, the median of their sizes)
fn medians(all: &[Comparison], what: &str) -> (usize, f64, f64) {
    let errors: Vec<f64> = all.iter().filter(|one| one.what == what).map(Comparison::error).collect();
    (errors.len(), median(errors.clone()), median(errors.iter().map(|error| error.abs()).collect()))
}

/// Figures of the same settings that differ.
fn same_settings(all: &[Comparison]) -> Vec<Vec<&Comparison>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Comparison>> = BTreeMap::new();
    for one in all {
        groups.entry((one.what, one.asked.as_str())).or_default().push(one);
    }
    groups.into_values().filter(|group| group.iter().any(|one| (one.measured - group[0].measured).abs() > 1e6)).collect()
}

fn report(all: &[Comparison], left: &BTreeMap<(String, String), usize>) -> String {
    let mut out = String::from(
        "# Training: predicted beside measured\n\nWritten by `scripts/measured`. The records with their settings and sources are in tests/measured/training.jsonl. Errors are (predicted − measured) / measured in percent; sizes in GiB. What tensors take (`allocated`), what the allocator holds (`reserved`) and what it holds after loading (`loaded`) are figures of their own.\n\n| what | records | median % | median of sizes % | limit % |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for &(what, limit, _) in LIMITS {
        let (count, signed, size) = medians(all, what);
        writeln!(out, "| {what} | {count} | {signed:+.2} | {size:.2} | {limit} |").unwrap();
    }
    out.push_str(
        "\n## Every figure\n\n| record | model | what | predicted | measured | % | why beyond its band |\n| --- | --- | --- | ---: | ---: | ---: | --- |\n",
    );
    for one in all {
        let shown = |value: f64| if one.what == "trainable" { format!("{value:.0}") } else { format!("{:.3}", value / number(1 << 30)) };
        let (predicted, measured, why) = (shown(one.predicted[1]), shown(one.measured), one.beyond.as_deref().unwrap_or(""));
        writeln!(out, "| {} | {} | {} | {predicted} | {measured} | {:+.2} | {why} |", one.id, one.model, one.what, one.error()).unwrap();
    }
    out.push_str("\n## Same settings, other figures\n\nEach group has one prediction; what tells its runs apart is in no setting.\n\n| what | record | predicted | measured | what the settings do not say |\n| --- | --- | ---: | ---: | --- |\n");
    for group in same_settings(all) {
        for one in group {
            let [predicted, measured] = [one.predicted[1], one.measured].map(|value| value / number(1 << 30));
            writeln!(out, "| {} | {} | {predicted:.3} | {measured:.3} | {} |", one.what, one.id, one.unsaid.as_deref().unwrap_or("")).unwrap();
        }
    }
    out.push_str("\n## Not compared\n\n| what | records | why |\n| --- | ---: | --- |\n");
    for ((what, why), count) in left {
        writeln!(out, "| {what} | {count} | {why} |").unwrap();
    }
    out
}

#[test]
fn medians_keep_their_limits_and_figures_their_bands() {
    let (all, left) = compare();
    let report = report(&all, &left);
    println!("{report}");
    if let Some(path) = std::env::var_os("VRAMFIT_WRITE_TRAINING") {
        std::fs::write(path, &report).unwrap();
    }
    let mut wrong = Vec::new();
    for &(what, limit, _) in LIMITS {
        let (count, _, size) = medians(&all, what);
        if size > limit {
            wrong.push(format!("{what}: the median of {count} errors is {size:.2} %, its limit is {limit} %"));
        }
    }
    for one in &all {
        let &(_, _, slack) = LIMITS.iter().find(|(what, ..)| *what == one.what).unwrap();
        match (one.is_in_band(slack), &one.beyond) {
            (false, None) => wrong.push(format!("{} {}: {:.4e} is outside {:?}", one.id, one.what, one.measured, one.predicted)),
            (true, Some(why)) => wrong.push(format!("{} {}: is in its band, yet its record says why it is not: {why}", one.id, one.what)),
            _ => {}
        }
    }
    for one in same_settings(&all).into_iter().flatten().filter(|one| one.unsaid.is_none()) {
        wrong.push(format!("{} {}: runs of the same settings differ, and its record does not say by what", one.id, one.what));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
