//! llama.cpp against its own planner and its logs. Sizes are those that llama.cpp prints, in MiB.
#![allow(clippy::cast_precision_loss, clippy::float_cmp)] // sizes as logs print them: MiB with two places

mod common;

use common::{fixture, model};
use vramfit::estimate::{Basis, Estimate, Ledger, Stage, Term};
use vramfit::memory::estimate;
use vramfit::model::Model;
use vramfit::quantity::{Bytes, MIB};
use vramfit::scenario::{FlashAttention, KvCache, LlamaCpp, Runtime, Scenario, Weights};

/// Fields of published configs that matter for memory.
const LLAMA_31_8B: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "vocab_size": 128256}"#;
const LLAMA_2_7B: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "tie_word_embeddings": false, "torch_dtype": "float16",
    "vocab_size": 32000}"#;
const YI_6B: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 4, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "vocab_size": 64000}"#;
const GEMMA_3_27B: &str = r#"{"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "head_dim": 128, "num_attention_heads": 32,
    "num_hidden_layers": 62, "num_key_value_heads": 16, "sliding_window": 1024, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
    "vocab_size": 262208, "max_position_embeddings": 131072}"#;
const QWEN3_30B: &str = r#"{"model_type": "qwen3_moe", "head_dim": 128, "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960,
    "mlp_only_layers": [], "decoder_sparse_step": 1, "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "vocab_size": 151936}"#;
const MAMBA_2: &str = r#"{"model_type": "mamba2", "conv_kernel": 4, "expand": 2, "head_dim": 64, "hidden_size": 4096, "n_groups": 8, "num_heads": 128,
    "num_hidden_layers": 64, "state_size": 128, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32768}"#;

fn asked(context: u64, flags: LlamaCpp) -> Scenario {
    Scenario {
        gpu: None,
        gpu_capacity: Some(Bytes(1 << 40)),
        runtime: Runtime::LlamaCpp,
        weights: "fp16".parse().unwrap(),
        context: Some(context),
        llama_cpp: flags,
        ..Scenario::default()
    }
}

fn answer(model: &Model, scenario: &Scenario) -> Estimate {
    estimate(model, scenario).unwrap()
}

/// A term in hundredths of MiB, rounded as logs round.
fn mib(ledger: &Ledger, term: Term) -> f64 {
    let bytes = ledger.term_at(term, ledger.steady_stage()).unwrap().expected.get();
    (bytes as f64 / MIB as f64 * 100.0).round() / 100.0
}

fn flags(flash_attention: FlashAttention) -> LlamaCpp {
    LlamaCpp { flash_attention, ..LlamaCpp::default() }
}

#[test]
fn caches_are_as_long_as_llama_cpp_makes_them() {
    let kv = |config, context, kv_cache, flags| {
        let scenario = Scenario { kv_cache, ..asked(context, flags) };
        mib(&answer(&model(config), &scenario).devices[0], Term::KvCache)
    };
    let plain = LlamaCpp::default;
    for (format, size) in [(KvCache::Auto, 1024.0), (KvCache::Q8_0, 544.0), (KvCache::Q5_1, 384.0), (KvCache::Q4_0, 288.0), (KvCache::Fp32, 2048.0)] {
        assert_eq!(kv(LLAMA_31_8B, 8192, format, plain()), size, "{format}");
    }
    // Padded to 256 cells.
    assert_eq!(kv(LLAMA_31_8B, 5000, KvCache::Auto, plain()), 640.0);
    // Ten layers see everything, 52 a window of 1,024 and the micro-batch.
    assert_eq!(kv(GEMMA_3_27B, 32_768, KvCache::Auto, plain()), 3184.0);
    assert_eq!(kv(GEMMA_3_27B, 131_072, KvCache::Auto, plain()), 10_864.0);
    assert_eq!(kv(GEMMA_3_27B, 32_768, KvCache::Auto, LlamaCpp { swa_full: true, ..plain() }), 15_872.0);
    assert_eq!(kv(GEMMA_3_27B, 8192, KvCache::Auto, LlamaCpp { parallel: Some(4), ..plain() }), 5056.0);
    // Keys and values in formats of their own.
    let apart = LlamaCpp { kv_cache_k: Some(KvCache::Q8_0), kv_cache_v: Some(KvCache::Q4_0), ..plain() };
    assert_eq!(kv(LLAMA_31_8B, 8192, KvCache::Auto, apart), 272.0 + 144.0);
}

