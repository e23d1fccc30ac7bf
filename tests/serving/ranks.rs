//! What ranks cut, and how they are counted.

use crate::common::fixture;
use crate::{of_version, on, published};
use vramfit::scenario::{Runtime, Scenario, Version};

/// Public logs: 1,536 / 8 = 192 outputs of an expert in vLLM 0.19, and 768 / 4 as many; whole experts (`--enable-expert-parallel`) load.
#[test]
fn blocks_that_ranks_cut_are_said() {
    let plain = published("Qwen/Qwen3-30B-A3B-FP8");
    let mut blocks: serde_json::Value = serde_json::from_str(&plain).unwrap();
    blocks["quantization_config"] = serde_json::json!({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]});
    let blocks = blocks.to_string();
    let warned = |config: &str, tensor: u64, expert: Option<u64>, runtime: Runtime| {
        let parallel = vramfit::scenario::Parallel { expert, ..Default::default() };
        let answer = on(config, Scenario { runtime, gpu: Some("H200 SXM".into()), tensor_parallel: Some(tensor), parallel, ..Scenario::default() });
        answer.warnings.into_iter().find(|said| said.contains("stops while loading"))
    };
    let said = warned(&blocks, 4, None, Runtime::Vllm).unwrap();
    assert!(said.contains("has 768 ") && said.contains("choose --tp 2, or --ep 4"), "{said}");
    assert!(warned(&blocks, 4, None, Runtime::Sglang).is_some());
    for (tensor, expert, runtime) in [(2, None, Runtime::Vllm), (4, Some(4), Runtime::Vllm), (4, None, Runtime::TensorRtLlm)] {
        assert_eq!(warned(&blocks, tensor, expert, runtime), None, "{tensor} {expert:?}");
    }
    assert_eq!(warned(&plain, 4, None, Runtime::Vllm), None);
    assert_eq!(warned(&blocks.replace("128,128", "0,0"), 4, None, Runtime::Vllm), None);
    // Replicas share the experts: fewer ranks in each are not enough, whole experts are.
    let parallel = vramfit::scenario::Parallel { data: Some(4), ..Default::default() };
    let answer = on(&blocks, Scenario { gpu: Some("H200 SXM".into()), tensor_parallel: Some(2), parallel, ..Scenario::default() });
    let said = answer.warnings.iter().find(|said| said.contains("stops while loading")).unwrap();
    assert!(said.contains("over 8 GPUs") && said.ends_with("choose --ep 8, which leaves experts whole"), "{said}");
    // 4,096 inputs of `o_proj` in blocks of 1,024: whole experts alone are not enough for eight ranks.
    let tall = warned(&blocks.replace("128,128", "128,1024"), 8, None, Runtime::Vllm).unwrap();
    assert!(tall.ends_with("choose --tp 1, or --tp 4 --ep 4, which leaves experts whole"), "{tall}");
}

/// A dense model of 9,728 (76 × 128) inputs of `down_proj` and 4,096 of `o_proj`.
#[test]
fn inputs_that_ranks_cut_are_said() {
    let config = |quantization: &str| {
        format!(
            r#"{{"model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "num_hidden_layers": 2, "vocab_size": 151936, "max_position_embeddings": 40960, "quantization_config": {quantization}}}"#
        )
    };
    let said = |quantization: &str, tensor, runtime| {
        let answer = on(&config(quantization), Scenario { runtime, gpu: Some("H200 SXM".into()), tensor_parallel: Some(tensor), ..Scenario::default() });
        answer.warnings.into_iter().find(|said| said.contains("stops while loading"))
    };
    for (quantization, units) in [
        (r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#, "blocks of 128"),
        (r#"{"quant_method": "awq", "bits": 4, "group_size": 128}"#, "groups of 128"),
        (r#"{"quant_method": "gptq", "bits": 4, "group_size": 128}"#, "groups of 128"),
    ] {
        assert_eq!(said(quantization, 4, Runtime::Vllm), None, "{quantization}");
        let sentence = said(quantization, 8, Runtime::Vllm).unwrap();
        assert!(sentence.contains("down_proj` has 9,728 inputs") && sentence.contains(units) && sentence.ends_with("choose --tp 4"), "{sentence}");
    }
    // Blocks of 512 outputs: gate and up are one matrix in vLLM, of which it asks no whole ones.
    let tall = r#"{"quant_method": "fp8", "weight_block_size": [512, 128]}"#;
    assert_eq!(said(tall, 2, Runtime::Vllm), None);
    let sentence = said(tall, 2, Runtime::Sglang).unwrap();
    assert!(sentence.contains("9,728 outputs") && sentence.ends_with("choose --tp 1"), "{sentence}");
    // Its 0.13.0 asks them (`fp8_utils.py:validate_fp8_block_shape`), its 0.14.0 does not.
    for (version, cuts) in [(Version(0, 13, 0), true), (Version(0, 14, 0), false)] {
        let scenario = Scenario { gpu: Some("H200 SXM".into()), tensor_parallel: Some(2), ..of_version(Runtime::Vllm, Some(version)) };
        let answer = on(&config(tall), scenario);
        assert_eq!(answer.warnings.iter().any(|said| said.contains("9,728 outputs")), cuts, "{version}");
    }
    // What is chosen instead loads by all sides: 19 blocks of 512 inputs, 38 of 256 outputs.
    let wide = r#"{"quant_method": "fp8", "weight_block_size": [256, 512]}"#;
    let sentence = said(wide, 4, Runtime::Sglang).unwrap();
    assert!(sentence.ends_with("choose --tp 1"), "{sentence}");
}

/// SGLang's `--tp 8 --dp 2` is 8 GPUs; TensorRT-LLM's attention replicas have no number of their own.
#[test]
fn replicas_within_tensor_parallelism_are_said_of_sglang() {
    let said = |runtime, tensor, data_attention| {
        let parallel = vramfit::scenario::Parallel { data: Some(2), data_attention, ..Default::default() };
        let scenario = Scenario { runtime, gpu: Some("H200 SXM".into()), tensor_parallel: Some(tensor), parallel, ..Scenario::default() };
        on(fixture::MIXTRAL_8X7B, scenario).warnings.into_iter().find(|said| said.contains("counts replicas of attention"))
    };
    let sentence = said(Runtime::Sglang, 8, true).unwrap();
    assert!(sentence.contains("--tp 8 --dp 2 is 8 GPUs, and --tp 4 --dp 2 here"), "{sentence}");
    for (runtime, tensor, data_attention) in
        [(Runtime::Sglang, 1, true), (Runtime::Sglang, 8, false), (Runtime::Vllm, 8, true), (Runtime::TensorRtLlm, 8, true)]
    {
        assert_eq!(said(runtime, tensor, data_attention), None, "{runtime} {tensor}");
    }
}
