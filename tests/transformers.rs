//! transformers' own terms against public logs and worked figures.

use serde_json::Value;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::{AttentionImplementation, CacheImplementation, KvCache, Runtime, Scenario, Serving};

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
