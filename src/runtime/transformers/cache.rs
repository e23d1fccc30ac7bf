//! The caches of `generate()` (`cache_implementation`): grown, whole from the start, on the host, or quantised.
//!
//! Read from transformers 5.23 `cache_utils.py`: `DynamicLayer`, `DynamicSlidingWindowLayer`, `StaticLayer`, `StaticSlidingWindowLayer`,
//! `Cache.offload` (the layer in use and the next one are on the GPU, sliding layers stay), `QuantizedLayer` (`nbits` 4,
//! `q_group_size` 64, `residual_length` 128) and `Fp8QuantizedLayer`.

use super::{prompt, step_of_prefill};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{CacheGroup, LayerRun, Mixer, Span};
use crate::quantity::{Decimal, Overflow};
use crate::runtime::Setup;
use crate::scenario::{CacheImplementation, KvCache};

const SOURCE: &str = "transformers 5.23 cache_utils.py: keys and values of every layer";

/// Tokens that a quantised cache keeps as they are.
const RESIDUAL: u64 = 128;

/// Of each value of a quantised cache: 4 bits, and a 16-bit scale and shift for 64 of them.
const QUANTISED: Decimal = Decimal::new(5625, 4);

fn kind(setup: &Setup) -> CacheImplementation {
    setup.scenario.serving.cache
}

/// The layers that are on the GPU: of an offloaded cache two of those that see everything, the one in use and the next.
fn on_gpu(setup: &Setup) -> Vec<CacheGroup> {
    let groups = setup.cache_groups();
    if kind(setup) != CacheImplementation::Offloaded {
        return groups;
    }
    let (full, mut here): (Vec<CacheGroup>, Vec<CacheGroup>) = groups.into_iter().partition(|group| group.span == Span::Full);
    let largest = full.into_iter().max_by_key(|group| group.mixer.cache_elements_per_token());
    here.extend(largest.map(|group| CacheGroup { layers: group.layers.min(2), ..group }));
    here
}

/// What values of the cache take, the last tokens apart.
fn stored(setup: &Setup, values: Expr) -> Expr {
    match (kind(setup), setup.scenario.kv_cache) {
        (CacheImplementation::Quantized, KvCache::Auto) => Expr::Fraction {
            ratio: QUANTISED,
            name: "B per value",
            source: Source::Runtime("4 bits, and a 16-bit scale and shift for 64 values (nbits, q_group_size of QuantizedCache)"),
            of: Box::new(values),
        },
        _ => Expr::encoded(values, setup.kv_encoding),
    }
}

/// Values of `tokens` in a group's layers.
fn values(setup: &Setup, group: &CacheGroup, tokens: Expr) -> Expr {
    let mut product = vec![Expr::leaf(group.layers, "layers", Source::Config("num_hidden_layers".into()))];
    product.extend(setup.cache_elements(&group.mixer));
    product.push(tokens);
    product.push(setup.batch.leaf("requests"));
    Expr::Product(product)
}

/// Families whose indexers rotate their keys in float32, and keep them so (run with small configs).
const WIDE_KEYS: &[&str] = &["dots3_note", "dots3_note_text"];

/// Bytes that indexers keep of a token in the layers of this rank (`DynamicIndexedLayer`); `None` without, and where the layers of an
/// offloaded cache come and go.
fn of_indexers(setup: &Setup) -> Option<Expr> {
    let each = |(count, run): (u64, &LayerRun)| count.saturating_mul(run.layer.mixer.indexer_elements_per_token());
    let keys: u64 = setup.runs().map(each).fold(0, u64::saturating_add);
    let is_wide = WIDE_KEYS.contains(&setup.model.anatomy.model_type.as_str());
    let keys = Some(keys).filter(|&keys| keys > 0 && kind(setup) != CacheImplementation::Offloaded)?;
    let keys = Expr::leaf(keys, "indexer keys of a token", Source::Config("index_head_dim".into()));
    Some(Expr::encoded(keys, if is_wide { Encoding::F32 } else { setup.kv_encoding }))
}

/// Cached tokens of a layer: while prefilling all of the prompt's, afterwards at most the window less the token being written. A
/// quantised cache knows no windows; a static one has their length from the start.
fn held(setup: &Setup, span: Span, tokens: Expr, is_prefill: bool) -> Expr {
    let window = |window| Expr::leaf(window, "window", Source::Config("sliding_window".into()));
    let chunk = |chunk| Expr::leaf(chunk, "chunk", Source::Config("attention_chunk_size".into()));
    match (kind(setup), span) {
        (CacheImplementation::Quantized, _) => tokens,
        (CacheImplementation::Static, Span::Sliding(size)) => Expr::Min(vec![tokens, window(size)]),
        (CacheImplementation::Static, Span::Chunked(size)) => Expr::Min(vec![tokens, chunk(size)]),
        (_, Span::Sliding(size)) if !is_prefill => Expr::Min(vec![tokens, window(size).minus(Expr::constant(1))]),
        (_, Span::Chunked(size)) if !is_prefill => Expr::Min(vec![tokens, chunk(size)]),
        // What is kept is a view of the window before and the step: all of it stays.
        (_, Span::Sliding(size)) if setup.scenario.max_num_batched_tokens.is_some() => {
            Expr::Min(vec![tokens, Expr::Sum(vec![window(size).minus(Expr::constant(1)), step_of_prefill(setup)])])
        }
        (_, Span::Sliding(_) | Span::Chunked(_) | Span::Full) => tokens,
    }
}

