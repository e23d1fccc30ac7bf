//! GGUF files of a repository: which there are, and the model that one of them is.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::stream::{self, StreamExt};

use super::weights::parent;
use super::{HubError, IN_FLIGHT, Listing, ModelRef, RawListing, RepoId, Session, Transport};
use crate::checkpoint::gguf::{self, Contents, FileSet, GgufError, is_beside, is_encoder};
use crate::model::{Model, Origin, Provenance};
use crate::quantity::Bytes;

/// How names of GGUF files end.
pub(super) const SUFFIX: &str = ".gguf";

/// Whether a GGUF file was named: itself, or its recipe.
pub(super) fn is_named(reference: &ModelRef) -> bool {
    reference.recipe.is_some() || reference.file.as_ref().is_some_and(|file| file.ends_with(SUFFIX))
}

/// Whether what was named is a GGUF file, or a repository (or a folder of one) whose weights are in such files only.
pub(super) fn is_meant(listing: &Listing, reference: &ModelRef) -> bool {
    if is_named(reference) {
        return true;
    }
    let has_ending = |end: &str| reference.file.as_ref().is_some_and(|file| file.ends_with(end));
    if has_ending(".json") || has_ending(".safetensors") {
        return false;
    }
    let folder = reference.folder.as_deref().unwrap_or_default();
    let is_other = |name: &String| {
        let base = name.rsplit('/').next().unwrap_or(name);
        parent(name) == folder && (base.ends_with(".safetensors") || base.starts_with("pytorch_model"))
    };
    listing.names.iter().any(|name| name.ends_with(SUFFIX) && is_within(name, folder)) && !listing.names.iter().any(is_other)
}

/// Whether a path is in a folder or in one of its folders.
pub(super) fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// What is known of the files: their sets, and sizes by path where the Hub says them.
struct Files {
    sets: Vec<FileSet>,
    sizes: BTreeMap<String, Bytes>,
}

/// Opens the GGUF file that was named, or the only one there is.
///
/// # Errors
/// [`HubError::ChooseFile`] when there are several, [`HubError::RecipeMissing`] when none is of the recipe.
pub(super) async fn open<T: Transport>(hub: &Session<'_, T>, listing: Listing, reference: &ModelRef) -> Result<Model, HubError> {
    let files = hub.gguf_files(&listing).await?;
    let set = choose(&files.sets, &listing.repo, reference)?;
    let encoders: Vec<&FileSet> = files.sets.iter().filter(|other| is_encoder(&other.path) && is_for(&other.path, &set.path)).collect();
    let mut notes = Vec::new();
    let encoder = match encoders.as_slice() {
        _ if is_beside(&set.path) => None,
        [encoder] => {
            notes.push(format!("with the encoders of {}", encoder.path));
            Some(*encoder)
        }
        [] => None,
        several => {
            let names: Vec<&str> = several.iter().map(|other| other.path.as_str()).collect();
            notes.push(format!("encoders of images or sound are not counted, since there are several: {}", names.join(", ")));
            None
        }
    };

    let all = u64::from(set.parts) + encoder.map_or(0, |encoder| u64::from(encoder.parts));
    hub.tell(|state| (state.files_done, state.files) = (0, all));
    let mut contents = hub.contents(&listing, &files, set).await?;
    if let Some(encoder) = encoder {
        contents.add(hub.contents(&listing, &files, encoder).await?)?;
    }
    let Contents { anatomy, files, notes: found } = contents;
    notes.extend(found);
    let id = Some(listing.repo.address_of(None, &set.path));
    Ok(Model { anatomy, provenance: Provenance { id, revision: listing.commit, source: Origin::Gguf, files: Some(files), notes } })
}

/// Whether encoders stand where they belong to a model: in its folder, or at the top.
fn is_for(encoder: &str, model: &str) -> bool {
    matches!(parent(encoder), "") || parent(encoder) == parent(model)
}

