//! How each engine spends memory. An engine is one file that answers for its own rules, with the version they were read from.

mod common;
mod parallel;
mod transformers;
mod vllm;

pub(crate) use parallel::even_stages;
pub use parallel::{Place, Spread, Way};

use crate::encoding::Encoding;
use crate::estimate::{Budget, Capacity, Choice, Entry};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, GpuError};
use crate::model::{Attention, CacheGroup, LayerRun, Mixer, Model};
use crate::quantity::{Bytes, Decimal, Overflow};
use crate::scenario::{Runtime, Scenario, Version};

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
        must: &'static str,
    },
    /// The engine does not do this.
    #[error("{0}")]
    Unsupported(String),
}

/// How tensor parallelism splits what an engine loads.
#[derive(Clone, Copy, Debug)]
pub struct ShardRules {
    /// The vocabulary is padded to a multiple of this before it is split.
    pub vocabulary_padding: u64,
    /// Whether the embedding is split over the ranks (else every rank holds it whole).
    pub splits_embedding: bool,
    /// Where the rules were read.
    pub source: &'static str,
}

/// An engine's rules.
pub trait Engine: Sync {
    /// Its name with the version whose rules these are: `vLLM 0.33`.
    fn label(&self) -> &'static str;

    /// The dtype in which it computes a model whose weights say `stored`.
    fn compute_dtype(&self, stored: Encoding) -> Encoding;

    /// The share of the card that it takes unless told otherwise; `None` when it takes what it needs.
    fn default_utilization(&self) -> Option<Decimal>;

    /// Tokens that one step processes at most unless told otherwise; `None` when it has no such setting.
    fn default_batched_tokens(&self, card: &Card) -> Option<u64>;

    /// Sequences that one step processes at most unless told otherwise; `None` when it has no such setting.
    fn default_sequences(&self, card: &Card) -> Option<u64>;

    /// The ways to spread a model that it has besides tensor parallelism.
    fn ways(&self) -> &'static [Way] {
        &[]
    }

    /// Whether replicas of a mixture of experts always share the experts.
    fn shares_experts(&self) -> bool {
        false
    }

    /// How many layers each pipeline stage has.
    fn stages(&self, _version: Option<Version>, layers: u64, stages: u64) -> Vec<u64> {
        parallel::even_stages(layers, stages)
    }

    /// What it cannot do, said plainly.
    fn check(&self, setup: &Setup) -> Result<(), EstimateError>;

    /// How it splits weights.
    fn shard_rules(&self) -> ShardRules;

    /// Keys and values of the chosen load on one rank.
    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow>;

    /// Everything but weights, keys and values on one rank.
    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow>;

    /// What it allows itself on one card.
    fn budget(&self, setup: &Setup) -> Result<Option<Budget>, Overflow>;

    /// What `room` bytes of cache hold.
    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow>;
}

