//! vLLM 0.33.0 (V1 engine): a budget of the card, paged keys and values, the memory profile of its start.
//!
//! Read from `v1/kv_cache_interface.py`, `v1/core/kv_cache_utils.py`, `engine/arg_utils.py:get_batch_defaults`,
//! `v1/worker/gpu_model_runner.py:profile_run`, `model_executor/layers/vocab_parallel_embedding.py`.
//! Not counted: the pool's one null block.

use super::common::{communication, context, feed_forward_width, states};
use super::{Engine, EstimateError, Setup, ShardRules, Way};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Budget, Capacity, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, Vendor};
use crate::model::{CacheGroup, Span};
use crate::order::sort_short;
use crate::quantity::{Bytes, Decimal, GIB, MIB, Overflow};
use crate::scenario::KvCache;

pub(super) struct Vllm;

/// Tokens of one block of the cache (`CacheConfig.DEFAULT_BLOCK_SIZE`).
const BLOCK: u64 = 16;
/// Steps in flight at once with asynchronous scheduling, the default.
const STEPS_IN_FLIGHT: u64 = 2;

impl Engine for Vllm {
    fn label(&self) -> &'static str {
        "vLLM 0.33"
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        // `dtype="auto"`: float32 checkpoints are run in 16 bits.
        if stored == Encoding::F32 { Encoding::BF16 } else { stored }
    }

    fn default_utilization(&self) -> Option<Decimal> {
        Some(Decimal::new(92, 2))
    }

    fn default_batched_tokens(&self, card: &Card) -> Option<u64> {
        Some(match card_class(card) {
            CardClass::Huge => 16_384,
            CardClass::Large => 8192,
            CardClass::Other => 2048,
        })
    }

    fn default_sequences(&self, card: &Card) -> Option<u64> {
        Some(if matches!(card_class(card), CardClass::Other) { 256 } else { 1024 })
    }

    fn ways(&self) -> &'static [Way] {
        &[Way::Pipeline, Way::Data, Way::Expert, Way::Context]
    }

    fn shares_experts(&self) -> bool {
        true
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        if setup.card.gpu.is_some_and(|gpu| matches!(gpu.vendor, Vendor::Apple)) {
            return Err(EstimateError::Unsupported(format!("vLLM does not run on {}; choose the transformers runtime", setup.card.name)));
        }
        if setup.scenario.kv_cache == KvCache::Fp32 {
            return Err(EstimateError::Unsupported("vLLM keeps keys and values in the dtype of computation or in FP8; FP32 is for transformers".to_owned()));
        }
        setup.check_division(true)
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules {
            vocabulary_padding: 64,
            splits_embedding: true,
            source: "vLLM 0.33: projections, embedding and head are split (the vocabulary padded to a multiple of 64), norms and routers are whole on every rank, KV heads are repeated when there are fewer than ranks",
        }
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let plan = Plan::new(setup);
        let entry = |stages, is_steady| {
            let source = "vLLM v1/kv_cache_interface.py: blocks of 16 tokens; layers of one kind share blocks";
            Entry::exact(Term::KvCache, plan.formula(setup, is_steady), Basis::Derived, source, stages)
        };
        if plan.groups.iter().all(|group| group.span == Span::Full) {
            return Ok(vec![entry(RUNNING, true)?]);
        }
        Ok(vec![entry(&[Stage::Prefill, Stage::Sampling], false)?, entry(&[Stage::Decode], true)?])
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let decoder = setup.model.decoder();
        let hidden = Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
        let per_token = Expr::Sum(vec![feed_forward_width(setup), Expr::Product(vec![Expr::constant(4), hidden])]);
        let step = |tokens: Expr| Expr::encoded(Expr::Product(vec![tokens, per_token.clone()]), setup.dtype);
        let vocabulary = Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
        let sampler = |sequences: Expr| Expr::Product(vec![sequences, vocabulary.clone(), Expr::leaf(14, "B", Source::Runtime(SAMPLER))]);
        let sequences = Expr::Min(vec![setup.step_sequences.leaf("sequences"), setup.step_tokens.leaf("tokens per step")]);
        let planned = Entry::modelled(Term::Logits, sampler(sequences), (100, 277), SAMPLER_BAND, &[Stage::Sampling])?;
        let mut entries = vec![
            Entry::modelled(Term::Activations, step(setup.step_tokens.leaf("tokens per step")), (75, 125), STEP, &[Stage::Prefill])?,
            planned,
            Entry::modelled(Term::Activations, step(setup.batch.leaf("requests")), (75, 125), STEP, &[Stage::Decode])?,
            Entry::modelled(Term::Logits, sampler(setup.batch.leaf("requests")), (100, 277), SAMPLER_BAND, &[Stage::Decode])?,
            Entry::exact(
                Term::Workspace,
                Expr::leaf(123 * MIB, "B", Source::Measured("median of 43 public vLLM logs on one GPU: 0.12 GiB")),
                Basis::Modelled,
                "memory that vLLM's profile finds outside torch (\"non-torch memory\")",
                ALWAYS,
            )?
            .with_band(Bytes(10 * MIB), Bytes(481 * MIB), Basis::Modelled),
            context(setup)?,
        ];
        entries.extend(states(setup)?);
        entries.extend(communication(setup)?);
        entries.extend(cuda_graphs(setup)?);
        Ok(entries)
    }

    fn budget(&self, setup: &Setup) -> Result<Option<Budget>, Overflow> {
        let Some((ratio, source)) = setup.utilization.clone() else { return Ok(None) };
        let total = Expr::leaf(setup.card.usable.get(), "B", setup.card.usable_source.clone());
        let formula = Expr::Fraction { ratio, name: "utilization", source, of: Box::new(total) };
        Ok(Some(Budget { bytes: Bytes(formula.evaluate()?), formula, name: "vLLM budget" }))
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        let plan = Plan::new(setup);
        let block_bytes = setup.kv_encoding.bytes_for(plan.block_elements()?)?.get().max(1);
        let blocks = room.get() / block_bytes;
        let per_request = plan.request_blocks(setup, false).evaluate()?.max(1);
        let hundredths = u64::try_from(u128::from(blocks) * 100 / u128::from(per_request)).unwrap_or(u64::MAX);
        let tokens = if plan.groups.iter().all(|group| group.span == Span::Full) && plan.groups.len() == 1 {
            blocks.saturating_mul(BLOCK)
        } else {
            // vLLM prints concurrency × max_model_len for layers that differ.
            u64::try_from(u128::from(blocks) * u128::from(setup.context.value) / u128::from(per_request)).unwrap_or(u64::MAX)
        };
        Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: tokens, concurrency_hundredths: hundredths })
    }
}