#[test]
fn states_are_in_float32_for_every_sequence() {
    let answer = answer(&model(MAMBA_2), &asked(8192, LlamaCpp { parallel: Some(3), ..LlamaCpp::default() }));
    // 64 layers × 3 sequences × ((8,192 + 2 × 8 × 128) × 3 + 8,192 × 128) × 4 B
    assert_eq!(mib(&answer.devices[0], Term::State), 64.0 * 3.0 * f64::from(10_240 * 3 + 8192 * 128) * 4.0 / MIB as f64);
    assert!(answer.capacity.is_none() && answer.devices[0].entries.iter().all(|entry| entry.term != Term::KvCache));
}

#[test]
fn compute_buffers_are_those_of_the_planner() {
    use FlashAttention::{Off, On};
    // (config, context, micro-batch, flash attention, device, host)
    let planned = [
        (LLAMA_31_8B, 512, 512, On, 258.5, 16.51),
        (LLAMA_31_8B, 8192, 512, On, 258.5, 24.01),
        (LLAMA_31_8B, 131_072, 512, On, 258.5, 144.01),
        (LLAMA_31_8B, 8192, 512, Off, 564.01, 36.01),
        (LLAMA_31_8B, 32_768, 512, Off, 2148.01, 84.01),
        (LLAMA_31_8B, 131_072, 512, Off, 8484.01, 276.01),
        (LLAMA_31_8B, 8192, 64, On, 32.31, 3.0),
        (LLAMA_31_8B, 8192, 2048, On, 1034.0, 96.05),
        (LLAMA_2_7B, 512, 512, On, 89.01, 16.51),
        (LLAMA_2_7B, 32_768, 512, On, 120.51, 48.01),
        (LLAMA_2_7B, 4096, 512, Off, 312.01, 40.01),
        (LLAMA_2_7B, 32_768, 512, Off, 2160.01, 96.01),
        (QWEN3_30B, 32_768, 512, On, 300.75, 40.01),
        (QWEN3_30B, 32_768, 512, Off, 2138.01, 74.01),
        (GEMMA_3_27B, 4096, 512, On, 522.62, 26.52),
        (GEMMA_3_27B, 131_072, 512, On, 522.62, 150.52),
    ];
    for (config, context, ubatch, flash_attention, device, host) in planned {
        let flags = LlamaCpp { ubatch: Some(ubatch), ..flags(flash_attention) };
        let answer = answer(&model(config), &asked(context, flags));
        let got = (mib(&answer.devices[0], Term::Activations), mib(answer.host.as_ref().unwrap(), Term::Activations));
        assert!((got.0 - device).abs() < 0.011 && (got.1 - host).abs() < 0.021, "{got:?}, not {device} and {host} with {context} tokens of {config}");
    }
}

#[test]
fn layers_go_to_the_gpu_from_the_last_one() {
    let model = model(LLAMA_31_8B);
    // (--gpu-layers, weights on the device, on the host, layers whose cache is on the device)
    for (gpu_layers, device, host, cached) in
        [(0, 0.0, 15_317.02, 0.0), (1, 1002.02, 14_315.0, 0.0), (16, 7242.48, 8074.53, 15.0), (33, 14_315.02, 1002.0, 32.0), (99, 14_315.02, 1002.0, 32.0)]
    {
        let answer = answer(&model, &asked(8192, LlamaCpp { gpu_layers: Some(gpu_layers), ..LlamaCpp::default() }));
        let (gpu, ram) = (&answer.devices[0], answer.host.as_ref().unwrap());
        assert_eq!((mib(gpu, Term::Weights), mib(ram, Term::Weights)), (device, host), "--gpu-layers {gpu_layers}");
        assert_eq!((mib(gpu, Term::KvCache), mib(ram, Term::KvCache)), (32.0 * cached, 32.0 * (32.0 - cached)));
        assert_eq!(mib(ram, Term::Logits), 0.49);
    }
}

