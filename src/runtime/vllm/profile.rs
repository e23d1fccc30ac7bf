//! The memory profile of vLLM's start: one step of the most tokens, then the sampler, on top of what stays.
//!
//! `v1/worker/gpu_worker.py:determine_available_memory`, `v1/worker/gpu_model_runner.py:profile_run` and `_dummy_sampler_run`; before,
//! `worker/worker.py:determine_num_available_blocks`. The sum weights + activation peak + non-torch + cache = budget holds within
//! 0.06 GiB in 46 of 47 public logs.

use super::super::{Setup, common};
use super::version::{Rules, Sampler, cublas_workspace, is_large};
use crate::estimate::{ALWAYS, Basis, Entry, RUNNING, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Role};
use crate::quantity::{Bytes, MIB, Overflow};

/// Bytes per sequence and entry of the vocabulary.
const SORTS: u64 = 38;
const SORTS_HOW: &str =
    "16-bit logits and their float32 copy (2 + 4), sorted values and indices (4 + 8), the segments' own indices (8) and the sort's second buffer (12)";
const FILTERS: u64 = 14;
const FILTERS_HOW: &str = "16-bit logits, their float32 copy, probabilities and noise (2 + 4 + 4 + 4)";

const SAMPLER: &str = "sampling step of vLLM's memory profile. Where the sampler sorts (all versions before 0.17 without FlashInfer) it takes 38 B, else 14 B; within 3 % in 14 public logs";
const STEP: &str =
    "one step of vLLM's memory profile: feed-forward (gate, up and product) + 4 × hidden_size per token (3 for Llama in V0); within 3 % in 9 public logs";

pub(super) fn entries(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    let mut entries = step(setup, rules)?;
    // Encoders and what ends in a score end in a pooler (`_dummy_pooler_run`).
    let decoder = setup.model.decoder();
    if setup.place.is_last && decoder.kind == ComponentKind::TextDecoder && decoder.tensors.iter().all(|tensor| tensor.role != Role::Score) {
        entries.extend(sampling(setup, rules)?);
    }
    let cublas = Expr::leaf(cublas_workspace(&setup.card), "B", Source::Runtime("cuBLAS workspace of PyTorch: 32 MiB on Hopper, 8.125 MiB before"));
    entries.push(Entry::exact(Term::Workspace, cublas, Basis::Derived, "workspace of matrix products", RUNNING)?);
    if !rules.budgets_context() {
        entries.push(outside_torch(setup)?);
    }
    entries.extend(communication(setup)?);
    entries.push(common::context(setup)?);
    entries.extend(graphs(setup, rules)?);
    Ok(entries)
}

fn hidden(setup: &Setup) -> Expr {
    Expr::leaf(setup.model.decoder().hidden_size, "hidden_size", Source::Config("hidden_size".into()))
}

/// The forward pass: of the profile while prefilling, of the chosen load while decoding.
fn step(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    let copies = rules.hidden_copies(setup.model);
    let per_token = || Expr::Sum(vec![common::feed_forward_width(setup), Expr::Product(vec![Expr::constant(copies), hidden(setup)])]);
    let of = |tokens: Expr| Expr::encoded(Expr::Product(vec![tokens, per_token()]), setup.dtype);
    let tokens = || setup.step_tokens.leaf("tokens per step");
    let mut entries = Vec::new();
    let profiled = of(tokens());
    match encoder(setup) {
        Some(encoder) => {
            let peak = Expr::Max(vec![profiled, encoder]);
            let source = "the larger of one step and of the encoder with the largest input: both are run by the memory profile. Image sizes are not in config.json: a rule of thumb";
            entries.push(Entry::modelled(Term::Activations, peak, (60, 250), source, &[Stage::Prefill])?);
            // What the encoder made is kept over both.
            let kept = Expr::encoded(Expr::Product(vec![tokens(), hidden(setup)]), setup.dtype);
            let source = "the encoder's outputs, as many as one step takes (`encoder_cache_size`)";
            entries.push(Entry::modelled(Term::Activations, kept, (0, 200), source, &[Stage::Prefill, Stage::Sampling])?);
        }
        None => entries.push(Entry::modelled(Term::Activations, profiled, (75, 125), STEP, &[Stage::Prefill])?),
    }
    entries.push(Entry::modelled(Term::Activations, of(setup.batch.leaf("requests")), (75, 125), STEP, &[Stage::Decode])?);
    Ok(entries)
}

/// The vision tower with as many of the largest images as one step takes, or an encoder whose output is read across. Towers with a table of positions have images of one
/// size; Qwen's and those without a table take the most that Qwen's processors give, 16,384 tokens of four patches.
fn encoder(setup: &Setup) -> Option<Expr> {
    if let Some(across) = &setup.across {
        return Some((across.pass)(setup, across.part, across.planned.clone()));
    }
    let tower = setup.model.anatomy.counted().find(|component| component.kind == ComponentKind::VisionTower)?;
    let has_one_size = !setup.model.anatomy.model_type.starts_with("qwen");
    let patches = match positions(tower).filter(|_| has_one_size) {
        Some(rows) => Expr::Product(vec![setup.step_tokens.leaf("tokens per step").ceil_div(Expr::named(rows, "patches")), Expr::named(rows, "patches")]),
        None => Expr::named(4 * 16_384, "patches"),
    };
    let inner = tower.widest_feed_forward().map_or(0, |feed_forward| feed_forward.active_width());
    let width = Expr::Sum(vec![
        Expr::Product(vec![Expr::constant(3), setup.spread.per_rank(Expr::named(inner, "tower's inner width"))]),
        Expr::Product(vec![Expr::constant(4), Expr::named(tower.hidden_size, "tower's hidden_size")]),
    ]);
    Some(Expr::encoded(Expr::Product(vec![patches, width]), setup.dtype))
}

