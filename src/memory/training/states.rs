//! What stays from step to step: weights, their copies, gradients, the optimizer's states.

use super::activations::Fullest;
use super::holdings::{Holdings, is_quantised};
use super::optimizer::{all_states, is_paged, source, steps_in_backward};
use super::run::{Fp8, Run};
use super::stages::{ALL, AT_STEP, BACKWARD, BACKWARD_AND_STEP, IN_MATRICES, STEPPING};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::Role;
use crate::quantity::{Bytes, Overflow};
use crate::scenario::{Optimizer, Sharding, Weights};
use crate::weights::Unit;

fn counted(run: &Run) -> Source {
    Source::Derived(format!("counted from config.json ({})", run.model.anatomy.model_type).into())
}

/// `count` elements of what is and what is not an expert's: a rank's share of them, or all.
pub(super) fn share_of(run: &Run, counts: [u64; 2], is_shared: bool, name: &'static str) -> Expr {
    if is_shared { run.world.shared(counts, name, &counted(run)) } else { Expr::leaf(counts[0].saturating_add(counts[1]), name, counted(run)) }
}

/// The bytes of `count` things of a unit.
fn of_unit(run: &Run, count: Expr, unit: Unit) -> Expr {
    let source = || match run.scenario.weights {
        Weights::AsStored => Source::Config("quantization_config, or the method's own format".into()),
        _ => Source::User("weights"),
    };
    match unit {
        Unit::Value(encoding) => Expr::encoded(count, encoding),
        Unit::Bits(bits) => match bits.parts() {
            (bits, 1) if bits.is_multiple_of(8) => Expr::Product(vec![count, Expr::named(bits / 8, "B")]),
            _ => Expr::Fraction { ratio: bits, name: "bits", source: source(), of: Box::new(count) }.ceil_div(Expr::constant(8)),
        },
        Unit::Bytes(bytes) => Expr::Fraction { ratio: bytes, name: "bytes per parameter", source: source(), of: Box::new(count) },
    }
}

/// Where parameters that are shared stand in the papers and in code.
const fn sharding_source(sharding: Sharding) -> &'static str {
    match sharding {
        Sharding::None | Sharding::Ddp => "every replica holds everything",
        Sharding::Zero1 | Sharding::Zero2 | Sharding::Zero3 => {
            "ZeRO (Rajbhandari et al., arXiv 1910.02054): states, gradients and weights in equal parts over the replicas"
        }
        Sharding::Fsdp => "torch 2.15 torch/distributed/fsdp: every unit in equal parts over the replicas",
        Sharding::Hsdp => "torch 2.15 torch/distributed/fsdp, HYBRID_SHARD: every unit in equal parts over a shard group",
    }
}

/// Everything of this kind on one rank, in the order of the ledger. `fullest` says which moment of the backward pass decides.
pub(super) fn entries(run: &Run, holdings: &Holdings, fullest: Fullest) -> Result<Vec<Entry>, Overflow> {
    let mut entries = weights(run, holdings)?;
    let own = holdings.trained()?;
    let trained = [own[0].checked_add(holdings.adapters[0]).ok_or(Overflow)?, own[1].checked_add(holdings.adapters[1]).ok_or(Overflow)?];
    let recipe = run.recipe;
    if let Some(master) = recipe.master {
        let count = share_of(run, trained, run.sharding.shares_states(), "trained parameters");
        entries.push(Entry::exact(Term::MasterWeights, Expr::encoded(count, master), Basis::Derived, recipe.source, ALL)?);
    }
    if run.scenario.training.ema {
        let count = share_of(run, trained, run.sharding.shares_weights(), "averaged parameters");
        entries.push(Entry::exact(
            Term::MasterWeights,
            Expr::encoded(count, Encoding::F32),
            Basis::Derived,
            "a moving average of the weights in float32",
            ALL,
        )?);
    }
    entries.extend(gradients(run, holdings, trained, fullest)?);
    entries.extend(optimizer(run, holdings, trained)?);
    entries.extend(dequantised(run, holdings)?);
    entries.extend(fp8_copies(run, holdings)?);
    Ok(entries)
}

