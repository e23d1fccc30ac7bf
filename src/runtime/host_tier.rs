//! Keys and values that leave the GPUs for the host's memory and come back when a request begins as an earlier one did.
//!
//! Read from vLLM 0.33.0 `config/cache.py` (`kv_offloading_size`: GiB over all ranks), `config/vllm.py`, `v1/kv_offload/cpu/spec.py`
//! (whole blocks of all ranks in one shared region, a region for each replica), and its versions since 0.11.2; SGLang 0.5.23
//! `arg_groups/fields/memory.py`, `mem_cache/pool_host/base.py` (`--hicache-size`: 10^9 bytes of each rank, in whole pages; without it
//! `--hicache-ratio` times the rank's pool); TensorRT-LLM `_torch/pyexecutor/resource_manager.py` (`KvCacheConfig.host_cache_size`: bytes
//! of each rank, in whole blocks).

use super::EstimateError;
use crate::estimate::{ALWAYS, Basis, Choice, Entry, Estimate, Ledger, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Model, Span};
use crate::scenario::{Runtime, Scenario, Version};

/// The last version of vLLM that was read without it.
const LAST_WITHOUT: Version = Version(0, 11, 0);

/// From here on vLLM's hybrid KV cache manager stays on with it (`SupportsHMA`).
const FIRST_HYBRID: Version = Version(0, 22, 0);

/// From here on it is one shared region, not pinned tensors, whose sizes PyTorch rounds up to powers of two.
const FIRST_SHARED: Version = Version(0, 27, 0);

const OF_VLLM: &str = "vLLM v1/kv_offload/cpu/spec.py: whole blocks in what was asked for, over all ranks of a replica";
const OF_VLLM_PINNED: &str = "vLLM v1/kv_offload/worker/cpu_gpu.py: whole blocks in what was asked for, in pinned tensors, whose sizes PyTorch's CachingHostAllocator rounds up to powers of two: the end of the band";
const OF_SGLANG: &str =
    "SGLang mem_cache/pool_host/base.py (HostKVCache): pools of whole pages on every rank; it starts only where they and 10 GiB more are free on the host";
const OF_TENSORRT_LLM: &str = "TensorRT-LLM _torch/pyexecutor/resource_manager.py (KVCacheManager): host_cache_size of every rank, in whole blocks of a second pool, where blocks that were used before wait";

const WITHOUT_WINDOWS: &str = "vLLM before 0.22 turns its hybrid KV cache manager off when keys and values go to the host: layers with windows then keep every token, which is not counted here, and models with recurrent states do not start";
const SMALLER: &str =
    "the host's part of the KV cache is smaller than the GPUs': SGLang copies to it what the GPUs hold, so it adds little (it warns of this too)";

/// Adds what the host holds where it is asked for.
///
/// # Errors
/// A size of nothing, a version that has no such tier, or numbers out of range.
pub(crate) fn add_to(answer: &mut Estimate, model: &Model, scenario: &Scenario) -> Result<(), EstimateError> {
    let Some(size) = scenario.serving.kv_offloading_size else { return Ok(()) };
    if size.get() == 0 {
        return Err(EstimateError::OutOfRange {
            what: "kv_offloading_size",
            value: size.get().to_string(),
            must: "it must be above 0: leave it out for none".into(),
        });
    }
    let is_vllm = scenario.runtime == Runtime::Vllm;
    let version = scenario.serving.runtime_version.filter(|_| is_vllm);
    if version.is_some_and(|version| version <= LAST_WITHOUT) {
        return Err(EstimateError::Unsupported("vLLM has --kv-offloading-size since 0.11.1: leave it out, or name a newer version".to_owned()));
    }
    let replicas = scenario.parallel.data.unwrap_or(1);
    let mut parts = vec![Expr::leaf(size.get(), "B on the host", Source::User("KV offloading size"))];
    if replicas > 1 {
        parts.push(Expr::named(replicas, "replicas"));
    }
    let is_pinned = version.is_some_and(|version| version < FIRST_SHARED);
    let source = match scenario.runtime {
        Runtime::Vllm if is_pinned => OF_VLLM_PINNED,
        Runtime::Vllm => OF_VLLM,
        Runtime::TensorRtLlm => OF_TENSORRT_LLM,
        _ => OF_SGLANG,
    };
    let entry = Entry::exact(Term::KvCache, Expr::Product(parts), Basis::Derived, source, ALWAYS)?;
    let expected = entry.amount.expected;
    let entry = if is_pinned { entry.with_band(expected, expected.times(2)?, Basis::Modelled) } else { entry };
    answer.choices.push(Choice { key: "kv_offloading_size", value: size.get().to_string(), default: None });
    if version.is_some_and(|version| version < FIRST_HYBRID) && !sees_everything(model) {
        answer.warnings.push(WITHOUT_WINDOWS.to_owned());
    }
    let ranks = answer.devices.iter().map(|device| device.ranks.end - device.ranks.start).sum();
    let on_gpus = answer.capacity.as_ref().map(|capacity| capacity.kv_cache_bytes.times(ranks)).transpose()?;
    if scenario.runtime == Runtime::Sglang && on_gpus.is_some_and(|on_gpus| expected < on_gpus) {
        answer.warnings.push(SMALLER.to_owned());
    }
    answer.host.get_or_insert_with(|| Ledger { stages: Stage::SERVING, entries: Vec::new() }).entries.push(entry);
    Ok(())
}

/// Whether every layer that mixes tokens is attention to all of them.
fn sees_everything(model: &Model) -> bool {
    let mut mixers = model.decoder().layers.iter().map(|run| &run.layer.mixer);
    mixers.all(|mixer| mixer.recurrence().is_none() && mixer.span().is_none_or(|span| span == Span::Full))
}
