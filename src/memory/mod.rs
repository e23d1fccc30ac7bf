//! How much: a model and a scenario to a ledger per device.

mod blocks;
mod draft;
mod placement;
mod training;
mod weights;

use crate::estimate::{ALWAYS, Amount, Basis, Capacity, Device, Entry, Estimate, Ledger, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Keeps, Mixer, Model, Origin};
use crate::order::sort_short;
use crate::quantity::{Bytes, Overflow};
use crate::runtime::{self, Engine, Packing, Rules, Setup, across};
pub use crate::runtime::{EstimateError, set_aside};
use crate::scenario::{LlamaCpp, Scenario, Task, Weights};
use crate::weights as stored;
use blocks::Blocks;

/// Computes the answer for one scenario.
///
/// # Errors
/// [`EstimateError`] when the GPU is not known, a setting is out of range, the engine cannot do what is asked, or a number
/// does not fit 64 bits.
pub fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    let (named, said) = scenario.with_table_gpus()?;
    let mut estimate = of_named(model, &named)?;
    estimate.warnings.extend(said);
    Ok(estimate)
}

/// The same, where the GPUs go by the table's names.
fn of_named(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    if scenario.task == Task::Train {
        return training::estimate(model, scenario);
    }
    runtime::check(scenario, model)?;
    let settled = runtime::loads::settle(model, scenario)?;
    let mut answer = served(model, &settled.scenario)?;
    settled.say_in(&mut answer);
    Ok(answer)
}

/// Of what runs the model, by its whole rules.
fn served(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    if let Some(answer) = runtime::whole(model, scenario) {
        let mut answer = answer?;
        let least = lean(scenario).and_then(|lean| runtime::whole(model, &lean)).transpose()?;
        for device in &mut answer.devices {
            widen_guesses(model, &mut device.ledger.entries)?;
            let same = least.iter().flat_map(|least| &least.devices).find(|other| other.ranks.contains(&device.ranks.start));
            device.minimum = Some(same.unwrap_or(device).peak()?.1.expected);
        }
        return Ok(answer);
    }
    let missing = || EstimateError::Unsupported(format!("{} has no rules for this model", runtime::label(scenario.runtime)));
    let engine = runtime::engine(model, scenario.runtime).ok_or_else(missing)?;
    let mut answer = of_ranks((engine, stored::stored, across::read), model, scenario)?;
    runtime::host_tier::add_to(&mut answer, model, scenario)?;
    say_placement(engine, model, &mut answer);
    Ok(answer)
}

/// GPUs that get nothing, and what is not known of who gets what.
fn say_placement(engine: &dyn Engine, model: &Model, answer: &mut Estimate) {
    let chosen = |key: &str| answer.choices.iter().find(|choice| choice.key == key).and_then(|choice| choice.value.parse::<u64>().ok()).unwrap_or(0);
    let (gpus, stages) = (chosen("gpus"), chosen("pipeline_parallel"));
    let used = answer.devices.last().map_or(0, |device| device.ranks.end);
    if gpus > used {
        let idle = gpus - used;
        answer.warnings.push(format!("{} puts no weights on {idle} of the {gpus} GPUs: the shares of the others hold all of them", engine.label()));
    }
    if let Some(said) = engine.unfollowed(model).filter(|_| stages > 1) {
        answer.warnings.push(said.to_owned());
    }
}

/// The same with one request; `None` where there is no more anyway.
fn lean(scenario: &Scenario) -> Option<Scenario> {
    let slots = scenario.llama_cpp.parallel.or(scenario.batch);
    let llama_cpp = LlamaCpp { parallel: None, ..scenario.llama_cpp.clone() };
    slots.is_some_and(|slots| slots > 1).then(|| Scenario { batch: Some(1), llama_cpp, ..scenario.clone() })
}

/// The engine of what most people ask: serving by the common one, in formats that pack nothing.
fn common(model: &Model, scenario: &Scenario) -> Option<&'static dyn Engine> {
    let serving = &scenario.serving;
    let has_loras = serving.max_loras.is_some() || serving.max_lora_rank.is_some();
    let is_rare = has_loras || serving.draft.is_some() || serving.speculative_tokens.is_some() || serving.kv_offloading_size.is_some();
    // Versions older than what was read are said beside the rules.
    let is_rare = is_rare || serving.runtime_version.is_some_and(|version| version < runtime::loads::OLDEST_VLLM);
    // Kernels of packed experts pad them: that is among the rarer rules.
    let is_quantised = model.anatomy.quantization.is_some() || model.provenance.source == Origin::Gguf;
    let has_encoder = || {
        let is_encoder = |part: &Component| matches!(part.kind, ComponentKind::TextEncoder | ComponentKind::AudioTower);
        model.anatomy.counted().skip(1).any(is_encoder) || across::is_read(model)
    };
    let has_latents = || model.decoder().layers.iter().any(|run| matches!(run.layer.mixer, Mixer::Latent(_)));
    let is_asked = || {
        let is_plain = || stored::is_plain(model, stored::meant(model, scenario.weights).0);
        scenario.task == Task::Serve && runtime::suits(scenario, model) && !is_rare && !is_quantised && !has_latents() && !has_encoder() && is_plain()
    };
    runtime::common_engine(model, scenario.runtime).filter(|_| scenario.has_table_gpus() && is_asked())
}

