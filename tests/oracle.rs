//! Parameter counts, per-layer caches and states against an oracle: each config was instantiated by its own class of
//! transformers (5.23, or 4.57 where the two differ and the older agrees with the published files) on the meta device, and its
//! cache filled by a five-token forward. `fixtures/oracle.jsonl` holds the fields that matter, the oracle's figures and where
//! the config was published.

use serde_json::Value;
use vramfit::model::LayerRun;

const ROWS: &str = include_str!("fixtures/oracle.jsonl");

fn rows() -> impl Iterator<Item = Value> {
    ROWS.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

/// Run lengths `[count, value]` as one value per layer.
fn expanded(runs: &Value) -> Vec<u64> {
    let run = |run: &Value| vec![run[1].as_u64().unwrap(); usize::try_from(run[0].as_u64().unwrap()).unwrap()];
    runs.as_array().unwrap().iter().flat_map(run).collect()
}

#[test]
fn parameters_caches_and_states_equal_the_oracle() {
    let mut wrong = Vec::new();
    for row in rows() {
        let id = row["id"].as_str().unwrap();
        let anatomy = match vramfit::config::read(&row["config"].to_string()) {
            Ok(anatomy) => anatomy,
            Err(error) => {
                wrong.push(format!("{id}: {error}"));
                continue;
            }
        };
        if anatomy.is_guess || anatomy.assumptions.is_empty() == row["assumed"].as_bool().unwrap() {
            wrong.push(format!("{id}: assumptions are not as known: {:?}", anatomy.assumptions));
        }
        let mut check = |what: &str, found: u64, expected: Option<u64>| {
            if expected.is_some_and(|expected| expected != found) {
                wrong.push(format!("{id}: {found} {what} for {expected:?}"));
            }
        };
        check("parameters", anatomy.parameters().unwrap().get(), row["parameters"].as_u64());
        check("active parameters", anatomy.active_parameters().unwrap().get(), row["active"].as_u64());
        let per_layer = |read: &dyn Fn(&LayerRun) -> u64| -> Vec<u64> {
            let runs = anatomy.components[0].layers.iter();
            runs.flat_map(|run| vec![read(run); usize::try_from(run.count).unwrap()]).collect()
        };
        let caches = per_layer(&|run| run.layer.mixer.cache_elements_per_token());
        let states = per_layer(&|run| run.layer.mixer.state_elements_per_sequence());
        for (what, found, expected) in [("cache", caches, &row["cache_elements"]), ("state", states, &row["state_elements"])] {
            let expected = expanded(expected);
            if !expected.is_empty() && found != expected {
                wrong.push(format!("{id}: {what} {found:?} for {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_covers_the_families() {
    let types: std::collections::BTreeSet<String> = rows().filter_map(|row| row["config"]["model_type"].as_str().map(str::to_owned)).collect();
    assert!(rows().count() >= 245 && types.len() >= 135, "{} rows of {} types", rows().count(), types.len());
}
