//! Files and folders that the browser was given.

use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use vramfit::files::Disk;
use vramfit::reader::Picked;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::File;

use super::transport::{call, get};

/// The most files that are looked at: more than any model has.
const MOST: usize = 10_000;

/// How deep the parts of a model lie below its folder.
const DEEPEST: usize = 2;

/// Files by path.
pub struct Given(Vec<(String, File)>);

impl Disk for Given {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a whole number below 2^53
    fn size(&self, path: &str) -> Option<u64> {
        self.find(path).map(|file| file.size() as u64)
    }

    #[allow(clippy::cast_precision_loss)] // places in files are below 2^53
    async fn read(&self, path: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
        let refused = |_: JsValue| "the browser does not get its bytes (it may have been moved or changed)".to_owned();
        let file = self.find(path).ok_or("it is not among the files")?;
        let slice = file.slice_with_f64_and_f64(at as f64, at.saturating_add(bytes) as f64).map_err(refused)?;
        let buffer = JsFuture::from(slice.array_buffer()).await.map_err(refused)?;
        Ok(Uint8Array::new(&buffer).to_vec())
    }
}

impl Given {
    fn find(&self, path: &str) -> Option<&File> {
        self.0.iter().find(|(known, _)| known == path).map(|(_, file)| file)
    }
}

/// What lies behind files (of a field) and entries (of a drop): the files themselves, and those that lie in folders at once.
pub async fn picked(given: &Array) -> Picked<Given> {
    let mut found = Vec::new();
    for item in given.iter() {
        match item.dyn_into::<File>() {
            Ok(file) => {
                let path = get(&file, "webkitRelativePath").as_string().filter(|path| !path.is_empty()).unwrap_or_else(|| file.name());
                found.push((path, file));
            }
            Err(entry) => walk(entry, &mut found).await,
        }
    }
    found.truncate(MOST);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let files = found.iter().map(|(path, _)| path.clone()).collect();
    Picked { disk: Given(found), files }
}

/// The file of an entry, or the files of a folder's and of the folders in it.
async fn walk(entry: JsValue, found: &mut Vec<(String, File)>) {
    let mut entries = vec![(entry, 0)];
    while let Some((entry, depth)) = entries.pop().filter(|_| found.len() < MOST) {
        if !get(&entry, "isDirectory").is_truthy() {
            let path = get(&entry, "fullPath").as_string().unwrap_or_default();
            if let Some(file) = later(&entry, "file").await.and_then(|file| file.dyn_into::<File>().ok()) {
                found.push((path.trim_start_matches('/').to_owned(), file));
            }
        } else if let (true, Ok(reader)) = (depth <= DEEPEST, call(&entry, "createReader")) {
            // The entries come in portions, the last of which is empty.
            while let Some(inner) = later(&reader, "readEntries").await.map(Array::unchecked_from_js).filter(|inner| inner.length() > 0) {
                entries.extend(inner.iter().map(|entry| (entry, depth + 1)));
            }
        }
    }
}

/// What `object.method(then, otherwise)` hands on; `None` when it fails.
async fn later(object: &JsValue, method: &str) -> Option<JsValue> {
    let function: Function = Reflect::get(object, &method.into()).ok()?.dyn_into().ok()?;
    let promise = Promise::new(&mut |then, otherwise| _ = function.call2(object, &then, &otherwise));
    JsFuture::from(promise).await.ok()
}
