//! A text to the values that it gives: names, numbers, the commas between them.

use std::collections::BTreeMap;

use super::ManualError;
use super::sizes::SIZES;
use crate::quantity::{Decimal, ParamCount};

/// The longest text that is read, in bytes.
const MAX_LENGTH: usize = 1000;

/// The values as they were written, by name.
pub(super) struct Given(pub(super) BTreeMap<&'static str, String>);

impl Given {
    pub(super) fn parse(text: &str) -> Result<Self, ManualError> {
        let mut values = BTreeMap::new();
        if text.len() > MAX_LENGTH {
            return Err(ManualError::NotAPair(shortened(text)));
        }
        for pair in &pairs(text) {
            let (name, value) = pair
                .split_once(['=', ':'])
                .filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .ok_or_else(|| ManualError::NotAPair(shortened(pair)))?;
            let size = SIZES.iter().find(|size| size.is_called(name)).ok_or_else(|| ManualError::Unknown(shortened(name)))?;
            let value = ungrouped(value).ok_or_else(|| ManualError::Value {
                name: size.name,
                value: shortened(value),
                why: "a comma in a number stands before three digits, as in 128,256",
            })?;
            if values.insert(size.name, value).is_some() {
                return Err(ManualError::Twice(size.name));
            }
        }
        Ok(Self(values))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn wrong(&self, name: &'static str, why: &'static str) -> ManualError {
        ManualError::Value { name, value: shortened(self.0.get(name).map_or("", String::as_str)), why }
    }

    /// A whole number.
    pub(super) fn count(&self, name: &'static str) -> Result<Option<u64>, ManualError> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let count = text.replace('_', "").parse().ok().filter(|count| (0..=1u64 << 40).contains(count));
        count.map(Some).ok_or_else(|| self.wrong(name, "it must be a whole number such as 4096"))
    }

    pub(super) fn needed(&self, name: &'static str) -> Result<u64, ManualError> {
        self.count(name)?.ok_or(ManualError::Missing(name))
    }

    /// All parameters: `6738415616`, `6.74B`, `350M`.
    pub(super) fn parameters(&self) -> Result<Option<ParamCount>, ManualError> {
        const NAME: &str = "params";
        let Some(text) = self.0.get(NAME) else { return Ok(None) };
        let units = [('T', 1_000_000_000_000), ('B', 1_000_000_000), ('M', 1_000_000), ('K', 1000)];
        let unit = text.chars().next_back().and_then(|last| units.into_iter().find(|(letter, _)| last.eq_ignore_ascii_case(letter)));
        let (number, unit) = unit.map_or((text.as_str(), 1), |(_, unit)| (&text[..text.len() - 1], unit));
        let count = number.replace('_', "").parse::<Decimal>().ok().and_then(|number| number.floor_of(unit).ok());
        count.filter(|count| *count > 0).map(|count| Some(ParamCount(count))).ok_or_else(|| self.wrong(NAME, "it must be a number such as 7B or 350M"))
    }

    pub(super) fn to_text(&self) -> String {
        let pairs = SIZES.iter().filter_map(|size| Some(format!("{}:{}", size.name, self.0.get(size.name)?)));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// The pairs of a text. What begins with a digit and has no name goes on with the number before the comma.
fn pairs(text: &str) -> Vec<String> {
    let mut pairs: Vec<String> = Vec::new();
    for word in text.split([' ', '\n', '\t', ';']) {
        let before = pairs.len();
        for piece in word.split(',').filter(|piece| !piece.is_empty()) {
            let goes_on = piece.starts_with(|first: char| first.is_ascii_digit()) && !piece.contains(['=', ':']);
            match pairs.get_mut(before..).and_then(<[String]>::last_mut).filter(|_| goes_on) {
                Some(number) => number.extend([",", piece]),
                None => pairs.push(piece.to_owned()),
            }
        }
    }
    pairs
}

/// A value without the commas that part its digits; `None` where they part something else.
fn ungrouped(value: &str) -> Option<String> {
    let Some((first, rest)) = value.split_once(',') else { return Some(value.to_owned()) };
    let are_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_first = (1..=3).contains(&first.len()) && are_digits(first) && !first.starts_with('0');
    (is_first && rest.split(',').all(|group| group.len() == 3 && are_digits(group))).then(|| value.replace(',', ""))
}

/// A text, short enough for a message.
fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}
