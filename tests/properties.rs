//! What must hold for every model and scenario.

mod common;

use common::{KINDS, fixture, model, parameter_bytes};
use proptest::prelude::*;
use vramfit::checkpoint::{Header, HeaderTensor, match_inventory};
use vramfit::encoding::Encoding;
use vramfit::estimate::{Device, Estimate, Stage, Term};
use vramfit::link::{Link, ModelLink};
use vramfit::memory::{common_estimate, estimate, set_aside};
use vramfit::model::{ComponentKind, Keeps, LayerRun, Model};
use vramfit::quantity::{Bytes, Decimal};
use vramfit::reader::{self, desk};
use vramfit::runtime::{Setting, settings};
use vramfit::scenario::{
    Algorithm, AttentionImplementation, CacheImplementation, FlashAttention, Kernels, KvCache, LlamaCpp, Loss, Method, MixedRecipe, Offload, OffloadDevice,
    Optimizer, Parallel, Picture, Precision, Reference, Rollout, Runtime, Scenario, Schedule, Serving, Sharding, Task, Training, Version, Weights,
};

fn any_scenario() -> impl Strategy<Value = Scenario> {
    scenario_of(Runtime::ALL, any_format())
}

/// What most people ask: vLLM, in formats that pack nothing.
fn common_scenario() -> impl Strategy<Value = Scenario> {
    let plain = Weights::all().filter(|format| matches!(format, Weights::AsStored | Weights::Plain(_)));
    scenario_of(&[Runtime::Vllm], prop::sample::select(plain.collect::<Vec<_>>()))
}

fn scenario_of(runtimes: &'static [Runtime], format: impl Strategy<Value = Weights>) -> impl Strategy<Value = Scenario> {
    let hardware = (prop::option::of(1u64..1 << 40), prop::sample::select(vec![None, Some(1u64), Some(2), Some(4)]), prop::sample::select(runtimes));
    let load = (prop::option::of(1u64..300_000), prop::option::of(1u64..600), format, prop::sample::select(KvCache::ALL.to_vec()));
    let steps = (prop::option::of(1u64..100), prop::option::of(1u64..70_000), prop::option::of(1u64..2000), any::<bool>());
    let llama_cpp = prop_oneof![Just(LlamaCpp::default()), any_llama_cpp()];
    (hardware, load, steps, llama_cpp).prop_map(
        |((capacity, gpus, runtime), (context, batch, weights, kv_cache), (percent, tokens, sequences, enforce_eager), llama_cpp)| Scenario {
            gpu: if capacity.is_some() { None } else { Scenario::default().gpu },
            gpu_capacity: capacity.map(Bytes),
            gpus,
            tensor_parallel: gpus.filter(|_| runtime == Runtime::Vllm),
            runtime,
            context,
            batch,
            weights,
            kv_cache,
            // What an engine lacks is refused: only its own settings are drawn.
            gpu_memory_utilization: percent.map(|percent| Decimal::new(percent, 2)).filter(|_| has(runtime, Setting::Utilization)),
            max_num_batched_tokens: tokens.filter(|_| has(runtime, Setting::StepTokens)),
            max_num_seqs: sequences.filter(|_| has(runtime, Setting::StepSequences)),
            enforce_eager: enforce_eager && has(runtime, Setting::EnforceEager),
            picture: Picture::default(),
            llama_cpp: if has(runtime, Setting::LlamaCpp) { llama_cpp } else { LlamaCpp::default() },
            attention: if enforce_eager && has(runtime, Setting::Attention) { AttentionImplementation::Eager } else { AttentionImplementation::Sdpa },
            ..Scenario::default()
        },
    )
}

fn has(runtime: Runtime, setting: Setting) -> bool {
    settings(runtime).contains(&setting)
}

