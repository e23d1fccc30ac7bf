//! MLX (mlx-lm) on Apple silicon: one memory for all, of which the system lets the GPU wire so much.
//!
//! Read from mlx-lm 0.32.2 (`generate.py`: `generate_step`, `wired_limit`; `models/cache.py`: `KVCache`, `RotatingKVCache`,
//! `ChunkedKVCache`, `ArraysCache`; `make_cache` of `models/*.py`) and MLX (`backend/metal/allocator.cpp`).

use super::asked::Asked;
use super::pile::Pile;
use super::{DEFAULT_CONTEXT, EstimateError};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Capacity, Device, Entry, Estimate, Ledger, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Vendor;
use crate::model::{CacheGroup, FeedForward, Model, Span};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{Scenario, Weights};
use crate::weights::stored;

pub(super) const LABEL: &str = "MLX (mlx-lm 0.32)";

/// Tokens by which a cache grows (`KVCache.step`).
const STEP: u64 = 256;
/// Tokens of a prompt that are read at once (`prefill_step_size`).
const PREFILL: u64 = 2048;

/// Families whose layers with a window have a `RotatingKVCache` (`make_cache` of `models/*.py`); the others keep everything. `gemma4_unified`
/// is run by the code of `gemma4` (`utils.py`: `MODEL_REMAPPING`).
const ROTATING: &[&str] = &[
    "afmoe",
    "baichuan_m1",
    "cohere2",
    "exaone4",
    "exaone_moe",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gemma4_unified",
    "gpt_oss",
    "laguna",
    "llama",
    "mellum",
    "mimo_v2_flash",
    "ministral3",
    "mistral3",
    "muse_glimmer",
    "olmo3",
    "plamo3",
    "recurrent_gemma",
    "step3p5",
];

/// The answer for one scenario.
pub(super) fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    let card = scenario.card()?;
    if card.gpu.is_some_and(|gpu| gpu.vendor != Vendor::Apple) {
        return Err(EstimateError::Unsupported(format!("MLX is counted on Apple's chips only, not on {}; choose one of those, or another runtime", card.name)));
    }
    if scenario.gpus.or(scenario.tensor_parallel).is_some_and(|count| count > 1) {
        return Err(EstimateError::Unsupported("MLX is counted on one machine: choose one GPU".to_owned()));
    }
    if matches!(scenario.weights, Weights::Mix(_)) {
        return Err(EstimateError::Unsupported("MLX has no formats of llama.cpp; its own are affine, with groups of 32, 64 or 128".to_owned()));
    }
    let cards = [card];
    let asked = Asked::new(model, scenario, &cards, (DEFAULT_CONTEXT, "8,192 tokens"), None)?;
    let mut entries = vec![weights(&asked)?];
    entries.extend(cache(&asked)?);
    entries.extend(states(&asked)?);
    entries.extend(step(&asked)?);
    let [card] = cards;
    let (low, expected, high, source) = card.context_bytes();
    let context = Entry::exact(Term::RuntimeContext, Expr::leaf(expected.get(), "B", source), Basis::Modelled, "Metal's own libraries", ALWAYS)?;
    entries.push(context.with_band(low, high, Basis::Modelled));
    crate::order::sort_short(&mut entries, |entry| entry.term);
    let device = Device {
        ranks: 0..1,
        gpu: card.name,
        capacity: card.capacity,
        usable: card.usable,
        budget: None,
        claim: None,
        slack: None,
        minimum: None,
        ledger: Ledger { stages: Stage::SERVING, entries },
    };
    let mut assumptions: Vec<String> = [&model.anatomy.assumptions, &model.provenance.notes, &asked.assumptions].into_iter().flatten().cloned().collect();
    if asked.model.decoder().layers.iter().any(|run| matches!(run.layer.mixer.span(), Some(Span::Sliding(_)))) && !rotates(asked.model) {
        assumptions.push("mlx-lm has no rotating cache for this family: every layer keeps the whole context".to_owned());
    }
    assumptions.push("MLX keeps freed buffers for reuse up to its limit: what the system shows may be more than what is needed".to_owned());
    let capacity = capacity(&asked, &device)?;
    Ok(Estimate { devices: vec![device], host: None, capacity, trainable: None, choices: asked.choices.0, assumptions, warnings: Vec::new() })
}

fn weights(asked: &Asked) -> Result<Entry, Overflow> {
    let mut pile = Pile::default();
    for tensor in &stored(asked.model, asked.weights, asked.dtype)? {
        pile.add(tensor, tensor.times())?;
    }
    let is_read = asked.model.provenance.files.is_some() && asked.weights == Weights::AsStored;
    let formula = pile.formula(asked, is_read, "").unwrap_or(Expr::constant(0));
    let source = asked.weights.source().unwrap_or("mlx-lm: the tensors of the files, in the one memory that CPU and GPU share");
    Entry::exact(Term::Weights, formula, if is_read { Basis::Exact } else { Basis::Derived }, source, ALWAYS)
}

/// Whether layers with a window give up what is behind it.
fn rotates(model: &Model) -> bool {
    let family = model.anatomy.model_type.as_str();
    ROTATING.contains(&family.strip_suffix("_text").unwrap_or(family))
}

