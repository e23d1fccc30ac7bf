//! The fields of a config.json: found under their aliases, checked, and accounted for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::ConfigError;
use super::ignored::{IRRELEVANT, NESTED, PART_SIZES, STRUCTURAL};
use crate::encoding::Encoding;

/// Canonical key, and the spellings seen (first present wins).
const ALIASES: &[(&str, &[&str])] = &[
    ("hidden_size", &["hidden_size", "n_embd", "d_model", "dim"]),
    ("num_hidden_layers", &["num_hidden_layers", "n_layer", "n_layers", "num_layers"]),
    ("num_attention_heads", &["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"]),
    ("num_key_value_heads", &["num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups"]),
    ("intermediate_size", &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"]),
    ("max_position_embeddings", &["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length", "max_seq_len", "model_max_length"]),
    ("num_experts", &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"]),
    ("dtype", &["dtype", "torch_dtype"]),
    ("num_experts_per_tok", &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk", "moe_top_k"]),
    ("n_shared_experts", &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"]),
    ("moe_intermediate_size", &["moe_intermediate_size", "expert_ffn_hidden_size"]),
    ("num_nextn_predict_layers", &["num_nextn_predict_layers", "num_mtp_layers"]),
];

/// The largest value that a size in a config may have: past any real model, small enough that products are caught.
const MAX: u64 = 1 << 40;

/// What was asked of a config: shared by its object and the nested ones that were opened.
#[derive(Default)]
struct Accounts {
    /// Keys that were asked for, nested ones with their path (`text_config.hidden_size`).
    used: BTreeSet<String>,
    /// Every key of the objects that were opened, likewise.
    present: BTreeSet<String>,
    /// What had to be guessed, each a sentence.
    guesses: Vec<String>,
}

/// An object of a config, with a record of the keys that were asked for.
pub struct Fields {
    object: Map<String, Value>,
    /// Where it stands in the file: empty, or `text_config.`.
    path: String,
    accounts: Rc<RefCell<Accounts>>,
    /// What stands for keys that are not there at all.
    defaults: Map<String, Value>,
}

impl Fields {
    /// Wraps a parsed config.
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        match config {
            Value::Object(object) => Ok(Self::open(object, String::new(), Rc::default())),
            _ => Err(ConfigError::NotAnObject),
        }
    }

    fn open(object: Map<String, Value>, path: String, accounts: Rc<RefCell<Accounts>>) -> Self {
        accounts.borrow_mut().present.extend(object.keys().map(|key| format!("{path}{key}")));
        Self { object, path, accounts, defaults: Map::new() }
    }

    /// The first of these objects that is there (`text_config`, `llm_config` ...).
    pub fn nested(&self, keys: &[&str]) -> Result<Option<Self>, ConfigError> {
        for key in keys {
            match self.get(key) {
                None => {}
                Some((_, Value::Object(object))) => return Ok(Some(Self::open(object.clone(), format!("{}{key}.", self.path), Rc::clone(&self.accounts)))),
                Some(_) => return Err(self.impossible(key, "it must be an object")),
            }
        }
        Ok(None)
    }

    /// The first of these objects, which must be there.
    pub fn required_nested(&self, keys: &[&'static str]) -> Result<Self, ConfigError> {
        self.nested(keys)?.ok_or_else(|| ConfigError::Missing { key: keys[0], model_type: self.model_type() })
    }

    /// The same object, with numbers for keys that it lacks: what its class takes when a nested config leaves them out.
    #[must_use]
    pub fn with_defaults(&self, defaults: &[(&str, u64)]) -> Self {
        let mut all: Map<String, Value> = defaults.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        // Those that are there already are the more particular ones.
        all.extend(self.defaults.clone());
        let defaults = all;
        Self { object: self.object.clone(), path: self.path.clone(), accounts: Rc::clone(&self.accounts), defaults }
    }

    /// The same object read as another type: for files that keep a language model's fields beside the wrapper's own.
    #[must_use]
    pub fn as_type(&self, model_type: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        same.object.insert("model_type".to_owned(), Value::from(model_type));
        same
    }

    /// The same object with another number in the place of one: for classes whose other layers have another size of the same name.
    #[must_use]
    pub fn replaced(mut self, key: &str, value: u64) -> Self {
        self.object.insert(key.to_owned(), Value::from(value));
        self
    }

    /// The same object as if `architectures` named this class: for parts that a larger class builds.
    #[must_use]
    pub fn as_class(&self, class: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        same.object.insert("architectures".to_owned(), Value::from(vec![class]));
        same
    }

    /// An empty object in the place of a nested one that the config leaves out.
    #[must_use]
    pub fn left_out(&self, key: &str) -> Self {
        Self::open(Map::new(), format!("{}{key}.", self.path), Rc::clone(&self.accounts))
    }

    /// The same object with these values where it says nothing: what a class takes for keys that are left out.
    #[must_use]
    pub fn or_defaults(mut self, defaults: &[(&str, u64)]) -> Self {
        for (key, value) in defaults {
            if self.get(key).is_none() {
                self.object.insert((*key).to_owned(), Value::from(*value));
            }
        }
        self
    }

    /// The same object in which `alias` stands for `key` where that is not there (`attribute_map` of the configs of transformers).
    #[must_use]
    pub fn with_alias(&self, key: &str, alias: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        if let (Some((_, value)), false) = (self.get(alias), self.has(key)) {
            same.object.insert(key.to_owned(), value.clone());
        }
        same
    }

    /// The value under the first alias of `key` that is present and not null, with the spelling found.
    fn get(&self, key: &str) -> Option<(&str, &Value)> {
        let spellings = ALIASES.iter().find(|(canonical, _)| *canonical == key).map(|(_, spellings)| *spellings);
        let mut found = None;
        let mut is_there = false;
        for spelling in spellings.unwrap_or(&[key]) {
            if let Some((name, value)) = self.object.get_key_value(*spelling) {
                is_there = true;
                self.accounts.borrow_mut().used.insert(format!("{}{name}", self.path));
                if found.is_none() && !value.is_null() {
                    found = Some((name.as_str(), value));
                }
            }
        }
        if is_there { found } else { self.defaults.get_key_value(key).map(|(name, value)| (name.as_str(), value)) }
    }

    /// The spelling under which `key` stands in this config, for sources; the canonical one when it is absent.
    pub fn spelling<'a>(&'a self, key: &'a str) -> &'a str {
        self.get(key).map_or(key, |(name, _)| name)
    }

    /// An [`ConfigError::Impossible`] about `key` as it stands.
    pub fn impossible(&self, key: &str, why: &'static str) -> ConfigError {
        let (name, value) = self.get(key).map_or((key, String::new()), |(name, value)| (name, value.to_string()));
        let value = match value.char_indices().nth(60) {
            Some((at, _)) => format!("{}…", &value[..at]),
            None => value,
        };
        ConfigError::Impossible { key: format!("{}{name}", self.path), value, why }
    }

    /// A positive whole number, if the key is there.
    pub fn optional_count(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        // Some exporters write whole numbers as floats; whatever does not survive the way there and back is refused.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, clippy::float_cmp)]
        let whole = |float: f64| Some(float as u64).filter(|&n| n as f64 == float && n <= MAX);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
            Some(n) if (1..=MAX).contains(&n) => Ok(Some(n)),
            _ => Err(self.impossible(key, "it must be a whole number, at least 1 and at most 2^40")),
        }
    }

    /// A whole number that may be zero, if the key is there.
    pub fn optional_count_or_zero(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        match self.get(key) {
            Some((_, value)) if value.as_u64() == Some(0) => Ok(Some(0)),
            _ => self.optional_count(key),
        }
    }

    /// Whether the key is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// Whether the key is there under any of its aliases, be it null.
    pub fn has_any(&self, key: &str) -> bool {
        let spellings = ALIASES.iter().find(|(canonical, _)| *canonical == key).map(|(_, spellings)| *spellings);
        spellings.unwrap_or(&[key]).iter().any(|spelling| self.has(spelling))
    }

    /// Marks a key as understood whose value plays no part here.
    pub fn touch(&self, key: &str) -> Option<u64> {
        self.get(key);
        None
    }

    /// Notes that what follows is a guess, and what it rests on.
    pub fn guess(&self, how: String) {
        self.accounts.borrow_mut().guesses.push(how);
    }

    /// What was guessed so far.
    pub fn guesses(&self) -> Vec<String> {
        self.accounts.borrow().guesses.clone()
    }

    /// The same object with a record of its own: for a reading on trial.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { defaults: self.defaults.clone(), ..Self::open(self.object.clone(), String::new(), Rc::default()) }
    }

    /// How many entries the object under `key` has.
    pub fn entries(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|(_, value)| value.as_object()).map(|object| object.len() as u64)
    }

    /// `num_experts_per_tok`, at most the number of experts; the family's default when the key is absent.
    pub fn active_experts(&self, experts: u64, default: u64) -> Result<u64, ConfigError> {
        let active = self.optional_count("num_experts_per_tok")?.unwrap_or(default);
        if active > experts {
            return Err(self.impossible("num_experts_per_tok", "it cannot be more than the number of experts"));
        }
        Ok(active)
    }

    /// A positive whole number that must be there.
    pub fn count(&self, key: &'static str) -> Result<u64, ConfigError> {
        self.optional_count(key)?.ok_or_else(|| ConfigError::Missing { key, model_type: self.model_type() })
    }

    /// A flag, with the default of the family.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some((_, value)) => value.as_bool().ok_or_else(|| self.impossible(key, "it must be true or false")),
        }
    }

    /// A flag, if the key is there.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(_) => self.flag(key, false).map(Some),
        }
    }

    /// A text, if the key is there.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((_, value)) => value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| self.impossible(key, "it must be a text in quotes")),
        }
    }

    /// A dtype by its name in configs, if the key is there.
    pub fn optional_dtype(&self, key: &str) -> Result<Option<Encoding>, ConfigError> {
        let Some(name) = self.optional_text(key)? else { return Ok(None) };
        Encoding::from_config(&name).map(Some).ok_or_else(|| self.impossible(key, "not a dtype that is known, such as bfloat16"))
    }

    /// A list of texts, if the key is there.
    pub fn optional_texts(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.map(Some).ok_or_else(|| self.impossible(key, "it must be a list of texts"))
    }

    /// The class that `architectures` names first.
    pub fn architecture(&self) -> Result<Option<String>, ConfigError> {
        Ok(self.optional_texts("architectures")?.and_then(|list| list.into_iter().next()))
    }

    /// A fraction or whole number, if the key is there (`ffn_mult`, `expand` ...).
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((_, value)) => value.as_f64().filter(|number| number.is_finite()).map(Some).ok_or_else(|| self.impossible(key, "it must be a number")),
        }
    }

    /// A list of whole numbers (zero allowed), if the key is there.
    pub fn optional_counts(&self, key: &str) -> Result<Option<Vec<u64>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let numbers = value.as_array().and_then(|list| list.iter().map(|item| item.as_u64().filter(|&n| n <= MAX)).collect());
        numbers.map(Some).ok_or_else(|| self.impossible(key, "it must be a list of whole numbers"))
    }

    /// The objects in the list under `key`, if the key is there (`block_configs`).
    pub fn optional_objects(&self, key: &str) -> Result<Option<Vec<Self>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let objects = value.as_array().and_then(|list| list.iter().map(Value::as_object).collect::<Option<Vec<_>>>());
        let Some(objects) = objects else { return Err(self.impossible(key, "it must be a list of objects")) };
        let path = |index: usize| format!("{}{key}[{index}].", self.path);
        Ok(Some(objects.into_iter().enumerate().map(|(index, object)| Self::open(object.clone(), path(index), Rc::clone(&self.accounts))).collect()))
    }

    /// The value as it stands, for shapes that no other method reads.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.get(key).map(|(_, value)| value)
    }

    /// Whether a count or a list of counts stands under `key`: the value of layer `index`.
    pub fn count_of_layer(&self, key: &'static str, index: usize) -> Result<u64, ConfigError> {
        if self.raw(key).is_some_and(Value::is_array) {
            let list = self.optional_counts(key)?.unwrap_or_default();
            return list.get(index).copied().ok_or_else(|| self.impossible(key, "it must have one entry per layer"));
        }
        self.count(key)
    }

    /// A list of layer numbers (empty when the key is absent).
    pub fn layer_numbers(&self, key: &str) -> Result<Vec<u64>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(Vec::new()) };
        let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
        numbers.ok_or_else(|| self.impossible(key, "it must be a list of layer numbers"))
    }

    /// `model_type`, for messages.
    pub fn model_type(&self) -> String {
        self.object.get("model_type").and_then(Value::as_str).unwrap_or("(unnamed)").to_owned()
    }

    /// Whether an object stands under `key` that gives a width or a number of layers: a part with parameters of its own.
    pub fn describes_a_part(&self, key: &str) -> bool {
        let Some(Value::Object(object)) = self.object.get(key) else { return false };
        object.keys().any(|key| PART_SIZES.contains(&key.as_str()))
    }

    /// Whether a list of layers' types says of every one that it is a plain decoder's.
    fn says_equal_layers(&self, key: &str) -> bool {
        let types = (key == "layer_types").then(|| self.object.get(key)?.as_array()).flatten();
        types.is_some_and(|types| types.iter().all(|kind| kind == "full_attention"))
    }

    /// Keys that were not asked for and say that the layers are not those of a plain decoder.
    pub fn structural_keys_left(&self) -> impl Iterator<Item = String> {
        let (_, left) = self.accounts();
        let of_equal_layers: Vec<String> = left.iter().filter(|key| self.says_equal_layers(key)).cloned().collect();
        left.into_iter().filter(move |key| STRUCTURAL.iter().any(|part| key.contains(part)) && !of_equal_layers.contains(key))
    }

    /// The keys that were asked for and are there, and those that may matter but were not asked for. An object that was
    /// opened answers for its own keys.
    pub fn accounts(&self) -> (Vec<String>, Vec<String>) {
        let accounts = self.accounts.borrow();
        let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let ignored = |key: &&String| {
            let leaf = name(key);
            let is_nested = leaf.len() < key.len();
            let is_irrelevant = IRRELEVANT.contains(&leaf.as_str()) || (is_nested && NESTED.contains(&leaf.as_str()));
            !is_irrelevant && !accounts.used.contains(*key)
        };
        (accounts.used.intersection(&accounts.present).cloned().collect(), accounts.present.iter().filter(ignored).cloned().collect())
    }
}
