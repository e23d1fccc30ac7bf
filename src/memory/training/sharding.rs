//! What sharing takes on a rank: gathered units, buckets, offload's buffers, communicators.

use super::holdings::Holdings;
use super::run::Run;
use super::stages::{ALL, AT_STEP, BACKWARD, PASSES, STEPPING};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::FeedForward;
use crate::quantity::{Bytes, MIB, Overflow};
use crate::scenario::{Offload, Sharding};

/// DeepSpeed 0.19.6 `runtime/zero/config.py`: elements of a bucket of gradients, and of one of gathered weights.
const BUCKET: u64 = 500_000_000;
/// The same: elements of weights that ZeRO-3 leaves gathered (`max_live_parameters`).
const LIVE: u64 = 1_000_000_000;

const ZERO: &str = "DeepSpeed 0.19.6 runtime/zero/config.py: reduce_bucket_size and allgather_bucket_size 5e8, stage3_max_live_parameters 1e9 elements";
const FSDP: &str = "torch 2.15 torch/distributed/fsdp: units are gathered for their pass, one ahead; the outermost one (embedding, head) for the whole pass";
const DDP: &str = "torch 2.15 nn/parallel/distributed.py: gradients are copied to buckets (gradient_as_bucket_view=False)";

/// Entries of one rank.
pub(super) fn entries(run: &Run, holdings: &Holdings) -> Result<Vec<Entry>, Overflow> {
    let mut entries = Vec::new();
    if run.world.ranks() > 1 {
        entries.push(communicators(run)?);
    }
    let own = holdings.trained()?;
    let trained = [own, holdings.adapters].iter().flatten().try_fold(0u64, |sum, more| sum.checked_add(*more)).ok_or(Overflow)?;
    let leaf = |count: u64, name: &'static str| Expr::leaf(count, name, Source::Derived("counted from config.json".into()));
    let gradient = run.recipe.gradient;
    let compute = run.recipe.compute;
    entries.extend(rings(run)?);
    entries.extend(dispatched(run)?);
    if run.world.shards == 1 {
        entries.extend(offload_buffers(run, holdings)?);
        return Ok(entries);
    }
    let communication = |formula, source, stages| Entry::exact(Term::Communication, formula, Basis::Derived, source, stages);
    let bucket = |of: u64| Expr::Min(vec![leaf(of, "parameters"), Expr::named(BUCKET, "elements of a bucket")]);
    match run.sharding {
        // Megatron-LM core/distributed/param_and_grad_buffer.py: what is sent are ranges of the buffers that weights and gradients lie in.
        Sharding::Ddp | Sharding::Zero1 | Sharding::Zero2 if run.recipe.has_gradient_buffer => {}
        Sharding::Ddp if trained > 0 => entries.push(communication(Expr::encoded(leaf(trained, "trained parameters"), gradient), DDP, STEPPING)?),
        Sharding::Zero1 | Sharding::Zero2 if trained > 0 => {
            entries.push(communication(Expr::encoded(bucket(trained), gradient), ZERO, BACKWARD)?);
            entries.push(communication(Expr::encoded(bucket(trained), compute), ZERO, AT_STEP)?);
        }
        Sharding::Zero3 => {
            let all = holdings.sum(|_| true)?;
            let (layer, root) = holdings.units()?;
            let most = Expr::Max(vec![leaf(layer.max(root), "parameters of the largest unit"), Expr::named(LIVE, "elements left gathered")]);
            let live = Expr::Min(vec![leaf(all[0].saturating_add(all[1]), "parameters"), most]);
            let formula = Expr::encoded(live, compute);
            let low = compute.bytes_for(layer)?;
            let entry = communication(formula, ZERO, PASSES)?;
            let high = entry.amount.expected;
            entries.push(entry.with_band(low, high, Basis::Modelled));
            if trained > 0 {
                entries.push(communication(Expr::encoded(bucket(trained), gradient), ZERO, BACKWARD)?);
            }
        }
        Sharding::Fsdp | Sharding::Hsdp => entries.extend(gathered(run, holdings)?),
        _ => {}
    }
    entries.extend(offload_buffers(run, holdings)?);
    Ok(entries)
}

