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
        // A class of the library is never taken for one of other code, nor are its own keys for another's.
        let alarms = ["known to be built as", "not known to have"];
        wrong.extend(anatomy.assumptions.iter().filter(|line| alarms.iter().any(|alarm| line.contains(alarm))).map(|line| format!("{name}: {line}")));
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

#[test]
fn inspect_says_each_tensor_once() {
    use vramfit::model::{Model, Origin, Provenance};
    let tensors = |config: &str| {
        let anatomy = vramfit::config::read(config).unwrap();
        let parameters = anatomy.parameters().unwrap().get();
        let provenance = Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() };
        let json = vramfit::report::inspect_json(&Model { anatomy, provenance }).unwrap();
        (json["model"]["tensors"].as_array().unwrap().clone(), parameters)
    };
    for row in ROWS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON")) {
        let (tensors, parameters) = tensors(&row["config"].to_string());
        let sum: u64 = tensors.iter().map(|tensor| tensor["elements"].as_u64().unwrap()).sum();
        assert_eq!(sum, parameters, "{}", row["config"]["model_type"]);
    }
    // Experts in all layers but one.
    let (tensors, _) = tensors(
        r#"{"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 16, "num_hidden_layers": 4, "vocab_size": 100, "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [1]}"#,
    );
    let named = |name: &str| {
        let rows: Vec<&Value> = tensors.iter().filter(|tensor| tensor["name"] == name).collect();
        assert_eq!(rows.len(), 1, "{name}");
        rows[0]
    };
    let queries = named("model.layers.*.self_attn.q_proj.weight");
    assert_eq!((&queries["layers"], &queries["shape"], &queries["quantizers_skip"]), (&4.into(), &vec![64, 64].into(), &false.into()));
    let experts = named("model.layers.*.mlp.experts.{}.up_proj.weight");
    assert_eq!((&experts["count"], &experts["layers"], &experts["role"]), (&8.into(), &3.into(), &"expert_up".into()));
    for skipped in ["model.embed_tokens.weight", "lm_head.weight", "model.layers.*.mlp.gate.weight", "model.layers.*.input_layernorm.weight"] {
        assert_eq!(named(skipped)["quantizers_skip"], true, "{skipped}");
    }
}

/// The sizes that the line about a class's own names, each with the path of its key.
fn said(anatomy: &vramfit::model::Anatomy) -> Vec<(String, u64)> {
    let lines = anatomy.assumptions.iter().filter_map(|line| line.split_once("class's own sizes are counted: "));
    let mut found = Vec::new();
    for group in lines.flat_map(|(_, sizes)| sizes.split("; ")) {
        let (object, sizes) = group.strip_prefix("in `").and_then(|rest| rest.split_once("`: ")).unwrap_or(("", group));
        for (leaf, value) in sizes.split("), ").filter_map(|size| size.trim_end_matches(')').split_once(" (")) {
            let leaf = leaf.trim_matches('`');
            let path = if object.is_empty() { leaf.to_owned() } else { format!("{object}.{leaf}") };
            found.extend(value.parse().ok().map(|value| (path, value)));
        }
    }
    found
}

#[test]
fn a_size_that_is_said_to_be_counted_is() {
    let object = |config: &Value, path: &str| {
        let mut object = config.clone();
        let mut at = &mut object;
        for key in path.split('.') {
            at = &mut at[key];
        }
        at.clone()
    };
    let with = |config: &Value, path: &str, value: Value| {
        let mut config = config.clone();
        let mut at = &mut config;
        for key in path.split('.') {
            at = &mut at[key];
        }
        *at = value;
        config
    };
    let read = |config: &Value| vramfit::config::read(&config.to_string()).map(|anatomy| (format!("{:?}", anatomy.components), anatomy));
    let (mut seen, mut wrong, mut count) = (std::collections::BTreeSet::new(), Vec::new(), 0);
    for row in ROWS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON")) {
        let config = &row["config"];
        let parts = config.as_object().unwrap().iter().filter(|(key, value)| value.is_object() && key.ends_with("_config"));
        for (part, _) in parts {
            if !seen.insert(format!("{} {part} {} {}", config["model_type"], config[part]["model_type"], config["architectures"])) {
                continue;
            }
            // The part says its type and its lists only.
            let mut bare = object(config, part);
            bare.as_object_mut().unwrap().retain(|key, value| key == "model_type" || key == "architectures" || value.is_array() || value.is_object());
            let bare = with(config, part, bare);
            let Ok((before, anatomy)) = read(&bare) else { continue };
            for (path, value) in said(&anatomy).into_iter().filter(|(path, _)| path.starts_with(part.as_str())) {
                count += 1;
                let others = [value * 2, value + 1, (value - 1).max(1), (value / 2).max(1)];
                let moves = others.iter().any(|&other| read(&with(&bare, &path, Value::from(other))).is_ok_and(|(after, _)| after != before));
                let all_refused = || others.iter().all(|&other| read(&with(&bare, &path, Value::from(other))).is_err());
                if !moves && !all_refused() {
                    wrong.push(format!("{} {path} ({value})", config["model_type"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "said to be counted, and move nothing:\n{}", wrong.join("\n"));
    assert!(count > 500, "{count} sizes");
}
