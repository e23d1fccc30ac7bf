//! What comes out: a ledger per device. Entries live in stages; moments are picked from the stages.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::fixed::{self, List, Text};
use crate::formula::Expr;
use crate::quantity::{Bytes, Overflow, ParamCount};

/// What a piece of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Term {
    /// Model weights.
    Weights,
    /// What is trained beside a model that stays as it is.
    Adapters,
    /// Copies of weights in a wider type, which the optimizer updates.
    MasterWeights,
    /// Gradients.
    Gradients,
    /// What an optimizer keeps of earlier steps.
    Optimizer,
    /// The model that answers are compared with.
    ReferenceModel,
    /// The model that scores answers.
    RewardModel,
    /// The model that predicts scores, with all that training it takes.
    ValueModel,
    /// What writes completions while a model is trained.
    Rollout,
    /// Keys and values.
    KvCache,
    /// Tables that are loaded with the weights and are no parameters.
    Buffers,
    /// Keys and values of what is read across, from an encoder.
    CrossKvCache,
    /// Recurrent and convolution states.
    State,
    /// Intermediate results of a forward pass.
    Activations,
    /// Logits and what sampling makes of them.
    Logits,
    /// Buffers of kernels and libraries.
    Workspace,
    /// Captured CUDA graphs.
    CudaGraphs,
    /// Buffers of collective operations.
    Communication,
    /// Buffers through which offloaded things pass.
    OffloadBuffers,
    /// The driver's context and loaded kernels.
    RuntimeContext,
    /// What the allocator holds beyond what is used.
    Fragmentation,
    /// A smaller model that drafts tokens.
    DraftModel,
    /// Latents of images and videos.
    Latents,
    /// What turns latents into pixels works with.
    VaeDecode,
}

/// (term, name in the JSON contract, name for people)
const TERMS: &[(Term, &str, &str)] = &[
    (Term::Weights, "weights", "Weights"),
    (Term::Adapters, "adapters", "Adapters"),
    (Term::MasterWeights, "master_weights", "Master weights"),
    (Term::Gradients, "gradients", "Gradients"),
    (Term::Optimizer, "optimizer", "Optimizer states"),
    (Term::ReferenceModel, "reference_model", "Reference model"),
    (Term::RewardModel, "reward_model", "Reward model"),
    (Term::ValueModel, "value_model", "Value model"),
    (Term::Rollout, "rollout", "Rollout"),
    (Term::KvCache, "kv_cache", "KV cache"),
    (Term::Buffers, "buffers", "Buffers"),
    (Term::CrossKvCache, "cross_kv_cache", "Cross KV cache"),
    (Term::State, "state", "Recurrent states"),
    (Term::Activations, "activations", "Activations"),
    (Term::Logits, "logits", "Logits and sampling"),
    (Term::Workspace, "workspace", "Workspaces"),
    (Term::CudaGraphs, "cuda_graphs", "CUDA graphs"),
    (Term::Communication, "communication", "Communication"),
    (Term::OffloadBuffers, "offload_buffers", "Offload buffers"),
    (Term::RuntimeContext, "runtime_context", "GPU context and libraries"),
    (Term::Fragmentation, "fragmentation", "Allocator slack"),
    (Term::DraftModel, "draft_model", "Draft model"),
    (Term::Latents, "latents", "Latents"),
    (Term::VaeDecode, "vae_decode", "VAE decoding"),
];

impl Term {
    /// Every term, in the order of the ledger.
    pub fn all() -> impl Iterator<Item = Self> {
        TERMS.iter().map(|(term, ..)| *term)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        TERMS.iter().find(|(term, ..)| *term == self).unwrap_or(&TERMS[0])
    }

    /// Its name in the JSON contract.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        self.row().2
    }
}

/// How sure a figure is, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Basis {
    /// Integer arithmetic on shapes and types that were read.
    Exact,
    /// Exact arithmetic under a rule of the engine that was read from its source.
    Derived,
    /// A model with a band from measurements.
    Modelled,
    /// No derivation: an order of magnitude.
    RuleOfThumb,
}

impl Basis {
    /// Its name in the JSON contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Derived => "derived",
            Self::Modelled => "modelled",
            Self::RuleOfThumb => "rule_of_thumb",
        }
    }
}

/// A size with its band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// The least it may be.
    pub low: Bytes,
    /// What is expected.
    pub expected: Bytes,
    /// The most it may be.
    pub high: Bytes,
}

impl Amount {
    /// A size without a band.
    pub const fn exactly(bytes: Bytes) -> Self {
        Self { low: bytes, expected: bytes, high: bytes }
    }