/// Whether [`common_estimate`] answers.
pub fn is_common(model: &Model, scenario: &Scenario) -> bool {
    common(model, scenario).is_some()
}

/// [`estimate`] of what most people ask, with little code; `None` for everything else.
pub fn common_estimate(model: &Model, scenario: &Scenario) -> Option<Result<Estimate, EstimateError>> {
    let engine = common(model, scenario)?;
    Some(of_ranks((engine, stored::plain, across::nothing), model, scenario))
}

/// Of an engine whose ranks are alike.
fn of_ranks(rules: Rules, model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    let mut setup = Setup::new(rules, model, scenario)?;
    // The least that runs at all: one request.
    let lean = Scenario { batch: Some(1), ..scenario.clone() };
    let mut lean = if setup.batch.value > 1 { Some(Setup::new(rules, model, &lean)?) } else { None };
    let mut warnings = Vec::new();
    let mut devices: Vec<Device> = Vec::new();
    let mut capacity: Option<Capacity> = None;
    for place in setup.places() {
        setup.place = place.clone();
        let mut said = Vec::new();
        let mut device = device(&setup, &mut said)?;
        device.minimum = Some(match &mut lean {
            Some(lean) => {
                lean.place = place;
                self::device(lean, &mut Vec::new())?.peak()?.1.expected
            }
            None => device.peak()?.1.expected,
        });
        said.retain(|sentence| !warnings.contains(sentence));
        warnings.append(&mut said);
        if !setup.cache_groups().is_empty() {
            // The rank with the least room decides for all.
            let here = setup.engine.capacity(&setup, room_for_cache(&device, setup.engine.pooled())?)?;
            capacity = Some(capacity.filter(|least| least.kv_cache_tokens <= here.kv_cache_tokens).unwrap_or(here));
        }
        match devices.last_mut() {
            Some(before) if is_alike(before, &device) => before.ranks.end = device.ranks.end,
            _ => devices.push(device),
        }
    }
    warnings.extend(of_other_parts(&setup));
    if model.is_input_unmapped(false) {
        warnings.push(UNMAPPED.to_owned());
    }
    let assumptions = [&model.anatomy.assumptions, &model.provenance.notes, &setup.assumptions].into_iter().flatten().cloned().collect();
    let host = host(&setup, &devices)?;
    Ok(Estimate { devices, host, capacity, trainable: None, choices: setup.choices, assumptions, warnings })
}

/// What is said where the length of the input is not known.
const UNMAPPED: &str = "how many positions or feature maps an image or a sound becomes in this network is not derived: its activations are counted as of a text of as many tokens, a rule of thumb";

/// What is said about parts beside the decoder.
fn of_other_parts(setup: &Setup) -> Vec<String> {
    let (model, format) = (setup.model, setup.weights);
    let (texts, towers): (Vec<&Component>, Vec<&Component>) =
        model.anatomy.counted().skip(1).filter(|part| part.kind != ComponentKind::Adapter && !model.is_pipeline()).partition(|component| component.is_text());
    let named = |parts: &[&Component]| parts.iter().map(|component| component.name.as_ref()).collect::<Vec<&str>>().join(", ");
    let mut said = Vec::new();
    let is_gguf = matches!(format, Weights::Mix(_));
    if is_gguf && !towers.is_empty() {
        let towers = named(&towers);
        said.push(format!("the weights of {towers} are not counted: GGUF keeps them in a file of their own (mmproj), loaded only when asked for"));
    }
    let mut others = if is_gguf { texts } else { [texts, towers].concat() };
    if setup.engine.counts_images() {
        others.retain(|part| !matches!(part.kind, ComponentKind::VisionTower | ComponentKind::Projector));
    }
    if let Some(across) = &setup.across {
        others.retain(|part| part.kind != across.part.kind);
    }
    let reads_images = || model.decoder().layers.iter().any(|run| run.layer.mixer.attention().is_some_and(|own| own.keeps == Keeps::Encoder));
    if setup.across.is_none() && reads_images() {
        said.push("keys and values of images, which layers with cross-attention keep, are not counted for this engine".to_owned());
    }
    if !others.is_empty() {
        said.push(format!(
            "only the weights of {} are counted: what they work with (activations, keys and values of what they read) is not yet",
            named(&others)
        ));
    }
    said
}

