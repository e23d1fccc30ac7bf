//! What the page asks of its reader, and what the reader answers.
//!
//! The page is two modules of WebAssembly. The first one draws; it holds the one model that is shown first, and computes what most
//! people ask ([`crate::memory::common_estimate`]). The reader (`src/bin/reader`) has the whole engine: every family, the formats
//! of files, the Hub, every runtime, training. It is fetched when it is first needed. Between the two go the types of this file
//! and the queries of links; what they mean to each other is in [`answer`] (models) and [`desk`] (figures).

pub mod anatomy;
mod answer;
pub mod desk;
mod kept;
mod search;

use serde::{Deserialize, Serialize};

use crate::catalogue;
use crate::checkpoint::gguf::FileSet;
use crate::config::manual::SIZES;
use crate::format::sentence;
pub use crate::hub::Progress;
use crate::link::ModelLink;
use crate::model::Model;
pub use answer::{Picked, answer};
pub use kept::{NothingKept, Store};
pub use search::Suggestions;

/// A model that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Which one.
    pub what: What,
    /// The Hub's address; `None` for the default one.
    pub endpoint: Option<String>,
    /// The access token, for that Hub only.
    pub token: Option<String>,
}

/// What names a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// An id: the built-in model, or the Hub's where there is none of that id.
    Named(String),
    /// The text of a config.json.
    Config(String),
    /// A model by hand: its sizes.
    Manual(String),
    /// The files that were picked or dropped; they come beside the wish.
    Files {
        /// Which one of them, where it was chosen among several.
        chosen: Option<String>,
    },
    /// A model on the Hub.
    Hub {
        /// An id or an address.
        text: String,
        /// The revision, where the text does not say it.
        revision: Option<String>,
        /// Whether the catalogue will do when the Hub cannot be reached.
        may_be_built_in: bool,
    },
}

/// What the reader answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The Hub that was asked, where the text named one of its own.
    pub endpoint: Option<String>,
    /// The model, or why there is none.
    pub result: Result<Found, Failure>,
}

/// A model that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The model.
    pub model: Model,
    /// As a link names it.
    pub link: ModelLink,
    /// What is worth saying about how it came here; empty for nothing.
    pub note: String,
}

/// Why a model could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong, as a sentence.
    pub problem: String,
    /// What to do, as a sentence.
    pub advice: String,
    /// Whether the same may work later.
    pub may_retry: bool,
    /// Whether an access token may help.
    pub wants_token: bool,
    /// The files to choose from, where that is what is left to say.
    pub files: Vec<Offer>,
}

/// One of several files, each a model of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The file.
    pub file: FileSet,
    /// What to ask for to get it.
    pub what: What,
}

impl Failure {
    /// A failure that neither time nor a token helps.
    pub fn new(problem: &str, advice: &str) -> Self {
        Self { problem: sentence(problem), advice: advice.to_owned(), may_retry: false, wants_token: false, files: Vec::new() }
    }
}

/// The ids of the built-in models, a line each.
#[must_use]
pub fn built_in_ids() -> String {
    catalogue::ids().collect::<Vec<_>>().join("\n")
}

/// The sizes that a model by hand can be given, a line each: the name, `=`, what it is for people.
#[must_use]
pub fn sizes() -> String {
    SIZES.iter().map(|size| [size.name, "=", size.label].concat()).collect::<Vec<_>>().join("\n")
}

/// The bytes of a message; none when it cannot be written, which [`decode`] then refuses.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap_or_default()
}

/// The model in the bytes of an [`Answer`].
pub fn model_of(answer: &[u8]) -> Option<Model> {
    decode::<Answer>(answer)?.result.ok().map(|found| found.model)
}

/// The message of some bytes; `None` for those of another version.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// The model that the page shows first, as the reader answers for it. `tests/first_model.rs` keeps it true.
pub static FIRST: &[u8] = include_bytes!("../../assets/models/first.bin");
