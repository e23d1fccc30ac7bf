//! What engines other than vLLM take for themselves, and what their pools hold.

mod common;

use common::{fixture, gib, model};
use vramfit::encoding::Encoding;
use vramfit::estimate::{Basis, Bound, Entry, Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{DraftModel, KvCache, Runtime, Scenario, Serving, Version, Weights};

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
    let said = r#""quantization_config": {"quant_method": "exl2", "bits": 4.0}, "vocab_size""#;
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
    assert_eq!(device.claim.unwrap().get(), others + (free * 9).div_ceil(10));
    let block = 28 * 2 * 4 * 128 * 2 * 32;
    assert_eq!(answer.capacity.unwrap().kv_cache_tokens, free * 9 / 10 / block * 32);
    // What the pool holds fits, and not one block more.
    let tokens = answer.capacity.unwrap().kv_cache_tokens;
    let fits = |context| on(fixture::QWEN2_7B, Scenario { context: Some(context), ..scenario.clone() }).devices[0].headroom().unwrap();
    let ((bound, whole), (_, over)) = (fits(tokens), fits(tokens + 1));
    assert!(bound == Bound::Budget && whole.fits() && !over.fits(), "{tokens}");
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

#[test]
fn requests_share_the_tokens_of_a_step_in_layers_with_windows() {
    // Gemma 2 9B: 21 of 42 layers with a window of 4,096; blocks of 16 tokens; steps of 2,048.
    let config = fixture::GEMMA2_9B.replace("\"max_position_embeddings\": 8192", "\"max_position_embeddings\": 65536").replace("float32", "bfloat16");
    let cell = 21 * 2 * 8 * 256 * 2;
    let tokens = |runtime, batch: u64| {
        let scenario = Scenario { runtime, batch: Some(batch), context: Some(32_768), max_num_batched_tokens: Some(2048), ..sglang(None, 1) };
        let answer = estimate(&model(&config), &Scenario { serving: Serving::default(), ..scenario }).unwrap();
        answer.devices[0].term_at(Term::KvCache, Stage::Prefill).unwrap().expected.get() / cell
    };
    let window = |batch: u64| 4096 * batch;
    assert_eq!(tokens(Runtime::Sglang, 8), 8 * 32_768 + window(8) + 2048);
    // Two steps are in flight; a window starts anywhere in a block.
    assert_eq!(tokens(Runtime::Vllm, 8), 8 * 32_768 + window(8) + 8 * 16 + 2 * 2048);
    assert_eq!(tokens(Runtime::Vllm, 1), 32_768 + window(1) + 16 + 2 * 2048);
}

#[test]
fn tensorrt_llm_keeps_the_whole_context_in_every_layer_and_values_as_wide_as_keys() {
    let config = recorded("XiaomiMiMo/MiMo-V2-Flash");
    let scenario = Scenario { runtime: Runtime::TensorRtLlm, gpu: Some("H200 SXM".into()), gpus: Some(4), context: Some(32_768), ..Scenario::default() };
    let answer = on(&config, scenario);
    // A log of 1.3.0rc0 with two of its layers: 4 KV heads in full ones, 8 with a window, 192 for keys, and values padded to it. Here the
    // heads are split over four: 9 layers of one head, 39 of two.
    let held = answer.devices[0].term_at(Term::KvCache, Stage::Decode).unwrap().expected.get();
    assert_eq!(held, 32_768 * (9 + 39 * 2) * 2 * 192 * 2);
    assert_eq!((4_u64 + 8) * 2 * 192 * 2 * 262_112 * 100 / (1 << 30), 224); // 2.25 GiB in the log
}

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

#[test]
fn sparse_latents_are_packed_where_the_version_does_so() {
    // 61 layers of 656 bytes packed, else of 576 values of 16 bits; and 132 bytes of the indexer.
    let per_token = |version, kv_cache| {
        let serving = Serving { runtime_version: Some(version), ..Serving::default() };
        let scenario = Scenario { serving, kv_cache, gpus: Some(8), gpu: Some("H200 SXM".into()), context: Some(6400), ..Scenario::default() };
        held(&on(&recorded("deepseek-ai/DeepSeek-V3.2"), scenario), Term::KvCache)
    };
    let (packed, plain) = (per_token(Version(0, 33, 0), KvCache::Fp8), per_token(Version(0, 33, 0), KvCache::Auto));
    assert!(packed < plain);
    assert_eq!(per_token(Version(0, 11, 0), KvCache::Auto), packed);
    assert_eq!(per_token(Version(0, 12, 0), KvCache::Auto), plain);
}

/// The config of a record of the oracle.
fn recorded(id: &str) -> String {
    let row = include_str!("fixtures/oracle.jsonl").lines().find(|line| line.contains(&format!("\"{id}\""))).unwrap();
    serde_json::from_str::<serde_json::Value>(row).unwrap()["config"].to_string()
}

#[test]
fn what_is_read_of_an_encoder_is_held_for_every_request() {
    let across = |config: &str, scenario: Scenario| {
        let answer = on(config, scenario);
        answer.devices[0].term_at(Term::CrossKvCache, Stage::Decode).unwrap().expected.get()
    };
    let four = |runtime| Scenario { runtime, batch: Some(4), gpu: Some("L4".into()), ..Scenario::default() };
    // Whisper's turbo: 1,500 positions of half a minute in 4 layers of 20 heads of 64, which vLLM holds in 94 blocks of 16.
    let whisper = recorded("openai/whisper-large-v3-turbo");
    assert_eq!(across(&whisper, four(Runtime::Vllm)), 4 * 94 * 16 * 4 * 2 * 20 * 64 * 2);
    assert_eq!(across(&whisper, Scenario { gpus: Some(2), ..four(Runtime::Vllm) }), 4 * 94 * 16 * 4 * 2 * 10 * 64 * 2);
    // Llama 3.2 Vision: 4 tiles of 1,601 patches in 8 layers of 8 heads of 128 (memory of `CrossAttentionSpec`).
    let vision = recorded("meta-llama/Llama-3.2-11B-Vision-Instruct");
    let large = Scenario { gpu: Some("H100 SXM5 80GB".into()), ..four(Runtime::Transformers) };
    assert_eq!(across(&vision, large), 4 * 4 * 1601 * 8 * 2 * 8 * 128 * 2);
    // BART's encoder has 1,024 positions; T5's reads as much as there is.
    let long = Scenario { context: Some(4096), weights: Weights::Plain(Encoding::F32), ..four(Runtime::Transformers) };
    assert_eq!(across(&recorded("facebook/bart-large-cnn"), long.clone()), 4 * 1024 * 12 * 2 * 16 * 64 * 4);
    assert_eq!(across(&recorded("google-t5/t5-small"), long.clone()), 4 * 4096 * 6 * 2 * 8 * 64 * 4);
    // The least that runs is one request, and decoders alone read nothing.
    let answer = on(&recorded("google-t5/t5-small"), long.clone());
    let alone = on(&recorded("google-t5/t5-small"), Scenario { batch: Some(1), ..long.clone() });
    assert_eq!(answer.devices[0].minimum, alone.devices[0].minimum);
    assert_eq!(across(fixture::QWEN2_7B, long), 0);
}

fn refusal(config: &str, scenario: &Scenario) -> String {
    estimate(&model(config), scenario).unwrap_err().to_string()
}

fn of_version(runtime: Runtime, version: Option<Version>) -> Scenario {
    let serving = Serving { runtime_version: version, ..Serving::default() };
    Scenario { runtime, gpu: Some("H100 SXM5 80GB".into()), serving, ..Scenario::default() }
}

/// `pad_input_ids` and `num_attention_layers` of SGLang 0.5.23: tokens of the encoder have slots, and a slot has room in every layer.
#[test]
fn sglang_gives_tokens_of_an_encoder_slots_of_its_pool() {
    // Whisper tiny: 4 layers of the encoder, 4 of the decoder twice, each of 6 heads of 64; 1,500 tokens of half a minute.
    let slot = (4 + 2 * 4) * 2 * 6 * 64 * 2;
    let scenario = Scenario { batch: Some(3), context: Some(448), ..of_version(Runtime::Sglang, None) };
    let answer = on(&recorded("openai/whisper-tiny"), scenario.clone());
    assert_eq!([held(&answer, Term::KvCache), held(&answer, Term::CrossKvCache)], [3 * 448 * slot, 3 * 1500 * slot]);
    let capacity = answer.capacity.unwrap();
    assert_eq!(capacity.kv_cache_bytes.get(), capacity.kv_cache_tokens * slot);
    assert_eq!(capacity.concurrency_hundredths, capacity.kv_cache_tokens * 100 / (448 + 1500));
    // Llama 3.2 Vision: 32 + 8 layers of 8 heads of 128; 4 tiles of 1,601 patches.
    let answer = on(&recorded("meta-llama/Llama-3.2-11B-Vision-Instruct"), scenario);
    assert_eq!(held(&answer, Term::CrossKvCache), 3 * 4 * 1601 * 40 * 2 * 8 * 128 * 2);
}

#[test]
fn vllm_answers_by_the_newest_version_that_loads_the_model() {
    // A log of V0 (vllm-096): 14.65 GiB are 6,001 blocks of 16 tokens in all 40 layers, 163,840 B each.
    let vision = recorded("meta-llama/Llama-3.2-11B-Vision-Instruct");
    let answer = on(&vision, of_version(Runtime::Vllm, None));
    assert_eq!(chosen(&answer, "runtime_version"), "0.10.2");
    assert_eq!(held(&answer, Term::KvCache), 8192 * 163_840);
    // 6,404 tokens of an image in 401 blocks.
    assert_eq!(held(&answer, Term::CrossKvCache), 401 * 16 * 163_840);
    assert!(refusal(&vision, &of_version(Runtime::Vllm, Some(Version(0, 11, 0)))).contains("0.10.2"));
    // Whisper stays on V0 up to 0.10.1: at least 5,120 tokens of a step for what reads more than text.
    let whisper = recorded("openai/whisper-tiny");
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
    assert!(refusal(&recorded("Salesforce/blip-image-captioning-large"), &of_version(Runtime::Vllm, None)).contains("`blip`"));
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
    let config = recorded("deepseek-ai/DeepSeek-V3");
    let mut plain: serde_json::Value = serde_json::from_str(&config).unwrap();
    plain.as_object_mut().unwrap().remove("quantization_config");
    let of_files = on(&config, mlx());
    assert_eq!(weights(&of_files), weights(&on(&plain.to_string(), mlx())));
    assert!(of_files.assumptions.iter().any(|said| said.contains("sanitize")));
    let of_modelopt = fp8("qwen2", r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#);
    assert!(refusal(&of_modelopt, &mlx()).contains("NVFP4"));
    // A family that it lacks is answered by its rules.
    let answer = on(&recorded("openai/whisper-tiny"), mlx());
    assert!(answer.warnings.iter().any(|said| said.contains("`whisper`") && said.contains("mlx-whisper")));
}

/// The page's first module answers what it answers as the whole engine does, encoders behind text decoders included.
#[test]
fn what_the_page_answers_at_once_is_what_the_engine_answers() {
    let rows = include_str!("fixtures/classes.jsonl").lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let donut = serde_json::json!({
        "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
        "encoder": {"model_type": "donut-swin", "image_size": [2560, 1920], "embed_dim": 128, "depths": [2, 2, 14, 2], "num_heads": [4, 8, 16, 32], "window_size": 10},
        "decoder": {"model_type": "mbart", "vocab_size": 57525, "d_model": 1024, "decoder_layers": 4, "encoder_layers": 12, "decoder_attention_heads": 16,
            "decoder_ffn_dim": 4096, "max_position_embeddings": 768, "is_decoder": true, "add_cross_attention": true, "scale_embedding": true, "add_final_layer_norm": true},
    });
    let (mut common, mut across) = (0, 0);
    for config in rows.map(|row| row["config"].clone()).chain([donut.clone()]) {
        let Ok(anatomy) = vramfit::config::read(&config.to_string()) else { continue };
        let mut tensors = anatomy.components[0].layers.iter().flat_map(|run| &run.tensors);
        let reads_across = tensors.any(|tensor| tensor.name.contains("encoder_attn.") || tensor.name.contains("crossattention."));
        let model = model(&config.to_string());
        let scenario = Scenario { context: Some(256), ..Scenario::default() };
        match vramfit::memory::common_estimate(&model, &scenario) {
            Some(answer) => {
                assert_eq!(answer, estimate(&model, &scenario), "{}", config["model_type"]);
                assert!(!reads_across, "{}", config["model_type"]);
                common += 1;
            }
            None => across += u64::from(reads_across),
        }
    }
    assert!(common > 200 && across > 10, "{common} {across}");
    // `models/registry.py` of 0.10.2 has Donut, and no other has.
    let answer = on(&donut.to_string(), Scenario { context: Some(256), ..of_version(Runtime::Vllm, None) });
    assert_eq!(chosen(&answer, "runtime_version"), "0.10.2");
    assert!(refusal(&donut.to_string(), &of_version(Runtime::Vllm, Some(Version(0, 11, 0)))).contains("`donut`"));
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

/// 20 GiB on the host, over two replicas of two ranks.
fn with_tier(runtime: Runtime, version: Option<Version>) -> Scenario {
    let serving = Serving { runtime_version: version, kv_offloading_size: Some(Bytes(20 << 30)), ..Serving::default() };
    let parallel = vramfit::scenario::Parallel { data: Some(2), ..Default::default() };
    Scenario { runtime, gpu: Some("H100 SXM5 80GB".into()), tensor_parallel: Some(2), parallel, serving, ..Scenario::default() }
}

#[test]
fn the_host_holds_what_was_asked_for_of_each_replica() {
    for runtime in [Runtime::Vllm, Runtime::Sglang, Runtime::TensorRtLlm] {
        let scenario = with_tier(runtime, None);
        let plain = Scenario { serving: Serving { kv_offloading_size: None, ..scenario.serving.clone() }, ..scenario.clone() };
        let (answer, plain) = (on(fixture::QWEN2_7B, scenario), on(fixture::QWEN2_7B, plain));
        let host = answer.host.as_ref().unwrap();
        assert_eq!(host.term_at(Term::KvCache, Stage::Load).unwrap().expected, Bytes(40 << 30), "{runtime}");
        assert_eq!(chosen(&answer, "kv_offloading_size"), (20u64 << 30).to_string());
        // What the GPUs hold stays as it is.
        assert!(plain.host.is_none() && plain.devices == answer.devices && plain.capacity == answer.capacity, "{runtime}");
        // SGLang's pool on the host is a copy of a part of the GPUs' when it is smaller.
        assert_eq!(answer.warnings.iter().any(|warning| warning.contains("smaller than the GPUs'")), runtime == Runtime::Sglang);
    }
}

#[test]
fn a_tier_on_the_host_follows_the_version_of_vllm() {
    let of = |config, version| estimate(&model(config), &with_tier(Runtime::Vllm, Some(version)));
    assert!(of(fixture::QWEN2_7B, Version(0, 11, 0)).unwrap_err().to_string().contains("since 0.11.1"));
    // Pinned tensors are rounded up to powers of two, a shared region is not.
    for (version, most) in [(Version(0, 20, 0), 80u64 << 30), (Version(0, 33, 0), 40 << 30)] {
        let host = of(fixture::QWEN2_7B, version).unwrap().host.unwrap();
        assert_eq!(host.term_at(Term::KvCache, Stage::Decode).unwrap().high, Bytes(most), "{version}");
    }
    let says = |config, version| of(config, version).unwrap().warnings.iter().any(|warning| warning.contains("hybrid KV cache manager off"));
    assert!(says(fixture::GEMMA2_9B, Version(0, 20, 0)) && !says(fixture::GEMMA2_9B, Version(0, 22, 0)) && !says(fixture::QWEN2_7B, Version(0, 20, 0)));
    let none = Serving { kv_offloading_size: Some(Bytes(0)), ..Serving::default() };
    assert!(estimate(&model(fixture::QWEN2_7B), &Scenario { serving: none, ..Scenario::default() }).is_err());
}

/// Kernels pad packed experts by rules that the page's first module does without, whatever the files say.
#[test]
fn quantised_models_are_left_to_the_whole_engine() {
    let model = model(&recorded("openai/gpt-oss-20b"));
    assert!(model.anatomy.quantization.is_some() && !vramfit::memory::is_common(&model, &Scenario::default()));
}

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

#[test]
fn deepseek_v4s_eight_bits_are_said() {
    let config = published("deepseek-ai/DeepSeek-V4-Flash");
    for (runtime, is_said) in [(Runtime::Vllm, true), (Runtime::Sglang, true), (Runtime::Transformers, false)] {
        let answer = on(&config, Scenario { runtime, gpu: Some("B200".into()), ..Scenario::default() });
        assert_eq!(answer.warnings.iter().any(|said| said.contains("584 bytes")), is_said, "{runtime}");
    }
}
