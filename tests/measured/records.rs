//! The records, and what each of them asks.

use serde_json::Value;
use vramfit::link::Link;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::Scenario;

use crate::common::shelf;

/// Records of one engine.
#[derive(Debug)]
pub struct Engine {
    /// Its name in `limits.json`.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    pub records: &'static str,
    /// Whether its figures are sums over all devices and the host; else those of the fullest GPU.
    pub sums: bool,
}

pub const ENGINES: &[Engine] = &[
    Engine { name: "vllm", label: "vLLM", records: include_str!("vllm.jsonl"), sums: false },
    Engine { name: "sglang", label: "SGLang", records: include_str!("sglang.jsonl"), sums: false },
    Engine { name: "tensorrt-llm", label: "TensorRT-LLM", records: include_str!("tensorrt_llm.jsonl"), sums: false },
    Engine { name: "tgi", label: "TGI", records: include_str!("tgi.jsonl"), sums: false },
    Engine { name: "llama.cpp", label: "llama.cpp", records: include_str!("llama_cpp.jsonl"), sums: true },
    Engine { name: "mlx", label: "MLX", records: include_str!("mlx.jsonl"), sums: true },
    Engine { name: "transformers", label: "transformers", records: include_str!("transformers.jsonl"), sums: true },
    Engine { name: "diffusers", label: "diffusers", records: include_str!("diffusers.jsonl"), sums: true },
];

/// The lines of a file of records.
pub fn rows(text: &'static str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

/// The model of a record: a config among `configs.jsonl`, or a published pipeline.
pub fn model(record: &Value) -> Model {
    let name = record["config"].as_str().unwrap();
    let Some(row) = rows(include_str!("configs.jsonl")).find(|row| row["name"] == name) else {
        return shelf::published(&name.replacen("__", "/", 1));
    };
    let anatomy = vramfit::config::read(&row["config"].to_string()).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

/// The scenario of a record.
pub fn scenario(record: &Value) -> Scenario {
    let link = Link::decode(record["scenario"].as_str().unwrap());
    assert_eq!(link.problems, [""; 0], "{}", record["id"]);
    link.scenario
}