const SAMPLER: &str = "16-bit logits, their float32 copy, probabilities and noise: 2 + 4 + 4 + 4 bytes per sequence and vocabulary entry";
const SAMPLER_BAND: &str =
    "sampling step of vLLM's memory profile. Where the sampler sorts (seen in logs up to 0.11 on H100 and in 0.6 to 0.8) it takes 9.7 × 4 B instead of 14 B";
const STEP: &str = "one step of vLLM's memory profile: 3 × feed-forward width + 4 × hidden_size per token; within 10 % in 28 of 31 public logs";

/// What vLLM's defaults distinguish.
enum CardClass {
    Huge,
    Large,
    Other,
}

/// `get_batch_defaults`: at least 160 GiB; at least 70 GiB and neither A100 nor GB10; the rest.
fn card_class(card: &Card) -> CardClass {
    let is_slow = ["A100", "GB10"].iter().any(|name| card.name.contains(name));
    match card.usable.get() {
        bytes if bytes >= 160 * GIB => CardClass::Huge,
        bytes if bytes >= 70 * GIB && !is_slow => CardClass::Large,
        _ => CardClass::Other,
    }
}

/// Captured CUDA graphs; inside the budget since 0.21.
fn cuda_graphs(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    if setup.scenario.enforce_eager {
        return Ok(None);
    }
    let (expected, high) = if setup.spread.tensor.value < 4 { (400 * MIB, 1330 * MIB) } else { (1080 * MIB, 2600 * MIB) };
    let source = "public vLLM logs: median 0.39 GiB on one GPU, 1.0 on four, 1.2 on eight; most between 0 and 2.6. `--enforce-eager` does without";
    let entry = Entry::exact(Term::CudaGraphs, Expr::leaf(expected, "B", Source::Measured("public vLLM logs, median")), Basis::Modelled, source, RUNNING)?;
    Ok(Some(entry.with_band(Bytes::ZERO, Bytes(high), Basis::Modelled)))
}

