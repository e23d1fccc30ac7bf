//! Values that cannot be: every number of a config of each model type is replaced by zero, negatives, numbers past any model, text and
//! lists of another length. Nothing panics; an error names the key; and a key that the model depends on takes none of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

const ROWS: [&str; 2] = [include_str!("fixtures/classes.jsonl"), include_str!("fixtures/oracle.jsonl")];

/// Where a value stands in a config: keys and indices from the outermost object.
type Path = Vec<String>;

/// Every number and list of numbers in a config, by path.
fn numbers(value: &Value, at: &mut Path, found: &mut Vec<Path>) {
    match value {
        Value::Number(_) => found.push(at.clone()),
        Value::Array(list) if list.iter().all(Value::is_number) => found.push(at.clone()),
        Value::Object(object) => {
            for (key, value) in object {
                at.push(key.clone());
                numbers(value, at, found);
                at.pop();
            }
        }
        _ => {}
    }
}

fn replaced(config: &Value, path: &Path, value: Value) -> Value {
    let mut config = config.clone();
    let mut at = &mut config;
    for key in path {
        at = &mut at[key.as_str()];
    }
    *at = value;
    config
}

fn found<'a>(config: &'a Value, path: &Path) -> &'a Value {
    path.iter().fold(config, |at, key| &at[key.as_str()])
}

/// What a model is: its parameters, and of each run of layers the count and what a layer keeps of a token and of a sequence.
type Measures = (u64, Vec<(u64, u64, u64)>);

fn model(config: &Value) -> Result<Measures, String> {
    let anatomy = vramfit::config::read(&config.to_string()).map_err(|error| error.to_string())?;
    let layers = anatomy.components[0].layers.iter();
    let layers = layers.map(|run| (run.count, run.layer.mixer.cache_elements_per_token(), run.layer.mixer.state_elements_per_sequence())).collect();
    Ok((anatomy.parameters().map_err(|error| error.to_string())?.get(), layers))
}

/// Lists with an entry per layer, in the object that says how many layers there are: one more or one fewer is refused by name, or plays no part.
fn wrong_lengths(config: &Value, usual: &Measures) -> Vec<String> {
    let name = config["model_type"].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    let outer = config.as_object().into_iter();
    let nested = config.as_object().into_iter().flatten().filter_map(|(key, value)| Some((vec![key.clone()], value.as_object()?)));
    for (at, object) in outer.map(|object| (Path::new(), object)).chain(nested) {
        let layers = ["num_hidden_layers", "n_layer", "num_layers"].into_iter().find_map(|key| object.get(key)?.as_u64());
        for (key, value) in object {
            let Some(list) = value.as_array().filter(|list| list.len() > 3 && Some(list.len() as u64) == layers) else { continue };
            // As many that all differ are numbers or names of layers, or another list's.
            if list.iter().map(Value::to_string).collect::<BTreeSet<_>>().len() == list.len() {
                continue;
            }
            let mut path = at.clone();
            path.push(key.clone());
            let longer: Vec<Value> = list.iter().chain(list.first()).cloned().collect();
            for other in [&longer[..], &list[1..]] {
                match model(&replaced(config, &path, Value::from(other))) {
                    Err(error) if error.contains(key) => {}
                    Err(error) => wrong.push(format!("{name}: `{}` of {} entries: {error}", path.join("."), other.len())),
                    Ok(model) if model != *usual => wrong.push(format!("{name}: `{}` of {} entries is taken", path.join("."), other.len())),
                    Ok(_) => {}
                }
            }
        }
    }
    wrong
}

