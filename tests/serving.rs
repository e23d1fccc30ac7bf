//! What engines other than vLLM take for themselves, and what their pools hold.

mod common;

use common::{fixture, gib, model};
use vramfit::estimate::{Basis, Entry, Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{DraftModel, Runtime, Scenario, Serving, Version};

fn on(config: &str, scenario: Scenario) -> Estimate {
    estimate(&model(config), &scenario).unwrap()
}

fn sglang(version: Option<Version>, gpus: u64) -> Scenario {
    let serving = Serving { runtime_version: version, ..Serving::default() };
    Scenario { runtime: Runtime::Sglang, gpu: Some("H100 SXM5 80GB".into()), gpus: Some(gpus), serving, ..Scenario::default() }
}

fn chosen(answer: &Estimate, key: &str) -> String {
    answer.choices.iter().find(|choice| choice.key == key).unwrap().value.clone()
}

#[test]
fn sglang_keeps_a_share_of_what_is_free_at_its_start() {
    // Logs of 0.4.1 and 0.4.3 show these shares on one and on four cards.
    for (gpus, share) in [(1, "0.88"), (4, "0.85")] {
        let answer = on(fixture::QWEN2_7B, sglang(Some(Version(0, 4, 1)), gpus));
        assert_eq!(chosen(&answer, "mem_fraction_static"), share);
    }
    // 0.5.23: 1536 MiB and 128 for each rank stay out of 81,559.
    let answer = on(fixture::QWEN2_7B, sglang(None, 1));
    assert_eq!(chosen(&answer, "mem_fraction_static"), "0.98");
    assert_eq!(chosen(&answer, "max_num_batched_tokens"), "8192");
    let device = &answer.devices[0];
    let before = device.term_at(Term::RuntimeContext, Stage::Load).unwrap().expected.get();
    assert_eq!(device.budget.as_ref().unwrap().bytes.get(), ((device.usable.get() - before) * 98).div_ceil(100));
}

#[test]
fn sglang_fills_the_rest_of_its_share_with_tokens() {
    let serving = Serving { runtime_version: Some(Version(0, 4, 1)), ..Serving::default() };
    let answer = on(fixture::QWEN2_7B, Scenario { runtime: Runtime::Sglang, serving, ..Scenario::default() });
    let device = &answer.devices[0];
    let capacity = answer.capacity.unwrap();
    let per_token = 28 * 2 * 4 * 128 * 2;
    let at_load = |term| device.term_at(term, Stage::Load).unwrap().expected.get();
    let weights = at_load(Term::Weights) + at_load(Term::Buffers);
    assert_eq!(capacity.kv_cache_tokens, (device.budget.as_ref().unwrap().bytes.get() - weights) / per_token);
    assert_eq!(capacity.kv_cache_bytes.get(), capacity.kv_cache_tokens * per_token);
    // Gemma-2: 21 full layers, and a pool of 0.8 tokens for each of theirs for 21 sliding ones.
    let answer = on(fixture::GEMMA2_9B, Scenario { runtime: Runtime::Sglang, ..Scenario::default() });
    let capacity = answer.capacity.unwrap();
    let layer = 2 * 8 * 256 * 2;
    assert_eq!(capacity.kv_cache_bytes.get(), capacity.kv_cache_tokens * layer * (21 * 10 + 21 * 8) / 10);
}

#[test]
fn tgi_fills_nine_tenths_of_the_card_with_blocks_and_captures_graphs_in_the_rest() {
    let on_card = |gpu: &str| Scenario { runtime: Runtime::Tgi, gpu: Some(gpu.into()), ..Scenario::default() };
    let answer = on(fixture::MISTRAL_7B, on_card("H100 SXM5 80GB"));
    let device = &answer.devices[0];
    let budget = device.budget.as_ref().unwrap().bytes.get();
    assert_eq!(budget, (device.usable.get() * 9).div_ceil(10));
    let graphs = device.term_at(Term::CudaGraphs, Stage::Decode).unwrap().expected;
    assert_eq!(device.claim.unwrap().get(), budget + graphs.get());
    // What the driver shows counts, with the longest prompt: all of it but keys, values and graphs.
    let at = |term| device.term_at(term, Stage::Prefill).unwrap().expected.get();
    let others = device.at(Stage::Prefill).unwrap().expected.get() - at(Term::KvCache) - at(Term::CudaGraphs);
    let per_token = 32 * 2 * 8 * 128 * 2;
    assert_eq!(answer.capacity.unwrap().kv_cache_tokens, (budget - others) / per_token);
    // 900 TFLOPS by 15.03 GFLOP for a token, at most the model's maximum; 121 on an L4; 4,096 where the launcher does not know the card.
    for (gpu, tokens) in [("H100 SXM5 80GB", "32768"), ("L4", "8049"), ("GeForce RTX 3090", "4096")] {
        assert_eq!(chosen(&on(fixture::MISTRAL_7B, on_card(gpu)), "max_num_batched_tokens"), tokens, "{gpu}");
    }
    assert_eq!(at(Term::Activations), 32_768 * (3 * 14_336 + 4 * 4096) * 2);
    assert_eq!(at(Term::Workspace), 128 << 20);
    // Windows (here of 4,096 tokens) give up no block.
    assert_eq!(held(&answer, Term::KvCache), 8192 * per_token);
    // Heads that FlashInfer has no kernels for: blocks of 256 tokens, of 16 before Ampere.
    let narrow = fixture::MISTRAL_7B.replace("\"hidden_size\": 4096", "\"head_dim\": 96, \"hidden_size\": 4096");
    for (gpu, tokens) in [("H100 SXM5 80GB", 1024), ("T4", 1008)] {
        let answer = on(&narrow, Scenario { context: Some(1000), ..on_card(gpu) });
        assert_eq!(held(&answer, Term::KvCache), tokens * 32 * 2 * 8 * 96 * 2, "{gpu}");
    }
}

/// A published config of the set that is counted against transformers.
fn published(id: &str) -> String {
    let key = format!("\"id\":\"{id}\"");
    let row = include_str!("fixtures/oracle.jsonl").lines().find(|line| line.contains(&key)).unwrap();
    serde_json::from_str::<serde_json::Value>(row).unwrap()["config"].to_string()
}

fn tgi(gpu: &str) -> Scenario {
    Scenario { runtime: Runtime::Tgi, gpu: Some(gpu.into()), ..Scenario::default() }
}

#[test]
fn the_launcher_of_tgi_computes_a_prompt_from_the_keys_that_it_reads() {
    let rows = [
        // No `intermediate_size` (nor `num_attention_heads`): 4,096, at most the model's maximum.
        ("bigscience/bloom-560m", "H200 SXM", 1, "4096"),
        ("tiiuae/falcon-7b", "H100 SXM5 80GB", 1, "4096"),
        ("mosaicml/mpt-7b", "H100 SXM5 80GB", 1, "2048"),
        // Two experts of 14,336: 26.3 GFLOP.
        ("mistralai/Mixtral-8x7B-v0.1", "L4", 1, "4599"),
        // Six and two experts, each taken for as wide as the dense layer (10,944), heads for 2048 / 16: 30.2 GFLOP.
        ("deepseek-ai/DeepSeek-V2-Lite", "H100 SXM5 80GB", 1, "29820"),
        ("deepseek-ai/DeepSeek-V3", "H200 SXM", 8, "16958"),
        // `intermediate_size` is said, but no layer has it.
        ("Qwen/Qwen3-235B-A22B", "H100 SXM5 80GB", 1, "4096"),
        // A wrapper keeps its keys in `text_config`.
        ("llava-hf/llava-1.5-7b-hf", "H100 SXM5 80GB", 1, "4096"),
    ];
    for (id, gpu, gpus, tokens) in rows {
        let answer = on(&published(id), Scenario { gpus: Some(gpus), ..tgi(gpu) });
        assert_eq!(chosen(&answer, "max_num_batched_tokens"), tokens, "{id}");
    }
    // What is taken in the place of a number that is not known is a rule of thumb, wide enough for what the launcher computes:
    // 312 TFLOPS by 246.9 and 31.6 GFLOP.
    for (id, tokens) in [("Qwen/Qwen3-235B-A22B", 1264), ("Qwen/Qwen3-30B-A3B-FP8", 9870)] {
        let prefill = |asked| {
            let answer = on(&published(id), Scenario { max_num_batched_tokens: asked, ..tgi("A100 80GB SXM") });
            let work = |entry: &&Entry| entry.term == Term::Activations && entry.stages.contains(&Stage::Prefill);
            answer.devices[0].entries.iter().find(work).unwrap().clone()
        };
        let (guess, known) = (prefill(None), prefill(Some(tokens)));
        assert_eq!((guess.basis, known.basis), (Basis::RuleOfThumb, Basis::Modelled), "{id}");
        assert!(guess.amount.low <= known.amount.low && known.amount.high <= guess.amount.high, "{id}");
    }
}

#[test]
fn tgi_has_flashinfer_only_where_its_launcher_finds_the_width_of_a_head() {
    let rows = [
        ("llava-hf/llava-1.5-7b-hf", false),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", false),
        ("OpenGVLab/InternVL3-8B-hf", false),
        ("google/gemma-3-27b-it", true),
        ("Qwen/Qwen3-235B-A22B", true),
        // `n_head` is not read.
        ("bigscience/bloom-560m", false),
    ];
    for (id, uses) in rows {
        let answer = on(&published(id), tgi("H100 SXM5 80GB"));
        assert_eq!(held(&answer, Term::Workspace), if uses { 128 << 20 } else { 0 }, "{id}");
    }
}

#[test]
fn tgi_captures_no_graphs_of_bitsandbytes_and_exl2() {
    let graphs = |config: &str, weights: &str| held(&on(config, Scenario { weights: weights.parse().unwrap(), ..tgi("L40S") }), Term::CudaGraphs);
    for (weights, captures) in [("as-stored", true), ("nf4", true), ("int8", false), ("exl2-4", false)] {
        assert_eq!(graphs(fixture::MISTRAL_7B, weights) > 0, captures, "{weights}");
    }
    let said = r#""quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}, "vocab_size""#;
    assert_eq!(graphs(&fixture::MISTRAL_7B.replace("\"vocab_size\"", said), "as-stored"), 0);
}

#[test]
fn tgi_serves_only_what_writes_text_token_by_token() {
    let alone = "which this one does not";
    let rows = [
        ("BAAI/bge-m3", alone),
        ("google-bert/bert-base-multilingual-cased", alone),
        ("openai/clip-vit-base-patch32", alone),
        ("facebook/wav2vec2-base-960h", alone),
        ("openai/whisper-tiny", "no model that reads sound"),
        ("google-t5/t5-small", "cross-attention"),
    ];
    for (id, why) in rows {
        let said = estimate(&model(&published(id)), &tgi("L40S")).unwrap_err().to_string();
        assert!(said.contains(why) && said.ends_with("choose transformers"), "{id}: {said}");
    }
}

#[test]
fn tensorrt_llm_takes_a_share_of_what_is_free_once_loaded() {
    let scenario = Scenario { runtime: Runtime::TensorRtLlm, gpu: None, gpu_capacity: Some(Bytes(gib(80))), ..Scenario::default() };
    let answer = on(fixture::QWEN2_7B, scenario.clone());
    let device = &answer.devices[0];
    let others = device.peak().unwrap().1.expected.get() - device.term_at(Term::KvCache, Stage::Decode).unwrap().expected.get();
    let free = gib(80) - others;
    assert_eq!(device.claim.unwrap().get(), others + free * 9 / 10);
    let block = 28 * 2 * 4 * 128 * 2 * 32;
    assert_eq!(answer.capacity.unwrap().kv_cache_tokens, free * 9 / 10 / block * 32);
    // A smaller share leaves more of the card to others.
    let half = on(fixture::QWEN2_7B, Scenario { gpu_memory_utilization: Some("0.5".parse().unwrap()), ..scenario });
    assert!(half.devices[0].claim < device.claim && half.capacity.unwrap().kv_cache_tokens < answer.capacity.unwrap().kv_cache_tokens);
}

fn with_draft(runtime: Runtime, config: &str) -> Scenario {
    let draft = DraftModel { name: "draft".into(), model: Some(std::sync::Arc::new(model(config))) };
    let serving = Serving { draft: Some(draft), ..Serving::default() };
    Scenario { runtime, serving, context: Some(4096), ..Scenario::default() }
}

fn held(answer: &Estimate, term: Term) -> u64 {
    answer.devices[0].term_at(term, Stage::Decode).unwrap().expected.get()
}

#[test]
fn a_draft_model_lies_beside_the_model_and_shares_its_pool() {
    // Qwen3-4B drafts for Qwen2-7B: 36 layers of 8 KV heads beside 28 of 4.
    let drafted = model(fixture::QWEN3_4B).anatomy.parameters().unwrap().get() * 2;
    let (own, draft) = (28 * 2 * 4 * 128 * 2, 36 * 2 * 8 * 128 * 2);
    for runtime in [Runtime::Vllm, Runtime::Sglang, Runtime::TensorRtLlm, Runtime::Transformers] {
        let answer = on(fixture::QWEN2_7B, with_draft(runtime, fixture::QWEN3_4B));
        assert_eq!((held(&answer, Term::DraftModel), held(&answer, Term::KvCache)), (drafted, (own + draft) * 4096), "{runtime}");
    }
    // llama.cpp gives it caches and buffers of its own.
    let answer = on(fixture::QWEN2_7B, with_draft(Runtime::LlamaCpp, fixture::QWEN3_4B));
    assert_eq!(held(&answer, Term::KvCache), own * 4096);
    let alone = on(fixture::QWEN3_4B, Scenario { runtime: Runtime::LlamaCpp, context: Some(4096), ..Scenario::default() });
    let all: u64 = [Term::Weights, Term::KvCache, Term::Activations].into_iter().map(|term| held(&alone, term)).sum();
    assert_eq!(held(&answer, Term::DraftModel), all);
    // A name alone cannot be counted.
    let mut named = with_draft(Runtime::Vllm, fixture::QWEN3_4B);
    named.serving.draft.as_mut().unwrap().model = None;
    let refused = estimate(&model(fixture::QWEN2_7B), &named).unwrap_err().to_string();
    assert!(refused.contains("was not read"), "{refused}");
    // The draft's context is the model's, whatever the draft was made for.
    let short = fixture::QWEN3_4B.replace("40960", "2048");
    assert_ne!(short, fixture::QWEN3_4B);
    let draft_of = |config: &str| held(&on(fixture::QWEN2_7B, Scenario { context: None, ..with_draft(Runtime::LlamaCpp, config) }), Term::DraftModel);
    assert_eq!(draft_of(&short), draft_of(fixture::QWEN3_4B));
}

#[test]
fn only_what_writes_text_can_draft() {
    let denoiser = r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "cross_attention_dim": 64, "attention_head_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "layers_per_block": 2,
        "in_channels": 4, "out_channels": 4, "sample_size": 64}"#;
    for draft in
        [&published("google-bert/bert-base-multilingual-cased"), &published("openai/clip-vit-base-patch32"), &published("microsoft/resnet-50"), denoiser]
    {
        for runtime in [Runtime::Vllm, Runtime::Transformers, Runtime::LlamaCpp] {
            let said = estimate(&model(fixture::QWEN2_7B), &with_draft(runtime, draft)).unwrap_err().to_string();
            assert!(said.contains("cannot draft"), "{runtime}: {said}");
        }
    }
}

