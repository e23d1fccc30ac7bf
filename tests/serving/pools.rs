//! What pools of keys and values hold: shares of a card, blocks, layers with windows.

use crate::common::{fixture, gib, model};
use crate::{chosen, held, on, published};
use vramfit::estimate::{Bound, Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{KvCache, Runtime, Scenario, Serving, Version};

fn sglang(version: Option<Version>, gpus: u64) -> Scenario {
    let serving = Serving { runtime_version: version, ..Serving::default() };
    Scenario { runtime: Runtime::Sglang, gpu: Some("H100 SXM5 80GB".into()), gpus: Some(gpus), serving, ..Scenario::default() }
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
    let config = published("XiaomiMiMo/MiMo-V2-Flash");
    let scenario = Scenario { runtime: Runtime::TensorRtLlm, gpu: Some("H200 SXM".into()), gpus: Some(4), context: Some(32_768), ..Scenario::default() };
    let answer = on(&config, scenario);
    // A log of 1.3.0rc0 with two of its layers: 4 KV heads in full ones, 8 with a window, 192 for keys, and values padded to it. Here the
    // heads are split over four: 9 layers of one head, 39 of two.
    let held = answer.devices[0].term_at(Term::KvCache, Stage::Decode).unwrap().expected.get();
    assert_eq!(held, 32_768 * (9 + 39 * 2) * 2 * 192 * 2);
    assert_eq!((4_u64 + 8) * 2 * 192 * 2 * 262_112 * 100 / (1 << 30), 224); // 2.25 GiB in the log
}

#[test]
fn sparse_latents_are_packed_where_the_version_does_so() {
    // 61 layers of 656 bytes packed, else of 576 values of 16 bits; and 132 bytes of the indexer.
    let per_token = |version, kv_cache| {
        let serving = Serving { runtime_version: Some(version), ..Serving::default() };
        let scenario = Scenario { serving, kv_cache, gpus: Some(8), gpu: Some("H200 SXM".into()), context: Some(6400), ..Scenario::default() };
        held(&on(&published("deepseek-ai/DeepSeek-V3.2"), scenario), Term::KvCache)
    };
    let (packed, plain) = (per_token(Version(0, 33, 0), KvCache::Fp8), per_token(Version(0, 33, 0), KvCache::Auto));
    assert!(packed < plain);
    assert_eq!(per_token(Version(0, 11, 0), KvCache::Auto), packed);
    assert_eq!(per_token(Version(0, 12, 0), KvCache::Auto), plain);
}

#[test]
fn deepseek_v4s_eight_bits_are_said() {
    let config = published("deepseek-ai/DeepSeek-V4-Flash");
    for (runtime, is_said) in [(Runtime::Vllm, true), (Runtime::Sglang, true), (Runtime::Transformers, false)] {
        let answer = on(&config, Scenario { runtime, gpu: Some("B200".into()), ..Scenario::default() });
        assert_eq!(answer.warnings.iter().any(|said| said.contains("584 bytes")), is_said, "{runtime}");
    }
}
