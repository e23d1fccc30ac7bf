//! Sizes of quantised models, against the tools that make them and against published files and logs.

use vramfit::checkpoint::safetensors::HeaderTensor;
use vramfit::checkpoint::{Header, match_inventory};
use vramfit::config;
use vramfit::encoding::Encoding;
use vramfit::estimate::Term;
use vramfit::memory::estimate;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::quantity::GIB;
use vramfit::scenario::{Scenario, Weights};
use vramfit::weights::{Unit, meant, stored};

/// Dimensions of published models.
mod shape {
    pub const LLAMA_31_8B: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16"}"#;
    pub const LLAMA_2_7B: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32000, "torch_dtype": "float16"}"#;
    pub const LLAMA_31_70B: &str = r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
        "num_hidden_layers": 80, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16"}"#;
    pub const LLAMA_32_1B: &str = r#"{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": true, "torch_dtype": "bfloat16"}"#;
    pub const QWEN_25_7B: &str = r#"{"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 152064, "torch_dtype": "bfloat16"}"#;
    pub const QWEN3_30B_A3B: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_attention_heads": 32, "head_dim": 128,
        "num_hidden_layers": 48, "num_key_value_heads": 4, "vocab_size": 151936, "torch_dtype": "bfloat16"}"#;
    pub const MIXTRAL_8X7B: &str = r#"{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "vocab_size": 32000, "torch_dtype": "bfloat16"}"#;
    pub const GEMMA_3_27B: &str = r#"{"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32, "head_dim": 128,
        "num_hidden_layers": 62, "num_key_value_heads": 16, "vocab_size": 262208, "sliding_window": 1024, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16"}"#;
}

