//! What MODEL names: a path, or a model on the Hub.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use vramfit::config::manual;
use vramfit::format::Unit;
use vramfit::hub::{self, Endpoint, HubError, ModelRef, Progress};
use vramfit::model::{Model, Origin, Provenance};

use crate::args::ModelArguments;
use crate::transport::Http;
use crate::{files, folder};

/// Opens what the arguments name: files that are there, else a model on the Hub.
pub fn open(arguments: &ModelArguments) -> Result<Model, String> {
    if let Some(sizes) = &arguments.manual {
        let anatomy = manual::read(sizes).map_err(|error| error.to_string())?.anatomy;
        return Ok(Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Manual, files: None, notes: Vec::new() } });
    }
    let named = &arguments.model;
    if let ([name], false) = (named.as_slice(), named.iter().any(|name| is_path(name))) {
        return from_hub(arguments, name);
    }
    match named.iter().find(|name| !Path::new(name).exists()) {
        Some(missing) => Err(format!("there is no file or folder `{missing}`")),
        None => {
            let parts = if let [name] = named.as_slice() { folder_of_parts(Path::new(name), arguments) } else { None };
            parts.unwrap_or_else(|| files::open(named, arguments.quant_config.as_deref()))
        }
    }
}

/// The folder, or the folder of the file that names its parts, when it holds more than one config with its weights.
fn folder_of_parts(path: &Path, arguments: &ModelArguments) -> Option<Result<Model, String>> {
    const NAMING: &[&str] = &["model_index.json", "adapter_config.json", "modules.json"];
    let names_parts = path.is_file() && path.file_name().is_some_and(|name| NAMING.iter().any(|naming| name == *naming));
    let folder = if names_parts { path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")) } else { path };
    if !folder.is_dir() {
        return None;
    }
    // An adapter's base is a folder, seen from the adapter or from here, or a model on the Hub.
    folder::open(folder, &|name, revision| match [folder.join(name), PathBuf::from(name)].into_iter().find(|base| base.is_dir()) {
        Some(base) if folder::is_adapter(&base) => Err(format!("the adapter's base `{}` is an adapter too", base.display())),
        Some(base) => files::open(&[base.to_string_lossy().into_owned()], None),
        None => from_hub(&ModelArguments { revision: revision.map(str::to_owned), ..arguments.clone() }, name),
    })
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
    // A pasted address of another host is read from there, but gets no token: that goes to the chosen endpoint only.
    let endpoint = match &arguments.endpoint {
        Some(address) => {
            reference.endpoint = None;
            Endpoint::parse(address).map_err(|error| said(&error.into()))?
        }
        None => Endpoint::default(),
    };
    let token = std::env::var(&arguments.token_env).ok().filter(|token| !token.trim().is_empty());
    let bar = progress_bar();
    let report = |progress: Progress| {
        bar.set_length(progress.files);
        bar.set_position(progress.files_done);
    };
    let model = pollster::block_on(hub::open(&Http::new(), &endpoint, &reference, token.as_deref(), &report)).map_err(|error| said(&error));
    bar.finish_and_clear();
    model
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
    let style = ProgressStyle::with_template("reading headers {bar:30} {pos}/{len} files");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
