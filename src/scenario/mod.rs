//! What the user asks: everything chosen, nothing derived. `None` means "the default of the runtime or the model".

mod parallel;
mod serving;

use std::str::FromStr;

pub use parallel::Parallel;
pub use serving::{Serving, Version};

use crate::encoding::Encoding;
use crate::gpu::{Card, GpuError};
use crate::quantity::{Bytes, Decimal};

/// Everything the user chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The GPU by its name in the catalogue.
    pub gpu: Option<String>,
    /// Usable memory of one GPU; alone it stands for a GPU.
    pub gpu_capacity: Option<Bytes>,
    /// How many GPUs.
    pub gpus: Option<u64>,
    /// Tensor-parallel size.
    pub tensor_parallel: Option<u64>,
    /// The other ways to spread the model.
    pub parallel: Parallel,
    /// Whether it is run or trained.
    pub task: Task,
    /// The engine.
    pub runtime: Runtime,
    /// Tokens per request, prompt and answer together.
    pub context: Option<u64>,
    /// Requests at once.
    pub batch: Option<u64>,
    /// Format of the weights.
    pub weights: Weights,
    /// Format of keys and values.
    pub kv_cache: KvCache,
    /// The share of the card that vLLM may use.
    pub gpu_memory_utilization: Option<Decimal>,
    /// Tokens that one step processes at most.
    pub max_num_batched_tokens: Option<u64>,
    /// Sequences that one step processes at most.
    pub max_num_seqs: Option<u64>,
    /// Without CUDA graphs.
    pub enforce_eager: bool,
    /// Settings that some serving engines have.
    pub serving: Serving,
    /// Settings of training.
    pub training: Training,
    /// How attention is computed where the framework leaves the choice (`attn_implementation` of transformers), serving or training.
    pub attention: AttentionImplementation,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            gpu: Some(Self::DEFAULT_GPU.to_owned()),
            gpu_capacity: None,
            gpus: None,
            tensor_parallel: None,
            parallel: Parallel::default(),
            task: Task::Serve,
            runtime: Runtime::Vllm,
            context: None,
            batch: None,
            weights: Weights::AsStored,
            kv_cache: KvCache::Auto,
            gpu_memory_utilization: None,
            max_num_batched_tokens: None,
            max_num_seqs: None,
            enforce_eager: false,
            serving: Serving::default(),
            training: Training::default(),
            attention: AttentionImplementation::Sdpa,
        }
    }
}

impl Scenario {
    /// The GPU that is chosen when the user has not.
    pub const DEFAULT_GPU: &str = "H100 SXM5 80GB";

    /// The card that is meant.
    pub fn card(&self) -> Result<Card, GpuError> {
        match (&self.gpu, self.gpu_capacity) {
            (Some(name), Some(usable)) => Ok(Card::with_usable(crate::gpu::find(name)?, usable)),
            (Some(name), None) => Ok(Card::of(crate::gpu::find(name)?)),
            (None, Some(usable)) => Ok(Card::custom(usable)),
            (None, None) => Ok(Card::of(crate::gpu::find(Self::DEFAULT_GPU)?)),
        }
    }
}

/// The text names none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not a {what}; it is one of: {choices}")]
pub struct UnknownChoice {
    /// What was typed.
    pub input: String,
    /// What it should be.
    pub what: &'static str,
    /// What there is.
    pub choices: String,
}

/// An enum whose values have one name each, used alike by the command line, links, JSON and the page.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$variant_doc:meta])* $variant:ident = $flag:literal, $label:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every choice.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name on the command line, in links and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $flag,)* }
            }

            /// Its name for people.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }

        impl FromStr for $name {
            type Err = UnknownChoice;

            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                let found = Self::ALL.iter().find(|choice| choice.name().eq_ignore_ascii_case(text.trim()));
                found.copied().ok_or_else(|| UnknownChoice {
                    input: text.to_owned(),
                    what: $what,
                    choices: Self::ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

mod training; // after the macro that it uses

pub use training::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, MixedRecipe, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Schedule,
    Sharding, Targets, Task, Trainable, Training,
};

choices! {
    /// The engines.
    Runtime, "runtime", {
        /// vLLM.
        Vllm = "vllm", "vLLM";
        /// Hugging Face transformers, `generate()`.
        Transformers = "transformers", "transformers";
    }
}

choices! {
    /// Formats of the weights.
    Weights, "weight format", {
        /// As the files have them, in the dtype that the runtime loads.
        AsStored = "as-stored", "As stored";
        /// bfloat16.
        Bf16 = "bf16", "BF16";
        /// IEEE half precision.
        Fp16 = "fp16", "FP16";
        /// IEEE single precision.
        Fp32 = "fp32", "FP32";
        /// 4-bit normal float of bitsandbytes, a float32 scale per 64 values.
        Nf4 = "nf4", "NF4";
        /// The same with quantised scales ("double quantisation").
        Nf4Dq = "nf4-dq", "NF4, double quantised";
    }
}

choices! {
    /// Formats of keys and values.
    KvCache, "KV cache format", {
        /// The model's dtype.
        Auto = "auto", "As the model";
        /// bfloat16.
        Bf16 = "bf16", "BF16";
        /// IEEE half precision.
        Fp16 = "fp16", "FP16";
        /// IEEE single precision.
        Fp32 = "fp32", "FP32";
        /// 8-bit float with one scale per tensor.
        Fp8 = "fp8", "FP8";
    }
}

choices! {
    /// Ways to compute attention.
    AttentionImplementation, "way to compute attention", {
        /// One matrix of scores per head, written out.
        Eager = "eager", "Eager";
        /// PyTorch's fused kernels, the default of transformers.
        Sdpa = "sdpa", "SDPA";
        /// The flash-attention library.
        Flash = "flash", "Flash attention";
    }
}

impl Weights {
    /// The encoding that it names; `None` for "as stored".
    pub fn encoding(self) -> Option<Encoding> {
        Encoding::from_flag(self.name())
    }
}

impl KvCache {
    /// The encoding that it names; `None` for "as the model".
    pub fn encoding(self) -> Option<Encoding> {
        Encoding::from_flag(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for runtime in Runtime::ALL {
            assert_eq!(runtime.name().parse(), Ok(*runtime));
        }
        for weights in Weights::ALL {
            assert_eq!(weights.encoding().is_none(), matches!(weights, Weights::AsStored | Weights::Nf4 | Weights::Nf4Dq));
        }
        for kv_cache in KvCache::ALL {
            assert_eq!(kv_cache.encoding().is_none(), *kv_cache == KvCache::Auto);
        }
        let error = "ollama".parse::<Runtime>().unwrap_err();
        assert_eq!(error.to_string(), "`ollama` is not a runtime; it is one of: vllm, transformers");
    }
}
