//! What one estimate costs, natively: from a model, from the text of a config, and the sweeps of the page.

use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::{Runtime, Scenario};
use vramfit::{catalogue, config, memory, plan, report};

fn main() {
    divan::main();
}

/// The built-in model with the most layers and experts.
const LARGEST: &str = "Qwen/Qwen3-Coder-480B-A35B-Instruct";

fn text() -> &'static str {
    catalogue::find(LARGEST).expect("a built-in model").config_text
}

fn model() -> Model {
    let anatomy = config::read(text()).expect("a config that reads");
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn scenario(runtime: Runtime) -> Scenario {
    Scenario { runtime, gpus: Some(4), ..Scenario::default() }
}

#[divan::bench(args = Runtime::ALL)]
fn one_estimate(bencher: divan::Bencher, runtime: Runtime) {
    let (model, scenario) = (model(), scenario(runtime));
    bencher.bench_local(|| memory::estimate(divan::black_box(&model), divan::black_box(&scenario)));
}

#[divan::bench]
fn from_config_text(bencher: divan::Bencher) {
    let scenario = scenario(Runtime::Vllm);
    bencher.bench_local(|| {
        let model = model();
        memory::estimate(&model, divan::black_box(&scenario)).map(|estimate| report::verdict(&estimate, vramfit::format::Unit::Gib))
    });
}

/// From the text of a config to the JSON of `inspect`; a layer per entry of its lists makes a config long.
#[divan::bench]
fn inspect_longest_config(bencher: divan::Bencher) {
    let rows = include_str!("../tests/fixtures/oracle.jsonl").lines().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("a row"));
    let longest = rows.map(|row| row["config"].to_string()).max_by_key(String::len).expect("a row");
    bencher.bench_local(|| {
        let anatomy = config::read(divan::black_box(&longest)).expect("a config that reads");
        report::inspect_json(&Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } })
    });
}

#[divan::bench]
fn longest_context(bencher: divan::Bencher) {
    let (model, scenario) = (model(), scenario(Runtime::Vllm));
    bencher.bench_local(|| plan::longest_context(divan::black_box(&model), divan::black_box(&scenario)));
}

#[divan::bench]
fn curve(bencher: divan::Bencher) {
    let (model, scenario) = (model(), scenario(Runtime::Vllm));
    bencher.bench_local(|| plan::curve(divan::black_box(&model), divan::black_box(&scenario)));
}
