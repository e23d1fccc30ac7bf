//! Where tensor parallelism cuts through what shares a scale: vLLM and SGLang stop at it while loading.
//!
//! vLLM `layers/quantization/fp8.py` (blocks, linear layers and experts alike), `awq.py` and `gptq_marlin.py` (groups of inputs, linear
//! layers), which SGLang has taken over; public logs of vLLM up to 0.19 and of SGLang show the message. Since 0.14.0 (pull request 30836;
//! 0.13.0 has it not) vLLM waives it where gate and up are one (`layers/linear.py`: `_maybe_allow_fp8_block_shape_mismatch`).

use crate::format::grouped;
use crate::model::{Item, Model, Role};
use crate::runtime::parallel::Spread;
use crate::runtime::setup::Choices;
use crate::scenario::{Runtime, Scenario, Version, Weights};
use crate::weight_format::{Group, Method, Scheme};

/// The first vLLM that takes gate and up in one matrix whatever their blocks.
const MERGED: Version = Version(0, 14, 0);

/// A matrix of which each rank has a part.
struct Side<'a> {
    item: Item<'a>,
    /// What is split, and how long it is.
    what: &'static str,
    values: u64,
    /// How many along it share a scale, and what they are called.
    unit: u64,
    units: &'static str,
}

/// The first matrix whose parts are not whole blocks or groups, with what to choose instead.
pub(super) fn torn(model: &Model, scenario: &Scenario) -> Option<String> {
    let is_theirs = matches!(scenario.runtime, Runtime::Vllm | Runtime::Sglang) && scenario.weights == Weights::AsStored;
    let quantization = model.anatomy.quantization.as_ref().filter(|_| is_theirs)?;
    let engine = crate::runtime::engine(model, scenario.runtime)?;
    let spread = Spread::new(model, scenario, engine, &mut Choices(Vec::new())).ok()?;
    if spread.expert_ranks() == 1 {
        return None;
    }
    let cuts_merged = scenario.runtime == Runtime::Sglang || scenario.serving.runtime_version.is_some_and(|version| version < MERGED);
    let sides = model.anatomy.inventory().filter(Item::is_main).filter_map(|item| {
        let assigned = quantization.of(item.place).first()?;
        side(item, quantization.schemes.get(assigned.scheme)?, cuts_merged)
    });
    let sides: Vec<Side> = sides.collect();
    let (tensor, replicas) = (spread.tensor.value, spread.expert_ranks() / spread.tensor.value);
    // Experts that are spread are whole.
    let ranks = |side: &Side, tensor: u64, spreads: bool| match side.item.tensor.role.is_expert() {
        true if spreads => 1,
        true => tensor.saturating_mul(replicas),
        false => tensor,
    };
    let tears = |side: &Side, tensor: u64, spreads: bool| {
        let ranks = ranks(side, tensor, spreads);
        ranks > 1 && !side.values.is_multiple_of(side.unit.saturating_mul(ranks))
    };
    let spreads = spread.expert.value > 1;
    let found = sides.iter().find(|side| tears(side, tensor, spreads))?;
    let fits = |most: u64, spreads| {
        let fits = |fewer: &u64| tensor.is_multiple_of(*fewer) && !sides.iter().any(|side| tears(side, *fewer, spreads));
        (1..=most).rev().find(fits)
    };
    let fewer = fits(tensor - 1, spreads);
    let whole = fits(tensor, true).filter(|&most| Some(most) > fewer && sides.iter().any(|side| side.item.tensor.role.is_expert()));
    let mut advice: Vec<String> = fewer.into_iter().map(|fewer| format!("--tp {fewer}")).collect();
    if let Some(most) = whole {
        let first = if most == tensor { String::new() } else { format!("--tp {most} ") };
        advice.push(format!("{first}--ep {}, which leaves experts whole", most.saturating_mul(replicas)));
    }
    Some(format!(
        "{} stops while loading this over {} GPUs: `{}` has {} {}, and a part of it is not whole {} of {} that share a scale (\"not divisible by weight quantization block\", \"not aligned\"): choose {}",
        scenario.runtime.label(),
        ranks(found, tensor, spreads),
        found.item.tensor.module(),
        grouped(found.values),
        found.what,
        found.units,
        found.unit,
        advice.join(", or ")
    ))
}

/// The side of a matrix that is split; `None` where nothing is cut, or it is of gate and up (unless `cuts_merged`).
fn side<'a>(item: Item<'a>, scheme: &Scheme, cuts_merged: bool) -> Option<Side<'a>> {
    let matrix = item.matrix().ok()?;
    let by_inputs = |unit| ("inputs", matrix.columns, unit);
    let by_outputs = |unit| ("outputs", matrix.rows, unit);
    let ((what, values, unit), units) = match (scheme.method, scheme.group, item.tensor.role) {
        (Method::Fp8, Group::Block(_, inputs), Role::AttentionOutput | Role::Down | Role::ExpertDown) => (by_inputs(inputs), "blocks"),
        (Method::Fp8, Group::Block(outputs, _), Role::OutputDown | Role::ExpertGate | Role::ExpertUp) => (by_outputs(outputs), "blocks"),
        (Method::Fp8, Group::Block(outputs, _), Role::Gate | Role::Up) if cuts_merged => (by_outputs(outputs), "blocks"),
        (Method::Awq | Method::Gptq, Group::Inputs(inputs), Role::AttentionOutput | Role::Down) => (by_inputs(inputs), "groups"),
        _ => return None,
    };
    (unit > 0).then_some(Side { item, what, values, unit, units })
}
