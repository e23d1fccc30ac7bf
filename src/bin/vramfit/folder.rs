//! Folders that hold more than one config with its weights: pipelines, adapters, sentence-transformers.

use std::path::{Path, PathBuf};

use vramfit::model::Model;
use vramfit::repository::{self, Kind, RepositoryError, Shelf, Take};

use crate::files::{header, text};

/// How deep parts lie below the folder, and how many files are looked at.
const DEEPEST: usize = 2;
const MOST_FILES: usize = 100_000;

/// Opens a model by its name and revision.
type OpenBase<'a> = dyn Fn(&str, Option<&str>) -> Result<Model, String> + 'a;

/// Opens a folder of this kind; `None` for a folder with one model. `base` opens the model that an adapter names.
pub fn open(folder: &Path, base: &OpenBase<'_>) -> Option<Result<Model, String>> {
    let mut names = Vec::new();
    if let Err(error) = list(folder, "", DEEPEST, &mut names) {
        return Some(Err(format!("`{}` cannot be read: {error}", folder.display())));
    }
    names.sort();
    let kind = repository::kind(&names, "")?;
    let shelf = Folder { path: folder.to_owned(), names, base };
    let content = pollster::block_on(repository::read(&shelf, kind, ""));
    Some(content.map(|content| content.into_model(Some(folder.display().to_string()), None)).map_err(|error| error.0))
}

/// Whether a folder holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    let mut names = Vec::new();
    list(folder, "", 1, &mut names).is_ok() && repository::kind(&names, "") == Some(Kind::Adapter)
}

fn list(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)?.take(MOST_FILES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        let path = entry.path();
        // Caches of the Hub have links to files.
        if path.is_dir() {
            if depth > 1 {
                list(&path, &format!("{name}/"), depth - 1, names)?;
            }
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// A folder as a shelf.
struct Folder<'a> {
    path: PathBuf,
    names: Vec<String>,
    base: &'a OpenBase<'a>,
}

/// What went wrong, as a sentence.
struct Said(String);

impl From<RepositoryError> for Said {
    fn from(error: RepositoryError) -> Self {
        Self(error.to_string())
    }
}

impl Shelf for Folder<'_> {
    type Error = Said;

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn text(&self, file: &str) -> Result<String, Said> {
        text(&self.path.join(file)).map_err(Said)
    }

    async fn headers(&self, files: &[String], take: &mut Take<'_>) -> Result<(), Said> {
        for (place, file) in files.iter().enumerate() {
            take(place, &header(&self.path.join(file)).map_err(Said)?)?;
        }
        Ok(())
    }

    async fn base(&self, name: &str, revision: Option<&str>) -> Result<Model, Said> {
        (self.base)(name, revision).map_err(Said)
    }
}
