//! What engines hold beside weights and pools: graphs, logits, copies of matrices.

use crate::common::{fixture, model};
use crate::{held, on};
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::scenario::{Runtime, Scenario, Serving, Version};

#[test]
fn vllm_captures_graphs_of_every_layer_for_the_sizes_of_its_version() {
    let graphs = |version, sequences| {
        let serving = Serving { runtime_version: Some(version), ..Serving::default() };
        let scenario = Scenario { serving, max_num_seqs: Some(sequences), gpu: Some("H100 SXM5 80GB".into()), ..Scenario::default() };
        held(&on(fixture::QWEN2_7B, scenario), Term::CudaGraphs)
    };
    // 28 layers. 0.9: 1, 2, 4 and multiples of 8 to 512 whatever is run; then to twice the sequences; since 0.11.1 of 16 above 256.
    let each = 28 * (360 << 10);
    assert_eq!(graphs(Version(0, 9, 2), 2), 67 * each);
    assert_eq!(graphs(Version(0, 10, 2), 256), 67 * each);
    assert_eq!(graphs(Version(0, 11, 2), 1024), 51 * each);
    assert_eq!(graphs(Version(0, 18, 0), 128), 35 * each);
    assert_eq!(graphs(Version(0, 18, 0), 1), 2 * each);
    // V0: one graph for each of 35 sizes.
    assert_eq!(graphs(Version(0, 6, 6), 256), 35 * (8 << 20));
    assert_eq!(graphs(Version(0, 6, 6), 100), 16 * (8 << 20));
    // No more than a step has tokens; on Blackwell of data centres to 1,024 since 0.29; drafted tokens count since 0.13.
    let of = |version, change: &dyn Fn(&mut Scenario)| {
        let serving = Serving { runtime_version: Some(version), ..Serving::default() };
        let mut scenario = Scenario { serving, gpu: Some("H100 SXM5 80GB".into()), ..Scenario::default() };
        change(&mut scenario);
        held(&on(fixture::QWEN2_7B, scenario), Term::CudaGraphs)
    };
    assert_eq!(of(Version(0, 19, 0), &|scenario| scenario.max_num_batched_tokens = Some(128)), 19 * each);
    let blackwell = |scenario: &mut Scenario| (scenario.gpu, scenario.max_num_seqs) = (Some("B200 SXM".into()), Some(512));
    assert_eq!([Version(0, 28, 0), Version(0, 29, 0)].map(|version| of(version, &blackwell)), [51 * each, 83 * each]);
    // What is set aside in the budget is vLLM's own estimate, which public logs show at 0.4 GiB with two sequences.
    assert_eq!(graphs(Version(0, 22, 0), 2), 400 << 20);
}

/// vLLM's profile ends in `_dummy_pooler_run` for what embeds, or gives a score.
#[test]
fn what_embeds_or_scores_samples_nothing() {
    let config = r#"{"model_type": "xlm-roberta", "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
        "vocab_size": 250002, "max_position_embeddings": 8194, "type_vocab_size": 1}"#;
    let reward = r#"{"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "hidden_size": 4096, "intermediate_size": 14336, "num_labels": 1,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072}"#;
    let logits = |config| {
        let answer = on(config, Scenario { gpu: Some("L4".into()), context: Some(4096), ..Scenario::default() });
        answer.devices[0].term_at(Term::Logits, Stage::Sampling).unwrap().expected.get()
    };
    assert_eq!((logits(config), logits(reward)), (0, 0));
    assert!(logits(&reward.replace("SequenceClassification", "CausalLM")) > 0);
}

/// Bytes that a model takes beyond its weights as stored, by what the source of the entry says.
fn beside(answer: &Estimate, source: &str) -> u64 {
    answer.devices[0].ledger.entries.iter().filter(|entry| entry.source.contains(source)).map(|entry| entry.amount.expected.get()).sum()
}

/// SGLang `server_args.py` switches `SGLANG_OPT_FP8_WO_A_GEMM` off before compute capability 10 and at 12.
#[test]
fn deepseek_v4s_wo_a_is_widened_where_it_is_in_eight_bits() {
    let config = r#"{"model_type": "deepseek_v4", "hidden_size": 4096, "head_dim": 512, "num_attention_heads": 64, "num_key_value_heads": 1, "qk_rope_head_dim": 64,
        "q_lora_rank": 1024, "o_lora_rank": 1024, "o_groups": 8, "num_hidden_layers": 3, "compress_ratios": [0, 4, 128], "sliding_window": 128,
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 2048, "vocab_size": 129280, "max_position_embeddings": 65536,
        "rope_theta": 10000, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": []}}"#;
    let more = |config: &str, gpu: &str, tensor: u64| {
        let scenario = Scenario { runtime: Runtime::Sglang, gpu: Some(gpu.into()), tensor_parallel: Some(tensor), context: Some(8192), ..Scenario::default() };
        beside(&on(config, scenario), "wo_a")
    };
    let matrix = 8 * 1024 * (64 * 512 / 8);
    for (gpu, tensor, layers) in [("H200 SXM", 1, 3), ("H200 SXM", 8, 3), ("RTX 5090", 1, 3), ("B200", 1, 0)] {
        assert_eq!(more(config, gpu, tensor), layers * matrix / tensor, "{gpu} {tensor}");
    }
    let one_less = config.replace("convert\": []", "convert\": [\"layers.1.attn.wo_a\", \"model.layers.1.attn.wo_a\"]");
    assert_eq!(more(&one_less, "H200 SXM", 1), 2 * matrix);
    assert_eq!(more(&config.replace("convert\": []", "convert\": [\"wo_a\"]"), "H200 SXM", 1), 0);
    // 64 ranks have 128 of its 8,192 outputs each, and all of its 4,096 inputs.
    let wide = config.replace("2048, \"vocab", "8192, \"vocab").replace("experts\": 8", "experts\": 64");
    let parallel = vramfit::scenario::Parallel { expert: Some(64), ..Default::default() };
    let answer = on(&wide, Scenario { gpu: Some("H200 SXM".into()), tensor_parallel: Some(64), parallel, ..Scenario::default() });
    assert!(!answer.warnings.iter().any(|said| said.contains("stops while loading")), "{:?}", answer.warnings);
}

/// Layers without a rotary part, and those that read another's latents, have a `kv_b_proj` all the same.
#[test]
fn copies_are_made_of_every_kv_b_proj() {
    let config = r#"{"model_type": "mistral_large4_text", "num_hidden_layers": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 1048576,
        "first_k_dense_replace": 1, "kv_source_layers": [0, 1, 2, 3, 4, 5, 6, 6], "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}"#;
    let scenario = |runtime| Scenario { runtime, gpu: Some("B200".into()), context: Some(8192), ..Scenario::default() };
    let turned = 64 * (64 + 128) * 512 * 2;
    let still = 64 * (128 + 128) * 512 * 2;
    // The last layer has no rotary part and reads the one before.
    assert_eq!(beside(&on(config, scenario(Runtime::Sglang)), "w_kc"), 6 * turned + 2 * still);
    assert_eq!(beside(&on(config, scenario(Runtime::Vllm)), "instead of kv_b_proj"), 6 * turned + 2 * still);
    assert_eq!(model(config).anatomy.rotary.unwrap().width, 64);
}
