//! What the user asks: everything chosen, nothing derived. `None` means "the default of the runtime or the model".

mod llama_cpp;
mod parallel;
mod picture;
mod serving;
mod training;

use std::borrow::Cow;
use std::str::FromStr;

pub use parallel::Parallel;
pub use picture::Picture;
pub use serving::{CacheImplementation, DraftModel, Serving, Version};

use crate::encoding::Encoding;
use crate::gpu::{self, Card, GpuError};
use crate::quantity::{Bytes, Decimal};
pub use crate::weight_format::Weights;
pub use llama_cpp::{FlashAttention, LlamaCpp, TensorOverride};

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
    /// The share of the card that vLLM, TensorRT-LLM or TGI may use.
    pub gpu_memory_utilization: Option<Decimal>,
    /// Tokens that one step processes at most.
    pub max_num_batched_tokens: Option<u64>,
    /// Sequences that one step processes at most.
    pub max_num_seqs: Option<u64>,
    /// Without CUDA graphs.
    pub enforce_eager: bool,
    /// Settings of llama.cpp.
    pub llama_cpp: LlamaCpp,
    /// Settings that some serving engines have.
    pub serving: Serving,
    /// Settings of training.
    pub training: Training,
    /// How attention is computed where the framework leaves the choice (`attn_implementation` of transformers), serving or training.
    pub attention: AttentionImplementation,
    /// What an image or video pipeline makes.
    pub picture: Picture,
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
            llama_cpp: LlamaCpp::default(),
            serving: Serving::default(),
            training: Training::default(),
            attention: AttentionImplementation::Sdpa,
            picture: Picture::default(),
        }
    }
}

impl Scenario {
    /// The GPU that is chosen when the user has not.
    pub const DEFAULT_GPU: &str = "H100 SXM5 80GB";

    /// The length of what is read: a request's context, or a sequence to train on.
    pub fn length(&self) -> Option<u64> {
        match self.task {
            Task::Serve => self.context,
            Task::Train => self.training.seq_len,
        }
    }

    /// The same, to change it.
    pub fn length_mut(&mut self) -> &mut Option<u64> {
        match self.task {
            Task::Serve => &mut self.context,
            Task::Train => &mut self.training.seq_len,
        }
    }

    /// How many of them at once: requests, or the sequences of a micro-batch.
    pub fn count(&self) -> Option<u64> {
        match self.task {
            Task::Serve => self.batch,
            Task::Train => self.training.micro_batch,
        }
    }

    /// The same, to change it.
    pub fn count_mut(&mut self) -> &mut Option<u64> {
        match self.task {
            Task::Serve => &mut self.batch,
            Task::Train => &mut self.training.micro_batch,
        }
    }

    /// The card that is meant, by the table's name ([`Self::with_table_gpus`]); the first where several are named.
    pub fn card(&self) -> Result<Card, GpuError> {
        self.card_named(self.gpu_names().next())
    }

    /// The cards that are named, `GeForce RTX 3090,GeForce RTX 4060 Ti 16GB` for two unlike ones; one where only its size is given.
    pub fn cards(&self) -> Result<Vec<Card>, GpuError> {
        let named: Vec<Card> = self.gpu_names().map(|name| self.card_named(Some(name))).collect::<Result<_, _>>()?;
        if named.is_empty() { Ok(vec![self.card_named(None)?]) } else { Ok(named) }
    }

    /// Whether its GPUs go by the table's own names.
    pub fn has_table_gpus(&self) -> bool {
        self.gpu_names().all(|name| gpu::exact(name).is_some())
    }

    /// The scenario with its GPUs by the table's names, whatever they were called; and what is worth saying of that.
    ///
    /// # Errors
    /// [`GpuError`] of the first name that is not one card's.
    pub fn with_table_gpus(&self) -> Result<(Cow<'_, Self>, Vec<String>), GpuError> {
        if self.has_table_gpus() {
            return Ok((Cow::Borrowed(self), Vec::new()));
        }
        let mut said = Vec::new();
        let mut named = Vec::new();
        for name in self.gpu_names() {
            let card = gpu::named(name)?;
            // Once, and not where its memory is given.
            said.extend(gpu::unsaid_size(name, card).filter(|new| self.gpu_capacity.is_none() && !said.contains(new)));
            named.push(card.name);
        }
        Ok((Cow::Owned(Self { gpu: Some(named.join(",")), ..self.clone() }), said))
    }

