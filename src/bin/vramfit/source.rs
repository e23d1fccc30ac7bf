//! What MODEL names: a path, or a model on the Hub.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use vramfit::catalogue;
use vramfit::config::{self, manual};
use vramfit::files::{Bases, FilesError, NoBases};
use vramfit::format::Unit;
use vramfit::hub::{self, Endpoint, HubError, ModelRef, Progress};
use vramfit::model::{Anatomy, Model, Origin, Provenance};
use vramfit::repository::RepositoryError;

use crate::args::{DEFAULT_TOKEN, ModelArguments};
use crate::files;
use crate::transport::Http;

/// Opens what the arguments name: files that are there, else a model on the Hub.
pub fn open(arguments: &ModelArguments) -> Result<Model, String> {
    // What is no address is told whatever is read.
    let _ = chosen_endpoint(arguments).map_err(|error| said(&error))?;
    if arguments.revision.as_ref().is_some_and(|revision| revision.trim().is_empty()) {
        return Err("`--revision` is empty: name a branch, a tag or a commit, or leave it out".to_owned());
    }
    let named = &arguments.model;
    let sizes = named.first().filter(|name| named.len() == 1 && !is_path(name) && manual::is_manual(name) && manual::has_sizes(name));
    if let Some(sizes) = arguments.manual.as_ref().or(sizes) {
        refuse(arguments, &["--revision", "--endpoint", "--quant-config"], "a model by hand")?;
        let anatomy = manual::read(sizes).map_err(|error| error.to_string())?.anatomy;
        return Ok(nameless(anatomy, Origin::Manual));
    }
    if named.as_slice() == [STDIN] {
        refuse(arguments, &["--revision", "--endpoint"], "a config.json that is written to `-`")?;
        return from_stdin(arguments);
    }
    if let ([name], false) = (named.as_slice(), named.iter().any(|name| is_path(name))) {
        if arguments.quant_config.is_some() {
            return Err("`--quant-config` goes with files: a repository's own hf_quant_config.json is read by itself".to_owned());
        }
        return from_hub(arguments, name);
    }
    refuse(arguments, &["--revision"], "files")?;
    if let Some(missing) = named.iter().find(|name| !Path::new(name).exists()) {
        return Err(format!("there is no file or folder `{missing}`. Check the path; a model on the Hub is named as ORG/NAME"));
    }
    if let Some(device) = named.iter().find(|name| !Path::new(name).is_file() && !Path::new(name).is_dir()) {
        return Err(format!("`{device}` is neither a file nor a folder: give the path of one, or write a config.json to `-`"));
    }
    files::open(named, arguments.quant_config.as_deref(), &AnyBase { arguments, named: Path::new(named.first().map_or("", String::as_str)) })
}

/// The Hub that a flag names.
fn chosen_endpoint(arguments: &ModelArguments) -> Result<Option<Endpoint>, HubError> {
    Ok(arguments.endpoint.as_deref().map(Endpoint::parse).transpose()?)
}

/// Refuses flags that would have no part in what is read.
fn refuse(arguments: &ModelArguments, flags: &[&str], what: &str) -> Result<(), String> {
    let given =
        [("--revision", arguments.revision.is_some()), ("--endpoint", arguments.endpoint.is_some()), ("--quant-config", arguments.quant_config.is_some())];
    match given.iter().find(|(flag, is_given)| *is_given && flags.contains(flag)) {
        Some((flag, _)) => Err(format!("`{flag}` has no part in {what}: leave it out")),
        None => Ok(()),
    }
}

/// What stands for a config.json that is written to the program.
const STDIN: &str = "-";
/// The longest config.json that is read, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

fn from_stdin(arguments: &ModelArguments) -> Result<Model, String> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(|error| format!("what is written to `-` cannot be read: {error}"))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err("what is written to `-` is longer than any config.json".to_owned());
    }
    let beside = arguments.quant_config.as_ref().map(std::fs::read_to_string).transpose().map_err(|error| format!("`--quant-config`: {error}"))?;
    let anatomy = config::read_with(&text, beside.as_deref()).map_err(|error| format!("what is written to `-` is read as a config.json: {error}"))?;
    Ok(nameless(anatomy, Origin::Config))
}

fn nameless(anatomy: Anatomy, source: Origin) -> Model {
    Model { anatomy, provenance: Provenance { id: None, revision: None, source, files: None, notes: Vec::new() } }
}

/// An adapter's base is a folder, seen from the adapter's or from here, or a model on the Hub.
struct AnyBase<'a> {
    arguments: &'a ModelArguments,
    /// The adapter's folder, or a file in it.
    named: &'a Path,
}

impl Bases for AnyBase<'_> {
    async fn open(&self, name: &str, revision: Option<&str>) -> Result<Model, FilesError> {
        let folder = if self.named.is_dir() { self.named } else { self.named.parent().unwrap_or(self.named) };
        let places = [folder.join(name), PathBuf::from(name)];
        if let Some(base) = places.iter().filter(|_| !name.is_empty()).find(|place| place.is_dir()).and_then(|place| place.to_str()) {
            return files::open_folder(base, None, &NoBases);
        }
        let no_model = |_| RepositoryError::Adapter(format!("its base is `{}`, which is neither a folder here nor a model on the Hub", name.escape_debug()));
        let mut reference: ModelRef = name.parse().map_err(no_model)?;
        reference.revision = reference.revision.or_else(|| revision.map(str::to_owned));
        fetch(self.arguments, reference).map_err(base)
    }
}

