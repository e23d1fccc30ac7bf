//! Pipelines of diffusers: `model_index.json` names the parts, each in a folder with a config and weights of its own.

use super::parts::{Part, together};
use super::{Content, RepositoryError, Shelf, within};
use crate::config::diffusers;
use crate::model::ComponentKind;

/// Where a pipeline names its parts.
pub(super) const INDEX: &str = "model_index.json";

pub(super) async fn read<S: Shelf>(shelf: &S, folder: &str) -> Result<Content, S::Error> {
    let path = within(folder, INDEX);
    let index = diffusers::index(&shelf.text(&path).await?).map_err(RepositoryError::config(&path))?;
    let mut parts = Vec::new();
    for part in &index.parts {
        let here = within(folder, &part.name);
        let config = within(&here, "config.json");
        let anatomy = diffusers::part(part, &shelf.text(&config).await?).map_err(RepositoryError::config(&config))?;
        let has_names_of_files = !diffusers::is_own_class(&part.class);
        parts.push(Part::new(shelf.names(), here, anatomy, has_names_of_files));
    }
    // The part that works most comes first: it stands where a language model's decoder does.
    parts.sort_by_key(|part| part.anatomy.components.first().is_none_or(|first| first.kind != ComponentKind::Denoiser));
    together(shelf, index.class, parts, Vec::new()).await
}