/// The rules of an engine.
pub fn engine(runtime: Runtime) -> &'static dyn Engine {
    match runtime {
        Runtime::Vllm => &vllm::Vllm,
        Runtime::Transformers => &transformers::Transformers,
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
    /// One card.
    pub card: Card,
    /// How the model is spread over GPUs.
    pub spread: Spread,
    /// The rank that is computed.
    pub place: Place,
    /// Tokens per request.
    pub context: Chosen,
    /// Requests at once, of one replica.
    pub batch: Chosen,
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
    /// Every setting as used.
    pub choices: Vec<Choice>,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// The context that is used when none is chosen.
pub const DEFAULT_CONTEXT: u64 = 8192;

/// The largest context, batch or step that is computed.
pub const MAX_COUNT: u64 = 1 << 40;

impl<'a> Setup<'a> {
    /// Fills in the defaults and checks the ranges.
    pub fn new(model: &'a Model, scenario: &'a Scenario) -> Result<Self, EstimateError> {
        let engine = engine(scenario.runtime);
        let card = scenario.card()?;
        let mut choices = Choices::default();
        choices.said("runtime", engine.label().to_owned(), None);
        choices.said("gpu", card.name.clone(), scenario.gpu.is_none().then(|| "none was named".to_owned()));
        let max_context = model.anatomy.max_context;
        let (context, rule) = match max_context {
            Some(max) if max <= DEFAULT_CONTEXT => (max, "the model's maximum"),
            Some(_) => (DEFAULT_CONTEXT, "8,192 tokens"),
            None => (DEFAULT_CONTEXT, "8,192 tokens; the config does not say the model's maximum"),
        };
        let context = choices.count("context", scenario.context, context, rule, MAX_COUNT)?;
        let batch = choices.count("batch", scenario.batch, 1, "one request at a time", MAX_COUNT)?;
        let spread = Spread::new(model, scenario, engine.shares_experts(), &mut choices)?;
        parallel::check_ways(&spread, engine.ways(), engine.label())?;
        let batch = spread.requests(batch);

        let (stored, is_dtype_known, mut assumptions) = stored_dtype(model);
        let dtype = scenario.weights.encoding().unwrap_or_else(|| engine.compute_dtype(stored));
        choices.said("weights", scenario.weights.name().to_owned(), None);
        let kv_encoding = scenario.kv_cache.encoding().unwrap_or(dtype);
        choices.said("kv_cache", kv_encoding.to_string(), scenario.kv_cache.encoding().is_none().then(|| "the dtype of computation".to_owned()));

        let load_tokens = context.value.checked_mul(batch.value).ok_or(Overflow)?;
        let step_tokens = match engine.default_batched_tokens(&card) {
            Some(default) => {
                choices.count("max_num_batched_tokens", scenario.max_num_batched_tokens, default, "the engine's default for this card", MAX_COUNT)?
            }
            None => Chosen { value: load_tokens, source: Source::Derived("context × requests, prefilled at once".into()) },
        };
        let step_sequences = match engine.default_sequences(&card) {
            Some(default) => choices.count("max_num_seqs", scenario.max_num_seqs, default, "the engine's default for this card", MAX_COUNT)?,
            None => Chosen { value: batch.value, source: batch.source.clone() },
        };
        let utilization = match (engine.default_utilization(), scenario.gpu_memory_utilization) {
            (None, _) => None,
            (Some(_), Some(chosen)) if chosen.is_fraction() => Some((chosen, Source::User("GPU memory utilization"))),
            (Some(_), Some(chosen)) => {
                return Err(EstimateError::OutOfRange { what: "GPU memory utilization", value: chosen.to_string(), must: "it must be above 0 and at most 1" });
            }
            (Some(default), None) => Some((default, Source::Default("the engine's default".into()))),
        };
        if let Some((ratio, source)) = &utilization {
            let default = matches!(source, Source::Default(_)).then(|| "the engine's default".to_owned());
            choices.said("gpu_memory_utilization", ratio.to_string(), default);
        }
        if max_context.is_some_and(|max| context.value > max) {
            let max = crate::format::grouped(max_context.unwrap_or(0));
            assumptions.push(format!("the context is longer than the model's maximum of {max} tokens: it needs a scaled position encoding to work at all"));
        }
        assumptions.extend(card.notes.iter().cloned());
        let choices = choices.0;
        let setup = Self {
            model,
            scenario,
            engine,
            card,
            place: Place { stage: 0, is_first: true, is_last: true, layers: 0..model.decoder().layer_count() },
            spread,
            context,
            batch,
            dtype,
            is_dtype_known,
            kv_encoding,
            step_tokens,
            step_sequences,
            utilization,
            choices,
            assumptions,
        };
        engine.check(&setup)?;
        Ok(setup)
    }

    /// The places of every pipeline stage.
    pub fn places(&self) -> Vec<Place> {
        let stages = self.engine.stages(self.scenario.serving.runtime_version, self.model.decoder().layer_count(), self.spread.pipeline.value);
        Place::of_stages(&stages)
    }

    /// The runs of the decoder's layers on this rank, each with how many of its layers are here.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &LayerRun)> {
        self.model.decoder().runs_in(self.place.layers.clone())
    }

    /// The layers on this rank that keep keys and values, by what they keep.
    pub fn cache_groups(&self) -> Vec<CacheGroup> {
        self.model.decoder().cache_groups_in(self.place.layers.clone())
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
        for group in self.model.decoder().cache_groups() {
            let Some(&Attention { heads, kv_heads, .. }) = group.mixer.attention() else { continue };
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
        }
        Ok(())
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
            Some(value) => return Err(EstimateError::OutOfRange { what: key, value: value.to_string(), must: "it must be at least 1 and not absurdly large" }),
            None => Chosen { value: default, source: Source::Default(rule.into()) },
        };
        self.said(key, chosen.value.to_string(), asked.is_none().then(|| rule.to_owned()));
        Ok(chosen)
    }
}
