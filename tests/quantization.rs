//! Sizes of quantised models to the byte; packed files; which format is meant where nobody says one.

mod common;

use common::model;
use common::quantized::{bytes, published};
use vramfit::checkpoint::safetensors::HeaderTensor;
use vramfit::checkpoint::{Header, match_inventory};
use vramfit::encoding::Encoding;
use vramfit::model::Model;
use vramfit::scenario::Weights;
use vramfit::weights::meant;

const GPTQ: &str = r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true}"#;
const NF4_DQ: &str = r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true}"#;
const FP8: &str = r#"{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}"#;
const GPT_OSS: &str = r#"{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"]}"#;

/// Sizes that follow from the formats' own sources, to the byte.
#[test]
fn worked_examples_are_met_to_the_byte() {
    let mut larger: serde_json::Value = serde_json::from_str(&published("openai/gpt-oss-20b", GPT_OSS)).unwrap();
    larger["num_hidden_layers"] = 36.into();
    larger["num_local_experts"] = 128.into();
    larger["layer_types"] = vec!["full_attention"; 36].into();
    let gpt_oss_120b = larger.to_string();
    // Without bitsandbytes' tables of codes, 64 bytes of each of the 224 matrices (and 1 KiB more for the scales' codes).
    let llama = published("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", NF4_DQ);
    let rest = 2_101_878_784;
    for (config, format, size) in [
        (published("TheBloke/Llama-2-7B-GPTQ", GPTQ), "as-stored", 3_893_862_400),
        (published("TheBloke/Llama-2-7B-GPTQ", ""), "awq-int4", 3_889_307_648),
        (published("openai/gpt-oss-20b", GPT_OSS), "as-stored", 13_761_264_768),
        (gpt_oss_120b, "as-stored", 65_248_815_744),
        (llama.clone(), "nf4", 3_925_868_544 + 224 * 64 + rest),
        (llama.clone(), "as-stored", 3_600_417_664 + 224 * (64 + 1024) + rest),
        (llama, "int8", 6_984_826_880 + rest),
        // Less the float32 of the routers' corrections of 58 layers, which transformers keeps.
        (published("deepseek-ai/DeepSeek-V3", FP8), "as-stored", 673_150_611_808 - 58 * 256 * 4),
    ] {
        assert_eq!(bytes(&model(&config), format, Encoding::BF16), size, "{format}");
    }
}

/// A tensor of a packed matrix: what it is, its dtype, its shape.
type Part = (&'static str, &'static str, Vec<u64>);

/// A header with the tensors that a method writes for each matrix of a model's layers (outputs, inputs), and the rest in 16 bits.
fn header(model: &Model, packed: impl Fn(u64, u64) -> Vec<Part>) -> Header {
    let mut tensors: Vec<HeaderTensor> = Vec::new();
    let mut add = |name: String, dtype: &str, shape: Vec<u64>| {
        let encoding = Encoding::from_safetensors(dtype).unwrap();
        let begin = tensors.last().map_or(0, |last| last.end);
        let end = begin + encoding.bytes_for(shape.iter().product()).unwrap().get();
        tensors.push(HeaderTensor { name, encoding, shape, begin, end });
    };
    for item in model.anatomy.inventory() {
        for layer in item.layers.clone() {
            let module = item.module(layer);
            if item.is_in_layer() && item.tensor.shape.len() == 2 {
                for (leaf, dtype, shape) in packed(item.tensor.shape[0], item.tensor.shape[1]) {
                    add(format!("{module}.{leaf}"), dtype, shape);
                }
            } else {
                add(format!("{module}.weight"), "F16", item.tensor.shape.clone());
            }
        }
    }
    Header { tensors, metadata: Vec::new() }
}

fn gptq(outputs: u64, inputs: u64) -> Vec<Part> {
    vec![
        ("qweight", "I32", vec![inputs / 8, outputs]),
        ("qzeros", "I32", vec![inputs / 128, outputs / 8]),
        ("scales", "F16", vec![inputs / 128, outputs]),
        ("g_idx", "I32", vec![inputs]),
    ]
}

