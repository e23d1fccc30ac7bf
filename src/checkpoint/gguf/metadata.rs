//! The metadata of a GGUF file, as far as it is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::GgufError;
use super::arch::IRRELEVANT;
use crate::format::grouped;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number of any width; one above `i64::MAX` is kept as that.
    Integer(i64),
    /// A float of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text of at most [`super::reader::MAX_TEXT`] bytes.
    Text(String),
    /// A short list of whole numbers or truth values (0 and 1).
    Integers(Vec<i64>),
    /// A list whose elements were passed over: its length.
    List(u64),
    /// A long text (a chat template) that was passed over.
    LongText,
}

/// Metadata by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Every key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A text, if the key holds one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is not negative, if the key holds one.
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Integer(value)) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The length of the list under a key.
    pub fn length(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::List(length)) => Some(*length),
            Some(Value::Integers(values)) => Some(values.len() as u64),
            _ => None,
        }
    }
}

/// The keys of one architecture (`llama.block_count` as `block_count`), with a record of those that were asked for.
pub struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: String,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// The keys that begin with `prefix` and a dot.
    pub fn new(metadata: &'a Metadata, prefix: &str) -> Self {
        Self { metadata, prefix: format!("{prefix}."), used: RefCell::default() }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        let key = format!("{}{key}", self.prefix);
        let value = self.metadata.get(&key)?;
        self.used.borrow_mut().insert(key);
        Some(value)
    }

    /// An error about a key.
    pub fn wrong(&self, key: &str, why: &str) -> GgufError {
        GgufError::Metadata(format!("`{}{key}`: {why}", self.prefix))
    }

    fn in_range(&self, key: &str, value: i64, most: u64) -> Result<u64, GgufError> {
        let value = u64::try_from(value).ok().filter(|&value| value <= most);
        value.ok_or_else(|| self.wrong(key, &format!("it must be a whole number of at most {}", grouped(most))))
    }

    /// A whole number, if the key is there; a list only when all its elements are equal.
    pub fn count(&self, key: &str, most: u64) -> Result<Option<u64>, GgufError> {
        let value = match self.get(key) {
            None => return Ok(None),
            Some(Value::Integer(value)) => *value,
            Some(Value::Integers(values)) if !values.is_empty() && values.iter().all(|value| *value == values[0]) => values[0],
            Some(_) => return Err(self.wrong(key, "it must be one whole number")),
        };
        self.in_range(key, value, most).map(Some)
    }

    /// A whole number that must be there.
    pub fn required(&self, key: &str, most: u64) -> Result<u64, GgufError> {
        self.count(key, most)?.ok_or_else(|| self.wrong(key, "it is missing"))
    }

    /// The number of a layer: one for all, or a list with one per layer.
    pub fn of_layer(&self, key: &str, layer: u64, most: u64) -> Result<Option<u64>, GgufError> {
        match self.list_or_count(key, layer)? {
            (Some(value), _) | (None, Some(value)) if value <= most => Ok(Some(value)),
            (None, None) => Ok(None),
            _ => Err(self.wrong(key, &format!("it must be at most {}", grouped(most)))),
        }
    }

    /// (the element of a layer, if the key holds a list; the number, if it holds one)
    pub fn list_or_count(&self, key: &str, layer: u64) -> Result<(Option<u64>, Option<u64>), GgufError> {
        match self.get(key) {
            None => Ok((None, None)),
            Some(Value::Integer(value)) => self.in_range(key, *value, u64::MAX).map(|value| (None, Some(value))),
            Some(Value::Bool(value)) => Ok((None, Some(u64::from(*value)))),
            Some(Value::Integers(values)) => {
                let value =
                    usize::try_from(layer).ok().and_then(|layer| values.get(layer)).ok_or_else(|| self.wrong(key, "it must have one entry per layer"))?;
                self.in_range(key, *value, u64::MAX).map(|value| (Some(value), None))
            }
            Some(_) => Err(self.wrong(key, "it must be a whole number or a list of them")),
        }
    }

    /// A truth value, if the key holds one.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// The keys that were asked for, and those that were not and may matter.
    pub fn accounts(&self) -> (Vec<String>, Vec<String>) {
        let used = self.used.borrow();
        let is_left = |key: &&str| {
            let Some(ending) = key.strip_prefix(&self.prefix) else { return false };
            !used.contains(*key) && !ending.starts_with("rope.") && !IRRELEVANT.contains(&ending)
        };
        let left = self.metadata.iter().map(|(key, _)| key).filter(is_left).map(str::to_owned).collect();
        (used.iter().cloned().collect(), left)
    }
}
