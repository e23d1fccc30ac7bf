use super::*;
use crate::config;
use crate::encoding::Encoding;

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 3, "vocab_size": 100}"#;
const MIXTRAL: &str = r#"{"model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 100, "num_local_experts": 4, "num_experts_per_tok": 2}"#;

fn anatomy(config: &str) -> Anatomy {
    config::read(config).unwrap()
}

fn tied() -> Anatomy {
    anatomy(&LLAMA.replacen('{', "{\"tie_word_embeddings\": true, ", 1))
}

fn stored(name: &str, encoding: Encoding, shape: &[u64]) -> HeaderTensor {
    let end = encoding.bytes_for(shape.iter().product()).unwrap().get();
    HeaderTensor { name: name.to_owned(), encoding, shape: shape.to_vec(), begin: 0, end }
}

/// Every tensor of the architecture as files hold them.
fn written(anatomy: &Anatomy) -> Vec<HeaderTensor> {
    let component = &anatomy.components[0];
    let mut tensors: Vec<HeaderTensor> = component.tensors.iter().map(|tensor| stored(&tensor.name, Encoding::BF16, &tensor.shape)).collect();
    let mut first = 0;
    for run in &component.layers {
        for layer in first..first + run.count {
            for tensor in &run.tensors {
                for expert in 0..tensor.count {
                    let name = format!("{}.{layer}.{}", component.layer_prefix, tensor.name.replace("{}", &expert.to_string()));
                    tensors.push(stored(&name, Encoding::BF16, &tensor.shape));
                }
            }
        }
        first += run.count;
    }
    tensors
}

fn matched(anatomy: &Anatomy, tensors: Vec<HeaderTensor>) -> Matched {
    match_inventory(anatomy, [Header { tensors, metadata: Vec::new() }].iter()).unwrap()
}

fn elements(tensors: &[(Tensor, u64)]) -> u64 {
    tensors.iter().map(|(tensor, times)| tensor.elements().unwrap().get() * times).sum()
}

#[test]
fn files_of_the_architecture_are_loaded_whole() {
    for config in [LLAMA, MIXTRAL] {
        let anatomy = anatomy(config);
        let parameters = anatomy.parameters().unwrap().get();
        let with_base = matched(&anatomy, written(&anatomy));
        assert_eq!(with_base.notes, [""; 0]);
        assert_eq!(elements(&with_base.files.loaded), parameters);
        assert_eq!((with_base.files.elements, with_base.files.bytes, with_base.files.count), (ParamCount(parameters), Bytes(2 * parameters), 1));
        let bare = |tensor: HeaderTensor| HeaderTensor { name: tensor.name.strip_prefix("model.").unwrap_or(&tensor.name).to_owned(), ..tensor };
        let without_base = matched(&anatomy, written(&anatomy).into_iter().map(bare).collect());
        assert_eq!(without_base.notes, [""; 0]);
        assert_eq!(elements(&without_base.files.loaded), parameters);
        let roles = |matched: &Matched| matched.files.loaded.iter().map(|(tensor, times)| (tensor.role, tensor.count, *times)).collect::<Vec<_>>();
        assert_eq!(roles(&with_base), roles(&without_base));
    }
}

#[test]
fn layers_and_experts_are_run_length_coded() {
    let anatomy = anatomy(MIXTRAL);
    let files = matched(&anatomy, written(&anatomy)).files;
    let (expert, layers) = files.loaded.iter().find(|(tensor, _)| tensor.role == Role::ExpertDown).unwrap();
    assert_eq!((expert.name.as_str(), expert.count, *layers), ("model.layers.{}.block_sparse_moe.experts.{}.w2.weight", 4, 2));
    assert_eq!(expert.stored, Some(Encoding::BF16));
    assert_eq!(files.loaded[0].0.name, "model.embed_tokens.weight");
    assert_eq!(files.loaded.len(), 3 + 4 + 1 + 3 + 2);
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let anatomy = anatomy(MIXTRAL);
    let headers: Vec<Header> = written(&anatomy).into_iter().map(|tensor| Header { tensors: vec![tensor], metadata: Vec::new() }).collect();
    assert_eq!(match_inventory(&anatomy, headers.iter()), match_inventory(&anatomy, headers.iter().rev()));
}