/// Tensors of a matrix as each method names and shapes them, and what they are recognised as.
#[allow(clippy::type_complexity)]
const WRITTEN: &[(&str, &str, fn(u64, u64) -> Vec<Part>)] = &[
    ("gptq", "GPTQ, 4 bits, groups of 128", gptq),
    ("gptq", "GPTQ, 8 bits, one scale per output", |o, i| {
        vec![("qweight", "I32", vec![i / 4, o]), ("qzeros", "I32", vec![1, o / 4]), ("scales", "F16", vec![1, o]), ("g_idx", "I32", vec![i])]
    }),
    ("gptq", "GPTQ, 3 bits, groups of 64", |o, i| {
        vec![
            ("qweight", "I32", vec![i * 3 / 32, o]),
            ("qzeros", "I32", vec![i / 64, o * 3 / 32]),
            ("scales", "F16", vec![i / 64, o]),
            ("g_idx", "I32", vec![i]),
        ]
    }),
    ("awq", "AWQ, 4 bits, groups of 64", |o, i| {
        vec![("qweight", "I32", vec![i, o / 8]), ("qzeros", "I32", vec![i / 64, o / 8]), ("scales", "F16", vec![i / 64, o])]
    }),
    ("auto-round", "AutoRound, 2 bits, groups of 32", |o, i| {
        vec![("qweight", "I32", vec![i / 16, o]), ("qzeros", "I32", vec![i / 32, o / 16]), ("scales", "F16", vec![i / 32, o])]
    }),
    ("bitsandbytes", "NF4, 4 bits, blocks of 64, double quantisation", |o, i| {
        vec![
            ("weight", "U8", vec![o * i / 2, 1]),
            ("weight.absmax", "U8", vec![o * i / 64]),
            ("weight.quant_map", "F32", vec![16]),
            ("weight.nested_absmax", "F32", vec![o * i / 64 / 256]),
            ("weight.nested_quant_map", "F32", vec![256]),
            ("weight.quant_state.bitsandbytes__nf4", "U8", vec![90]),
        ]
    }),
    ("bitsandbytes", "FP4, 4 bits, blocks of 64", |o, i| {
        vec![
            ("weight", "U8", vec![o * i / 2, 1]),
            ("weight.absmax", "F32", vec![o * i / 64]),
            ("weight.quant_map", "F32", vec![16]),
            ("weight.quant_state.bitsandbytes__fp4", "U8", vec![80]),
        ]
    }),
    ("bitsandbytes", "LLM.int8(), 8 bits, one scale per output", |o, i| {
        vec![("weight", "I8", vec![o, i]), ("SCB", "F32", vec![o]), ("weight_format", "U8", vec![])]
    }),
    ("compressed-tensors", "compressed-tensors, 4 bits, groups of 128", |o, i| {
        vec![("weight_packed", "I32", vec![o, i / 8]), ("weight_scale", "BF16", vec![o, i / 128]), ("weight_shape", "I64", vec![2])]
    }),
    ("compressed-tensors", "compressed-tensors, 8 bits, one scale per output", |o, i| vec![("weight", "I8", vec![o, i]), ("weight_scale", "BF16", vec![o, 1])]),
    ("compressed-tensors", "FP8, 8 bits, one scale per output", |o, i| vec![("weight", "F8_E4M3", vec![o, i]), ("weight_scale", "BF16", vec![o, 1])]),
    ("compressed-tensors", "NVFP4, 4 bits, groups of 16", |o, i| {
        vec![("weight_packed", "U8", vec![o, i / 2]), ("weight_scale", "F8_E4M3", vec![o, i / 16]), ("weight_global_scale", "F32", vec![1])]
    }),
    ("compressed-tensors", "MXFP, 4 bits, groups of 32", |o, i| vec![("weight_packed", "U8", vec![o, i / 2]), ("weight_scale", "U8", vec![o, i / 32])]),
    ("modelopt", "NVFP4, 4 bits, groups of 16", |o, i| {
        vec![("weight", "U8", vec![o, i / 2]), ("weight_scale", "F8_E4M3", vec![o, i / 16]), ("weight_scale_2", "F32", vec![]), ("input_scale", "F32", vec![])]
    }),
    ("fp8", "FP8, 8 bits, blocks of 128 × 128", |o, i| {
        vec![("weight", "F8_E4M3", vec![o, i]), ("weight_scale_inv", "F32", vec![o.div_ceil(128), i.div_ceil(128)])]
    }),
    ("fp8", "FP8, 8 bits", |o, i| vec![("weight", "F8_E4M3", vec![o, i]), ("weight_scale", "F32", vec![])]),
    ("mlx", "MLX, 4 bits, groups of 64", |o, i| {
        vec![("weight", "U32", vec![o, i / 8]), ("scales", "BF16", vec![o, i / 64]), ("biases", "BF16", vec![o, i / 64])]
    }),
    ("mlx", "MLX MXFP, 4 bits, groups of 32", |o, i| vec![("weight", "U32", vec![o, i / 8]), ("scales", "U8", vec![o, i / 32])]),
    ("exl3", "EXL3, 3 bits", |o, i| vec![("trellis", "I16", vec![i / 16, o / 16, 48]), ("suh", "F16", vec![i]), ("svh", "F16", vec![o])]),
    ("hqq", "HQQ, 4 bits, blocks of 64", |o, i| {
        vec![("W_q", "U8", vec![o * i / 64 / 2, 64]), ("scale", "F16", vec![o * i / 64, 1]), ("zero", "F16", vec![o * i / 64, 1])]
    }),
    ("aqlm", "AQLM, 2 bits", |o, i| {
        vec![("codes", "I16", vec![o, i / 8, 1]), ("codebooks", "F16", vec![1, 1 << 16, 1, 8]), ("scales", "F16", vec![o, 1, 1, 1])]
    }),
];

