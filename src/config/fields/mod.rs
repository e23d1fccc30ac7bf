//! The fields of a config.json: found under their aliases, checked, and accounted for.

mod said;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::ConfigError;
use crate::encoding::Encoding;

/// Canonical key, and the spellings seen (first present wins).
const ALIASES: &[(&str, &[&str])] = &[
    ("hidden_size", &["hidden_size", "n_embd", "d_model", "dim"]),
    ("num_hidden_layers", &["num_hidden_layers", "n_layer", "n_layers", "num_layers"]),
    ("num_attention_heads", &["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"]),
    ("num_key_value_heads", &["num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups"]),
    ("intermediate_size", &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"]),
    (
        "max_position_embeddings",
        &["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length", "max_seq_len", "model_max_length", "max_target_positions"],
    ),
    ("num_experts", &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"]),
    ("dtype", &["dtype", "torch_dtype"]),
    ("num_experts_per_tok", &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk", "moe_top_k"]),
    ("n_shared_experts", &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"]),
    ("moe_intermediate_size", &["moe_intermediate_size", "expert_ffn_hidden_size"]),
    ("num_nextn_predict_layers", &["num_nextn_predict_layers", "num_mtp_layers"]),
];

/// The largest value that a size in a config may have: past any real model, small enough that products are caught.
const MAX: u64 = 1 << 40;

/// Whether a key stands inside the object at `path`.
fn is_below(key: &str, path: &str) -> bool {
    key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// What was asked of a config: shared by its object and the nested ones that were opened.
#[derive(Default)]
struct Accounts {
    /// Keys that were asked for, nested ones with their path (`text_config.hidden_size`).
    used: BTreeSet<String>,
    /// Every key of the objects that were opened, likewise.
    present: BTreeSet<String>,
    /// What had to be guessed, each a sentence.
    guesses: Vec<String>,
    /// The type of the outermost object.
    model_type: Option<String>,
    /// Nested objects whose class's sizes stood for them.
    left_out: BTreeSet<String>,
    /// Objects of parts that the class does not build.
    passed_over: BTreeSet<String>,
    /// Numbers, and lists of them, that a class put in the place of keys that are not there.
    from_class: BTreeMap<String, Value>,
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
        let mut kept = accounts.borrow_mut();
        kept.present.extend(object.keys().map(|key| format!("{path}{key}")));
        if path.is_empty() {
            kept.model_type = object.get("model_type").and_then(Value::as_str).map(str::to_owned);
        }
        drop(kept);
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
        self.nested(keys)?.ok_or_else(|| self.missing(keys[0]))
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

    /// The same with values of any kind, written as an object of JSON.
    #[must_use]
    pub fn with_values(&self, defaults: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        if let Ok(Value::Object(values)) = serde_json::from_str(defaults) {
            same.defaults.extend(values);
        }
        same
    }

    /// The same with a text, in the place of one that is there.
    #[must_use]
    pub fn with_text(&self, key: &str, text: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        same.object.insert(key.to_owned(), Value::from(text));
        same
    }

    /// The same object with a number where it has none: one that follows from its other keys, or stands in the class's code.
    #[must_use]
    pub fn with_derived(&self, key: &str, value: u64) -> Self {
        let same = self.with_defaults(&[]);
        if same.has_any(key) { same } else { same.replaced(key, value) }
    }

    /// The sizes of a part for which the class has no key: they stand in its code.
    #[must_use]
    pub fn in_code(&self, name: &str, sizes: &[(&str, u64)]) -> Self {
        let object = sizes.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        Self { object, path: format!("{}{name}.", self.path), accounts: Rc::clone(&self.accounts), defaults: Map::new() }
    }

    /// The same object read as another type: for files that keep a language model's fields beside the wrapper's own.
    #[must_use]
    pub fn as_type(&self, model_type: &str) -> Self {
        self.with_text("model_type", model_type)
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

    /// The first of these objects; where none is there, an empty one for the first, whose class's own sizes stand for it.
    pub fn part(&self, keys: &[&str]) -> Result<Self, ConfigError> {
        Ok(self.nested(keys)?.unwrap_or_else(|| self.left_out(keys.first().copied().unwrap_or_default())))
    }

    /// An empty object in the place of a nested one that the config leaves out.
    #[must_use]
    pub fn left_out(&self, key: &str) -> Self {
        self.accounts.borrow_mut().left_out.insert(format!("{}{key}", self.path));
        Self::open(Map::new(), format!("{}{key}.", self.path), Rc::clone(&self.accounts))
    }

    /// Whether [`Fields::left_out`] stood for the object at this path.
    pub fn is_left_out(&self, path: &str) -> bool {
        self.accounts.borrow().left_out.contains(path)
    }

    /// Takes back that an object or a number was left to the class, for a reading that ends without it.
    pub fn not_counted(&self, key: &str) {
        let path = format!("{}{key}", self.path);
        let is_there = |key: &str| key == path || is_below(key, &path);
        let mut accounts = self.accounts.borrow_mut();
        accounts.left_out.retain(|key| !is_there(key));
        accounts.from_class.retain(|key, _| !is_there(key));
    }

    /// Takes back whatever was left to the class outside the object at `key`: for a reading that ends with it alone.
    pub fn only_counted(&self, key: &str) {
        let path = format!("{}{key}", self.path);
        let is_there = |key: &str| key == path || is_below(key, &path);
        let mut accounts = self.accounts.borrow_mut();
        accounts.left_out.retain(|key| is_there(key));
        accounts.from_class.retain(|key, _| is_there(key));
    }

    /// Notes that a class's own number stands for a key that is not there.
    fn take<T: Clone + Into<Value>>(&self, key: &str, value: T) -> T {
        self.accounts.borrow_mut().from_class.insert(format!("{}{key}", self.path), value.clone().into());
        value
    }

    /// The same object with these values where it says nothing: what a class takes for keys that are left out.
    #[must_use]
    pub fn or_defaults(mut self, defaults: &[(&str, u64)]) -> Self {
        for (key, value) in defaults {
            if self.get(key).is_none() {
                self.object.insert((*key).to_owned(), Value::from(self.take(key, *value)));
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
        if is_there {
            return found;
        }
        self.defaults.get_key_value(key).map(|(name, value)| (name.as_str(), value))
    }

    /// The same for a number that counts: one of the class's own is noted.
    fn size(&self, key: &str) -> Option<(&str, &Value)> {
        let (name, value) = self.get(key)?;
        if let (Some(number), false) = (value.as_u64(), self.has_any(key)) {
            self.take(key, number);
        }
        Some((name, value))
    }

    /// Where the object stands in the file (`text_config`); empty for the outermost.
    pub fn place(&self) -> &str {
        self.path.trim_end_matches('.')
    }

    /// The spelling under which `key` stands in this config, for sources; the canonical one when it is absent.
    pub fn spelling<'a>(&'a self, key: &'a str) -> &'a str {
        self.get(key).map_or(key, |(name, _)| name)
    }

    /// A [`ConfigError::Missing`] about `key` of this object, which is named as the file would have it (`text_config.hidden_size`).
    pub fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing { key: format!("{}{key}", self.path), model_type: self.model_type() }
    }

    /// An [`ConfigError::Impossible`] about `key` as it stands.
    pub fn impossible(&self, key: &str, why: &'static str) -> ConfigError {
        let (name, value) = self.get(key).map_or((key, "not set".to_owned()), |(name, value)| (name, value.to_string()));
        let value = match value.char_indices().nth(60) {
            Some((at, _)) => format!("{}…", &value[..at]),
            None => value,
        };
        ConfigError::Impossible { key: format!("{}{name}", self.path), value, why }
    }

    /// A positive whole number, if the key is there.
    pub fn optional_count(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let Some((_, value)) = self.size(key) else { return Ok(None) };
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

    /// A positive whole number; that of the class, which is noted, where the key is not there.
    pub fn count_or(&self, key: &str, of_class: u64) -> Result<u64, ConfigError> {
        Ok(self.optional_count(key)?.unwrap_or_else(|| self.take(key, of_class)))
    }

    /// The same for a step between layers that says nothing where one of these lists names each.
    pub fn step_or(&self, key: &str, of_class: u64, lists: &[&str]) -> Result<u64, ConfigError> {
        let step = self.count_or(key, of_class)?;
        if lists.iter().any(|list| self.raw(list).and_then(Value::as_array).is_some_and(|list| !list.is_empty())) {
            self.not_counted(key);
        }
        Ok(step)
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

    /// Marks those of the keys as understood under which this object stands once more.
    pub fn touch_copies(&self, keys: &[&str], object: &Map<String, Value>) {
        for key in keys.iter().filter(|key| self.object.get(**key).and_then(Value::as_object) == Some(object)) {
            self.touch(key);
        }
    }

    /// Notes that the model's class does not build the parts under these keys, whatever stands there.
    pub fn pass_over(&self, keys: &[&str]) {
        self.accounts.borrow_mut().passed_over.extend(keys.iter().map(|key| format!("{}{key}", self.path)));
    }

    /// Notes that what follows is a guess, and what it rests on.
    pub fn guess(&self, how: String) {
        self.accounts.borrow_mut().guesses.push(how);
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
        let active = self.count_or("num_experts_per_tok", default)?;
        if active > experts {
            return Err(self.impossible("num_experts_per_tok", "it cannot be more than the number of experts"));
        }
        Ok(active)
    }

    /// A positive whole number that must be there.
    pub fn count(&self, key: &'static str) -> Result<u64, ConfigError> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    /// A flag, with the default of the family; null is none, and no.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default && !self.has_any(key)),
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
        match self.size(key) {
            None => Ok(None),
            Some((_, value)) => value.as_f64().filter(|number| number.is_finite()).map(Some).ok_or_else(|| self.impossible(key, "it must be a number")),
        }
    }

    /// A list of whole numbers (zero allowed); that of the class, which is noted, where the key is not there.
    pub fn counts_or(&self, key: &str, of_class: &[u64]) -> Result<Vec<u64>, ConfigError> {
        Ok(self.optional_counts(key)?.unwrap_or_else(|| self.take(key, of_class.to_vec())))
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

    /// The value of each of so many layers (at most [`super::decoder::Shape::MAX_LAYERS`]), whether one count stands under `key` or a list of them.
    pub fn counts_of_layers(&self, key: &'static str, layers: u64) -> Result<Vec<u64>, ConfigError> {
        if self.raw(key).is_some_and(Value::is_array) {
            let list = self.optional_counts(key)?.unwrap_or_default();
            return if list.len() as u64 == layers { Ok(list) } else { Err(self.impossible(key, "it must have one entry per layer")) };
        }
        self.count(key).map(|count| (0..layers).map(|_| count).collect())
    }

    /// The layers that a list numbers (none when the key is absent).
    pub fn layer_numbers(&self, key: &str) -> Result<BTreeSet<u64>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(BTreeSet::new()) };
        let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
        numbers.ok_or_else(|| self.impossible(key, "it must be a list of layer numbers"))
    }

    /// `model_type`, for messages; that of the whole file where a nested object has none.
    pub fn model_type(&self) -> String {
        let own = self.object.get("model_type").and_then(Value::as_str).map(str::to_owned);
        own.or_else(|| self.accounts.borrow().model_type.clone()).unwrap_or_else(|| "(unnamed)".to_owned())
    }

    /// The `model_type` of the object under `key`, which this does not count as read.
    pub fn type_under(&self, key: &str) -> Option<&str> {
        self.object.get(key)?.get("model_type")?.as_str()
    }
}