/// The scenario with those of further settings that its engine has.
fn with(scenario: Scenario, parallel: Parallel, serving: Serving) -> Scenario {
    let has = |setting| has(scenario.runtime, setting);
    let serving = Serving {
        runtime_version: serving.runtime_version.filter(|_| has(Setting::Version)),
        mem_fraction_static: serving.mem_fraction_static.filter(|_| has(Setting::MemFractionStatic)),
        prefix_share: serving.prefix_share.filter(|_| has(Setting::PrefixShare)),
        cpu_offload: serving.cpu_offload.filter(|_| has(Setting::CpuOffload)),
        kv_offloading_size: serving.kv_offloading_size.filter(|_| has(Setting::KvOffloading)),
        max_loras: serving.max_loras.filter(|_| has(Setting::Loras)),
        max_lora_rank: serving.max_lora_rank.filter(|_| has(Setting::Loras)),
        cache: if has(Setting::Cache) { serving.cache } else { CacheImplementation::Dynamic },
        speculative_tokens: serving.speculative_tokens.filter(|_| has(Setting::Drafting)),
        ..serving
    };
    Scenario { parallel: if has(Setting::Parallel) { parallel } else { Parallel::default() }, serving, ..scenario }
}

fn any_llama_cpp() -> impl Strategy<Value = LlamaCpp> {
    let kv = || prop::option::of(prop::sample::select(KvCache::ALL.to_vec()));
    let placed =
        (prop::option::of(0u64..100), prop::option::of(0u64..50), prop::sample::select(vec!["", "ffn_.*_exps=CPU", r"blk\.[0-9]\.=CUDA0", "attn=CPU"]));
    let sizes = (prop::option::of(1u64..5000), prop::option::of(1u64..9), any::<bool>(), prop::sample::select(FlashAttention::ALL.to_vec()));
    (placed, sizes, (kv(), kv(), any::<bool>(), any::<bool>())).prop_map(
        |((gpu_layers, cpu_moe_layers, rule), (ubatch, parallel, swa_full, flash_attention), (kv_cache_k, kv_cache_v, mmproj, no_kv_offload))| LlamaCpp {
            gpu_layers,
            cpu_moe_layers,
            overrides: rule.parse().into_iter().collect(),
            ubatch,
            parallel,
            swa_full,
            flash_attention,
            kv_cache_k,
            kv_cache_v,
            mmproj,
            no_kv_offload,
            tensor_split: Vec::new(),
        },
    )
}

/// Ways to spread, and settings of engines, that may or may not be possible.
fn any_spread() -> impl Strategy<Value = (Parallel, Serving)> {
    let size = || prop::option::of(prop::sample::select(vec![1u64, 2, 3, 4, 8]));
    let share = || prop::option::of((1u64..100).prop_map(|percent| Decimal::new(percent, 2)));
    let version = prop::option::of((0u32..2, 0u32..40, 0u32..3).prop_map(|(major, minor, patch)| Version(major, minor, patch)));
    let parallel = (size(), size(), size(), size(), any::<bool>());
    let cache = (prop::sample::select(CacheImplementation::ALL), prop::option::weighted(0.1, 1u64..9), prop::option::weighted(0.2, 1u64..1 << 36));
    let serving = (version, share(), share(), prop::option::of(1u64..1 << 36), prop::option::of(1u64..9), prop::option::of(1u64..256), cache);
    (parallel, serving).prop_map(
        |((pipeline, data, expert, context, data_attention), (runtime_version, fraction, share, offload, loras, rank, (cache, drafted, tier)))| {
            let parallel = Parallel { pipeline, data, expert, context, data_attention };
            let serving = Serving {
                runtime_version,
                mem_fraction_static: fraction,
                prefix_share: share,
                cpu_offload: offload.map(Bytes),
                kv_offloading_size: tier.map(Bytes),
                max_loras: loras,
                max_lora_rank: rank,
                answer: None,
                cache,
                draft: None,
                speculative_tokens: drafted,
            };
            (parallel, serving)
        },
    )
}