/// Keys and values on the GPU.
pub(super) fn entries(setup: &Setup) -> Result<Vec<Entry>, Overflow> {
    let groups = on_gpu(setup);
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let entry = |stages, tokens: Expr, is_prefill: bool| {
        let kept = groups.iter().map(|group| values(setup, group, held(setup, group.span, tokens.clone(), is_prefill)));
        let mut formula = stored(setup, Expr::sum(kept.collect()));
        if let Some(keys) = of_indexers(setup) {
            formula = Expr::Sum(vec![formula, Expr::Product(vec![keys, tokens.clone(), setup.batch.leaf("requests")])]);
        }
        if kind(setup) == CacheImplementation::Quantized && setup.scenario.kv_cache == KvCache::Auto && !is_prefill {
            let last = Expr::Min(vec![tokens, Expr::leaf(RESIDUAL, "last tokens", Source::Runtime("residual_length of QuantizedCache"))]);
            let last = Expr::sum(groups.iter().map(|group| values(setup, group, last.clone())).collect());
            formula = Expr::Sum(vec![formula, Expr::encoded(last, setup.dtype)]);
        }
        Entry::exact(Term::KvCache, formula, Basis::Derived, SOURCE, stages)
    };
    let context = || setup.context.leaf("tokens");
    if kind(setup) == CacheImplementation::Static {
        return Ok(vec![entry(RUNNING, context(), false)?]);
    }
    Ok(vec![entry(&[Stage::Prefill, Stage::Sampling], prompt(setup), true)?, entry(&[Stage::Decode], context(), false)?])
}

/// What a step holds of one layer's keys and values beside the cache: a grown one the old and the new keys, then values; a quantised one
/// all of them unpacked, and joined with the last tokens.
pub(super) fn copies(setup: &Setup) -> Expr {
    let largest = setup.cache_groups().into_iter().map(|group| group.mixer).max_by_key(Mixer::cache_elements_per_token);
    let Some(mixer) = largest.filter(|_| kind(setup) != CacheImplementation::Static) else { return Expr::constant(0) };
    let mut product = vec![setup.batch.leaf("requests"), setup.context.leaf("tokens")];
    product.extend(setup.cache_elements(&mixer));
    if kind(setup) == CacheImplementation::Quantized {
        product.push(Expr::named(2, "copies"));
        return Expr::encoded(Expr::Product(product), setup.dtype);
    }
    Expr::encoded(Expr::Product(product).ceil_div(Expr::constant(2)), setup.kv_encoding)
}

/// Bytes of one token in all layers that are on the GPU.
pub(super) fn per_token(setup: &Setup) -> Result<u64, Overflow> {
    let one = on_gpu(setup).iter().try_fold(0u64, |sum, group| {
        let layer = Expr::Product(setup.cache_elements(&group.mixer)).evaluate()?;
        sum.checked_add(layer.checked_mul(group.layers).ok_or(Overflow)?).ok_or(Overflow)
    })?;
    let keys = of_indexers(setup).map_or(Ok(0), |keys| keys.evaluate())?;
    Ok(stored(setup, Expr::constant(one)).evaluate()?.checked_add(keys).ok_or(Overflow)?.max(1))
}

/// The layers of an offloaded cache, over all GPUs; `None` for the others.
pub(super) fn on_host(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    if kind(setup) != CacheImplementation::Offloaded {
        return Ok(None);
    }
    let groups = setup.model.decoder().cache_groups();
    let parts: Vec<Expr> = groups.iter().filter(|group| group.span == Span::Full).map(|group| values(setup, group, setup.context.leaf("tokens"))).collect();
    let parts: Vec<Expr> = parts.into_iter().chain(super::encoder::on_host(setup)).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let all = Expr::Product(vec![Expr::sum(parts), Expr::named(setup.spread.tensor.value, "GPUs of a layer")]);
    let source = "transformers 5.23 cache_utils.py (Cache.offload): layers that see everything lie on the host until they are used";
    Entry::exact(Term::KvCache, Expr::encoded(all, setup.kv_encoding), Basis::Derived, source, RUNNING).map(Some)
}
