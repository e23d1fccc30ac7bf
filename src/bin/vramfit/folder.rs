//! Folders that hold more than one model: diffusion pipelines.

use std::path::Path;

use vramfit::checkpoint::{Header, files_of_part, inventory_of_parts};
use vramfit::config::diffusers;
use vramfit::model::{Model, Origin, Provenance};

use crate::source::{header, text_of};

/// A pipeline of diffusers: `model_index.json`, and a folder for each of its parts.
pub fn pipeline(folder: &Path) -> Result<Model, String> {
    let index_path = folder.join("model_index.json");
    let index = text_of(&index_path)?;
    let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", index_path.display());
    let parts = diffusers::parts(&index).map_err(|error| said(&error))?;
    let config = |part: &str| text_of(&folder.join(part).join("config.json")).ok();
    let anatomy = diffusers::read(&index, &config).map_err(|error| said(&error))?;
    let mut notes = Vec::new();
    let mut headers: Vec<(&str, Header)> = Vec::new();
    let mut without = Vec::new();
    for part in &parts {
        let here = folder.join(&part.name);
        let mut names: Vec<String> = std::fs::read_dir(&here)
            .map_err(|error| format!("`{}` cannot be read: {error}", here.display()))?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        let files = files_of_part(&names);
        if files.is_empty() {
            without.push(part.name.as_str());
        }
        for file in files {
            headers.push((&part.name, header(&here.join(file))?));
        }
    }
    // Weights are either all from files or all from configs: half of each would hide a missing part.
    let files = if without.is_empty() {
        Some(inventory_of_parts(headers.iter().map(|(part, header)| (*part, header))).map_err(|error| error.to_string())?)
    } else {
        if !headers.is_empty() {
            notes.push(format!("no weight files for {}: every part is estimated from its config", without.join(", ")));
        }
        None
    };
    let source = if files.is_some() { Origin::Headers } else { Origin::Config };
    Ok(Model { anatomy, provenance: Provenance { id: Some(folder.display().to_string()), revision: None, source, files, notes } })
}
