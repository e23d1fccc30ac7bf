//! What MODEL names: a path, or a model on the Hub.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use vramfit::hub::{self, Endpoint, ModelRef, Progress};
use vramfit::model::Model;

use crate::args::ModelArguments;
use crate::files;
use crate::transport::Http;

/// Opens what the arguments name.
pub fn open(arguments: &ModelArguments) -> Result<Model, String> {
    let path = Path::new(&arguments.model);
    if path.exists() {
        return files::open(path);
    }
    let looks_like_path = [".json", ".safetensors", ".gguf"].iter().any(|end| arguments.model.ends_with(end)) && !arguments.model.contains("://")
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
