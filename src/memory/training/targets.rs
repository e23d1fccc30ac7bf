//! Which modules get adapters: PEFT's defaults by family, `all-linear`, or names.

use super::run::unsupported;
use crate::model::{Model, Role, Tensor};
use crate::runtime::EstimateError;
use crate::scenario::{Method, Targets};

/// PEFT 0.21.2 `utils/constants.py:TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`: (families, modules).
const LORA: &[(&[&str], &[&str])] = &[
    (&["t5", "mt5"], &["q", "v"]),
    (&["bart", "opt", "gptj", "gpt_neo"], &["q_proj", "v_proj"]),
    (&["llama", "llama4", "mistral", "mixtral", "stablelm", "gemma", "gemma2", "gemma3_text", "gemma4", "qwen2", "qwen3"], &["q_proj", "v_proj"]),
    (&["nemotron_h"], &["q_proj", "k_proj", "v_proj", "o_proj"]),
    (&["blip-2"], &["q", "v", "q_proj", "v_proj"]),
    (&["gpt2", "gpt_bigcode"], &["c_attn"]),
    (&["bloom", "gpt_neox", "falcon", "chatglm", "RefinedWeb", "RefinedWebModel"], &["query_key_value"]),
    (&["bert", "roberta", "xlm-roberta", "electra", "layoutlm"], &["query", "value"]),
    (&["deberta-v2"], &["query_proj", "value_proj"]),
    (&["deberta"], &["in_proj"]),
    (&["mpt"], &["Wqkv"]),
    (&["codegen"], &["qkv_proj"]),
    (&["phi"], &["q_proj", "v_proj", "fc1", "fc2"]),
    (&["btlm"], &["c_proj", "c_attn"]),
    (&["rwkv"], &["key", "value", "receptance", "output"]),
    (&["rwkv7"], &["r_proj", "k_proj", "v_proj", "o_proj", "key", "value"]),
];

/// Roles, and what they are called where PEFT lists no modules for a family.
type Fallback = (&'static [Role], &'static str);

/// Every other family: the first of these that its layers have (queries and values: Hu et al., arXiv 2106.09685, section 7.1).
const LORA_ROLES: &[Fallback] = &[
    (&[Role::Query, Role::Value], "PEFT has none for the family: queries and values, as in LoRA's paper"),
    (&[Role::Qkv], "PEFT has none for the family: the matrix of queries, keys and values"),
    (&[Role::MixerInput], "PEFT has none for the family: the matrix into the mixer"),
];