/// The ledger of one rank.
fn device(setup: &Setup, warnings: &mut Vec<String>) -> Result<Device, EstimateError> {
    let model = setup.model;
    let mut blocks = Blocks::default();
    let mut entries = vec![weights::entry(setup, &mut blocks, warnings)?];
    if setup.engine.shard_rules().packing == Packing::Fused {
        entries.extend(blocks.entry()?);
    }
    if let Some(draft) = draft::entry(setup, &entries[0], warnings)? {
        entries.push(draft);
    }
    entries.extend(setup.engine.kv_cache(setup)?);
    entries.extend(setup.engine.overheads(setup)?);
    widen_guesses(model, &mut entries)?;
    if let (Some(offload), Some(weights)) = (setup.scenario.serving.cpu_offload, entries.first_mut()) {
        *weights = less(weights, offload)?;
    }
    sort_short(&mut entries, |entry| entry.term);
    let ledger = Ledger { stages: setup.engine.moments(), entries };
    let mut device = Device {
        ranks: setup.spread.ranks_of(setup.place.stage),
        gpu: setup.card.name.clone(),
        capacity: setup.card.capacity,
        usable: setup.card.usable,
        budget: setup.engine.budget(setup, &ledger)?,
        claim: None,
        minimum: None,
        ledger,
        slack: None,
    };
    device.claim = claim(&device)?;
    Ok(device)
}

/// The weights less what lies on the host.
fn less(weights: &Entry, offload: Bytes) -> Result<Entry, Overflow> {
    let offload = Expr::leaf(offload.get(), "B on the host", Source::User("CPU offload"));
    let away = Expr::Min(vec![offload, weights.formula.clone()]);
    let gone = Bytes(away.evaluate()?);
    let less = |size: Bytes| size.minus(gone).unwrap_or(Bytes::ZERO);
    let Amount { low, expected, high } = weights.amount;
    let amount = Amount { low: less(low), expected: less(expected), high: less(high) };
    Ok(Entry { amount, formula: weights.formula.clone().minus(away), ..weights.clone() })
}

/// What lies on the host: the weights that every GPU leaves there, and what the engine keeps there itself.
fn host(setup: &Setup, devices: &[Device]) -> Result<Option<Ledger>, Overflow> {
    let mut entries: Vec<Entry> = setup.engine.on_host(setup)?.into_iter().collect();
    if let Some(offload) = setup.scenario.serving.cpu_offload {
        entries.push(offloaded(offload, devices)?);
    }
    Ok((!entries.is_empty()).then_some(Ledger { stages: Stage::SERVING, entries }))
}

fn offloaded(offload: Bytes, devices: &[Device]) -> Result<Entry, Overflow> {
    let parts = devices.iter().map(|device| {
        let weights = device.entries.iter().find(|entry| entry.term == Term::Weights);
        let all = weights.map_or(Expr::constant(0), |entry| match &entry.formula {
            Expr::Difference(all, _) => (**all).clone(),
            formula => formula.clone(),
        });
        let gpus = Expr::named(device.ranks.end - device.ranks.start, "GPUs");
        Expr::Product(vec![gpus, Expr::Min(vec![Expr::leaf(offload.get(), "B on the host", Source::User("CPU offload")), all])])
    });
    Entry::exact(Term::Weights, Expr::sum(parts.collect()), Basis::Derived, "weights that the engine leaves on the host", ALWAYS)
}

/// True when two ranks hold the same.
fn is_alike(one: &Device, other: &Device) -> bool {
    one.ledger == other.ledger && one.gpu == other.gpu && one.usable == other.usable && one.budget == other.budget
}

/// What an engine with a budget will hold once started: the budget, and the context outside it.
fn claim(device: &Device) -> Result<Option<Bytes>, Overflow> {
    let Some(budget) = &device.budget else { return Ok(None) };
    Ok(Some(budget.bytes.plus(device.outside_budget(device.steady_stage())?)?))
}

/// What is left for keys and values: the limit less the worst stage without them.
fn room_for_cache(device: &Device, pooled: &[Term]) -> Result<Bytes, Overflow> {
    let mut most = Bytes::ZERO;
    for &stage in device.stages {
        let mut others = device.at(stage)?.expected.minus(device.outside_budget(stage)?)?;
        for &term in pooled {
            others = others.minus(device.term_at(term, stage)?.expected)?;
        }
        most = most.max(others);
    }
    let limit = device.budget.as_ref().map_or(device.usable, |budget| budget.bytes);
    Ok(limit.minus(most).unwrap_or(Bytes::ZERO))
}

/// What rests on a guessed architecture is no better than a rule of thumb.
fn widen_guesses(model: &Model, entries: &mut [Entry]) -> Result<(), Overflow> {
    let is_guessed = |entry: &&mut Entry| match entry.term {
        Term::Weights => model.provenance.files.is_none(),
        term => matches!(term, Term::KvCache | Term::CrossKvCache | Term::Activations | Term::Logits),
    };
    if model.anatomy.is_guess {
        for entry in entries.iter_mut().filter(is_guessed) {
            widen(entry)?;
        }
    } else if model.is_input_unmapped(false) {
        widen_activations(entries)?;
    }
    Ok(())
}

fn widen_activations(entries: &mut [Entry]) -> Result<(), Overflow> {
    entries.iter_mut().filter(|entry| entry.term == Term::Activations).try_for_each(widen)
}

/// Half to twice.
fn widen(entry: &mut Entry) -> Result<(), Overflow> {
    let wide = Amount::percent(entry.amount.expected, 50, 200)?;
    entry.amount = Amount { low: entry.amount.low.min(wide.low), expected: wide.expected, high: entry.amount.high.max(wide.high) };
    entry.basis = Basis::RuleOfThumb;
    Ok(())
}
