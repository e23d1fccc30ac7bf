//! A folder as a [`Shelf`].

use super::{Disk, FilesError, Opening};
use crate::config::json;
use crate::model::Model;
use crate::repository::{self, Kind, RepositoryError, Shelf, Take};

/// Opens the models that adapters were made for, where they do not lie in the adapter's own folder.
pub trait Bases {
    /// The model of this name, which may be a path or an id.
    fn open(&self, name: &str, revision: Option<&str>) -> impl Future<Output = Result<Model, FilesError>>;
}

/// No models: for a folder that is the base of an adapter itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBases;

impl Bases for NoBases {
    async fn open(&self, name: &str, _: Option<&str>) -> Result<Model, FilesError> {
        Err(RepositoryError::Adapter(format!("its base is an adapter too, on `{}`", crate::checkpoint::quotable(name))).into())
    }
}

/// What is open of a folder.
pub(super) struct OnDisk<'a, D, B> {
    opening: &'a Opening<'a, D>,
    bases: &'a B,
    /// The folder.
    path: &'a str,
    /// Its files, as seen from it.
    names: Vec<String>,
}

impl<'a, D: Disk, B: Bases> OnDisk<'a, D, B> {
    pub fn new(opening: &'a Opening<'a, D>, bases: &'a B, path: &'a str, files: &[String]) -> Self {
        let inside = |file: &String| if path.is_empty() { Some(file.clone()) } else { Some(file.strip_prefix(path)?.strip_prefix('/')?.to_owned()) };
        Self { opening, bases, path, names: files.iter().filter_map(inside).collect() }
    }

    fn path_of(&self, file: &str) -> String {
        repository::within(self.path, file)
    }
}

impl<D: Disk, B: Bases> Shelf for OnDisk<'_, D, B> {
    type Error = FilesError;

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn text(&self, file: &str) -> Result<String, FilesError> {
        self.opening.text(&self.path_of(file), json::MAX_BYTES as u64).await
    }

    async fn headers(&self, files: &[String], take: &mut Take<'_>) -> Result<(), FilesError> {
        for (place, file) in files.iter().enumerate() {
            self.opening.report(place, files.len());
            take(place, &self.opening.header(&self.path_of(file)).await?)?;
        }
        Ok(())
    }

    async fn base(&self, name: &str, revision: Option<&str>) -> Result<Model, FilesError> {
        let name_here = name.trim_start_matches("./").trim_end_matches('/');
        let folder = self.path_of(name_here);
        let files: Vec<String> =
            self.names.iter().filter(|file| file.strip_prefix(name_here).is_some_and(|rest| rest.starts_with('/'))).map(|file| self.path_of(file)).collect();
        if name_here.is_empty() || files.is_empty() {
            return self.bases.open(name, revision).await;
        }
        let names = OnDisk::new(self.opening, &NoBases, &folder, &files).names;
        if repository::kind(&names, "") == Some(Kind::Adapter) {
            return NoBases.open(name, None).await;
        }
        Ok(self.opening.folder(&folder, &files).await?.model)
    }
}