#[test]
fn a_module_that_predicts_tokens_is_loaded_only_when_it_drafts() {
    let row = include_str!("fixtures/oracle.jsonl").lines().find(|line| line.contains("\"deepseek-ai/DeepSeek-V3\"")).unwrap();
    let config = serde_json::from_str::<serde_json::Value>(row).unwrap()["config"].to_string();
    let scenario = |tokens| {
        let serving = Serving { speculative_tokens: tokens, ..Serving::default() };
        Scenario { gpu: Some("H200 SXM".into()), gpus: Some(8), context: Some(8192), serving, ..Scenario::default() }
    };
    let (without, with) = (on(&config, scenario(None)), on(&config, scenario(Some(1))));
    assert_eq!(held(&without, Term::DraftModel), 0);
    // Experts and attention of one more layer, the projection of two inputs, an embedding and a head: 13.46 B beside 671 B parameters,
    // and one layer's latents beside those of 61.
    let module: u64 = 257 * 3 * 7168 * 2048 + 187_107_328 + 256 * 7168 + 2 * 7168 * 7168 + 2 * 129_280 * 7168;
    let share = |part: u64, all: u64| part * 10_000 / all;
    let weights = with.devices[0].entries.iter().find(|entry| entry.term == Term::Weights).unwrap().amount.expected.get();
    assert_eq!(share(held(&with, Term::DraftModel), weights), share(module, 671_026_419_200));
    assert_eq!(held(&with, Term::KvCache) * 61, held(&without, Term::KvCache) * 62);
    let error = estimate(&model(fixture::QWEN2_7B), &scenario(Some(1))).unwrap_err().to_string();
    assert!(error.contains("no multi-token-prediction module"), "{error}");
}

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