#[test]
fn buffers_and_extra_modules_are_left() {
    let anatomy = tied();
    let mut tensors = written(&anatomy);
    for layer in 0..3 {
        tensors.push(stored(&format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq"), Encoding::F32, &[8]));
    }
    tensors.push(stored("model.layers.3.self_attn.q_proj.weight", Encoding::BF16, &[64, 64]));
    tensors.push(stored("lm_head.weight", Encoding::BF16, &[100, 64]));
    let matched = matched(&anatomy, tensors);
    assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
    assert_eq!(
        matched.notes,
        ["5 tensors (21,088 bytes) of the files are not loaded: `lm_head.weight`, `model.layers.{}.self_attn.q_proj.weight`, \
             `model.layers.{}.self_attn.rotary_emb.inv_freq`"]
    );
    let times: Vec<u64> = matched.files.left.iter().map(|(_, times)| *times).collect();
    assert_eq!(times, [1, 1, 3]);
}

#[test]
fn a_tied_head_stands_for_a_missing_embedding() {
    let anatomy = tied();
    let renamed = |tensor: HeaderTensor| match tensor.name.as_str() {
        "model.embed_tokens.weight" => HeaderTensor { name: "lm_head.weight".into(), ..tensor },
        _ => tensor,
    };
    let matched = matched(&anatomy, written(&anatomy).into_iter().map(renamed).collect());
    assert_eq!(matched.notes, [""; 0]);
    let head = matched.files.loaded.iter().find(|(tensor, _)| tensor.name == "lm_head.weight").unwrap();
    assert_eq!(head.0.role, Role::Embedding);
    assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
}

#[test]
fn files_that_lack_modules_are_loaded_as_they_are() {
    let anatomy = anatomy(LLAMA);
    let mut tensors = written(&anatomy);
    tensors.retain(|tensor| !tensor.name.contains("layers.1.mlp"));
    tensors.push(stored("visual.blocks.7.mlp.up_proj.weight", Encoding::F16, &[4, 4]));
    tensors.push(stored("model.layers.1.mlp.experts.gate_up_proj", Encoding::F16, &[4, 4, 8]));
    let total: u64 = tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
    let matched = matched(&anatomy, tensors);
    assert_eq!(
        matched.notes,
        ["3 of the 30 modules that config.json describes are not in the files (first: `layers.1.mlp.gate_proj`): every stored tensor is counted as loaded"]
    );
    assert!(matched.files.left.is_empty());
    assert_eq!(elements(&matched.files.loaded), total);
    let role = |name: &str| matched.files.loaded.iter().find(|(tensor, _)| tensor.name == name).unwrap().0.role;
    assert_eq!(role("visual.blocks.{}.mlp.up_proj.weight"), Role::Up);
    assert_eq!(role("model.layers.{}.mlp.experts.gate_up_proj"), Role::ExpertGateUp);
}

#[test]
fn quantised_forms_go_with_their_module() {
    let anatomy = anatomy(LLAMA);
    let mut tensors = written(&anatomy);
    tensors.retain(|tensor| tensor.name != "model.layers.0.mlp.up_proj.weight");
    let packed = Encoding::from_safetensors("I32").unwrap();
    tensors.push(stored("model.layers.0.mlp.up_proj.qweight", packed, &[8, 128]));
    tensors.push(stored("model.layers.0.mlp.up_proj.scales", Encoding::F16, &[1, 128]));
    let matched = matched(&anatomy, tensors);
    assert_eq!(matched.notes, [""; 0]);
    let up: Vec<_> = matched.files.loaded.iter().filter(|(tensor, _)| tensor.role == Role::Up).map(|(tensor, times)| (tensor.stored, *times)).collect();
    assert_eq!(up, [(Some(packed), 1), (Some(Encoding::F16), 1), (Some(Encoding::BF16), 2)]);
}

#[test]
fn second_copies_count_once() {
    let anatomy = anatomy(LLAMA);
    let mut tensors = written(&anatomy);
    tensors.push(stored("model.norm.weight", Encoding::BF16, &[64]));
    let matched = matched(&anatomy, tensors);
    assert_eq!(matched.notes, ["1 tensor (128 bytes) is in the files more than once; one copy of each is counted"]);
    assert_eq!(elements(&matched.files.loaded), anatomy.parameters().unwrap().get());
}

#[test]
fn sums_that_do_not_fit_are_errors() {
    let huge = |name: &str| HeaderTensor { name: name.to_owned(), encoding: Encoding::F8_E4M3, shape: vec![1 << 63], begin: 0, end: 1 << 63 };
    let headers = [Header { tensors: vec![huge("a"), huge("b")], metadata: Vec::new() }];
    assert_eq!(match_inventory(&anatomy(LLAMA), headers.iter()), Err(Overflow));
}

#[test]
fn only_plain_numbers_are_taken_out() {
    let place = |layer, expert| Place { layer, expert };
    for (name, pattern, numbers) in [
        ("layers.12.mlp.experts.7.w1.weight", "layers.{}.mlp.experts.{}.w1.weight", place(Some(12), Some(7))),
        ("experts.7.w1", "experts.{}.w1", place(None, Some(7))),
        ("h.01.x", "h.01.x", place(None, None)),
        ("h.+1.x", "h.+1.x", place(None, None)),
        ("a.1.b.2.c", "a.{}.b.2.c", place(Some(1), None)),
        ("a.99999999999999999999.b", "a.99999999999999999999.b", place(None, None)),
        ("", "", place(None, None)),
        (".", ".", place(None, None)),
    ] {
        assert_eq!(take_numbers(name), (pattern.to_owned(), numbers), "{name}");
    }
}
