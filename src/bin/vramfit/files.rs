//! Models in files: what a file is, is seen from its first bytes; only headers of weight files are read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use vramfit::checkpoint::gguf::{self, Contents, Reader, Step};
use vramfit::checkpoint::index::{IndexError, weight_files};
use vramfit::checkpoint::{Header, Parsed, match_inventory, parse_header};
use vramfit::config;
use vramfit::hub;
use vramfit::model::{Model, Origin, Provenance};

/// Bytes of a weight file that are read first; most headers are shorter.
const FIRST_READ: u64 = 100_000;

/// Bytes of a GGUF file that are read at once: a tokenizer takes a few of these.
const PIECE: u64 = 1 << 20;

/// The longest index: sixteen times that of the model with the most tensors.
const MAX_TEXT: u64 = 1 << 30;

/// What a file is.
enum Kind {
    Gguf,
    Safetensors,
    /// JSON: a config, or an index of weight files.
    Json,
}

/// A folder, or files that make one model: weight files, an index of them, a config by whatever name.
/// `quant_config` is the file that describes the quantisation where config.json does not.
pub fn open(paths: &[PathBuf], quant_config: Option<&Path>) -> Result<Model, String> {
    let [first, rest @ ..] = paths else { return Err("no file was named".to_owned()) };
    if first.is_dir() {
        return if rest.is_empty() { from_folder(first, quant_config) } else { Err(said(first, &"a folder stands for itself: name nothing beside it")) };
    }
    let mut named = Named::default();
    for path in paths {
        named.add(path)?;
    }
    named.open(first, quant_config)
}

/// Files by what they are.
#[derive(Default)]
struct Named {
    configs: Vec<PathBuf>,
    safetensors: Vec<PathBuf>,
    gguf: Vec<PathBuf>,
}

impl Named {
    fn add(&mut self, path: &Path) -> Result<(), String> {
        match kind(path)? {
            Kind::Gguf => self.gguf.push(path.to_owned()),
            Kind::Safetensors => self.safetensors.push(path.to_owned()),
            // What is wrong with a config, its own reader says best.
            Kind::Json => match weight_files(&text(path)?) {
                Ok(Some(names)) => self.safetensors.extend(names.iter().map(|name| path.with_file_name(name))),
                Ok(None) | Err(IndexError::NotJson(_)) => self.configs.push(path.to_owned()),
                Err(error) => return Err(said(path, &error)),
            },
        }
        Ok(())
    }

    fn open(mut self, first: &Path, quant_config: Option<&Path>) -> Result<Model, String> {
        // A file and the index that names it.
        self.safetensors.sort();
        self.safetensors.dedup();
        match (self.configs.as_slice(), self.safetensors.as_slice(), self.gguf.as_slice()) {
            ([], [], [file]) => from_gguf(file, &[], Vec::new()),
            ([], [], _) => from_gguf_files(first, self.gguf),
            (_, _, [_, ..]) => Err("a GGUF file describes its model alone: name GGUF files only, or none".to_owned()),
            ([], files, []) => from_config((&first.with_file_name("config.json"), quant_config), first, files, Vec::new()),
            ([config], files, []) => from_config((config, quant_config), first, files, Vec::new()),
            ([one, other, ..], ..) => Err(format!("`{}` and `{}` are two configs: name one", one.display(), other.display())),
        }
    }
}