/// What is taken that should not be, or refused without the key's name.
fn wrong(config: &Value) -> Vec<String> {
    let name = config["model_type"].as_str().unwrap_or_default();
    let Ok(usual) = model(config) else { return vec![format!("{name}: not read")] };
    let mut paths = Vec::new();
    numbers(config, &mut Path::new(), &mut paths);
    let mut wrong = wrong_lengths(config, &usual);
    for path in paths {
        let value = found(config, &path);
        let key = path.last().cloned().unwrap_or_default();
        let whole = value.is_u64();
        let others = match value {
            Value::Array(list) => {
                let longer: Vec<Value> = list.iter().chain(list.first()).cloned().collect();
                vec![json!([]), Value::from(longer), json!([-1]), json!([1e300])]
            }
            _ => vec![json!(0), json!(-1), json!(1_u64 << 63), json!(1e300), json!("many")],
        };
        // Twice as many, or one more, makes another model: the key is one of its sizes.
        let other = value.as_u64().filter(|&n| n < 1 << 30).map(|n| [json!(n.saturating_mul(2)), json!(n + 1)]);
        let is_size = other.is_some_and(|others| others.into_iter().any(|other| model(&replaced(config, &path, other)).is_ok_and(|other| other != usual)));
        for other in others {
            let zero = other == json!(0);
            match model(&replaced(config, &path, other.clone())) {
                Err(error) if error.contains(&key) => {}
                Err(error) => wrong.push(format!("{name}: `{}` = {other}: {error}", path.join("."))),
                // None of it is an answer where a count may be zero.
                Ok(_) if is_size && whole && !zero => wrong.push(format!("{name}: `{}` = {other} is taken", path.join("."))),
                Ok(_) => {}
            }
        }
    }
    wrong
}

/// Values that are each within reason, and together are not.
#[test]
fn impossible_together_is_refused_by_name() {
    for (key, config) in [
        ("kernel_sizes", json!({"model_type": "efficientnet", "kernel_sizes": [1, 1, 1, 1, 1, 1, 1]})),
        ("num_block_repeats", json!({"model_type": "efficientnet", "num_block_repeats": [400, 400, 400, 1, 1, 1, 1], "depth_coefficient": 1.0})),
        ("depths", json!({"model_type": "swin", "depths": [300, 300, 300, 300]})),
        ("patch_size", json!({"model_type": "swin", "patch_size": [4, 2]})),
        ("window_size", json!({"model_type": "swin", "window_size": 20_000})),
        ("backbone_config.mlp_ratio", json!({"model_type": "upernet", "backbone_config": {"model_type": "swin", "mlp_ratio": 0}})),
        ("attention_windows", json!({"model_type": "ultrabert", "num_hidden_layers": 2, "attention_windows": [-5, 8]})),
        ("layer_types", json!({"model_type": "ultrabert", "num_hidden_layers": 2, "layer_types": ["foo", "sliding_attention"]})),
        (
            "vision_config.model_args.img_size",
            json!({"model_type": "fast_vlm", "text_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
                "num_key_value_heads": 4, "vocab_size": 100}, "vision_config": {"model_args": {"inference_mode": true, "img_size": 0}}}),
        ),
        ("prior_encoder_num_wavenet_layers", json!({"model_type": "vits", "prior_encoder_num_flows": 32, "prior_encoder_num_wavenet_layers": 33})),
        ("depth_separable_num_layers", json!({"model_type": "vits", "depth_separable_num_layers": 1000})),
    ] {
        let error = model(&config).expect_err(key);
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn impossible_values_are_refused_by_name() {
    let mut types = BTreeSet::new();
    // The first config of each type: the others differ in values alone.
    let configs: Vec<Value> = ROWS
        .into_iter()
        .flat_map(str::lines)
        .map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON")["config"].take())
        .filter(|config| types.insert(config["model_type"].to_string()))
        .collect();
    assert!(configs.len() > 200, "{} types", configs.len());
    let halves = configs.split_at(configs.len() / 2);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts = [halves.0, halves.1].map(|part| scope.spawn(move || part.iter().flat_map(wrong).collect::<Vec<_>>()));
        parts.into_iter().flat_map(|part| part.join().expect("nothing panics")).collect()
    });
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}