#[test]
fn a_tied_output_is_on_the_gpu_and_on_the_host() {
    let answer = answer(&model(fixture::QWEN3_4B), &asked(4096, LlamaCpp::default()));
    let embedding = (151_936.0 * 2560.0 * 2.0 / MIB as f64 * 100.0_f64).round() / 100.0;
    assert_eq!(mib(answer.host.as_ref().unwrap(), Term::Weights), embedding);
    assert!(mib(&answer.devices[0], Term::Weights) > 2.0 * embedding);
}

#[test]
fn unlike_gpus_share_layers_by_their_memory_or_as_told() {
    let model = model(LLAMA_31_8B);
    let scenario = Scenario { gpu: Some("GeForce RTX 3090,GeForce RTX 4060 Ti 16GB".to_owned()), gpu_capacity: None, ..asked(8192, LlamaCpp::default()) };
    let kv = |scenario: &Scenario| answer(&model, scenario).devices.iter().map(|device| mib(device, Term::KvCache) / 32.0).collect::<Vec<_>>();
    // 24 and 16 GiB: of 33 layers, the output among them, 20 and 13.
    assert_eq!(kv(&scenario), [20.0, 12.0]);
    let told = LlamaCpp { tensor_split: vec!["1".parse().unwrap(), "3".parse().unwrap()], ..LlamaCpp::default() };
    let told = Scenario { llama_cpp: told, ..scenario.clone() };
    assert_eq!(kv(&told), [9.0, 23.0]);
    let both = answer(&model, &told);
    assert_eq!(both.devices[0].gpu, "GeForce RTX 3090");
    assert_eq!(both.devices[1].gpu, "GeForce RTX 4060 Ti 16GB");
    let one = answer(&model, &asked(8192, LlamaCpp::default()));
    let sum: f64 = both.devices.iter().map(|device| mib(device, Term::Weights)).sum();
    assert!((sum - mib(&one.devices[0], Term::Weights)).abs() < 0.02);
    // Micro-batches at once take more, and are done without where they do not fit.
    let activations = both.devices[0].entries.iter().find(|entry| entry.term == Term::Activations).unwrap();
    assert!(activations.amount.high > activations.amount.expected && activations.amount.low == activations.amount.expected);
    let wrong = LlamaCpp { tensor_split: vec!["1".parse().unwrap()], ..LlamaCpp::default() };
    assert!(estimate(&model, &Scenario { llama_cpp: wrong, ..scenario }).unwrap_err().to_string().contains("1 shares for 2 GPUs"));
}

#[test]
fn experts_stay_on_the_host_when_asked() {
    let model = model(QWEN3_30B);
    let [plain, some, ruled] = [
        LlamaCpp::default(),
        LlamaCpp { cpu_moe_layers: Some(48), ..LlamaCpp::default() },
        LlamaCpp { overrides: vec![r"\.ffn_(up|down|gate)_exps\.=CPU".parse().unwrap()], ..LlamaCpp::default() },
    ]
    .map(|flags| answer(&model, &asked(8192, flags)));
    // 48 layers × 128 experts × 3 × 768 × 2,048 values of 2 B
    let experts = 48.0 * 128.0 * 3.0 * 768.0 * 2048.0 * 2.0 / MIB as f64;
    let weights = |answer: &Estimate| (mib(&answer.devices[0], Term::Weights), mib(answer.host.as_ref().unwrap(), Term::Weights));
    assert!((weights(&plain).0 - weights(&some).0 - experts).abs() < 0.02);
    assert!((weights(&some).1 - weights(&plain).1 - experts).abs() < 0.02);
    assert_eq!(weights(&some), weights(&ruled));
    // The cache stays, and one matrix of experts at a time is copied to the GPU: the planner's 452.01 MiB.
    assert_eq!(mib(&some.devices[0], Term::KvCache), mib(&plain.devices[0], Term::KvCache));
    assert_eq!(mib(&some.devices[0], Term::Activations), 452.01);
}

