//! What MODEL names: a path, or a model on the Hub.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use vramfit::catalogue;
use vramfit::config::manual;
use vramfit::files::{Bases, FilesError, NoBases};
use vramfit::format::Unit;
use vramfit::hub::{self, Endpoint, HubError, ModelRef, Progress};
use vramfit::model::{Model, Origin, Provenance};
use vramfit::repository::RepositoryError;

use crate::args::ModelArguments;
use crate::files;
use crate::transport::Http;

/// Opens what the arguments name: files that are there, else a model on the Hub.
pub fn open(arguments: &ModelArguments) -> Result<Model, String> {
    if let Some(sizes) = &arguments.manual {
        let anatomy = manual::read(sizes).map_err(|error| error.to_string())?.anatomy;
        return Ok(Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Manual, files: None, notes: Vec::new() } });
    }
    let named = &arguments.model;
    if let ([name], false) = (named.as_slice(), named.iter().any(|name| is_path(name))) {
        if arguments.quant_config.is_some() {
            return Err("`--quant-config` goes with files: a repository's own hf_quant_config.json is read by itself".to_owned());
        }
        return from_hub(arguments, name);
    }
    match named.iter().find(|name| !Path::new(name).exists()) {
        Some(missing) => Err(format!("there is no file or folder `{missing}`")),
        None => files::open(named, arguments.quant_config.as_deref(), &AnyBase { arguments, named: Path::new(named.first().map_or("", String::as_str)) }),
    }
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
    let mut reference: ModelRef = name.parse().map_err(|error| said(&error))?;
    if let Some(revision) = &arguments.revision {
        reference.revision = Some(revision.clone());
    }
    fetch(arguments, reference).map_err(|error| said(&error))
}

fn fetch(arguments: &ModelArguments, mut reference: ModelRef) -> Result<Model, HubError> {
    // A pasted address of another host is read from there, but gets no token: that goes to the chosen endpoint only.
    let endpoint = match &arguments.endpoint {
        Some(address) => {
            reference.endpoint = None;
            Endpoint::parse(address)?
        }
        None => Endpoint::default(),
    };
    let token = std::env::var(&arguments.token_env).ok().filter(|token| !token.trim().is_empty());
    let bar = progress_bar();
    let report = |progress: Progress| {
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
    let ModelRef { id, revision: None, folder: None, file: None, endpoint: None } = reference else { return None };
    let date = catalogue::find(id.as_str())?.date;
    let mut model = catalogue::open(id.as_str())?.ok()?;
    model.provenance.notes.push(format!("the Hub cannot be reached, so these are the built-in figures of {date}, not those of the files"));
    Some(model)
}

/// What is wrong and what to do; with the files where one is to be chosen.
fn said(error: &HubError) -> String {
    let mut lines = vec![format!("{error}. {}", error.advice())];
    if let HubError::ChooseFile { repo, revision, files } = error {
        lines.extend(files.iter().map(|file| {
            let size = file.bytes.map_or_else(String::new, |bytes| Unit::Gib.text(bytes));
            format!("  {:12} {size:>10}  {}", file.recipe, repo.address_of(revision.as_deref(), &file.path))
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