fn base(error: HubError) -> FilesError {
    FilesError::Base(Box::new(error))
}

/// Whether the text is meant as a path: because it is one, or because it looks like one.
fn is_path(text: &str) -> bool {
    let has_ending = [".json", ".safetensors", ".gguf"].iter().any(|end| text.ends_with(end)) && !text.contains("://");
    Path::new(text).exists() || has_ending || [".", "/", "~"].iter().any(|start| text.starts_with(start))
}

fn from_hub(arguments: &ModelArguments, name: &str) -> Result<Model, String> {
    let variable = &arguments.token_env;
    if variable != DEFAULT_TOKEN && token(variable).is_none() {
        return Err(format!("`--token-env`: there is no environment variable `{variable}` with a token in it: set it, or leave the flag out"));
    }
    let mut reference: ModelRef = name.parse().map_err(|error| said(&error))?;
    match (&arguments.revision, &reference.revision) {
        (Some(flag), Some(named)) if flag != named => {
            return Err(format!("`{name}` names the revision `{named}` and `--revision` names `{flag}`: leave one out"));
        }
        (Some(flag), _) => reference.revision = Some(flag.clone()),
        _ => {}
    }
    fetch(arguments, reference).map_err(|error| said(&error))
}

/// The access token in an environment variable.
fn token(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|token| !token.trim().is_empty())
}

fn fetch(arguments: &ModelArguments, mut reference: ModelRef) -> Result<Model, HubError> {
    // A pasted address of another host is read from there, but gets no token: that goes to the chosen endpoint only.
    let endpoint = match chosen_endpoint(arguments)? {
        Some(chosen) => {
            reference.endpoint = None;
            chosen
        }
        None => Endpoint::default(),
    };
    let token = token(&arguments.token_env);
    let bar = progress_bar();
    let report = |progress: Progress| {
        if bar.length() == Some(0) {
            // Drawn by the clock: a draw that comes too soon after another one is left out, and it may be the last for long.
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
        }
        bar.set_length(progress.files);
        bar.set_position(progress.files_done);
        bar.set_message(match progress.pause {
            0 => format!("{} KB", progress.bytes.div_ceil(1000)),
            pause => format!("the Hub asks to wait {} s", pause.div_ceil(1000)),
        });
    };
    let model = pollster::block_on(hub::open(&Http::new(), &endpoint, &reference, token.as_deref(), &report));
    bar.finish_and_clear();
    match model {
        Err(HubError::Offline { .. } | HubError::TimedOut) if arguments.endpoint.is_none() => built_in(&reference).map_or(model, Ok),
        model => model,
    }
}

/// The built-in model of a plain id, which stands in where the Hub cannot be reached.
fn built_in(reference: &ModelRef) -> Option<Model> {
    let id = Some(&reference.id).filter(|_| reference.is_plain())?;
    let date = catalogue::find(id.as_str())?.date;
    let mut model = catalogue::open(id.as_str())?.ok()?;
    model.provenance.notes.push(format!("the Hub cannot be reached, so these are the built-in figures of {date}, not those of the files"));
    Some(model)
}

/// The most built-in models that are named in the place of one that is not there, and how near they must be.
const MOST_NEAR: usize = 3;
const NEAR: f64 = 0.8;

/// Built-in models with nearly the same id, or name where no more was given.
fn near(id: &str) -> Vec<&'static str> {
    let wanted = id.to_ascii_lowercase();
    let alike = |known: &str| {
        let known = known.to_ascii_lowercase();
        let name = known.rsplit_once('/').map_or(known.as_str(), |(_, name)| name);
        strsim::normalized_damerau_levenshtein(&wanted, if wanted.contains('/') { &known } else { name })
    };
    let mut found: Vec<(f64, &str)> = catalogue::ids().map(|known| (alike(known), known)).filter(|(alike, _)| *alike >= NEAR).collect();
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    found.into_iter().take(MOST_NEAR).map(|(_, known)| known).collect()
}

/// What is wrong and what to do; with the files where one is to be chosen.
fn said(error: &HubError) -> String {
    let mut lines = vec![format!("{error}. {}", error.advice())];
    if let HubError::NotFoundOrPrivate { repo, .. } = error {
        let near = near(repo.as_str());
        lines.extend((!near.is_empty()).then(|| format!("Built-in models of nearly that name: {}", near.join(", "))));
    }
    if let Some((repo, revision, files)) = error.files_to_choose() {
        lines.extend(files.iter().map(|file| {
            let size = file.bytes.map_or_else(String::new, |bytes| Unit::Gib.text(bytes));
            format!("  {:12} {size:>10}  {}", file.recipe, repo.address_of(revision.map(String::as_str), &file.path))
        }));
    }
    lines.join("\n")
}

/// A bar on a terminal, nothing in a pipe.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("reading headers {bar:30} {pos}/{len} files {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
