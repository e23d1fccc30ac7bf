//! How each engine spends memory. An engine is one file that answers for its own rules, with the version they were read from.

pub(crate) mod across;
mod asked;
mod common;
mod diffusers;
mod draft;
pub(crate) mod host_tier;
mod images;
mod llama_cpp;
pub(crate) mod loads;
mod mlx;
mod mxfp4;
mod parallel;
mod pile;
pub(crate) mod sdpa;
mod settings;
mod setup;
mod sglang;
mod tensorrt_llm;
mod tgi;
mod transformers;
mod vllm;

use across::ReadAcross;
pub use draft::Draft;
pub(crate) use parallel::even_stages;
pub use parallel::{Place, Spread, Way};
pub use settings::{Setting, set_aside, settings};
pub(crate) use settings::{check, suits};
pub(crate) use setup::Choices;
pub use setup::{Chosen, DEFAULT_CONTEXT, MAX_COUNT, Setup};

use crate::encoding::Encoding;
use crate::estimate::{Budget, Capacity, Entry, Estimate, Ledger, Stage, Term};
use crate::gpu::{Card, GpuError};
use crate::model::{ComponentKind, Model};
use crate::quantity::{Bytes, Decimal, Overflow};
use crate::scenario::{Runtime, Scenario, Version};
use crate::weights::Store;

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EstimateError {
    /// The GPU's name is not known.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A number left its range.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A setting is out of its range.
    #[error("{what} is {value}; {must}")]
    OutOfRange {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: std::borrow::Cow<'static, str>,
    },
    /// The engine does not do this.
    #[error("{0}")]
    Unsupported(String),
}

/// How an engine lays out the tensors that it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are, one after the other.
    Tight,
    /// In blocks of PyTorch's allocator, with projections of one input fused into one matrix.
    Fused,
}

/// The settings that say what share of the card an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraction {
    /// `gpu_memory_utilization`: of the card.
    Utilization,
    /// `mem_fraction_static`: of what is free at the start.
    Static,
    /// `free_gpu_memory_fraction`: of what is free once the model is loaded.
    Free,
    /// `cuda_memory_fraction`: of the card, of which a tenth stays free.
    Cuda,
}

impl Fraction {
    /// The setting's name.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Utilization => "gpu_memory_utilization",
            Self::Static => "mem_fraction_static",
            Self::Free => "free_gpu_memory_fraction",
            Self::Cuda => "cuda_memory_fraction",
        }
    }

    /// What the user chose for it.
    const fn chosen(self, scenario: &Scenario) -> Option<Decimal> {
        match self {
            Self::Utilization | Self::Free | Self::Cuda => scenario.gpu_memory_utilization,
            Self::Static => scenario.serving.mem_fraction_static,
        }
    }
}

/// What an engine's defaults depend on.
pub struct Known<'a> {
    /// The model.
    pub model: &'a Model,
    /// What was asked.
    pub scenario: &'a Scenario,
    /// One card.
    pub card: &'a Card,
    /// How the model is spread.
    pub spread: &'a Spread,
    /// The version.
    pub version: Version,
    /// Tokens per request.
    pub context: u64,
}

/// Settings that an engine fills in; `None` where it has no such setting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// The share of the card that it takes.
    pub utilization: Option<Decimal>,
    /// Tokens that one step processes at most.
    pub step_tokens: Option<u64>,
    /// Sequences that one step processes at most.
    pub step_sequences: Option<u64>,
}

/// How tensor parallelism splits what an engine loads.
#[derive(Clone, Copy, Debug)]
pub struct ShardRules {
    /// The vocabulary is padded to a multiple of this before it is split.
    pub vocabulary_padding: u64,
    /// Whether the embedding is split over the ranks (else every rank holds it whole).
    pub splits_embedding: bool,
    /// How tensors lie in memory.
    pub packing: Packing,
    /// Where the rules were read.
    pub source: &'static str,
}

impl ShardRules {
    /// Of servers with kernels of their own: all but norms and routers is split, and lies in fused matrices.
    const fn of_server(vocabulary_padding: u64, source: &'static str) -> Self {
        Self { vocabulary_padding, splits_embedding: true, packing: Packing::Fused, source }
    }
}

/// What is known of an engine before it computes anything.
#[derive(Debug)]
pub struct Facts {
    /// Its name.
    pub label: &'static str,
    /// The setting that says what share of the card it takes; `None` when it takes what it needs.
    pub fraction: Option<Fraction>,
    /// The ways to spread a model that it has besides tensor parallelism.
    pub ways: &'static [Way],
}