    /// `expected` with a band in percent of it: `low` 70 and `high` 150 are -30 % and +50 %.
    pub fn percent(expected: Bytes, low: u64, high: u64) -> Result<Self, Overflow> {
        let part = |percent: u64| u64::try_from(u128::from(expected.get()) * u128::from(percent) / 100).map(Bytes).map_err(|_| Overflow);
        Ok(Self { low: part(low)?.min(expected), expected, high: part(high)?.max(expected) })
    }

    /// Sum, band by band.
    pub fn plus(self, other: Self) -> Result<Self, Overflow> {
        Ok(Self { low: self.low.plus(other.low)?, expected: self.expected.plus(other.expected)?, high: self.high.plus(other.high)? })
    }
}

/// A stretch of time in which the same memory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// After the weights are loaded.
    Load,
    /// Reading the prompt.
    Prefill,
    /// Turning the last hidden states into tokens, with as many sequences as the engine plans for.
    Sampling,
    /// Writing tokens at the chosen load.
    Decode,
    /// Writing completions to learn from.
    Generate,
    /// Other models read what is learned from.
    Score,
    /// The forward pass, to its end.
    Forward,
    /// The backward pass through loss and logits: nothing of the layers is freed yet.
    Loss,
    /// The rest of the backward pass, at its fullest.
    Backward,
    /// The optimizer's step.
    OptimizerStep,
    /// Reading the prompt of a picture.
    TextEncode,
    /// Taking noise out of latents, step by step.
    Denoise,
    /// Turning latents into pixels.
    VaeDecode,
}

impl Stage {
    /// Every stage of serving, in order.
    pub const SERVING: &[Self] = &[Self::Load, Self::Prefill, Self::Sampling, Self::Decode];
    /// Every stage of training, in order; which of them a run has depends on what is learned from.
    pub const TRAINING: &[Self] = &[Self::Load, Self::Generate, Self::Score, Self::Forward, Self::Loss, Self::Backward, Self::OptimizerStep];

    /// Every stage of a diffusion pipeline, in order.
    pub const PIPELINE: &[Self] = &[Self::Load, Self::TextEncode, Self::Denoise, Self::VaeDecode];

    /// Its name in the JSON contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Prefill => "prefill",
            Self::Sampling => "sampling",
            Self::Decode => "decode",
            Self::Generate => "generate",
            Self::Score => "score",
            Self::Forward => "forward",
            Self::Loss => "loss",
            Self::Backward => "backward",
            Self::OptimizerStep => "optimizer_step",
            Self::TextEncode => "text_encode",
            Self::Denoise => "denoise",
            Self::VaeDecode => "vae_decode",
        }
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Load => "Load",
            Self::Prefill => "Prefill",
            Self::Sampling => "Sampling",
            Self::Decode => "Decode",
            Self::Generate => "Generate",
            Self::Score => "Score",
            Self::Forward => "Forward",
            Self::Loss => "Loss",
            Self::Backward => "Backward",
            Self::OptimizerStep => "Optimizer step",
            Self::TextEncode => "Text encode",
            Self::Denoise => "Denoise",
            Self::VaeDecode => "VAE decode",
        }
    }

    /// What happens in it: "while ...".
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Load => "once loaded",
            Self::Prefill => "while prefilling",
            Self::Sampling => "while sampling",
            Self::Decode => "while decoding",
            Self::Generate => "while completions are written",
            Self::Score => "while other models score",
            Self::Forward => "in the forward pass",
            Self::Loss => "in the backward pass of loss and logits",
            Self::Backward => "in the backward pass of the layers",
            Self::OptimizerStep => "in the optimizer's step",
            Self::TextEncode => "while the prompt is read",
            Self::Denoise => "while denoising",
            Self::VaeDecode => "while latents become pixels",
        }
    }
}

/// One claim: a term, its size, how it was computed, and the stages in which it is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is for.
    pub term: Term,
    /// Its size.
    pub amount: Amount,
    /// How sure it is.
    pub basis: Basis,
    /// The computation; evaluates to `amount.expected`.
    pub formula: Expr,
    /// Where the rule comes from.
    #[serde(deserialize_with = "fixed::text")]
    pub source: Text,
    /// The stages in which it is held.
    #[serde(deserialize_with = "fixed::stages")]
    pub stages: List<Stage>,
}

/// Stages: all of them.
pub const ALWAYS: &[Stage] = &[Stage::Load, Stage::Prefill, Stage::Sampling, Stage::Decode, Stage::TextEncode, Stage::Denoise, Stage::VaeDecode];
/// Stages: from the first token on.
pub const RUNNING: &[Stage] = &[Stage::Prefill, Stage::Sampling, Stage::Decode];

