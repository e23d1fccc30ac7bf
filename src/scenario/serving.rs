//! Settings of serving engines.

use std::str::FromStr;
use std::sync::Arc;

use super::UnknownChoice;
use crate::model::Model;
use crate::quantity::{Bytes, Decimal};

/// Settings that some serving engines have; `None` means the engine's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serving {
    /// The version of the engine, whose rules and defaults are used.
    pub runtime_version: Option<Version>,
    /// The share of the card for weights and cache (SGLang).
    pub mem_fraction_static: Option<Decimal>,
    /// The share of every request's tokens that is a prefix common to all of them.
    pub prefix_share: Option<Decimal>,
    /// Weights of each GPU that lie on the host instead.
    pub cpu_offload: Option<Bytes>,
    /// What the host holds of keys and values that leave the GPUs of one replica (`--kv-offloading-size`).
    pub kv_offloading_size: Option<Bytes>,
    /// LoRA adapters that are on the GPU at once.
    pub max_loras: Option<u64>,
    /// The largest rank of an adapter.
    pub max_lora_rank: Option<u64>,
    /// How many of a request's tokens are the answer; the others are the prompt.
    pub answer: Option<u64>,
    /// What keeps keys and values (transformers).
    pub cache: CacheImplementation,
    /// A model that drafts tokens for this one to check.
    pub draft: Option<DraftModel>,
    /// Tokens that are drafted at once; without a draft model by the model's own multi-token-prediction module.
    pub speculative_tokens: Option<u64>,
}

/// A model that drafts tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftModel {
    /// What the user called it: `ORG/NAME` or a path.
    pub name: String,
    /// What it is, once it was read; links have its name only.
    pub model: Option<Arc<Model>>,
}

super::choices! {
    /// What keeps keys and values in transformers (`cache_implementation` of `generate()`).
    #[derive(Default)]
    CacheImplementation, "cache implementation", {
        /// Grown by concatenation.
        #[default]
        Dynamic = "dynamic", "Dynamic";
        /// All of it from the start.
        Static = "static", "Static";
        /// On the host, but for the layer in use and the next.
        Offloaded = "offloaded", "Offloaded to the host";
        /// In 4 bits (quanto's default), but for the last 128 tokens; with an FP8 cache in FP8.
        Quantized = "quantized", "Quantised";
    }
}

/// A version as engines number them: `0.10.2`, `v0.8.5.post1`, `b6123`. What follows the third number is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::str::FromStr for Version {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let unknown = || UnknownChoice { input: text.to_owned(), what: "version", choices: "numbers such as 0.10.2".to_owned() };
        let bare = text.trim();
        let bare = bare.strip_prefix(['v', 'b']).unwrap_or(bare);
        let mut parts = [0; 3];
        let mut count = 0;
        for part in bare.split('.').take(3) {
            let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            if end == 0 {
                break;
            }
            parts[count] = part[..end].parse().map_err(|_| unknown())?;
            count += 1;
            if end < part.len() {
                break;
            }
        }
        if count == 0 { Err(unknown()) } else { Ok(Self(parts[0], parts[1], parts[2])) }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_read_as_engines_write_them() {
        for (text, version) in [
            ("0.10.2", Version(0, 10, 2)),
            ("v0.8.5.post1", Version(0, 8, 5)),
            ("0.14.0rc1.dev2+g7d9f6663a", Version(0, 14, 0)),
            ("0.33", Version(0, 33, 0)),
            ("5", Version(5, 0, 0)),
            ("b6123", Version(6123, 0, 0)),
        ] {
            assert_eq!(text.parse(), Ok(version), "{text}");
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert!(Version(0, 9, 2) < Version(0, 10, 0));
        for bad in ["", "main", "v", ".5", "99999999999"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
