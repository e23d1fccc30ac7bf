//! Models in files that the user has: what a file is, is seen from its first bytes; only headers of weight files are read.
//!
//! No I/O happens here: bytes come from a [`Disk`], the machine's or the files that a browser was given. A folder of several parts
//! (a pipeline, an adapter) is read as such a repository on the Hub is.

mod error;
mod shelf;

use std::collections::BTreeSet;

pub use crate::checkpoint::gguf::FileSet;
use crate::checkpoint::gguf::{self, Contents, GgufError};
use crate::checkpoint::index::{IndexError, weight_files};
use crate::checkpoint::{Header, HeaderError, Parsed, match_inventory, parse_header};
use crate::config;
use crate::format::grouped;
use crate::hub::{self, Progress};
use crate::model::{Model, Origin, Provenance};
use crate::quantity::Bytes;
use crate::repository::{self, Shelf};
pub use error::FilesError;
use shelf::OnDisk;
pub use shelf::{Bases, NoBases};

/// Bytes of a weight file that are read first; most headers are shorter.
const FIRST_READ: u64 = 100_000;

/// Bytes that show what a file is.
const FIRST_LOOK: u64 = 64;

/// The longest index: twice that of the model with the most tensors.
const MAX_INDEX: u64 = 128 << 20;

/// Where bytes of files come from. Paths have slashes.
pub trait Disk {
    /// Bytes of a file; `None` when there is no such file.
    fn size(&self, path: &str) -> Option<u64>;

    /// So many bytes of a file from a place on, or fewer where it ends.
    fn read(&self, path: &str, at: u64, bytes: u64) -> impl Future<Output = Result<Vec<u8>, String>>;
}

/// A disk without files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Disk for NoFiles {
    fn size(&self, _: &str) -> Option<u64> {
        None
    }

    async fn read(&self, path: &str, _: u64, _: u64) -> Result<Vec<u8>, String> {
        Err(format!("there is no file `{path}`"))
    }
}

/// What was named.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// Files that make one model: weight files, an index of them, a config by whatever name.
    Files(&'a [String]),
    /// A folder, with the paths of the files that lie in it and in its folders.
    Folder {
        /// Its path, which those of its files begin with; empty where they are bare names.
        path: &'a str,
        /// The files.
        files: &'a [String],
    },
}

impl<'a> Named<'a> {
    /// What is meant by files that were picked or dropped together: a folder where they lie in one, where a config.json is among
    /// several, since then other files of the model may be too, or where a file names parts.
    pub fn together(files: &'a [String]) -> Self {
        let folder = |file: &'a String| file.split_once('/').map_or("", |(folder, _)| folder);
        let first = files.first().map_or("", folder);
        let is_one = files.iter().all(|file| folder(file) == first);
        let has_config = files.len() > 1 && files.iter().any(|file| file == CONFIG);
        let has_parts = repository::kind(files, "").is_some();
        if is_one && (!first.is_empty() || has_config || has_parts) { Self::Folder { path: first, files } } else { Self::Files(files) }
    }
}

const CONFIG: &str = "config.json";

/// How names of indexes of weight files end.
const INDEX: &str = ".safetensors.index.json";

/// What files were opened as.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The model.
    pub model: Model,
    /// The text of the config, where it is all that there was.
    pub config: Option<String>,
}

/// Opens files as a model. `quant_config` is the file that describes the quantisation, where it is not the one beside the config;
/// `bases` opens what an adapter was made for; `progress` is called before and after each weight file.
///
/// # Errors
/// [`FilesError`] says what is wrong and what to do.
pub async fn open<D: Disk, B: Bases>(
    disk: &D,
    named: Named<'_>,
    quant_config: Option<&str>,
    bases: &B,
    progress: &dyn Fn(Progress),
) -> Result<Opened, FilesError> {
    let opening = Opening { disk, quant_config, progress };
    match named {
        Named::Files(files) => opening.files(files).await,
        Named::Folder { path, files } => {
            let shelf = OnDisk::new(&opening, bases, path, files);
            match repository::kind(shelf.names(), "") {
                Some(kind) => {
                    let model = repository::read(&shelf, kind, "").await?.into_model(Some(path.to_owned()), None);
                    Ok(Opened { model, config: None })
                }
                None => opening.folder(path, files).await,
            }
        }
    }
}

/// What a file is.
enum Kind {
    Gguf,
    Safetensors,
    /// JSON: a config, or an index of weight files.
    Json,
}

