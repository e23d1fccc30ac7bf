//! llama.cpp and what is built on it (Ollama, LM Studio): whole layers on each device and the host, caches of a fixed number of
//! cells, and a compute buffer that is planned before the first token.
//!
//! Read from llama.cpp 0c1e57098; every file here names what it was read from.

mod cache;
mod draft;
mod feed_forward;
mod graph;
mod mixers;
mod placement;
mod pool;
mod run;
mod style;
mod towers;

use super::asked::Asked;
use super::common::device_of;
use super::{DEFAULT_CONTEXT, EstimateError};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Capacity, Device, Entry, Estimate, Ledger, RUNNING, Stage, Term};
use crate::format::Unit;
use crate::formula::{Expr, Source};
use crate::gpu::Card;
use crate::model::{ComponentKind, Mixer, Model, Origin, Role};
use crate::quantity::{Bytes, GIB, Overflow};
use crate::scenario::{KvCache, Runtime, Scenario};
use pool::Pool;
use run::{Run, Spot};

/// The answer for one scenario.
pub(super) fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    let flags = &scenario.llama_cpp;
    for kind in [Some(scenario.kv_cache), flags.kv_cache_k, flags.kv_cache_v].into_iter().flatten() {
        if kind == KvCache::Fp8 {
            return Err(EstimateError::Unsupported("llama.cpp has no FP8 cache: choose q8_0, which takes as much".to_owned()));
        }
    }
    let is_tower = matches!(model.decoder().kind, ComponentKind::VisionTower | ComponentKind::AudioTower);
    if is_tower && model.provenance.source != Origin::Gguf {
        let label = scenario.runtime.label();
        return Err(EstimateError::Unsupported(format!(
            "{label} runs language models and encoders of text, not what reads images or sound alone: choose transformers"
        )));
    }
    let cards = run::devices(scenario)?;
    let mut asked = Asked::new(model, scenario, &cards, default_context(scenario.runtime, &cards), Some((Encoding::F16, "llama.cpp's default")))?;
    let (mut choices, mut warnings) = (std::mem::take(&mut asked.choices), Vec::new());
    let file = placement::file(&asked, &mut warnings)?;
    let mut run = Run::new(&asked, cards, &mut choices, &mut warnings)?;
    let mut weighed = placement::weigh(&asked, &run, &file)?;
    run.staged = std::mem::take(&mut weighed.staged);
    let buffers = graph::buffers(&run, false)?;
    // Devices that work on different micro-batches at once need more; llama.cpp does without where that does not fit.
    let most = if run.can_pipeline { Some(graph::buffers(&run, true)?) } else { None };
    let most = most.as_ref().unwrap_or(&buffers);

    let drafting = draft::Drafting::new(scenario, asked.context.value, &mut choices)?;

    let mut devices = Vec::new();
    for (number, (card, pools)) in run.devices.iter().zip(buffers.devices.iter().zip(&most.devices)).enumerate() {
        let mut entries: Vec<Entry> = Vec::new();
        entries.extend(weighed.entry(number, &asked, file.format)?);
        entries.extend(cache::entries(&run, Spot::Device(number))?);
        entries.extend(compute(&run, pools)?);
        if number == 0 {
            entries.extend(towers::entry(&asked)?);
        }
        entries.push(context(card)?);
        drafting.add_to(number, &mut entries);
        devices.push(device(number, card, entries));
    }
    let mut host: Vec<Entry> = Vec::new();
    host.extend(weighed.entry(run.devices.len(), &asked, file.format)?);
    host.extend(cache::entries(&run, Spot::Host)?);
    host.extend(compute(&run, (&buffers.host, &most.host))?);
    host.push(output(&run)?);
    drafting.add_to_host(&mut host);
    warnings.extend(towers::note(&asked));
    warnings.extend(server_default(&asked, &run));
    let capacity = capacity(&run, &devices)?;
    let host = Some(Ledger { stages: Stage::SERVING, entries: host });
    let mut assumptions: Vec<String> = [&model.anatomy.assumptions, &model.provenance.notes, &asked.assumptions].into_iter().flatten().cloned().collect();
    assumptions.extend(fork(&run));
    Ok(Estimate { devices: merged(devices), host, capacity, trainable: None, choices: choices.0, assumptions, warnings })
}

