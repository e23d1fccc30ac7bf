//! Headers as llama.cpp's own converter writes them, read back, against what the same models' configs say.
//!
//! `fixtures/gguf.jsonl`: keys and tensor infos that `convert_hf_to_gguf.py` (llama.cpp 0c1e57098) makes of published configs,
//! run on tensors without values, every architecture that converts so; a row has at most three models of one architecture.
//! Numbers that change no size are left out, layers that repeat are run-length coded.

mod common;

use common::gguf::{GgufFile, header_of};
use serde_json::Value;
use vramfit::checkpoint::gguf::{Contents, read};
use vramfit::estimate::Term;
use vramfit::memory::{EstimateError, estimate};
use vramfit::model::{Anatomy, Attention, Component, ComponentKind, Layer, Mixer, Model, Origin, Provenance, Recurrence, Span};
use vramfit::scenario::{Runtime, Scenario};

const ROWS: &str = include_str!("fixtures/gguf.jsonl");
const ORACLE: &str = include_str!("fixtures/oracle.jsonl");

fn rows(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

/// The file of a row.
fn file(row: &Value) -> GgufFile {
    let mut file = GgufFile::new(3, false);
    for (key, value) in row["metadata"].as_object().unwrap() {
        file = file.json(key, value);
    }
    for tensor in row["tensors"].as_array().unwrap() {
        let name = tensor[0].as_str().unwrap();
        let dimensions: Vec<u64> = tensor[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let id = u32::try_from(tensor[2].as_u64().unwrap()).unwrap();
        match tensor.get(3) {
            None => file = file.tensor(name, &dimensions, id),
            Some(runs) => {
                for run in runs.as_array().unwrap() {
                    for layer in run[0].as_u64().unwrap()..=run[1].as_u64().unwrap() {
                        file = file.tensor(&name.replacen('#', &layer.to_string(), 1), &dimensions, id);
                    }
                }
            }
        }
    }
    file
}

fn contents(row: &Value) -> Contents {
    read(&header_of(&file(row)).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", row["id"]))
}

fn model(contents: Contents) -> Model {
    let Contents { anatomy, files, notes } = contents;
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Gguf, files: Some(files), notes } }
}

/// The part that reads text: files have the encoders of images and sound apart.
fn text(anatomy: &Anatomy) -> Vec<&Component> {
    let is_text = |component: &&Component| matches!(component.kind, ComponentKind::TextDecoder | ComponentKind::TextEncoder);
    anatomy.components.iter().filter(is_text).collect()
}

fn parameters(components: &[&Component]) -> i128 {
    components.iter().map(|component| i128::from(component.parameters().unwrap().get())).sum()
}

/// What the converter leaves out or makes of the parameters, as a difference to the class of transformers.
fn difference(row: &Value) -> (i128, &'static str) {
    let size = |key: &str| {
        let arch = row["metadata"]["general.architecture"].as_str().unwrap();
        i128::from(row["metadata"][format!("{arch}.{key}")].as_u64().unwrap())
    };
    let hidden = || size("embedding_length");
    match row["id"].as_str().unwrap() {
        "BAAI/bge-small-en-v1.5" | "Snowflake/snowflake-arctic-embed-m" => (-hidden() * (hidden() + 1), "the pooler is left out"),
        "BAAI/bge-m3" => (-hidden() * (hidden() + 3), "the pooler is left out, and the two positions before the first token"),
        "BAAI/bge-reranker-base" | "BAAI/bge-reranker-v2-m3" => (-hidden() * 2, "the two positions before the first token are left out"),
        "swiss-ai/Apertus-8B-2509" => (-64, "two scalars per layer are metadata"),
        _ => (0, ""),
    }
}

/// Architectures whose window llama.cpp does not read, or that its converter does not write.
const WITHOUT_WINDOW: &[&str] = &["llama", "phi3", "phimoe", "starcoder2"];

/// Layers as the file's engine has them: without windows that it does not know.
fn comparable(layer: Layer, arch: &str) -> Layer {
    let full = |attention: Attention| match attention.span {
        Span::Sliding(_) if WITHOUT_WINDOW.contains(&arch) => Attention { span: Span::Full, ..attention },
        // transformers keeps one token more than the window of the config here.
        Span::Sliding(129) if arch == "mimo2" => Attention { span: Span::Sliding(128), ..attention },
        _ => attention,
    };
    match layer.mixer {
        Mixer::Attention(attention) => Layer { mixer: Mixer::Attention(full(attention)), ..layer },
        // Files do not say in which type an engine keeps states.
        Mixer::Recurrent(recurrence) => Layer { mixer: Mixer::Recurrent(Recurrence { state_dtype: None, ..recurrence }), ..layer },
        _ => layer,
    }
}

fn layers(component: &Component, arch: &str) -> Vec<Layer> {
    component.layers.iter().flat_map(|run| vec![comparable(run.layer, arch); usize::try_from(run.count).unwrap()]).collect()
}

#[test]
fn files_say_what_the_configs_say() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for row in rows(ROWS) {
        let id = row["id"].as_str().unwrap();
        let arch = row["metadata"]["general.architecture"].as_str().unwrap();
        let oracle = rows(ORACLE).find(|other| other["id"] == row["id"]).unwrap();
        let config = vramfit::config::read(&oracle["config"].to_string()).unwrap();
        let contents = contents(&row);
        let anatomy = &contents.anatomy;
        let (found, expected) = (text(anatomy), text(&config));
        let (difference, why) = difference(&row);
        if parameters(&found) != parameters(&expected) + difference {
            wrong.push(format!("{id}: {} parameters for {} ({why})", parameters(&found), parameters(&expected)));
        }
        let (a, b) = (layers(found[0], arch), layers(expected[0], arch));
        if let Some((number, (a, b))) = a.iter().zip(&b).enumerate().find(|(_, (a, b))| a != b) {
            wrong.push(format!("{id}: layer {number} is {a:?} for {b:?}"));
        }
        for (what, found, expected) in [
            ("layers", a.len() as u64, b.len() as u64),
            ("hidden size", found[0].hidden_size, expected[0].hidden_size),
            ("bytes", contents.files.bytes.get(), file(&row).written),
        ] {
            if found != expected {
                wrong.push(format!("{id}: {what} {found} for {expected}"));
            }
        }
        if anatomy.is_guess || !anatomy.assumptions.is_empty() || !anatomy.keys_not_understood.is_empty() {
            wrong.push(format!("{id}: {:?} {:?}", anatomy.assumptions, anatomy.keys_not_understood));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 100, "{count} files");
}

/// One estimate from each file by each engine: none fails for a reason other than that the engine cannot do it, and the weights of
/// one device are the file's bytes, at least in an engine that keeps them so.
#[test]
fn every_file_has_an_estimate() {
    for row in rows(ROWS) {
        let model = model(contents(&row));
        for &runtime in Runtime::ALL {
            let scenario = Scenario { runtime, gpu: None, gpu_capacity: Some(vramfit::quantity::Bytes(1 << 42)), ..Scenario::default() };
            let answer = match estimate(&model, &scenario) {
                Ok(answer) => answer,
                // They load no GGUF files.
                Err(EstimateError::Unsupported(_)) if matches!(runtime, Runtime::Tgi | Runtime::TensorRtLlm | Runtime::Mlx) => continue,
                Err(error) => panic!("{} {runtime:?}: {error}", row["id"]),
            };
            let weights = answer.devices[0].entries.iter().find(|entry| entry.term == Term::Weights).unwrap().amount.expected.get();
            assert!(weights > 0, "{}", row["id"]);
        }
    }
}
