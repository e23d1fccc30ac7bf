//! Repositories of several parts, read from a Hub that is written here: pipelines of diffusers, adapters, sentence-transformers.
//!
//! `fixtures/pipelines.jsonl` holds the configs of published pipelines and the parameters of each part as the classes of diffusers
//! 0.42.1 and transformers 5.23 have them on the meta device.

mod common;

use std::collections::BTreeMap;

use common::shelf::{Hub, published, text};
use serde_json::{Value, json};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::model::{ComponentKind, Model, Origin};
use vramfit::scenario::{Picture, Runtime, Scenario};

/// A safetensors file of bfloat16 tensors.
fn weights(tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<u64>() * 2;
        header.insert((*name).to_owned(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}));
    }
    let text = Value::Object(header).to_string();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    file.extend(vec![0; usize::try_from(end).unwrap()]);
    file
}

fn parts(model: &Model) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    for component in &model.anatomy.components {
        *parts.entry(component.name.split('.').next().unwrap().to_owned()).or_insert(0) += component.parameters().unwrap().get();
    }
    parts
}

#[test]
fn pipelines_have_the_parameters_of_their_classes() {
    let mut count = 0;
    for line in include_str!("fixtures/pipelines.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let id = row["id"].as_str().unwrap();
        let files: Vec<(&str, Vec<u8>)> = row["files"].as_object().unwrap().iter().map(|(name, config)| (name.as_str(), text(config))).collect();
        let model = Hub::default().with(id, &files).open(id).unwrap();
        let expected: BTreeMap<String, u64> = serde_json::from_value(row["components"].clone()).unwrap();
        assert_eq!(parts(&model), expected, "{id}");
        assert_eq!(model.provenance.source, Origin::Config);
        assert_eq!(model.decoder().kind, ComponentKind::Denoiser);
        assert!(model.anatomy.keys_not_understood.is_empty(), "{id}: {:?}", model.anatomy.keys_not_understood);
        count += 1;
    }
    assert_eq!(count, 9);
}

/// `torch.cuda.max_memory_allocated` in GiB at 1,024 × 1,024, everything on the GPU: FLUX.1-dev in bfloat16 on an H100 (the table of
/// sayakpaul/diffusers-torchao), Stable Diffusion XL in float16 (its autoencoder decodes in float32).
const MEASURED: &[(&str, &str, u64, f64)] = &[
    ("black-forest-labs/FLUX.1-dev", "bf16", 1, 33.851),
    ("black-forest-labs/FLUX.1-dev", "bf16", 4, 39.490),
    ("black-forest-labs/FLUX.1-dev", "bf16", 8, 47.509),
    ("black-forest-labs/FLUX.1-dev", "bf16", 16, 61.548),
    ("stabilityai/stable-diffusion-xl-base-1.0", "fp16", 1, 10.47),
];

#[test]
fn peaks_of_pipelines_are_those_of_public_logs() {
    for &(id, weights, batch, measured) in MEASURED {
        let scenario = Scenario { weights: weights.parse().unwrap(), batch: Some(batch), ..Scenario::default() };
        let answer = estimate(&published(id), &scenario).unwrap();
        let device = &answer.devices[0];
        let (stage, peak) = device.peak().unwrap();
        let allocated = peak.expected.get() - device.term_at(Term::RuntimeContext, stage).unwrap().expected.get();
        assert_eq!(stage, Stage::VaeDecode);
        #[allow(clippy::cast_precision_loss)]
        let error = allocated as f64 / (measured * f64::from(1 << 30)) - 1.0;
        assert!(error.abs() < 0.04, "{id} × {batch}: {:.2} %", error * 100.0);
    }
}

