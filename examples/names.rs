//! throwaway
fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap();
        let anatomy = vramfit::config::read(&text).unwrap();
        let mut out = serde_json::Map::new();
        let mut layers_before = 0;
        for component in &anatomy.components {
            for tensor in &component.tensors {
                out.insert(tensor.name.clone(), serde_json::json!(tensor.shape));
            }
            let mut number =
                if component.kind == vramfit::model::ComponentKind::TokenPredictor && component.layer_prefix == "model.layers" { layers_before } else { 0 };
            for run in &component.layers {
                for _ in 0..run.count {
                    for tensor in &run.tensors {
                        let name = format!("{}.{number}.{}", component.layer_prefix, tensor.name);
                        if tensor.count == 1 && !name.contains("{}") {
                            out.insert(name, serde_json::json!(tensor.shape));
                        } else {
                            for e in 0..tensor.count {
                                out.insert(name.replace("{}", &e.to_string()), serde_json::json!(tensor.shape));
                            }
                        }
                    }
                    number += 1;
                }
            }
            layers_before = layers_before.max(number);
        }
        println!("{}", serde_json::Value::Object(out));
    }
}
