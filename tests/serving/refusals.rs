//! What engines and their versions load, and what they lack.

use crate::common::{fixture, model};
use crate::{chosen, held, of_version, on, published, refusal};
use vramfit::estimate::{Estimate, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Runtime, Scenario, Serving, Version};

#[test]
fn what_an_engine_lacks_is_refused_and_the_right_flag_named() {
    let share = Some("0.8".parse().unwrap());
    let said = |scenario: Scenario| estimate(&model(fixture::QWEN2_7B), &scenario).unwrap_err().to_string();
    let message = said(Scenario { runtime: Runtime::Sglang, gpu_memory_utilization: share, ..Scenario::default() });
    assert!(message.contains("SGLang") && message.ends_with("its own is --mem-fraction-static"), "{message}");
    let serving = Serving { mem_fraction_static: share, ..Serving::default() };
    assert!(said(Scenario { serving, ..Scenario::default() }).ends_with("its own is --gpu-memory-utilization"));
    let message = said(Scenario { runtime: Runtime::LlamaCpp, max_num_seqs: Some(4), ..Scenario::default() });
    assert!(message.ends_with("it is a setting of vLLM, SGLang, TensorRT-LLM"), "{message}");
    let mut scenario = Scenario { runtime: Runtime::Transformers, ..Scenario::default() };
    scenario.picture.size = Some((512, 512));
    assert!(said(scenario).contains("it is a setting of diffusion pipelines"));
}

#[test]
fn vllm_answers_by_the_newest_version_that_loads_the_model() {
    // A log of V0 (vllm-096): 14.65 GiB are 6,001 blocks of 16 tokens in all 40 layers, 163,840 B each.
    let vision = published("meta-llama/Llama-3.2-11B-Vision-Instruct");
    let answer = on(&vision, of_version(Runtime::Vllm, None));
    assert_eq!(chosen(&answer, "runtime_version"), "0.10.2");
    assert_eq!(held(&answer, Term::KvCache), 8192 * 163_840);
    // 6,404 tokens of an image in 401 blocks.
    assert_eq!(held(&answer, Term::CrossKvCache), 401 * 16 * 163_840);
    assert!(refusal(&vision, &of_version(Runtime::Vllm, Some(Version(0, 11, 0)))).contains("0.10.2"));
    // Whisper stays on V0 up to 0.10.1: at least 5,120 tokens of a step for what reads more than text.
    let whisper = published("openai/whisper-tiny");
    for (version, tokens) in [(Version(0, 9, 2), "5120"), (Version(0, 10, 2), "8192")] {
        assert_eq!(chosen(&on(&whisper, of_version(Runtime::Vllm, Some(version))), "max_num_batched_tokens"), tokens, "{version}");
    }
    assert!(refusal(&whisper, &of_version(Runtime::Vllm, Some(Version(0, 6, 6)))).contains("since 0.7.3"));
    // Between two versions that were read, and above the newest, it is answered.
    for version in [Version(0, 7, 0), Version(0, 99, 0)] {
        on(&whisper, of_version(Runtime::Vllm, Some(version)));
    }
    // The version that is taken is said, and who serves what it does not.
    assert!(answer.warnings.iter().any(|said| said.contains("0.33.0") && said.contains("0.10.2")));
    assert!(refusal(&published("Salesforce/blip-image-captioning-large"), &of_version(Runtime::Vllm, None)).contains("`blip`"));
}

