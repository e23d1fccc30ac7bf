//! What MODEL names: a path, or a model on the Hub.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use vramfit::checkpoint::{Header, Parsed, match_inventory, parse_header};
use vramfit::config;
use vramfit::hub::{self, Endpoint, ModelRef, Progress};
use vramfit::model::{Model, Origin, Provenance};

use crate::args::ModelArguments;
use crate::transport::Http;

/// Bytes of a weight file that are read first; most headers are shorter.
const FIRST_READ: u64 = 100_000;

/// Opens what the arguments name.
pub fn open(arguments: &ModelArguments) -> Result<Model, String> {
    let path = Path::new(&arguments.model);
    if path.exists() {
        return from_path(path);
    }
    let looks_like_path = [".json", ".safetensors"].iter().any(|end| arguments.model.ends_with(end)) && !arguments.model.contains("://")
        || [".", "/", "~"].iter().any(|start| arguments.model.starts_with(start));
    if looks_like_path {
        return Err(format!("there is no file or folder `{}`", arguments.model));
    }
    from_hub(arguments)
}

fn from_hub(arguments: &ModelArguments) -> Result<Model, String> {
    let said = |error: &hub::HubError| format!("{error}. {}", error.advice());
    let mut reference: ModelRef = arguments.model.parse().map_err(|error| said(&error))?;
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

/// A bar on a terminal, nothing in a pipe.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("reading headers {bar:30} {pos}/{len} files");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A folder with config.json and weights, a weight file beside its config.json, or a config by whatever name.
fn from_path(path: &Path) -> Result<Model, String> {
    let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
    let mut notes = Vec::new();
    let (config, weights) = if path.is_dir() {
        (path.join("config.json"), weight_files(path, &mut notes)?)
    } else if is_weights {
        (path.with_file_name("config.json"), vec![path.to_owned()])
    } else {
        (path.to_owned(), Vec::new())
    };
    let text = std::fs::read(&config).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("there is no config.json beside the weights: `{}` is missing, and the architecture is read from it", config.display())
        }
        _ => format!("`{}` cannot be read: {error}", config.display()),
    })?;
    let text = String::from_utf8(text)
        .map_err(|_| format!("`{}` is not a text file; give the path of a config.json, a .safetensors file or their folder", config.display()))?;
    let anatomy = config::read(&text).map_err(|error| format!("`{}`: {error}", config.display()))?;
    let headers = weights.iter().map(|file| header(file)).collect::<Result<Vec<_>, String>>()?;
    let files = if headers.is_empty() {
        None
    } else {
        let matched = match_inventory(&anatomy, headers.iter()).map_err(|error| error.to_string())?;
        notes.extend(matched.notes);
        Some(matched.files)
    };
    let source = if files.is_some() { Origin::Headers } else { Origin::Config };
    Ok(Model { anatomy, provenance: Provenance { id: Some(path.display().to_string()), revision: None, source, files, notes } })
}

fn weight_files(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("`{}` cannot be read: {error}", folder.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let choice = hub::choose(&names, "", None);
    notes.extend(choice.notes);
    Ok(choice.files.into_iter().map(|name| folder.join(name)).collect())
}

/// The header of a weight file; nothing past it is read.
fn header(path: &Path) -> Result<Header, String> {
    let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let file = File::open(path).map_err(|error| said(&error))?;
    let size = file.metadata().map_err(|error| said(&error))?.len();
    let mut prefix = Vec::new();
    let mut wanted = FIRST_READ;
    loop {
        (&file).take(wanted - prefix.len() as u64).read_to_end(&mut prefix).map_err(|error| said(&error))?;
        match parse_header(&prefix, Some(size)).map_err(|error| said(&error))? {
            Parsed::Header(header) => return Ok(header),
            Parsed::NeedMore { bytes } if bytes > prefix.len() as u64 && bytes <= size => wanted = bytes,
            Parsed::NeedMore { .. } => return Err(said(&"the file ends before its header does: it is cut off")),
        }
    }
}