fn said(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}`: {error}", path.display())
}

fn kind(path: &Path) -> Result<Kind, String> {
    let mut first = Vec::new();
    let file = File::open(path).map_err(|error| said(path, &error))?;
    file.take(64).read_to_end(&mut first).map_err(|error| said(path, &error))?;
    let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(*byte);
    match first.iter().find(|byte| !is_blank(byte)) {
        _ if gguf::is_gguf(&first) => Ok(Kind::Gguf),
        // Eight bytes of length stand before the JSON of safetensors.
        _ if first.get(8) == Some(&b'{') && first.get(7) == Some(&0) => Ok(Kind::Safetensors),
        _ if first.starts_with(b"version https://git-lfs") => Err(said(path, &"this is a Git LFS pointer, a small text that stands for the weight file")),
        Some(b'{' | b'[') => Ok(Kind::Json),
        _ => Err(said(path, &"this is neither a config.json nor an index nor a .safetensors nor a .gguf file")),
    }
}

/// The text of a file.
pub fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("there is no config.json beside the weights: `{}` is missing, and the architecture is read from it", path.display())
        }
        _ => format!("`{}` cannot be read: {error}", path.display()),
    })?;
    file.take(MAX_TEXT).read_to_string(&mut text).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            format!("`{}` is not a text file; give the path of a config.json, a .safetensors or .gguf file, or their folder", path.display())
        }
        _ => format!("`{}` cannot be read: {error}", path.display()),
    })?;
    Ok(text)
}

/// A config, with the headers of these weight files.
fn from_config((config, quant_config): (&Path, Option<&Path>), named: &Path, weights: &[PathBuf], mut notes: Vec<String>) -> Result<Model, String> {
    let beside = quantization_beside(config, quant_config)?;
    let anatomy = config::read_with(&text(config)?, beside.as_deref()).map_err(|error| said(config, &error))?;
    let headers = weights.iter().map(|file| header(file)).collect::<Result<Vec<_>, String>>()?;
    let files = if headers.is_empty() {
        None
    } else {
        let matched = match_inventory(&anatomy, headers.iter()).map_err(|error| error.to_string())?;
        notes.extend(matched.notes);
        Some(matched.files)
    };
    let source = if files.is_some() { Origin::Headers } else { Origin::Config };
    Ok(Model { anatomy, provenance: Provenance { id: Some(named.display().to_string()), revision: None, source, files, notes } })
}

/// The text of the file that describes the quantisation where config.json does not: the one that is named, else the one beside it.
fn quantization_beside(config: &Path, named: Option<&Path>) -> Result<Option<String>, String> {
    let path = named.map_or_else(|| config.with_file_name("hf_quant_config.json"), Path::to_owned);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("`{}` cannot be read: {error}", path.display())),
    }
}

/// A folder with config.json and safetensors files, or with GGUF files.
fn from_folder(folder: &Path, quant_config: Option<&Path>) -> Result<Model, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("`{}` cannot be read: {error}", folder.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let choice = hub::choose(&names, "", None);
    if choice.files.is_empty() {
        let is_weights = |path: &PathBuf| path.is_file() && matches!(kind(path), Ok(Kind::Gguf));
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).filter(is_weights).collect();
        if !files.is_empty() {
            return from_gguf_files(folder, files);
        }
    }
    let weights: Vec<PathBuf> = choice.files.into_iter().map(|name| folder.join(name)).collect();
    from_config((&folder.join("config.json"), quant_config), folder, &weights, choice.notes)
}

/// The one model among GGUF files, with the one file of encoders beside it; `named` is what the user named.
fn from_gguf_files(named: &Path, files: Vec<PathBuf>) -> Result<Model, String> {
    let (mut models, mut encoders) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    // Of a split model, the first file stands for all.
    let starts = files.iter().map(|file| parts(file).into_iter().next().unwrap_or_default());
    for file in starts.filter(|file| seen.insert(file.clone())) {
        let is_encoder = gguf_header(&file)?.metadata.text("general.architecture") == Some("clip");
        if is_encoder { &mut encoders } else { &mut models }.push(file);
    }
    let names = |files: &[PathBuf]| files.iter().filter_map(|file| file.file_name()?.to_str()).collect::<Vec<_>>().join(", ");
    match (models.as_slice(), encoders.as_slice()) {
        ([model], [] | [_]) => from_gguf(model, &encoders, Vec::new()),
        ([model], several) => from_gguf(model, &[], vec![format!("encoders of images or sound are not counted, since there are several: {}", names(several))]),
        ([], [encoder]) => from_gguf(encoder, &[], Vec::new()),
        (several, _) => Err(said(named, &format!("there is more than one GGUF model; give the path of one: {}", names(several)))),
    }
}

/// A GGUF file with its further parts, and with encoders from files of their own.
fn from_gguf(path: &Path, encoders: &[PathBuf], mut notes: Vec<String>) -> Result<Model, String> {
    let mut contents = gguf_contents(path)?;
    for encoder in encoders {
        let name = encoder.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!("with the encoders of {name}"));
        contents.add(gguf_contents(encoder)?).map_err(|error| said(encoder, &error))?;
    }
    notes.extend(contents.notes);
    let id = Some(path.display().to_string());
    Ok(Model { anatomy: contents.anatomy, provenance: Provenance { id, revision: None, source: Origin::Gguf, files: Some(contents.files), notes } })
}

fn gguf_contents(path: &Path) -> Result<Contents, String> {
    let headers = parts(path).iter().filter(|part| part.exists()).map(|part| gguf_header(part)).collect::<Result<Vec<_>, String>>()?;
    gguf::join(headers).and_then(|header| gguf::read(&header)).map_err(|error| said(path, &error))
}

/// The files that make one with this: its parts by name, or itself.
fn parts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match gguf::Part::of(name) {
        Some(part) => part.names().map(|name| path.with_file_name(name)).collect(),
        None => vec![path.to_owned()],
    }
}

/// The header of a GGUF file, piece by piece; what it passes over is not read.
fn gguf_header(path: &Path) -> Result<gguf::Header, String> {
    let mut file = File::open(path).map_err(|error| said(path, &error))?;
    let size = file.metadata().map_err(|error| said(path, &error))?.len();
    let mut reader = Reader::new(Some(size));
    let (mut begin, mut piece) = (0, Vec::new());
    while let Step::Need { at, bytes } = reader.read(begin, &piece).map_err(|error| said(path, &error))? {
        file.seek(SeekFrom::Start(at)).map_err(|error| said(path, &error))?;
        piece.clear();
        let taken = (&file).take(bytes.max(PIECE)).read_to_end(&mut piece).map_err(|error| said(path, &error))?;
        if (taken as u64) < bytes {
            return Err(said(path, &"the file became shorter while it was read"));
        }
        begin = at;
    }
    reader.finish().map_err(|error| said(path, &error))
}

/// The header of a safetensors file; nothing past it is read.
pub fn header(path: &Path) -> Result<Header, String> {
    let file = File::open(path).map_err(|error| said(path, &error))?;
    let size = file.metadata().map_err(|error| said(path, &error))?.len();
    let mut prefix = Vec::new();
    let mut wanted = FIRST_READ;
    loop {
        (&file).take(wanted - prefix.len() as u64).read_to_end(&mut prefix).map_err(|error| said(path, &error))?;
        match parse_header(&prefix, Some(size)).map_err(|error| said(path, &error))? {
            Parsed::Header(header) => return Ok(header),
            Parsed::NeedMore { bytes } if bytes > prefix.len() as u64 && bytes <= size => wanted = bytes,
            Parsed::NeedMore { .. } => return Err(said(path, &"the file ends before its header does: it is cut off")),
        }
    }
}
