//! TensorRT-LLM: what it needs for one step, then a share of what is free for blocks of keys and values.
//!
//! Read from `tensorrt_llm/_torch/pyexecutor/_util.py` (`KvCacheCreator._cal_max_memory`: a run of `max_num_tokens` tokens first, then the
//! share of the card's total less that run's peak; keys and values of a draft count in a token's size, on the last stage),
//! `llmapi/llm_args.py` of 1.0 (`KvCacheConfig.free_gpu_memory_fraction` 0.9, `tokens_per_block` 32, `max_num_tokens` 8192, `max_batch_size`
//! 2048), `pyexecutor/resource_manager.py` (`KVCacheManager`: one width for keys and values; windows only where `max_attention_window` is
//! set) and `docs/source/reference/memory.md`. The logs that were compared are in tests/measured.

use super::common::{self, Blocks, communication, context, feed_forward_width};
use super::mxfp4::{self, Kernels};
use super::{Defaults, Engine, EstimateError, Facts, Fraction, Known, Setup, ShardRules, Way};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Budget, Capacity, Entry, Ledger, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Vendor;
use crate::model::{CacheGroup, Mixer};
use crate::quantity::{Bytes, Decimal, MIB, Overflow};
use crate::scenario::Version;

pub(super) struct TensorRtLlm;

const BLOCKS: Blocks = Blocks { tokens: 32, rule: "KvCacheConfig.tokens_per_block: 32 tokens", cell };

const WHOLE_CONTEXT: &str = "TensorRT-LLM: blocks of 32 tokens; layers with a window keep the whole context, unless max_attention_window is set";

/// CUTLASS's kernels of MXFP4.
const PADS: Kernels = Kernels { inner: 128, hidden: 128, keeps_scales: false };
/// What those of Blackwell of data centres take in: gates and ups are wider.
const WIDE: Kernels = Kernels { hidden: 512, ..PADS };
const PADDING: &str = "TensorRT-LLM _torch/modules/fused_moe/quantization.py (`_get_weight_alignment`): experts in MXFP4 are padded to 128 both ways, which one log shows to 0.1 %";

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "TensorRT-LLM", fraction: Some(Fraction::Free), ways: &[Way::Pipeline, Way::Data, Way::Expert] };