impl Entry {
    /// An entry without a band.
    pub fn exact(term: Term, formula: Expr, basis: Basis, source: &'static str, stages: &'static [Stage]) -> Result<Self, Overflow> {
        let amount = Amount::exactly(Bytes(formula.evaluate()?));
        Ok(Self { term, amount, basis, formula, source, stages })
    }

    /// An entry whose band is given in percent of its size.
    pub fn modelled(term: Term, formula: Expr, (low, high): (u64, u64), source: &'static str, stages: &'static [Stage]) -> Result<Self, Overflow> {
        let amount = Amount::percent(Bytes(formula.evaluate()?), low, high)?;
        Ok(Self { term, amount, basis: Basis::Modelled, formula, source, stages })
    }

    /// The same claim with another band.
    #[must_use]
    pub fn with_band(self, low: Bytes, high: Bytes, basis: Basis) -> Self {
        let expected = self.amount.expected;
        Self { amount: Amount { low: low.min(expected), expected, high: high.max(expected) }, basis, ..self }
    }
}

/// What an engine allows itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Its size.
    pub bytes: Bytes,
    /// How it follows from the card.
    pub formula: Expr,
    /// What people call it: "vLLM budget".
    #[serde(deserialize_with = "fixed::text")]
    pub name: Text,
    /// What lies outside of it.
    #[serde(deserialize_with = "fixed::terms")]
    pub outside: List<Term>,
}

/// The limit that binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// What a process can get of the card.
    Card,
    /// What the engine allows itself.
    Budget,
}

impl Bound {
    /// Its name in the JSON contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "usable_bytes",
            Self::Budget => "budget_bytes",
        }
    }
}

/// A size that may be negative: room left, or bytes short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Headroom {
    /// This much too little.
    Short(std::cmp::Reverse<Bytes>),
    /// This much to spare.
    Spare(Bytes),
}

impl Headroom {
    /// `limit - need`.
    pub fn between(limit: Bytes, need: Bytes) -> Self {
        limit.minus(need).map_or_else(|_| Self::Short(std::cmp::Reverse(Bytes(need.get() - limit.get()))), Self::Spare)
    }

    /// The size without its sign.
    pub const fn size(self) -> Bytes {
        match self {
            Self::Short(std::cmp::Reverse(bytes)) | Self::Spare(bytes) => bytes,
        }
    }

    /// True when nothing is lacking.
    pub const fn fits(self) -> bool {
        matches!(self, Self::Spare(_))
    }

    /// As a signed number, for JSON.
    pub fn signed(self) -> i128 {
        let size = i128::from(self.size().get());
        if self.fits() { size } else { -size }
    }
}

/// The ledger of one device, or of several that hold the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Which ones: equal ranks share a ledger.
    pub ranks: Range<u64>,
    /// The card's name.
    pub gpu: String,
    /// What the driver reports.
    pub capacity: Bytes,
    /// What a process can get.
    pub usable: Bytes,
    /// What the engine allows itself, where it has such a rule.
    pub budget: Option<Budget>,
    /// What it will have claimed once started: the budget and what lies outside it.
    pub claim: Option<Bytes>,
    /// The peak with one request of the chosen context: the least that runs at all.
    pub minimum: Option<Bytes>,
    /// The claims on it.
    pub ledger: Ledger,
    /// What a caching allocator holds at its peak beyond what is used, where that is known. It is no part of the need: an allocator
    /// gives it back before it fails.
    pub slack: Option<Entry>,
}

/// Claims on one memory over the stages of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The stages in order: the first is "loaded", the last is "steady".
    #[serde(deserialize_with = "fixed::stages")]
    pub stages: List<Stage>,
    /// The claims.
    pub entries: Vec<Entry>,
}

impl std::ops::Deref for Device {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Ledger {
    /// The sum of the entries of one stage.
    pub fn at(&self, stage: Stage) -> Result<Amount, Overflow> {
        self.sum(stage, |_| true)
    }

    /// The sum of one term's entries in one stage.
    pub fn term_at(&self, term: Term, stage: Stage) -> Result<Amount, Overflow> {
        self.sum(stage, |entry| entry.term == term)
    }

    /// How sure that is: as the least sure of its entries that may come to a hundredth of it. `None` when nothing of it is held then.
    pub fn basis_at(&self, term: Term, stage: Stage) -> Option<Basis> {
        let held = || self.entries.iter().filter(|entry| entry.term == term && entry.stages.contains(&stage));
        let least = held().map(|entry| entry.amount.high.get() / 100).max()?;
        held().filter(|entry| entry.amount.high.get() >= least).map(|entry| entry.basis).max()
    }

