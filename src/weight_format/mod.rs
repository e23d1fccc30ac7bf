//! Formats of weights as data: what a quantised matrix is stored as, which matrices a format takes, what it is called.
//!
//! [`Scheme`] is the layout, [`NAMED`] the table of formats with a name, [`Mix`] a file type of llama.cpp (a recipe, not a number),
//! [`Weights`] what one can ask for. Nothing here knows a model: what a config says of its formats is read by [`crate::config`] and
//! kept in [`crate::model::Quantization`], and which tensor of a model gets what is decided in [`crate::weights`].

mod method;
mod mix;
mod scheme;
mod table;

use std::borrow::Cow;
use std::str::FromStr;

use crate::encoding::Encoding;
use crate::quantity::Decimal;
pub use method::Method;
pub use mix::{Category, Facts, Mix};
pub use scheme::{Along, Group, Part, Scheme, Takes};
pub use table::{NAMED, Named, hqq_bits};

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

/// The text names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not a weight format{near}; `vramfit formats` lists all of them")]
pub struct UnknownFormat {
    input: String,
    near: String,
}

impl Weights {
    /// Every format; open ones with a usual number.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = PLAIN.into_iter().map(Self::Plain);
        let schemes = NAMED.iter().map(|row| Self::Scheme(row, row.scheme.bits));
        std::iter::once(Self::AsStored).chain(plain).chain(schemes).chain(Mix::all().map(Self::Mix)).chain([Self::Bytes(Decimal::new(1, 0))])
    }

    /// Its name without the number that follows the `-` at the end of open ones: `awq-int4`, `exl2-`, `bytes-`.
    pub fn stem(self) -> &'static str {
        match self {
            Self::AsStored => "as-stored",
            Self::Plain(dtype) => dtype.flag.unwrap_or(dtype.name),
            Self::Scheme(row, _) => row.name,
            Self::Mix(mix) => mix.name,
            Self::Bytes(_) => "bytes-",
        }
    }

    /// The number of an open format: bits of a weight, or bytes of a parameter.
    pub fn number(self) -> Option<Decimal> {
        match self {
            Self::Scheme(row, number) if row.is_open() => Some(number),
            Self::Bytes(number) => Some(number),
            _ => None,
        }
    }

    /// The same with another number, for open formats.
    #[must_use]
    pub fn with_number(self, number: Decimal) -> Self {
        match self {
            Self::Scheme(row, _) if row.is_open() => Self::Scheme(row, number),
            Self::Bytes(_) => Self::Bytes(number),
            other => other,
        }
    }

    /// Its name on the command line, in links and in JSON; what [`FromStr`] reads.
    pub fn name(self) -> Cow<'static, str> {
        match self.number() {
            Some(number) => format!("{}{number}", self.stem()).into(),
            None => self.stem().into(),
        }
    }

    /// Its name for people.
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::AsStored => "As stored".into(),
            Self::Plain(_) | Self::Mix(_) => self.stem().to_uppercase().into(),
            Self::Scheme(..) => self.scheme().map_or_else(Default::default, |scheme| scheme.to_string()).into(),
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

    /// What kind of format it is, for people.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::AsStored => "As the files or config.json say",
            Self::Plain(_) => "Plain dtypes",
            Self::Scheme(..) => "Quantised",
            Self::Mix(_) => "llama.cpp file types",
            Self::Bytes(_) => "Your own",
        }
    }

    /// Bits of a weight of a large matrix with its share of scales: `4.156`. Of llama.cpp's file types those of the type that most
    /// matrices get.
    pub fn bits_per_weight(self) -> Option<String> {
        /// Rows and columns of a large matrix.
        const SIDE: u64 = 8192;
        match self {
            Self::AsStored => None,
            Self::Plain(dtype) => Some(dtype.bits()),
            Self::Mix(mix) => Some(mix.default_type().bits()),
            Self::Bytes(bytes) => Decimal::ratio(bytes.parts().0.checked_mul(8)?, bytes.parts().1).map(|bits| bits.to_string()),
            Self::Scheme(..) => {
                let bytes = self.scheme()?.bytes(SIDE, SIDE).ok()?.get();
                Decimal::ratio((bytes * 8 * 1000 + SIDE * SIDE / 2) / (SIDE * SIDE), 1000).map(|bits| bits.to_string())
            }
        }
    }

    /// What a matrix consists of, for people: blocks and bytes of types, codes and scales of schemes.
    pub fn layout(self) -> String {
        let block = |encoding: Encoding| format!("{} ({} in {} B)", encoding.name, encoding.block_elements, encoding.block_bytes);
        match self {
            Self::AsStored | Self::Bytes(_) => String::new(),
            Self::Plain(dtype) => block(dtype),
            Self::Scheme(..) => self.scheme().map_or_else(String::new, |scheme| scheme.layout()),
            Self::Mix(mix) => mix.types().into_iter().map(block).collect::<Vec<_>>().join(", "),
        }
    }

    /// The matrices that it takes and those that it leaves as they were, for people.
    pub fn takes(self) -> (String, String) {
        match self {
            Self::Scheme(row, _) => row.scheme.takes.said(),
            Self::Mix(_) => ("text model, embedding, head".to_owned(), "norms, biases, routers (float32), towers (another file)".to_owned()),
            Self::AsStored | Self::Plain(_) | Self::Bytes(_) => ("everything".to_owned(), String::new()),
        }
    }

    /// Where its layout was read, for formats that have one.
    pub const fn source(self) -> Option<&'static str> {
        match self {
            Self::Scheme(row, _) => Some(row.source),
            Self::Mix(_) => Some(mix::SOURCE),
            Self::AsStored | Self::Plain(_) | Self::Bytes(_) => None,
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
        // A file type is said by nothing else. The longest counts: `q2_k_s` holds `q2_k`.
        let mix = Mix::all().filter(|mix| has(mix.name)).max_by_key(|mix| mix.name.len()).map(Self::Mix);
        mix.map(|format| (format, format.stem())).or_else(|| {
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

impl FromStr for Weights {
    type Err = UnknownFormat;

    /// Case and the difference between `-` and `_` do not matter.
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let plain = |name: &str| name.trim().to_ascii_lowercase().replace('_', "-");
        let asked = plain(text);
        let is_positive = |number: &Decimal| *number != Decimal::new(0, 0);
        let is_asked = |format: Self| {
            let stem = plain(format.stem());
            match format.number() {
                Some(_) => asked.strip_prefix(&stem)?.parse().ok().filter(is_positive).map(|number| format.with_number(number)),
                None => (stem == asked).then_some(format),
            }
        };
        Self::all().find_map(is_asked).ok_or_else(|| {
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
        let lists_numbers: Vec<_> = all.iter().filter(|format| format.number().is_some()).map(|format| format.stem()).collect();
        assert_eq!(lists_numbers, ["exl2-", "exl3-", "bytes-"]);
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
            ("Llama-3.2-1B-Q2_K_S.gguf", "q2_k_s"),
            ("Llama_3.2_1B_Q2_K.gguf", "q2_k"),
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