/// Settings of training that may or may not go together.
fn any_training() -> impl Strategy<Value = Training> {
    fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = Option<T>> {
        prop::option::of(prop::sample::select(all))
    }
    let learned = (one_of(Method::ALL), one_of(Algorithm::ALL), one_of(Optimizer::ALL), one_of(Precision::ALL), one_of(MixedRecipe::ALL));
    let sizes = (prop::option::of(1u64..9), prop::option::of(1u64..9), prop::option::of(1u64..5000), prop::option::of(1u64..300), prop::option::of(1u64..4));
    let computed = (
        prop::option::of(prop::sample::select(vec!["none", "selective", "full", "every-2", "uniform-3"])),
        one_of(Loss::ALL),
        one_of(Kernels::ALL),
        prop::option::of(prop::sample::select(vec!["all-linear", "q_proj,v_proj", "c_attn"])),
        prop::option::of(prop::sample::select(vec!["last-1", "norm,head"])),
    );
    let spread = (one_of(Sharding::ALL), one_of(Offload::ALL), one_of(OffloadDevice::ALL), one_of(Schedule::ALL), any::<bool>());
    let others = (one_of(Reference::ALL), one_of(Rollout::ALL), any::<bool>(), prop::option::of((1u64..100).prop_map(|percent| Decimal::new(percent, 2))));
    (learned, sizes, computed, spread, others).prop_map(
        |(
            (method, algorithm, optimizer, precision, mixed_recipe),
            (micro_batch, grad_accum, seq_len, lora_rank, prefetch),
            (checkpointing, loss, kernels, targets, trainable),
            (sharding, offload, offload_device, schedule, sequence_parallel),
            (reference, rollout, ema, rollout_memory),
        )| Training {
            method,
            algorithm,
            optimizer,
            precision,
            mixed_recipe,
            micro_batch,
            grad_accum,
            seq_len,
            lora_rank,
            prefetch,
            checkpointing: checkpointing.map(|text| text.parse().unwrap()),
            loss,
            kernels,
            lora_targets: targets.map(|text| text.parse().unwrap()),
            trainable: trainable.map(|text| text.parse().unwrap()),
            sharding,
            offload,
            offload_device,
            schedule,
            sequence_parallel,
            reference,
            rollout,
            ema,
            rollout_memory,
            ..Training::default()
        },
    )
}

/// Every format of weights, some with numbers of their own.
fn any_format() -> impl Strategy<Value = Weights> {
    let own = (1u64..10_000).prop_map(|thousandths| Weights::Bytes(Decimal::new(thousandths, 3)));
    let open = (1000u64..8000).prop_map(|thousandths| format!("exl2-{}", Decimal::new(thousandths, 3)).parse().unwrap());
    prop_oneof![8 => prop::sample::select(Weights::all().collect::<Vec<_>>()), 1 => own, 1 => open]
}

/// An object with the keys that quantisation methods use, and anything in them.
fn any_quantization() -> impl Strategy<Value = serde_json::Value> {
    const METHODS: &[&str] = &[
        "gptq",
        "awq",
        "bitsandbytes",
        "compressed-tensors",
        "modelopt",
        "fp8",
        "fbgemm_fp8",
        "mxfp4",
        "hqq",
        "quanto",
        "torchao",
        "aqlm",
        "vptq",
        "higgs",
        "exl2",
        "exl3",
        "auto-round",
        "quark",
        "mlx",
        "gemma",
        "sinq",
        "?",
    ];
    const KEYS: &[&str] = &[
        "bits",
        "group_size",
        "modules_to_not_convert",
        "ignore",
        "config_groups",
        "weights",
        "targets",
        "weight_block_size",
        "num_bits",
        "type",
        "strategy",
        "block_structure",
        "dynamic",
        "quant_config",
        "weight_quant_params",
        "nbits",
        "quant_type",
        "default",
        "_type",
        "_data",
        "in_group_size",
        "num_codebooks",
        "nbits_per_codebook",
        "config_for_layers",
        "vector_lens",
        "num_centroids",
        "head_bits",
        "extra_config",
        "global_quant_config",
        "weight",
        "dtype",
        "quantized_layers",
        "quant_algo",
        "num_bits",
        "load_in_4bit",
        "mode",
        "expert_dtype",
    ];
    let words = vec![
        "int",
        "float",
        "group",
        "channel",
        "NVFP4",
        "FP8",
        "Linear",
        "re:.*_proj",
        "re:((a*)*)*$",
        "model.layers.0*",
        "lm_head",
        "int4",
        "fp4",
        "Int4WeightOnlyConfig",
        "",
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(serde_json::Value::from),
        prop::sample::select(vec![0i64, 1, -1, 2, 3, 4, 8, 16, 64, 128, 65_536, i64::MAX]).prop_map(serde_json::Value::from),
        prop::sample::select(vec![0.0, 2.5, 1e300]).prop_map(serde_json::Value::from),
        prop::sample::select(words).prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let value = leaf.prop_recursive(4, 32, 5, |inner| {
        let object = prop::collection::vec((prop::sample::select(KEYS.to_vec()), inner.clone()), 0..5);
        let object = object.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<serde_json::Map<_, _>>().into());
        prop_oneof![2 => object, 1 => prop::collection::vec(inner, 0..4).prop_map(serde_json::Value::from)]
    });
    (prop::sample::select(METHODS.to_vec()), prop::collection::vec((prop::sample::select(KEYS.to_vec()), value), 0..8)).prop_map(|(method, pairs)| {
        let mut object: serde_json::Map<_, _> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        object.insert("quant_method".to_owned(), method.into());
        object.into()
    })
}