/// The figures that a public tool prints for Qwen/Qwen-Image-Edit-2511: 15.45, 38.05 and 0.24 GiB, 53.74 in all.
#[test]
fn qwen_image_edit_is_53_74_gib() {
    let oracle = include_str!("fixtures/oracle.jsonl").lines().find(|line| line.contains("\"Qwen/Qwen2.5-VL-7B-Instruct\"")).unwrap();
    let language: Value = serde_json::from_str(oracle).unwrap();
    let id = "Qwen/Qwen-Image-Edit-2511";
    let index = json!({"_class_name": "QwenImageEditPlusPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "processor": ["transformers", "Qwen2VLProcessor"], "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"], "transformer": ["diffusers", "QwenImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLQwenImage"]});
    let transformer = json!({"_class_name": "QwenImageTransformer2DModel", "attention_head_dim": 128, "axes_dims_rope": [16, 56, 56],
        "guidance_embeds": false, "in_channels": 64, "joint_attention_dim": 3584, "num_attention_heads": 24, "num_layers": 60, "out_channels": 16,
        "patch_size": 2, "zero_cond_t": true});
    let vae = json!({"_class_name": "AutoencoderKLQwenImage", "attn_scales": [], "base_dim": 96, "dim_mult": [1, 2, 4, 4], "dropout": 0.0,
        "num_res_blocks": 2, "temperal_downsample": [false, true, true], "z_dim": 16});
    let hub = Hub::default().with(
        id,
        &[
            ("model_index.json", text(&index)),
            ("text_encoder/config.json", text(&language["config"])),
            ("transformer/config.json", text(&transformer)),
            ("vae/config.json", text(&vae)),
        ],
    );
    let model = hub.open(id).unwrap();
    let hundredths = |parameters: u64, unit: u64| (parameters * 2 * 100 + unit / 2) / unit;
    let parts = parts(&model);
    assert_eq!(hundredths(parts["text_encoder"], 1 << 30), 1545);
    assert_eq!(hundredths(parts["transformer"], 1 << 30), 3805);
    assert_eq!(hundredths(parts["vae"], 1 << 20), 24_203);
    assert_eq!(hundredths(parts.values().sum(), 1 << 30), 5374);
}

#[test]
fn a_pipelines_files_are_read_part_by_part_and_run_in_stages() {
    let id = "stand-in/pipeline";
    let index = json!({"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"], "safety_checker": [null, null], "scheduler": ["diffusers", "PNDMScheduler"]});
    let clip = json!({"model_type": "clip_text_model", "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1,
        "vocab_size": 10, "max_position_embeddings": 3, "torch_dtype": "bfloat16"});
    let part = &vramfit::config::read(&clip.to_string()).unwrap().components[0];
    let inside = part.layers[0].tensors.iter().map(|tensor| (format!("{}.0.{}", part.layer_prefix, tensor.name), tensor.shape.as_slice()));
    let outside = part.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.as_slice()));
    let buffer = ("text_model.embeddings.position_ids".to_owned(), &[1, 3][..]);
    let encoder: Vec<(String, &[u64])> = inside.chain(outside).chain([buffer]).collect();
    let encoder: Vec<(&str, &[u64])> = encoder.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    let parameters = part.parameters().unwrap().get();
    let files = [
        ("model_index.json", text(&index)),
        ("text_encoder/config.json", text(&clip)),
        ("text_encoder/model.safetensors", weights(&encoder)),
        ("text_encoder/model.fp16.safetensors", weights(&encoder)),
        ("unet/config.json", text(&json!({"_class_name": "UNet2DConditionModel", "sample_size": 64}))),
        ("unet/diffusion_pytorch_model.safetensors", weights(&[("conv_in.weight", &[8, 4, 3, 3])])),
        ("vae/config.json", text(&json!({"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512]}))),
        ("vae/diffusion_pytorch_model.safetensors", weights(&[("decoder.conv_in.weight", &[100])])),
        ("v1-5.safetensors", weights(&[("all", &[1_000_000])])),
    ];
    let model = Hub::default().with(id, &files).open(id).unwrap();
    let stored = model.provenance.files.as_ref().unwrap();
    // Each part's own file; the buffer is left, the second copy and the single file are not read.
    assert_eq!(stored.count, 3);
    assert_eq!(stored.left.iter().map(|(tensor, _)| tensor.name.as_str()).collect::<Vec<_>>(), ["text_encoder/text_model.embeddings.position_ids"]);
    let by_part: Vec<(&str, u64)> = stored.by_part().unwrap().into_iter().map(|(part, bytes)| (part, bytes.get())).collect();
    assert_eq!(by_part, [("unet", 576), ("text_encoder", parameters * 2 + 6), ("vae", 200)]);

    let scenario = |picture| Scenario { runtime: Runtime::Transformers, batch: Some(2), picture, ..Scenario::default() };
    let ledger = |picture| estimate(&model, &scenario(picture)).unwrap().devices.swap_remove(0).ledger;
    let small = ledger(Picture::default());
    assert_eq!(small.stages, [Stage::Load, Stage::TextEncode, Stage::Denoise, Stage::VaeDecode]);
    let decoded = |ledger: &vramfit::estimate::Ledger| ledger.term_at(Term::VaeDecode, Stage::VaeDecode).unwrap().expected.get();
    // 512 × 512 by itself: two images of 1,024 values per pixel.
    assert_eq!(decoded(&small), 2 * 512 * 512 * 1024 * 2);
    assert_eq!(decoded(&ledger(Picture { size: Some((1024, 512)), ..Picture::default() })), 2 * decoded(&small));
    assert_eq!(small.term_at(Term::Weights, Stage::Denoise).unwrap().expected.get(), 576 + parameters * 2 + 200);
    // Weights that are missing for one part are not mixed with files of the others.
    let model = Hub::default().with(id, &files[..7]).open(id).unwrap();
    assert!(model.provenance.files.is_none() && model.provenance.notes[0].contains("vae"), "{:?}", model.provenance.notes);
}

fn llama() -> Vec<u8> {
    text(&json!({"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 10,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16"}))
}

#[test]
fn an_adapter_stands_beside_its_base() {
    let config = json!({"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 2, "target_modules": ["q_proj"], "revision": null});
    let base = [("config.json", llama())];
    let hub = Hub::default().with("org/base", &base).with("org/lora", &[("adapter_config.json", text(&config))]);
    let (plain, model) = (hub.open("org/base").unwrap(), hub.open("org/lora").unwrap());
    let adapter = model.anatomy.components.last().unwrap();
    assert_eq!((adapter.kind, adapter.parameters().unwrap().get()), (ComponentKind::Adapter, 2 * 2 * (8 + 8)));
    assert_eq!(model.provenance.id.as_deref(), Some("org/lora"));
    assert_eq!(model.anatomy.max_context, plain.anatomy.max_context);
    // PEFT keeps it in float32 beside a base in bfloat16.
    let loaded = |model: &Model| {
        let scenario = Scenario { runtime: Runtime::Transformers, ..Scenario::default() };
        estimate(model, &scenario).unwrap().devices[0].term_at(Term::Weights, Stage::Load).unwrap().expected.get()
    };
    assert_eq!(loaded(&model), loaded(&plain) + 64 * 4);

    // The file wins over the config, and a difference is said.
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let files = [("adapter_config.json", text(&config)), ("adapter_model.safetensors", weights(&[(name, &[2, 8])]))];
    let model = Hub::default().with("org/base", &base).with("org/lora", &files).open("org/lora").unwrap();
    assert_eq!(model.anatomy.components.last().unwrap().parameters().unwrap().get(), 16);
    assert!(model.provenance.notes.iter().any(|note| note.contains("describes 64 parameters") && note.contains("holds 16")), "{:?}", model.provenance.notes);

    let missing = |config: &Value| Hub::default().with("org/lora", &[("adapter_config.json", text(config))]).open("org/lora").unwrap_err().to_string();
    assert!(missing(&config).contains("`org/base`"));
    let mut itself = config.clone();
    itself["base_model_name_or_path"] = "org/lora".into();
    assert!(missing(&itself).contains("is an adapter too"));
    itself["base_model_name_or_path"] = "/home/someone/models/x y".into();
    assert!(missing(&itself).contains("no model on the Hub"), "{}", missing(&itself));
}

#[test]
fn sentence_transformers_have_dense_layers_behind_the_model() {
    let module = |number: u64, path: &str, class: &str| json!({"idx": number, "name": number.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")});
    let modules =
        json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Dense", "Dense"), module(3, "3_Normalize", "Normalize")]);
    let files = [
        ("modules.json", text(&modules)),
        ("config.json", llama()),
        ("sentence_bert_config.json", text(&json!({"max_seq_length": 256, "do_lower_case": false}))),
        ("1_Pooling/config.json", text(&json!({"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}))),
        ("2_Dense/config.json", text(&json!({"in_features": 8, "out_features": 5, "bias": true, "activation_function": "torch.nn.modules.linear.Identity"}))),
    ];
    let model = Hub::default().with("org/embed", &files).open("org/embed").unwrap();
    let plain = vramfit::config::read(std::str::from_utf8(&llama()).unwrap()).unwrap();
    assert_eq!(model.anatomy.parameters().unwrap().get(), plain.parameters().unwrap().get() + 5 * 8 + 5);
    assert_eq!(model.anatomy.max_context, Some(256));
    assert_eq!(model.anatomy.model_type, "llama");
    assert!(model.provenance.notes.iter().any(|note| note.contains("Transformer, Pooling, Dense, Normalize")));
    let lacking = Hub::default().with("org/embed", &[files[0].clone(), files[1].clone(), ("2_Dense/config.json", b"{}".to_vec())]).open("org/embed");
    assert!(lacking.unwrap_err().to_string().contains("2_Dense/config.json"));
}

/// Tensors by name and shape.
type Named = Vec<(String, Vec<u64>)>;

/// Tensors of a RoBERTa of two layers as this class writes them, and its config.
fn roberta(class: &str) -> (Named, Vec<u8>, vramfit::model::Anatomy) {
    let config = text(&json!({"model_type": "roberta", "architectures": [class], "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 34, "type_vocab_size": 1}));
    let anatomy = vramfit::config::read(std::str::from_utf8(&config).unwrap()).unwrap();
    let part = &anatomy.components[0];
    // `AutoModel` saves names below the prefix.
    let below = |name: &str| if class == "RobertaModel" { name.strip_prefix("roberta.").unwrap_or(name).to_owned() } else { name.to_owned() };
    let mut named: Named = part.tensors.iter().map(|tensor| (below(&tensor.name), tensor.shape.clone())).collect();
    let layers = part.layers.iter().flat_map(|run| (0..run.count).map(move |_| run));
    for (layer, run) in layers.enumerate() {
        named.extend(run.tensors.iter().map(|tensor| (below(&format!("{}.{layer}.{}", part.layer_prefix, tensor.name)), tensor.shape.clone())));
    }
    (named, config, anatomy)
}

/// A repository of sentence-transformers around a model.
fn embedder(config: Vec<u8>, named: &[(String, Vec<u64>)]) -> vramfit::model::Model {
    let file = weights(&named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect::<Vec<_>>());
    let modules =
        json!([{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]);
    Hub::default().with("org/embed", &[("modules.json", text(&modules)), ("config.json", config), ("model.safetensors", file)]).open("org/embed").unwrap()
}

#[test]
fn sentence_transformers_load_no_head_of_the_configs_class() {
    let (named, _, plain) = roberta("RobertaModel");
    let (_, config, _) = roberta("RobertaForMaskedLM");
    let model = embedder(config, &named);
    assert!(named.iter().any(|(name, _)| name == "pooler.dense.weight"));
    assert_eq!(model.anatomy.components, plain.components);
    assert!(!model.provenance.notes.iter().any(|note| note.contains("the files lack") || note.contains("not in the files")), "{:?}", model.provenance.notes);
    let found = model.provenance.files.unwrap();
    assert_eq!((found.left.len(), found.elements), (0, plain.parameters().unwrap()));
}

#[test]
fn sentence_transformers_leave_a_stored_head_and_make_a_pooler_that_is_not_stored() {
    let (named, config, headed) = roberta("RobertaForMaskedLM");
    let (_, _, plain) = roberta("RobertaModel");
    let model = embedder(config.clone(), &named);
    let notes = model.provenance.notes.join("\n");
    assert!(notes.contains("the files lack `roberta.pooler.dense.weight`, `roberta.pooler.dense.bias`"), "{notes}");
    let found = model.provenance.files.as_ref().unwrap();
    let elements = |tensors: &[(vramfit::model::Tensor, u64)]| tensors.iter().map(|(tensor, times)| tensor.elements().unwrap().get() * times).sum::<u64>();
    let (head, pooler) = (8 * 8 + 8 + 2 * 8 + 100, 8 * 8 + 8);
    assert_eq!(elements(&found.loaded), plain.parameters().unwrap().get());
    assert_eq!(elements(&found.left), head);
    assert_eq!(found.elements.get(), headed.parameters().unwrap().get());
    assert_eq!(found.elements.get(), plain.parameters().unwrap().get() - pooler + head);
    // Anything else that is missing is no matter of the class: then every stored tensor counts.
    let lacking: Vec<_> = named.iter().filter(|(name, _)| !name.contains("layer.1.output.dense")).cloned().collect();
    let model = embedder(config, &lacking);
    assert!(model.provenance.notes.iter().any(|note| note.contains("every stored tensor is counted")), "{:?}", model.provenance.notes);
    assert!(model.provenance.files.unwrap().left.is_empty());
}
