//! Headers as llama.cpp's own converter writes them, read back: totals, caches and states against the oracle of the same models.

mod common;

use common::gguf::GgufFile;
use serde_json::Value;
use vramfit::checkpoint::gguf::{Contents, Reader, Step, read};
use vramfit::model::LayerRun;

const ROWS: &str = include_str!("/tmp/s/src-gguf/all2.jsonl");
const ORACLE: &str = include_str!("fixtures/oracle.jsonl");

fn rows(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

fn expanded(runs: &Value) -> Vec<u64> {
    let run = |run: &Value| vec![run[1].as_u64().unwrap(); usize::try_from(run[0].as_u64().unwrap()).unwrap()];
    runs.as_array().unwrap().iter().flat_map(run).collect()
}

/// The file of a row: its tensors in the order of the layers.
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

fn contents(file: &GgufFile) -> Contents {
    let header = file.header();
    let mut reader = Reader::new(Some(header.len() as u64 + file.data));
    assert_eq!(reader.read(0, &header), Ok(Step::Done));
    read(&reader.finish().unwrap()).unwrap()
}

#[test]
fn show() {
    for row in rows(ROWS) {
        let id = row["id"].as_str().unwrap();
        let arch = row["metadata"]["general.architecture"].as_str().unwrap();
        let oracle = rows(ORACLE).find(|other| other["id"] == row["id"]);
        let f = file(&row);
        let header = f.header();
        let mut reader = Reader::new(Some(header.len() as u64 + f.data));
        if let Err(e) = reader.read(0, &header) {
            println!("{id} [{arch}]: READ {e}");
            continue;
        }
        let contents = match reader.finish().map_err(|e| e.to_string()).and_then(|h| read(&h).map_err(|e| e.to_string())) {
            Ok(c) => c,
            Err(e) => {
                println!("{id} [{arch}]: {e}");
                continue;
            }
        };
        let anatomy = &contents.anatomy;
        let mut out = Vec::new();
        if let Some(oracle) = oracle {
            let total = anatomy.parameters().unwrap().get() as i64;
            let expected = oracle["parameters"].as_u64().unwrap_or(0) as i64;
            if total != expected {
                out.push(format!("total {total} - {expected} = {}", total - expected));
            }
            if let Some(a) = oracle["active"].as_u64() {
                let t = anatomy.active_parameters().unwrap().get();
                if t != a {
                    out.push(format!("active {t} {a}"));
                }
            }
            let per_layer = |read: &dyn Fn(&LayerRun) -> u64| -> Vec<u64> {
                let runs = anatomy.components[0].layers.iter();
                runs.flat_map(|run| vec![read(run); usize::try_from(run.count).unwrap()]).collect()
            };
            let caches = per_layer(&|run| run.layer.mixer.cache_elements_per_token());
            let states = per_layer(&|run| run.layer.mixer.state_elements_per_sequence());
            for (what, found, expected) in [("cache", caches, &oracle["cache_elements"]), ("state", states, &oracle["state_elements"])] {
                let expected = expanded(expected);
                if !expected.is_empty() && found != expected {
                    out.push(format!("{what} {found:?} for {expected:?}"));
                }
            }
            let own = vramfit::config::read(&oracle["config"].to_string()).unwrap();
            let layers = |a: &vramfit::model::Anatomy| -> Vec<vramfit::model::Layer> {
                a.components[0].layers.iter().flat_map(|run| vec![run.layer; run.count as usize]).collect()
            };
            let (a, b) = (layers(anatomy), layers(&own));
            if let Some((n, (x, y))) = a.iter().zip(&b).enumerate().find(|(_, (x, y))| x != y) {
                out.push(format!("layer {n}: {x:?} / {y:?}"));
            }
            if a.len() != b.len() {
                out.push(format!("layers {} {}", a.len(), b.len()));
            }
            if anatomy.model_type != own.model_type {
                out.push(format!("type {} {}", anatomy.model_type, own.model_type));
            }
        } else {
            out.push("no oracle".into());
        }
        out.extend(anatomy.assumptions.iter().map(|a| format!("ASSUMED {a}")));
        if !anatomy.keys_not_understood.is_empty() {
            out.push(format!("KEYS {:?}", anatomy.keys_not_understood));
        }
        if !out.is_empty() {
            println!("{id} [{arch}]: {}", out.join("\n      "));
        }
    }
}
