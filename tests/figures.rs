//! Figures that must come out, to the byte.

mod common;

use common::{fixture, gib, model, parameter_bytes};
use vramfit::encoding::Encoding;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::plan::{LongestContext, longest_context};
use vramfit::quantity::Bytes;
use vramfit::scenario::{KvCache, Runtime, Scenario, Weights};

fn scenario(runtime: Runtime) -> Scenario {
    Scenario { runtime, ..Scenario::default() }
}

fn term(answer: &Estimate, term: Term, stage: Stage) -> u64 {
    answer.devices[0].term_at(term, stage).unwrap().expected.get()
}

fn kv(config: &str, scenario: &Scenario) -> u64 {
    term(&estimate(&model(config), scenario).unwrap(), Term::KvCache, Stage::Decode)
}

/// The engines that load safetensors onto the card.
const LOADERS: [Runtime; 4] = [Runtime::Vllm, Runtime::Sglang, Runtime::TensorRtLlm, Runtime::Transformers];

#[test]
fn weights_from_the_config_alone() {
    for (config, parameters, weights) in [
        (fixture::MISTRAL_7B, 7_241_732_096, 14_483_464_192),
        (fixture::QWEN2_7B, 7_615_616_512, 15_231_233_024),
        (fixture::MIXTRAL_8X7B, 46_702_792_704, 93_405_585_408),
        (fixture::GEMMA2_9B, 9_241_705_984, 18_483_411_968),
    ] {
        let model = model(config);
        assert_eq!(model.anatomy.parameters().unwrap().get(), parameters);
        for runtime in LOADERS {
            let answer = estimate(&model, &Scenario { weights: Weights::Plain(Encoding::BF16), ..scenario(runtime) }).unwrap();
            assert_eq!(parameter_bytes(&answer.devices[0]), weights, "{runtime}");
        }
    }
    assert_eq!(model(fixture::GPT2).anatomy.parameters().unwrap().get(), 124_439_808);
}

#[test]
fn kv_cache_to_the_byte() {
    let at = |context, kv_cache| Scenario { context: Some(context), kv_cache, ..scenario(Runtime::Transformers) };
    for runtime in &LOADERS {
        let with = |context| Scenario { runtime: *runtime, ..at(context, KvCache::Fp16) };
        assert_eq!(kv(fixture::MISTRAL_7B_INSTRUCT_V02, &with(32_768)), 4_294_967_296);
        assert_eq!(kv(fixture::GPT2, &with(1024)), 37_748_736);
        assert_eq!(kv(fixture::QWEN2_7B, &with(8192)), 469_762_048);
        // head_dim 128, not hidden_size / heads = 80
        assert_eq!(kv(fixture::QWEN3_4B, &with(32_768)), 4_831_838_208);
    }
}

#[test]
fn a_sliding_window_is_honoured_as_each_runtime_does() {
    // transformers keeps the window less the token being written; vLLM whole blocks of 16, and one more.
    let per_token = 32 * 2 * 8 * 128 * 2;
    let at = |runtime| kv(fixture::MISTRAL_7B, &Scenario { context: Some(32_768), ..scenario(runtime) });
    assert_eq!(at(Runtime::Transformers), per_token * 4095);
    assert_eq!(at(Runtime::Vllm), per_token * 16 * (4095u64.div_ceil(16) + 1));
    // While prefilling in steps, transformers holds the window and the last step, and vLLM the window and the steps in flight.
    let peak = |runtime| {
        let answer =
            estimate(&model(fixture::MISTRAL_7B), &Scenario { context: Some(32_768), max_num_batched_tokens: Some(2048), ..scenario(runtime) }).unwrap();
        term(&answer, Term::KvCache, Stage::Prefill)
    };
    assert_eq!(peak(Runtime::Transformers), per_token * (4095 + 2048));
    assert_eq!(peak(Runtime::Vllm), per_token * 16 * ((4095u64 + 2 * 2048).div_ceil(16) + 1));
}

#[test]
fn hybrid_layers_share_vllms_pool() {
    // Gemma-2-9B: 21 full and 21 sliding layers of equal pages are two groups of 21.
    let answer = kv(fixture::GEMMA2_9B, &Scenario { context: Some(8192), ..scenario(Runtime::Vllm) });
    assert_eq!(answer, 21 * 2 * 8 * 256 * 2 * 16 * (8192 / 16 + 4095u64.div_ceil(16) + 1));
}

#[test]
fn tensor_parallel_ranks_split_and_repeat() {
    // Qwen2-7B has 4 KV heads: on 7 GPUs nothing divides, on 4 each has one, on 28 every head is held seven times.
    let kv_on = |gpus| kv(fixture::QWEN2_7B, &Scenario { gpus: Some(gpus), context: Some(8192), ..scenario(Runtime::Vllm) });
    assert_eq!(kv_on(4), 469_762_048 / 4);
    assert_eq!(kv_on(28), 469_762_048 / 4);
    let error = estimate(&model(fixture::QWEN2_7B), &Scenario { gpus: Some(3), ..scenario(Runtime::Vllm) }).unwrap_err();
    assert!(error.to_string().contains("28 attention heads do not divide over 3 GPUs"), "{error}");

    // Mistral-7B on 2: everything but 65 norms is halved.
    let answer = estimate(&model(fixture::MISTRAL_7B), &Scenario { gpus: Some(2), ..scenario(Runtime::Vllm) }).unwrap();
    let norms = 65 * 4096;
    assert_eq!(parameter_bytes(&answer.devices[0]), ((7_241_732_096 - norms) / 2 + norms) * 2);
    assert_eq!(answer.devices[0].ranks, 0..2);
}

