//! transformers' own terms against public logs and worked figures.

use serde_json::Value;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::{AttentionImplementation, CacheImplementation, KvCache, Runtime, Scenario, Serving, Version};

fn model(id: &str) -> Model {
    let rows = include_str!("fixtures/oracle.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let row = rows.into_iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} is not in the fixture"));
    let anatomy = vramfit::config::read(&row["config"].to_string()).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn run(model: &Model, prompt: u64, answer: u64, change: impl Fn(&mut Scenario)) -> Estimate {
    let serving = Serving { answer: Some(answer), ..Serving::default() };
    let mut scenario = Scenario {
        runtime: Runtime::Transformers,
        gpu: Some("A100 80GB SXM".to_owned()),
        context: Some(prompt + answer),
        weights: "bf16".parse().unwrap(),
        serving,
        ..Scenario::default()
    };
    change(&mut scenario);
    estimate(model, &scenario).unwrap()
}

/// What PyTorch's allocator shows at its peak, summed over GPUs: everything but the contexts.
fn allocated(estimate: &Estimate) -> u64 {
    let of = |device: &vramfit::estimate::Device| {
        let (stage, peak) = device.peak().unwrap();
        peak.expected.get() - device.term_at(Term::RuntimeContext, stage).unwrap().expected.get()
    };
    estimate.devices.iter().map(|device| of(device) * (device.ranks.end - device.ranks.start)).sum()
}

/// `torch.cuda.max_memory_allocated` in GiB, bfloat16, 2,048 tokens of answer, from the speed benchmark of Qwen2.5 (transformers
/// 4.46, flash attention, A100): `QwenLM/Qwen3`, `docs/source/benchmark/speed_benchmark.rst`.
const QWEN2_5: &[(&str, u64, u64, f64)] = &[
    ("Qwen/Qwen2.5-14B", 6144, 1, 29.50),
    ("Qwen/Qwen2.5-14B", 14_336, 1, 31.95),
    ("Qwen/Qwen2.5-14B", 30_720, 1, 36.85),
    ("Qwen/Qwen2.5-32B", 1, 1, 61.58),
    ("Qwen/Qwen2.5-32B", 6144, 1, 63.72),
    ("Qwen/Qwen2.5-32B", 14_336, 1, 67.31),
    ("Qwen/Qwen2.5-32B", 30_720, 1, 74.47),
    ("Qwen/Qwen2.5-72B", 1, 2, 136.20),
    ("Qwen/Qwen2.5-72B", 6144, 2, 140.00),
];

#[test]
fn peaks_are_those_of_public_logs() {
    for &(id, prompt, gpus, measured) in QWEN2_5 {
        let answer = run(&model(id), prompt, 2048, |scenario| scenario.gpus = (gpus > 1).then_some(gpus));
        #[allow(clippy::cast_precision_loss)]
        let error = allocated(&answer) as f64 / (measured * f64::from(1 << 30)) - 1.0;
        assert!(error.abs() < 0.01, "{id}, {prompt} tokens: {:.2} %", error * 100.0);
    }
}

#[test]
fn further_gpus_get_whole_layers() {
    // 64 heads do not divide over three GPUs; 80 layers need not.
    let model = model("Qwen/Qwen2.5-72B");
    let three = run(&model, 100, 100, |scenario| scenario.gpus = Some(3));
    let weights: u64 =
        three.devices.iter().map(|device| device.term_at(Term::Weights, Stage::Load).unwrap().expected.get() * (device.ranks.end - device.ranks.start)).sum();
    assert_eq!(weights, model.anatomy.parameters().unwrap().get() * 2);
}

