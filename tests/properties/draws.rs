//! What is drawn: scenarios, ways to spread, settings of training, formats, configs.

use crate::common::{KINDS, fixture};
use proptest::prelude::*;
use vramfit::quantity::{Bytes, Decimal};
use vramfit::runtime::{Setting, settings};
use vramfit::scenario::{
    Algorithm, AttentionImplementation, CacheImplementation, FlashAttention, Kernels, KvCache, LlamaCpp, Loss, Method, MixedRecipe, Offload, OffloadDevice,
    Optimizer, Parallel, Picture, Precision, Reference, Rollout, Runtime, Scenario, Schedule, Serving, Sharding, Training, Version, Weights,
};

pub fn any_scenario() -> impl Strategy<Value = Scenario> {
    scenario_of(Runtime::ALL, any_format())
}

pub fn scenario_of(runtimes: &'static [Runtime], format: impl Strategy<Value = Weights>) -> impl Strategy<Value = Scenario> {
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
pub fn with(scenario: Scenario, parallel: Parallel, serving: Serving) -> Scenario {
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
pub fn any_spread() -> impl Strategy<Value = (Parallel, Serving)> {
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
pub fn any_training() -> impl Strategy<Value = Training> {
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
pub fn any_format() -> impl Strategy<Value = Weights> {
    let own = (1u64..10_000).prop_map(|thousandths| Weights::Bytes(Decimal::new(thousandths, 3)));
    let open = (1000u64..8000).prop_map(|thousandths| format!("exl2-{}", Decimal::new(thousandths, 3)).parse().unwrap());
    prop_oneof![8 => prop::sample::select(Weights::all().collect::<Vec<_>>()), 1 => own, 1 => open]
}

/// Plain decoders, and every kind of architecture.
pub fn any_config() -> impl Strategy<Value = &'static str> {
    prop_oneof![1 => prop::sample::select(fixture::ALL), 3 => (0..KINDS.len()).prop_map(|index| KINDS[index].as_str())]
}