/// Weights of the model, and adapters.
fn weights(run: &Run, holdings: &Holdings) -> Result<Vec<Entry>, Overflow> {
    let is_shared = run.sharding.shares_weights();
    let mut parts = Vec::new();
    for ((what, count, unit), is_expert) in holdings.frozen(run)? {
        let counts = if is_expert { [0, count] } else { [count, 0] };
        parts.push(of_unit(run, share_of(run, counts, is_shared, what), unit));
    }
    let own = holdings.trained()?;
    if own != [0, 0] {
        parts.push(Expr::encoded(share_of(run, own, is_shared, "parameters"), run.recipe.weight));
    }
    let is_plain = run.world.ranks() == 1 && run.packed.is_none();
    let source = if run.packed.is_none() {
        sharding_source(run.sharding)
    } else {
        "frozen matrices as their format stores them; embeddings, head and norms as it leaves them"
    };
    let mut entries = vec![Entry::exact(Term::Weights, Expr::sum(parts), if is_plain { Basis::Exact } else { Basis::Derived }, source, ALL)?];
    if holdings.adapters != [0, 0] {
        let count = share_of(run, holdings.adapters, is_shared, "adapter parameters");
        let formula = Expr::encoded(count, run.recipe.weight);
        entries.push(Entry::exact(Term::Adapters, formula, Basis::Derived, run.recipe.source, ALL)?);
    }
    Ok(entries)
}

/// Gradients: none in the forward pass unless passes are accumulated; in the backward pass as far as it has come.
fn gradients(run: &Run, holdings: &Holdings, trained: [u64; 2], fullest: Fullest) -> Result<Vec<Entry>, Overflow> {
    let recipe = run.recipe;
    let is_shared = run.sharding.shares_gradients();
    let entry = |counts: [u64; 2], encoding, stages| {
        let count = share_of(run, counts, is_shared, "trained parameters");
        Entry::exact(Term::Gradients, Expr::encoded(count, encoding), Basis::Derived, recipe.source, stages)
    };
    if steps_in_backward(run) {
        let largest = holdings.largest(|held| held.is_trained).max(holdings.largest_adapter());
        let formula = Expr::encoded(Expr::leaf(largest, "parameters of the largest tensor", counted(run)), recipe.gradient);
        return Ok(vec![Entry::exact(Term::Gradients, formula, Basis::Derived, source(run.optimizer), BACKWARD)?]);
    }
    let mut entries = Vec::new();
    match fullest {
        _ if run.keeps_gradients() => entries.push(entry(trained, recipe.gradient, STEPPING)?),
        Fullest::End => entries.push(entry(trained, recipe.gradient, BACKWARD_AND_STEP)?),
        Fullest::Start => {
            // At its start only what comes last in the forward pass has a gradient.
            let head = holdings.sum(|held| held.is_trained && !held.is_in_layer && super::loss::is_head(run.model.decoder(), held.tensor))?;
            entries.push(entry(head, recipe.gradient, BACKWARD)?);
            entries.push(entry(trained, recipe.gradient, AT_STEP)?);
        }
    }
    if recipe.widens_gradients {
        let count = share_of(run, trained, run.sharding.shares_states(), "trained parameters");
        entries.push(Entry::exact(Term::Gradients, Expr::encoded(count, Encoding::F32), Basis::Derived, recipe.source, AT_STEP)?);
    }
    Ok(entries)
}