impl Engine for TensorRtLlm {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        Version(1, 0, 0)
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        if stored == Encoding::F32 { Encoding::BF16 } else { stored }
    }

    fn defaults(&self, known: &Known) -> Defaults {
        let tokens = known.scenario.max_num_batched_tokens.unwrap_or(8192);
        Defaults { utilization: Some(Decimal::new(9, 1)), step_tokens: Some(8192), step_sequences: Some(2048.min(tokens)) }
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        if setup.card.gpu.is_some_and(|gpu| gpu.vendor != Vendor::Nvidia) {
            return Err(EstimateError::Unsupported(format!("TensorRT-LLM runs on NVIDIA GPUs, not on {}", setup.card.name)));
        }
        common::check_kv_cache(setup)?;
        setup.check_division(true)
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules::of_server(
            1,
            "TensorRT-LLM: projections, embedding and head are split, norms and routers are whole on every rank, KV heads are repeated when there are fewer than ranks",
        )
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        BLOCKS.entries(setup, WHOLE_CONTEXT)
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let step = |tokens: Expr| {
            let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden()])]);
            Expr::encoded(Expr::Product(vec![tokens, per_token]), setup.dtype)
        };
        let source = "buffers of one step, linear in max_num_tokens and reused by all layers: feed-forward (gate, up and product) + 4 × hidden_size per token: 12 % below the one log that says it";
        let mut entries = vec![Entry::modelled(Term::Activations, step(setup.step_tokens.leaf("tokens per step")), (60, 200), source, RUNNING)?];
        if setup.place.is_last {
            let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
            let logits = Expr::encoded(Expr::Product(vec![setup.step_sequences.leaf("sequences"), vocabulary]), Encoding::F32);
            let source = "TensorRT-LLM docs/source/reference/memory.md: a buffer of logits for max_batch_size sequences";
            entries.push(Entry::modelled(Term::Logits, logits, (50, 200), source, &[Stage::Sampling, Stage::Decode])?);
        }
        entries.extend(common::rotary_table(setup, 1, Encoding::F32)?);
        entries.extend(padding(setup)?);
        entries.extend(common::states(setup)?);
        if !setup.scenario.enforce_eager {
            let graphs = Expr::leaf(
                400 * MIB,
                "B",
                Source::Default("as vLLM's median on one GPU: logs of TensorRT-LLM show them with other memory outside torch only".into()),
            );
            let entry = Entry::exact(Term::CudaGraphs, graphs, Basis::RuleOfThumb, "captured graphs of the PyTorch backend", RUNNING)?;
            entries.push(entry.with_band(Bytes::ZERO, Bytes(2000 * MIB), Basis::RuleOfThumb));
        }
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn budget(&self, setup: &Setup, ledger: &Ledger) -> Result<Option<Budget>, Overflow> {
        let Some((ratio, source)) = setup.utilization.clone() else { return Ok(None) };
        let mut most = Bytes::ZERO;
        for &stage in ledger.stages {
            most = most.max(ledger.at(stage)?.expected.minus(ledger.term_at(Term::KvCache, stage)?.expected)?);
        }
        let total = Expr::leaf(setup.card.usable.get(), "B", setup.card.usable_source.clone());
        let before = Expr::leaf(most.get(), "B of a step without a cache", Source::Derived("the worst stage of this ledger".into()));
        let before = Expr::Min(vec![before, total.clone()]);
        let free = Box::new(total.minus(before.clone()));
        let formula = Expr::Sum(vec![before, Expr::Fraction { ratio, name: "free_gpu_memory_fraction", source, of: free }]);
        Ok(Some(Budget { bytes: Bytes(formula.evaluate()?), formula, name: "TensorRT-LLM budget", outside: &[] }))
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        BLOCKS.capacity(setup, room)
    }
}

/// What kernels of MXFP4 pad, by card (`model_config.py:resolve_moe_backend`): TRTLLM's on Blackwell of data centres, CUTLASS's on
/// most others. Hopper's are Triton's, whose own layout was not read.
fn padding(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let Some(narrow) = mxfp4::padding(setup, PADS, PADDING)? else { return Ok(None) };
    match setup.card.gpu {
        Some(gpu) if gpu.architecture.starts_with("Blackwell") && gpu.memory_type.starts_with("HBM") => {
            let Some(wide) = mxfp4::padding(setup, WIDE, PADDING)? else { return Ok(Some(narrow)) };
            // Two of an expert's three matrices are gate and up.
            let formula = Expr::Sum(vec![Expr::Product(vec![Expr::constant(2), wide.formula]), narrow.formula]).floor_div(Expr::constant(3));
            let source = "TensorRT-LLM MXFP4WeightTRTLLMGenFusedMoEMethod (`input_hidden_alignment` 512): gates and ups take a hidden_size padded to 512, all else is padded to 128";
            Entry::exact(Term::Weights, formula, Basis::Derived, source, ALWAYS).map(Some)
        }
        Some(gpu) if gpu.architecture == "Hopper" => {
            let high = narrow.amount.expected.times(2)?;
            Ok(Some(narrow.with_band(Bytes::ZERO, high, Basis::RuleOfThumb)))
        }
        _ => Ok(Some(narrow)),
    }
}

/// Bytes of one token in the layers of a group on one rank. Keys and values have one width, the larger of theirs.
fn cell(setup: &Setup, group: &CacheGroup) -> Expr {
    let mut mixer = group.mixer;
    if let Mixer::Attention(attention) | Mixer::Parallel(attention, _) = &mut mixer {
        let width = attention.key_dim.max(attention.value_dim);
        (attention.key_dim, attention.value_dim) = (width, width);
    }
    common::cell(setup, group.layers, setup.cache_elements(&mixer))
}
