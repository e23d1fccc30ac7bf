//! What preference and reinforcement learning hold beside the model that is trained: models to compare with, to score, to predict
//! scores, and what writes completions.

use super::activations::Pass;
use super::holdings::Holdings;
use super::loss::{has_logits, logits, tile};
use super::run::Run;
use super::stages::{ALL, GENERATE, ROLLED, SCORE, SCORED, STEPPING, SUPERVISED};
use super::states::share_of;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{Algorithm, Loss, Reference, Rollout};

/// The stages of a step.
pub(super) fn stages(run: &Run) -> &'static [Stage] {
    match run.algorithm {
        Algorithm::Ppo | Algorithm::Grpo => ROLLED,
        Algorithm::Dpo | Algorithm::Kto if run.reference != Reference::None => SCORED,
        _ => SUPERVISED,
    }
}

/// Entries of one rank. `own` are those of the model itself.
pub(super) fn entries(run: &Run, holdings: &Holdings, pass: &Pass, own: &[Entry]) -> Result<Vec<Entry>, Overflow> {
    let mut entries = Vec::new();
    if run.reference == Reference::Copy {
        entries.push(copy(run, holdings, Term::ReferenceModel, "a copy of the first weights, in the type of computation")?);
    }
    if run.algorithm == Algorithm::Ppo {
        entries.push(copy(run, holdings, Term::RewardModel, "a reward model as large as the model itself (unless told otherwise)")?);
        entries.extend(value_model(own)?);
    }
    if stages(run).contains(&Stage::Score) {
        entries.extend(pass.inference(run, Term::Activations, SCORE)?);
        if has_logits(run) && run.place.is_last {
            let low = run.recipe.compute.block_bytes;
            let (formula, source) = match run.loss {
                Loss::Tiled => (tile(run)?, "log-probabilities of all answers, a tile of logits at a time (TRL 1.16 kernels/chunked_logprob.py)"),
                _ => (
                    Expr::Product(vec![Expr::named(low + 4, "B"), logits(run)]),
                    "log-probabilities of all answers: logits and their float32 copy (TRL 1.16 `selective_log_softmax`)",
                ),
            };
            entries.push(Entry::modelled(Term::Logits, formula, (50, 200), source, SCORE)?);
        }
    }
    if stages(run) == ROLLED {
        entries.extend(rollout(run, pass)?);
    }
    Ok(entries)
}

/// A second model of the same shape that is only read.
fn copy(run: &Run, holdings: &Holdings, term: Term, source: &'static str) -> Result<Entry, Overflow> {
    let all = holdings.sum(|_| true)?;
    let count = share_of(run, all, run.sharding.shares_weights(), "parameters");
    Entry::exact(term, Expr::encoded(count, run.recipe.compute), Basis::Modelled, source, ALL)
}

/// PPO's value model is trained like the policy: the same weights, copies, gradients and states, stage by stage.
fn value_model(own: &[Entry]) -> Result<Vec<Entry>, Overflow> {
    let states = [Term::Weights, Term::Adapters, Term::MasterWeights, Term::Gradients, Term::Optimizer];
    own.iter()
        .filter(|entry| states.contains(&entry.term))
        .map(|entry| {
            Entry::exact(Term::ValueModel, entry.formula.clone(), Basis::Modelled, "a value model as large as the model itself, trained with it", entry.stages)
        })
        .collect()
}

/// What completions are written with.
fn rollout(run: &Run, pass: &Pass) -> Result<Vec<Entry>, Overflow> {
    let engine = |stages| {
        let usable = Expr::leaf(run.card.usable.get(), "B usable", run.card.usable_source.clone());
        let formula = Expr::Fraction { ratio: run.rollout_memory, name: "of the card", source: Source::User("rollout memory fraction"), of: Box::new(usable) };
        Entry::exact(Term::Rollout, formula, Basis::Derived, "TRL 1.16 vllm_gpu_memory_utilization: what the engine beside the trainer claims", stages)
    };
    match run.rollout {
        Rollout::Server => Ok(Vec::new()),
        Rollout::Colocate => Ok(vec![engine(ALL)?]),
        Rollout::ColocateAsleep => Ok(vec![engine(GENERATE)?]),
        Rollout::Generate => {
            let mut entries: Vec<Entry> = cache(run)?.into_iter().collect();
            entries.extend(pass.inference(run, Term::Activations, GENERATE)?);
            Ok(entries)
        }
    }
}

/// Keys and values of the completions that `generate()` writes at once.
fn cache(run: &Run) -> Result<Option<Entry>, Overflow> {
    let groups = run.model.decoder().cache_groups_in(run.place.layers.clone());
    let parts = groups.iter().map(|group| {
        let per_token = group.mixer.cache_elements_per_token();
        Expr::Product(vec![
            Expr::leaf(group.layers, "layers", Source::Config("num_hidden_layers".into())),
            run.width(per_token, "values of keys and values", Source::Config("num_key_value_heads".into()), true),
        ])
    });
    let parts: Vec<Expr> = parts.collect();
    if parts.is_empty() {
        return Ok(None);
    }
    // TRL 1.16 writes the completions of a whole step at once (`steps_per_generation`).
    let tokens = Expr::Product(vec![run.rows.leaf("completions"), run.accumulation.leaf("forward passes"), run.length.leaf("tokens")]);
    let formula = Expr::encoded(Expr::Product(vec![tokens, Expr::sum(parts)]), run.recipe.compute);
    Entry::exact(Term::KvCache, formula, Basis::Derived, "keys and values of all completions of a step (TRL 1.16 steps_per_generation)", GENERATE).map(Some)
}

/// Log-probabilities, values and rewards of each token, which PPO and GRPO keep from scoring to the step.
pub(super) fn per_token(run: &Run) -> Result<Option<Entry>, Overflow> {
    if stages(run) != ROLLED {
        return Ok(None);
    }
    let tokens = Expr::Product(vec![run.rows.leaf("completions"), run.accumulation.leaf("forward passes"), run.length.leaf("tokens")]);
    let formula = Expr::Product(vec![Expr::named(4 * 4, "B"), tokens]);
    let entry = Entry::exact(Term::Workspace, formula, Basis::Modelled, "log-probabilities of model and reference, values, advantages in float32", STEPPING)?;
    let (low, high) = (Bytes(entry.amount.expected.get() / 4), entry.amount.expected);
    Ok(Some(entry.with_band(low, high, Basis::Modelled)))
}