/// States of the optimizer from the second step on, and what its step takes.
fn optimizer(run: &Run, holdings: &Holdings, trained: [u64; 2]) -> Result<Vec<Entry>, Overflow> {
    let is_shared = run.sharding.shares_states();
    let parts: Vec<Expr> = all_states(run, holdings)?
        .into_iter()
        .map(|((what, count, encoding), is_expert)| {
            let counts = if is_expert { [0, count] } else { [count, 0] };
            Expr::encoded(share_of(run, counts, is_shared, what), encoding)
        })
        .collect();
    let mut entries = Vec::new();
    if !parts.is_empty() {
        let entry = Entry::exact(Term::Optimizer, Expr::sum(parts), Basis::Derived, source(run.optimizer), STEPPING)?;
        let expected = entry.amount.expected;
        entries.push(if is_paged(run.optimizer) { entry.with_band(Bytes::ZERO, expected, Basis::Modelled) } else { entry });
    }
    let largest = |wanted: &dyn Fn(Role) -> bool| holdings.largest(|held| held.is_trained && wanted(held.tensor.role));
    let leaf = |count: u64| Expr::leaf(count, "parameters of the largest tensor", counted(run));
    let copies = |copies: u64, count: u64, of: Encoding| Expr::Product(vec![Expr::named(copies, "copies"), Expr::encoded(leaf(count), of)]);
    let is_projected = |role: Role| !matches!(role, Role::Embedding | Role::Head | Role::Norm | Role::Position);
    let step = match run.optimizer {
        Optimizer::AdamwForeach => Some(Expr::encoded(share_of(run, trained, is_shared, "square roots of second moments"), run.recipe.state)),
        Optimizer::Muon => Some(copies(3, largest(&is_projected), Encoding::BF16)),
        // The gradient's square, its sum with epsilon, and float32 copies of what is in 16 bits.
        Optimizer::Adafactor => {
            let narrow = [run.recipe.weight, run.recipe.gradient].into_iter().filter(|of| *of != Encoding::F32).count() as u64;
            Some(copies(2 + narrow, largest(&|_| true), Encoding::F32))
        }
        // Its singular vectors beside a float32 copy of a projected matrix; a denominator and a quotient of what is not projected.
        Optimizer::Galore => {
            Some(Expr::Max(vec![copies(3, largest(&is_projected), Encoding::F32), copies(2, largest(&|role| !is_projected(role)), run.recipe.state)]))
        }
        Optimizer::Apollo | Optimizer::ApolloMini => Some(copies(2, largest(&|_| true), run.recipe.state)),
        _ => None,
    };
    if let Some(formula) = step {
        entries.push(Entry::exact(Term::Workspace, formula, Basis::Derived, source(run.optimizer), AT_STEP)?);
    }
    Ok(entries)
}

/// Quantised matrices are made whole one at a time when they are used.
fn dequantised(run: &Run, holdings: &Holdings) -> Result<Option<Entry>, Overflow> {
    if run.packed.is_none() {
        return Ok(None);
    }
    let largest = holdings.largest(|held| !held.is_trained && is_quantised(run, held));
    let formula = Expr::encoded(Expr::leaf(largest, "parameters of the largest matrix", counted(run)), run.recipe.compute);
    let source = "bitsandbytes 0.50 autograd/_functions.py `MatMul4Bit`: a matrix is dequantised for its product, forward and backward";
    Entry::exact(Term::Workspace, formula, Basis::Derived, source, IN_MATRICES).map(Some)
}

/// Copies of matrices in 8-bit float. torchao makes them anew in each pass and keeps none.
fn fp8_copies(run: &Run, holdings: &Holdings) -> Result<Option<Entry>, Overflow> {
    if run.fp8 != Some(Fp8::TransformerEngine) {
        return Ok(None);
    }
    // Frozen matrices that are quantised are not computed in 8-bit float.
    let is_matrix = |held: &super::holdings::Held| {
        (held.is_trained || !is_quantised(run, held))
            && held.is_in_layer
            && held.tensor.shape.len() > 1
            && !matches!(held.tensor.role, Role::Router | Role::Norm | Role::Position)
    };
    let counts = holdings.sum(is_matrix)?;
    let formula = Expr::Product(vec![Expr::named(2, "B"), Expr::leaf(counts[0].checked_add(counts[1]).ok_or(Overflow)?, "values of matrices", counted(run))]);
    let source = "TransformerEngine pytorch/module/linear.py: every matrix in 8-bit float and transposed, kept over micro-batches; one of the two on Blackwell";
    let entry = Entry::exact(Term::Weights, formula, Basis::Modelled, source, STEPPING)?;
    let expected = entry.amount.expected;
    Ok(Some(entry.with_band(Bytes(expected.get() / 2), expected, Basis::Modelled)))
}

/// The stages in which a term is held on the host when it is offloaded.
pub(super) const fn is_offloaded(term: Term, offload: crate::scenario::Offload) -> bool {
    use crate::scenario::Offload;
    match offload {
        Offload::Optimizer => matches!(term, Term::Optimizer | Term::MasterWeights | Term::Gradients),
        Offload::Params => matches!(term, Term::Optimizer | Term::MasterWeights | Term::Gradients | Term::Weights | Term::Adapters),
        Offload::None | Offload::Activations => false,
    }
}

/// Whether an entry of the optimizer's step runs where the states lie.
pub(super) fn is_step(entry: &Entry) -> bool {
    entry.term == Term::Workspace && entry.stages == [Stage::OptimizerStep]
}