/// FSDP: whole units in the type of computation, and their gradients before they are shared.
fn gathered(run: &Run, holdings: &Holdings) -> Result<Vec<Entry>, Overflow> {
    let (layer, root) = holdings.units()?;
    let (recipe, leaf) = (run.recipe, |count: u64, name: &'static str| Expr::leaf(count, name, Source::Derived("counted from config.json".into())));
    let units = run.prefetch.value.checked_add(1).ok_or(Overflow)?;
    // Quantised units are gathered as they are stored.
    let units = Expr::leaf(units, "gathered units", run.prefetch.source.clone());
    let layers = match run.packed {
        None => Expr::encoded(Expr::Product(vec![units, leaf(layer, "parameters of the largest layer")]), recipe.compute),
        Some(_) => Expr::Product(vec![units, leaf(holdings.stored_layer(run)?, "B of the largest layer as it is stored")]),
    };
    let root_bytes = Expr::encoded(leaf(root, "parameters outside of layers"), recipe.compute);
    let mut entries = vec![Entry::modelled(Term::Communication, Expr::Sum(vec![root_bytes, layers]), (60, 130), FSDP, PASSES)?];
    if holdings.trained()? != [0, 0] {
        let root = holdings.sum(|held| held.is_trained && !held.is_in_layer)?[0];
        // A layer's gradient and its copy on the way to the ranks that own it; the outermost unit's until the end.
        let one = Expr::Sum(vec![
            Expr::encoded(leaf(layer, "parameters of the largest layer"), recipe.compute),
            Expr::encoded(leaf(layer, "parameters of the largest layer"), recipe.gradient),
            Expr::encoded(leaf(root, "trained parameters outside of layers"), recipe.compute),
        ]);
        entries.push(Entry::modelled(Term::Communication, one, (50, 150), FSDP, BACKWARD)?);
    }
    Ok(entries)
}

/// Context parallelism: keys and values of the rank that is read from, and of the one after it.
fn rings(run: &Run) -> Result<Option<Entry>, Overflow> {
    let widest = run.model.decoder().cache_groups_in(run.place.layers.clone()).into_iter().map(|group| group.mixer.cache_elements_per_token()).max();
    let Some(elements) = widest.filter(|&elements| run.world.context.value > 1 && elements > 0) else { return Ok(None) };
    let width = run.width(elements, "values of keys and values", Source::Config("num_key_value_heads".into()), true);
    let formula = Expr::encoded(Expr::Product(vec![Expr::named(2, "buffers"), run.tokens(), width]), run.recipe.compute);
    let source = "ring attention (Liu et al., arXiv 2310.01889): one block of keys and values is read while the next arrives";
    Entry::modelled(Term::Communication, formula, (50, 150), source, PASSES).map(Some)
}

/// Expert parallelism: the tokens that a rank sends to its experts, and those that it gets.
fn dispatched(run: &Run) -> Result<Option<Entry>, Overflow> {
    let decoder = run.model.decoder();
    let active = decoder.layers.iter().filter_map(|run| match run.layer.feed_forward {
        FeedForward::MixtureOfExperts { active, .. } => Some(active),
        FeedForward::Dense { .. } | FeedForward::None => None,
    });
    let Some(active) = active.max().filter(|_| run.world.expert.value > 1) else { return Ok(None) };
    let chosen = Expr::leaf(active, "experts per token", Source::Config("num_experts_per_tok".into()));
    let hidden = Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
    let formula = Expr::encoded(Expr::Product(vec![Expr::named(2, "buffers"), run.tokens(), chosen, hidden]), run.recipe.compute);
    let source = "all-to-all: what is sent and what is received (Megatron-LM transformer/moe/token_dispatcher.py); uneven routing takes more";
    Entry::modelled(Term::Communication, formula, (50, 200), source, PASSES).map(Some)
}

/// What the driver holds for groups of ranks, outside of the allocator: told with the context.
fn communicators(run: &Run) -> Result<Entry, Overflow> {
    let (expected, low, high) = if run.world.ranks() < 8 { (440, 50, 1300) } else { (1000, 100, 2600) };
    let source = "NCCL's buffers, outside of the allocator: 544 MB for 2 GPUs in NVIDIA/nccl issue 964, up to 2.1 GiB on 8 GPUs in public logs";
    let formula = Expr::leaf(expected * MIB, "B of communicators", Source::Measured("public logs"));
    Ok(Entry::exact(Term::RuntimeContext, formula, Basis::Modelled, source, ALL)?.with_band(Bytes(low * MIB), Bytes(high * MIB), Basis::Modelled))
}

/// Weights that lie elsewhere pass through the GPU layer by layer, where sharding does not gather them anyway.
fn offload_buffers(run: &Run, holdings: &Holdings) -> Result<Option<Entry>, Overflow> {
    if run.offload != Offload::Params || run.sharding.shares_weights() && run.world.shards > 1 {
        return Ok(None);
    }
    let (layer, root) = holdings.units()?;
    let leaf = |count: u64, name: &'static str| Expr::leaf(count, name, Source::Derived("counted from config.json".into()));
    let units = Expr::leaf(run.prefetch.value + 1, "layers at once", run.prefetch.source.clone());
    let count = Expr::Sum(vec![Expr::Product(vec![units, leaf(layer, "parameters of the largest layer")]), leaf(root, "parameters outside of layers")]);
    let formula = Expr::encoded(count, run.recipe.compute);
    Entry::modelled(Term::OffloadBuffers, formula, (50, 150), "weights on the host are copied in for their pass", PASSES).map(Some)
}

/// Buffers in host memory through which states on a disk pass (DeepSpeed 0.19.6 `runtime/zero/offload_config.py`: five of 1e8 elements).
pub(super) fn disk_buffers(stages: &'static [crate::estimate::Stage]) -> Result<Entry, Overflow> {
    let formula = Expr::encoded(Expr::Product(vec![Expr::named(5, "buffers"), Expr::named(100_000_000, "elements")]), Encoding::F32);
    Entry::modelled(Term::OffloadBuffers, formula, (50, 150), ZERO, stages)
}
