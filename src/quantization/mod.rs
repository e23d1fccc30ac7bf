//! Formats of weights as data: what a quantised matrix is stored as, which matrices a format takes, what it is called.
//!
//! [`Scheme`] is the layout, [`NAMED`] the table of formats with a name, [`Mix`] a file type of llama.cpp (a recipe, not a number),
//! [`Patterns`] a list of exceptions by module name, [`Weights`] what one can ask for. Which tensor of a model gets what is
//! decided in [`crate::weights`].

mod mix;
mod named;
mod pattern;
mod scheme;

use std::borrow::Cow;
use std::str::FromStr;

use crate::encoding::Encoding;
use crate::quantity::Decimal;
pub use mix::{Category, Facts, Mix, SOURCE as MIX_SOURCE};
pub use named::{NAMED, Named, hqq_bits};
pub use pattern::Patterns;
pub use scheme::{Group, Part, Scheme, Takes};

/// The format of the weights that one asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// As the files have them, in the dtype that the runtime loads.
    #[default]
    AsStored,
    /// Everything in one dtype.
    Plain(Encoding),
    /// A quantised format by name, with its bits.
    Scheme(&'static Named, Decimal),
    /// A file type of llama.cpp.
    Mix(Mix),
    /// So many bytes for every parameter, whatever the format.
    Bytes(Decimal),
}

/// The plain dtypes that one can ask for.
const PLAIN: [Encoding; 3] = [Encoding::BF16, Encoding::F16, Encoding::F32];

/// How names of [`Weights::Bytes`] begin: `bytes-0.55`.
const BYTES: &str = "bytes-";

/// The text names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not a weight format{near}; `vramfit formats` lists all of them")]
pub struct UnknownFormat {
    input: String,
    near: String,
}

impl Weights {
    /// Every format with a name; open ones (EXL2, EXL3) with the bits of their row.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = PLAIN.into_iter().map(Self::Plain);
        let schemes = NAMED.iter().map(|row| Self::Scheme(row, row.scheme.bits));
        std::iter::once(Self::AsStored).chain(plain).chain(schemes).chain(Mix::all().map(Self::Mix))
    }

    /// Its name on the command line, in links and in JSON; what [`FromStr`] reads.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::AsStored => "as-stored".into(),
            Self::Plain(dtype) => dtype.flag.unwrap_or(dtype.name).into(),
            Self::Scheme(row, bits) if row.is_open() => row.full_name(bits).into(),
            Self::Scheme(row, _) => row.name.into(),
            Self::Mix(mix) => mix.name.into(),
            Self::Bytes(bytes) => format!("{BYTES}{bytes}").into(),
        }
    }

    /// Its name for people.
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::AsStored => "As stored".into(),
            Self::Plain(_) => self.name().to_uppercase().into(),
            Self::Scheme(..) => self.scheme().map_or_else(Default::default, |scheme| scheme.to_string()).into(),
            Self::Mix(mix) => mix.name.to_uppercase().into(),
            Self::Bytes(bytes) => format!("{bytes} bytes per parameter").into(),
        }
    }

    /// The dtype of everything, for plain formats.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Plain(dtype) => Some(dtype),
            _ => None,
        }
    }

    /// The layout, for quantised formats.
    pub fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Scheme(row, bits) => Some(row.scheme.with_bits(bits)),
            _ => None,
        }
    }

    /// The format that the name of a repository or file says (`Qwen2.5-7B-Instruct-AWQ`, `Llama-3-8B.Q4_K_M.gguf`), with the part
    /// of the name that says it.
    pub fn from_model_name(name: &str) -> Option<(Self, &'static str)> {
        let name = name.to_ascii_lowercase();
        let has = |word: &str| {
            name.match_indices(word).any(|(at, _)| {
                let is_edge = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_ascii_alphanumeric());
                is_edge(name[..at].chars().next_back()) && is_edge(name[at + word.len()..].chars().next())
            })
        };
        // A file type is said by nothing else; longer names first, since `q4_k_m` holds no shorter one as a word of its own.
        let mix = Mix::all().find(|mix| has(mix.name)).map(|mix| (Self::Mix(mix), mix.row_name()));
        mix.or_else(|| {
            let (word, format) = SAID.iter().find(|(word, _)| word.split('+').all(has))?;
            Some((format.parse().ok()?, *word))
        })
    }
}