    fn sum(&self, stage: Stage, wanted: impl Fn(&Entry) -> bool) -> Result<Amount, Overflow> {
        let entries = self.entries.iter().filter(|entry| entry.stages.contains(&stage) && wanted(entry));
        entries.map(|entry| entry.amount).try_fold(Amount::default(), Amount::plus)
    }

    /// The stage after load.
    pub fn loaded_stage(&self) -> Stage {
        self.stages.first().copied().unwrap_or(Stage::Load)
    }

    /// The stage at the chosen load.
    pub fn steady_stage(&self) -> Stage {
        self.stages.last().copied().unwrap_or(Stage::Load)
    }

    /// After load.
    pub fn loaded(&self) -> Result<Amount, Overflow> {
        self.at(self.loaded_stage())
    }

    /// At the chosen load.
    pub fn steady(&self) -> Result<Amount, Overflow> {
        self.at(self.steady_stage())
    }

    /// The worst stage, the first of several, and its sum.
    pub fn peak(&self) -> Result<(Stage, Amount), Overflow> {
        let mut worst = (self.loaded_stage(), self.loaded()?);
        for &stage in self.stages {
            let amount = self.at(stage)?;
            if amount.expected > worst.1.expected {
                worst = (stage, amount);
            }
        }
        Ok(worst)
    }

    /// Terms that occur, in the ledger's order.
    pub fn terms(&self) -> impl Iterator<Item = Term> + '_ {
        Term::all().filter(|term| self.entries.iter().any(|entry| entry.term == *term))
    }
}

impl Device {
    /// What is held in a stage outside the budget; nothing where there is none.
    pub fn outside_budget(&self, stage: Stage) -> Result<Bytes, Overflow> {
        let terms = self.budget.as_ref().map_or(&[][..], |budget| budget.outside);
        terms.iter().try_fold(Bytes::ZERO, |sum, &term| sum.plus(self.term_at(term, stage)?.expected))
    }

    /// The room against the limit that binds: the budget for what an engine counts in it (all but the runtime's context), the
    /// card for everything.
    pub fn headroom(&self) -> Result<(Bound, Headroom), Overflow> {
        let (stage, peak) = self.peak()?;
        let held = self.claim.unwrap_or(Bytes::ZERO).max(peak.expected);
        let card = Headroom::between(self.usable, held);
        let Some(budget) = &self.budget else { return Ok((Bound::Card, card)) };
        let inside = peak.expected.minus(self.outside_budget(stage)?)?;
        let room = Headroom::between(budget.bytes, inside);
        // A claim that does not fit stops the engine at its start, whatever the need.
        Ok(if room <= card || card.fits() { (Bound::Budget, room) } else { (Bound::Card, card) })
    }
}

/// What an engine's cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Bytes that are left for keys and values on each device.
    pub kv_cache_bytes: Bytes,
    /// Tokens that they hold.
    pub kv_cache_tokens: u64,
    /// Requests of the chosen context that they hold, in hundredths.
    pub concurrency_hundredths: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The devices.
    pub devices: Vec<Device>,
    /// The host, where something of the model lies there.
    pub host: Option<Ledger>,
    /// What the cache holds, for engines that keep one.
    pub capacity: Option<Capacity>,
    /// Parameters that are trained; `None` when the model is run.
    pub trainable: Option<ParamCount>,
    /// Every default that was filled in: (key of the scenario, its value, the rule).
    pub choices: Vec<Choice>,
    /// What was assumed, each a sentence.
    pub assumptions: Vec<String>,
    /// What the user should know, each a sentence.
    pub warnings: Vec<String>,
}

/// A setting as it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Its key in the scenario's JSON.
    #[serde(deserialize_with = "fixed::text")]
    pub key: Text,
    /// Its value as text.
    pub value: String,
    /// The rule, where it is a default; `None` where the user chose it.
    pub default: Option<String>,
}

impl Estimate {
    /// The device with the least room: it decides.
    pub fn worst(&self) -> Result<&Device, Overflow> {
        let mut worst = &self.devices[0];
        for device in &self.devices[1..] {
            if device.headroom()?.1 < worst.headroom()?.1 {
                worst = device;
            }
        }
        Ok(worst)
    }

    /// True when every device has room.
    pub fn fits(&self) -> Result<bool, Overflow> {
        Ok(self.worst()?.headroom()?.1.fits())
    }
}
