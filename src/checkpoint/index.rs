//! `model.safetensors.index.json`: which file holds which tensor. Only the names of the files matter here.
//!
//! Memory: the names that differ, whatever the number of tensors; the text is the caller's.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// What is wrong with an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is not the JSON that it should be.
    #[error("this is not a valid index: {0}")]
    NotJson(String),
    /// A file is named that is not below the index's folder.
    #[error("the index names the file `{0}`, which is not in its folder")]
    OutsideFolder(String),
}

/// The weight files that an index names, in order; `None` for JSON that is no index (it has no `weight_map`).
///
/// # Errors
/// [`IndexError`] when the text is not JSON, or names files outside of the index's folder.
pub fn weight_files(json: &str) -> Result<Option<BTreeSet<String>>, IndexError> {
    let index: Index = serde_json::from_str(json).map_err(|error| IndexError::NotJson(super::quotable(&error.to_string())))?;
    let Some(Names(names)) = index.weight_map else { return Ok(None) };
    let leaves = |name: &&String| name.starts_with('/') || name.contains(['\\', ':']) || name.split('/').any(|part| part.is_empty() || part == "..");
    match names.iter().find(leaves) {
        Some(name) => Err(IndexError::OutsideFolder(super::quotable(name))),
        None => Ok(Some(names)),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: Option<Names>,
}

struct Names(BTreeSet<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensors to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeSet::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let name: String = map.next_value()?;
                    names.insert(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_map(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_files_once() {
        let index = r#"{"metadata": {"total_size": 12}, "weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors",
            "c": "model-00002-of-00002.safetensors"}}"#;
        let names = weight_files(index).unwrap().unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        assert_eq!(weight_files(r#"{"model_type": "llama"}"#), Ok(None));
    }

    #[test]
    fn what_is_no_index_is_said() {
        for name in ["../x", "/etc/x", "a/../../x", "c:\\x", ""] {
            let index = serde_json::json!({"weight_map": {"a": name}}).to_string();
            assert!(matches!(weight_files(&index), Err(IndexError::OutsideFolder(_))), "{name}");
        }
        for json in ["[1]", "{", r#"{"weight_map": [1]}"#, r#"{"weight_map": {"a": 1}}"#] {
            assert!(matches!(weight_files(json), Err(IndexError::NotJson(_))), "{json}");
        }
    }
}