/// The context when none is chosen. Ollama goes by the memory of all cards (`server/routes.go`).
fn default_context(runtime: Runtime, cards: &[Card]) -> (u64, &'static str) {
    let memory = cards.iter().fold(0u64, |sum, card| sum.saturating_add(card.usable.get()));
    match runtime {
        Runtime::Ollama if memory >= 47 * GIB => (262_144, "Ollama with at least 47 GiB of GPU memory"),
        Runtime::Ollama if memory >= 23 * GIB => (32_768, "Ollama with at least 23 GiB of GPU memory"),
        Runtime::Ollama => (4096, "Ollama with less than 23 GiB of GPU memory"),
        Runtime::LmStudio => (4096, "LM Studio 0.4 resets to 4,096 (lmstudio-bug-tracker 2174)"),
        _ => (DEFAULT_CONTEXT, "8,192 tokens"),
    }
}

/// `tools/server`: without --parallel it plans four requests that share one cache; other tools of llama.cpp plan one.
fn server_default(asked: &Asked, run: &Run) -> Option<String> {
    let is_short = |span| run.is_windowed(span) && !asked.scenario.llama_cpp.swa_full;
    let keeps = |mixer: &Mixer| mixer.recurrence().is_some() || mixer.span().is_some_and(is_short);
    let has_more = asked.model.decoder().layers.iter().any(|layers| keeps(&layers.layer.mixer));
    let is_default = asked.scenario.runtime == Runtime::LlamaCpp && asked.scenario.llama_cpp.parallel.is_none() && asked.batch.value == 1;
    (is_default && has_more).then(|| {
        "llama-server plans 4 requests that share one cache unless --parallel says otherwise: windows and recurrent states of only one are counted here"
            .to_owned()
    })
}

/// What the fork's buffers are instead, by the rule that 41 public logs of it with DeepSeek's models bear out (`-mla` 2 or 3 with `-fa`: a
/// median of 1.2 times it, 0.6 to 2.5).
fn fork(run: &Run) -> Option<String> {
    let latent = run.model.decoder().layers.iter().find_map(|layers| match layers.layer.mixer {
        Mixer::Latent(latent) if layers.tensors.iter().any(|tensor| tensor.role == Role::LatentUp) => Some(latent),
        _ => None,
    })?;
    let size = |width: u64, bytes: u64| {
        let parts = [latent.heads, run.cells(false).count, width, bytes];
        Some(Unit::Gib.text(Bytes(parts.into_iter().try_fold(1, u64::checked_mul)?)))
    };
    let both = latent.nope_dim.saturating_add(latent.value_dim);
    let (whole, copies) = (size(both, 4)?, size(both.saturating_add(latent.rope_dim), 2)?);
    Some(format!(
        "compute buffers are those of llama.cpp, which reads MLA's latents as they are. ik_llama.cpp, a fork, makes keys and values of every head for the whole cache while it reads a prompt (-mla 2 or 3 with -fa; src/graphs/build_deepseek2.cpp): here heads × (qk_nope_head_dim + v_head_dim) × cells × 4 B = {whole}, of which -amb N leaves N MiB, and copies in 16 bits, heads × (qk_nope_head_dim + qk_rope_head_dim + v_head_dim) × cells × 2 B = {copies}. A rule of thumb: 41 public logs of it show 0.6 to 2.5 times that, half of them 1.0 to 1.4 times"
    ))
}