/// One group of the pool: layers of one kind whose blocks are handed out together.
struct PoolGroup {
    span: Span,
    /// How many groups of this kind.
    groups: u64,
}

/// How the layers share one pool of blocks (`_get_kv_cache_groups_uniform_page_size`).
struct Plan {
    groups: Vec<PoolGroup>,
    /// Layers of each group; shorter groups are padded to it.
    group_layers: u64,
    /// The attention whose page all groups have.
    page: Vec<Expr>,
}

impl Plan {
    fn new(setup: &Setup) -> Self {
        let mut kinds: Vec<CacheGroup> = setup.cache_groups();
        // Layers that differ only in query heads share a kind.
        sort_short(&mut kinds, |kind| kind.layers);
        let smallest = kinds.first().map_or(1, |kind| kind.layers);
        let largest = kinds.last().map_or(1, |kind| kind.layers);
        let group_layers = if largest * 2 < smallest * 3 { largest } else { smallest };
        let groups = kinds.iter().map(|kind| PoolGroup { span: kind.span, groups: kind.layers.div_ceil(group_layers) }).collect();
        let page = kinds.iter().max_by_key(|kind| kind.mixer.cache_elements_per_token());
        Self { groups, group_layers, page: page.map(|kind| setup.cache_elements(&kind.mixer)).unwrap_or_default() }
    }

    /// Blocks that one request holds, over all groups.
    fn request_blocks(&self, setup: &Setup, is_steady: bool) -> Expr {
        let context = || setup.context.leaf("tokens");
        let block = || Expr::leaf(BLOCK, "", Source::Runtime("vLLM block_size: 16 tokens"));
        let parts = self.groups.iter().map(|group| {
            let blocks = match group.span {
                Span::Full => context().ceil_div(block()),
                Span::Chunked(chunk) => {
                    let chunk = Expr::leaf(chunk, "chunk", Source::Config("attention_chunk_size".into()));
                    let in_flight = setup.step_tokens.leaf("tokens per step");
                    let held = if is_steady { chunk } else { Expr::Sum(vec![chunk, in_flight]) };
                    Expr::Min(vec![held, context()]).ceil_div(block())
                }
                Span::Sliding(window) => {
                    let window = Expr::leaf(window, "window", Source::Config("sliding_window".into())).minus(Expr::constant(1));
                    let in_flight = Expr::Product(vec![
                        Expr::leaf(STEPS_IN_FLIGHT, "steps in flight", Source::Runtime("vLLM async scheduling")),
                        setup.step_tokens.leaf("tokens per step"),
                    ]);
                    let held = if is_steady { window } else { Expr::Sum(vec![window, in_flight]) };
                    Expr::Sum(vec![Expr::Min(vec![held, context()]).ceil_div(block()), Expr::constant(1)])
                }
            };
            if group.groups == 1 { blocks } else { Expr::Product(vec![Expr::named(group.groups, "groups"), blocks]) }
        });
        Expr::sum(parts.collect())
    }

    fn block(&self) -> Vec<Expr> {
        let mut product = vec![Expr::leaf(self.group_layers, "layers", Source::Config("num_hidden_layers".into()))];
        product.extend(self.page.iter().cloned());
        product
    }

    fn block_elements(&self) -> Result<u64, Overflow> {
        Expr::Product(self.block()).evaluate()?.checked_mul(BLOCK).ok_or(Overflow)
    }

    fn formula(&self, setup: &Setup, is_steady: bool) -> Expr {
        let mut product = self.block();
        product.extend([
            setup.batch.leaf("requests"),
            self.request_blocks(setup, is_steady),
            Expr::leaf(BLOCK, "tokens per block", Source::Runtime("vLLM block_size")),
        ]);
        Expr::encoded(Expr::Product(product), setup.kv_encoding)
    }
}
