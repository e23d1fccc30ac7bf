//! TensorRT-LLM: what it needs for one step, then a share of what is free for blocks of keys and values.
//!
//! Read from `tensorrt_llm/_torch/pyexecutor/_util.py` (`KvCacheCreator._cal_max_memory`: a run of `max_num_tokens` tokens first, then the
//! share of the card's total less that run's peak; keys and values of a draft count in a token's size, on the last stage),
//! `llmapi/llm_args.py` of 1.0 (`KvCacheConfig.free_gpu_memory_fraction` 0.9, `tokens_per_block` 32, `max_num_tokens` 8192, `max_batch_size`
//! 2048) and `docs/source/reference/memory.md`. There is no public log that was compared: bands are wide.

use super::common::{self, communication, context, feed_forward_width};
use super::{Defaults, Engine, EstimateError, Facts, Fraction, Known, Packing, Setup, ShardRules, Way};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Budget, Capacity, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Vendor;
use crate::model::{CacheGroup, Span};
use crate::quantity::{Bytes, Decimal, MIB, Overflow};
use crate::scenario::Version;

pub(super) struct TensorRtLlm;

/// `KvCacheConfig.tokens_per_block`.
const BLOCK: u64 = 32;

const BLOCKS: &str = "TensorRT-LLM: blocks of 32 tokens; layers with a window keep the blocks of the window";

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
        ShardRules {
            vocabulary_padding: 1,
            splits_embedding: true,
            packing: Packing::Fused,
            source: "TensorRT-LLM: projections, embedding and head are split, norms and routers are whole on every rank, KV heads are repeated when there are fewer than ranks",
        }
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let groups = setup.cache_groups();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let parts = groups.iter().map(|group| {
            let tokens = setup.context.leaf("tokens");
            let held = match group.span {
                Span::Full => tokens,
                Span::Sliding(window) => Expr::Min(vec![tokens, Expr::leaf(window, "window", Source::Config("sliding_window".into()))]),
                Span::Chunked(chunk) => Expr::Min(vec![tokens, Expr::leaf(chunk, "chunk", Source::Config("attention_chunk_size".into()))]),
            };
            let blocks = held.ceil_div(Expr::named(BLOCK, "tokens per block"));
            Expr::Product(vec![setup.batch.leaf("requests"), blocks, Expr::named(BLOCK, "tokens per block"), cell(setup, group)])
        });
        Ok(vec![Entry::exact(Term::KvCache, Expr::sum(parts.collect()), Basis::Derived, BLOCKS, RUNNING)?])
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let step = |tokens: Expr| {
            let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden()])]);
            Expr::encoded(Expr::Product(vec![tokens, per_token]), setup.dtype)
        };
        let source = "buffers of one step, linear in max_num_tokens and reused by all layers: feed-forward (gate, up and product) + 4 × hidden_size per token; no public log was compared";
        let mut entries = vec![Entry::modelled(Term::Activations, step(setup.step_tokens.leaf("tokens per step")), (50, 250), source, RUNNING)?];
        if setup.place.is_last {
            let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
            let logits = Expr::encoded(Expr::Product(vec![setup.step_sequences.leaf("sequences"), vocabulary]), Encoding::F32);
            let source = "TensorRT-LLM docs/source/reference/memory.md: a buffer of logits for max_batch_size sequences";
            entries.push(Entry::modelled(Term::Logits, logits, (50, 200), source, &[Stage::Sampling, Stage::Decode])?);
        }
        entries.extend(common::rotary_table(setup, 1, Encoding::F32)?);
        entries.extend(common::states(setup)?);
        if !setup.scenario.enforce_eager {
            let graphs = Expr::leaf(400 * MIB, "B", Source::Default("as vLLM's median on one GPU; no public log of TensorRT-LLM was compared".into()));
            let entry = Entry::exact(Term::CudaGraphs, graphs, Basis::RuleOfThumb, "captured graphs of the PyTorch backend", RUNNING)?;
            entries.push(entry.with_band(Bytes::ZERO, Bytes(2000 * MIB), Basis::RuleOfThumb));
        }
        entries.push(context(setup)?);
        entries.extend(communication(setup)?);
        Ok(entries)
    }

    fn budget(&self, _setup: &Setup) -> Result<Option<Budget>, Overflow> {
        Ok(None)
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        let room = match &setup.utilization {
            Some((fraction, _)) => Bytes(fraction.floor_of(room.get())?),
            None => room,
        };
        let cells = setup.cache_groups().iter().try_fold(0u64, |sum, group| sum.checked_add(cell(setup, group).evaluate()?).ok_or(Overflow))?;
        let blocks = room.get() / cells.checked_mul(BLOCK).ok_or(Overflow)?.max(1);
        let tokens = blocks * BLOCK;
        let hundredths = u128::from(tokens) * 100 / u128::from(setup.context.value);
        let concurrency_hundredths = u64::try_from(hundredths).unwrap_or(u64::MAX);
        Ok(Capacity { kv_cache_bytes: Bytes(tokens.checked_mul(cells).ok_or(Overflow)?), kv_cache_tokens: tokens, concurrency_hundredths })
    }
}

/// Bytes of one token in the layers of a group on one rank.
fn cell(setup: &Setup, group: &CacheGroup) -> Expr {
    let mut product = vec![Expr::leaf(group.layers, "layers", Source::Config("num_hidden_layers".into()))];
    product.extend(setup.cache_elements(&group.mixer));
    Expr::encoded(Expr::Product(product), setup.kv_encoding)
}
