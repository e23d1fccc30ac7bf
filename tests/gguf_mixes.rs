//! Sizes of GGUF files before they exist, against `llama-quantize` itself, published files and llama.cpp's logs.

#![allow(clippy::unreadable_literal)] // a table as the tool prints it

mod common;

use common::model;
use common::quantized::{GB, Size, bytes, further_than};
use vramfit::encoding::Encoding;
use vramfit::quantity::GIB;

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

/// Published sizes of files and of weights in memory.
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
];

#[test]
fn sizes_are_within_half_a_hundredth_of_the_published_ones() {
    let wrong = further_than(5, SIZES);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
