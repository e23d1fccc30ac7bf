//! What the names of GGUF files say: parts of a split file, the recipe of quantisation, and which files there are to choose among.
//!
//! Parts: llama.cpp 0c1e57098, `src/llama.cpp` (`llama_split_path`, `"%s-%05d-of-%05d.gguf"`). Recipes: `tools/quantize/quantize.cpp`
//! (`QUANT_OPTIONS`) and the mixes `UD-*` and `*_XL`, `*_L` that publishers name after them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quantity::Bytes;

/// The most parts that are read; the largest models known have below 100.
const MAX_PARTS: u16 = 2_000;

/// A file that is a part of a split one: `STEM-00001-of-00003.gguf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What stands before the numbers.
    pub stem: &'a str,
    /// The part's number, from 1.
    pub number: u16,
    /// Parts in all.
    pub total: u16,
}

impl<'a> Part<'a> {
    /// The part that a name (or path) says; `None` for a file that is whole.
    pub fn of(name: &'a str) -> Option<Self> {
        let (rest, total) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| text.parse().ok().filter(|_| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()));
        let part = Self { stem, number: digits(number)?, total: digits(total)? };
        ((1..=part.total).contains(&part.number) && part.total <= MAX_PARTS).then_some(part)
    }

    /// The names of all parts, in order.
    pub fn names(self) -> impl Iterator<Item = String> + use<'a> {
        (1..=self.total).map(move |number| format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.total))
    }
}

/// A GGUF file with all its parts, as one chooses it among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSet {
    /// Its path; of a split file, that of the first part.
    pub path: String,
    /// [`recipe`]
    pub recipe: String,
    /// Bytes of all parts; `None` where the size of one is not known, or one is missing.
    pub bytes: Option<Bytes>,
    /// How many parts it has by its name: 1 for a whole file.
    pub parts: u16,
}

impl FileSet {
    /// The sets that files (paths, with sizes where known) make, by path.
    pub fn group<'a>(files: impl IntoIterator<Item = (&'a str, Option<Bytes>)>) -> Vec<Self> {
        let mut sets: BTreeMap<String, (u16, Vec<Option<Bytes>>)> = BTreeMap::new();
        for (path, size) in files {
            let part = Part::of(path);
            let first = part.and_then(|part| part.names().next()).unwrap_or_else(|| path.to_owned());
            sets.entry(first).or_insert_with(|| (part.map_or(1, |part| part.total), Vec::new())).1.push(size);
        }
        let whole = |(path, (parts, sizes)): (String, (u16, Vec<Option<Bytes>>))| {
            let sum = sizes.iter().try_fold(Bytes::ZERO, |sum, size| sum.plus((*size)?).ok());
            Self { recipe: recipe(&path), bytes: sum.filter(|_| sizes.len() == usize::from(parts)), path, parts }
        };
        sets.into_iter().map(whole).collect()
    }

    /// Paths of all parts, in order.
    pub fn files(&self) -> Vec<String> {
        Part::of(&self.path).map_or_else(|| vec![self.path.clone()], |part| part.names().collect())
    }
}

/// Beginnings of recipes' names after which digits follow.
const KINDS: &[&str] = &["IQ", "TQ", "Q", "MXFP", "NVFP", "BF", "F", "FP"];

/// The recipe in the name of a file (`Q4_K_M` of `model.Q4_K_M.gguf`, `UD-Q2_K_XL` of `model-UD-Q2_K_XL.gguf`), in capitals; the
/// whole name without its ending where none is in it. What is stored, only the header says.
pub fn recipe(name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = Part::of(base).map_or_else(|| base.strip_suffix(".gguf").unwrap_or(base), |part| part.stem);
    let is_recipe = |word: &str| {
        let word = word.to_ascii_uppercase();
        KINDS.iter().any(|kind| word.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    let words: Vec<&str> = stem.split(['-', '.']).collect();
    // The last one: names of models may have such words too.
    match words.iter().rposition(|word| is_recipe(word)) {
        Some(at) => {
            let is_dynamic = at > 0 && words[at - 1].eq_ignore_ascii_case("UD");
            format!("{}{}", if is_dynamic { "UD-" } else { "" }, words[at].to_ascii_uppercase())
        }
        None => stem.to_owned(),
    }
}

/// Whether a file has the encoders of images or sound that go beside a model (`mmproj`).
pub fn is_encoder(name: &str) -> bool {
    base_has(name, "mmproj")
}

/// Whether a file is beside a model: encoders, importance matrices.
pub fn is_beside(name: &str) -> bool {
    is_encoder(name) || base_has(name, "imatrix")
}

fn base_has(name: &str, word: &str) -> bool {
    name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase().contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_whole_files() {
        let part = Part::of("Q4_K_M/model-Q4_K_M-00002-of-00003.gguf").unwrap();
        assert_eq!(part, Part { stem: "Q4_K_M/model-Q4_K_M", number: 2, total: 3 });
        assert_eq!(part.names().nth(2).as_deref(), Some("Q4_K_M/model-Q4_K_M-00003-of-00003.gguf"));
        for whole in ["model.gguf", "a-1-of-2.gguf", "a-00000-of-00002.gguf", "a-00003-of-00002.gguf", "a-00001-of-00002.bin", "a-00001-of-60000.gguf"] {
            assert_eq!(Part::of(whole), None, "{whole}");
        }
    }

    #[test]
    fn files_are_grouped_with_their_parts() {
        let files = [("F16/m-F16-00002-of-00002.gguf", Some(Bytes(3))), ("m-Q4_0.gguf", Some(Bytes(5))), ("F16/m-F16-00001-of-00002.gguf", Some(Bytes(4)))];
        let sets = FileSet::group(files);
        let split = FileSet { path: "F16/m-F16-00001-of-00002.gguf".into(), recipe: "F16".into(), bytes: Some(Bytes(7)), parts: 2 };
        let whole = FileSet { path: "m-Q4_0.gguf".into(), recipe: "Q4_0".into(), bytes: Some(Bytes(5)), parts: 1 };
        assert_eq!(sets, [split.clone(), whole.clone()]);
        assert_eq!(split.files(), ["F16/m-F16-00001-of-00002.gguf", "F16/m-F16-00002-of-00002.gguf"]);
        assert_eq!(whole.files(), ["m-Q4_0.gguf"]);
        // A part that is missing leaves the size open, and so does one of unknown size.
        for files in [&files[..2], &[files[0], (files[2].0, None)]] {
            let sets = FileSet::group(files.iter().copied());
            assert_eq!((sets[0].path.as_str(), sets[0].bytes), (split.path.as_str(), None));
        }
    }

    #[test]
    fn names_say_recipes() {
        for (name, expected) in [
            ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
            ("llama-2-7b-chat.Q5_K_S.gguf", "Q5_K_S"),
            ("qwen2.5-7b-instruct-q4_0-00001-of-00002.gguf", "Q4_0"),
            ("UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf", "UD-Q2_K_XL"),
            ("gemma-3-27b-it-IQ4_XS.gguf", "IQ4_XS"),
            ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
            ("model-bf16.gguf", "BF16"),
            ("Qwen3-8B-Q8_0.gguf", "Q8_0"),
            ("mmproj-model-f16.gguf", "F16"),
            ("phi-2.gguf", "phi-2"),
        ] {
            assert_eq!(recipe(name), expected, "{name}");
        }
        assert!(is_beside("a/mmproj-F16.gguf") && !is_beside("model-F16.gguf"));
    }
}
