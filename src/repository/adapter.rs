//! Adapters of PEFT: `adapter_config.json` names a base model and what is put beside its matrices.
//!
//! Read from PEFT 0.21: `tuners/tuners_utils.py` (`check_target_module_exists`, `_maybe_include_all_linear_layers`,
//! `cast_adapter_dtype`), `tuners/lora/layer.py`.

use serde_json::Value;

use super::{Content, RepositoryError, Shelf, within};
use crate::checkpoint::{Header, inventory_of_part, quotable};
use crate::config::json;
use crate::encoding::Encoding;
use crate::format::grouped;
use crate::model::{Anatomy, Component, ComponentKind, Files, Role, Tensor, Work};
use crate::quantity::ParamCount;

/// Where an adapter says what it is.
pub(super) const CONFIG: &str = "adapter_config.json";
/// Its weights.
const WEIGHTS: &str = "adapter_model.safetensors";
/// Its component's name.
const NAME: &str = "adapter";

pub(super) async fn read<S: Shelf>(shelf: &S, folder: &str) -> Result<Content, S::Error> {
    let path = within(folder, CONFIG);
    let config = json::parse(&shelf.text(&path).await?).map_err(RepositoryError::config(&path))?;
    let said = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let no_base = || RepositoryError::Adapter(format!("{CONFIG} does not say which model it was made for (`base_model_name_or_path`)"));
    let base_name = said("base_model_name_or_path").ok_or_else(no_base)?;
    let base = shelf.base(base_name, said("revision")).await?;
    let mut notes = vec![format!("a {} adapter on `{}`", said("peft_type").unwrap_or("PEFT"), quotable(base_name))];
    notes.extend(base.provenance.notes);

    let described = described(&config, &base.anatomy);
    let weights = within(folder, WEIGHTS);
    let stored = if shelf.names().contains(&weights) {
        let mut stored = Files::default();
        let mut take = |_: usize, header: &Header| {
            stored = inventory_of_part(NAME, header)?;
            Ok(())
        };
        shelf.headers(&[weights], &mut take).await?;
        Some(stored)
    } else {
        None
    };
    let mut tensors = match (&stored, &described) {
        (Some(stored), _) => stored.loaded.iter().map(|(tensor, _)| Tensor { role: Role::Adapter, ..tensor.clone() }).collect(),
        (None, Ok(tensors)) => tensors.clone(),
        (None, Err(why)) => return Err(RepositoryError::Adapter(format!("{why}, and there is no {WEIGHTS}")).into()),
    };
    if let (Some(stored), Ok(described)) = (&stored, &described) {
        let mut count = ParamCount::ZERO;
        for tensor in described {
            count = count.plus(tensor.elements().map_err(RepositoryError::from)?).map_err(RepositoryError::from)?;
        }
        if count != stored.elements {
            notes.push(format!(
                "{CONFIG} describes {} parameters, {WEIGHTS} holds {}: those are counted",
                grouped(count.get()),
                grouped(stored.elements.get())
            ));
        }
    }
    for tensor in tensors.iter_mut().filter(|tensor| tensor.stored.is_none_or(|stored| stored.is_float)) {
        tensor.stored = Some(Encoding::F32);
    }
    notes.push("PEFT keeps an adapter in float32, whatever its file has (`autocast_adapter_dtype`)".to_owned());

    let files = match base.provenance.files {
        Some(mut files) => {
            let own = stored.unwrap_or_default();
            files.count += own.count;
            files.bytes = files.bytes.plus(own.bytes).map_err(RepositoryError::from)?;
            files.elements = files.elements.plus(own.elements).map_err(RepositoryError::from)?;
            files.loaded.extend(tensors.iter().map(|tensor| (tensor.clone(), 1)));
            Some(files)
        }
        None => None,
    };
    let mut anatomy = base.anatomy;
    anatomy.keys_used.extend(KEYS.iter().filter(|key| config.get(key).is_some()).map(|key| format!("{CONFIG}: {key}")));
    anatomy.components.push(Component {
        name: NAME.into(),
        kind: ComponentKind::Adapter,
        hidden_size: config.get("r").and_then(Value::as_u64).unwrap_or(0),
        vocab_size: 0,
        base: "".into(),
        layer_prefix: "".into(),
        tensors,
        layers: Vec::new(),
        work: Work::Tokens,
    });
    anatomy.parameters().map_err(RepositoryError::from)?;
    Ok(Content { anatomy, files, notes })
}

