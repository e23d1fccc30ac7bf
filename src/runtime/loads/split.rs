//! Where tensor parallelism cuts through what shares a scale: vLLM and SGLang stop at it while loading.
//!
//! vLLM `layers/quantization/fp8.py` (blocks, linear layers and experts alike), `awq.py` and `gptq_marlin.py` (groups of inputs, linear
//! layers), which SGLang has taken over; public logs of vLLM up to 0.19 and of SGLang show the message.

use crate::format::grouped;
use crate::model::{Item, Model, Role};
use crate::scenario::{Runtime, Scenario, Weights};
use crate::weight_format::{Group, Method, Scheme};

/// The first matrix whose parts are not whole blocks or groups.
pub(super) fn torn(model: &Model, scenario: &Scenario) -> Option<String> {
    let is_theirs = matches!(scenario.runtime, Runtime::Vllm | Runtime::Sglang) && scenario.weights == Weights::AsStored;
    let quantization = model.anatomy.quantization.as_ref().filter(|_| is_theirs)?;
    let ways = &scenario.parallel;
    let (stages, replicas) = (ways.pipeline.unwrap_or(1), ways.data.unwrap_or(1));
    let tensor = scenario.tensor_parallel.or_else(|| scenario.gpus?.checked_div(stages.checked_mul(replicas)?)).unwrap_or(1);
    // Experts are whole on their ranks, or split over those of all replicas that share them.
    let shares = replicas > 1 && (ways.data_attention || scenario.runtime == Runtime::Vllm);
    let of_experts = if ways.expert.unwrap_or(1) > 1 { 1 } else { tensor.checked_mul(if shares { replicas } else { 1 })? };
    let cut = |item: &Item<'_>, scheme: &Scheme| {
        let ranks = if item.tensor.role.is_expert() { of_experts } else { tensor };
        let (what, values, unit) = side(item, scheme)?;
        (ranks > 1 && !values.is_multiple_of(unit.checked_mul(ranks)?)).then_some((what, values, unit, ranks))
    };
    let found = |item: Item<'_>| {
        let assigned = quantization.assigned.iter().find(|assigned| assigned.place == item.place)?;
        let (what, values, unit, ranks) = cut(&item, quantization.schemes.get(assigned.scheme)?)?;
        let fits = (1..ranks).rev().find(|fewer| ranks.is_multiple_of(*fewer) && values.is_multiple_of(unit * fewer));
        let whole = if item.tensor.role.is_expert() { format!(", or --ep {ranks}, which leaves experts whole") } else { String::new() };
        let advice = fits.map_or_else(|| "files in another format".to_owned(), |fits| format!("--tp {fits}"));
        Some(format!(
            "{} stops while loading this over {ranks} GPUs: `{}` has {} {what}, and a part of it is not whole {} of {unit} that share a scale (\"not divisible by weight quantization block\", \"not aligned\"): choose {advice}{whole}",
            scenario.runtime.label(),
            item.tensor.module(),
            grouped(values),
            if matches!(quantization.schemes.get(assigned.scheme)?.group, Group::Block(..)) { "blocks" } else { "groups" },
        ))
    };
    model.anatomy.inventory().filter(Item::is_main).find_map(found)
}

/// The side of a matrix that is split, with its length and what shares a scale along it; `None` where nothing is cut.
fn side(item: &Item<'_>, scheme: &Scheme) -> Option<(&'static str, u64, u64)> {
    let matrix = item.matrix().ok()?;
    let is_row_parallel = matches!(item.tensor.role, Role::AttentionOutput | Role::Down | Role::ExpertDown);
    match (scheme.method, scheme.group, item.tensor.role) {
        (Method::Fp8, Group::Block(_, inputs), _) if is_row_parallel => Some(("inputs", matrix.columns, inputs)),
        (Method::Fp8, Group::Block(outputs, _), Role::Gate | Role::Up | Role::ExpertGate | Role::ExpertUp) => Some(("outputs", matrix.rows, outputs)),
        (Method::Awq | Method::Gptq, Group::Inputs(inputs), Role::AttentionOutput | Role::Down) => Some(("inputs", matrix.columns, inputs)),
        _ => None,
    }
}
