//! Training: a ledger per rank over the stages of one step, from the model's own tensors and layers.

mod activations;
mod experts;
mod habits;
mod holdings;
mod idle;
mod images;
mod layer;
mod loss;
mod modules;
mod optimizer;
mod phases;
mod queries;
mod recipe;
mod resampler;
mod run;
mod samples;
mod segments;
mod sharding;
mod stages;
mod states;
mod tape;
mod targets;
mod towers;
mod unfollowed;
mod world;

use super::{EstimateError, UNMAPPED, is_alike, widen, widen_activations};
use crate::estimate::{Basis, Device, Entry, Estimate, Ledger, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Model, Work};
use crate::order::sort_short;
use crate::quantity::{Bytes, Overflow, ParamCount};
use crate::runtime::sdpa;
use crate::scenario::{Kernels, Offload, OffloadDevice, Scenario};
use activations::Pass;
use holdings::Holdings;
use run::Run;

/// What a caching allocator holds beyond what comes and goes, in percent: torchtitan's logs of reserved memory (Llama 3.1 8B, FSDP over 8
/// and 128 H100, December 2024) are 8 to 25 above what is modelled here; batches of many lengths need more.
const SLACK: (u64, u64, u64) = (0, 15, 40);

/// The answer for one training scenario.
pub(super) fn estimate(model: &Model, scenario: &Scenario) -> Result<Estimate, EstimateError> {
    if model.is_pipeline() {
        return Err(run::unsupported("training of diffusion pipelines is not known here yet".to_owned()));
    }
    unfollowed::check(model)?;
    let mut run = Run::new(model, scenario)?;
    let mut devices: Vec<Device> = Vec::new();
    let mut host: Vec<Entry> = Vec::new();
    let trained = count_trained(&mut run)?;
    if trained == ParamCount::ZERO {
        let why = "nothing of this model would be trained: the last layers have no weights of their own, or it has none of the roles that are named";
        return Err(run::unsupported(format!("{why}: {} leaves nothing trainable (--trainable)", run.method)));
    }
    for place in run.world.places(model.decoder().layer_count()) {
        run.place = place;
        let holdings = Holdings::of(&run)?;
        let (device, moved) = device(&run, &holdings)?;
        host.extend(moved);
        match devices.last_mut() {
            Some(before) if is_alike(before, &device) => before.ranks.end = device.ranks.end,
            _ => devices.push(device),
        }
    }
    let warnings = warnings(&run);
    let assumptions = [&model.anatomy.assumptions, &model.provenance.notes, &run.assumptions].into_iter().flatten().cloned().collect();
    let host = (!host.is_empty()).then(|| Ledger { stages: phases::stages(&run), entries: host });
    Ok(Estimate { devices, host, capacity: None, trainable: Some(trained), choices: run.choices.0, assumptions, warnings })
}

/// Parameters that are trained, each once, however they are spread.
fn count_trained(run: &mut Run) -> Result<ParamCount, Overflow> {
    let spread = run.world.clone();
    (run.world.tensor.value, run.world.expert.value) = (1, 1);
    let holdings = Holdings::of(run);
    run.world = spread;
    let holdings = holdings?;
    let all = holdings.trained()?.into_iter().chain(holdings.adapters);
    all.map(ParamCount).try_fold(ParamCount::ZERO, ParamCount::plus)
}