fn model(config: &str) -> Model {
    let anatomy = config::read(config).expect("a config of the table");
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn bytes(model: &Model, format: &str, dtype: Encoding) -> u64 {
    let format: Weights = format.parse().expect("a format of the table");
    stored(model, format, dtype).unwrap().iter().map(|tensor| tensor.bytes().unwrap().get()).sum()
}

/// Tensor data that `llama-quantize --dry-run` reports without an importance matrix, in hundredths of a MiB (llama.cpp 0c1e57098, on
/// files of these shapes), for the models of [`DRY_RUN_MODELS`].
const DRY_RUNS: &[(&str, [u64; 8])] = &[
    ("q2_k_s", [284288, 221138, 2333077, 52150, 269711, 1002635, 1528857, 929917]),
    ("q2_k", [302438, 241482, 2514577, 54650, 287055, 1073135, 1650857, 1001087]),
    ("q3_k_s", [348727, 281102, 2947253, 60450, 332490, 1267099, 1948527, 1159768]),
    ("q3_k_m", [382527, 314452, 3267253, 65137, 362629, 1402462, 2150127, 1280887]),
    ("q3_k_l", [411427, 342977, 3541253, 69112, 389338, 1515837, 2304927, 1386347]),
    ("q4_0", [443780, 364787, 3811061, 72775, 422043, 1649715, 2521787, 1483997]),
    ("q4_1", [488512, 404168, 4225323, 78575, 464185, 1829770, 2797768, 1636575]),
    ("q4_k_s", [446780, 367737, 3847061, 73225, 424558, 1664165, 2550587, 1494169]),
    ("q4_k_m", [468530, 389124, 4054311, 76281, 446045, 1769134, 2712987, 1577389]),
    ("q5_0", [533243, 443549, 4639586, 84375, 506327, 2009825, 3073749, 1789153]),
    ("q5_1", [577974, 482930, 5053848, 90175, 548469, 2189879, 3349730, 1941731]),
    ("q5_k_s", [533243, 443549, 4639586, 84375, 506327, 2009825, 3073749, 1789153]),
    ("q5_k_m", [545993, 456087, 4762836, 86181, 518692, 2071344, 3168949, 1837264]),
    ("q6_k", [628297, 527234, 5519894, 96700, 595879, 2392441, 3660209, 2113382]),
    ("q8_0", [813764, 682864, 7149428, 125241, 771768, 3097340, 4732664, 2737180]),
    ("iq1_s", [191859, 145706, 1462519, 36785, 180980, 611357, 936597, 596779]),
    ("iq1_m", [205434, 157378, 1596769, 38698, 194191, 674469, 1034397, 647610]),
    ("iq2_xxs", [228059, 176831, 1820519, 41885, 216210, 779657, 1197397, 732328]),
    ("iq2_xs", [247759, 193994, 2015519, 44635, 234896, 865007, 1327797, 804171]),
    ("iq2_s", [262323, 209410, 2120445, 45860, 246971, 885121, 1347266, 836930]),
    ("iq2_m", [280423, 224973, 2299445, 48410, 264586, 969271, 1477666, 904704]),
    ("iq3_xxs", [322948, 257626, 2732695, 54485, 307534, 1187971, 1830666, 1066720]),
    ("iq3_xs", [334827, 266627, 2794253, 58487, 318556, 1200912, 1845327, 1102035]),
    ("iq3_s", [350427, 281102, 2947253, 60662, 333141, 1267737, 1948527, 1159768]),
    ("iq3_m", [360202, 296986, 3045003, 61937, 340277, 1288137, 2043727, 1195956]),
    ("iq4_xs", [426915, 347784, 3648930, 70625, 404772, 1578438, 2419796, 1419766]),
    ("iq4_nl", [448180, 366937, 3847061, 73375, 425083, 1664715, 2550587, 1493644]),
    ("tq1_0", [209780, 147662, 1516061, 40150, 203265, 647340, 973787, 625745]),
    ("tq2_0", [240980, 176612, 1822061, 44500, 232436, 780990, 1180187, 740178]),
    ("mxfp4_moe", [813764, 682864, 7149428, 125241, 771768, 1628540, 2447864, 2737180]),
    ("gguf-f16", [1531702, 1285302, 13457303, 235726, 1452627, 5825980, 8908102, 5151882]),
];

const DRY_RUN_MODELS: [&str; 8] = [
    shape::LLAMA_31_8B,
    shape::LLAMA_2_7B,
    shape::LLAMA_31_70B,
    shape::LLAMA_32_1B,
    shape::QWEN_25_7B,
    shape::QWEN3_30B_A3B,
    shape::MIXTRAL_8X7B,
    shape::GEMMA_3_27B,
];

#[test]
fn mixes_are_what_llama_quantize_makes() {
    let mut wrong = Vec::new();
    for (name, sizes) in DRY_RUNS {
        for (config, expected) in DRY_RUN_MODELS.iter().zip(sizes) {
            let model = model(config);
            // The report is rounded to hundredths of a MiB.
            let hundredths = (u128::from(bytes(&model, name, Encoding::BF16)) * 100 + (1 << 19)) >> 20;
            if hundredths.abs_diff(u128::from(*expected)) > 1 {
                wrong.push(format!("{name} of {}: {hundredths} for {expected}", &config[16..50]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Configs of published models, with the fields that matter.
const ORACLE: &str = include_str!("fixtures/oracle.jsonl");

/// The config of a published model, its quantisation replaced by `quantization` (none where that is empty).
fn published(id: &str, quantization: &str) -> String {
    let rows = ORACLE.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a row of JSON"));
    let mut config = rows.into_iter().find(|row| row["id"] == id).map(|mut row| row["config"].take()).unwrap_or_else(|| panic!("{id} is in the table"));
    let object = config.as_object_mut().unwrap();
    object.remove("quantization_config");
    if !quantization.is_empty() {
        object.insert("quantization_config".to_owned(), serde_json::from_str(quantization).expect("JSON"));
    }
    config.to_string()
}

const GB: u64 = 1_000_000_000;
const GPTQ: &str = r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true}"#;
const NF4_DQ: &str = r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true}"#;
const FP8: &str = r#"{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}"#;
const GPT_OSS: &str = r#"{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"]}"#;

/// (model, quantisation of its config, format asked for, size in thousandths of the unit, unit, where it was published)
type Size = (&'static str, &'static str, &'static str, u64, u64, &'static str);

/// Published sizes: of files, and of weights in memory as logs say them (ranks that hold equal parts added up).
const SIZES: &[Size] = &[
    ("deepseek-ai/DeepSeek-R1", "", "q8_0", 664_295, GIB, "llama.cpp log: file size 664.295 GiB (8.504 BPW), 671.026 B parameters"),
    ("deepseek-ai/DeepSeek-R1", "", "q4_k_m", 376_650, GIB, "llama.cpp log: file size 376.650 GiB (4.822 BPW)"),
    ("deepseek-ai/DeepSeek-V3", "", "q8_0", 665_308, GIB, "llama.cpp log (with the latent's projection twice): file size 665.308 GiB"),
    ("Qwen/Qwen3-235B-A22B", "", "q8_0", 232_769, GIB, "llama.cpp log: file size 232.769 GiB"),
    ("Qwen/Qwen3-235B-A22B", "", "q6_k", 179_754, GIB, "llama.cpp log: file size 179.754 GiB"),
    ("Qwen/Qwen3-235B-A22B", "", "q4_k_m", 132_386, GIB, "llama.cpp log: file size 132.386 GiB"),
    ("moonshotai/Kimi-K2-Instruct", "", "q8_0", 1_016_623, GIB, "llama.cpp log: file size 1016.623 GiB"),
    ("deepseek-ai/DeepSeek-V2-Lite", "", "q4_k_m", 9_649, GIB, "llama.cpp log of DeepSeek-Coder-V2-Lite: file size 9.649 GiB"),
    ("google/gemma-3-27b-it", "", "q4_0", 14_539, GIB, "llama.cpp log: file size 14.539 GiB, 27.009 B parameters"),
    ("Qwen/Qwen3.5-35B-A3B", "", "q8_0", 34_359, GIB, "llama.cpp log: model buffers 35183.09 MiB"),
    ("meta-llama/Llama-2-13b-hf", "", "q8_0", 12_881, GIB, "llama.cpp log: file size 12.881 GiB"),
    ("meta-llama/Meta-Llama-3.1-8B", "", "q4_0", 4_334, GIB, "llama.cpp log: model buffers 4437.80 MiB"),
    ("meta-llama/Meta-Llama-3.1-8B", "", "q4_k_m", 4_576, GIB, "llama.cpp log: model buffers 4685.30 MiB"),
    ("meta-llama/Llama-3.2-1B", "", "q4_k_m", 745, GIB, "llama.cpp log: file size 762.81 MiB"),
    ("Qwen/Qwen3-4B", "", "q6_k", 3_074, GIB, "llama.cpp log: model buffers 3147.42 MiB"),
    ("meta-llama/Llama-3.3-70B-Instruct", "", "q4_k_m", 42_520, GB, "published GGUF file: 42.5 GB"),
    ("TheBloke/Llama-2-7B-GPTQ", "", "q4_k_m", 4_080, GB, "published GGUF file: 4.08 GB"),
    ("TheBloke/Llama-2-7B-GPTQ", GPTQ, "as-stored", 3_900, GB, "published file: 3.90 GB"),
    ("TheBloke/Llama-2-7B-GPTQ", "", "gptq-int4", 3_900, GB, "published file: 3.90 GB"),
    ("TheBloke/Llama-2-7B-GPTQ", "", "awq-int4", 3_890, GB, "published file: 3.89 GB"),
    ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", NF4_DQ, "as-stored", 5_700, GB, "published file: 5.70 GB"),
    ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", NF4_DQ, "as-stored", 5_354, GIB, "vLLM 0.7.2 log: 5.3541 GiB"),
    ("openai/gpt-oss-20b", GPT_OSS, "as-stored", 12_800, GIB, "model card: 12.8 GiB"),
    ("openai/gpt-oss-20b", GPT_OSS, "as-stored", 12_870, GIB, "vLLM 0.29 log (XPU): 12.87 GiB"),
    ("Qwen/Qwen2.5-14B", "", "awq-int4", 9_380, GIB, "vLLM 0.13.0 log: 9.3795 GiB"),
    ("Qwen/Qwen2.5-32B", "", "fp8-dynamic", 32_199, GIB, "vLLM 0.11.0 log of a distilled model: 32.1993 GiB"),
    ("llava-hf/llava-1.5-7b-hf", "", "awq-int4", 4_253, GIB, "vLLM 0.10.2 log: 4.253 GiB"),
    ("microsoft/phi-4", "", "gptq-int4", 8_511, GIB, "vLLM 0.6 log of an AutoRound checkpoint: 8.5107 GiB"),
];

#[test]
fn sizes_are_within_a_hundredth_of_the_published_ones() {
    let mut wrong = Vec::new();
    for (id, quantization, format, thousandths, unit, source) in SIZES {
        let size = bytes(&model(&published(id, quantization)), format, Encoding::BF16);
        let published = thousandths * unit / 1000;
        if size.abs_diff(published) * 100 > published {
            wrong.push(format!("{id} {format}: {size} B for {published} B ({source})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// (model, quantisation of its config, format asked for, ranks, MiB of weights on each, where it was published)
const RANKS: &[(&str, &str, &str, u64, u64, &str)] = &[
    ("deepseek-ai/DeepSeek-R1", FP8, "as-stored", 8, 81_316, "vLLM log: 79.41 GiB"),
    ("deepseek-ai/DeepSeek-R1", "", "awq-int4", 16, 21_719, "vLLM log: 21.21 GiB"),
    ("Qwen/Qwen3-235B-A22B", "", "fp8-block", 8, 28_330, "vLLM 0.10.0 log: 27.6656 GiB"),
];

#[test]
fn ranks_hold_their_part_of_what_is_packed() {
    for (id, quantization, format, ranks, mib, source) in RANKS {
        let scenario = Scenario { gpus: Some(*ranks), weights: format.parse().unwrap(), ..Scenario::default() };
        let answer = estimate(&model(&published(id, quantization)), &scenario).unwrap();
        let size = answer.devices[0].entries.iter().find(|entry| entry.term == Term::Weights).unwrap().amount.expected.get();
        assert!(size.abs_diff(mib << 20) * 100 < mib << 20, "{id} {format}: {size} B ({source})");
    }
}

/// What a count of stored values takes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    All,
    WithoutScales,
    WithoutConstants,
}

/// Values in safetensors files as the Hub counts them: two 4-bit weights in one byte are one value.
fn stored_values(model: &Model, counted: Counted) -> u64 {
    let mut sum = 0;
    for tensor in stored(model, Weights::AsStored, Encoding::BF16).unwrap() {
        for piece in tensor.pieces().unwrap() {
            let bits = match piece.unit {
                Unit::Bits(bits) => bits.parts().0,
                Unit::Value(_) | Unit::Bytes(_) => 0,
            };
            sum += match piece.what {
                "parameters" => piece.count,
                "quantised weights" => piece.count * bits / 8,
                "scales" if counted == Counted::WithoutScales => 0,
                "scales" => piece.count,
                "constants per matrix" if counted == Counted::All => piece.count * bits / 32,
                "constants per matrix" => 0,
                other => panic!("{other} of {}", tensor.tensor.name),
            };
        }
    }
    sum
}

/// (model, its quantization_config with lists written shorter, what the Hub counts, what that takes in). A count of NVFP4 files
/// leaves the scales out in some repositories, and numbers without a dimension in all.
const COUNTS: &[(&str, &str, u64, Counted)] = &[
    ("Qwen/Qwen3-8B-FP8", FP8, 8_191_159_296, Counted::All),
    (
        "Qwen/Qwen3-30B-A3B-FP8",
        r#"{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate", "model.layers.0.input_layernorm", "mlp.gate"]}"#,
        30_533_947_392,
        Counted::All,
    ),
    (
        "ibm-granite/granite-3.3-8b-instruct-FP8",
        r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true, "group_size": null, "block_structure": null}}}}"#,
        8_172_462_080,
        Counted::All,
    ),
    (
        "mistralai/Devstral-Small-2-24B-Instruct-2512",
        r#"{"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": null,
            "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"]}"#,
        24_011_361_840,
        Counted::All,
    ),
    (
        "nvidia/MiniMax-M2.5-NVFP4",
        r#"{"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "*.block_sparse_moe.gate", "*.self_attn*"], "config_groups": {"group_0": {
            "weights": {"dynamic": false, "num_bits": 4, "type": "float", "group_size": 16}, "targets": ["Linear"]}}}"#,
        116_349_510_656,
        Counted::WithoutScales,
    ),
    (
        "nvidia/GLM-5.1-NVFP4",
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head", "model.layers.0*",
            "model.layers.1.*", "model.layers.2.*", "*.mlp.shared_experts*", "*.self_attn*"]}}"#,
        381_523_333_632,
        Counted::WithoutScales,
    ),
    (
        "nvidia/Qwen3-235B-A22B-NVFP4",
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["*.mlp.gate", "lm_head"]}}"#,
        132_806_618_624,
        Counted::WithoutConstants,
    ),
    (
        "nvidia/Qwen3.6-27B-NVFP4",
        r#"{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "ignore": ["mtp*"], "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "float"}, "targets": ["re:.*linear_attn\\.(in_proj_qkv|in_proj_z|out_proj)$",
                "re:model\\.language_model\\..*self_attn\\.[qkvo]_proj"]},
            "group_1": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["lm_head", "re:model.language_model.*mlp\\..*_proj"]}}}"#,
        18_164_649_200,
        Counted::WithoutScales,
    ),
];

