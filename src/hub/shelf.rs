//! A repository on the Hub as a [`Shelf`].

use std::pin::{Pin, pin};

use futures_util::stream::{self, StreamExt};

use super::{Asked, HubError, IN_FLIGHT, Listing, ModelRef, Session, Transport};
use crate::checkpoint::HeaderError;
use crate::checkpoint::safetensors::MAX_TENSORS;
use crate::config;
use crate::model::Model;
use crate::repository::{RepositoryError, Shelf, Take};

/// What is open of a repository.
pub(super) struct OnHub<'a, T> {
    pub session: &'a Session<'a, T>,
    pub listing: &'a Listing,
}

impl<T: Transport> Shelf for OnHub<'_, T> {
    type Error = HubError;

    fn names(&self) -> &[String] {
        &self.listing.names
    }

    async fn text(&self, file: &str) -> Result<String, HubError> {
        self.session.text(self.listing, file).await
    }

    async fn headers(&self, files: &[String], take: &mut Take<'_>) -> Result<(), HubError> {
        let hub = self.session;
        hub.tell(|state| (state.files_done, state.files) = (0, files.len() as u64));
        let mut tensors = 0usize;
        let jobs = files.iter().enumerate().map(|(place, file)| async move { (place, hub.header(self.listing, file).await) });
        let mut headers = pin!(stream::iter(jobs).buffer_unordered(IN_FLIGHT));
        while let Some((place, answer)) = headers.next().await {
            let (file, header) = answer?;
            take(place, &header)?;
            tensors = tensors.saturating_add(header.tensors.len());
            if tensors > MAX_TENSORS {
                return Err(HubError::Header { file: file.to_owned(), error: HeaderError::TooManyTensors });
            }
            hub.tell(|state| state.files_done += 1);
        }
        Ok(())
    }

    async fn base(&self, name: &str, revision: Option<&str>) -> Result<Model, HubError> {
        let mut reference: ModelRef =
            name.parse().map_err(|_| RepositoryError::Adapter(format!("its base is `{}`, which is no model on the Hub", crate::checkpoint::quotable(name))))?;
        // The base is read where the adapter is, with its token.
        reference.endpoint = None;
        reference.revision = reference.revision.or_else(|| revision.map(str::to_owned));
        let opening: Pin<Box<dyn Future<Output = Result<Model, HubError>> + '_>> = Box::pin(self.session.open(&reference, true));
        opening.await
    }
}

impl<T: Transport> Session<'_, T> {
    /// The text of a file.
    pub(super) async fn text(&self, listing: &Listing, file: &str) -> Result<String, HubError> {
        let asked = Asked { repo: &listing.repo, revision: Some(&listing.revision), file: Some(file), had_token: self.token.is_some() };
        let url = self.endpoint.resolve(&listing.repo, &listing.revision, file);
        let body = self.get(&asked, url, None, config::json::MAX_BYTES as u64).await?.body;
        String::from_utf8(body).map_err(|_| HubError::Malformed { file: asked.name(), why: "it is not text (UTF-8)".to_owned() })
    }
}