#[test]
fn what_llama_cpp_lacks_is_refused() {
    let model = model(LLAMA_31_8B);
    let refusal = |scenario: Scenario| estimate(&model, &scenario).unwrap_err().to_string();
    assert!(refusal(Scenario { weights: "awq-int4".parse().unwrap(), ..asked(8192, LlamaCpp::default()) }).contains("GGUF"));
    assert!(refusal(Scenario { kv_cache: KvCache::Fp8, ..asked(8192, LlamaCpp::default()) }).contains("q8_0"));
    assert!(refusal(Scenario { kv_cache: KvCache::Q8_0, ..asked(8192, flags(FlashAttention::Off)) }).contains("flash attention"));
    assert!(refusal(Scenario { tensor_parallel: Some(2), ..asked(8192, LlamaCpp::default()) }).contains("--gpus"));
    let vllm = |scenario| Scenario { runtime: Runtime::Vllm, ..scenario };
    assert!(refusal(vllm(asked(8192, LlamaCpp { gpu_layers: Some(3), ..LlamaCpp::default() }))).contains("llama.cpp"));
    assert!(refusal(vllm(Scenario { kv_cache: KvCache::Q8_0, ..asked(8192, LlamaCpp::default()) })).contains("llama.cpp"));
}

#[test]
fn ollama_and_lm_studio_have_their_own_default_context() {
    let model = model(LLAMA_31_8B);
    let context = |runtime, gib: u64| {
        let scenario = Scenario { runtime, context: None, gpu_capacity: Some(Bytes(gib << 30)), ..asked(1, LlamaCpp::default()) };
        answer(&model, &scenario).choices.iter().find(|choice| choice.key == "context").unwrap().value.clone()
    };
    assert_eq!([16, 24, 48].map(|gib| context(Runtime::Ollama, gib)), ["4096", "32768", "131072"]);
    assert_eq!(context(Runtime::LmStudio, 24), "4096");
    assert_eq!(context(Runtime::LlamaCpp, 24), "8192");
}

#[test]
fn lm_studio_plans_four_requests_that_share_one_cache() {
    let held = |config: &str, runtime, batch, term| {
        let scenario = Scenario { runtime, batch, ..asked(16_384, LlamaCpp::default()) };
        answer(&model(config), &scenario).devices[0].term_at(term, Stage::Decode).unwrap().expected.get()
    };
    let both = |config, batch, term| [Runtime::LlamaCpp, Runtime::LmStudio].map(|runtime| held(config, runtime, batch, term));
    let [alone, shared] = both(LLAMA_31_8B, None, Term::KvCache);
    assert_eq!(alone, shared);
    // Requests of a context each: as long as all of them together.
    let [apart, shared] = both(LLAMA_31_8B, Some(3), Term::KvCache);
    assert_eq!((apart, shared), (3 * alone, 3 * alone));
    // Ten layers keep the context; 52 the windows of four, and a micro-batch.
    let cell = 2 * 16 * 128 * 2;
    let cells = both(GEMMA_3_27B, None, Term::KvCache).map(|bytes| bytes / cell);
    assert_eq!(cells, [10 * 16_384 + 52 * (1024 + 512), 10 * 16_384 + 52 * (4 * 1024 + 512)]);
    let [alone, shared] = both(MAMBA_2, None, Term::State);
    assert_eq!(shared, 4 * alone);
}

#[test]
fn requests_beyond_the_planned_ones_wait() {
    let of = |runtime, batch, parallel| {
        let flags = LlamaCpp { parallel, ..LlamaCpp::default() };
        answer(&model(LLAMA_31_8B), &Scenario { runtime, batch, ..asked(16_384, flags) })
    };
    let held = |answer: &Estimate| answer.devices[0].term_at(Term::KvCache, Stage::Decode).unwrap().expected;
    for runtime in [Runtime::LlamaCpp, Runtime::LmStudio] {
        let (many, two) = (of(runtime, Some(8), Some(2)), of(runtime, Some(2), Some(2)));
        assert_eq!(held(&many), held(&two), "{runtime}");
        let says = |answer: &Estimate| answer.warnings.iter().any(|warning| warning.contains("2 requests at once: of the 8"));
        assert!(says(&many) && !says(&two) && !says(&of(runtime, Some(8), None)), "{runtime}");
    }
}

