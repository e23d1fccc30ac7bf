//! Parts of a repository, each in a folder of its own, put together to one model.

use super::{Content, RepositoryError, Shelf, names_in, within};
use crate::checkpoint::{Header, Matched, Matcher, files_of_part, inventory_of_part};
use crate::model::{Anatomy, Files};
use crate::quantity::ParamCount;

/// One part.
pub(super) struct Part {
    /// Its folder; empty for the top.
    pub folder: String,
    /// What it is.
    pub anatomy: Anatomy,
    /// The class that wrote the files, where that is another one of the family.
    pub writer: Option<Anatomy>,
    /// Whether its tensors have the names that the files have, so that what is not loaded can be told.
    pub has_names_of_files: bool,
    /// Its weight files, as paths.
    pub files: Vec<String>,
}

impl Part {
    /// The part with the weight files in its folder.
    pub fn new(names: &[String], folder: String, anatomy: Anatomy, has_names_of_files: bool) -> Self {
        let here: Vec<String> = names_in(names, &folder).map(str::to_owned).collect();
        let files = files_of_part(&here).into_iter().map(|name| within(&folder, &name)).collect();
        Self { folder, anatomy, writer: None, has_names_of_files, files }
    }
}

/// What a part's files hold.
enum Inventory {
    Matched(Box<Matcher>),
    Plain(Files),
}

impl Inventory {
    fn add(&mut self, folder: &str, header: &Header) -> Result<(), RepositoryError> {
        match self {
            Self::Matched(matcher) => Ok(matcher.add(header)?),
            Self::Plain(files) => {
                let own = inventory_of_part(folder, header)?;
                add(files, own)
            }
        }
    }
}

/// Adds the files of one part to those of others.
pub(super) fn add(sum: &mut Files, part: Files) -> Result<(), RepositoryError> {
    sum.count += part.count;
    sum.bytes = sum.bytes.plus(part.bytes)?;
    sum.elements = sum.elements.plus(part.elements)?;
    sum.loaded.extend(part.loaded);
    sum.left.extend(part.left);
    Ok(())
}

/// Parts as one model: anatomies one behind the other, the inventory of all files.
///
/// Weights are either all from files or all from configs: half of each would hide a missing part.
pub(super) async fn together<S: Shelf>(shelf: &S, model_type: String, parts: Vec<Part>, mut notes: Vec<String>) -> Result<Content, S::Error> {
    let mut without = Vec::new();
    for part in &parts {
        let parameters = part.anatomy.parameters().map_err(RepositoryError::from)?;
        if part.files.is_empty() && parameters > ParamCount::ZERO {
            without.push(if part.folder.is_empty() { "the top" } else { part.folder.as_str() });
        }
    }
    let paths: Vec<String> = parts.iter().flat_map(|part| part.files.iter().cloned()).collect();
    let files = if without.is_empty() && !paths.is_empty() {
        Some(inventory(shelf, &parts, &paths, &mut notes).await?)
    } else {
        notes.push(format!("no safetensors files in {}: every part is estimated from its config", without.join(", ")));
        None
    };
    Ok(Content { anatomy: joined(model_type, parts.into_iter().map(|part| part.anatomy)), files, notes })
}

async fn inventory<S: Shelf>(shelf: &S, parts: &[Part], paths: &[String], notes: &mut Vec<String>) -> Result<Files, S::Error> {
    let owners: Vec<usize> = parts.iter().enumerate().flat_map(|(number, part)| part.files.iter().map(move |_| number)).collect();
    let start = |part: &Part| {
        if !part.has_names_of_files {
            return Inventory::Plain(Files::default());
        }
        let matcher = Matcher::new(&part.anatomy);
        Inventory::Matched(Box::new(match &part.writer {
            Some(writer) => matcher.written_by(&part.anatomy, writer),
            None => matcher,
        }))
    };
    let mut inventories: Vec<Inventory> = parts.iter().map(start).collect();
    let mut take = |place: usize, header: &Header| match owners.get(place).and_then(|&owner| Some((parts.get(owner)?, inventories.get_mut(owner)?))) {
        Some((part, inventory)) => inventory.add(&part.folder, header),
        None => Ok(()),
    };
    shelf.headers(paths, &mut take).await?;
    let mut sum = Files::default();
    for (part, inventory) in parts.iter().zip(inventories) {
        let files = match inventory {
            Inventory::Plain(files) => files,
            Inventory::Matched(matcher) => {
                let Matched { mut files, notes: found } = matcher.finish().map_err(RepositoryError::from)?;
                let named = |sentence: String| if part.folder.is_empty() { sentence } else { format!("{}: {sentence}", part.folder) };
                notes.extend(found.into_iter().map(named));
                for (tensor, _) in files.loaded.iter_mut().chain(&mut files.left) {
                    tensor.name = within(&part.folder, &tensor.name);
                }
                files
            }
        };
        add(&mut sum, files)?;
    }
    Ok(sum)
}

/// Anatomies one behind the other.
fn joined(model_type: String, parts: impl Iterator<Item = Anatomy>) -> Anatomy {
    let mut all = Anatomy::of(model_type, Vec::new());
    for part in parts {
        if let Some(quantization) = part.quantization {
            all.quantization.get_or_insert_default().append(quantization, all.components.len());
        }
        all.components.extend(part.components);
        all.dtype = all.dtype.or(part.dtype);
        all.max_context = all.max_context.or(part.max_context);
        all.rotary = all.rotary.or(part.rotary);
        all.keys_used.extend(part.keys_used);
        all.keys_not_understood.extend(part.keys_not_understood);
        all.assumptions.extend(part.assumptions);
        all.is_guess |= part.is_guess;
    }
    all
}
