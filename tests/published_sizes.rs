//! Sizes of models in other formats than GGUF, against published files, logs and the Hub's counts.

mod common;

use common::model;
use common::quantized::{GB, Size, bytes, further_than, published};
use vramfit::encoding::Encoding;
use vramfit::estimate::Term;
use vramfit::memory::estimate;
use vramfit::model::Model;
use vramfit::quantity::GIB;
use vramfit::scenario::{Scenario, Weights};
use vramfit::weights::{Piece, Unit, stored};

const NF4_DQ: &str = r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true}"#;
const FP8: &str = r#"{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}"#;
const GPT_OSS: &str = r#"{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"]}"#;
const AQLM_2X8: &str = r#"{"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 2, "nbits_per_codebook": 8}"#;
const AQLM_1X8: &str = r#"{"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1, "nbits_per_codebook": 8}"#;
const HQQ_ZERO: &str = r#"{"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64},
    "scale_quant_params": null, "zero_quant_params": {"nbits": 8, "group_size": 128}}}"#;
const HQQ_BOTH: &str = r#"{"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 2, "group_size": 16},
    "scale_quant_params": {"nbits": 8, "group_size": 128}, "zero_quant_params": {"nbits": 8, "group_size": 128}}}"#;

/// A config of torchao for every linear layer, the head among them.
macro_rules! torchao {
    ($kind:literal) => {
        concat!(
            r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {"_default": "#,
            $kind,
            r#", "lm_head": "#,
            $kind,
            "}}}}}"
        )
    };
}
const TORCHAO_INT8: &str = torchao!(r#"{"_type": "Int8WeightOnlyConfig", "_data": {}}"#);
const TORCHAO_INT4: &str = torchao!(r#"{"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}"#);
const TORCHAO_FP8: &str = torchao!(r#"{"_type": "Float8WeightOnlyConfig", "_data": {}}"#);

/// A config of GPTQ with so many bits and a group of so many inputs (-1: whole rows).
macro_rules! gptq {
    ($bits:literal, $group:literal) => {
        concat!(r#"{"quant_method": "gptq", "bits": "#, $bits, r#", "group_size": "#, $group, "}")
    };
}

/// A config of VPTQ: vectors of so many values, an index into so many centroids and one into those of the rest (-1: none).
macro_rules! vptq {
    ($length:literal, $centroids:literal, $rest:literal) => {
        concat!(
            r#"{"quant_method": "vptq", "shared_layer_config": {"each": {"vector_lens": [-1, "#,
            $length,
            r#"], "num_centroids": [-1, "#,
            $centroids,
            r#"], "num_res_centroids": [-1, "#,
            $rest,
            "]}}}"
        )
    };
}
const HIGGS_4: &str = r#"{"quant_method": "higgs", "bits": 4, "p": 2, "group_size": 256, "hadamard_size": 512, "modules_to_not_convert": ["lm_head"]}"#;
const HIGGS_3: &str = r#"{"quant_method": "higgs", "bits": 3, "p": 2, "group_size": 256, "hadamard_size": 1024, "modules_to_not_convert": ["lm_head"]}"#;

const LLAMA_2_7B: &str = "TheBloke/Llama-2-7B-GPTQ";
const LLAMA_2_13B: &str = "meta-llama/Llama-2-13b-hf";
const LLAMA_31_8B: &str = "meta-llama/Meta-Llama-3.1-8B";
const LLAMA_3_70B: &str = "meta-llama/Meta-Llama-3-70B";
const MISTRAL_7B: &str = "mistralai/Mistral-7B-v0.1";

/// Published sizes: of files (shards added up), and of weights in memory as logs say them.
const SIZES: &[Size] = &[
    // GPTQ: model cards' tables of branches, and sizes of single files on the Hub.
    (LLAMA_2_7B, gptq!(4, 128), "as-stored", 3_900, GB, "TheBloke/Llama-2-7B-GPTQ: 3.90 GB"),
    (LLAMA_2_7B, "", "gptq-int4", 3_900, GB, "the same, asked for"),
    (LLAMA_2_7B, gptq!(4, 64), "as-stored", 4_020, GB, "TheBloke/Llama-2-7B-32K-Instruct-GPTQ gptq-4bit-64g-actorder_True: 4.02 GB"),
    (LLAMA_2_7B, gptq!(8, -1), "as-stored", 7_010, GB, "the same, gptq-8bit--1g-actorder_True: 7.01 GB"),
    (LLAMA_2_7B, gptq!(8, 128), "as-stored", 7_160, GB, "the same, gptq-8bit-128g-actorder_True: 7.16 GB"),
    (LLAMA_2_7B, "", "gptq-int8", 7_160, GB, "the same, asked for"),
    (LLAMA_2_7B, gptq!(8, 64), "as-stored", 7_310, GB, "TheBloke/LLaMa-7B-GPTQ gptq_model-8bit-64g.safetensors: 7.31 GB"),
    (LLAMA_2_13B, gptq!(4, 128), "as-stored", 7_260, GB, "TheBloke/Llama-2-13B-GPTQ: 7.26 GB"),
    (LLAMA_2_13B, gptq!(4, 64), "as-stored", 7_510, GB, "the same, gptq-4bit-64g-actorder_True: 7.51 GB"),
    (LLAMA_2_13B, gptq!(4, 32), "as-stored", 8_000, GB, "the same, gptq-4bit-32g-actorder_True: 8.00 GB"),
    (LLAMA_2_13B, gptq!(8, -1), "as-stored", 13_360, GB, "TheBloke/MythoMax-L2-13B-GPTQ gptq-8bit--1g-actorder_True: 13.36 GB"),
    (LLAMA_2_13B, gptq!(8, 128), "as-stored", 13_650, GB, "the same, gptq-8bit-128g-actorder_True: 13.65 GB"),
    ("LLaMA-33B", gptq!(4, -1), "as-stored", 16_900, GB, "TheBloke/LLaMa-30B-GPTQ gptq_model-4bit--1g.safetensors: 16.9 GB"),
    ("LLaMA-65B", gptq!(3, -1), "as-stored", 25_400, GB, "TheBloke/LLaMa-65B-GPTQ gptq_model-3bit--1g.safetensors: 25.4 GB"),
    ("LLaMA-65B", gptq!(3, 128), "as-stored", 26_600, GB, "the same, gptq_model-3bit-128g.safetensors: 26.6 GB"),
    ("LLaMA-65B", gptq!(4, 32), "as-stored", 38_500, GB, "the same, gptq_model-4bit-32g.safetensors: 38.5 GB"),
    ("Llama-2-70B", gptq!(3, -1), "as-stored", 26_800, GB, "TheBloke/Llama-2-70B-Chat-GPTQ gptq_model-3bit--1g.safetensors: 26.8 GB"),
    ("Llama-2-70B", gptq!(4, -1), "as-stored", 35_300, GB, "TheBloke/Llama-2-70B-GPTQ gptq_model-4bit--1g.safetensors: 35.3 GB"),
    ("microsoft/phi-4", "", "gptq-int4", 8_511, GIB, "vLLM 0.6 log of an AutoRound checkpoint: 8.5107 GiB"),
    // AWQ
    (LLAMA_2_7B, "", "awq-int4", 3_889, GB, "TheBloke/LLaMa-7b-AWQ model.safetensors: 3,889,307,648 B of tensors"),
    (LLAMA_2_13B, "", "awq-int4", 7_250, GB, "TheBloke/Llama-2-13B-chat-AWQ: 7.25 GB"),
    ("Llama-2-70B", "", "awq-int4", 36_610, GB, "TheBloke/Llama-2-70B-AWQ: 36.61 GB"),
    (MISTRAL_7B, "", "awq-int4", 4_150, GB, "TheBloke/Mistral-7B-v0.1-AWQ model.safetensors: 4.15 GB"),
    ("Qwen/Qwen2.5-14B", "", "awq-int4", 9_380, GIB, "vLLM 0.13.0 log: 9.3795 GiB"),
    ("llava-hf/llava-1.5-7b-hf", "", "awq-int4", 4_253, GIB, "vLLM 0.10.2 log: 4.253 GiB"),
    // bitsandbytes
    ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", NF4_DQ, "as-stored", 5_700, GB, "published file: 5.70 GB"),
    ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", NF4_DQ, "as-stored", 5_354, GIB, "vLLM 0.7.2 log: 5.3541 GiB"),
    (MISTRAL_7B, "", "nf4-dq", 4_130, GB, "models trained from unsloth/mistral-7b-bnb-4bit, model.safetensors: 4.13 GB"),
    // HQQ
    (LLAMA_2_7B, HQQ_ZERO, "as-stored", 4_070, GB, "mobiuslabsgmbh/Llama-2-7b-hf-4bit_g64-HQQ qmodel.pt: 4.07 GB"),
    ("Llama-2-70B", HQQ_BOTH, "as-stored", 26_900, GB, "mobiuslabsgmbh/Llama-2-70b-hf-2bit_g16_s128-HQQ qmodel.pt: 26.9 GB"),
    (LLAMA_31_8B, "", "hqq-2bit", 4_283, GB, "mobiuslabsgmbh/Llama-3-8b-instruct_2bitgs64_hqq qmodel.pt: 4,283,158,405 B"),
    (LLAMA_3_70B, "", "hqq-4bit", 42_700, GB, "mobiuslabsgmbh/Llama-3.1-70b-instruct_4bitgs64_hqq qmodel.pt: 42.7 GB"),
    // compressed-tensors, FP8, MXFP4
    (LLAMA_31_8B, "", "w8a8-int8", 9_080, GB, "neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w8a8: 5 + 4.08 GB"),
    ("Qwen/Qwen2.5-32B", "", "fp8-dynamic", 32_199, GIB, "vLLM 0.11.0 log of a distilled model: 32.1993 GiB"),
    ("openai/gpt-oss-20b", GPT_OSS, "as-stored", 12_800, GIB, "model card: 12.8 GiB"),
    ("openai/gpt-oss-20b", GPT_OSS, "as-stored", 12_870, GIB, "vLLM 0.29 log (XPU): 12.87 GiB"),
    // TorchAO: the table of its README counts all but the embedding of 1.051 GB.
    (LLAMA_31_8B, TORCHAO_INT8, "as-stored", 7_520 + 1_051, GB, "torchao README, Llama-3-8B int8wo: 7.52 GB"),
    (LLAMA_31_8B, TORCHAO_INT4, "as-stored", 4_220 + 1_051, GB, "the same, int4wo-64: 4.22 GB"),
    (LLAMA_31_8B, TORCHAO_FP8, "as-stored", 7_510 + 1_051, GB, "the same, float8wo: 7.51 GB"),
    // MLX
    ("Qwen/Qwen2.5-32B", "", "mlx-4bit", 18_440, GB, "moot20/s1-32B-MLX-4bits: 5.37 + 5.34 + 5.37 + 2.36 GB"),
    ("Qwen/Qwen2.5-32B", "", "mlx-8bit", 34_790, GB, "moot20/s1-32B-MLX-8bits: 5.34 + 5.36 + 5.36 + 5.33 + 5.36 + 5.36 + 2.68 GB"),
    // AQLM: the table of its README, where that has three digits.
    ("Llama-2-70B", "", "aqlm-2bit", 18_800, GB, "AQLM README, Llama-2-70b 1x16: 18.8 GB"),
    ("Llama-2-70B", AQLM_2X8, "as-stored", 18_200, GB, "the same, 2x8: 18.2 GB"),
    (LLAMA_3_70B, "", "aqlm-2bit", 21_900, GB, "the same, Llama-3-70b 1x16: 21.9 GB"),
    (MISTRAL_7B, "", "aqlm-2bit", 2_510, GB, "the same, Mistral-7B-v0.1 1x16g8: 2.51 GB"),
    (LLAMA_2_7B, AQLM_1X8, "as-stored", 1_340, GB, "the same, Llama-2-7b 1x8g8: 1.34 GB"),
    // VPTQ and HIGGS: shards of repositories as their pages list them.
    (LLAMA_31_8B, vptq!(8, 65536, 256), "as-stored", 4_960, GB, "VPTQ-community/Meta-Llama-3.1-8B-Instruct-v8-k65536-256-woft: 4.96 GB"),
    (LLAMA_31_8B, vptq!(8, 65536, 4096), "as-stored", 5_410, GB, "the same, k65536-4096: 4.36 + 1.05 GB"),
    (LLAMA_31_8B, vptq!(8, 65536, 65536), "as-stored", 6_070, GB, "the same, k65536-65536: 4.99 + 1.08 GB"),
    (LLAMA_31_8B, vptq!(6, 4096, 4096), "as-stored", 5_620, GB, "VPTQ-community/Meta-Llama-3-8B-v6-k4096-4096-woft: 4.57 + 1.05 GB"),
    (LLAMA_31_8B, HIGGS_4, "as-stored", 5_650, GB, "ISTA-DASLab/Llama-3.1-8B-Instruct-HIGGS-4bit: 4.6 + 1.05 GB"),
    (LLAMA_3_70B, HIGGS_4, "as-stored", 38_990, GB, "ISTA-DASLab/Llama-3.1-70B-Instruct-HIGGS-4bit: 4.92 + 4.9 + 4.98 + 4.9 + 4.9 + 4.98 + 4.9 + 4.51 GB"),
    (LLAMA_3_70B, HIGGS_3, "as-stored", 30_400, GB, "ISTA-DASLab/Llama-3.1-70B-Instruct-HIGGS-3bit: 4.97 + 4 x 4.91 + 3.69 + 2.1 GB"),
    // Quanto
    (LLAMA_31_8B, "", "quanto-int2", 4_060, GB, "gurro/llama-3.1-8B-quanto-int2 model.safetensors: 4.06 GB"),
    // What llama.cpp's converter makes of stored MXFP4: the experts stay, the rest is 16 bits.
    ("openai/gpt-oss-20b", GPT_OSS, "gguf-bf16", 13_800, GB, "unsloth/gpt-oss-20b-GGUF gpt-oss-20b-F16.gguf: 13.8 GB"),
    // And so in quantised files: "Q6_K with all FFN kept at MXFP4_MOE".
    ("openai/gpt-oss-20b", GPT_OSS, "q6_k", 12_040, GB, "bartowski/openai_gpt-oss-20b-GGUF openai_gpt-oss-20b-Q6_K.gguf: 12.04 GB"),
    ("openai/gpt-oss-20b", GPT_OSS, "mxfp4_moe", 12_100, GB, "the same, openai_gpt-oss-20b-MXFP4.gguf: 12.1 GB"),
    // EXL2
    (MISTRAL_7B, "", "exl2-3", 2_990, GB, "turboderp/Mistral-7B-instruct-exl2 3.0bpw output.safetensors: 2.99 GB"),
    (MISTRAL_7B, "", "exl2-5", 4_730, GB, "the same, 5.0bpw: 4.73 GB"),
    (LLAMA_2_13B, "", "exl2-2.5", 4_430, GB, "turboderp/Llama2-13B-exl2 2.5bpw: 4.43 GB"),
    (LLAMA_2_13B, "", "exl2-3", 5_220, GB, "the same, 3.0bpw: 5.22 GB"),
    (LLAMA_2_13B, "", "exl2-5", 8_400, GB, "the same, 5.0bpw: 8.4 GB"),
    ("Llama-2-70B", "", "exl2-4.65", 40_550, GB, "turboderp/Llama2-70B-exl2 4.65bpw: 8.56 + 8.5 + 8.45 + 8.47 + 6.57 GB"),
    ("Llama-2-70B", "", "exl2-2.4", 21_300, GB, "turboderp/Llama2-70B-chat-exl2 2.4bpw: 8.58 + 8.57 + 4.15 GB"),
    (LLAMA_3_70B, "", "exl2-3", 28_600, GB, "turboderp/Llama-3-70B-exl2 3.0bpw: 8.58 + 8.56 + 8.53 + 2.93 GB"),
    (LLAMA_3_70B, "", "exl2-4", 37_160, GB, "turboderp/Llama-3.1-70B-Instruct-exl2 4.0bpw: 8.57 + 8.5 + 8.47 + 8.49 + 3.13 GB"),
    (LLAMA_3_70B, "", "exl2-5", 45_710, GB, "the same, 5.0bpw: 8.47 + 8.54 + 8.57 + 8.44 + 8.55 + 3.14 GB"),
    ("meta-llama/Llama-3.2-3B-Instruct", "", "exl2-3", 2_160, GB, "turboderp/Llama-3.2-3B-exl2 3.0bpw: 2.16 GB"),
    // EXL3: the table of the model's page counts all but the embedding, of 1.578 GiB; its GB are GiB (at 4 bits the matrices alone have
    // 148.9 GB).
    ("ERNIE-4.5-300B", "", "exl3-2", 70_200 + 1_578, GIB, "turboderp/ERNIE-4.5-300B-A47B-PT-exl3 2.00 bpw: 70.2 GB"),
    ("ERNIE-4.5-300B", "", "exl3-2.25", 78_600 + 1_578, GIB, "the same, 2.25 bpw: 78.6 GB"),
    ("ERNIE-4.5-300B", "", "exl3-3", 104_900 + 1_578, GIB, "the same, 3.00 bpw: 104.9 GB"),
    ("ERNIE-4.5-300B", "", "exl3-4", 139_500 + 1_578, GIB, "the same, 4.00 bpw: 139.5 GB"),
];

/// Where no file of a known model is listed anywhere that could be read, the size is what the format's library makes of its matrices: Llama
/// 3.1 8B has 6,979,321,856 values in matrices of 1,376,256 outputs together, and 1,050,939,392 values that stay in bf16.
#[test]
fn formats_without_published_files_are_as_their_libraries_define_them() {
    let (values, outputs, rest) = (6_979_321_856_u64, 1_376_256_u64, 2 * 1_050_939_392_u64);
    for (format, packed) in [
        ("mxfp8", values + values / 32),           // an E8M0 byte for 32 values
        ("mxfp6", values * 6 / 8 + values / 32),   // the same
        ("eetq-int8", values + 2 * outputs),       // int8 and a 16-bit scale for each output
        ("quanto-int8", values + 2 * outputs),     // qint8 per axis, the scale in the model's dtype
        ("quanto-int4", values / 2 + values / 32), // qint4 in groups of 128, scale and shift in 16 bits
    ] {
        assert_eq!(bytes(&model(&published(LLAMA_31_8B, "")), format, Encoding::BF16), packed + rest, "{format}");
    }
}

#[test]
fn sizes_are_within_a_hundredth_of_the_published_ones() {
    let wrong = further_than(10, SIZES);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// (model, quantisation of its config, bytes of its tensors, how many of them are headers or zero biases that `AutoGPTQ` writes, source).
/// `total_size` of an index counts tensors alone.
const TO_THE_BYTE: &[(&str, &str, u64, u64, &str)] = &[
    ("Qwen/Qwen3-14B", r#"{"group_size": 64, "bits": 4}"#, 8_307_783_680, 0, "mlx-community Qwen3-14B-MLX-4bit: total_size of its index"),
    ("Qwen/Qwen2.5-14B", r#"{"group_size": 64, "bits": 3}"#, 6_463_203_328, 0, "an MLX copy of DeepSeek-R1-Distill-Qwen-14B at 3 bits: total_size"),
    (
        "Molmo-7B-D",
        r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": false,
            "llm_int8_skip_modules": ["model.vision_backbone", "model.transformer.ff_out", "model.transformer.ln_f"]}"#,
        6_661_964_712,
        // Names of the codes' parameters, as a text in each matrix's state.
        10_000,
        "reubzdubz/Molmo7B_D_NF4Quant: total_size",
    ),
    (
        "nvidia/Qwen3.6-27B-NVFP4",
        r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
            "num_bits": 4, "group_size": 128, "strategy": "group", "symmetric": false, "type": "int", "actorder": null, "block_structure": null}}},
            "ignore": ["lm_head", "mtp.fc", "re:.*visual.*", "re:.*linear_attn.in_proj_[ab]$", "model.language_model.layers.0.linear_attn", "model.language_model.layers.1.linear_attn"]}"#,
        18_698_467_264,
        1_000_000,
        "fantasylord/Qwen36 model.safetensors, W4A16 with zero points",
    ),
    ("Qwen-VL-Chat", gptq!(4, 128), 9_731_786_240, 2_000_000, "Qwen-VL-Chat-Int4: total_size of its index"),
    ("LLaMA-33B", gptq!(4, -1), 16_940_128_464, 12_000_000, "Wizard-Vicuna-30B-Uncensored-GPTQ model.safetensors"),
    ("Llama-2-70B", gptq!(3, -1), 26_774_982_616, 14_000_000, "itdevwu/Genz-70b-GPTQ model.safetensors"),
];

#[test]
fn sizes_are_the_published_ones_to_the_byte() {
    for (id, quantization, published_bytes, beside, source) in TO_THE_BYTE {
        let size = bytes(&model(&published(id, quantization)), "as-stored", Encoding::BF16);
        assert!(size <= *published_bytes && published_bytes - size <= *beside, "{id}: {size} for {published_bytes} B ({source})");
    }
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
                "quantised weights" => piece.count * bits / 8,
                "scales" if counted == Counted::WithoutScales => 0,
                "parameters" | "scales" => piece.count,
                "constants per matrix" if counted == Counted::All => piece.count * bits / 32,
                "constants per matrix" => 0,
                other => panic!("{other} of {}", tensor.tensor.name),
            };
        }
    }
    sum
}

