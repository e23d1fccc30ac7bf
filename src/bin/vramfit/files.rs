//! Models in files of this machine.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use vramfit::checkpoint::Header;
use vramfit::files::{self, Disk, FilesError, Named};
use vramfit::format::Unit;
use vramfit::model::Model;

/// A folder, or files that make one model. `quant_config` is the file that describes the quantisation where config.json does not.
pub fn open(paths: &[String], quant_config: Option<&Path>) -> Result<Model, String> {
    let quant_config = quant_config.map(|path| path.to_string_lossy().into_owned());
    let is_folder = |path: &String| Path::new(path).is_dir();
    let listed;
    let named = match paths {
        [folder] if is_folder(folder) => {
            listed = files_of(folder)?;
            Named::Folder { path: folder.trim_end_matches('/'), files: &listed }
        }
        paths => match paths.iter().find(|path| is_folder(path)) {
            Some(folder) => return Err(format!("`{folder}`: a folder stands for itself: name nothing beside it")),
            None => Named::Files(paths),
        },
    };
    match pollster::block_on(files::open(&Machine, named, quant_config.as_deref(), &|_| ())) {
        Ok(opened) => Ok(opened.model),
        Err(error) => Err(said(&error)),
    }
}

/// The text of a config.
pub fn text(path: &Path) -> Result<String, String> {
    pollster::block_on(files::text(&Machine, &path.to_string_lossy())).map_err(|error| said(&error))
}

/// The header of a safetensors file; nothing past it is read.
pub fn header(path: &Path) -> Result<Header, String> {
    pollster::block_on(files::header(&Machine, &path.to_string_lossy())).map_err(|error| said(&error))
}

/// Paths of the files of a folder.
fn files_of(folder: &str) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("`{folder}` cannot be read: {error}"))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file()).filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths: Vec<String> = files.map(|name| format!("{}/{name}", folder.trim_end_matches('/'))).collect();
    paths.sort();
    Ok(paths)
}

/// What is wrong and what to do; with the files where one is to be chosen.
fn said(error: &FilesError) -> String {
    let mut lines = vec![format!("{error}. {}", error.advice())];
    if let FilesError::ChooseFile { files } = error {
        let size = |file: &files::FileSet| file.bytes.map_or_else(String::new, |bytes| Unit::Gib.text(bytes));
        lines.extend(files.iter().map(|file| format!("  {:12} {:>10}  {}", file.recipe, size(file), file.path)));
    }
    lines.join("\n")
}

/// The disk of this machine.
struct Machine;

impl Disk for Machine {
    fn size(&self, path: &str) -> Option<u64> {
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    async fn read(&self, path: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(at))?;
            let mut out = Vec::new();
            file.take(bytes).read_to_end(&mut out)?;
            Ok(out)
        };
        read().map_err(|error: std::io::Error| error.to_string())
    }
}
