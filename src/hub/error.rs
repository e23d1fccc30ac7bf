//! What can go wrong between a name and a model, and what to do about it.

use super::transport::{Headers, TransportError};
use super::{BadEndpoint, RepoId};
use crate::checkpoint::HeaderError;
use crate::checkpoint::gguf::{FileSet, GgufError};
use crate::config::ConfigError;
use crate::format::grouped;
use crate::quantity::Overflow;
use crate::repository::RepositoryError;

/// Why a model cannot be opened. Displays as what is wrong; [`HubError::advice`] is what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The text names no model.
    #[error("`{input}` is not the name of a model: {why}")]
    BadId {
        /// The text, shortened.
        input: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A name and a tag, as `mistral:7b`.
    #[error("`{0}` is a tag of Ollama's library, which is not read")]
    OllamaTag(String),
    /// The address is one of something else.
    #[error("this is the address of {what}, not of a model")]
    NotAModel {
        /// What it is.
        what: &'static str,
    },
    /// The Hub's own address is not usable.
    #[error(transparent)]
    BadEndpoint(#[from] BadEndpoint),
    /// There is no such repository, or it is private; the Hub does not say which.
    #[error("`{repo}` does not exist, or it is private")]
    NotFoundOrPrivate {
        /// The repository.
        repo: RepoId,
        /// Whether a token was sent.
        had_token: bool,
    },
    /// Its owner asks readers to accept terms.
    #[error("`{repo}` is gated: {}", if *had_token { "this token has no access to it" } else { "only accounts that accepted its terms can read it" })]
    Gated {
        /// The repository.
        repo: RepoId,
        /// Whether a token was sent.
        had_token: bool,
    },
    /// The token is not one that the Hub knows.
    #[error("the Hub does not accept this access token")]
    BadToken,
    /// The token does not give access.
    #[error("reading `{repo}` is not allowed")]
    Forbidden {
        /// The repository.
        repo: RepoId,
    },
    /// The Hub has switched the repository off.
    #[error("the Hub has disabled access to `{repo}`")]
    Disabled {
        /// The repository.
        repo: RepoId,
    },
    /// There is no such branch, tag or commit.
    #[error("`{repo}` has no revision `{revision}`")]
    RevisionNotFound {
        /// The repository.
        repo: RepoId,
        /// The revision.
        revision: String,
    },
    /// There is no such file.
    #[error("`{repo}` has no file `{file}`")]
    FileMissing {
        /// The repository.
        repo: RepoId,
        /// The file.
        file: String,
    },
    /// There is no such folder.
    #[error("`{repo}` has no folder `{folder}`")]
    FolderMissing {
        /// The repository.
        repo: RepoId,
        /// The folder.
        folder: String,
    },
    /// Too many requests came from this address or account.
    #[error("the Hub limits how often it can be asked, and the limit is reached{}", asks_to_wait(*wait))]
    RateLimited {
        /// Seconds that it asks to wait, where it says so and a browser does not hide it.
        wait: Option<u64>,
    },
    /// There is no connection to the Hub.
    #[error("the Hub cannot be reached: {why}")]
    Offline {
        /// What the network says.
        why: String,
    },
    /// The Hub did not answer in time.
    #[error("the Hub did not answer in time")]
    TimedOut,
    /// The user cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The Hub has an error of its own.
    #[error("the Hub has a problem of its own (status {status})")]
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// An answer that a Hub does not give.
    #[error("the Hub gave an answer that is not understood (status {status})")]
    Unexpected {
        /// The HTTP status.
        status: u16,
    },
    /// What should describe the repository does not.
    #[error("what this address answers is not a Hub's list of files: {why}")]
    NoListing {
        /// What is wrong.
        why: String,
    },
    /// A repository of very many files.
    #[error("this repository's list of files is longer than the {} bytes that are read", grouped(*limit))]
    LongListing {
        /// The most bytes that are read.
        limit: u64,
    },
    /// A file is longer than any of its kind.
    #[error("`{file}` is longer than the {limit} bytes that are read")]
    TooLarge {
        /// The file.
        file: String,
        /// The most bytes that are read.
        limit: u64,
    },
    /// The host sends whole files only.
    #[error("the host of `{file}` sends whole files only, so its header cannot be read alone")]
    NoRanges {
        /// The file.
        file: String,
    },
    /// The connection broke within a body.
    #[error("`{file}` was cut off on its way")]
    CutOff {
        /// The file.
        file: String,
    },
    /// An answer is not what it must be.
    #[error("`{file}` cannot be read: {why}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// config.json does not describe a model.
    #[error("{0}")]
    Config(ConfigError),
    /// A repository of several parts does not describe a model.
    #[error("{0}")]
    Repository(#[from] RepositoryError),
    /// The header of a weight file is wrong.
    #[error("`{file}`: {error}")]
    Header {
        /// The file.
        file: String,
        /// What is wrong.
        error: HeaderError,
    },
    /// A GGUF file, or what its metadata say, is wrong.
    #[error("`{file}`: {error}")]
    Gguf {
        /// The file; of a split one, its first part.
        file: String,
        /// What is wrong.
        error: GgufError,
    },
    /// There are several GGUF files, each a model of its own.
    #[error("`{repo}` has {} GGUF files to choose from", files.len())]
    ChooseFile {
        /// The repository.
        repo: RepoId,
        /// The revision that was named.
        revision: Option<String>,
        /// The files, from small to large.
        files: Vec<FileSet>,
    },
    /// No GGUF file is of the recipe that was named.
    #[error("`{repo}` has no GGUF file of the recipe `{recipe}`")]
    RecipeMissing {
        /// The repository.
        repo: RepoId,
        /// The revision that was named.
        revision: Option<String>,
        /// The recipe.
        recipe: String,
        /// The GGUF files that there are, from small to large.
        files: Vec<FileSet>,
    },
    /// The sizes add up to more than is possible.
    #[error("{0}")]
    Overflow(#[from] Overflow),
}

/// `: it asks to wait 55 seconds`; nothing where it does not say.
fn asks_to_wait(seconds: Option<u64>) -> String {
    match seconds {
        None => String::new(),
        Some(1) => ": it asks to wait a second".to_owned(),
        Some(seconds @ 0..120) => format!(": it asks to wait {seconds} seconds"),
        Some(seconds) => format!(": it asks to wait {} minutes", grouped(seconds.div_ceil(60))),
    }
}

/// What was asked of the Hub, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The repository.
    pub repo: &'a RepoId,
    /// The revision, if one was named.
    pub revision: Option<&'a str>,
    /// The file; `None` for the description of the repository.
    pub file: Option<&'a str>,
    /// Whether a token was sent.
    pub had_token: bool,
}

impl Asked<'_> {
    /// The file as messages name it.
    pub(super) fn name(&self) -> String {
        self.file.unwrap_or("list of files").to_owned()
    }

    /// The error of an answer that is not what was asked for.
    pub(super) fn malformed(&self, why: String) -> HubError {
        match self.file {
            Some(file) => HubError::Malformed { file: file.to_owned(), why },
            None => HubError::NoListing { why },
        }
    }

    /// The error of an answer of more bytes than are read.
    pub(super) fn too_large(&self, limit: u64) -> HubError {
        match self.file {
            Some(file) => HubError::TooLarge { file: file.to_owned(), limit },
            None => HubError::LongListing { limit },
        }
    }
}

impl HubError {
    /// The error that a status other than 2xx means. The Hub's own code is looked at first, as its clients do
    /// (`hf_raise_for_status` in `huggingface_hub`): the status alone does not tell gated from missing.
    pub fn from_response(status: u16, headers: &Headers, asked: &Asked<'_>) -> Self {
        let (repo, had_token) = (asked.repo.clone(), asked.had_token);
        match (headers.error_code.as_deref(), asked.file) {
            (Some("RepoNotFound"), _) => return Self::NotFoundOrPrivate { repo, had_token },
            (Some("GatedRepo"), _) => return Self::Gated { repo, had_token },
            (Some("RevisionNotFound"), _) => return Self::RevisionNotFound { repo, revision: asked.revision.unwrap_or("main").to_owned() },
            (Some("EntryNotFound"), Some(file)) => return Self::FileMissing { repo, file: file.to_owned() },
            _ => {}
        }
        match headers.error_message.as_deref() {
            Some("Access to this resource is disabled.") => return Self::Disabled { repo },
            Some("Invalid credentials in Authorization header") => return Self::BadToken,
            _ => {}
        }
        match (status, asked.file) {
            (401, _) | (404, None) => Self::NotFoundOrPrivate { repo, had_token },
            (403, _) => Self::Forbidden { repo },
            (404, Some(file)) => Self::FileMissing { repo, file: file.to_owned() },
            (408, _) => Self::TimedOut,
            (429, _) => Self::RateLimited { wait: headers.seconds_to_wait() },
            (500..=599, _) => Self::Server { status },
            _ => Self::Unexpected { status },
        }
    }

    /// The error that a missing answer means.
    pub fn from_transport(error: TransportError, asked: &Asked<'_>) -> Self {
        match error {
            TransportError::Offline(why) => Self::Offline { why },
            TransportError::Cancelled => Self::Cancelled,
            TransportError::TooLarge { limit } => asked.too_large(limit),
            TransportError::TimedOut => Self::TimedOut,
        }
    }

    /// What to do about it, as a sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::BadId { .. } => "Type it as ORG/NAME, or paste the address of the model's page.",
            Self::OllamaTag(_) => {
                "Name the repository of its GGUF files and the recipe instead, as ORG/NAME:Q4_K_M (`ollama show` says which), or open the file that Ollama \
                 keeps in `models/blobs`."
            }
            Self::NotAModel { .. } => "Paste the address of a model's page.",
            Self::BadEndpoint(_) => BadEndpoint::ADVICE,
            Self::NotFoundOrPrivate { had_token: false, .. } => "Check the spelling. If it is private, add an access token that may read it.",
            Self::NotFoundOrPrivate { had_token: true, .. } => "Check the spelling, and that the access token may read this repository.",
            Self::Gated { had_token: false, .. } => "Accept the terms on the model's page, then add an access token of that account.",
            Self::Gated { had_token: true, .. } => {
                "Accept the terms on the model's page with the account of this token, and let the token read gated repositories."
            }
            Self::BadToken => "Copy the token again from your account's settings; it may have expired.",
            Self::Forbidden { .. } => "Use an access token that may read this repository.",
            Self::Disabled { .. } => "Choose another copy of the model, or paste its config.json.",
            Self::RevisionNotFound { .. } => "Use a branch, tag or commit that the model's page lists, or leave the revision out.",
            Self::FolderMissing { .. } => "Use a folder that the model's page lists, or leave it out.",
            Self::FileMissing { file, .. } if file.ends_with(super::gguf::SUFFIX) => "Give the repository alone: its GGUF files are then listed.",
            Self::FileMissing { .. } => "Choose the repository with the original weights, or paste the model's config.json.",
            Self::RateLimited { wait: None } => "Try again in a few minutes. With an access token the Hub allows more.",
            Self::RateLimited { wait: Some(_) } => "Try again then. With an access token the Hub allows more.",
            Self::Offline { .. } => "Check the connection and the endpoint, then try again. Built-in models and a pasted config.json need no network.",
            Self::TimedOut | Self::Cancelled | Self::CutOff { .. } => "Try again.",
            Self::Server { .. } => "Try again in a few minutes.",
            Self::NoListing { .. } => "Check the endpoint: it must be the address of a Hub, written as https://huggingface.co is, without the path of a model.",
            Self::LongListing { .. } => "Fetch the files of the model that you mean and open their folder, or paste its config.json.",
            Self::Unexpected { .. } | Self::NoRanges { .. } => "Check the endpoint, or paste the model's config.json.",
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::Header { .. } | Self::Gguf { .. } => {
                "The file is damaged or of another kind: choose another revision or repository, or paste the model's config.json."
            }
            Self::RecipeMissing { files, .. } if files.is_empty() => "It has no GGUF files at all: leave the recipe out, or choose a repository that has them.",
            Self::RecipeMissing { .. } => "Choose one of those that it has.",
            Self::ChooseFile { .. } => "Choose one of them.",
            Self::Config(_) | Self::Repository(_) | Self::Overflow(_) => "Check that this is the right model, or paste a corrected config.json.",
        }
    }

    /// The GGUF files to choose from, with their repository and the revision that was named.
    pub fn files_to_choose(&self) -> Option<(&RepoId, Option<&String>, &[FileSet])> {
        match self {
            Self::ChooseFile { repo, revision, files } | Self::RecipeMissing { repo, revision, files, .. } => Some((repo, revision.as_ref(), files)),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Offline { .. } | Self::TimedOut | Self::Cancelled | Self::Server { .. } | Self::CutOff { .. })
    }

    /// Whether an access token, or another one, may help.
    pub const fn wants_token(&self) -> bool {
        matches!(self, Self::NotFoundOrPrivate { .. } | Self::Gated { .. } | Self::BadToken | Self::Forbidden { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: Option<&str>, message: Option<&str>, file: Option<&str>) -> HubError {
        let repo = RepoId::parse("org/name").unwrap();
        let headers = Headers { error_code: code.map(str::to_owned), error_message: message.map(str::to_owned), ..Headers::default() };
        HubError::from_response(status, &headers, &Asked { repo: &repo, revision: Some("v9"), file, had_token: false })
    }

    #[test]
    fn the_code_wins_over_the_message_and_the_status() {
        let repo = || RepoId::parse("org/name").unwrap();
        let file = Some("config.json");
        for (got, expected) in [
            (error(401, Some("GatedRepo"), None, file), HubError::Gated { repo: repo(), had_token: false }),
            (error(403, Some("GatedRepo"), Some("Access to this resource is disabled."), file), HubError::Gated { repo: repo(), had_token: false }),
            (error(401, Some("RepoNotFound"), None, None), HubError::NotFoundOrPrivate { repo: repo(), had_token: false }),
            (error(404, Some("RevisionNotFound"), None, None), HubError::RevisionNotFound { repo: repo(), revision: "v9".into() }),
            (error(404, Some("EntryNotFound"), None, file), HubError::FileMissing { repo: repo(), file: "config.json".into() }),
            (error(403, None, Some("Access to this resource is disabled."), None), HubError::Disabled { repo: repo() }),
            (error(401, None, Some("Invalid credentials in Authorization header"), None), HubError::BadToken),
            (error(401, None, None, file), HubError::NotFoundOrPrivate { repo: repo(), had_token: false }),
            (error(403, None, None, file), HubError::Forbidden { repo: repo() }),
            (error(404, None, None, None), HubError::NotFoundOrPrivate { repo: repo(), had_token: false }),
            (error(404, None, None, file), HubError::FileMissing { repo: repo(), file: "config.json".into() }),
            (error(429, None, None, file), HubError::RateLimited { wait: None }),
            (error(503, None, None, file), HubError::Server { status: 503 }),
            (error(418, None, None, file), HubError::Unexpected { status: 418 }),
        ] {
            assert_eq!(got, expected);
            assert!(!got.advice().is_empty());
        }
    }

    #[test]
    fn how_long_the_hub_asks_to_wait_is_said() {
        let repo = RepoId::parse("org/name").unwrap();
        let headers = Headers { rate_limit: Some("\"api\";r=0;t=55".to_owned()), ..Headers::default() };
        let limited = HubError::from_response(429, &headers, &Asked { repo: &repo, revision: None, file: None, had_token: false });
        assert_eq!(limited, HubError::RateLimited { wait: Some(55) });
        assert!(limited.to_string().ends_with("asks to wait 55 seconds") && limited.advice().starts_with("Try again then"));
        assert!(HubError::RateLimited { wait: Some(301) }.to_string().ends_with("asks to wait 6 minutes"));
        assert!(HubError::RateLimited { wait: None }.to_string().ends_with("the limit is reached"));
    }

    #[test]
    fn some_errors_pass_and_some_want_a_token() {
        assert!(error(429, None, None, None).may_retry() && error(500, None, None, None).may_retry());
        assert!(!error(404, None, None, None).may_retry() && error(404, None, None, None).wants_token());
        assert!(error(401, Some("GatedRepo"), None, None).wants_token() && !error(429, None, None, None).wants_token());
    }
}