#[test]
fn mlx_counts_scores_where_it_has_no_fused_kernel() {
    let activations = |config: &str, context, step| {
        let scenario =
            Scenario { gpu: Some("M2 Max".into()), runtime: Runtime::Mlx, context: Some(context), max_num_batched_tokens: step, ..Scenario::default() };
        answer(&model(config), &scenario).devices[0].term_at(Term::Activations, Stage::Prefill).unwrap().expected.get()
    };
    // Heads of 128: the context does not matter. Sixteen heads of 256: 2,048 tokens against each of 4,096 more.
    assert_eq!(activations(LLAMA_31_8B, 16_384, None), activations(LLAMA_31_8B, 32_768, None));
    let gemma = fixture::GEMMA2_9B.replace("float32", "bfloat16");
    assert_eq!(activations(&gemma, 8192, None) - activations(&gemma, 4096, None), 16 * 2048 * 4096 * 2);
    assert_eq!(activations(&gemma, 8192, Some(512)) - activations(&gemma, 4096, Some(512)), 16 * 512 * 4096 * 2);
}

#[test]
fn mlx_caches_latents_or_what_they_expand_to() {
    let of = |family: &str| {
        let row = include_str!("fixtures/oracle.jsonl").lines().find(|line| line.contains("\"deepseek-ai/DeepSeek-V2-Lite\"")).unwrap();
        let mut model = model(&serde_json::from_str::<serde_json::Value>(row).unwrap()["config"].to_string());
        model.anatomy.model_type = family.into();
        let scenario = Scenario { gpu: Some("M2 Max".into()), runtime: Runtime::Mlx, context: Some(8192), ..Scenario::default() };
        answer(&model, &scenario).devices[0].term_at(Term::KvCache, Stage::Decode).unwrap().expected.get() / (8192 * 27 * 2)
    };
    // 16 heads of 192 for keys and 128 for values; a latent of 512 and 64.
    assert_eq!((of("deepseek_v2"), of("deepseek_v3")), (16 * (192 + 128), 512 + 64));
}

#[test]
fn the_least_that_runs_is_one_request() {
    let peak = |answer: &Estimate| answer.devices.iter().map(|device| device.peak().unwrap().1.expected).collect::<Vec<_>>();
    let minimum = |answer: &Estimate| answer.devices.iter().map(|device| device.minimum.unwrap()).collect::<Vec<_>>();
    for runtime in [Runtime::LlamaCpp, Runtime::Mlx] {
        let gpu = if runtime == Runtime::Mlx { "M2 Max" } else { "GeForce RTX 4090" };
        let with = |batch, parallel| {
            let llama_cpp = LlamaCpp { parallel, ..LlamaCpp::default() };
            let scenario = Scenario { runtime, gpu: Some(gpu.to_owned()), batch, llama_cpp, weights: Weights::AsStored, ..Scenario::default() };
            answer(&model(QWEN3_30B), &scenario)
        };
        let one = with(None, None);
        assert_eq!(minimum(&one), peak(&one));
        let four = if runtime == Runtime::Mlx { with(Some(4), None) } else { with(None, Some(4)) };
        assert_eq!(minimum(&four), peak(&one), "{runtime}");
        assert!(peak(&four) > peak(&one));
    }
}

#[test]
fn mlx_has_one_memory_and_its_own_cache() {
    let scenario =
        |gpu: &str| Scenario { gpu: Some(gpu.to_owned()), runtime: Runtime::Mlx, weights: Weights::AsStored, context: Some(5000), ..Scenario::default() };
    let whole = answer(&model(LLAMA_31_8B), &scenario("M2 Max"));
    let device = &whole.devices[0];
    assert!(whole.host.is_none() && device.usable < device.capacity);
    // The model's dtype, steps of 256 tokens.
    assert_eq!(mib(device, Term::KvCache), 640.0);
    assert_eq!(mib(device, Term::Weights), 15_316.51);
    assert_eq!(device.entries.iter().find(|entry| entry.term == Term::Activations).unwrap().basis, Basis::Modelled);
    assert!(estimate(&model(LLAMA_31_8B), &scenario("GeForce RTX 4090")).unwrap_err().to_string().contains("Apple"));
    // Ten layers keep everything, 52 a window of 1,024: all but the last of it, with the 2,048 tokens that are read at once.
    let gemma = answer(&model(GEMMA_3_27B), &Scenario { context: Some(8192), ..scenario("M2 Max") });
    let tokens = |stage| gemma.devices[0].term_at(Term::KvCache, stage).unwrap().expected.get() / (2 * 16 * 128 * 2);
    assert_eq!([Stage::Prefill, Stage::Decode].map(tokens), [10 * 8192 + 52 * (1023 + 2048), 10 * 8192 + 52 * 1024]);
}