#[test]
fn vllm_pads_the_vocabulary_and_transformers_does_not() {
    let weights = |runtime| {
        let scenario = Scenario { weights: Weights::Plain(Encoding::F16), ..scenario(runtime) };
        parameter_bytes(&estimate(&model(fixture::GPT2), &scenario).unwrap().devices[0])
    };
    assert_eq!(weights(Runtime::Transformers), 124_439_808 * 2);
    assert_eq!(weights(Runtime::Vllm), (124_439_808 + (50_304 - 50_257) * 768) * 2);
}

#[test]
fn vllm_loads_tables_and_whole_segments_beside_the_parameters() {
    // "Model loading took 7.5552 GiB": 4,022,468,096 parameters and a table of 40,960 positions alone are 7.5024.
    let config = fixture::QWEN3_4B.replace('{', r#"{"rope_theta": 1000000, "#);
    let answer = estimate(&model(&config), &scenario(Runtime::Vllm)).unwrap();
    let at_load = |term| answer.devices[0].term_at(term, Stage::Load).unwrap();
    let weights = at_load(Term::Weights).plus(at_load(Term::Buffers)).unwrap();
    assert_eq!(parameter_bytes(&answer.devices[0]), 4_022_468_096 * 2);
    let logged = 75_552 * (gib(1) / 10_000);
    assert!(weights.expected.get().abs_diff(logged) < gib(1) / 5_000 && weights.high.get() > logged, "{weights:?}");
}

#[test]
fn vllm_runs_float32_checkpoints_in_16_bits() {
    let weights = |runtime| parameter_bytes(&estimate(&model(fixture::GEMMA2_9B), &scenario(runtime)).unwrap().devices[0]);
    assert_eq!(weights(Runtime::Transformers), 9_241_705_984 * 4);
    assert_eq!(weights(Runtime::Vllm), 9_241_705_984 * 2);
}

#[test]
fn the_verdict_names_the_limit_that_binds() {
    let model = model(fixture::MISTRAL_7B_INSTRUCT_V02);
    let fits = |gpu: &str, runtime| {
        let answer = estimate(&model, &Scenario { gpu: Some(gpu.into()), context: Some(8192), ..scenario(runtime) }).unwrap();
        answer.fits().unwrap()
    };
    assert!(fits("H100 SXM5 80GB", Runtime::Vllm));
    assert!(fits("GeForce RTX 4090", Runtime::Vllm));
    assert!(!fits("T4", Runtime::Vllm));
    // A card that holds the need but not vLLM's claim: its budget and the context outside it.
    let answer = estimate(&model, &Scenario { gpu_memory_utilization: Some("1".parse().unwrap()), ..scenario(Runtime::Vllm) }).unwrap();
    assert!(!answer.fits().unwrap());
    let (bound, _) = answer.devices[0].headroom().unwrap();
    assert_eq!(bound.name(), "usable_bytes");
}

#[test]
fn the_longest_context_is_tight() {
    for (config, gpu, runtime) in [
        (fixture::MISTRAL_7B_INSTRUCT_V02, "GeForce RTX 4090", Runtime::Vllm),
        (fixture::MISTRAL_7B_INSTRUCT_V02, "GeForce RTX 4090", Runtime::Transformers),
        (fixture::QWEN3_4B, "T4", Runtime::Transformers),
        (fixture::GEMMA2_9B, "L40S", Runtime::Vllm),
    ] {
        let model = model(config);
        let scenario = Scenario { gpu: Some(gpu.into()), weights: Weights::Plain(Encoding::BF16), ..scenario(runtime) };
        let LongestContext::Tokens(longest) = longest_context(&model, &scenario).unwrap() else { panic!("{gpu} {runtime}") };
        let fits = |context| estimate(&model, &Scenario { context: Some(context), ..scenario.clone() }).unwrap().fits().unwrap();
        assert!(fits(longest) && !fits(longest + 1), "{longest}");
    }
    let too_big = Scenario { gpu: None, gpu_capacity: Some(Bytes(gib(4))), ..scenario(Runtime::Transformers) };
    assert_eq!(longest_context(&model(fixture::MISTRAL_7B), &too_big).unwrap(), LongestContext::Nothing);
    let windowed = scenario(Runtime::Vllm);
    assert_eq!(longest_context(&model(fixture::MISTRAL_7B), &windowed).unwrap(), LongestContext::Unlimited);
}

#[test]
fn impossible_settings_say_what_to_do() {
    let of = |scenario: &Scenario| estimate(&model(fixture::MISTRAL_7B), scenario).unwrap_err().to_string();
    assert!(of(&Scenario { kv_cache: KvCache::Fp8, ..scenario(Runtime::Transformers) }).contains("for vLLM"));
    assert!(of(&Scenario { kv_cache: KvCache::Fp32, ..scenario(Runtime::Vllm) }).contains("for transformers"));
    assert!(of(&Scenario { gpu: Some("H9000".into()), ..Scenario::default() }).contains("H9000"));
    assert!(of(&Scenario { context: Some(0), ..Scenario::default() }).contains("context"));
    assert!(of(&Scenario { gpu_memory_utilization: Some("1.5".parse().unwrap()), ..Scenario::default() }).contains("at most 1"));
    assert!(of(&Scenario { batch: Some(1 << 40), context: Some(1 << 40), ..Scenario::default() }).contains("out of range"));
    for parallel in [0, 1 << 40] {
        let error = of(&Scenario { tensor_parallel: Some(parallel), ..Scenario::default() });
        assert_eq!(error, format!("tensor_parallel is {parallel}; it must be 1 to 65,536"));
    }
    assert!(of(&Scenario { gpus: Some(2), tensor_parallel: Some(4), ..Scenario::default() }).contains("must be equal"));
}
