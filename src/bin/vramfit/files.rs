//! Models in files of this machine.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use vramfit::files::{self, Bases, Disk, FilesError, Named};
use vramfit::format::Unit;
use vramfit::model::Model;

/// Files that name the parts of a folder.
const NAMING: &[&str] = &["model_index.json", "adapter_config.json", "modules.json"];

/// How the Hub's cache begins the names of folders of models.
const CACHED: &str = "models--";

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
    // The root stands as `/.`, since names are put behind a slash.
    let path = snapshot(Some(folder.trim_end_matches('/')).filter(|path| !path.is_empty()).unwrap_or("/."))?;
    let mut files = Vec::new();
    list(&path, DEEPEST, MOST_FILES, &mut files).map_err(|error| FilesError::Unreadable { path: folder.to_owned(), why: error.to_string() })?;
    files.sort();
    let mut model = open_named(Named::Folder { path: &path, files: &files }, quant_config, bases)?;
    if let Some((id, commit)) = cached(&path) {
        (model.provenance.id, model.provenance.revision) = (Some(id), Some(commit));
    }
    Ok(model)
}

/// The folder of files behind a folder: of a repository in the Hub's cache (`models--ORG--NAME`) the snapshot of `main`, else the only
/// one; any other folder itself, and one with a config of its own. The layout is `huggingface_hub`'s (`file_download.py`).
fn snapshot(folder: &str) -> Result<String, FilesError> {
    let name = std::path::absolute(folder).ok().and_then(|path| Some(path.file_name()?.to_str()?.starts_with(CACHED)));
    if name != Some(true) || Path::new(folder).join("config.json").exists() {
        return Ok(folder.to_owned());
    }
    let snapshots = format!("{folder}/snapshots");
    let Ok(entries) = std::fs::read_dir(&snapshots) else { return Ok(folder.to_owned()) };
    let commits: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let main = std::fs::read_to_string(format!("{folder}/refs/main")).unwrap_or_default();
    match commits.iter().find(|commit| *commit == main.trim()).or(if let [only] = commits.as_slice() { Some(only) } else { None }) {
        Some(commit) => Ok(format!("{snapshots}/{commit}")),
        None => Err(FilesError::Snapshots(folder.to_owned())),
    }
}

/// The id and the commit that the path of a snapshot in the Hub's cache says.
fn cached(path: &str) -> Option<(String, String)> {
    let path = std::path::absolute(path).ok()?;
    let mut names = path.components().rev().filter_map(|part| part.as_os_str().to_str());
    let (commit, snapshots, repository) = (names.next()?, names.next()?, names.next()?);
    let id = repository.strip_prefix(CACHED)?.replace("--", "/");
    (snapshots == "snapshots").then(|| (id, commit.to_owned()))
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
    fn a_repository_in_the_hubs_cache_is_its_snapshot() {
        let root = std::env::temp_dir().join(format!("vramfit-{}-cache", std::process::id()));
        let _ = std::fs::remove_dir_all(&root); // of a run that was killed
        let folder = root.join("models--org--a-name");
        let path = folder.to_str().unwrap();
        for commit in ["aaa", "bbb"] {
            std::fs::create_dir_all(folder.join("snapshots").join(commit)).unwrap();
        }
        assert_eq!(snapshot(path), Err(FilesError::Snapshots(path.to_owned())));
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "bbb").unwrap();
        let found = snapshot(path).unwrap();
        assert_eq!(cached(&found), Some(("org/a-name".to_owned(), "bbb".to_owned())));
        std::fs::remove_file(folder.join("refs/main")).unwrap();
        std::fs::remove_dir(folder.join("snapshots/bbb")).unwrap();
        assert!(snapshot(path).unwrap().ends_with("snapshots/aaa"));
        std::fs::create_dir_all(folder.join("snapshots/ccc")).unwrap();
        assert!(snapshot(path).is_err());
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        assert_eq!(snapshot(path).as_deref(), Ok(path), "a folder with a config is a model");
        // Training keeps states of its own under such a name.
        let other = root.join("run");
        for step in ["1", "2"] {
            std::fs::create_dir_all(other.join("snapshots").join(step)).unwrap();
        }
        assert_eq!(snapshot(other.to_str().unwrap()).as_deref(), Ok(other.to_str().unwrap()));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!((snapshot("a/b").unwrap().as_str(), cached("a/b/c")), ("a/b", None));
    }

    #[test]
    fn a_folder_has_its_own_files_first_and_what_else_can_be_read() {
        let folder = std::env::temp_dir().join(format!("vramfit-{}-list", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder); // of a run that was killed
        for name in ["a", "closed"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["a/1", "a/2", "a/3", "y", "z"] {
            std::fs::write(folder.join(name), b"").unwrap();
        }
        let close = |mode| {
            #[cfg(unix)]
            std::fs::set_permissions(folder.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        close(0o000);
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
        close(0o700); // only root can remove what nobody may look into
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(listed(2, 100).is_err(), "the folder that was named is to be readable");
    }
}