#[test]
fn mlx_rotates_only_the_caches_that_its_code_of_the_family_makes_so() {
    let scenario = Scenario { gpu: Some("M2 Max".into()), runtime: Runtime::Mlx, context: Some(8192), ..Scenario::default() };
    // 52 of 62 layers of this shape have a window of 1,024 tokens, whatever family it is called by.
    for (family, rotates) in [("gemma4_unified", true), ("gemma4", true), ("plamo2", false), ("qwen3", false), ("ministral3", true)] {
        let mut gemma = model(GEMMA_3_27B);
        gemma.anatomy.model_type = family.into();
        let held = answer(&gemma, &scenario).devices[0].term_at(Term::KvCache, Stage::Decode).unwrap().expected.get();
        assert_eq!(held < 62 * 8192 * 2 * 16 * 128 * 2, rotates, "{family}");
    }
}

/// What the planner of llama.cpp prints with and without `--no-kv-offload`: (config, context, flash attention, formats of the cache,
/// micro-batch, caches on the host, compute buffer of the GPU, compute buffer of the host), in bytes.
#[test]
fn caches_on_the_host_are_copied_to_the_gpu_layer_by_layer() {
    use FlashAttention::{Off, On};
    let cases = [
        (YI_6B, On, KvCache::Auto, None, 2_147_483_648, 167_774_208, 50_345_984),
        (YI_6B, Off, KvCache::Auto, None, 2_147_483_648, 2_315_257_856, 85_993_472),
        (YI_6B, On, KvCache::Auto, Some(16), 2_147_483_648, 69_206_144, 1_573_312),
        (YI_6B, On, KvCache::Q8_0, None, 1_140_850_688, 169_954_304, 50_427_904),
        (LLAMA_31_8B, Off, KvCache::Auto, None, 4_294_967_296, 2_382_366_720, 88_090_624),
    ];
    for (config, flash_attention, kv_cache, ubatch, cache, on_gpu, on_host) in cases {
        let flags = LlamaCpp { no_kv_offload: true, flash_attention, ubatch, ..LlamaCpp::default() };
        let answer = answer(&model(config), &Scenario { kv_cache, ..asked(32_768, flags) });
        let host = answer.host.as_ref().unwrap();
        let bytes = |ledger: &Ledger, term| ledger.term_at(term, Stage::Decode).unwrap().expected.get();
        assert_eq!((bytes(&answer.devices[0], Term::KvCache), bytes(host, Term::KvCache)), (0, cache));
        for (ours, planned) in [(bytes(&answer.devices[0], Term::Activations), on_gpu), (bytes(host, Term::Activations), on_host)] {
            assert!(ours.abs_diff(planned) * 400 <= planned, "{config} {flash_attention:?} {kv_cache}: {ours} for {planned}");
        }
    }
}

#[test]
fn nothing_is_lost_between_the_gpu_and_the_host() {
    for config in [LLAMA_31_8B, GEMMA_3_27B, MAMBA_2, YI_6B] {
        for gpu_layers in [Some(0), Some(7), None] {
            let of = |no_kv_offload| answer(&model(config), &asked(8192, LlamaCpp { gpu_layers, no_kv_offload, ..LlamaCpp::default() }));
            let held = |answer: &Estimate| {
                let ledgers = answer.devices.iter().map(|device| &device.ledger).chain(&answer.host);
                let kept = |term| ledgers.clone().map(|ledger| ledger.term_at(term, Stage::Decode).unwrap().expected.get()).sum::<u64>();
                (kept(Term::KvCache), kept(Term::State), kept(Term::Weights))
            };
            let (usual, moved) = (of(false), of(true));
            assert_eq!(held(&usual), held(&moved), "{config} {gpu_layers:?}");
            let device = &moved.devices[0];
            assert!(device.entries.iter().all(|entry| !matches!(entry.term, Term::KvCache | Term::State)), "{config} {gpu_layers:?}");
            assert!(device.peak().unwrap().1.expected <= usual.devices[0].peak().unwrap().1.expected.plus(Bytes(200 * MIB)).unwrap());
        }
    }
}