/// What an answer is computed by: the engine, how formats store weights, what decoders read across.
pub(crate) type Rules = (&'static dyn Engine, Store, ReadAcross);

/// An engine's rules.
pub trait Engine: Sync {
    /// What is known of it before it computes anything.
    fn facts(&self) -> &'static Facts;

    /// Its name.
    fn label(&self) -> &'static str {
        self.facts().label
    }

    /// The newest version whose rules are known: the default.
    fn newest(&self) -> Version;

    /// The dtype in which it computes a model whose weights say `stored`.
    fn compute_dtype(&self, stored: Encoding) -> Encoding;

    /// What it turns every weight of this model into while loading, unless a dtype is chosen; `None` when it loads them as stored.
    fn unpacks(&self, _model: &Model) -> Option<Encoding> {
        None
    }

    /// What it fills in where the user chooses nothing.
    fn defaults(&self, _known: &Known) -> Defaults {
        Defaults::default()
    }

    /// Whether it puts whole layers on further GPUs unless told otherwise.
    fn places_layers(&self) -> bool {
        false
    }

    /// Whether replicas of a mixture of experts always share the experts.
    fn shares_experts(&self) -> bool {
        false
    }

    /// Whether it counts what vision towers work with.
    fn counts_images(&self) -> bool {
        false
    }

    /// Whether it counts what is read across from a part of this kind.
    fn counts_across(&self, _part: ComponentKind) -> bool {
        false
    }

    /// What to know of how it spreads a model over GPUs where its own way is not followed.
    fn unfollowed(&self, _model: &Model) -> Option<&'static str> {
        None
    }

    /// How many layers each pipeline stage has.
    fn stages(&self, _setup: &Setup, layers: u64, stages: u64) -> Vec<u64> {
        parallel::even_stages(layers, stages)
    }

    /// The terms that its cache's room is for.
    fn pooled(&self) -> &'static [Term] {
        &[Term::KvCache, Term::CrossKvCache]
    }

    /// Tokens of a request unless told otherwise, and why; `None` for what most people use.
    fn default_context(&self, _model: &Model) -> Option<(u64, &'static str)> {
        None
    }

    /// The stages of a run, in order.
    fn moments(&self) -> &'static [Stage] {
        Stage::SERVING
    }

    /// What it cannot do, said plainly.
    fn check(&self, setup: &Setup) -> Result<(), EstimateError>;

    /// How it splits weights.
    fn shard_rules(&self) -> ShardRules;

    /// What it keeps on the host besides weights; `None` for nothing that counts.
    fn on_host(&self, _setup: &Setup) -> Result<Option<Entry>, Overflow> {
        Ok(None)
    }

    /// Keys and values of the chosen load on one rank.
    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow>;

    /// Everything but weights, keys and values on one rank.
    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow>;

    /// What it allows itself on one card.
    fn budget(&self, _setup: &Setup, _ledger: &Ledger) -> Result<Option<Budget>, Overflow> {
        Ok(None)
    }

    /// What `room` bytes of cache hold.
    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow>;
}

/// The rules of the engine that runs this model, of which every GPU is alike; `None` for those that share layers and a host
/// ([`whole`]). Pipelines have an engine of their own.
pub fn engine(model: &Model, runtime: Runtime) -> Option<&'static dyn Engine> {
    match runtime {
        _ if model.is_pipeline() => Some(&diffusers::Diffusers),
        Runtime::Sglang => Some(&sglang::Sglang),
        Runtime::TensorRtLlm => Some(&tensorrt_llm::TensorRtLlm),
        Runtime::Tgi => Some(&tgi::Tgi),
        Runtime::Transformers => Some(&transformers::Transformers),
        Runtime::Vllm => Some(&vllm::WHOLE),
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio | Runtime::Mlx => None,
    }
}

/// The same of the engine that most people ask about; `None` for the others.
pub fn common_engine(model: &Model, runtime: Runtime) -> Option<&'static dyn Engine> {
    match runtime {
        _ if model.is_pipeline() => None,
        Runtime::Vllm => Some(&vllm::COMMON),
        _ => None,
    }
}

/// What is known of an engine of which every GPU is alike; `None` for the others.
pub const fn facts(runtime: Runtime) -> Option<&'static Facts> {
    match runtime {
        Runtime::Vllm => Some(&vllm::FACTS),
        Runtime::Sglang => Some(&sglang::FACTS),
        Runtime::TensorRtLlm => Some(&tensorrt_llm::FACTS),
        Runtime::Tgi => Some(&tgi::FACTS),
        Runtime::Transformers => Some(&transformers::FACTS),
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio | Runtime::Mlx => None,
    }
}

/// The answer of an engine that shares layers by devices and the host, or has one memory for all; `None` for the others.
///
/// # Errors
/// As [`crate::memory::estimate`].
pub fn whole(model: &Model, scenario: &Scenario) -> Option<Result<Estimate, EstimateError>> {
    match scenario.runtime {
        _ if model.is_pipeline() => None,
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => Some(llama_cpp::estimate(model, scenario)),
        Runtime::Mlx => Some(mlx::estimate(model, scenario)),
        Runtime::Vllm | Runtime::Sglang | Runtime::TensorRtLlm | Runtime::Tgi | Runtime::Transformers => None,
    }
}

/// The engine's name with the version whose rules are used.
pub fn label(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::LlamaCpp => "llama.cpp (late 2026)",
        Runtime::Ollama => "Ollama (llama.cpp)",
        Runtime::LmStudio => "LM Studio (llama.cpp)",
        Runtime::Mlx => mlx::LABEL,
        Runtime::Vllm | Runtime::Sglang | Runtime::TensorRtLlm | Runtime::Tgi | Runtime::Transformers => facts(runtime).map_or("", |facts| facts.label),
    }
}
