//! How much: a model and a scenario to a ledger per device.

mod weights;

use crate::estimate::{Amount, Basis, Device, Entry, Estimate, Ledger, Stage, Term};
use crate::model::{Component, Model};
use crate::order::sort_short;
use crate::quantity::{Bytes, Overflow};
pub use crate::runtime::EstimateError;
use crate::runtime::Setup;
use crate::scenario::{Scenario, Weights};

/// Computes the answer for one scenario.
///
/// # Errors
/// [`EstimateError`] when the GPU is not known, a setting is out of range, the engine cannot do what is asked, or a number
/// does not fit 64 bits.
pub fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    if let Some(answer) = crate::runtime::whole(model, scenario) {
        let mut answer = answer?;
        for device in &mut answer.devices {
            widen_guesses(model, &mut device.ledger.entries)?;
        }
        return Ok(answer);
    }
    let setup = Setup::new(model, scenario)?;
    let mut warnings = Vec::new();
    let mut entries = vec![weights::entry(&setup, &mut warnings)?];
    entries.extend(setup.engine.kv_cache(&setup)?);
    entries.extend(setup.engine.overheads(&setup)?);
    widen_guesses(model, &mut entries)?;
    sort_short(&mut entries, |entry| entry.term);
    let budget = setup.engine.budget(&setup)?;
    let mut device = Device {
        ranks: 0..setup.tensor_parallel.value,
        gpu: setup.card.name.clone(),
        capacity: setup.card.capacity,
        usable: setup.card.usable,
        budget,
        claim: None,
        ledger: Ledger { stages: Stage::SERVING, entries },
    };
    device.claim = claim(&device)?;
    let keeps_cache = !model.decoder().cache_groups().is_empty();
    let capacity = if keeps_cache { Some(setup.engine.capacity(&setup, room_for_cache(&device)?)?) } else { None };
    let (texts, towers): (Vec<&Component>, Vec<&Component>) = model.anatomy.counted().skip(1).partition(|component| component.is_text());
    let named = |parts: &[&Component]| parts.iter().map(|component| component.name.as_ref()).collect::<Vec<&str>>().join(", ");
    let is_gguf = matches!(setup.weights, Weights::Mix(_));
    if is_gguf && !towers.is_empty() {
        let towers = named(&towers);
        warnings.push(format!("the weights of {towers} are not counted: GGUF keeps them in a file of their own (mmproj), loaded only when asked for"));
    }
    let others = if is_gguf { texts } else { [texts, towers].concat() };
    if !others.is_empty() {
        warnings.push(format!(
            "only the weights of {} are counted: what they work with (activations, keys and values of what they read) is not yet",
            named(&others)
        ));
    }
    let assumptions = [&model.anatomy.assumptions, &model.provenance.notes, &setup.assumptions].into_iter().flatten().cloned().collect();
    Ok(Estimate { devices: vec![device], host: None, capacity, choices: setup.choices, assumptions, warnings })
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

/// What rests on a guessed architecture is no better than a rule of thumb.
fn widen_guesses(model: &Model, entries: &mut [Entry]) -> Result<(), Overflow> {
    let is_guessed = |entry: &&mut Entry| match entry.term {
        Term::Weights => model.provenance.files.is_none(),
        term => matches!(term, Term::KvCache | Term::Activations | Term::Logits),
    };
    if model.anatomy.is_guess {
        for entry in entries.iter_mut().filter(is_guessed) {
            widen(entry)?;
        }
    }
    Ok(())
}

/// Half to twice.
fn widen(entry: &mut Entry) -> Result<(), Overflow> {
    let wide = Amount::percent(entry.amount.expected, 50, 200)?;
    entry.amount = Amount { low: entry.amount.low.min(wide.low), expected: wide.expected, high: entry.amount.high.max(wide.high) };
    entry.basis = Basis::RuleOfThumb;
    Ok(())
}