#[test]
fn stored_values_are_those_that_the_hub_counts() {
    for (id, quantization, count, counted) in COUNTS {
        let model = model(&published(id, quantization));
        assert_eq!(stored_values(&model, *counted), *count, "{id}");
    }
}

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

/// A header with the tensors that GPTQ's packing writes for a model, and the rest in 16 bits.
fn gptq_header(model: &Model) -> Header {
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
                let (outputs, inputs) = (item.tensor.shape[0], item.tensor.shape[1]);
                add(format!("{module}.qweight"), "I32", vec![inputs / 8, outputs]);
                add(format!("{module}.qzeros"), "I32", vec![inputs / 128, outputs / 8]);
                add(format!("{module}.scales"), "F16", vec![inputs / 128, outputs]);
                add(format!("{module}.g_idx"), "I32", vec![inputs]);
            } else {
                add(format!("{module}.weight"), "F16", item.tensor.shape.clone());
            }
        }
    }
    Header { tensors, metadata: Vec::new() }
}

#[test]
fn packed_files_are_counted_as_what_they_hold_and_as_what_they_take() {
    let from_config = model(&published("TheBloke/Llama-2-7B-GPTQ", GPTQ));
    let matched = match_inventory(&from_config.anatomy, [gptq_header(&from_config)].iter()).unwrap();
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