/// `QUANTIZATION_METHODS` of vLLM, `AUTO_QUANTIZATION_CONFIG_MAPPING` of transformers and the like.
#[test]
fn files_that_an_engine_does_not_load_are_refused_and_what_loads_them_is_named() {
    let with = |quantization: &str| {
        let mut config: serde_json::Value = serde_json::from_str(fixture::QWEN2_7B).unwrap();
        config["quantization_config"] = serde_json::from_str(quantization).unwrap();
        config.to_string()
    };
    let mlx = with(r#"{"group_size": 64, "bits": 4}"#);
    for runtime in [Runtime::Vllm, Runtime::Sglang, Runtime::Tgi, Runtime::Transformers] {
        assert!(refusal(&mlx, &of_version(runtime, None)).ends_with("they are loaded by MLX"), "{runtime:?}");
    }
    on(&mlx, Scenario { gpu: Some("M2 Max".into()), ..of_version(Runtime::Mlx, None) });
    let nf4 = with(r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}"#);
    assert_eq!(chosen(&on(&nf4, of_version(Runtime::Vllm, None)), "runtime_version"), "0.27.1");
    let warned = |config: &str, runtime: Runtime, version: Version, words: &str| {
        let answer = on(config, of_version(runtime, Some(version)));
        assert!(answer.warnings.iter().any(|said| said.contains(words)), "{words}: {:?}", answer.warnings);
    };
    warned(&nf4, Runtime::Vllm, Version(0, 29, 0), "vllm-bnb-plugin");
    let hqq = with(r#"{"quant_method": "HQQ", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64, "axis": 1}}}"#);
    assert!(refusal(&hqq, &of_version(Runtime::Vllm, Some(Version(0, 15, 0)))).contains("up to 0.14.0"));
    warned(&hqq, Runtime::Vllm, Version(0, 14, 0), "--allow-deprecated-quantization");
    // One version of SGLang was read: it alone is refused.
    assert!(refusal(&hqq, &of_version(Runtime::Sglang, None)).contains("vLLM up to 0.14.0, transformers"));
    warned(&hqq, Runtime::Sglang, Version(0, 4, 1), "is not known");
    warned(&hqq, Runtime::TensorRtLlm, Version(1, 0, 0), "is not known");
    let packed = with(
        r#"{"quant_method": "compressed_tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}}}}"#,
    );
    assert_eq!(model(&packed).anatomy.quantization.unwrap().method, "compressed-tensors");
    on(&packed, of_version(Runtime::Vllm, None));
    on(&nf4, of_version(Runtime::Vllm, Some(Version(0, 8, 5))));
    // What somebody only asks about is said.
    let what_if = Scenario { weights: "exl2-4".parse().unwrap(), ..of_version(Runtime::Vllm, None) };
    assert!(on(fixture::QWEN2_7B, what_if).warnings.iter().any(|warning| warning.contains("`exl2`")));
    // TGI makes these while it loads.
    for weights in ["nf4", "int8"] {
        let made = Scenario { weights: weights.parse().unwrap(), ..of_version(Runtime::Tgi, None) };
        assert!(!on(fixture::QWEN2_7B, made).warnings.iter().any(|warning| warning.contains("bitsandbytes")), "{weights}");
    }
}

/// `deepseek_v3.py` and its kin of mlx-lm 0.32.2 dequantise in `sanitize`; `load_model` keeps scales of powers of two of 32 × 32.
#[test]
fn mlx_answers_for_families_and_files_by_what_its_code_does() {
    let mlx = || Scenario { gpu: Some("M2 Ultra".into()), ..of_version(Runtime::Mlx, None) };
    let fp8 = |family: &str, quantization: &str| {
        let mut config: serde_json::Value = serde_json::from_str(fixture::QWEN2_7B).unwrap();
        config["model_type"] = family.into();
        config["quantization_config"] = serde_json::from_str(quantization).unwrap();
        config.to_string()
    };
    let weights = |answer: &Estimate| held(answer, Term::Weights);
    let whole = weights(&on(fixture::QWEN2_7B, mlx()));
    let blocks = r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#;
    let halved = on(&fp8("qwen2", blocks), mlx());
    assert!(weights(&halved) * 10 < whole * 7 && halved.warnings.iter().any(|said| said.contains("32 × 32")));
    let kept = on(&fp8("qwen2", r#"{"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [32, 32]}"#), mlx());
    assert!(!kept.warnings.iter().any(|said| said.contains("32 × 32")));
    let config = published("deepseek-ai/DeepSeek-V3");
    let mut plain: serde_json::Value = serde_json::from_str(&config).unwrap();
    plain.as_object_mut().unwrap().remove("quantization_config");
    let of_files = on(&config, mlx());
    assert_eq!(weights(&of_files), weights(&on(&plain.to_string(), mlx())));
    assert!(of_files.assumptions.iter().any(|said| said.contains("sanitize")));
    let of_modelopt = fp8("qwen2", r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#);
    assert!(refusal(&of_modelopt, &mlx()).contains("NVFP4"));
    // A family that it lacks is answered by its rules.
    let answer = on(&published("openai/whisper-tiny"), mlx());
    assert!(answer.warnings.iter().any(|said| said.contains("`whisper`") && said.contains("mlx-whisper")));
}

#[test]
fn versions_older_than_the_rules_are_said() {
    for (runtime, oldest) in [(Runtime::Vllm, "0.6.3"), (Runtime::Sglang, "0.5.23"), (Runtime::TensorRtLlm, "1.0.0"), (Runtime::Transformers, "5.23.0")] {
        let scenario = of_version(runtime, Some(Version(0, 1, 0)));
        assert!(!vramfit::memory::is_common(&model(fixture::QWEN2_7B), &scenario));
        let answer = on(fixture::QWEN2_7B, scenario);
        assert!(answer.assumptions.iter().any(|said| said.contains("older") && said.contains(oldest)), "{runtime:?}");
    }
    assert!(refusal(fixture::QWEN2_7B, &of_version(Runtime::Tgi, Some(Version(0, 1, 0)))).contains("3.0"));
}
