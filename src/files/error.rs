//! What can be wrong with files that are to be a model, and what to do about it.

use crate::checkpoint::HeaderError;
use crate::checkpoint::gguf::{FileSet, GgufError};
use crate::checkpoint::index::IndexError;
use crate::config::ConfigError;
use crate::format::grouped;
use crate::hub::HubError;
use crate::quantity::Overflow;
use crate::repository::RepositoryError;

/// Why files cannot be opened as a model. Displays as what is wrong; [`FilesError::advice`] is what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// There is no file.
    #[error("no file was named")]
    Nothing,
    /// A file is needed that is not there.
    #[error("there is no file `{0}`")]
    Missing(String),
    /// The weights' config is not there.
    #[error("`{0}` is missing, and the architecture is read from it")]
    NoConfig(String),
    /// A folder without a model.
    #[error("`{0}` has neither a config.json nor a .gguf file")]
    NoModel(String),
    /// The machine does not give a file's bytes.
    #[error("`{path}` cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the machine says.
        why: String,
    },
    /// A file is of a kind that is not read.
    #[error("`{path}`: this is {what}")]
    OtherKind {
        /// The file.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A file that lies beside a model's config and does not describe the model.
    #[error("`{0}` belongs to a model, but does not describe it")]
    Companion(String),
    /// A file is the stand-in that Git LFS left.
    #[error("`{0}`: this is a Git LFS pointer, a small text that stands for the weight file")]
    LfsPointer(String),
    /// A text is no text.
    #[error("`{0}` is not text (UTF-8)")]
    NotText(String),
    /// A text is longer than any of its kind.
    #[error("`{path}` is longer than the {} bytes that are read", grouped(*limit))]
    TooLong {
        /// The file.
        path: String,
        /// The most bytes that are read.
        limit: u64,
    },
    /// GGUF files and others at once.
    #[error("a GGUF file describes its model alone: name GGUF files only, or none")]
    Mixed,
    /// More than one config.
    #[error("`{0}` and `{1}` are two configs: name one")]
    TwoConfigs(String, String),
    /// Several GGUF files, each a model of its own.
    #[error("there is more than one GGUF model: {}", files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", "))]
    ChooseFile {
        /// The files, from small to large.
        files: Vec<FileSet>,
    },
    /// A repository in the Hub's cache at more than one commit.
    #[error("`{0}` holds more than one commit of a repository, and none of them is `main`")]
    Snapshots(String),
    /// A config does not describe a model.
    #[error("`{path}`: {error}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// An index is wrong.
    #[error("`{path}`: {error}")]
    Index {
        /// The file.
        path: String,
        /// What is wrong.
        error: IndexError,
    },
    /// The header of a safetensors file is wrong.
    #[error("`{path}`: {error}")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        error: HeaderError,
    },
    /// A GGUF file, or what its metadata say, is wrong.
    #[error("`{path}`: {error}")]
    Gguf {
        /// The file; of a split one, its first part.
        path: String,
        /// What is wrong.
        error: GgufError,
    },
    /// A folder of several parts does not describe a model.
    #[error("{0}")]
    Repository(#[from] RepositoryError),
    /// The model that an adapter was made for cannot be read.
    #[error("the model that this adapter was made for: {0}")]
    Base(Box<HubError>),
    /// The sizes add up to more than is possible.
    #[error("{0}")]
    Overflow(#[from] Overflow),
}

impl FilesError {
    /// What to do about it, as a sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Base(error) => error.advice(),
            Self::Nothing | Self::OtherKind { .. } => "Choose a config.json, .safetensors files or their index, .gguf files, or their folder.",
            Self::Companion(_) => "Choose the config.json that lies beside it, or the whole folder.",
            Self::Missing(_) | Self::NoConfig(_) => "Add the file, or choose the whole folder.",
            Self::NoModel(_) => "Choose the folder that has them: the architecture is read from there.",
            Self::Unreadable { .. } => "Check that the file is still there and may be read.",
            Self::LfsPointer(_) | Self::Header { error: HeaderError::LfsPointer, .. } | Self::Gguf { error: GgufError::LfsPointer, .. } => {
                "Fetch the file itself with `git lfs pull`."
            }
            Self::Snapshots(_) => "Name one of the folders in its `snapshots`.",
            Self::Mixed | Self::TwoConfigs(..) | Self::ChooseFile { .. } => "Choose one.",
            Self::NotText(_) | Self::TooLong { .. } | Self::Index { .. } | Self::Header { .. } | Self::Gguf { .. } => {
                "The file is damaged or of another kind: fetch it again, or choose another."
            }
            Self::Config { .. } | Self::Repository(_) | Self::Overflow(_) => "Check that this is the right model, or correct its config.json.",
        }
    }
}
