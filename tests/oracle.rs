//! Parameter counts and per-layer caches against an oracle: each config was instantiated by its own class of transformers
//! 5.23 on the meta device, and its cache filled by a five-token forward. `fixtures/oracle.jsonl` holds the fields that
//! matter, the oracle's figures and where the config was published.

use serde_json::Value;

const ROWS: &str = include_str!("fixtures/oracle.jsonl");

fn rows() -> impl Iterator<Item = Value> {
    ROWS.lines().map(|line| serde_json::from_str(line).expect("a row of JSON"))
}

#[test]
fn parameters_and_caches_equal_the_oracle() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows() {
        count += 1;
        let id = row["id"].as_str().unwrap();
        let anatomy = match vramfit::config::read(&row["config"].to_string()) {
            Ok(anatomy) => anatomy,
            Err(error) => {
                wrong.push(format!("{id}: {error}"));
                continue;
            }
        };
        if anatomy.is_guess || !anatomy.assumptions.is_empty() {
            wrong.push(format!("{id}: is not understood: {:?}", anatomy.assumptions));
        }
        let (found, expected) = (anatomy.parameters().unwrap().get(), row["parameters"].as_u64().unwrap());
        if found != expected {
            wrong.push(format!("{id}: {found} parameters for {expected}"));
        }
        if let Some(active) = row["active"].as_u64() {
            let found = anatomy.active_parameters().unwrap().get();
            if found != active {
                wrong.push(format!("{id}: {found} active parameters for {active}"));
            }
        }
        let expected: Vec<u64> = row["cache_elements"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|run| vec![run[1].as_u64().unwrap(); usize::try_from(run[0].as_u64().unwrap()).unwrap()])
            .collect();
        let found: Vec<u64> =
            anatomy.components[0].layers.iter().flat_map(|run| vec![run.layer.mixer.cache_elements_per_token(); usize::try_from(run.count).unwrap()]).collect();
        if !expected.is_empty() && found != expected {
            wrong.push(format!("{id}: caches {found:?} for {expected:?}"));
        }
        if !anatomy.keys_not_understood.is_empty() {
            wrong.push(format!("{id}: keys not understood: {:?}", anatomy.keys_not_understood));
        }
    }
    assert!(count >= 60, "{count} rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
