//! Settings of llama.cpp and of what is built on it.

use std::str::FromStr;

use super::{KvCache, UnknownChoice};
use crate::quantity::Decimal;

/// Settings of llama.cpp; `None` means its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LlamaCpp {
    /// Layers on the GPUs, the output layer counted first (`--gpu-layers`); all of them by default.
    pub gpu_layers: Option<u64>,
    /// How the layers are shared by the GPUs (`--tensor-split`); by their memory when empty.
    pub tensor_split: Vec<Decimal>,
    /// Layers, from the first, whose experts stay on the host (`--n-cpu-moe`).
    pub cpu_moe_layers: Option<u64>,
    /// Tensors that go elsewhere, by name (`--override-tensor`); the first that fits counts.
    pub overrides: Vec<TensorOverride>,
    /// Tokens that one micro-batch computes (`--ubatch-size`).
    pub ubatch: Option<u64>,
    /// Flash attention.
    pub flash_attention: FlashAttention,
    /// Caches of sliding windows as long as the others (`--swa-full`).
    pub swa_full: bool,
    /// Caches and states of every layer on the host (`--no-kv-offload`).
    pub no_kv_offload: bool,
    /// Sequences at once (`--parallel`), each with a cache of the chosen context.
    pub parallel: Option<u64>,
    /// Format of keys, where it is not that of both.
    pub kv_cache_k: Option<KvCache>,
    /// Format of values, where it is not that of both.
    pub kv_cache_v: Option<KvCache>,
    /// With the file of the towers (`--mmproj`).
    pub mmproj: bool,
}

super::choices! {
    /// Whether flash attention is used.
    #[derive(Default)]
    FlashAttention, "flash attention setting", {
        /// Where every device supports it.
        #[default]
        Auto = "auto", "Where supported";
        /// Always.
        On = "on", "On";
        /// Never.
        Off = "off", "Off";
    }
}

/// Where tensors whose names fit go: `exps=CPU`, `blk\.[0-9]\.=CUDA1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorOverride {
    /// A regular expression, looked for anywhere in a tensor's GGUF name (`blk.3.ffn_up_exps.weight`).
    pub pattern: String,
    /// `None` for the host, else the GPU's number.
    pub device: Option<u64>,
}

impl FromStr for TensorOverride {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let unknown = || UnknownChoice { input: text.to_owned(), what: "tensor override", choices: "PATTERN=CPU, PATTERN=CUDA0, PATTERN=CUDA1 ...".to_owned() };
        let (pattern, device) = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty()).ok_or_else(unknown)?;
        let digits = device.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let device = match device {
            "CPU" => None,
            _ => Some(digits.parse().map_err(|_| unknown())?),
        };
        Ok(Self { pattern: pattern.to_owned(), device })
    }
}

impl std::fmt::Display for TensorOverride {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.device {
            None => write!(f, "{}=CPU", self.pattern),
            Some(device) => write!(f, "{}=GPU{device}", self.pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_as_llama_cpp_writes_them() {
        for (text, pattern, device) in [("exps=CPU", "exps", None), (r"blk\.[0-9]\.=CUDA1", r"blk\.[0-9]\.", Some(1)), ("a=b=Vulkan0", "a=b", Some(0))] {
            let read: TensorOverride = text.parse().unwrap();
            assert_eq!((read.pattern.as_str(), read.device), (pattern, device));
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for bad in ["", "exps", "=CPU", "exps=", "exps=GPU"] {
            assert!(bad.parse::<TensorOverride>().is_err(), "{bad}");
        }
    }
}