/// Tensors that formats keep of a matrix, in any dtype and shape.
fn any_tensors() -> impl Strategy<Value = std::collections::BTreeMap<&'static str, (&'static str, Vec<u64>)>> {
    const LEAVES: &[&str] = &[
        "weight",
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
        "weight.absmax",
        "weight.quant_map",
        "weight.nested_absmax",
        "weight.quant_state.bitsandbytes__nf4",
        "SCB",
        "weight_packed",
        "weight_scale",
        "weight_scale_2",
        "weight_scale_inv",
        "weight_zero_point",
        "biases",
        "q_weight",
        "q_scale",
        "q_groups",
        "trellis",
        "suh",
        "W_q",
        "scale",
        "zero",
        "codes",
        "codebooks",
    ];
    let dtype = prop::sample::select(vec!["F16", "F32", "I16", "I32", "I8", "U8", "U32", "F8_E4M3"]);
    // Sizes of the matrix of 14,336 by 4,096 and of its packed forms among others.
    let size = prop_oneof![prop::sample::select(vec![0u64, 1, 8, 14_336, 4096, 512, 1792, 128, 32, 1 << 40]), 0u64..20_000];
    prop::collection::btree_map(prop::sample::select(LEAVES), (dtype, prop::collection::vec(size, 0..3)), 0..8)
        .prop_filter("sizes that a header can have", |all| {
            all.values().all(|(_, shape)| shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size)).is_some_and(|product| product < 1 << 50))
        })
}

/// Training on samples with so many images and seconds of sound, where the model has a tower for them.
fn reading(model: &Model, training: Training, (images, seconds): (u64, u64)) -> Scenario {
    let has = |kind| model.anatomy.components.iter().skip(1).any(|part| part.kind == kind);
    let count = Some(images).filter(|_| has(ComponentKind::VisionTower));
    let audio_seconds = Some(seconds).filter(|_| has(ComponentKind::AudioTower));
    Scenario { task: Task::Train, picture: Picture { count, ..Picture::default() }, training: Training { audio_seconds, ..training }, ..Scenario::default() }
}

fn any_sample() -> impl Strategy<Value = (u64, u64)> {
    (prop::sample::select(vec![0u64, 1, 4]), prop::sample::select(vec![0u64, 1, 30]))
}

/// Plain decoders, and every kind of architecture.
fn any_config() -> impl Strategy<Value = &'static str> {
    prop_oneof![1 => prop::sample::select(fixture::ALL), 3 => (0..KINDS.len()).prop_map(|index| KINDS[index].as_str())]
}

/// The answer; what is refused is drawn again.
fn possible(model: &Model, scenario: &Scenario) -> Result<Estimate, TestCaseError> {
    estimate(model, scenario).map_err(|error| TestCaseError::reject(error.to_string()))
}

/// As many draws may be refused for each that counts.
const REFUSED: u32 = 20;

fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, max_global_rejects: REFUSED.saturating_mul(config.cases), ..config }
}

fn peak(answer: &Estimate) -> u64 {
    answer.devices[0].peak().unwrap().1.expected.get()
}