/// The keys that say which tensors an adapter has.
const KEYS: &[&str] =
    &["base_model_name_or_path", "peft_type", "r", "target_modules", "exclude_modules", "layers_to_transform", "rank_pattern", "use_dora", "modules_to_save"];

/// Keys that add or change tensors in ways that are not read.
const UNREAD: &[&str] = &["target_parameters", "trainable_token_indices", "layer_replication", "megatron_config", "use_bdlora"];

/// The tensors of a LoRA adapter by its config, or why they cannot be told.
fn described(config: &Value, base: &Anatomy) -> Result<Vec<Tensor>, String> {
    let is_set = |key: &str| {
        config.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)) && value.as_array().is_none_or(|list| !list.is_empty()))
    };
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    if kind != "LORA" {
        return Err(format!("the shapes of a `{}` adapter are not derived from its config", quotable(kind)));
    }
    if let Some(key) = UNREAD.iter().find(|key| is_set(key)) {
        return Err(format!("what `{key}` adds is not derived from the config"));
    }
    let rank = config.get("r").and_then(Value::as_u64).filter(|rank| (1..1 << 20).contains(rank)).ok_or("its rank `r` is missing or impossible")?;
    let lora = Lora {
        rank,
        targets: Targets::read(config.get("target_modules")).ok_or("its `target_modules` are a pattern, or missing")?,
        excluded: texts(config.get("exclude_modules")).ok_or("its `exclude_modules` are a pattern")?,
        saved: texts(config.get("modules_to_save")).ok_or("its `modules_to_save` are not a list")?,
        layers: match config.get("layers_to_transform") {
            None | Some(Value::Null) => None,
            Some(Value::Number(one)) => Some(vec![one.as_u64().unwrap_or(u64::MAX)]),
            Some(list) => Some(list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()),
        },
        ranks: match config.get("rank_pattern").and_then(Value::as_object) {
            Some(patterns) => {
                patterns.iter().map(|(name, rank)| Some((name.clone(), rank.as_u64()?))).collect::<Option<_>>().ok_or("its `rank_pattern` is not understood")?
            }
            None => Vec::new(),
        },
        has_magnitude: is_set("use_dora"),
    };
    let mut tensors = Vec::new();
    for component in base.counted() {
        for tensor in &component.tensors {
            lora.beside(module(&tensor.name), tensor, 1, &mut tensors);
        }
        let mut first = 0u64;
        for run in &component.layers {
            let here = first..first.saturating_add(run.count);
            let times = lora.layers.as_ref().map_or(run.count, |layers| layers.iter().filter(|layer| here.contains(layer)).count() as u64);
            for tensor in &run.tensors {
                lora.beside(&format!("{}.{{}}.{}", component.layer_prefix, module(&tensor.name)), tensor, times, &mut tensors);
            }
            first = here.end;
        }
    }
    if tensors.is_empty() { Err("none of its `target_modules` is in the base model".to_owned()) } else { Ok(tensors) }
}

/// The module of a tensor.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

/// A list of texts, or none at all.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}

/// Which modules an adapter stands beside.
enum Targets {
    /// Every linear layer but the head.
    AllLinear,
    /// Those whose name is, or ends in, one of these.
    Names(Vec<String>),
}

impl Targets {
    fn read(value: Option<&Value>) -> Option<Self> {
        match value? {
            Value::String(text) if text.eq_ignore_ascii_case("all-linear") => Some(Self::AllLinear),
            list @ Value::Array(_) => Some(Self::Names(texts(Some(list))?)),
            _ => None,
        }
    }
}

struct Lora {
    rank: u64,
    targets: Targets,
    excluded: Vec<String>,
    /// Modules of which it has a copy of its own.
    saved: Vec<String>,
    /// The layers that it changes; `None` for all.
    layers: Option<Vec<u64>>,
    /// Other ranks for some modules.
    ranks: Vec<(String, u64)>,
    /// DoRA: one more value for each output.
    has_magnitude: bool,
}