/// The set of the file or recipe that was named, else the only one that is a model.
fn choose<'a>(sets: &'a [FileSet], repo: &RepoId, reference: &ModelRef) -> Result<&'a FileSet, HubError> {
    if let Some(file) = reference.file.as_ref().filter(|file| file.ends_with(SUFFIX)) {
        let set = sets.iter().find(|set| set.files().contains(file));
        return set.ok_or_else(|| HubError::FileMissing { repo: repo.clone(), file: file.clone() });
    }
    let folder = reference.folder.as_deref().unwrap_or_default();
    let here = || sets.iter().filter(|set| is_within(&set.path, folder));
    let mut models: Vec<&FileSet> = here().filter(|set| !is_beside(&set.path)).collect();
    if models.is_empty() {
        models = here().collect();
    }
    models.sort_by_key(|set| (set.bytes, set.path.as_str()));
    let all = |sets: &[&FileSet]| sets.iter().map(|set| (*set).clone()).collect();
    let (repo, revision) = (repo.clone(), reference.revision.clone());
    if let Some(recipe) = &reference.recipe {
        let meant: Vec<&FileSet> = models.iter().copied().filter(|set| set.recipe.eq_ignore_ascii_case(recipe)).collect();
        if meant.is_empty() {
            return Err(HubError::RecipeMissing { repo, revision, recipe: recipe.clone(), files: all(&models) });
        }
        models = meant;
    }
    match models.as_slice() {
        [only] => Ok(only),
        several => Err(HubError::ChooseFile { repo, revision, files: all(several) }),
    }
}

impl<T: Transport> Session<'_, T> {
    /// The GGUF files, with their sizes.
    async fn gguf_files(&self, listing: &Listing) -> Result<Files, HubError> {
        let asked = self.asked(&listing.repo, Some(&listing.revision), None);
        let url = format!("{}?blobs=true", self.endpoint.api_model(&listing.repo, asked.revision));
        let RawListing { siblings, .. } = self.raw_listing(&asked, url).await?;
        let siblings: Vec<_> =
            siblings.unwrap_or_default().into_iter().filter(|file| file.rfilename.ends_with(SUFFIX) && super::is_path(&file.rfilename)).collect();
        let sets = FileSet::group(siblings.iter().map(|file| (file.rfilename.as_str(), file.size.map(Bytes))));
        let sizes = siblings.into_iter().filter_map(|file| Some((file.rfilename, Bytes(file.size?)))).collect();
        Ok(Files { sets, sizes })
    }

    /// What the parts of a set hold together.
    async fn contents(&self, listing: &Listing, files: &Files, set: &FileSet) -> Result<Contents, HubError> {
        let parts = set.files();
        let jobs = parts.iter().map(|part| self.gguf_header(listing, part, files.sizes.get(part).map(|size| size.get())));
        let mut answers = pin!(stream::iter(jobs).buffer_unordered(IN_FLIGHT));
        let mut headers = Vec::new();
        while let Some(header) = answers.next().await {
            headers.push(header?);
            self.tell(|state| state.files_done += 1);
        }
        gguf::join(headers).and_then(|header| gguf::read(&header)).map_err(|error| HubError::Gguf { file: set.path.clone(), error })
    }

    /// The header of one file.
    async fn gguf_header(&self, listing: &Listing, file: &str, size: Option<u64>) -> Result<gguf::Header, HubError> {
        let wrong = |error| HubError::Gguf { file: file.to_owned(), error };
        let bring = async |at: u64, bytes: u64| {
            let need = at.saturating_add(bytes);
            // The file ends before the range begins.
            let range = self.range(listing, file, at, need).await?.ok_or_else(|| wrong(GgufError::CutOff { have: at, need }))?;
            if let (Some(said), Some(now)) = (size, range.size)
                && said != now
            {
                return Err(HubError::Malformed { file: file.to_owned(), why: "its size is not the one that the list of files has".to_owned() });
            }
            self.tell(|_| ());
            Ok((range.begin, range.bytes))
        };
        gguf::read_header(size, bring, wrong).await
    }
}
