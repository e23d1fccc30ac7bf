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
mod sglang;
mod tensorrt_llm;
mod tgi;
mod transformers;
mod vllm;

use across::{Across, ReadAcross};
pub use draft::Draft;
pub(crate) use parallel::even_stages;
pub use parallel::{Place, Spread, Way};
pub use settings::{Setting, set_aside, settings};
pub(crate) use settings::{check, suits};

use crate::encoding::Encoding;
use crate::estimate::{Budget, Capacity, Choice, Entry, Estimate, Ledger, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, GpuError};
use crate::model::{Attention, CacheGroup, ComponentKind, LayerRun, Mixer, Model};
use crate::quantity::{Bytes, Decimal, Overflow};
use crate::scenario::{CacheImplementation, Runtime, Scenario, Version, Weights};
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

/// A value with where it came from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The value.
    pub value: u64,
    /// Where it came from.
    pub source: Source,
}

impl Chosen {
    /// As a leaf of a formula.
    pub fn leaf(&self, name: &'static str) -> Expr {
        Expr::leaf(self.value, name, self.source.clone())
    }
}

/// A scenario with every default filled in.
pub struct Setup<'a> {
    /// The model.
    pub model: &'a Model,
    /// What was asked.
    pub scenario: &'a Scenario,
    /// The engine.
    pub engine: &'static dyn Engine,
    /// How weights are stored.
    pub store: Store,
    /// Its version.
    pub version: Version,
    /// One card.
    pub card: Card,
    /// How the model is spread over GPUs.
    pub spread: Spread,
    /// The rank that is computed.
    pub place: Place,
    /// Tokens per request.
    pub context: Chosen,
    /// How many of them are the answer, where the engine has such a rule; else none.
    pub answer: Chosen,
    /// Requests at once, of one replica.
    pub batch: Chosen,
    /// The format of the weights; what "as stored" means where neither files nor config say it.
    pub weights: Weights,
    /// The dtype of computation.
    pub dtype: Encoding,
    /// False when neither the config nor the files say the dtype.
    pub is_dtype_known: bool,
    /// The encoding of keys and values.
    pub kv_encoding: Encoding,
    /// Tokens of one step; the engine's default filled in. The whole load's tokens where the engine has no limit.
    pub step_tokens: Chosen,
    /// Sequences of one step.
    pub step_sequences: Chosen,
    /// The share of the card that the engine takes, for engines that have such a rule.
    pub utilization: Option<(Decimal, Source)>,
    /// What the decoder reads through cross-attention, where the engine counts it.
    pub across: Option<Across<'a>>,
    /// What drafts tokens for the model to check.
    pub draft: Option<Draft<'a>>,
    /// Tokens that it drafts at once; none without.
    pub drafted: Chosen,
    /// Every setting as used.
    pub choices: Vec<Choice>,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// The context that is used when none is chosen.
pub const DEFAULT_CONTEXT: u64 = 8192;

/// Tokens of an answer that are planned for where the user does not say.
const LONGEST_ANSWER: u64 = 2048;

/// The largest context, batch or step that is computed.
pub const MAX_COUNT: u64 = 1 << 40;

