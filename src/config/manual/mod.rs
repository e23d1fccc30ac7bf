//! A model that exists nowhere yet, by its sizes: `layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=128256`.
//!
//! The sizes become the config of a family that is understood to the parameter, so everything else about such a model is as in
//! that family. Whatever was not given and is not a size of that family alone is said as an assumption.

mod given;
mod plan;
mod sizes;
#[cfg(test)]
mod tests;

use given::Given;
use plan::Plan;
use sizes::{NAMES, UNSAID};
pub use sizes::{SIZES, Size};

use super::ConfigError;
use crate::format::{grouped, parameters};
use crate::model::Anatomy;

/// Why sizes make no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// A piece of the text is no `NAME=VALUE`, or it is too long.
    #[error("a model by hand is written as `layers=32,hidden=4096,...`: `{0}` is not a name with a value")]
    NotAPair(String),
    /// A name that is not known.
    #[error("`{0}` is not a size of a model; the sizes are {NAMES}")]
    Unknown(String),
    /// A size that is given twice.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// A value that cannot be.
    #[error("`{name}` is `{value}`: {why}")]
    Value {
        /// The size.
        name: &'static str,
        /// The value, shortened.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// A size that is needed.
    #[error("`{0}` is missing: without it there is no telling how large the model is")]
    Missing(&'static str),
    /// Sizes that do not go together.
    #[error("{0}")]
    Contradiction(&'static str),
    /// No intermediate size comes near the number of parameters.
    #[error("no intermediate size makes these sizes come to {wanted} parameters: the rest of the model alone has {without}")]
    TooFew {
        /// The parameters that were given.
        wanted: String,
        /// Those without feed-forwards.
        without: String,
    },
    /// What the family's reader says.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

/// A model by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Manual {
    /// What it is.
    pub anatomy: Anatomy,
    /// The same sizes as links have them: `layers:32,hidden:4096`.
    pub text: String,
}

/// Whether a text is meant as a model by hand rather than as the name of one: it begins with the name of something and its value.
pub fn is_manual(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b' '));
    !text.contains('/') && text.split_once(['=', ':']).is_some_and(|(name, _)| is_name(name))
}

/// Tells sizes from the name of a model with a tag, as `mistral:7b`: whether a known size is in the text, or a `=`, which no name has.
pub fn has_sizes(text: &str) -> bool {
    let is_size = |pair: &str| pair.split_once(':').is_some_and(|(name, _)| SIZES.iter().any(|size| size.is_called(name)));
    text.contains('=') || text.split([',', ' ', ';', '\n', '\t']).any(is_size)
}

/// Reads sizes: pairs of a name and a value, `=` or `:` between the two, commas or spaces between pairs. A whole number may have
/// commas before every three digits: `vocab=128,256`.
///
/// # Errors
/// [`ManualError`] names what is missing, unknown or impossible.
///
/// ```
/// let llama = vramfit::config::manual::read("layers=32,hidden=4096,heads=32,intermediate=11008,vocab=32000").unwrap();
/// assert_eq!(llama.anatomy.parameters().unwrap().get(), 6_738_415_616);
/// ```
pub fn read(text: &str) -> Result<Manual, ManualError> {
    let given = Given::parse(text)?;
    let plan = Plan::new(&given)?;
    let mut said = vec![plan.family_said()];
    let mut anatomy = match (plan.width, given.parameters()?) {
        (Some(width), None) => plan.anatomy(width)?,
        (Some(width), Some(wanted)) => {
            let anatomy = plan.anatomy(width)?;
            let count = anatomy.parameters().map_err(ConfigError::from)?;
            if count != wanted {
                said.push(format!("the sizes come to {} parameters: those count, not the {} that were given", parameters(count), parameters(wanted)));
            }
            anatomy
        }
        (None, Some(wanted)) => {
            let width = plan.width_for(wanted)?;
            said.push(format!("`{}` of {} follows from {} parameters", plan.width_name, grouped(width), parameters(wanted)));
            plan.anatomy(width)?
        }
        (None, None) => return Err(ManualError::Missing(plan.width_name)),
    };
    said.extend(UNSAID.iter().filter(|unsaid| unsaid.counts(&given)).map(|unsaid| format!("`{}` was not given: {}", unsaid.name, unsaid.what)));
    anatomy.assumptions.splice(0..0, said);
    Ok(Manual { anatomy, text: given.to_text() })
}
