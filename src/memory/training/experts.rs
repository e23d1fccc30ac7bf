//! Adapters on experts. transformers 5 keeps the matrices of all experts as parameters; PEFT 0.21 makes a second copy of each with the
//! adapters' product added (`tuners/lora/layer.py:ParamWrapper`).

use std::collections::BTreeMap;

use super::holdings::{Held, Holdings};
use super::run::{Run, unsupported};
use super::stages::{BACKWARD, PASSES};
use super::targets::takes_expert;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Model, Role, Tensor};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;
use crate::scenario::{Checkpointing, Method, Targets, Trainer};

/// Families, and what the matrices of one expert and its router were called before transformers 5: gate, up, down, router. PEFT takes
/// these names, and `all-linear`, for the parameters (`utils/transformers_weight_conversion.py:_convert_peft_config_moe`), and
/// then for nothing else.
const RENAMED: &[(&[&str], [&str; 4])] = &[
    (&["mixtral", "minimax", "minimax_m2"], ["w1", "w3", "w2", "gate"]),
    (
        &[
            "afmoe",
            "cohere2_moe",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "dots1",
            "ernie4_5_moe",
            "exaone_moe",
            "flex_olmo",
            "glm4_moe",
            "glm4_moe_lite",
            "glm4v_moe",
            "glm_moe_dsa",
            "hunyuan_v1_moe",
            "longcat_flash",
            "mellum",
            "olmoe",
            "qwen3_moe",
            "qwen3_next",
            "qwen3_omni_moe",
            "qwen3_omni_moe_thinker",
            "solar_open",
        ],
        ["gate_proj", "up_proj", "down_proj", "gate"],
    ),
];
/// The parameter of gates and ups in transformers 5.
const TOGETHER: &str = "gate_up_proj";

/// Which parameters of experts get adapters.
#[derive(Clone, Debug, Default)]
pub(super) struct Experts {
    /// The names of modules that stand for parameters.
    renamed: Option<[&'static str; 4]>,
    /// The rank of gates and ups in one, as a multiple of that of other adapters.
    together: Option<u64>,
    down: bool,
    router: bool,
}

impl Experts {
    /// As PEFT reads `targets`.
    pub fn of(model: &Model, method: Method, targets: &Targets) -> Result<Self, EstimateError> {
        let mut has = [Role::ExpertGate, Role::ExpertGateUp].map(|role| model.anatomy.tensors().any(|(tensor, _)| tensor.role == role)).into_iter();
        if !method.is_low_rank() || !has.any(|has| has) {
            return Ok(Self::default());
        }
        let is_named = |wanted: &str| match targets {
            Targets::AllLinear => true,
            Targets::Named(names) => names.iter().any(|name| name.rsplit('.').next() == Some(wanted)),
        };
        let spelled = matches!(targets, Targets::Named(_)) && is_named(TOGETHER);
        let model_type = model.anatomy.model_type.as_str();
        let Some(&(_, renamed)) = RENAMED.iter().find(|(families, _)| families.contains(&model_type)) else {
            return Ok(Self { together: spelled.then_some(1), ..Self::default() });
        };
        let [gate, up, down, router] = renamed;
        if is_named(gate) != is_named(up) {
            return Err(unsupported(format!("experts keep {gate} and {up} in one parameter: PEFT takes both or none")));
        }
        // Both adapters in one parameter have twice the rank.
        let together = if spelled { Some(1) } else { is_named(gate).then_some(2) };
        Ok(Self { renamed: Some(renamed), together, down: is_named(down), router: is_named(router) })
    }