/// How files begin that are taken for weights and whose tensors are not read, and what they are.
const OTHERS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive, as PyTorch's .bin and .pt files are: the sizes of its tensors are not read"),
    (b"\x80\x02", "a pickle of Python, as PyTorch's old .bin and .pt files are: the sizes of its tensors are not read"),
    (b"\x80\x03", "a pickle of Python, as PyTorch's old .bin and .pt files are: the sizes of its tensors are not read"),
    (b"\x80\x04", "a pickle of Python, as PyTorch's old .bin and .pt files are: the sizes of its tensors are not read"),
    (b"\x80\x05", "a pickle of Python, as PyTorch's old .bin and .pt files are: the sizes of its tensors are not read"),
    (b"\x89HDF", "an HDF5 file, as Keras writes: the sizes of its tensors are not read"),
    // The number of the format, its lowest byte first.
    (b"lmgg", "a file of ggml from before GGUF, which llama.cpp no longer reads"),
    (b"fmgg", "a file of ggml from before GGUF, which llama.cpp no longer reads"),
    (b"tjgg", "a file of ggml from before GGUF, which llama.cpp no longer reads"),
    (b"<", "a web page, saved in the place of a file"),
    (b"", "neither a config.json nor an index nor a .safetensors nor a .gguf file"),
];

/// Files that lie beside a config.json and are not one.
const COMPANIONS: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "trainer_state.json",
    "quantize_config.json",
    hub::QUANT_CONFIG,
];

/// A path in the folder of another.
fn beside(path: &str, name: &str) -> String {
    path.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}"))
}

struct Opening<'a, D> {
    disk: &'a D,
    quant_config: Option<&'a str>,
    progress: &'a dyn Fn(Progress),
}