/// A compute buffer: what is needed, and what is taken with micro-batches at once where it fits.
fn compute(run: &Run, (need, most): (&Pool, &Pool)) -> Result<Option<Entry>, Overflow> {
    let source = "llama.cpp's plan of one micro-batch against full caches (llama-context.cpp, sched_reserve; ggml-alloc.c): values that are alive when it is longest. On several GPUs it works on several micro-batches at once where that fits, which is the end of the band";
    let Some(formula) = need.formula() else { return Ok(None) };
    if run.no_kv_offload {
        return Entry::modelled(Term::Activations, formula, (85, 130), BESIDE_HOST_CACHES, RUNNING).map(Some);
    }
    let entry = Entry::exact(Term::Activations, formula, Basis::Derived, source, RUNNING)?;
    let expected = entry.amount.expected;
    Ok(Some(entry.with_band(expected, Bytes(most.length()), Basis::Derived)))
}

/// Of 48 plans of 8 models, 33 are equal to a thousandth; the others are 11 % below to 25 % above this.
const BESIDE_HOST_CACHES: &str = "llama.cpp's plan of one micro-batch against full caches (llama-context.cpp, sched_reserve; ggml-backend.cpp: keys and values are written on the host, and copied to the device for one layer at a time, where attention is still computed). Where its pieces lie decides the length: of 48 plans of 8 models 33 are equal, the others 11 % below to 25 % above";

/// Logits of the tokens that are sampled, on the host.
fn output(run: &Run) -> Result<Entry, Overflow> {
    let formula = Expr::Product(vec![run.vocabulary.leaf(), run.sequences.leaf(), Expr::named(4, "B")]);
    Entry::exact(Term::Logits, formula, Basis::Derived, "llama.cpp llama-context.cpp (output_reserve): one row of logits for each sequence", RUNNING)
}

/// The driver's context, and the pool of ggml's kernels for what they convert.
fn context(card: &Card) -> Result<Entry, Overflow> {
    let (low, expected, high, source) = card.context_bytes();
    let formula = Expr::leaf(expected.get(), "B", source);
    let source =
        "the process's context on the card, outside llama.cpp's own figures: 594 and 753 MiB in two public logs without other programs (H100, RTX PRO 6000)";
    Ok(Entry::exact(Term::RuntimeContext, formula, Basis::Modelled, source, ALWAYS)?.with_band(low, high, Basis::Modelled))
}

fn device(number: usize, card: &Card, mut entries: Vec<Entry>) -> Device {
    crate::order::sort_short(&mut entries, |entry| entry.term);
    let number = number as u64;
    device_of(number..number + 1, card, Ledger { stages: Stage::SERVING, entries })
}

/// Neighbours that hold the same as one.
fn merged(devices: Vec<Device>) -> Vec<Device> {
    let mut all: Vec<Device> = Vec::new();
    for device in devices {
        match all.last_mut() {
            Some(last) if (&last.gpu, last.usable, &last.ledger) == (&device.gpu, device.usable, &device.ledger) => last.ranks.end = device.ranks.end,
            _ => all.push(device),
        }
    }
    all
}

/// Cells that the room on the tightest device holds, with the buffers of the chosen context.
fn capacity(run: &Run, devices: &[Device]) -> Result<Option<Capacity>, Overflow> {
    let mut least: Option<Capacity> = None;
    for device in devices {
        let held = device.term_at(Term::KvCache, Stage::Decode)?.expected;
        if held == Bytes::ZERO {
            continue;
        }
        let others = device.peak()?.1.expected.minus(held)?;
        let room = device.usable.minus(others).unwrap_or(Bytes::ZERO);
        let scaled = |times: u64| u64::try_from(u128::from(room.get()) * u128::from(times) / u128::from(held.get())).unwrap_or(u64::MAX);
        let cells = run.cells(false).count.saturating_mul(run.streams.count);
        let here = Capacity { kv_cache_bytes: room, kv_cache_tokens: scaled(cells), concurrency_hundredths: scaled(run.requests.saturating_mul(100)) };
        least = Some(least.filter(|least| least.kv_cache_tokens <= here.kv_cache_tokens).unwrap_or(here));
    }
    Ok(least)
}

/// A number of bytes that llama.cpp's rules give.
fn rule(value: u64, name: &'static str, rule: &'static str) -> Expr {
    Expr::leaf(value, name, Source::Runtime(rule))
}