/// Weights of the text model, whatever place they have.
fn weights(model: &Model, weights: Weights) -> (u64, Vec<String>) {
    let answer = answer(model, &Scenario { weights, ..asked(4096, LlamaCpp::default()) });
    let ledgers = answer.devices.iter().map(|device| &device.ledger).chain(&answer.host);
    let bytes = ledgers.map(|ledger| ledger.term_at(Term::Weights, Stage::Load).unwrap().expected.get()).sum();
    (bytes, answer.warnings)
}

/// `convert_hf_to_gguf` guesses 16 bits for float32 (`conversion/base.py`, `LlamaFileType.GUESSED`).
#[test]
fn files_of_32_bits_become_16() {
    let (full, half) = (model(&LLAMA_31_8B.replace("bfloat16", "float32")), model(LLAMA_31_8B));
    let (bytes, said) = weights(&full, Weights::AsStored);
    assert_eq!(bytes, weights(&half, Weights::AsStored).0);
    assert!(said.iter().any(|said| said.contains("--outtype")), "{said:?}");
    assert!(weights(&full, "fp32".parse().unwrap()).0 > bytes * 19 / 10);
}

/// What only the name of a repository tells is converted as what its config tells.
#[test]
fn a_format_that_the_name_tells_is_converted() {
    let named = |name: &str| {
        let mut model = model(LLAMA_31_8B);
        model.provenance.id = Some(name.to_owned());
        model
    };
    let plain = weights(&model(LLAMA_31_8B), Weights::AsStored).0;
    let (four, said) = weights(&named("nvidia/Llama-3.1-8B-NVFP4"), Weights::AsStored);
    assert!(said.iter().any(|said| said.contains("stored as NVFP4 stay NVFP4")), "{said:?}");
    let config =
        LLAMA_31_8B.replace('}', r#", "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head"]}}"#);
    assert_eq!(four, weights(&model(&config), Weights::AsStored).0);
    let (eight, said) = weights(&named("nvidia/Llama-3.1-8B-FP8"), Weights::AsStored);
    assert!(eight == plain && said.iter().any(|said| said.contains("converted to bf16")), "{said:?}");
    // What is not quantised is in 16 bits, whatever config.json says of the values before.
    let mut full = named("nvidia/Llama-3.1-8B-FP8");
    full.anatomy.dtype = Some(vramfit::encoding::Encoding::F32);
    assert_eq!(weights(&full, Weights::AsStored).0, plain);
    // What the converter does not read has the name that tells it.
    let said = weights(&named("x/Llama-3.1-8B-MXFP4"), Weights::AsStored).1;
    assert!(said.iter().any(|said| said.contains("the format that the name tells (MXFP, 4 bits") && !said.contains("compressed-tensors")), "{said:?}");
    // What somebody asks for by name is still a file type.
    assert!(estimate(&model(LLAMA_31_8B), &Scenario { weights: "nvfp4".parse().unwrap(), ..asked(4096, LlamaCpp::default()) }).is_err());
}

#[test]
fn what_reads_images_alone_is_no_text_model() {
    let tower = r#"{"model_type": "vit", "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}"#;
    let said = estimate(&model(tower), &asked(4096, LlamaCpp::default())).unwrap_err().to_string();
    assert!(said.contains("reads images or sound alone"), "{said}");
}

/// A rule of thumb of 41 public logs: llamacpp-092 takes 3,258 MiB of 3,328 at 16,384 cells.
#[test]
fn the_fork_s_buffers_are_said_with_their_size() {
    let deepseek = r#"{"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 128, "num_key_value_heads": 128,
        "num_hidden_layers": 4, "first_k_dense_replace": 3, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "moe_intermediate_size": 2048,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
        "max_position_embeddings": 163840, "torch_dtype": "bfloat16"}"#;
    let answer = answer(&model(deepseek), &asked(16_384, LlamaCpp::default()));
    let said = answer.assumptions.iter().find(|said| said.contains("ik_llama.cpp")).unwrap();
    assert!(said.contains("= 2.00 GiB") && said.contains("= 1.25 GiB"), "{said}");
}
