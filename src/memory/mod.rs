//! How much: a model and a scenario to a ledger per device.

mod placement;
mod training;
mod weights;

use crate::estimate::{Amount, Basis, Capacity, Device, Entry, Estimate, Ledger, Stage, Term};
use crate::model::Model;
use crate::order::sort_short;
use crate::quantity::{Bytes, Overflow};
pub use crate::runtime::EstimateError;
use crate::runtime::Setup;
use crate::scenario::{Scenario, Task, Weights};

/// Computes the answer for one scenario.
///
/// # Errors
/// [`EstimateError`] when the GPU is not known, a setting is out of range, the engine cannot do what is asked, or a number
/// does not fit 64 bits.
pub fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    if scenario.task == Task::Train {
        return training::estimate(model, scenario);
    }
    if matches!(scenario.weights, Weights::Nf4 | Weights::Nf4Dq) {
        return Err(EstimateError::Unsupported("4-bit weights are known for training only: choose another format to serve".to_owned()));
    }
    let mut setup = Setup::new(model, scenario)?;
    let mut warnings = Vec::new();
    let mut devices: Vec<Device> = Vec::new();
    let mut capacity: Option<Capacity> = None;
    for place in setup.places() {
        setup.place = place;
        let mut said = Vec::new();
        let device = device(&setup, &mut said)?;
        said.retain(|sentence| !warnings.contains(sentence));
        warnings.append(&mut said);
        if !setup.cache_groups().is_empty() {
            // The rank with the least room decides for all.
            let here = setup.engine.capacity(&setup, room_for_cache(&device)?)?;
            capacity = Some(capacity.filter(|least| least.kv_cache_tokens <= here.kv_cache_tokens).unwrap_or(here));
        }
        match devices.last_mut() {
            Some(before) if is_alike(before, &device) => before.ranks.end = device.ranks.end,
            _ => devices.push(device),
        }
    }
    let towers: Vec<&str> = model.anatomy.counted().skip(1).map(|component| component.name.as_ref()).collect();
    if !towers.is_empty() {
        warnings.push(format!(
            "only the weights of {} are counted: what they work with (activations, keys and values of what they read) is not yet",
            towers.join(", ")
        ));
    }
    let assumptions = [&model.anatomy.assumptions, &model.provenance.notes, &setup.assumptions].into_iter().flatten().cloned().collect();
    Ok(Estimate { devices, host: None, capacity, trainable: None, choices: setup.choices, assumptions, warnings })
}

/// The ledger of one rank.
fn device(setup: &Setup, warnings: &mut Vec<String>) -> Result<Device, EstimateError> {
    let model = setup.model;
    let mut entries = vec![weights::entry(setup, warnings)?];
    entries.extend(setup.engine.kv_cache(setup)?);
    entries.extend(setup.engine.overheads(setup)?);
    if model.anatomy.is_guess {
        let is_guessed = |entry: &&mut Entry| match entry.term {
            Term::Weights => model.provenance.files.is_none(),
            term => matches!(term, Term::KvCache | Term::Activations | Term::Logits),
        };
        for entry in entries.iter_mut().filter(is_guessed) {
            widen(entry)?;
        }
    }
    sort_short(&mut entries, |entry| entry.term);
    let mut device = Device {
        ranks: setup.spread.ranks_of(setup.place.stage),
        gpu: setup.card.name.clone(),
        capacity: setup.card.capacity,
        usable: setup.card.usable,
        budget: setup.engine.budget(setup)?,
        claim: None,
        ledger: Ledger { stages: Stage::SERVING, entries },
        slack: None,
    };
    device.claim = claim(&device)?;
    Ok(device)
}

/// True when two ranks hold the same.
fn is_alike(one: &Device, other: &Device) -> bool {
    one.ledger == other.ledger && one.gpu == other.gpu && one.usable == other.usable && one.budget == other.budget
}

/// What an engine with a budget will hold once started: the budget, and the context outside it.
fn claim(device: &Device) -> Result<Option<Bytes>, Overflow> {
    let Some(budget) = &device.budget else { return Ok(None) };
    Ok(Some(budget.bytes.plus(device.term_at(Term::RuntimeContext, device.loaded_stage())?.expected)?))
}

/// What is left for keys and values: the limit less the worst stage without them.
fn room_for_cache(device: &Device) -> Result<Bytes, Overflow> {
    let mut most = Bytes::ZERO;
    for &stage in device.stages {
        let mut others = device.at(stage)?.expected.minus(device.term_at(Term::KvCache, stage)?.expected)?;
        if device.budget.is_some() {
            others = others.minus(device.term_at(Term::RuntimeContext, stage)?.expected)?;
        }
        most = most.max(others);
    }
    let limit = device.budget.as_ref().map_or(device.usable, |budget| budget.bytes);
    Ok(limit.minus(most).unwrap_or(Bytes::ZERO))
}

/// A guessed architecture: half to twice, and no better than a rule of thumb.
fn widen(entry: &mut Entry) -> Result<(), Overflow> {
    let wide = Amount::percent(entry.amount.expected, 50, 200)?;
    entry.amount = Amount { low: entry.amount.low.min(wide.low), expected: wide.expected, high: entry.amount.high.max(wide.high) };
    entry.basis = Basis::RuleOfThumb;
    Ok(())
}
