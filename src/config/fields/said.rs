//! What is said of a config after it was read: what was left to its class, which keys were not asked for and may matter.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Fields, is_below};
use crate::config::TEXT_CONFIGS;
use crate::config::ignored::{IRRELEVANT, LAYER_KINDS, NESTED, PART_SIZES, SIZE_NAMES, SMALL_SIZES, STRUCTURAL};

/// The key itself, without the objects around it.
fn leaf(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl Fields {
    /// A sentence about what the config leaves to its class: whole parts, and the sizes in those that are there.
    pub fn left_to_class(&self) -> Option<String> {
        let accounts = self.accounts.borrow();
        let parts = accounts.left_out.iter().filter(|path| !accounts.left_out.iter().any(|outer| is_below(path, outer)));
        let is_size = |key: &str| {
            let leaf = leaf(key);
            SIZE_NAMES.iter().any(|part| leaf.contains(part)) && !SMALL_SIZES.contains(&leaf)
        };
        let is_said = |key: &str| accounts.left_out.iter().any(|outer| is_below(key, outer));
        let is_one = |value: &Value| value.as_u64().is_some_and(|number| number < 2);
        // Each object's sizes together, under its name once.
        let mut sizes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, value) in accounts.from_class.iter().filter(|(key, value)| !is_one(value) && is_size(key) && !is_said(key)) {
            let (object, leaf) = key.rsplit_once('.').unwrap_or(("", key));
            sizes.entry(object).or_default().push(format!("`{leaf}` ({value})"));
        }
        let whole: Vec<String> = parts.map(|path| format!("`{path}`")).collect();
        let mut said = if whole.is_empty() { Vec::new() } else { vec![whole.join(", ")] };
        said.extend(sizes.into_iter().map(|(object, sizes)| match object {
            "" => sizes.join(", "),
            _ => format!("in `{object}`: {}", sizes.join(", ")),
        }));
        (!said.is_empty()).then(|| format!("not in the config, so its class's own sizes are counted: {}", said.join("; ")))
    }

    /// The largest whole number under a key that was asked for, with the key's path.
    pub fn largest(&self) -> Option<(String, u64)> {
        let accounts = self.accounts.borrow();
        let mut open: Vec<(String, &Map<String, Value>)> = vec![(self.path.clone(), &self.object)];
        let mut largest = None;
        while let Some((path, object)) = open.pop() {
            for (key, value) in object {
                let at = format!("{path}{key}");
                if let Value::Object(inner) = value {
                    open.push((format!("{at}."), inner));
                    continue;
                }
                let numbers = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let number = numbers.iter().filter_map(Value::as_u64).max().unwrap_or(0);
                if accounts.used.contains(&at) && largest.as_ref().is_none_or(|&(_, most)| number > most) {
                    largest = Some((at, number));
                }
            }
        }
        largest
    }

    /// What was guessed so far.
    pub fn guesses(&self) -> Vec<String> {
        self.accounts.borrow().guesses.clone()
    }

    /// Whether an object stands under `key` that gives a width or a number of layers: a part with parameters of its own.
    pub fn describes_a_part(&self, key: &str) -> bool {
        let Some(Value::Object(object)) = self.object.get(key) else { return false };
        object.keys().any(|key| PART_SIZES.contains(&key.as_str()))
    }

    /// What stands at `path` (`text_config.resampler_dim`).
    fn at(&self, path: &str) -> Option<&Value> {
        let mut keys = path.split('.');
        keys.next().and_then(|first| keys.try_fold(self.object.get(first)?, |value, key| value.get(key)))
    }

    /// Whether `path` leads to an object, or to a number whose name is a size's.
    pub fn gives_a_size(&self, path: &str) -> bool {
        match self.at(path) {
            Some(Value::Object(object)) => !object.is_empty(),
            Some(Value::Number(number)) => number.as_u64().is_some_and(|n| n > 0) && SIZE_NAMES.iter().any(|part| leaf(path).contains(part)),
            _ => false,
        }
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

    /// The same of a family that is known: sizes, outside or in its text's config, of parts that no layer of it is known to have.
    /// A number of 1 is none, and where the config counts no experts, nothing of theirs is.
    pub fn unknown_parts(&self) -> Vec<String> {
        let (_, left) = self.accounts();
        let number = |key: &str| self.at(key).and_then(Value::as_u64).unwrap_or(0);
        let present = self.accounts.borrow().present.clone();
        let mut counts = present.iter().filter(|key| leaf(key).ends_with("experts") && !leaf(key).contains("shared")).map(|key| number(key)).peekable();
        let is_dense = counts.peek().is_some() && counts.all(|count| count < 2);
        let is_layers = |key: &String| {
            let leaf = key.split_once('.').filter(|(object, _)| TEXT_CONFIGS.contains(object)).map_or(key.as_str(), |(_, leaf)| leaf);
            let is_of_experts = leaf.contains("expert") || leaf.contains("moe");
            let is_kind = !leaf.contains('.') && LAYER_KINDS.iter().any(|part| leaf.contains(part));
            is_kind && self.gives_a_size(key) && number(key) != 1 && !(is_dense && is_of_experts)
        };
        left.into_iter().filter(is_layers).map(|key| format!("`{key}`")).collect()
    }

    /// The keys that were asked for and are there, and those that may matter but were not asked for. An object that was
    /// opened answers for its own keys.
    pub fn accounts(&self) -> (Vec<String>, Vec<String>) {
        let accounts = self.accounts.borrow();
        // A wrapper may repeat what its language model's config says.
        let repeated = |key: &str| {
            let said = |text: &&&str| self.object.get(**text).is_some_and(|text| text.get(key).is_some() && text.get(key) == self.object.get(key));
            TEXT_CONFIGS.iter().find(said).is_some_and(|text| accounts.used.contains(&format!("{text}.{key}")))
        };
        let ignored = |key: &&String| {
            let leaf = leaf(key);
            let is_nested = leaf.len() < key.len();
            let is_irrelevant = IRRELEVANT.contains(&leaf) || (is_nested && NESTED.contains(&leaf));
            let is_passed_over = accounts.passed_over.iter().any(|path| *key == path || is_below(key, path));
            !is_irrelevant && !is_passed_over && !accounts.used.contains(*key) && !repeated(key)
        };
        (accounts.used.intersection(&accounts.present).cloned().collect(), accounts.present.iter().filter(ignored).cloned().collect())
    }
}
