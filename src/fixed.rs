//! Texts and lists that the program itself holds, and that cross from one of the page's modules to the other all the same.
//!
//! They stay `&'static`: what arrives as bytes is kept for good, each value once, so what is kept is never more than the other
//! module's own texts.

use std::sync::Mutex;

use serde::{Deserialize, Deserializer};

use crate::estimate::{Stage, Term};

/// A text of the program. (By this name `serde` does not ask to borrow it from the bytes that are read.)
pub type Text = &'static str;
/// A list of the program.
pub type List<T> = &'static [T];

/// Reads a [`Text`]: `#[serde(deserialize_with = "fixed::text")]`.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
    static TEXTS: Mutex<Vec<Text>> = Mutex::new(Vec::new());
    let arrived = <&str>::deserialize(deserializer)?;
    Ok(kept(&TEXTS, |text| *text == arrived, || arrived.to_owned().leak()))
}

/// Reads a list of stages.
pub fn stages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<List<Stage>, D::Error> {
    static STAGES: Mutex<Vec<List<Stage>>> = Mutex::new(Vec::new());
    let arrived = Vec::deserialize(deserializer)?;
    Ok(kept(&STAGES, |stages| *stages == arrived, || arrived.clone().leak()))
}

/// Reads a list of terms.
pub fn terms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<List<Term>, D::Error> {
    static TERMS: Mutex<Vec<List<Term>>> = Mutex::new(Vec::new());
    let arrived = Vec::deserialize(deserializer)?;
    Ok(kept(&TERMS, |terms| *terms == arrived, || arrived.clone().leak()))
}

/// The value that is kept already, or a new one.
fn kept<T: Copy>(all: &Mutex<Vec<T>>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> T {
    // What a thread that broke off left behind is whole: it is one push.
    let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(value) = all.iter().find(|value| is_it(value)) {
        return *value;
    }
    let value = new();
    all.push(value);
    value
}