#[test]
fn scores_are_held_only_where_attention_is_written_out() {
    let model = model("meta-llama/Meta-Llama-3.1-8B");
    let held = |change: &dyn Fn(&mut Scenario)| {
        let answer = run(&model, 8192, 1, change);
        answer.devices[0].term_at(Term::Activations, Stage::Prefill).unwrap().expected.get()
    };
    // 32 heads × 8,192² scores × 10 B, and queries, keys, values and output of the layer.
    assert_eq!(held(&|scenario| scenario.attention = AttentionImplementation::Eager), 21_474_836_480 + 8192 * 4 * 4096 * 2);
    let whole = held(&|_| {});
    assert_eq!(whole, 8192 * (3 * 14_336 + 4 * 4096) * 2);
    assert_eq!(held(&|scenario| scenario.attention = AttentionImplementation::Flash), whole);
    // Gemma 2 has flash attention and no SDPA. T5 has SDPA and no flash.
    let gemma = self::model("google/gemma-2-9b");
    let of_gemma = |attention| {
        let answer = run(&gemma, 8192, 1, |scenario| scenario.attention = attention);
        answer.devices[0].term_at(Term::Activations, Stage::Prefill).unwrap().expected.get()
    };
    assert_eq!(of_gemma(AttentionImplementation::Sdpa), of_gemma(AttentionImplementation::Eager));
    assert!(of_gemma(AttentionImplementation::Flash) < of_gemma(AttentionImplementation::Sdpa));
    let t5 = self::model("google-t5/t5-small");
    let scenario = Scenario { runtime: Runtime::Transformers, attention: AttentionImplementation::Flash, ..Scenario::default() };
    assert!(estimate(&t5, &scenario).unwrap_err().to_string().contains("no flash attention for `t5`"));
    // A prompt in chunks holds a chunk's.
    assert_eq!(held(&|scenario| scenario.max_num_batched_tokens = Some(1024)), whole / 8);
}

#[test]
fn caches_hold_what_their_kind_keeps() {
    let model = model("meta-llama/Meta-Llama-3.1-8B");
    let answer = |cache, kv_cache| {
        run(&model, 4096, 4096, |scenario| {
            scenario.serving.cache = cache;
            scenario.kv_cache = kv_cache;
        })
    };
    let kv = |answer: &Estimate, stage| answer.devices[0].term_at(Term::KvCache, stage).unwrap().expected.get();
    let (layer, tokens) = (2 * 8 * 128, 8192);
    let whole = 32 * layer * 2 * tokens;
    let dynamic = answer(CacheImplementation::Dynamic, KvCache::Auto);
    assert_eq!((kv(&dynamic, Stage::Prefill), kv(&dynamic, Stage::Decode)), (whole / 2, whole));
    let fixed = answer(CacheImplementation::Static, KvCache::Auto);
    assert_eq!((kv(&fixed, Stage::Prefill), kv(&fixed, Stage::Decode)), (whole, whole));
    // Two of 32 layers are on the GPU, all of them on the host.
    let offloaded = answer(CacheImplementation::Offloaded, KvCache::Auto);
    assert_eq!(kv(&offloaded, Stage::Decode), whole / 16);
    assert_eq!(offloaded.host.unwrap().entries[0].amount.expected.get(), whole);
    // 4.5 bits a value, and the last 128 tokens as they are.
    let quantised = answer(CacheImplementation::Quantized, KvCache::Auto);
    assert_eq!(kv(&quantised, Stage::Decode), whole / 2 * 9 / 16 + 32 * layer * 2 * 128);
    let eight = answer(CacheImplementation::Quantized, KvCache::Fp8);
    assert_eq!(kv(&eight, Stage::Decode), whole / 2);
    assert!(eight.capacity.unwrap().kv_cache_tokens > dynamic.capacity.unwrap().kv_cache_tokens);
}

/// Bytes of keys and values while decoding.
fn cached(answer: &Estimate) -> u64 {
    let held = |device: &vramfit::estimate::Device, term| device.term_at(term, Stage::Decode).unwrap().expected.get();
    answer.devices.iter().map(|device| held(device, Term::KvCache) + held(device, Term::CrossKvCache)).sum()
}

