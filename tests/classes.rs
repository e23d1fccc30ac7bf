//! Parameter counts and caches of one small and one altered config of each model type: `fixtures/classes.jsonl` holds the config as
//! its class of transformers 5.23 writes it, what the class counts on the meta device, and the elements that its cache kept per
//! token of a five-token forward, where it has one.

use serde_json::Value;

const ROWS: &str = include_str!("fixtures/classes.jsonl");

#[test]
fn types_are_counted_as_their_classes_build_them() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in ROWS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON")) {
        let name = &row["config"]["model_type"];
        count += 1;
        let anatomy = match vramfit::config::read(&row["config"].to_string()) {
            Ok(anatomy) => anatomy,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let (found, expected) = (anatomy.parameters().unwrap().get(), row["parameters"].as_u64().unwrap());
        if anatomy.is_guess || found != expected {
            wrong.push(format!("{name}: {found} parameters for {expected}"));
        }
        if let Some(expected) = row["cache_elements"].as_array() {
            let runs = anatomy.components[0].layers.iter();
            let found: Vec<u64> =
                runs.flat_map(|run| vec![run.layer.mixer.cache_elements_per_token(); usize::try_from(run.count).unwrap()]).filter(|&n| n > 0).collect();
            let expected: Vec<u64> = expected.iter().filter_map(Value::as_u64).filter(|&n| n > 0).collect();
            if found != expected {
                wrong.push(format!("{name}: cache {found:?} for {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 400, "{count} rows");
}

#[test]
fn types_without_a_reader_are_never_taken_for_known() {
    // Configs of types that have no reader: read as their nearest kin and marked, or refused, never claimed.
    let known: std::collections::BTreeSet<&str> = vramfit::config::model_types().collect();
    let mut guesses = 0;
    for row in ROWS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON")) {
        let mut config = row["config"].clone();
        let name = format!("{}_of_tomorrow", config["model_type"].as_str().unwrap());
        assert!(!known.contains(name.as_str()));
        config["model_type"] = Value::from(name.clone());
        if let Ok(anatomy) = vramfit::config::read(&config.to_string()) {
            guesses += 1;
            assert!(anatomy.is_guess && anatomy.assumptions[0].contains(&name), "{name}: {:?}", anatomy.assumptions);
        }
    }
    assert!(guesses > 300, "{guesses} guesses");
}