    /// Whether a module outside of experts that has one of their names gets an adapter; `None` where it has another name.
    pub fn takes(&self, leaf: &str, role: Role) -> Option<bool> {
        let renamed = self.renamed.filter(|renamed| renamed.contains(&leaf))?;
        Some(role == Role::Router && self.router && leaf == renamed[3])
    }
}

/// The adapter of one expert's tensor: how many matrices of its size it spans, and its rank.
pub(super) fn adapter(run: &Run, tensor: &Tensor) -> Option<(u64, u64)> {
    let rank = run.lora_rank.value;
    if !run.method.is_low_rank() || !tensor.role.is_expert() {
        return None;
    }
    match (tensor.role, run.experts.together) {
        (Role::ExpertGate, Some(times)) => Some((2, rank.saturating_mul(times))),
        (Role::ExpertGateUp, Some(times)) => Some((1, rank.saturating_mul(times))),
        // With the gate.
        (Role::ExpertUp, Some(_)) => None,
        (Role::ExpertDown, _) if run.experts.renamed.is_some() => run.experts.down.then_some((1, rank)),
        _ if run.experts.renamed.is_some() => None,
        _ => takes_expert(&run.targets, tensor).then_some((1, rank)),
    }
}

/// Whether the product with this role's matrices has an adapter: its rank.
pub(super) fn rank(run: &Run, roles: &[Role]) -> Option<u64> {
    let layers = run.model.decoder().layers.iter().flat_map(|layers| &layers.tensors);
    layers.filter(|tensor| roles.contains(&tensor.role)).find_map(|tensor| adapter(run, tensor)).map(|(_, rank)| rank)
}

/// Whether adapters are added to the parameters; Unsloth's kernels apply them to the tokens.
pub(super) fn adds_to_weights(run: &Run) -> bool {
    run.trainer != Trainer::Unsloth
}

/// What PEFT cannot do with parameters.
pub(super) fn check(run: &Run) -> Result<(), EstimateError> {
    let is_adapted = run.model.anatomy.tensors().any(|(tensor, _)| adapter(run, tensor).is_some());
    if is_adapted && adds_to_weights(run) && (run.has_magnitudes() || run.has_adapter_dropout) {
        return Err(unsupported("PEFT adapts the parameters of experts without dropout and without magnitudes (DoRA) only".to_owned()));
    }
    Ok(())
}

/// The parameters with their adapters added: of every layer that is not computed again, and of the layer at work, with the gradient of
/// the larger of its two.
pub(super) fn entries(run: &Run, holdings: &Holdings) -> Result<Vec<Entry>, Overflow> {
    const NAME: &str = "parameters of experts with adapters";
    let has_pair = run.experts.together.is_some();
    let is_whole = |held: &Held| adapter(run, held.tensor).is_some() || has_pair && held.tensor.role == Role::ExpertUp;
    // Of each unit: how many layers, elements of one, elements of its largest parameter.
    let mut units: BTreeMap<usize, [u64; 3]> = BTreeMap::new();
    for held in holdings.tensors.iter().filter(|held| held.is_in_layer && is_whole(held)) {
        let one = if has_pair && held.tensor.role == Role::ExpertGate { held.elements.checked_mul(2).ok_or(Overflow)? } else { held.elements };
        let unit = units.entry(held.unit).or_default();
        unit[0] = held.times;
        unit[1] = unit[1].checked_add(held.elements).ok_or(Overflow)?;
        unit[2] = unit[2].max(one);
    }
    if units.is_empty() || !adds_to_weights(run) {
        return Ok(Vec::new());
    }
    let mut kept = 0_u64;
    for [times, elements, _] in units.values() {
        let times = match run.checkpointing {
            Checkpointing::None => *times,
            Checkpointing::Every(every) => times - times.div_ceil(every),
            Checkpointing::Selective | Checkpointing::Full | Checkpointing::Uniform(_) => 0,
        };
        kept = elements.checked_mul(times).and_then(|all| all.checked_add(kept)).ok_or(Overflow)?;
    }
    let largest = |index: usize| units.values().map(|unit| unit[index]).max().unwrap_or(0);
    let at_once = match run.checkpointing {
        Checkpointing::None => 0,
        Checkpointing::Uniform(layers) => layers.min(largest(0)),
        Checkpointing::Selective | Checkpointing::Full | Checkpointing::Every(_) => 1,
    };
    let one = largest(1).checked_mul(at_once).ok_or(Overflow)?;
    let leaf = |count: u64| Expr::encoded(Expr::leaf(count, NAME, Source::Derived("counted from config.json".into())), run.base);
    let source = "PEFT 0.21 tuners/lora/layer.py `ParamWrapper`: the parameters of all experts with the adapters' product added";
    let entry = |count: u64, stages| Entry::exact(Term::Activations, leaf(count), Basis::Derived, source, stages);
    let mut entries = Vec::new();
    if kept > 0 {
        entries.push(entry(kept, PASSES)?);
    }
    // A pass that keeps nothing makes those of one layer, too.
    let making: &'static [Stage] = if kept > 0 { &[Stage::Generate, Stage::Score] } else { &[Stage::Generate, Stage::Score, Stage::Forward] };
    entries.push(entry(largest(1), making)?);
    entries.push(entry(one.checked_add(largest(2)).ok_or(Overflow)?, BACKWARD)?);
    Ok(entries)
}