impl<'a> Setup<'a> {
    /// Fills in the defaults and checks the ranges; of settings that the engine has ([`check`]).
    pub(crate) fn new((engine, store, read_across): Rules, model: &'a Model, scenario: &'a Scenario) -> Result<Self, EstimateError> {
        let card = scenario.card()?;
        let mut choices = Choices::default();
        let newest = engine.newest();
        let version = scenario.serving.runtime_version.unwrap_or(newest);
        choices.said("runtime", engine.label().to_owned(), model.is_pipeline().then(|| "diffusion pipelines run in diffusers".to_owned()));
        choices.said("runtime_version", version.to_string(), scenario.serving.runtime_version.is_none().then(|| "the newest whose rules are known".to_owned()));
        choices.said("gpu", card.name.clone(), scenario.gpu.is_none().then(|| "none was named".to_owned()));
        let (context, rule) = engine.default_context(model).unwrap_or_else(|| default_context(model, (DEFAULT_CONTEXT, "8,192 tokens")));
        let context = choices.count("context", scenario.context, context, rule, MAX_COUNT)?;
        let answer = if !model.is_pipeline() && settings(scenario.runtime).contains(&Setting::Answer) {
            let default = (context.value / 2).min(LONGEST_ANSWER);
            choices.count("answer_tokens", scenario.serving.answer, default, "half of the context, at most 2,048 tokens", MAX_COUNT)?
        } else {
            Chosen { value: 0, source: Source::Derived("no rule of this engine depends on it".into()) }
        };
        let batch = choices.count("batch", scenario.batch, 1, "one request at a time", MAX_COUNT)?;
        let spread = Spread::new(model, scenario, engine, &mut choices)?;
        parallel::check_ways(&spread, engine.facts().ways, engine.label())?;
        let batch = spread.requests(batch);

        let (stored, is_dtype_known, mut assumptions) = stored_dtype(model);
        let (weights, reason) = crate::weights::meant(model, scenario.weights);
        let unpacked = engine.unpacks(model).filter(|_| weights == Weights::AsStored);
        if let Some(dtype) = unpacked {
            assumptions.push(format!("{} does not keep quantised weights of this file: they are loaded as {dtype}", engine.label()));
        }
        let weights = unpacked.map_or(weights, Weights::Plain);
        let dtype = weights.encoding().unwrap_or_else(|| engine.compute_dtype(stored));
        choices.said("weights", weights.name().into_owned(), reason);
        let kv_encoding = scenario.kv_cache.encoding().unwrap_or(dtype);
        if !model.is_pipeline() {
            choices.said("kv_cache", kv_encoding.to_string(), scenario.kv_cache.encoding().is_none().then(|| "the dtype of computation".to_owned()));
        }

        let load_tokens = context.value.checked_mul(batch.value).ok_or(Overflow)?;
        let defaults = engine.defaults(&Known { model, scenario, card: &card, spread: &spread, version, context: context.value });
        let step_tokens = match defaults.step_tokens {
            Some(default) => {
                choices.count("max_num_batched_tokens", scenario.max_num_batched_tokens, default, "the engine's default for this card", MAX_COUNT)?
            }
            None => Chosen { value: load_tokens, source: Source::Derived("context × requests, prefilled at once".into()) },
        };
        let step_sequences = match defaults.step_sequences {
            Some(default) => {
                choices.count("max_num_seqs", scenario.max_num_seqs, default.min(step_tokens.value), "the engine's default for this card", MAX_COUNT)?
            }
            None => Chosen { value: batch.value, source: batch.source.clone() },
        };
        let utilization = fraction(engine, scenario, defaults.utilization, &mut choices)?;
        assumptions.extend(beyond_maximum(model, context.value));
        if version > newest {
            assumptions.push(format!("{} {version} is newer than the rules here: those of {newest} are used", engine.label()));
        }
        assumptions.extend(card.notes.iter().cloned());
        if settings(scenario.runtime).contains(&Setting::Cache) && !model.is_pipeline() {
            let cache = scenario.serving.cache;
            choices.said("cache_implementation", cache.name().to_owned(), (cache == CacheImplementation::Dynamic).then(|| "what generate() makes".to_owned()));
        }
        let across = read_across(model, engine, (&context, &step_tokens), &mut choices);
        let (draft, drafted) = Draft::of(model, scenario, &mut choices)?;
        let choices = choices.0;
        let setup = Self {
            model,
            scenario,
            engine,
            store,
            version,
            card,
            place: Place { stage: 0, is_first: true, is_last: true, layers: 0..model.decoder().layer_count() },
            spread,
            context,
            answer,
            batch,
            weights,
            dtype,
            is_dtype_known,
            kv_encoding,
            step_tokens,
            step_sequences,
            utilization,
            across,
            draft,
            drafted,
            choices,
            assumptions,
        };
        engine.check(&setup)?;
        Ok(setup)
    }

    /// The places of every pipeline stage.
    pub fn places(&self) -> Vec<Place> {
        let stages = self.engine.stages(self, self.model.decoder().layer_count(), self.spread.pipeline.value);
        Place::of_stages(&stages)
    }

    /// The runs of the decoder's layers on this rank, each with how many of its layers are here.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &LayerRun)> {
        self.model.decoder().runs_in(self.place.layers.clone())
    }

    /// The layers on this rank that keep keys and values, by what they keep; those of the draft are on the last stage.
    pub fn cache_groups(&self) -> Vec<CacheGroup> {
        let mut groups = self.model.decoder().cache_groups_in(self.place.layers.clone());
        groups.extend(self.draft.filter(|_| self.place.is_last).into_iter().flat_map(|draft| draft.layers().cache_groups()));
        groups
    }

    /// KV heads that one rank holds: split over the ranks, but never less than one.
    pub fn rank_kv_heads(&self, attention: &Attention) -> u64 {
        (attention.kv_heads / self.spread.tensor.value).max(1)
    }

    /// Elements that one layer keeps of one token on one rank, as factors: KV heads × (key + value elements). A latent is
    /// whole on every rank.
    pub fn cache_elements(&self, mixer: &Mixer) -> Vec<Expr> {
        match mixer {
            Mixer::Latent(latent) => vec![Expr::Sum(vec![
                Expr::leaf(latent.kv_lora_rank, "kv_lora_rank", Source::Config("kv_lora_rank".into())),
                Expr::leaf(latent.rope_dim, "rotary part", Source::Config("qk_rope_head_dim".into())),
            ])],
            Mixer::Attention(attention) | Mixer::Parallel(attention, _) => {
                let heads = Expr::leaf(self.rank_kv_heads(attention), "KV heads", Source::Config("num_key_value_heads".into()));
                let head_dim = |value| Expr::leaf(value, "head_dim", Source::Config("head_dim, or hidden_size / num_attention_heads".into()));
                if attention.key_dim == attention.value_dim {
                    return vec![Expr::named(2, "(K and V)"), heads, head_dim(attention.key_dim)];
                }
                vec![heads, Expr::Sum(vec![head_dim(attention.key_dim), head_dim(attention.value_dim)])]
            }
            Mixer::Recurrent(_) | Mixer::None => Vec::new(),
        }
    }

    /// Refuses heads or widths that do not divide over the ranks.
    fn check_division(&self, replicates_kv_heads: bool) -> Result<(), EstimateError> {
        let ranks = self.spread.tensor.value;
        // Encoders keep no cache and split their heads all the same.
        for layers in &self.model.decoder().layers {
            let Some(&Attention { heads, kv_heads, .. }) = layers.layer.mixer.attention().filter(|attention| attention.kv_heads > 0) else { continue };
            if !heads.is_multiple_of(ranks) {
                return Err(EstimateError::Unsupported(format!(
                    "{heads} attention heads do not divide over {ranks} GPUs; choose a count that divides {heads}"
                )));
            }
            let replicable = replicates_kv_heads && ranks.is_multiple_of(kv_heads);
            if !kv_heads.is_multiple_of(ranks) && !replicable {
                let label = self.engine.label();
                return Err(EstimateError::Unsupported(format!(
                    "{label} cannot split {kv_heads} KV heads over {ranks} GPUs; choose a count that divides {kv_heads}"
                )));
            }
            // Only vLLM has it (`config/model.py:verify_with_parallel_config`).
            let (alike, queries) = ((ranks / kv_heads).max(1), heads / kv_heads);
            if self.spread.context.value > alike || !queries.is_multiple_of(self.spread.context.value) {
                return Err(EstimateError::Unsupported(format!("choose a context parallelism up to {alike} that divides {queries}")));
            }
        }
        Ok(())
    }
}