/// What `EncoderDecoderCache` holds of such models in transformers 5.23 (small ones were run, with other sizes): beside the decoder's
/// own keys and values those of the encoder's whole output, in every layer that reads it.
#[test]
fn keys_and_values_of_what_is_read_across_stay() {
    // Layers, elements of a key, tokens of the encoder.
    for (id, layers, width, encoded) in [
        ("openai/whisper-large-v2", 32, 1280, 1500),
        ("google-t5/t5-small", 6, 512, 160),
        ("facebook/bart-large-cnn", 12, 1024, 160),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", 8, 1024, 4 * 1601),
    ] {
        let own = if id.contains("Llama") { 32 } else { layers };
        let answer = run(&model(id), 100, 60, |scenario| scenario.batch = Some(3));
        assert_eq!(cached(&answer), 3 * 2 * 2 * width * (own * 160 + layers * encoded), "{id}");
        let capacity = answer.capacity.unwrap();
        let request = u128::from(2 * 2 * width * (own * 160 + layers * encoded));
        assert_eq!(u128::from(capacity.concurrency_hundredths), u128::from(capacity.kv_cache_bytes.get()) * 100 / request, "{id}");
    }
    // IDEFICS computes them anew in each step.
    let idefics = r#"{"model_type": "idefics", "vocab_size": 32000, "additional_vocab_size": 2, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 11008, "vision_config": {"embed_dim": 1280, "num_hidden_layers": 32}, "torch_dtype": "bfloat16"}"#;
    let anatomy = vramfit::config::read(idefics).unwrap();
    let idefics = Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } };
    assert_eq!(cached(&run(&idefics, 100, 60, |_| ())), 2 * 2 * 4096 * 32 * 160);
}

/// In vLLM they are blocks of the pool that all layers share; the log's concurrency plans for as many tokens as one step may have.
#[test]
fn vllm_keeps_what_an_encoder_made_in_blocks() {
    let scenario = Scenario { batch: Some(2), context: Some(448), max_num_batched_tokens: Some(2048), ..Scenario::default() };
    let answer = estimate(&model("openai/whisper-large-v2"), &scenario).unwrap();
    let block = 32 * 2 * 1280 * 2 * 16;
    assert_eq!(cached(&answer), 2 * (448_u64.div_ceil(16) + 1500_u64.div_ceil(16)) * block);
    let capacity = answer.capacity.unwrap();
    assert_eq!(capacity.concurrency_hundredths, capacity.kv_cache_bytes.get() / block * 100 / (28 + 128));
}

/// Versions with V0 keep them too, beside the text's; encoders of text left with it.
#[test]
fn encoder_decoders_follow_the_version_of_vllm() {
    let of = |id: &str, version| {
        let serving = Serving { runtime_version: Some(version), ..Serving::default() };
        estimate(&model(id), &Scenario { serving, batch: Some(2), context: Some(448), ..Scenario::default() })
    };
    for version in [Version(0, 7, 3), Version(0, 8, 5), Version(0, 10, 2), Version(0, 33, 0)] {
        let answer = of("openai/whisper-large-v2", version).unwrap();
        assert_eq!(cached(&answer), 2 * (28 + 94) * 16 * 32 * 2 * 1280 * 2, "{version}");
    }
    assert!(of("facebook/bart-large-cnn", Version(0, 9, 2)).is_ok());
    // `_OOT_SUPPORTED_MODELS`: newer versions have it from a package.
    let newest = of("facebook/bart-large-cnn", Version(0, 33, 0)).unwrap();
    assert!(newest.warnings.iter().any(|said| said.contains("bart-plugin")));
}

/// The bias of T5's scores is a matrix for each head and pair of tokens, which SDPA takes as a mask of every request.
#[test]
fn biases_of_positions_make_a_mask_of_all_pairs() {
    let prefill = |context| {
        let answer = run(&model("google-t5/t5-small"), context - 60, 60, |scenario| scenario.batch = Some(2));
        answer.devices[0].term_at(Term::Activations, Stage::Prefill).unwrap().expected.get()
    };
    let linear = |tokens: u64| 2 * tokens * (3 * 2048 + 4 * 512) * 2 + 2 * tokens * 512 * 2;
    for tokens in [1024, 4096] {
        assert_eq!(prefill(tokens), linear(tokens) + 8 * tokens * tokens * 3 * 2);
    }
}