/// Words in names of repositories (all of those joined by `+`), and the format that they say; the first that fits counts.
const SAID: &[(&str, &str)] = &[
    ("gptq+int8", "gptq-int8"),
    ("gptq+8bit", "gptq-int8"),
    ("gptq+3bit", "gptq-int3"),
    ("gptq", "gptq-int4"),
    ("awq", "awq-int4"),
    ("nvfp4", "nvfp4"),
    ("mxfp4", "mxfp4"),
    ("w4a16", "w4a16"),
    ("w8a8", "w8a8-int8"),
    ("bnb+8bit", "int8"),
    ("bnb+4bit", "nf4-dq"),
    ("hqq", "hqq-4bit"),
    ("mlx+8bit", "mlx-8bit"),
    ("mlx+6bit", "mlx-6bit"),
    ("mlx", "mlx-4bit"),
    ("fp8", "fp8"),
];

impl Mix {
    fn row_name(self) -> &'static str {
        mix::MIXES.iter().find(|row| row.name == self.name).map_or("", |row| row.name)
    }
}

impl FromStr for Weights {
    type Err = UnknownFormat;

    /// Case and the difference between `-` and `_` do not matter.
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let plain = |name: &str| name.trim().to_ascii_lowercase().replace('_', "-");
        let asked = plain(text);
        let number = |prefix: &str| asked.strip_prefix(prefix).and_then(|rest| rest.parse::<Decimal>().ok()).filter(|number| number.parts().0 > 0);
        if let Some(bytes) = number(BYTES) {
            return Ok(Self::Bytes(bytes));
        }
        let open = NAMED.iter().filter(|row| row.is_open()).find_map(|row| Some(Self::Scheme(row, number(row.name)?)));
        let named = || Self::all().find(|format| plain(&format.name()) == asked);
        open.or_else(named).ok_or_else(|| {
            let is_near = |name: &str| !asked.is_empty() && (name.contains(&asked) || asked.contains(name));
            let near: Vec<String> = Self::all().map(|format| format.name().into_owned()).filter(|name| is_near(&plain(name))).take(4).collect();
            let near = if near.is_empty() { String::new() } else { format!(" (near: {})", near.join(", ")) };
            UnknownFormat { input: text.to_owned(), near }
        })
    }
}

impl std::fmt::Display for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_are_single() {
        let all: Vec<Weights> = Weights::all().collect();
        for (index, format) in all.iter().enumerate() {
            assert_eq!(format.name().parse(), Ok(*format));
            assert_eq!(format.name().to_uppercase().replace('-', "_").parse(), Ok(*format));
            assert!(all[..index].iter().all(|before| before.name() != format.name()), "{format}");
        }
        for text in ["exl2-4.65", "exl3-3", "bytes-0.5625"] {
            assert_eq!(text.parse::<Weights>().unwrap().name(), text);
        }
        assert_eq!("exl2-4.65".parse::<Weights>().unwrap().scheme().unwrap().bits, Decimal::new(465, 2));
        for bad in ["", "int5", "exl2-", "exl2-x", "bytes-0", "bytes-", "q9_k"] {
            assert!(bad.parse::<Weights>().is_err(), "{bad}");
        }
        assert_eq!("awq".parse::<Weights>().unwrap_err().to_string(), "`awq` is not a weight format (near: awq-int4); `vramfit formats` lists all of them");
    }

    #[test]
    fn names_of_repositories_say_their_format() {
        for (name, format) in [
            ("Qwen/Qwen2.5-72B-Instruct-AWQ", "awq-int4"),
            ("Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq-int8"),
            ("TheBloke/Llama-2-7B-GPTQ", "gptq-int4"),
            ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "nf4-dq"),
            ("Qwen3-8B-FP8", "fp8"),
            ("llama-2-13b-chat.Q8_0.gguf", "q8_0"),
            ("gemma-3-27b-it-IQ4_XS", "iq4_xs"),
            ("DeepSeek-R1-Q4_K_M-00001-of-00009.gguf", "q4_k_m"),
            ("Llama-3.1-8B-Instruct-quantized.w4a16", "w4a16"),
            ("mlx-community/Qwen3-4B-8bit", "mlx-8bit"),
        ] {
            let name = name.replace("mlx-community/", "mlx-");
            assert_eq!(Weights::from_model_name(&name).map(|(format, _)| format.name()), Some(format.into()), "{name}");
        }
        for name in ["Qwen/Qwen3-8B", "hawq-1", "openai/gpt-oss-20b", ""] {
            assert_eq!(Weights::from_model_name(name), None, "{name}");
        }
    }
}
