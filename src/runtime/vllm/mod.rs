//! vLLM: a budget of the card, a memory profile at its start, paged keys, values and states in what the budget leaves.
//!
//! Rules by version in [`version`]; read from the sources of 0.6.3 to 0.33.0.

mod cache;
mod latents;
mod lora;
mod mxfp4;
mod profile;
mod version;

use super::common::{self, per_layer_states};
use super::{Defaults, Engine, EstimateError, Facts, Fraction, Known, Setup, ShardRules, Way, across};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Budget, Capacity, Entry, Ledger, RUNNING, Stage, Term};
use crate::formula::Expr;
use crate::model::{ComponentKind, Model};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::Version;
use cache::Pool;
use latents::Latents;
pub(super) use profile::communication;
use version::Rules;
pub(super) use version::{is_large, is_large_blackwell};

pub(super) struct Vllm {
    /// What latents, adapters and packed experts take beside everything else: code that the page's first module does without.
    beside: fn(&Setup, Rules) -> Result<Vec<Entry>, Overflow>,
    /// Whether a model stays on V0 where a version has both engines (`SupportsV0Only`).
    stays: fn(&Model, Version) -> bool,
    /// What the pool does otherwise for latents.
    latents: Latents,
}

/// All of its rules.
pub(super) static WHOLE: Vllm = Vllm { beside, stays, latents: latents::WHOLE };

/// The rules for weights that are not packed, without slots for adapters, of models that keep no latents and read nothing across.
pub(super) static COMMON: Vllm = Vllm { beside: |_, _| Ok(Vec::new()), stays: |_, _| false, latents: latents::NONE };

/// Encoder-decoders do as long as it is there; those that read sound have left it.
fn stays(model: &Model, version: Version) -> bool {
    across::is_read(model) && !(version >= SOUND_WITHOUT_V0 && model.anatomy.counted().any(|part| part.kind == ComponentKind::AudioTower))
}

fn beside(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    Ok(latents::copies(setup, rules)?.into_iter().chain(mxfp4::entry(setup, rules)?).chain(lora::slots(setup)?).collect())
}

/// The first version that has encoder-decoders in V1: those that read sound.
const SOUND_WITHOUT_V0: Version = Version(0, 10, 2);

/// The rules of the version that was asked for.
fn rules(setup: &Setup) -> Rules {
    let mut rules = Rules::of(setup.version, &setup.card);
    // As `stays` says of the model.
    rules.is_v1 &= setup.across.as_ref().is_none_or(|across| setup.version >= SOUND_WITHOUT_V0 && across.part.kind == ComponentKind::AudioTower);
    rules
}

/// What is known of it before it computes anything.
pub(super) static FACTS: Facts = Facts { label: "vLLM", fraction: Some(Fraction::Utilization), ways: &[Way::Pipeline, Way::Data, Way::Expert, Way::Context] };

impl Engine for Vllm {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn newest(&self) -> Version {
        version::NEWEST
    }

    fn compute_dtype(&self, stored: Encoding) -> Encoding {
        // `dtype="auto"`: float32 checkpoints are run in 16 bits.
        if stored == Encoding::F32 { Encoding::BF16 } else { stored }
    }

    fn defaults(&self, known: &Known) -> Defaults {
        let mut rules = Rules::of(known.version, known.card);
        rules.is_v1 &= !(self.stays)(known.model, known.version);
        rules.defaults(known)
    }

    fn shares_experts(&self) -> bool {
        true
    }

    fn stages(&self, setup: &Setup, layers: u64, stages: u64) -> Vec<u64> {
        rules(setup).stages(layers, stages)
    }

    fn check(&self, setup: &Setup) -> Result<(), EstimateError> {
        common::check_not_apple(setup)?;
        common::check_kv_cache(setup)?;
        let (spread, ranks) = (&setup.spread, setup.spread.expert_ranks());
        if spread.expert.value > 1 && spread.expert.value != ranks {
            return Err(EstimateError::Unsupported(format!(
                "vLLM spreads experts over all {ranks} ranks of tensor and data parallelism: the expert-parallel size is {ranks}, not {}",
                spread.expert.value
            )));
        }
        setup.check_division(true)
    }

    fn counts_images(&self) -> bool {
        true
    }

    fn counts_across(&self, _part: ComponentKind) -> bool {
        true
    }

    fn shard_rules(&self) -> ShardRules {
        ShardRules::of_server(
            64,
            "vLLM: projections, embedding and head are split (the vocabulary padded to a multiple of 64), norms and routers are whole on every rank, KV heads are repeated when there are fewer than ranks",
        )
    }

    fn pooled(&self) -> &'static [Term] {
        &[Term::KvCache, Term::CrossKvCache, Term::State]
    }

    fn kv_cache(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let Some(pool) = Pool::new(setup, rules(setup), self.latents)? else { return Ok(Vec::new()) };
        let source = "vLLM v1/kv_cache_interface.py: whole blocks; layers of all kinds share one pool of them";
        let entry = |term, formula, stages| Entry::exact(term, formula, Basis::Derived, source, stages);
        let mut entries = Vec::new();
        if pool.shrinks() {
            for (is_steady, stages) in [(false, &[Stage::Prefill, Stage::Sampling][..]), (true, &[Stage::Decode][..])] {
                entries.extend(pool.tokens(is_steady).map(|formula| entry(Term::KvCache, formula, stages)).transpose()?);
            }
        } else {
            entries.extend(pool.tokens(true).map(|formula| entry(Term::KvCache, formula, RUNNING)).transpose()?);
        }
        entries.extend(pool.encoded().map(|formula| entry(Term::CrossKvCache, formula, RUNNING)).transpose()?);
        entries.extend(pool.states().map(|formula| entry(Term::State, formula, RUNNING)).transpose()?);
        Ok(entries)
    }

    fn overheads(&self, setup: &Setup) -> Result<Vec<Entry>, Overflow> {
        let rules = rules(setup);
        let mut entries: Vec<Entry> = common::rotary_table(setup, 4, setup.dtype)?.into_iter().collect();
        entries.extend(profile::entries(setup, rules)?);
        entries.extend((self.beside)(setup, rules)?);
        if !rules.pools_states()
            && let Some(states) = per_layer_states(setup, |recurrence| cache::state(setup, recurrence))
        {
            let formula = Expr::Product(vec![setup.step_sequences.leaf("sequences"), states]);
            let source = "vLLM before 0.10: states are set aside for as many sequences as one step takes";
            entries.push(Entry::exact(Term::State, formula, Basis::Derived, source, RUNNING)?);
        }
        Ok(entries)
    }

    fn budget(&self, setup: &Setup, _ledger: &Ledger) -> Result<Option<Budget>, Overflow> {
        let Some((ratio, source)) = setup.utilization.clone() else { return Ok(None) };
        let total = Expr::leaf(setup.card.usable.get(), "B", setup.card.usable_source.clone());
        let formula = Expr::Fraction { ratio, name: "utilization", source, of: Box::new(total) };
        let rules = rules(setup);
        let outside: &[Term] = match (rules.budgets_context(), rules.budgets_graphs()) {
            (true, _) => &[Term::CudaGraphs],
            (false, true) => &[Term::RuntimeContext],
            (false, false) => &[Term::RuntimeContext, Term::CudaGraphs],
        };
        Ok(Some(Budget { bytes: Bytes(formula.evaluate()?), formula, name: "vLLM budget", outside }))
    }

    fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        match Pool::new(setup, rules(setup), self.latents)? {
            Some(pool) => pool.capacity(room),
            None => Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: 0, concurrency_hundredths: 0 }),
        }
    }
}