/// The same for IA3 (`TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING`).
const IA3: &[(&[&str], &[&str])] = &[
    (&["t5"], &["k", "v", "wo"]),
    (&["mt5"], &["k", "v", "wi_1"]),
    (&["gpt2", "gpt_bigcode"], &["c_attn", "mlp.c_proj"]),
    (&["bloom"], &["query_key_value", "mlp.dense_4h_to_h"]),
    (&["gpt_neox", "falcon", "RefinedWeb", "RefinedWebModel"], &["query_key_value", "dense_4h_to_h"]),
    (&["opt"], &["q_proj", "k_proj", "fc2"]),
    (&["bart", "phi"], &["q_proj", "v_proj", "fc2"]),
    (&["gptj"], &["q_proj", "v_proj", "fc_out"]),
    (&["gpt_neo"], &["q_proj", "v_proj", "c_proj"]),
    (&["llama", "mistral"], &["k_proj", "v_proj", "down_proj"]),
    (&["mixtral"], &["k_proj", "v_proj", "w2"]),
    (&["llama4", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"], &["q_proj", "v_proj", "down_proj"]),
    (&["bert", "roberta"], &["key", "value", "output.dense"]),
    (&["deberta-v2"], &["key_proj", "value_proj", "output.dense"]),
    (&["deberta"], &["in_proj", "output.dense"]),
];
/// Every other family (keys, values and feed-forwards: Liu et al., arXiv 2205.05638, section 3.3).
const IA3_ROLES: &[Fallback] = &[
    (&[Role::Key, Role::Value, Role::Down], "PEFT has none for the family: keys, values and what leads out of feed-forwards, as in IA3's paper"),
    (&[Role::Qkv, Role::Down], "PEFT has none for the family: queries, keys, values and what leads out of feed-forwards"),
];

/// Names that engines put into one module, by role.
const FUSED: &[(Role, Role)] =
    &[(Role::Query, Role::Qkv), (Role::Key, Role::Qkv), (Role::Value, Role::Qkv), (Role::Gate, Role::GateUp), (Role::Up, Role::GateUp)];

fn leaf(tensor: &Tensor) -> &str {
    let path = tensor.name.rsplit_once('.').map_or("", |(path, _)| path);
    path.rsplit_once('.').map_or(path, |(_, leaf)| leaf)
}

/// The modules that get adapters, by names that the model has, and the rule behind them where none were asked for.
pub(super) fn resolve(model: &Model, method: Method, asked: Option<&Targets>, assumptions: &mut Vec<String>) -> Result<(Targets, &'static str), EstimateError> {
    if !method.is_low_rank() && method != Method::Ia3 {
        return Ok((Targets::Named(Vec::new()), ""));
    }
    let (names, rule): (Vec<String>, &'static str) = match asked {
        Some(Targets::AllLinear) => return Ok((Targets::AllLinear, "")),
        Some(Targets::Named(names)) => (names.clone(), ""),
        None if method == Method::Qlora => return Ok((Targets::AllLinear, "the QLoRA paper's")),
        None => defaults(model, method),
    };
    let has = |name: &str| {
        let name = name.rsplit('.').next().unwrap_or(name);
        // In transformers 5 the gates and ups of all experts are one parameter.
        let is_pair = |tensor: &Tensor| name == "gate_up_proj" && tensor.role == Role::ExpertGate;
        model.anatomy.tensors().any(|(tensor, _)| tensor.shape.len() > 1 && (leaf(tensor) == name || is_pair(tensor)))
    };
    let (mut found, missing): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| has(name));
    let mut lost = Vec::new();
    for name in missing {
        let fused = FUSED.iter().find(|(role, _)| *role == Role::of_module(&name)).map(|(_, fused)| *fused);
        match model.anatomy.tensors().find(|(tensor, _)| Some(tensor.role) == fused && tensor.shape.len() > 1) {
            Some((tensor, _)) if found.iter().any(|known| known == leaf(tensor)) => {}
            Some((tensor, _)) => {
                assumptions.push(format!("this model has no {name}: {} holds it and gets the adapter", leaf(tensor)));
                found.push(leaf(tensor).to_owned());
            }
            None => lost.push(name),
        }
    }
    if found.is_empty() && lost.is_empty() {
        return Err(unsupported("none of this model's modules is known to take adapters: name them, or all-linear".to_owned()));
    }
    if found.is_empty() {
        return Err(unsupported(format!("this model has no module called {}; name others, or all-linear", lost.join(" or "))));
    }
    if !lost.is_empty() {
        assumptions.push(format!("this model has no module called {}", lost.join(" or ")));
    }
    Ok((Targets::Named(found), rule))
}

/// What PEFT takes for the family; of families that it does not list, what their layers have by these roles.
fn defaults(model: &Model, method: Method) -> (Vec<String>, &'static str) {
    let (table, fallbacks) = if method == Method::Ia3 { (IA3, IA3_ROLES) } else { (LORA, LORA_ROLES) };
    let model_type = model.anatomy.model_type.as_str();
    if let Some((_, modules)) = table.iter().find(|(families, _)| families.contains(&model_type)) {
        return (modules.iter().map(|name| (*name).to_owned()).collect(), "PEFT's for the family");
    }
    let tensors = || model.decoder().layers.iter().flat_map(|run| &run.tensors).filter(|tensor| tensor.shape.len() == 2);
    for (roles, rule) in fallbacks {
        let mut names: Vec<String> = Vec::new();
        for tensor in tensors().filter(|tensor| roles.contains(&tensor.role)) {
            if !names.iter().any(|name| name == leaf(tensor)) {
                names.push(leaf(tensor).to_owned());
            }
        }
        if !names.is_empty() {
            return (names, rule);
        }
    }
    (Vec::new(), "")
}

/// Whether a linear module gets an adapter.
pub(super) fn takes(targets: &Targets, leaf: &str, role: Role) -> bool {
    match targets {
        // Routers are modules of their own in transformers 5.
        Targets::AllLinear => !matches!(role, Role::Head | Role::Score | Role::Router | Role::Embedding),
        Targets::Named(names) => names.iter().any(|name| name.rsplit('.').next() == Some(leaf)),
    }
}

/// Whether a tensor of experts gets an adapter: when it is named. transformers 5 keeps them as parameters, which `all-linear` leaves.
pub(super) fn takes_expert(targets: &Targets, tensor: &Tensor) -> bool {
    matches!(targets, Targets::Named(names) if names.iter().any(|name| name == leaf(tensor)))
}