/// The peak to hold against a smaller load's. Where ggml fills a compute buffer, each value goes into the smallest hole that holds it,
/// and a longer context may leave smaller gaps than a shorter one: there it is the top of the band.
fn peak_of_more(answer: &Estimate, runtime: Runtime) -> u64 {
    match runtime {
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => answer.devices[0].peak().unwrap().1.high.get(),
        _ => peak(answer),
    }
}

/// A batch to hold against a smaller one. llama.cpp reserves its graphs for a micro-batch rounded up to as many tokens of every sequence,
/// which is less for 401 sequences than for 400 (401 and 800 tokens of 401); of a multiple of the sequences, be they LM Studio's four at
/// the least, it is never less.
const fn more_requests(batch: u64, more: u64, runtime: Runtime) -> u64 {
    match runtime {
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => batch * 4 * (1 + more / 4),
        _ => batch + more,
    }
}

/// The page's first module answers for every built-in model as the whole engine does.
#[test]
fn built_in_models_are_answered_alike() {
    let mut common = 0;
    for id in vramfit::catalogue::ids() {
        let Some(Ok(model)) = vramfit::catalogue::open(id) else { panic!("{id}") };
        for (weights, gpus) in [("as-stored", 1), ("bf16", 1), ("fp32", 2), ("fp8", 1), ("q4_k_m", 1)] {
            let scenario = Scenario { weights: weights.parse().unwrap(), gpus: Some(gpus), batch: Some(4), ..Scenario::default() };
            if let Some(answer) = common_estimate(&model, &scenario) {
                assert_eq!(answer, estimate(&model, &scenario), "{id} {weights}");
                common += 1;
            }
        }
    }
    assert!(common > 500, "{common}");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ledgers_add_up_and_formulas_are_the_numbers(config in any_config(), scenario in any_scenario(), (parallel, serving) in any_spread()) {
        let scenario = Scenario { gpus: None, ..with(scenario, parallel, serving) };
        let answer = possible(&model(config), &scenario)?;
        let mut ranks = 0;
        for device in &answer.devices {
            prop_assert!(device.ranks.start == ranks && device.ranks.end > ranks);
            ranks = device.ranks.end;
            for entry in &device.entries {
                prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
                prop_assert!(entry.amount.low <= entry.amount.expected && entry.amount.expected <= entry.amount.high);
            }
            let mut worst = Bytes::ZERO;
            for &stage in Stage::SERVING {
                let terms = device.terms().map(|term| device.term_at(term, stage).unwrap().expected);
                let sum = Bytes::total(terms).unwrap();
                prop_assert_eq!(sum, device.at(stage).unwrap().expected);
                worst = worst.max(sum);
            }
            prop_assert_eq!(worst, device.peak().unwrap().1.expected);
            prop_assert!(device.loaded().unwrap().expected <= worst && device.steady().unwrap().expected <= worst);
        }
    }

    /// The page's first module has little code; what it answers is what the whole engine answers.
    #[test]
    fn what_is_answered_at_once_is_the_same(config in any_config(), scenario in common_scenario(), (parallel, serving) in any_spread()) {
        let serving = Serving { max_loras: None, max_lora_rank: None, kv_offloading_size: None, speculative_tokens: None, ..serving };
        let scenario = Scenario { gpus: None, ..with(scenario, parallel, serving) };
        let model = model(config);
        let answer = common_estimate(&model, &scenario);
        prop_assume!(answer.is_some());
        prop_assert_eq!(answer, Some(estimate(&model, &scenario)));
    }

    #[test]
    fn answers_cross_between_the_modules_unchanged(config in any_config(), scenario in any_scenario(), training in any_training(), is_training in any::<bool>()) {
        let task = if is_training { Task::Train } else { Task::Serve };
        let scenario = Scenario { task, training: if is_training { training } else { Training::default() }, ..scenario };
        let (model, drafts, query) = (model(config), desk::Drafts::default(), desk::query(&scenario));
        let said = desk::estimate(&model, &query, &drafts, &mut desk::Last::default());
        prop_assert_eq!(reader::decode(&reader::encode(&said)), Some(said.clone()));
        // What the engine has not is set aside, and said.
        let (kept, aside) = if is_training { (scenario, Vec::new()) } else { set_aside(&scenario, &model) };
        let plain = estimate(&model, &kept).map(|mut answer| {
            answer.warnings.extend(aside);
            answer
        });
        prop_assert_eq!(said, desk::shown(plain));
        if let Ok(swept) = desk::sweep(&model, &query, &drafts) {
            prop_assert_eq!(reader::decode(&reader::encode(&swept)), Some(swept));
        }
    }

    #[test]
    fn ledgers_of_training_add_up(config in any_config(), training in any_training(), sample in any_sample(), (parallel, _) in any_spread(), tensor in prop::sample::select(vec![1u64, 2]), format in prop_oneof![3 => Just(Weights::AsStored), 1 => any_format()]) {
        let model = model(config);
        let answer = possible(&model, &Scenario { parallel, tensor_parallel: Some(tensor), weights: format, ..reading(&model, training, sample) })?;
        let mut ranks = 0;
        for device in &answer.devices {
            prop_assert!(device.ranks.start == ranks && device.ranks.end > ranks);
            ranks = device.ranks.end;
        }
        let ledgers = answer.devices.iter().map(|device| &device.ledger).chain(&answer.host);
        for ledger in ledgers {
            for entry in &ledger.entries {
                prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
                prop_assert!(entry.amount.low <= entry.amount.expected && entry.amount.expected <= entry.amount.high, "{}", entry.formula);
            }
            let mut worst = Bytes::ZERO;
            for &stage in ledger.stages {
                let terms = ledger.terms().map(|term| ledger.term_at(term, stage).unwrap().expected);
                let sum = Bytes::total(terms).unwrap();
                prop_assert_eq!(sum, ledger.at(stage).unwrap().expected);
                worst = worst.max(sum);
            }
            prop_assert_eq!(worst, ledger.peak().unwrap().1.expected);
        }
    }

    /// Sharding over one rank more: no stage takes more of a rank, but for what ranks send each other, whose buffers have sizes of their own.
    #[test]
    fn shards_of_more_ranks_are_no_larger(config in any_config(), training in any_training(), sample in any_sample(), sharding in prop::sample::select(vec![Sharding::Zero1, Sharding::Zero2, Sharding::Zero3, Sharding::Fsdp]), ranks in 2u64..130) {
        let model = model(config);
        let of = |ranks: u64| {
            let training = Training { sharding: Some(sharding), ..training.clone() };
            possible(&model, &Scenario { gpus: Some(ranks), ..reading(&model, training, sample) })
        };
        let (fewer, more) = (of(ranks - 1)?, of(ranks)?);
        let (fewer, more) = (&fewer.devices[0], &more.devices[0]);
        for &stage in more.stages {
            let of = |device: &Device| {
                let held = |term| device.term_at(term, stage).unwrap().expected.get();
                device.terms().filter(|term| !matches!(term, Term::Communication | Term::RuntimeContext)).map(held).sum::<u64>()
            };
            prop_assert!(of(more) <= of(fewer), "{stage:?}: {} over {ranks} ranks, {} over one less", of(more), of(fewer));
        }
    }

    /// Activations that are moved to the host are left out: there a layer stands for the average of all.
    #[test]
    fn computing_again_never_adds_to_activations(config in any_config(), training in any_training(), sample in any_sample(), (parallel, _) in any_spread()) {
        let model = model(config);
        let of = |checkpointing: &str| {
            let offload = training.offload.filter(|offload| *offload != Offload::Activations);
            let training = Training { checkpointing: Some(checkpointing.parse().unwrap()), offload, ..training.clone() };
            Scenario { parallel: parallel.clone(), ..reading(&model, training, sample) }
        };
        let all = possible(&model, &of("none"))?;
        // Of such a model only what lies between its layers is counted; and adapters in a part that reads nothing keep nothing at all.
        prop_assume!(!all.assumptions.iter().any(|sentence| sentence.contains("outside of its layers")));
        prop_assume!(!all.warnings.iter().any(|sentence| sentence.starts_with("adapters are in")));
        let most = |answer: &Estimate| {
            let of = |device: &Device| device.stages.iter().map(|&stage| device.term_at(Term::Activations, stage).unwrap().expected).max();
            answer.devices.iter().filter_map(of).max()
        };
        let layers = model.decoder().layer_count();
        let last = training.trainable.as_ref().map_or(2, |trainable| trainable.last_layers);
        let first = if training.method == Some(Method::Freeze) && last > 0 { layers.saturating_sub(last) } else { 0 };
        // Without images layers that attend to them are passed over.
        let is_passed = |run: &LayerRun| sample.0 == 0 && run.layer.mixer.attention().is_some_and(|attention| attention.keeps == Keeps::Encoder);
        let trained: u64 = model.decoder().runs_in(first..layers).filter(|(_, run)| !is_passed(run)).map(|(count, _)| count).sum();
        let trained = trained.min(layers / parallel.pipeline.unwrap_or(1));
        for (how, at_once) in [("full", 1), ("every-2", 1), ("selective", 1), ("uniform-3", 3)] {
            // Where a rank trains no more layers than it computes again at once there is nothing to save.
            if at_once < trained
                && let Ok(some) = estimate(&model, &of(how))
            {
                prop_assert!(most(&some) <= most(&all), "{how}: {:?} of {:?}", most(&some), most(&all));
            }
        }
    }

    /// A matrix of full rank has two adapters which together are larger than it is.
    #[test]
    fn adapters_of_full_rank_exceed_what_they_adapt(config in any_config()) {
        let model = model(config);
        let decoder = model.decoder();
        prop_assume!(decoder.hidden_size > 0 && decoder.layers.iter().all(|run| run.layer.feed_forward.experts().is_none()));
        let base: u64 = decoder.layers.iter().map(|run| run.count * run.tensors.iter().map(|tensor| tensor.elements().unwrap().get()).sum::<u64>()).sum();
        let training = Training { method: Some(Method::Lora), lora_targets: Some("all-linear".parse().unwrap()), lora_rank: Some(decoder.hidden_size), ..Training::default() };
        let answer = possible(&model, &Scenario { task: Task::Train, training, ..Scenario::default() })?;
        let trained = answer.trainable.unwrap().get();
        prop_assert!(trained > base, "{trained} of {base}");
    }

    #[test]
    fn more_never_takes_less(config in any_config(), scenario in any_scenario(), more in 1u64..50_000) {
        let model = model(config);
        // Engines have default contexts of their own.
        let scenario = Scenario { context: scenario.context.or(Some(4096)), ..scenario };
        let answer = possible(&model, &scenario)?;
        let context = scenario.context.unwrap_or(8192);
        let batch = scenario.batch.unwrap_or(1);
        let mut grown = vec![
            Scenario { context: Some(context + more), ..scenario.clone() },
            Scenario { batch: Some(more_requests(batch, more % 64, scenario.runtime)), ..scenario.clone() },
            Scenario { kv_cache: KvCache::Bf16, ..scenario.clone() },
        ];
        if scenario.kv_cache != KvCache::Fp8 {
            grown.pop();
        }
        for scenario in grown {
            // In transformers a default context may be below the one that is compared.
            let scenario = Scenario { context: scenario.context.or(Some(context.max(8192))), ..scenario };
            let Ok(larger) = estimate(&model, &scenario) else { continue };
            let larger = peak_of_more(&larger, scenario.runtime);
            prop_assert!(larger >= peak(&answer), "{larger} < {} for {scenario:?}", peak(&answer));
        }
    }

    #[test]
    fn ranks_hold_the_whole_and_the_repeated_part(config in any_config(), ranks in prop::sample::select(vec![2u64, 4, 8]), format in any_format()) {
        let model = model(config);
        let weights = |gpus| {
            let scenario = Scenario { gpus: Some(gpus), weights: format, ..Scenario::default() };
            Ok::<u64, TestCaseError>(parameter_bytes(&possible(&model, &scenario)?.devices[0]))
        };
        let (one, each) = (weights(1)?, weights(ranks)?);
        prop_assert!(each * ranks >= one && each < one, "{each} × {ranks} against {one}");
    }

    #[test]
    fn links_come_back(scenario in any_scenario(), (parallel, serving) in any_spread(), training in prop::option::of(any_training()), id in "[a-zA-Z0-9._-]{1,20}/[a-zA-Z0-9._-]{1,20}", revision in prop::option::of("[0-9a-f]{40}"), endpoint in prop::option::of("https://[a-z]{1,9}\\.example/\\PC{0,9}")) {
        let task = if training.is_some() { Task::Train } else { Task::Serve };
        let scenario = Scenario { parallel, serving, task, training: training.unwrap_or_default(), ..scenario };
        let link = Link { model: Some(ModelLink::Hub { id, revision }), endpoint, scenario, ..Link::default() };
        let text = link.encode();
        prop_assert!(text.is_ascii() && !text.contains([' ', '"', '<', '#']));
        prop_assert_eq!(Link::decode(&text), link);
    }

    #[test]
    fn any_text_is_a_link_or_a_complaint(text in "\\PC{0,200}") {
        let link = Link::decode(&text);
        // What was read is written and read alike.
        let again = Link::decode(&link.encode());
        prop_assert_eq!(again.scenario, link.scenario);
        prop_assert_eq!(again.model, link.model);
    }

    #[test]
    fn any_quantisation_is_read_or_said_to_be_unknown(config in any_config(), object in any_quantization(), parallel in prop::sample::select(vec![1u64, 2])) {
        let mut config: serde_json::Value = serde_json::from_str(config).unwrap();
        config["quantization_config"] = object;
        let anatomy = vramfit::config::read(&config.to_string());
        prop_assume!(anatomy.is_ok());
        let quantised = Model { anatomy: anatomy.unwrap(), ..model(fixture::GPT2) };
        let answer = possible(&quantised, &Scenario { gpus: Some(parallel), ..Scenario::default() })?;
        let is_known = !quantised.anatomy.quantization.as_ref().unwrap().schemes.is_empty();
        prop_assert!(is_known || answer.warnings.iter().any(|warning| warning.contains("quantisation")));
        for entry in &answer.devices[0].entries {
            prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
        }
    }

    #[test]
    fn any_tensors_of_a_matrix_are_recognised_or_left(tensors in any_tensors()) {
        let mut model = model(fixture::MISTRAL_7B);
        let (mut end, mut header) = (0, Header { tensors: Vec::new(), metadata: Vec::new() });
        for (leaf, (dtype, shape)) in tensors {
            let encoding = Encoding::from_safetensors(dtype).unwrap();
            let begin = end;
            end += encoding.bytes_for(shape.iter().product()).unwrap().get();
            header.tensors.push(HeaderTensor { name: format!("model.layers.0.mlp.up_proj.{leaf}"), encoding, shape, begin, end });
        }
        let files = match_inventory(&model.anatomy, [header].iter()).unwrap().files;
        vramfit::config::quantization_of_files(&mut model.anatomy, &files);
        prop_assert!(model.anatomy.quantization.as_ref().is_none_or(|quantization| !quantization.schemes.is_empty()));
        model.provenance.files = Some(files);
        if let Ok(answer) = estimate(&model, &Scenario::default()) {
            prop_assert!(answer.devices[0].entries.iter().all(|entry| entry.formula.evaluate() == Ok(entry.amount.expected.get())));
        }
    }

    #[test]
    fn any_text_is_a_config_or_an_error(configs in prop::collection::vec(any_config(), 2), text in "\\PC{0,300}", cut in 0usize..400, key in "[a-z_]{1,12}", value in prop::sample::select(vec!["0", "-1", "1e400", "null", "[]", "{}", "true", "\"8\"", "18446744073709551615", "1099511627776", "0.5", "NaN"])) {
        let _ = vramfit::config::read(&text);
        for config in configs {
            // A truncated config.
            let end = (0..=cut.min(config.len())).rev().find(|&end| config.is_char_boundary(end)).unwrap_or(0);
            let _ = vramfit::config::read(&config[..end]);
            // A key more, and every number replaced.
            let _ = vramfit::config::read(&config.replacen('{', &format!("{{\"{key}\": {value}, "), 1));
            for number in ["4096", "32", "12", "768", "8"] {
                if let Ok(anatomy) = vramfit::config::read(&config.replace(&format!(": {number},"), &format!(": {value},"))) {
                    let model = vramfit::model::Model { anatomy, ..model(config) };
                    let _ = estimate(&model, &Scenario::default());
                }
            }
        }
    }
}