/// Cached tokens of a layer: the context in steps, or its window; while a prompt is read, with the step that is read.
fn held(asked: &Asked, span: Span, is_prefill: bool) -> Expr {
    let step = || Expr::leaf(STEP, "tokens", Source::Runtime("mlx-lm cache.py: caches grow by 256 tokens"));
    let all = Expr::Product(vec![asked.context.leaf("tokens").ceil_div(step()), step()]);
    let chunk = || Expr::leaf(PREFILL, "tokens of a prefill step", Source::Runtime("mlx-lm prefill_step_size"));
    match span {
        Span::Sliding(window) if rotates(asked.model) => {
            let read = || Expr::Sum(vec![Expr::leaf(window.saturating_sub(1), "window - 1", Source::Config("sliding_window".into())), chunk()]);
            let held = if is_prefill { read() } else { Expr::leaf(window, "window", Source::Config("sliding_window".into())) };
            Expr::Min(vec![all, held])
        }
        // Given up before each step.
        Span::Chunked(length) => Expr::Min(vec![all, Expr::Sum(vec![Expr::leaf(length, "chunk", Source::Config("attention_chunk_size".into())), chunk()])]),
        Span::Full | Span::Sliding(_) => all,
    }
}

fn cache(asked: &Asked) -> Result<Vec<Entry>, Overflow> {
    let groups = asked.model.decoder().cache_groups();
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    if groups.iter().any(|group| matches!(group.span, Span::Sliding(_))) && rotates(asked.model) {
        return Ok(vec![cached(asked, &groups, true, &[Stage::Prefill])?, cached(asked, &groups, false, &[Stage::Sampling, Stage::Decode])?]);
    }
    Ok(vec![cached(asked, &groups, false, RUNNING)?])
}

fn cached(asked: &Asked, groups: &[CacheGroup], is_prefill: bool, stages: &'static [Stage]) -> Result<Entry, Overflow> {
    let parts = groups.iter().map(|group| {
        let elements = Expr::leaf(group.mixer.cache_elements_per_token(), "cached values", Source::Config("the sizes of the layer's attention".into()));
        let layers = Expr::leaf(group.layers, "layers", Source::Config("num_hidden_layers".into()));
        Expr::Product(vec![layers, elements, asked.batch.leaf("requests"), held(asked, group.span, is_prefill)])
    });
    let formula = Expr::encoded(Expr::sum(parts.collect()), asked.kv_encoding);
    let source = "mlx-lm cache.py: keys and values in steps of 256 tokens; a rotating cache holds its window, and the step of a prompt that is read";
    Entry::exact(Term::KvCache, formula, Basis::Derived, source, stages)
}

/// States in the dtype of the model, of the recurrences' matrices in float32.
fn states(asked: &Asked) -> Result<Option<Entry>, Overflow> {
    let mut parts = Vec::new();
    for run in &asked.model.decoder().layers {
        let Some(recurrence) = run.layer.mixer.recurrence() else { continue };
        let layers = || vec![Expr::leaf(run.count, "layers", Source::Config("num_hidden_layers".into())), asked.batch.leaf("requests")];
        let mut past = layers();
        past.extend([Expr::named(recurrence.conv_channels, "channels"), Expr::named(recurrence.conv_kernel.saturating_sub(1), "past inputs")]);
        parts.push(Expr::encoded(Expr::Product(past), asked.dtype));
        let mut state = layers();
        state.push(Expr::named(recurrence.state, "state elements"));
        parts.push(Expr::encoded(Expr::Product(state), Encoding::F32));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let source = "mlx-lm cache.py (ArraysCache): past inputs of convolutions in the model's dtype, states in float32 (some families keep 16 bits)";
    Entry::modelled(Term::State, Expr::sum(parts), (50, 100), source, RUNNING).map(Some)
}

/// One step of a prompt: what a layer works with, and the last token's logits.
fn step(asked: &Asked) -> Result<Vec<Entry>, Overflow> {
    let decoder = asked.model.decoder();
    let width = decoder.widest_feed_forward().as_ref().map_or(0, FeedForward::active_width);
    let prefill = || Expr::Min(vec![Expr::leaf(PREFILL, "tokens", Source::Runtime("mlx-lm prefill_step_size")), asked.context.leaf("tokens")]);
    let per_token = Expr::Sum(vec![
        Expr::Product(vec![Expr::constant(3), Expr::leaf(width, "feed-forward width", Source::Config("intermediate_size".into()))]),
        Expr::Product(vec![Expr::constant(4), Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()))]),
    ]);
    let work = Expr::encoded(Expr::Product(vec![prefill(), asked.batch.leaf("requests"), per_token]), asked.dtype);
    let logits = Expr::Product(vec![
        asked.batch.leaf("requests"),
        Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into())),
        Expr::named(6, "B (logits in 16 bits, their logarithms in 32)"),
    ]);
    Ok(vec![
        Entry::modelled(
            Term::Activations,
            work,
            (50, 300),
            "one step of the prompt through a layer: 3 × feed-forward width + 4 × hidden_size; no public figures to check it against",
            &[Stage::Prefill],
        )?,
        Entry::modelled(Term::Logits, logits, (70, 300), "mlx-lm generate.py: logits of the last token", &[Stage::Sampling, Stage::Decode])?,
    ])
}

fn capacity(asked: &Asked, device: &Device) -> Result<Option<Capacity>, Overflow> {
    let cached = device.term_at(Term::KvCache, Stage::Decode)?.expected;
    if cached == Bytes::ZERO {
        return Ok(None);
    }
    let room = device.usable.minus(device.peak()?.1.expected.minus(cached)?).unwrap_or(Bytes::ZERO);
    let scaled = |times: u64| u64::try_from(u128::from(room.get()) * u128::from(times) / u128::from(cached.get())).unwrap_or(u64::MAX);
    let tokens = asked.context.value.saturating_mul(asked.batch.value);
    Ok(Some(Capacity { kv_cache_bytes: room, kv_cache_tokens: scaled(tokens), concurrency_hundredths: scaled(asked.batch.value.saturating_mul(100)) }))
}