/// The ledger of one rank, and what of it lies on the host.
fn device(run: &Run, holdings: &Holdings) -> Result<(Device, Vec<Entry>), EstimateError> {
    let pass = Pass::of(run)?;
    let growing = growing_gradients(run, holdings)?;
    let (activations, mut host, fullest) = pass.entries(run, growing)?;
    let mut entries = states::entries(run, holdings, fullest)?;
    let phases = phases::entries(run, holdings, &pass, &entries)?;
    move_to_host(run, &mut entries, &mut host)?;
    entries.extend(activations);
    entries.extend(activations::casts(run, holdings)?);
    entries.extend(experts::entries(run, holdings)?);
    let is_head_trained =
        holdings.tensors.iter().any(|held| (held.is_trained || run.saves(held.tensor.role)) && loss::is_head(run.model.decoder(), held.tensor));
    entries.extend(loss::entries(run, is_head_trained)?);
    entries.extend(sharding::entries(run, holdings)?);
    entries.extend(phases);
    entries.extend(phases::per_token(run)?);
    if run.model.anatomy.is_guess {
        for entry in entries.iter_mut().filter(|entry| entry.term != Term::RuntimeContext) {
            widen(entry)?;
        }
    }
    // A number without one of its parts is no more than a rule of thumb.
    let is_part_missing = (run.images.value > 0 || run.seconds.value > 0) && run.place.is_first && !uncounted(run).is_empty();
    let is_part_missing = is_part_missing || unfollowed::has_scores_by_distance(run.model);
    if run.model.is_input_unmapped(true) || is_part_missing || unfollowed::is_mostly_outside(run.model.decoder())? && run.image.is_none() {
        widen_activations(&mut entries)?;
    }
    entries.extend(segments::entry(run, holdings)?);
    entries.push(context(run)?);
    sort_short(&mut entries, |entry| entry.term);
    let each = run.world.ranks_of_stage();
    let first = run.place.stage * each;
    let mut device = Device {
        ranks: first..first + each,
        gpu: run.card.name.clone(),
        capacity: run.card.capacity,
        usable: run.card.usable,
        budget: None,
        claim: None,
        ledger: Ledger { stages: phases::stages(run), entries },
        slack: None,
        minimum: None,
    };
    device.slack = Some(slack(&device)?);
    Ok((device, host))
}

/// Bytes by which gradients grow in the backward pass through layers, on this rank's card.
fn growing_gradients(run: &Run, holdings: &Holdings) -> Result<u64, Overflow> {
    if optimizer::steps_in_backward(run) || states::is_offloaded(Term::Gradients, run.offload) {
        return Ok(0);
    }
    let head = |held: &holdings::Held| !held.is_in_layer && loss::is_head(run.model.decoder(), held.tensor);
    let own = holdings.sum(|held| held.is_trained && !head(held))?;
    let counts = [own[0].checked_add(holdings.adapters[0]).ok_or(Overflow)?, own[1].checked_add(holdings.adapters[1]).ok_or(Overflow)?];
    let count = states::share_of(run, counts, run.sharding.shares_gradients(), "trained parameters");
    Expr::encoded(count, run.recipe.gradient).evaluate()
}

/// Moves what is offloaded from a rank's entries to those of the host, for all ranks of the stage.
fn move_to_host(run: &Run, entries: &mut Vec<Entry>, host: &mut Vec<Entry>) -> Result<(), Overflow> {
    let moves = |entry: &Entry| {
        states::is_offloaded(entry.term, run.offload) || run.offload != Offload::None && run.offload != Offload::Activations && states::is_step(entry)
    };
    let (moved, kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries).into_iter().partition(moves);
    *entries = kept;
    let ranks = run.world.ranks_of_stage();
    let of_all = |entry: &Entry| {
        let formula = Expr::Product(vec![Expr::leaf(ranks, "ranks", Source::Derived("all ranks of a stage".into())), entry.formula.clone()]);
        Entry::exact(entry.term, formula, entry.basis, entry.source, entry.stages)
    };
    if run.offload_device == OffloadDevice::Nvme && !moved.is_empty() {
        host.push(sharding::disk_buffers(stages::ALL)?);
    } else {
        *host = host.iter().chain(&moved).map(of_all).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// The driver's context and the kernels that are loaded.
fn context(run: &Run) -> Result<Entry, Overflow> {
    let (low, expected, high, source) = run.card.context_bytes();
    let formula = Expr::leaf(expected.get(), "B", source);
    let what = "the process's context on the card: outside the allocator's figures";
    Ok(Entry::exact(Term::RuntimeContext, formula, Basis::Modelled, what, stages::ALL)?.with_band(low, high, Basis::Modelled))
}

/// What a caching allocator holds at its peak beyond what is used: a part of what comes and goes within a step.
fn slack(device: &Device) -> Result<Entry, Overflow> {
    let (_, peak) = device.peak()?;
    let steady: Vec<Bytes> = device.entries.iter().filter(|entry| entry.stages == stages::ALL).map(|entry| entry.amount.expected).collect();
    let moving = peak.expected.minus(Bytes::total(steady)?).unwrap_or(Bytes::ZERO);
    let (low, percent, high) = SLACK;
    let formula =
        Expr::Product(vec![Expr::named(percent, "%"), Expr::leaf(moving.get(), "B that come and go", Source::Derived("peak less what is loaded".into()))])
            .ceil_div(Expr::named(100, "%"));
    let part = |percent: u64| Bytes(moving.get() / 100 * percent);
    let source = "blocks that PyTorch's caching allocator keeps for other sizes";
    Ok(Entry::exact(Term::Fragmentation, formula, Basis::Modelled, source, stages::ALL)?.with_band(part(low), part(high), Basis::Modelled))
}

/// Parts of whose input nothing is known to be kept.
fn uncounted<'a>(run: &Run<'a>) -> Vec<&'a Component> {
    let counted = towers::of(run);
    let is_counted = |part: &Component| part.kind == ComponentKind::TextEncoder || counted.iter().any(|tower| std::ptr::eq(tower.part, part));
    run.model.anatomy.counted().skip(1).filter(|part| !is_counted(part)).collect()
}