impl<D: Disk> Opening<'_, D> {
    async fn files(&self, files: &[String]) -> Result<Opened, FilesError> {
        let first = files.first().ok_or(FilesError::Nothing)?;
        let (mut configs, mut safetensors, mut ggufs) = (Vec::new(), BTreeSet::new(), Vec::new());
        for path in files {
            match self.kind(path).await? {
                Kind::Gguf => ggufs.push(path.clone()),
                Kind::Safetensors => _ = safetensors.insert(path.clone()),
                // What is wrong with a config, its own reader says best; an index is called one.
                Kind::Json => match weight_files(&self.text(path, MAX_INDEX).await?) {
                    Ok(Some(names)) => safetensors.extend(names.iter().map(|name| beside(path, name))),
                    Ok(None) => configs.push(path.clone()),
                    Err(IndexError::NotJson(_)) if !path.ends_with(INDEX) => configs.push(path.clone()),
                    Err(error) => return Err(FilesError::Index { path: path.clone(), error }),
                },
            }
        }
        let weights: Vec<String> = safetensors.into_iter().collect();
        match (configs.as_slice(), weights.as_slice(), ggufs.as_slice()) {
            ([], [], _) => self.ggufs(first, &ggufs).await,
            (_, _, [_, ..]) => Err(FilesError::Mixed),
            ([], weights, []) => self.config(&beside(first, CONFIG), first, weights, Vec::new()).await,
            ([config], weights, []) => self.config(config, first, weights, Vec::new()).await,
            ([one, other, ..], ..) => Err(FilesError::TwoConfigs(one.clone(), other.clone())),
        }
    }

    /// A folder with config.json and safetensors files, or with GGUF files.
    async fn folder(&self, path: &str, files: &[String]) -> Result<Opened, FilesError> {
        let mut choice = hub::choose(files, path, None);
        if choice.files.is_empty() {
            let mut ggufs = Vec::new();
            // Repositories keep them in folders too, where only their names tell them.
            for file in files.iter().filter(|file| hub::parent(file) == path || is_named_gguf(file)) {
                // Files of other kinds lie in folders of models too.
                if matches!(self.kind(file).await, Ok(Kind::Gguf)) {
                    ggufs.push(file.clone());
                }
            }
            if !ggufs.is_empty() {
                return self.ggufs(path, &ggufs).await;
            }
            // What an index names and does not lie here, somebody forgot to fetch.
            if let Some(index) = files.iter().find(|file| hub::parent(file) == path && file.ends_with(INDEX)) {
                let named = weight_files(&self.text(index, MAX_INDEX).await?).map_err(|error| FilesError::Index { path: index.clone(), error })?;
                let named: Vec<String> = named.unwrap_or_default().iter().map(|name| beside(index, name)).collect();
                if !named.is_empty() {
                    let (here, all) = (named.iter().filter(|name| files.contains(name)).count() as u64, named.len() as u64);
                    let (here, all, index) = (grouped(here), grouped(all), base_name(index));
                    choice.notes.push(format!("{here} of the {all} weight files that {index} names are here: estimated from config.json"));
                }
            }
        }
        let config = if path.is_empty() { CONFIG.to_owned() } else { format!("{path}/{CONFIG}") };
        if choice.files.is_empty() && self.disk.size(&config).is_none() {
            return Err(FilesError::NoModel(if path.is_empty() { ".".to_owned() } else { path.to_owned() }));
        }
        self.config(&config, path, &choice.files, choice.notes).await
    }

    /// A config, with the headers of these weight files.
    async fn config(&self, config: &str, named: &str, weights: &[String], mut notes: Vec<String>) -> Result<Opened, FilesError> {
        if self.disk.size(config).is_none() {
            return Err(FilesError::NoConfig(config.to_owned()));
        }
        let text = self.text(config, config::json::MAX_BYTES as u64).await?;
        let quant_config = match self.quant_config {
            Some(path) => Some(path.to_owned()),
            None => Some(beside(config, hub::QUANT_CONFIG)).filter(|path| self.disk.size(path).is_some()),
        };
        let quant_config = match quant_config {
            Some(path) => Some(self.text(&path, config::json::MAX_BYTES as u64).await?),
            None => None,
        };
        let wrong = |error| match config {
            path if COMPANIONS.contains(&base_name(path)) => FilesError::Companion(path.to_owned()),
            path => FilesError::Config { path: path.to_owned(), error },
        };
        let mut anatomy = config::read_with(&text, quant_config.as_deref()).map_err(wrong)?;
        let mut headers = Vec::new();
        for (done, file) in weights.iter().enumerate() {
            self.report(done, weights.len());
            headers.push(self.header(file).await?);
        }
        let files = if headers.is_empty() {
            None
        } else {
            let matched = match_inventory(&anatomy, headers.iter())?;
            notes.extend(matched.notes);
            config::quantization_of_files(&mut anatomy, &matched.files);
            Some(matched.files)
        };
        let is_all = files.is_none() && quant_config.is_none();
        let source = if files.is_some() { Origin::Headers } else { Origin::Config };
        let provenance = Provenance { id: Some(named.to_owned()), revision: None, source, files, notes };
        Ok(Opened { model: Model { anatomy, provenance }, config: is_all.then_some(text) })
    }

    /// The one model among GGUF files, with the one file of encoders beside it; `named` is what the user named.
    async fn ggufs(&self, named: &str, files: &[String]) -> Result<Opened, FilesError> {
        let (mut models, mut encoders) = (Vec::new(), Vec::new());
        let sets = FileSet::group(files.iter().map(|file| (file.as_str(), self.disk.size(file).map(Bytes))));
        for set in sets {
            let Some(first) = self.parts(&set).into_iter().next() else { continue };
            let is_encoder = files.len() > 1 && self.gguf_header(&first).await?.metadata.text("general.architecture") == Some("clip");
            if is_encoder { &mut encoders } else { &mut models }.push(set);
        }
        let name = |set: &FileSet| base_name(&set.path).to_owned();
        let names = |sets: &[FileSet]| sets.iter().map(name).collect::<Vec<_>>().join(", ");
        let mut notes = Vec::new();
        let (model, encoder) = match (models.as_slice(), encoders.as_slice()) {
            ([model], [encoder]) => {
                notes.push(format!("with the encoders of {}", name(encoder)));
                (model, Some(encoder))
            }
            ([only], []) | ([], [only]) => (only, None),
            ([model], several) => {
                notes.push(format!("encoders of images or sound are not counted, since there are several: {}", names(several)));
                (model, None)
            }
            _ => {
                if models.is_empty() {
                    models = encoders;
                }
                models.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
                return Err(FilesError::ChooseFile { files: models });
            }
        };
        let mut contents = self.contents(model).await?;
        if let Some(encoder) = encoder {
            contents.add(self.contents(encoder).await?)?;
        }
        let Contents { anatomy, files, notes: found } = contents;
        notes.extend(found);
        let provenance = Provenance { id: Some(named.to_owned()), revision: None, source: Origin::Gguf, files: Some(files), notes };
        Ok(Opened { model: Model { anatomy, provenance }, config: None })
    }

    /// The parts of a set that are there, whether they were named or not.
    fn parts(&self, set: &FileSet) -> Vec<String> {
        set.files().into_iter().filter(|part| self.disk.size(part).is_some()).collect()
    }

    async fn contents(&self, set: &FileSet) -> Result<Contents, FilesError> {
        let (mut headers, parts) = (Vec::new(), self.parts(set));
        for (done, part) in parts.iter().enumerate() {
            self.report(done, parts.len());
            headers.push(self.gguf_header(part).await?);
        }
        gguf::join(headers).and_then(|header| gguf::read(&header)).map_err(|error| FilesError::Gguf { path: set.path.clone(), error })
    }

    fn report(&self, done: usize, all: usize) {
        (self.progress)(Progress { files_done: done as u64, files: all as u64, ..Progress::default() });
    }

    fn size(&self, path: &str) -> Result<u64, FilesError> {
        self.disk.size(path).ok_or_else(|| FilesError::Missing(path.to_owned()))
    }

    async fn bytes(&self, path: &str, at: u64, bytes: u64) -> Result<Vec<u8>, FilesError> {
        self.size(path)?;
        self.disk.read(path, at, bytes).await.map_err(|why| FilesError::Unreadable { path: path.to_owned(), why })
    }

    async fn kind(&self, path: &str) -> Result<Kind, FilesError> {
        let first = self.bytes(path, 0, FIRST_LOOK).await?;
        let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(*byte);
        match first.iter().find(|byte| !is_blank(byte)) {
            _ if gguf::is_gguf(&first) => Ok(Kind::Gguf),
            // Eight bytes of length stand before the JSON of safetensors.
            _ if first.get(8) == Some(&b'{') && first.get(7) == Some(&0) => Ok(Kind::Safetensors),
            _ if first.starts_with(b"version https://git-lfs") => Err(FilesError::LfsPointer(path.to_owned())),
            Some(b'{' | b'[') => Ok(Kind::Json),
            None => Err(FilesError::OtherKind { path: path.to_owned(), what: "an empty file" }),
            Some(_) => {
                let what = OTHERS.iter().find(|(begin, _)| first.starts_with(begin)).map_or("", |(_, what)| *what);
                Err(FilesError::OtherKind { path: path.to_owned(), what })
            }
        }
    }

    async fn text(&self, path: &str, limit: u64) -> Result<String, FilesError> {
        let size = self.size(path)?;
        if size > limit {
            return Err(FilesError::TooLong { path: path.to_owned(), limit });
        }
        String::from_utf8(self.bytes(path, 0, size).await?).map_err(|_| FilesError::NotText(path.to_owned()))
    }

    /// The header of a safetensors file; nothing past it is read.
    async fn header(&self, path: &str) -> Result<Header, FilesError> {
        let wrong = |error| FilesError::Header { path: path.to_owned(), error };
        let size = self.size(path)?;
        let (mut prefix, mut wanted) = (Vec::new(), FIRST_READ);
        loop {
            let have = prefix.len() as u64;
            prefix.extend(self.bytes(path, have, wanted - have).await?);
            match parse_header(&prefix, Some(size)).map_err(wrong)? {
                Parsed::Header(header) => return Ok(header),
                Parsed::NeedMore { bytes } if bytes > prefix.len() as u64 && bytes <= size => wanted = bytes,
                Parsed::NeedMore { bytes } => return Err(wrong(HeaderError::CutOff { have: prefix.len() as u64, need: bytes })),
            }
        }
    }

    /// The header of a GGUF file; what it passes over is not read.
    async fn gguf_header(&self, path: &str) -> Result<gguf::Header, FilesError> {
        let wrong = |error: GgufError| FilesError::Gguf { path: path.to_owned(), error };
        gguf::read_header(Some(self.size(path)?), async |at, bytes| Ok((at, self.bytes(path, at, bytes).await?)), wrong).await
    }
}

/// The last name of a path.
fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Whether a file is called as GGUF files are.
fn is_named_gguf(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_lie_together_are_a_folder() {
        let meant = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            match Named::together(&files) {
                Named::Files(_) => None,
                Named::Folder { path, .. } => Some(path.to_owned()),
            }
        };
        assert_eq!(meant(&["m/config.json", "m/a.safetensors", "m/x/y.txt"]).as_deref(), Some("m"));
        assert_eq!(meant(&["config.json", "tokenizer.json"]).as_deref(), Some(""));
        assert_eq!(meant(&["adapter_config.json", "adapter_model.safetensors"]).as_deref(), Some(""));
        for files in [&["config.json"][..], &["a.gguf", "b.gguf"], &["m/config.json", "a.gguf"], &["m/config.json", "n/config.json"], &[]] {
            assert_eq!(meant(files), None, "{files:?}");
        }
    }
}