/// A file says how it is quantised where its config does not: every tensor is loaded, with the bytes that it has.
#[test]
fn headers_tell_the_quantisation_that_a_config_leaves_out() {
    for (method, said, packed) in WRITTEN {
        let mut model = model(&published("TheBloke/Llama-2-7B-GPTQ", ""));
        let matched = match_inventory(&model.anatomy, [header(&model, packed)].iter()).unwrap();
        assert_eq!(matched.notes, [""; 0], "{said}");
        vramfit::config::quantization_of_files(&mut model.anatomy, &matched.files);
        let quantization = model.anatomy.quantization.as_ref().unwrap_or_else(|| panic!("{said} is not recognised"));
        let found = quantization.schemes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((quantization.method.as_str(), found.join("; ").as_str()), (*method, *said));
        assert!(model.anatomy.assumptions.last().unwrap().ends_with(said));
        assert!(!quantization.assigned.is_empty());
        let size = matched.files.bytes.get();
        model.provenance.files = Some(matched.files);
        // Only plain float tensors are cast, and those are in 16 bits here.
        assert_eq!(bytes(&model, "as-stored", Encoding::F16), size, "{said}");
    }
    // What is plain, is; and a config that says something is believed.
    let mut plain = model(&published("TheBloke/Llama-2-7B-GPTQ", ""));
    let in_16_bits = header(&plain, |outputs, inputs| vec![("weight", "F16", vec![outputs, inputs])]);
    let files = match_inventory(&plain.anatomy, [in_16_bits].iter()).unwrap().files;
    vramfit::config::quantization_of_files(&mut plain.anatomy, &files);
    assert!(plain.anatomy.quantization.is_none());
    let mut said = model(&published("TheBloke/Llama-2-7B-GPTQ", NF4_DQ));
    let files = match_inventory(&said.anatomy, [header(&said, gptq)].iter()).unwrap().files;
    vramfit::config::quantization_of_files(&mut said.anatomy, &files);
    assert_eq!(said.anatomy.quantization.unwrap().method, "bitsandbytes");
}

#[test]
fn packed_files_are_counted_as_what_they_hold_and_as_what_they_take() {
    let from_config = model(&published("TheBloke/Llama-2-7B-GPTQ", GPTQ));
    let matched = match_inventory(&from_config.anatomy, [header(&from_config, gptq)].iter()).unwrap();
    assert_eq!(matched.notes, [""; 0]);
    let mut from_files = from_config.clone();
    from_files.provenance.files = Some(matched.files);
    let files = from_files.provenance.files.as_ref().unwrap();
    assert_eq!(from_files.anatomy.parameters().unwrap().get(), 6_738_415_616);
    assert_eq!((files.bytes.get(), files.elements.get()), (3_893_862_400, 262_410_240 + 6_476_005_376 / 8 + 50_593_792 / 8 + 50_593_792 + 1_138_688));
    // The config's rule, the files' offsets; and what the model would take in other formats, however it is stored.
    assert_eq!(bytes(&from_files, "as-stored", Encoding::F16), bytes(&from_config, "as-stored", Encoding::F16));
    for format in ["bf16", "q4_k_m", "nf4", "awq-int4", "bytes-0.5"] {
        assert_eq!(bytes(&from_files, format, Encoding::F16), bytes(&from_config, format, Encoding::F16), "{format}");
    }
    assert_eq!(bytes(&from_files, "bf16", Encoding::F16), 2 * 6_738_415_616);
    assert_eq!(bytes(&from_files, "bytes-0.5", Encoding::F16), 6_738_415_616 / 2);
}

#[test]
fn as_stored_is_what_files_config_name_and_dtype_say_in_this_order() {
    let config = published("TheBloke/Llama-2-7B-GPTQ", "");
    let named = |id: &str, quantization: &str| {
        let mut model = model(&published("TheBloke/Llama-2-7B-GPTQ", quantization));
        model.provenance.id = Some(id.to_owned());
        let (format, reason) = meant(&model, Weights::AsStored);
        (format.name().into_owned(), reason.unwrap())
    };
    let awq = named("org/Llama-2-7B-AWQ", "");
    assert_eq!((awq.0.as_str(), awq.1.contains("`awq`")), ("awq-int4", true));
    let said = named("org/Llama-2-7B-AWQ", GPTQ);
    assert_eq!((said.0.as_str(), said.1.as_str()), ("as-stored", "config.json says GPTQ, 4 bits, groups of 128"));
    assert_eq!(named("org/Llama-2-7B", "").1, "the dtype of config.json: fp16");
    let mut silent: serde_json::Value = serde_json::from_str(&config).unwrap();
    silent.as_object_mut().unwrap().retain(|key, _| !key.contains("dtype"));
    assert!(meant(&model(&silent.to_string()), Weights::AsStored).1.unwrap().starts_with("bf16"));
    // What one asks for is not argued with.
    assert_eq!(meant(&model(&config), Weights::Bytes(vramfit::quantity::Decimal::new(5, 1))).1, None);
}
