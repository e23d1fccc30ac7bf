//! The Hub's protocol: from the name of a model to its config and the headers of its weight files.
//!
//! No I/O happens here: requests go through a [`Transport`]. One request describes the repository and pins its commit, one
//! brings config.json, then one range of each weight file brings its header (a second one where the header is long). GGUF files
//! describe themselves: a second request for the description has their sizes, then ranges bring the header of the one that is meant.
//!
//! Memory: a list of files of at most 16 MiB, a config of at most 10 MiB, at most eight headers at a time (100 MB each by the
//! format's limit, a few hundred KB in practice), and a run-length coded inventory of at most a million tensors.

mod endpoint;
mod error;
mod gguf;
mod repo;
mod search;
mod session;
mod shelf;
mod transport;
mod weights;

use std::cell::Cell;

use session::{Listing, MAX_RETRIES, RawListing, Session, is_path};
use shelf::OnHub;

use crate::checkpoint::{Matched, Matcher};
use crate::config;
use crate::model::{Model, Origin, Provenance};
use crate::repository::{self, Kind, RepositoryError, Shelf};

pub use endpoint::{BadEndpoint, Endpoint};
pub use error::{Asked, HubError};
pub use repo::{ModelRef, RepoId};
pub use search::{NoAnswer, search};
pub(crate) use session::content_range_parts;
pub use transport::{Headers, Request, Response, Transport, TransportError};
pub(crate) use weights::parent;
pub use weights::{Choice, choose};

/// Requests under way at the same time: the Hub serves many behind one address, and browsers open few connections to a host.
pub const IN_FLIGHT: usize = 8;

/// What modelopt puts beside a config.json that does not describe the quantisation.
pub(crate) const QUANT_CONFIG: &str = "hf_quant_config.json";

/// How far the opening of a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Weight files whose header was read.
    pub files_done: u64,
    /// Weight files in all.
    pub files: u64,
    /// Bytes received so far.
    pub bytes: u64,
    /// Bytes in all, once known: lengths of headers are not known before they are read.
    pub bytes_total: Option<u64>,
    /// Milliseconds that are waited before a request is sent again; 0 when nothing waits.
    pub pause: u64,
}

/// Opens a model: its config, and what its weight files hold. `progress` is called once before and once after each weight file.
///
/// An endpoint in `reference` (from a pasted address) wins over `endpoint`; the token is sent only if the two are the same, so a
/// pasted address cannot carry it elsewhere. Drop the future to cancel.
///
/// # Errors
/// [`HubError`] says what is wrong and what to do. Weights that cannot be read because there are no safetensors files are not an
/// error: the model is then the config's, and a note says so. Where the weights are in several GGUF files to choose among,
/// [`HubError::ChooseFile`] has them.
pub async fn open<T: Transport>(
    transport: &T,
    endpoint: &Endpoint,
    reference: &ModelRef,
    token: Option<&str>,
    progress: &dyn Fn(Progress),
) -> Result<Model, HubError> {
    let own = reference.endpoint.as_ref().unwrap_or(endpoint);
    let token = token.filter(|_| own == endpoint);
    let hub = Session { transport, endpoint: own, token, progress, state: Cell::default(), retries: Cell::new(MAX_RETRIES) };
    hub.open(reference, false).await
}

impl<T: Transport> Session<'_, T> {
    /// The model of a reference; an adapter's base is no adapter itself.
    async fn open(&self, reference: &ModelRef, is_base: bool) -> Result<Model, HubError> {
        let listing = self.listing(reference).await?;
        let folder = reference.folder.as_deref().unwrap_or_default();
        if !folder.is_empty() && !listing.names.iter().any(|name| gguf::is_within(name, folder)) {
            return Err(HubError::FolderMissing { repo: listing.repo, folder: folder.to_owned() });
        }
        let kind = repository::kind(&listing.names, folder).filter(|_| !gguf::is_named(reference));
        if kind.is_none() && gguf::is_meant(&listing, reference) {
            return gguf::open(self, listing, reference).await;
        }
        let shelf = OnHub { session: self, listing: &listing };
        if let Some(kind) = kind {
            if is_base && kind == Kind::Adapter {
                return Err(RepositoryError::Adapter(format!("its base `{}` is an adapter too", listing.repo)).into());
            }
            let content = repository::read(&shelf, kind, folder).await?;
            return Ok(content.into_model(Some(listing.repo.to_string()), listing.commit));
        }
        let mut notes = Vec::new();
        let (config, quant_config) = self.config(&listing, folder, &mut notes).await?;
        let mut anatomy = config::read_with(&config, quant_config.as_deref()).map_err(HubError::Config)?;
        let choice = weights::choose(&listing.names, folder, reference.file.as_deref());
        notes.extend(choice.notes);
        let mut matcher = Matcher::new(&anatomy);
        shelf.headers(&choice.files, &mut |_, header| Ok(matcher.add(header)?)).await?;
        let (source, files) = if choice.files.is_empty() {
            (Origin::Config, None)
        } else {
            let Matched { files, notes: found } = matcher.finish()?;
            notes.extend(found);
            config::quantization_of_files(&mut anatomy, &files);
            (Origin::Headers, Some(files))
        };
        let provenance = Provenance { id: Some(listing.repo.to_string()), revision: listing.commit, source, files, notes };
        Ok(Model { anatomy, provenance })
    }
}

#[cfg(test)]
mod tests;