/// The context that is used when none is chosen: an engine's default with its rule, at most the model's maximum.
fn default_context(model: &Model, (tokens, rule): (u64, &'static str)) -> (u64, &'static str) {
    match model.anatomy.max_context {
        Some(max) if max <= tokens => (max, "the model's maximum"),
        None if tokens == DEFAULT_CONTEXT => (tokens, "8,192 tokens; the config does not say the model's maximum"),
        _ => (tokens, rule),
    }
}

/// What a context beyond the model's maximum asks for.
fn beyond_maximum(model: &Model, context: u64) -> Option<String> {
    let max = model.anatomy.max_context.filter(|max| context > *max)?;
    let max = crate::format::grouped(max);
    Some(format!("the context is longer than the model's maximum of {max} tokens: it needs a scaled position encoding to work at all"))
}

/// The share of the card that an engine takes, by its own name for it.
fn fraction(engine: &dyn Engine, scenario: &Scenario, default: Option<Decimal>, choices: &mut Choices) -> Result<Option<(Decimal, Source)>, EstimateError> {
    let Some(fraction) = engine.facts().fraction else { return Ok(None) };
    let key = fraction.key();
    match (fraction.chosen(scenario), default) {
        (Some(chosen), _) if chosen.is_fraction() => {
            choices.said(key, chosen.to_string(), None);
            Ok(Some((chosen, Source::User(key))))
        }
        (Some(chosen), _) => Err(EstimateError::OutOfRange { what: key, value: chosen.to_string(), must: "it must be above 0 and at most 1".into() }),
        (None, Some(default)) => {
            choices.said(key, default.to_string(), Some("the engine's default".to_owned()));
            Ok(Some((default, Source::Default("the engine's default".into()))))
        }
        (None, None) => Ok(None),
    }
}

/// The dtype of the stored weights: config.json, else the files, else bfloat16 as an assumption.
fn stored_dtype(model: &Model) -> (Encoding, bool, Vec<String>) {
    if let Some(dtype) = model.anatomy.dtype {
        return (dtype, true, Vec::new());
    }
    let first_float =
        model.provenance.files.as_ref().and_then(|files| files.loaded.iter().find_map(|(tensor, _)| tensor.stored.filter(|stored| stored.is_float)));
    match first_float {
        Some(stored) => (stored, true, Vec::new()),
        None => (
            Encoding::BF16,
            false,
            vec!["config.json does not say the dtype: weights are counted at 2 bytes, and take twice that if the files hold float32".to_owned()],
        ),
    }
}

/// Settings as they are filled in.
#[derive(Default)]
pub(crate) struct Choices(pub(crate) Vec<Choice>);

impl Choices {
    pub(crate) fn said(&mut self, key: &'static str, value: String, default: Option<String>) {
        self.0.push(Choice { key, value, default });
    }

    pub(crate) fn count(&mut self, key: &'static str, asked: Option<u64>, default: u64, rule: &'static str, max: u64) -> Result<Chosen, EstimateError> {
        let chosen = match asked {
            Some(value) if (1..=max).contains(&value) => Chosen { value, source: Source::User(key) },
            Some(value) => {
                return Err(EstimateError::OutOfRange {
                    what: key,
                    value: value.to_string(),
                    must: format!("it must be 1 to {}", crate::format::grouped(max)).into(),
                });
            }
            None => Chosen { value: default, source: Source::Default(rule.into()) },
        };
        self.said(key, chosen.value.to_string(), asked.is_none().then(|| rule.to_owned()));
        Ok(chosen)
    }
}