fn positions(tower: &Component) -> Option<u64> {
    tower.tensors.iter().find(|tensor| tensor.role == Role::Position).and_then(|tensor| tensor.shape.iter().rev().nth(1)).copied()
}

/// The sampler with as many sequences as are planned for, and with those of the chosen load.
fn sampling(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    let decoder = setup.model.decoder();
    let vocabulary = || Expr::leaf(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()));
    let (bytes, how) = match rules.sampler() {
        Sampler::Sorts => (SORTS, SORTS_HOW),
        Sampler::Filters => (FILTERS, FILTERS_HOW),
    };
    // The other path, in percent.
    let band = (FILTERS * 90 / bytes, (SORTS * 103).div_ceil(bytes));
    let of = |sequences: Expr| Expr::Product(vec![sequences, vocabulary(), Expr::leaf(bytes, "B", Source::Runtime(how))]);
    let sequences = Expr::Min(vec![setup.step_sequences.leaf("sequences"), setup.step_tokens.leaf("tokens per step")]);
    let kept = Expr::encoded(Expr::Product(vec![Expr::Sum(vec![setup.step_tokens.leaf("tokens per step"), sequences.clone()]), hidden(setup)]), setup.dtype);
    Ok(vec![
        Entry::modelled(Term::Logits, of(sequences), band, SAMPLER, &[Stage::Sampling])?,
        Entry::modelled(Term::Activations, kept, (90, 110), "hidden states of the profiled step, which the sampler's run keeps", &[Stage::Sampling])?,
        Entry::modelled(Term::Logits, of(checked(setup)), band, SAMPLER, &[Stage::Decode])?,
    ])
}

/// Positions of the chosen load whose logits one step needs: of each request the next token, and those that were drafted.
fn checked(setup: &Setup) -> Expr {
    let requests = setup.batch.leaf("requests");
    match setup.drafted.value {
        0 => requests,
        _ => Expr::Product(vec![requests, Expr::Sum(vec![Expr::constant(1), setup.drafted.leaf("drafted tokens")])]),
    }
}

/// What kernels and libraries take besides: more on large cards.
fn outside_torch(setup: &Setup) -> Result<Entry, Overflow> {
    let (size, measured) = if is_large(&setup.card) {
        (123 * MIB, "public vLLM logs of large cards: 0.07 to 0.26 GiB, median 0.12")
    } else {
        (40 * MIB, "public vLLM logs of smaller cards: 0.01 to 0.06 GiB, median 0.04")
    };
    let size = Expr::leaf(size, "B", Source::Measured(measured));
    Entry::exact(Term::Workspace, size, Basis::Modelled, "memory that vLLM's profile finds outside torch (\"non-torch memory\")", ALWAYS)
        .map(|entry| entry.with_band(Bytes(10 * MIB), Bytes(481 * MIB), Basis::Modelled))
}

/// NCCL and the custom all-reduce: buffers for every other rank where cards are linked, little over PCIe.
pub(in crate::runtime) fn communication(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let ranks = setup.spread.world();
    if ranks == 1 {
        return Ok(None);
    }
    if is_large(&setup.card) {
        let peers = Expr::named(ranks.min(8) - 1, "other GPUs of a node");
        let measured = "public vLLM logs: 0.42 GiB beyond one card's on two linked GPUs, 1.98 GiB on eight";
        let size = Expr::Sum(vec![
            Expr::leaf(160 * MIB, "B", Source::Measured(measured)),
            Expr::Product(vec![peers, Expr::leaf(265 * MIB, "B", Source::Measured(measured))]),
        ]);
        return Entry::modelled(
            Term::Communication,
            size,
            (25, 240),
            "NCCL's and the custom all-reduce's buffers, which vLLM counts as non-torch memory",
            ALWAYS,
        )
        .map(Some);
    }
    let size =
        Expr::leaf(140 * MIB, "B", Source::Measured("public vLLM logs of 2, 4 and 16 GPUs on PCIe: 0.13 to 0.25 GiB in all, median 0.2, less one card's"));
    let entry = Entry::exact(Term::Communication, size, Basis::Modelled, "NCCL over PCIe keeps its buffers on the host", ALWAYS)?;
    Ok(Some(entry.with_band(Bytes::ZERO, Bytes(600 * MIB), Basis::Modelled)))
}

/// Captured CUDA graphs: for every size that is captured one of each layer, in V0 one of all, as of encoder-decoders since 0.13.
fn graphs(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
    if setup.scenario.enforce_eager {
        return Ok(None);
    }
    let logs = |bytes| Expr::leaf(bytes, "B", Source::Measured("public vLLM logs, median"));
    let sizes = Expr::named(rules.captured_sizes(setup), "captured sizes");
    let is_whole = !rules.is_v1 || (setup.across.is_some() && rules.captures_whole_decoders());
    let (pieces, each) = if is_whole { (1, 8 * MIB) } else { (setup.place.layers.end - setup.place.layers.start, 360 << 10) };
    let captured = Expr::Product(vec![sizes, Expr::named(pieces, "graphs of a size"), logs(each)]);
    let formula = if rules.budgets_graphs() { Expr::Max(vec![captured, logs(400 * MIB)]) } else { captured };
    let source = "sizes by max_num_seqs (cudagraph_capture_sizes); since 0.20 vLLM's own estimate, inside the budget: 0.4 GiB with two sequences in a public log. `--enforce-eager` does without";
    Entry::modelled(Term::CudaGraphs, formula, (0, 250), source, RUNNING).map(Some)
}