fn names(parts: &[&Component]) -> String {
    parts.iter().map(|part| part.name.as_ref()).collect::<Vec<&str>>().join(", ")
}

/// What the user should know.
fn warnings(run: &Run) -> Vec<String> {
    let mut warnings: Vec<String> = run.model.is_input_unmapped(true).then(|| UNMAPPED.to_owned()).into_iter().collect();
    let others = uncounted(run);
    if !others.is_empty() {
        let hints = [
            (run.images.value == 0 && others.iter().any(|part| part.patches().is_some()), "--images says how many images there are in a sample"),
            (run.seconds.value == 0 && others.iter().any(|part| part.frames().is_some()), "--audio-seconds says how much sound there is in a sample"),
        ];
        let hints: Vec<&str> = hints.into_iter().filter_map(|(is_open, hint)| is_open.then_some(hint)).collect();
        let hint = if hints.is_empty() { String::new() } else { format!(" ({})", hints.join("; ")) };
        warnings.push(format!("of {} only weights, gradients and states are counted, not what they keep of their input{hint}", names(&others)));
        let (adapted, _): (Vec<&Component>, Vec<_>) = run.model.anatomy.counted().partition(|part| run.adapts_some_of(part));
        if !adapted.is_empty() && adapted.iter().all(|part| others.iter().any(|other| std::ptr::eq(*part, *other))) {
            let names = names(&adapted);
            warnings.push(format!("adapters are in {names} alone: where that reads nothing there is no gradient, and PyTorch refuses the backward pass"));
        }
    }
    if run.kernels == Kernels::Standard && layer::is_written_out(&run.model.anatomy.computation) {
        let name = &run.model.anatomy.computation.activation;
        warnings.push(format!("`{name}` is one operator here; transformers writes it out and keeps more of it (--kernels transformers)"));
    }
    warnings.extend(layer::without_flash(run));
    if layer::falls_back_to_eager(run) {
        let pairs = if sdpa::attends_in_part(run.model) { "; scores of all pairs are counted, of which it computes a part in long inputs" } else { "" };
        warnings.push(format!("transformers 5.23 has no sdpa attention for this family and writes it out (eager): that is counted{pairs}"));
    }
    if let Some(method) = &run.model.anatomy.quantization
        && run.packed.is_none()
    {
        let method = &method.method;
        warnings.push(format!("the config says `{method}` quantisation: weights are counted in {} as they would be after loading unquantised", run.base));
    }
    if matches!(run.model.decoder().work, Work::Images(_)) {
        warnings.push("what cuDNN works with in convolutions is not counted: 0 to about 1 GiB, by the algorithm that it picks".to_owned());
    }
    warnings.extend(idle::told(run));
    warnings
}
