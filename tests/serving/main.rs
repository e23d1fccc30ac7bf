//! What engines that serve take for themselves, what their pools hold, and what they refuse.

mod at_once;
mod beside;
#[path = "../common/mod.rs"]
mod common;
mod drafts;
mod encoders;
mod host;
mod pools;
mod ranks;
mod refusals;
mod tgi;

use common::model;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Runtime, Scenario, Serving, Version};

fn on(config: &str, scenario: Scenario) -> Estimate {
    estimate(&model(config), &scenario).unwrap()
}

fn chosen(answer: &Estimate, key: &str) -> String {
    answer.choices.iter().find(|choice| choice.key == key).unwrap().value.clone()
}

fn held(answer: &Estimate, term: Term) -> u64 {
    answer.devices[0].term_at(term, Stage::Decode).unwrap().expected.get()
}

/// A published config of the set that is counted against transformers.
fn published(id: &str) -> String {
    let key = format!("\"id\":\"{id}\"");
    let row = include_str!("../fixtures/oracle.jsonl").lines().find(|line| line.contains(&key)).unwrap();
    serde_json::from_str::<serde_json::Value>(row).unwrap()["config"].to_string()
}

fn refusal(config: &str, scenario: &Scenario) -> String {
    estimate(&model(config), scenario).unwrap_err().to_string()
}

fn of_version(runtime: Runtime, version: Option<Version>) -> Scenario {
    let serving = Serving { runtime_version: version, ..Serving::default() };
    Scenario { runtime, gpu: Some("H100 SXM5 80GB".into()), serving, ..Scenario::default() }
}