/// The first config of a type among those of every class.
fn class(model_type: &str) -> Value {
    let rows = include_str!("fixtures/classes.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.into_iter().map(|row| row["config"].clone()).find(|config| config["model_type"] == model_type).unwrap()
}

fn read(config: &Value) -> Model {
    let anatomy = vramfit::config::read(&config.to_string()).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

/// `_get_feat_extract_output_lengths` of Moonshine at 480,000 samples, `max_patches` of `Pix2Struct`'s processor, Donut's Swin over 2,560 × 1,920
/// pixels (patches of 4, three halvings), an image of Florence-2 beside the text.
#[test]
fn the_encoder_is_as_long_as_its_family_makes_its_input() {
    let samples = [(127, 64), (7, 3), (3, 2)].iter().fold(480_000, |length, (kernel, stride)| (length - kernel) / stride + 1);
    let swin = serde_json::json!({"model_type": "donut-swin", "image_size": [2560, 1920], "patch_size": 4, "depths": [2, 2, 14, 2],
        "num_heads": [4, 8, 16, 32], "embed_dim": 128, "window_size": 10});
    let mbart = serde_json::json!({"model_type": "mbart", "d_model": 1024, "decoder_layers": 4, "decoder_attention_heads": 16, "vocab_size": 57_525,
        "is_decoder": true, "add_cross_attention": true, "decoder_ffn_dim": 4096, "max_position_embeddings": 768});
    let donut = serde_json::json!({"model_type": "vision-encoder-decoder", "encoder": swin, "decoder": mbart});
    // wav2vec 2.0 makes 1,499 frames of 30 seconds, and its adapter halves them three times.
    let wav2vec2 = serde_json::json!({"model_type": "wav2vec2", "add_adapter": true});
    let bart = serde_json::json!({"model_type": "bart", "d_model": 1024, "is_decoder": true, "add_cross_attention": true});
    let spoken = serde_json::json!({"model_type": "speech-encoder-decoder", "encoder": wav2vec2, "decoder": bart});
    let mut rows = vec![(class("moonshine"), samples), (class("pix2struct"), 2048), (donut, 80 * 60), (spoken, 188)];
    let mut listening = class("speecht5");
    listening["architectures"] = serde_json::json!(["SpeechT5ForSpeechToText"]);
    rows.extend([(class("speech_to_text"), 750), (listening, 1499), (class("udop"), 100 + 196), (class("florence2"), 100 + 577)]);
    for (config, tokens) in rows {
        let answer = run(&read(&config), 50, 50, |_| {});
        let choice = answer.choices.iter().find(|choice| choice.key == "encoder_tokens").unwrap();
        assert_eq!(choice.value, tokens.to_string(), "{}", config["model_type"]);
        assert!(answer.devices[0].term_at(Term::CrossKvCache, Stage::Decode).unwrap().expected.get() > 0);
    }
}

/// `base_model_tp_plan` of transformers 5.23: `gpt_oss` has a plan for its experts alone.
#[test]
fn families_without_a_plan_are_not_split() {
    let two = |id: &str| {
        let scenario = Scenario { runtime: Runtime::Transformers, tensor_parallel: Some(2), ..Scenario::default() };
        estimate(&model(id), &scenario)
    };
    assert!(two("Qwen/Qwen3-8B").is_ok());
    let said = two("openai/gpt-oss-20b").unwrap_err().to_string();
    assert!(said.contains("tp_plan") && said.contains("enable_expert_parallel"), "{said}");
    // Of no other version the plans were read.
    let serving = Serving { runtime_version: Some("5.0".parse().unwrap()), ..Serving::default() };
    let older = Scenario { runtime: Runtime::Transformers, tensor_parallel: Some(2), serving, ..Scenario::default() };
    assert!(estimate(&model("openai/gpt-oss-20b"), &older).unwrap().warnings.iter().any(|said| said.contains("tp_plan")));
}
