//! Repositories that hold more than one config with its weights: pipelines of diffusers, adapters, sentence-transformers.
//!
//! Nothing here reads a file: a [`Shelf`] brings texts and headers. There are two: a repository on the Hub, and a folder of a
//! [`Disk`](crate::files::Disk), the machine's or one that was dropped on the page.

mod adapter;
mod parts;
mod pipeline;
mod sentence;

use crate::checkpoint::{Header, quotable};
use crate::config::ConfigError;
use crate::model::{Anatomy, Files, Model, Origin, Provenance};
use crate::quantity::Overflow;

/// Where a repository's files are.
///
/// Futures need not be `Send`: the browser's are not.
pub trait Shelf {
    /// Why a file cannot be brought.
    type Error: From<RepositoryError>;

    /// Paths of all files.
    fn names(&self) -> &[String];

    /// The text of a file.
    fn text(&self, file: &str) -> impl Future<Output = Result<String, Self::Error>>;

    /// The headers of weight files as they come, each with its place in the list.
    fn headers(&self, files: &[String], take: &mut Take<'_>) -> impl Future<Output = Result<(), Self::Error>>;

    /// The model that an adapter was made for. It is no adapter itself.
    fn base(&self, name: &str, revision: Option<&str>) -> impl Future<Output = Result<Model, Self::Error>>;
}

/// Takes in one header.
pub type Take<'a> = dyn FnMut(usize, &Header) -> Result<(), RepositoryError> + 'a;

/// What is wrong with a repository of several parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// One of its configs.
    #[error("`{file}`: {error}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// An adapter whose weights cannot be told.
    #[error("the adapter cannot be read: {0}")]
    Adapter(String),
    /// The sizes add up to more than is possible.
    #[error("{0}")]
    Overflow(#[from] Overflow),
}

impl RepositoryError {
    fn config(file: &str) -> impl Fn(ConfigError) -> Self + '_ {
        move |error| Self::Config { file: file.to_owned(), error }
    }

    fn key(file: &str, key: &'static str) -> Self {
        Self::Config { file: file.to_owned(), error: ConfigError::Missing { key: key.to_owned(), model_type: quotable(file) } }
    }
}

/// Kinds of such repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `model_index.json`: a pipeline of diffusers.
    Pipeline,
    /// `adapter_config.json`: what PEFT puts beside a model.
    Adapter,
    /// `modules.json`: a model of sentence-transformers.
    SentenceTransformers,
}

/// The kind of a repository with these files, as far as `folder` (empty for the top) is concerned; `None` for one model.
pub fn kind(names: &[String], folder: &str) -> Option<Kind> {
    let has = |file: &str| names.iter().any(|name| *name == within(folder, file));
    let is_weights = |name: &&str| name.ends_with(".safetensors") && (name.starts_with("model.") || name.starts_with("model-"));
    match () {
        () if has(pipeline::INDEX) => Some(Kind::Pipeline),
        // Some adapters bring their base's config; a model that was merged with one brings weights.
        () if has(adapter::CONFIG) && !names_in(names, folder).any(|name| is_weights(&name)) => Some(Kind::Adapter),
        () if has(sentence::MODULES) => Some(Kind::SentenceTransformers),
        () => None,
    }
}

/// What was read of a repository.
pub struct Content {
    anatomy: Anatomy,
    files: Option<Files>,
    notes: Vec<String>,
}

impl Content {
    /// The model, under the name and commit that it was read at.
    pub fn into_model(self, id: Option<String>, revision: Option<String>) -> Model {
        let Self { anatomy, files, notes } = self;
        let source = if files.is_some() { Origin::Headers } else { Origin::Config };
        Model { anatomy, provenance: Provenance { id, revision, source, files, notes } }
    }
}

/// Reads the repository on the shelf.
///
/// # Errors
/// The shelf's, or [`RepositoryError`] as the shelf passes it on.
pub async fn read<S: Shelf>(shelf: &S, kind: Kind, folder: &str) -> Result<Content, S::Error> {
    match kind {
        Kind::Pipeline => pipeline::read(shelf, folder).await,
        Kind::Adapter => adapter::read(shelf, folder).await,
        Kind::SentenceTransformers => sentence::read(shelf, folder).await,
    }
}

/// The path of a file in a folder.
pub(crate) fn within(folder: &str, file: &str) -> String {
    match (folder, file) {
        ("", path) | (path, "") => path.to_owned(),
        _ => format!("{folder}/{file}"),
    }
}

/// The names of the files that lie in a folder itself.
fn names_in<'a>(names: &'a [String], folder: &'a str) -> impl Iterator<Item = &'a str> {
    names.iter().filter_map(move |name| {
        let (parent, name) = name.rsplit_once('/').unwrap_or(("", name));
        (parent == folder).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_files() {
        let told = |names: &[&str], folder: &str| kind(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), folder);
        assert_eq!(told(&["model_index.json", "vae/config.json"], ""), Some(Kind::Pipeline));
        assert_eq!(told(&["model_index.json", "vae/config.json"], "vae"), None);
        assert_eq!(told(&["adapter_config.json", "adapter_model.safetensors", "config.json"], ""), Some(Kind::Adapter));
        assert_eq!(told(&["adapter_config.json", "config.json", "model-00001-of-00002.safetensors"], ""), None);
        assert_eq!(told(&["checkpoint-10/adapter_config.json", "config.json"], "checkpoint-10"), Some(Kind::Adapter));
        assert_eq!(told(&["modules.json", "config.json", "model.safetensors"], ""), Some(Kind::SentenceTransformers));
        assert_eq!(told(&["config.json", "model.safetensors"], ""), None);
    }
}