impl Lora {
    /// What stands beside a tensor that occurs `times` times.
    fn beside(&self, path: &str, tensor: &Tensor, times: u64, tensors: &mut Vec<Tensor>) {
        let is_one_of =
            |names: &[String]| names.iter().any(|name| path == name || path.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.')));
        let count = tensor.count.saturating_mul(times);
        let mut add = |part: &str, shape: Vec<u64>| {
            if count > 0 {
                tensors.push(Tensor { name: format!("{NAME}/{path}.{part}"), role: Role::Adapter, shape, count, stored: None });
            }
        };
        if self.saved.iter().any(|name| path.split('.').any(|segment| segment == name)) {
            add(tensor.name.rsplit('.').next().unwrap_or("weight"), tensor.shape.clone());
            return;
        }
        let is_target = match &self.targets {
            Targets::AllLinear => tensor.shape.len() == 2 && !matches!(tensor.role, Role::Head | Role::Embedding | Role::Position),
            Targets::Names(names) => tensor.shape.len() > 1 && is_one_of(names),
        };
        if !is_target || is_one_of(&self.excluded) || !tensor.name.ends_with("weight") {
            return;
        }
        let rank = self.ranks.iter().find(|(name, _)| is_one_of(std::slice::from_ref(name))).map_or(self.rank, |(_, rank)| *rank);
        let (outputs, inputs) = (tensor.shape[0], &tensor.shape[1..]);
        // A convolution's first factor has its kernel, the second one is a point.
        add("lora_A.weight", [&[rank], inputs].concat());
        add("lora_B.weight", vec![outputs, rank]);
        if self.has_magnitude {
            add("lora_magnitude_vector", vec![outputs]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
        "num_hidden_layers": 32, "vocab_size": 128256}"#;

    fn parameters(config: &str) -> Result<u64, String> {
        let base = crate::config::read(LLAMA).unwrap();
        let tensors = described(&serde_json::from_str(config).unwrap(), &base)?;
        Ok(tensors.iter().map(|tensor| tensor.elements().unwrap().get()).sum())
    }

    /// Figures of PEFT itself (`get_nb_trainable_parameters`) for Llama-3.1-8B.
    #[test]
    fn lora_shapes_follow_from_the_base() {
        let qv = r#"{"peft_type": "LORA", "r": 8, "target_modules": ["q_proj", "v_proj"]}"#;
        assert_eq!(parameters(qv), Ok(3_407_872));
        assert_eq!(parameters(&qv.replace('}', r#", "layers_to_transform": [0, 31]}"#)), Ok(3_407_872 / 16));
        assert_eq!(parameters(&qv.replace('}', r#", "rank_pattern": {"v_proj": 16}}"#)), Ok(32 * (8 * 8192 + 16 * 5120)));
        let all = r#"{"peft_type": "LORA", "r": 16, "target_modules": "all-linear"}"#;
        assert_eq!(parameters(all), Ok(41_943_040));
        assert_eq!(parameters(&all.replace('}', r#", "use_dora": true}"#)), Ok(41_943_040 + 1_376_256));
        assert_eq!(parameters(&qv.replace('}', r#", "modules_to_save": ["lm_head"]}"#)), Ok(3_407_872 + 128_256 * 4096));
        assert_eq!(parameters(&all.replace('}', r#", "exclude_modules": ["down_proj"]}"#)), Ok(41_943_040 - 32 * 16 * (4096 + 14_336)));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        for (config, why) in [
            (r#"{"peft_type": "IA3", "target_modules": ["k_proj"]}"#, "IA3"),
            (r#"{"peft_type": "LORA", "r": 8, "target_modules": ".*q_proj"}"#, "pattern"),
            (r#"{"peft_type": "LORA", "target_modules": ["q_proj"]}"#, "`r`"),
            (r#"{"peft_type": "LORA", "r": 8, "target_modules": ["nowhere"]}"#, "none of"),
            (r#"{"peft_type": "LORA", "r": 8, "target_modules": [], "target_parameters": ["x"]}"#, "target_parameters"),
        ] {
            assert!(parameters(config).unwrap_err().contains(why), "{config}");
        }
    }
}
