//! MLX (mlx-lm) on Apple silicon: one memory for all, of which the system lets the GPU wire so much.
//!
//! Read from mlx-lm 0.32.2 (`generate.py`: `generate_step`, `wired_limit`; `models/cache.py`: `KVCache`, `RotatingKVCache`,
//! `ChunkedKVCache`, `ArraysCache`; `make_cache` of `models/*.py`) and MLX (`backend/metal/allocator.cpp`).

mod families;
mod step;

use super::asked::Asked;
use super::common::device_of;
use super::pile::Pile;
use super::{DEFAULT_CONTEXT, EstimateError, MAX_COUNT};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Capacity, Device, Entry, Estimate, Ledger, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Vendor;
use crate::model::{CacheGroup, Mixer, Model, Span};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{Scenario, Weights};
use crate::weights::stored;
pub(super) use families::has_family;

pub(super) const LABEL: &str = "MLX (mlx-lm 0.32)";

/// Tokens by which a cache grows (`KVCache.step`).
const STEP: u64 = 256;

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
    let mut asked = Asked::new(model, scenario, &cards, (DEFAULT_CONTEXT, "8,192 tokens"), None)?;
    asked.choices.count("max_num_batched_tokens", scenario.max_num_batched_tokens, step::PREFILL, "mlx-lm prefill_step_size", MAX_COUNT)?;
    let mut entries = vec![weights(&asked)?];
    entries.extend(cache(&asked)?);
    entries.extend(states(&asked)?);
    entries.extend(step::entries(&asked, &cards[0])?);
    let [card] = cards;
    let (low, expected, high, source) = card.context_bytes();
    let context = Entry::exact(Term::RuntimeContext, Expr::leaf(expected.get(), "B", source), Basis::Modelled, "Metal's own libraries", ALWAYS)?;
    entries.push(context.with_band(low, high, Basis::Modelled));
    crate::order::sort_short(&mut entries, |entry| entry.term);
    let device = device_of(0..1, &card, Ledger { stages: Stage::SERVING, entries });
    let mut assumptions: Vec<String> = [&model.anatomy.assumptions, &model.provenance.notes, &asked.assumptions].into_iter().flatten().cloned().collect();
    if asked.model.decoder().layers.iter().any(|run| matches!(run.layer.mixer.span(), Some(Span::Sliding(_)))) && !rotates(asked.model) {
        assumptions.push("mlx-lm has no rotating cache for this family: every layer keeps the whole context".to_owned());
    }
    if is_expanded(asked.model) {
        assumptions.push("mlx-lm caches keys and values of every head for this family, not the latents they come from".to_owned());
    }
    assumptions.push("MLX keeps freed buffers for reuse up to its limit: what the system shows may be more than what is needed".to_owned());
    let capacity = capacity(&asked, &device)?;
    let others: Vec<&str> = model.anatomy.counted().skip(1).map(|part| part.name.as_ref()).collect();
    let names = others.join(", ");
    let said = format!("only the weights of {names} are counted: what they work with (activations, keys and values of what they read) is not yet");
    let warnings = if others.is_empty() { Vec::new() } else { vec![said] };
    Ok(Estimate { devices: vec![device], host: None, capacity, trainable: None, choices: asked.choices.0, assumptions, warnings })
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

/// Families whose code expands the latents of MLA before they are cached: keys and values of every head are kept.
const EXPANDED: &[&str] = &["deepseek_v2", "minicpm3", "youtu"];

fn is_of(model: &Model, families: &[&str]) -> bool {
    let family = model.anatomy.model_type.as_str();
    families.contains(&family.strip_suffix("_text").unwrap_or(family))
}

/// Whether layers with a window give up what is behind it.
fn rotates(model: &Model) -> bool {
    is_of(model, ROTATING)
}

/// Whether keys and values of every head are cached instead of their latents.
fn is_expanded(model: &Model) -> bool {
    is_of(model, EXPANDED)
}

/// Values that a layer keeps of one token.
fn cached_values(model: &Model, mixer: &Mixer) -> u64 {
    match mixer {
        Mixer::Latent(latent) if is_expanded(model) => {
            latent.heads.saturating_mul(latent.nope_dim.saturating_add(latent.rope_dim).saturating_add(latent.value_dim))
        }
        // The keys of an indexer are handed to a cache of keys and values as both.
        Mixer::Latent(latent) => mixer.cache_elements_per_token().saturating_add(latent.indexer.saturating_mul(2)),
        _ => mixer.cache_elements_per_token(),
    }
}

/// Cached tokens of a layer: the context in steps, or its window; while a prompt is read, with the step that is read.
fn held(asked: &Asked, span: Span, is_prefill: bool) -> Expr {
    let step = || Expr::leaf(STEP, "tokens", Source::Runtime("mlx-lm cache.py: caches grow by 256 tokens"));
    let all = Expr::Product(vec![asked.context.leaf("tokens").ceil_div(step()), step()]);
    let chunk = || step::prefill(asked);
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
        let elements = Expr::leaf(cached_values(asked.model, &group.mixer), "cached values", Source::Config("the sizes of the layer's attention".into()));
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
