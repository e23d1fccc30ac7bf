//! The values to the config of a family that is understood to the parameter.

use serde_json::{Map, Value, json};

use super::ManualError;
use super::given::Given;
use super::sizes::{BESIDE, IDLE, SIZES};
use crate::config::{ConfigError, read as read_config};
use crate::format::parameters;
use crate::model::Anatomy;
use crate::quantity::ParamCount;

/// The config to be, apart from the width of its feed-forwards.
pub(super) struct Plan {
    /// The family that is read.
    model_type: &'static str,
    config: Map<String, Value>,
    /// The key of the width that may follow from the parameters.
    width_key: &'static str,
    /// What the user calls it.
    pub(super) width_name: &'static str,
    pub(super) width: Option<u64>,
}

impl Plan {
    pub(super) fn new(given: &Given) -> Result<Self, ManualError> {
        let mut config = Map::new();
        let attends = !given.has("recurrent") || given.has("full-every");
        for name in ["layers", "hidden", "heads", "vocab"] {
            if name != "heads" || attends {
                given.needed(name)?;
            }
        }
        for (base, names) in BESIDE {
            if names.iter().any(|name| given.has(name)) && !given.has(base) {
                return Err(ManualError::Missing(base));
            }
        }
        if let Some(idle) = IDLE.iter().find(|idle| idle.is_met(given)) {
            return Err(ManualError::Contradiction(idle.why));
        }
        if given.count("full-every")?.is_some_and(|every| every < 2 || given.count("layers").is_ok_and(|layers| Some(every) > layers)) {
            return Err(given.wrong("full-every", "it must be from 2 to the number of layers, or all layers are alike"));
        }
        if given.count("dense-layers")?.is_some_and(|dense| given.count("layers").is_ok_and(|layers| Some(dense) >= layers)) {
            return Err(given.wrong("dense-layers", "it must be less than the number of layers, or none has the experts"));
        }
        if let Some(kind) = given.0.get("recurrent") {
            for name in ["state-heads", "state-head-dim", "state-size"] {
                given.needed(name)?;
            }
            let heads = given.needed("state-heads")?;
            if given.count("state-groups")?.is_some_and(|groups| groups == 0 || !heads.is_multiple_of(groups)) {
                return Err(given.wrong("state-groups", "it must divide `state-heads`: each group has as many of them"));
            }
            config.insert("recurrent".to_owned(), kind.to_ascii_lowercase().into());
        }
        // Which family has such layers: Llama's, Mixtral's with its window, for experts beside others GLM-4.5's; whatever else is put
        // together of parts.
        let has_experts = given.has("experts");
        let has_shared = has_experts && (given.has("shared-experts") || given.has("dense-layers"));
        let is_composed = ["kv-lora-rank", "recurrent", "full-every"].iter().any(|name| given.has(name)) || (has_shared && given.has("window"));
        let is_mixed = has_shared || (has_experts && is_composed);
        let (width_key, width_name) = match (has_experts, is_mixed) {
            (_, true) => ("moe_intermediate_size", "expert-intermediate"),
            (true, false) => ("intermediate_size", "expert-intermediate"),
            (false, false) => ("intermediate_size", "intermediate"),
        };
        let model_type = match (has_experts, is_mixed) {
            _ if is_composed => "by_hand",
            (_, true) => "glm4_moe",
            (true, false) => "mixtral",
            (false, false) if given.has("window") => "mistral",
            (false, false) => "llama",
        };
        config.insert("model_type".to_owned(), model_type.into());
        for size in SIZES.iter().filter(|size| !matches!(size.name, "params" | "tied" | "dtype" | "intermediate" | "expert-intermediate" | "recurrent")) {
            if let Some(count) = given.count(size.name)? {
                config.insert(size.key.to_owned(), count.into());
            }
        }
        if has_experts {
            given.needed("active-experts")?;
        }
        if is_mixed {
            config.entry("n_shared_experts").or_insert(json!(0));
            config.entry("first_k_dense_replace").or_insert(json!(0));
            if !is_composed {
                // What GLM-4.5 takes for granted where nothing is said.
                config.insert("use_qk_norm".to_owned(), json!(false));
                config.insert("num_nextn_predict_layers".to_owned(), json!(0));
                config.entry("num_key_value_heads").or_insert(given.needed("heads")?.into());
            }
            if let Some(width) = given.count("intermediate")? {
                config.insert("intermediate_size".to_owned(), width.into());
            } else if given.count("dense-layers")?.is_some_and(|layers| layers > 0) {
                return Err(ManualError::Missing("intermediate"));
            }
        } else if has_experts && given.has("intermediate") && given.has("expert-intermediate") {
            return Err(ManualError::Contradiction("`intermediate` is the size of layers without experts: say how many with `dense-layers`, or leave it out"));
        }
        if let Some(tied) = given.0.get("tied") {
            let is_tied = match tied.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" => true,
                "no" | "false" | "0" => false,
                _ => return Err(given.wrong("tied", "it is yes or no")),
            };
            config.insert("tie_word_embeddings".to_owned(), is_tied.into());
        }
        if let Some(dtype) = given.0.get("dtype") {
            let name = match dtype.as_str() {
                "bf16" => "bfloat16",
                "fp16" => "float16",
                "fp32" => "float32",
                other => other,
            };
            config.insert("dtype".to_owned(), name.into());
        }
        // Without dense layers the one width there is is the experts'.
        let width = match (given.count(width_name)?, given.count("intermediate")?) {
            (None, width) if !is_mixed => width,
            (width, _) => width,
        };
        Ok(Self { model_type, config, width_key, width_name, width })
    }

    pub(super) fn family_said(&self) -> String {
        const LIKE: &str = "gated feed-forwards, one matrix for each projection, no biases";
        match self.model_type {
            "by_hand" => format!("by hand: whatever is not a size is as in most models ({LIKE})"),
            family => format!("by hand: whatever is not a size is as in a `{family}` model ({LIKE})"),
        }
    }

    pub(super) fn anatomy(&self, width: u64) -> Result<Anatomy, ManualError> {
        let mut config = self.config.clone();
        config.insert(self.width_key.to_owned(), width.into());
        Ok(read_config(&Value::Object(config).to_string())?)
    }

    fn parameters(&self, width: u64) -> Result<u64, ManualError> {
        Ok(self.anatomy(width)?.parameters().map_err(ConfigError::from)?.get())
    }

    /// The width at which all parameters come nearest to `wanted`: they grow by the same number with every unit of it.
    pub(super) fn width_for(&self, wanted: ParamCount) -> Result<u64, ManualError> {
        let (one, two) = (self.parameters(1)?, self.parameters(2)?);
        let each = two.saturating_sub(one).max(1);
        let without = one.saturating_sub(each);
        let width = wanted.get().saturating_sub(without).saturating_add(each / 2) / each;
        if width == 0 {
            return Err(ManualError::TooFew { wanted: parameters(wanted), without: parameters(ParamCount(without)) });
        }
        Ok(width)
    }
}