    fn gpu_names(&self) -> impl Iterator<Item = &str> {
        self.gpu.iter().flat_map(|names| names.split(','))
    }

    fn card_named(&self, name: Option<&str>) -> Result<Card, GpuError> {
        let of = |name: &str| gpu::exact(name).ok_or_else(|| GpuError::Unknown { input: name.to_owned(), nearest: Vec::new() });
        match (name, self.gpu_capacity) {
            (Some(name), Some(usable)) => Ok(Card::with_usable(of(name)?, usable)),
            (Some(name), None) => Ok(Card::of(of(name)?)),
            (None, Some(usable)) => Ok(Card::custom(usable)),
            (None, None) => Ok(Card::of(of(Self::DEFAULT_GPU)?)),
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

            /// The name and the label of every choice.
            pub const OPTIONS: &[(&str, &str)] = &[$(($flag, $label)),*];

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

use choices;

pub use training::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, MixedRecipe, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Schedule,
    Sharding, Targets, Task, Trainable, Trainer, Training,
};

choices! {
    /// The engines.
    Runtime, "runtime", {
        /// vLLM.
        Vllm = "vllm", "vLLM";
        /// SGLang.
        Sglang = "sglang", "SGLang";
        /// TensorRT-LLM.
        TensorRtLlm = "tensorrt-llm", "TensorRT-LLM";
        /// Text Generation Inference.
        Tgi = "tgi", "TGI";
        /// Hugging Face transformers, `generate()`.
        Transformers = "transformers", "transformers";
        /// llama.cpp: its library, server and command-line tools.
        LlamaCpp = "llama.cpp", "llama.cpp";
        /// Ollama.
        Ollama = "ollama", "Ollama";
        /// LM Studio with its llama.cpp engine.
        LmStudio = "lmstudio", "LM Studio";
        /// MLX on Apple's unified memory.
        Mlx = "mlx", "MLX";
    }
}

choices! {
    /// Formats of keys and values.
    KvCache, "KV cache format", {
        /// The model's dtype.
        Auto = "auto", "Automatic";
        /// bfloat16.
        Bf16 = "bf16", "BF16";
        /// IEEE half precision.
        Fp16 = "fp16", "FP16";
        /// IEEE single precision.
        Fp32 = "fp32", "FP32";
        /// 8-bit float with one scale per tensor.
        Fp8 = "fp8", "FP8";
        /// 8-bit integers with a scale for 32 (llama.cpp).
        Q8_0 = "q8_0", "Q8_0";
        /// 5-bit integers with a scale and a minimum for 32 (llama.cpp).
        Q5_1 = "q5_1", "Q5_1";
        /// 5-bit integers with a scale for 32 (llama.cpp).
        Q5_0 = "q5_0", "Q5_0";
        /// 4-bit integers with a scale and a minimum for 32 (llama.cpp).
        Q4_1 = "q4_1", "Q4_1";
        /// 4-bit integers with a scale for 32 (llama.cpp).
        Q4_0 = "q4_0", "Q4_0";
        /// 4-bit integers off a curve with a scale for 32 (llama.cpp).
        Iq4Nl = "iq4_nl", "IQ4_NL";
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

impl KvCache {
    /// True for ggml's blocks, which only llama.cpp and what is built on it have.
    pub fn is_ggml(self) -> bool {
        self.encoding().is_some_and(|encoding| encoding.block_elements > 1)
    }

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
        for kv_cache in KvCache::ALL {
            assert_eq!(kv_cache.encoding().is_none(), *kv_cache == KvCache::Auto);
        }
        let error = "exllama".parse::<Runtime>().unwrap_err();
        let all = "vllm, sglang, tensorrt-llm, tgi, transformers, llama.cpp, ollama, lmstudio, mlx";
        assert_eq!(error.to_string(), format!("`exllama` is not a runtime; it is one of: {all}"));
    }
}