/// (model, its `quantization_config` with lists written shorter, what the Hub counts, what that takes in). A count of NVFP4 files
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

/// (dimensions, format, what counts, how many times smaller than in 16 bits, where that was published). A footprint is of parameters and
/// buffers: bitsandbytes keeps its scales beside them, GPTQ's are buffers.
const FOOTPRINTS: &[(&str, &str, &str, f64, &str)] = &[
    (BLOOM_1B7, "int8", "constants apart", 1.540_025, "transformers tests/quantization/bnb/test_mixed_int8.py: EXPECTED_RELATIVE_DIFFERENCE"),
    (BLOOM_1B7, "fp4", "constants apart", 2.109_659_552_692_574, "transformers tests/quantization/bnb/test_4bit.py: EXPECTED_RELATIVE_DIFFERENCE"),
    (BLOOM_560M, "gptq-int4", "everything", 1.664_253_062, "transformers tests/quantization/gptq/test_gptq.py: EXPECTED_RELATIVE_DIFFERENCE"),
];

/// bigscience/bloom-1b7 and bloom-560m, with tied heads.
const BLOOM_1B7: &str = r#"{"model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_embed": 2048, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880, "torch_dtype": "float16"}"#;
const BLOOM_560M: &str = r#"{"model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880, "torch_dtype": "float16"}"#;

#[test]
fn footprints_are_those_that_the_tests_of_transformers_expect() {
    for (config, format, counted, times, source) in FOOTPRINTS {
        let model = model(config);
        let size = |format: &str| {
            let tensors = stored(&model, format.parse().unwrap(), Encoding::F16).unwrap();
            let pieces = tensors.iter().flat_map(|tensor| tensor.pieces().unwrap());
            let kept = pieces.filter(|piece| *counted == "everything" || matches!(piece.what, "parameters" | "quantised weights"));
            let bytes = |piece: Piece| match piece.unit {
                Unit::Value(encoding) => encoding.bytes_for(piece.count).unwrap().get(),
                Unit::Bits(bits) => bits.floor_of(piece.count).unwrap() / 8,
                Unit::Bytes(bytes) => bytes.floor_of(piece.count).unwrap(),
            };
            kept.map(bytes).sum::<u64>()
        };
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let ratio = size("fp16") as f64 / size(format) as f64;
        assert!((ratio / times - 1.0).abs() < 1e-6, "{format}: {ratio} for {times} ({source})");
    }
}
