//! What the names of GGUF files say: parts of a split file, and the recipe of quantisation.
//!
//! Parts: llama.cpp 0c1e57098, `src/llama.cpp` (`llama_split_path`, `"%s-%05d-of-%05d.gguf"`). Recipes: `tools/quantize/quantize.cpp`
//! (`QUANT_OPTIONS`) and the mixes `UD-*` and `*_XL`, `*_L` that publishers name after them.

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

/// Whether a file is beside a model: the encoders of images and sound (`mmproj`), importance matrices.
pub fn is_beside(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    base.contains("mmproj") || base.contains("imatrix")
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
