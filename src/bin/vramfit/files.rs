//! Models in files of this machine.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use vramfit::files::{self, Bases, Disk, FilesError, Named};
use vramfit::format::Unit;
use vramfit::model::Model;

/// Files that name the parts of a folder.
const NAMING: &[&str] = &["model_index.json", "adapter_config.json", "modules.json"];

/// How deep parts lie below the folder, and how many files are looked at.
const DEEPEST: usize = 2;
const MOST_FILES: usize = 100_000;

/// A folder, or files that make one model. `quant_config` is the file that describes the quantisation where config.json does not;
/// `bases` opens what an adapter was made for.
pub fn open<B: Bases>(paths: &[String], quant_config: Option<&Path>, bases: &B) -> Result<Model, String> {
    let is_folder = |path: &String| Path::new(path).is_dir();
    let opened = match paths {
        [folder] if is_folder(folder) => open_folder(folder, quant_config, bases),
        [file] if NAMING.iter().any(|name| Path::new(file).file_name().is_some_and(|file| file == *name)) => {
            let folder = Path::new(file).parent().map_or("", |folder| folder.to_str().unwrap_or_default());
            open_folder(if folder.is_empty() { "." } else { folder }, quant_config, bases)
        }
        paths => match paths.iter().find(|path| is_folder(path)) {
            Some(folder) => return Err(format!("`{folder}`: a folder stands for itself: name nothing beside it")),
            None => open_named(Named::Files(paths), quant_config, bases),
        },
    };
    opened.map_err(|error| said(&error))
}

/// A folder.
pub fn open_folder<B: Bases>(folder: &str, quant_config: Option<&Path>, bases: &B) -> Result<Model, FilesError> {
    let path = folder.trim_end_matches('/');
    let mut files = Vec::new();
    list(path, DEEPEST, MOST_FILES, &mut files).map_err(|error| FilesError::Unreadable { path: folder.to_owned(), why: error.to_string() })?;
    files.sort();
    open_named(Named::Folder { path, files: &files }, quant_config, bases)
}

fn open_named<B: Bases>(named: Named<'_>, quant_config: Option<&Path>, bases: &B) -> Result<Model, FilesError> {
    let quant_config = quant_config.map(|path| path.to_string_lossy().into_owned());
    pollster::block_on(files::open(&Machine, named, quant_config.as_deref(), bases, &|_| ())).map(|opened| opened.model)
}

/// Paths of at most so many files of a folder: its own, then those of the folders in it that can be read.
fn list(folder: &str, depth: usize, most: usize, files: &mut Vec<String>) -> std::io::Result<()> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{folder}/{name}");
        // Caches of the Hub have links to files.
        if entry.path().is_dir() {
            folders.push(path);
        } else if files.len() < most {
            files.push(path);
        }
    }
    if depth > 1 {
        folders.sort();
        for folder in folders {
            // A folder in it may be closed to the user, and have nothing of the model.
            _ = list(&folder, depth - 1, most, files);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_its_own_files_first_and_what_else_can_be_read() {
        let folder = std::env::temp_dir().join(format!("vramfit-{}-list", std::process::id()));
        for name in ["a", "closed"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["a/1", "a/2", "a/3", "y", "z"] {
            std::fs::write(folder.join(name), b"").unwrap();
        }
        #[cfg(unix)]
        std::fs::set_permissions(folder.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        let path = folder.to_str().unwrap();
        let listed = |depth, most| {
            let mut files = Vec::new();
            list(path, depth, most, &mut files).map(|()| {
                files.sort();
                files.iter().map(|file| file[path.len() + 1..].to_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(listed(2, 100).unwrap(), ["a/1", "a/2", "a/3", "y", "z"]);
        assert_eq!(listed(2, 2).unwrap(), ["y", "z"]);
        assert_eq!(listed(1, 100).unwrap(), ["y", "z"]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(listed(2, 100).is_err(), "the folder that was named is to be readable");
    }
}
