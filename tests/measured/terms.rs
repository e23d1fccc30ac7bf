//! The figure of an estimate that a log's figure is compared with: (low, predicted, high).

use vramfit::estimate::{Amount, Device, Estimate, Ledger, Stage, Term};
use vramfit::quantity::Bytes;

type Band = [f64; 3];

/// How a figure is read off an answer; `sums` as [`crate::records::Engine`] has it.
type Read = fn(answer: &Estimate, sums: bool) -> Band;

const READS: &[(&str, Read)] = &[
    // What the logs say was loaded: tables with the parameters.
    ("weights", |answer, sums| over(answer, sums, sums, |ledger| sum(ledger, &[Term::Weights, Term::Buffers], ledger.loaded_stage()))),
    ("kv", |answer, sums| over(answer, sums, sums, |ledger| sum(ledger, &[Term::KvCache, Term::State], ledger.steady_stage()))),
    ("compute", |answer, sums| over(answer, sums, false, |ledger| sum(ledger, COMPUTE, at_peak(ledger)))),
    ("compute_mla", |answer, sums| over(answer, sums, false, |ledger| sum(ledger, COMPUTE, at_peak(ledger)))),
    ("kv_bytes_per_token", |answer, _| {
        let capacity = answer.capacity.expect("a cache");
        [number(capacity.kv_cache_bytes) / count(capacity.kv_cache_tokens); 3]
    }),
    ("kv_available", |answer, _| room(answer, number(answer.capacity.expect("a cache").kv_cache_bytes))),
    ("kv_tokens", |answer, _| room(answer, count(answer.capacity.expect("a cache").kv_cache_tokens))),
    ("activation", |answer, sums| over(answer, sums, false, |ledger| largest(ledger, &[Term::Activations, Term::Logits]))),
    ("non_torch", |answer, _| {
        let of = |device: &Device| {
            let outside = device.budget.as_ref().map_or(&[][..], |budget| budget.outside);
            let terms = [Term::Workspace, Term::Communication, Term::RuntimeContext];
            largest(&device.ledger, if outside.contains(&Term::RuntimeContext) { &terms[..2] } else { &terms })
        };
        band(answer.devices.iter().map(of).max_by_key(|amount| amount.expected).unwrap())
    }),
    ("graphs", |answer, sums| over(answer, sums, false, |ledger| largest(ledger, &[Term::CudaGraphs]))),
    ("loaded", |answer, sums| over(answer, sums, false, |ledger| without_context(ledger, ledger.loaded_stage()))),
    ("peak", |answer, sums| over(answer, sums, false, |ledger| without_context(ledger, at_peak(ledger)))),
    ("peak_quantised", |answer, sums| over(answer, sums, false, |ledger| without_context(ledger, at_peak(ledger)))),
];

/// What one compute buffer of llama.cpp holds.
const COMPUTE: &[Term] = &[Term::Activations, Term::Logits, Term::Workspace];

/// A figure by its name in the records; `None` for a name that is not known.
pub fn predicted(answer: &Estimate, sums: bool, name: &str) -> Option<(&'static str, Band)> {
    READS.iter().find(|(known, _)| *known == name).map(|(known, read)| (*known, read(answer, sums)))
}

/// The sum over all GPUs, and the host where it counts; or the most of one.
fn over(answer: &Estimate, sums: bool, with_host: bool, read: impl Fn(&Ledger) -> Amount) -> Band {
    let each: Vec<(u64, Amount)> = answer.devices.iter().map(|device| (device.ranks.end - device.ranks.start, read(&device.ledger))).collect();
    if !sums {
        return band(each.into_iter().map(|(_, amount)| amount).max_by_key(|amount| amount.expected).unwrap());
    }
    let host = answer.host.as_ref().filter(|_| with_host).map(|host| (1, read(host)));
    each.into_iter().chain(host).fold([0.0; 3], |sum, (ranks, amount)| {
        let one = band(amount);
        [0, 1, 2].map(|index| sum[index] + count(ranks) * one[index])
    })
}

fn at_peak(ledger: &Ledger) -> Stage {
    ledger.peak().expect("a stage").0
}

fn sum(ledger: &Ledger, terms: &[Term], stage: Stage) -> Amount {
    terms.iter().fold(Amount::default(), |sum, &term| sum.plus(ledger.term_at(term, stage).unwrap()).unwrap())
}

/// The largest of the stages.
fn largest(ledger: &Ledger, terms: &[Term]) -> Amount {
    ledger.stages.iter().map(|&stage| sum(ledger, terms, stage)).max_by_key(|amount| amount.expected).unwrap_or_default()
}

/// What an allocator shows: everything but the process's context.
fn without_context(ledger: &Ledger, stage: Stage) -> Amount {
    let (all, context) = (ledger.at(stage).unwrap(), ledger.term_at(Term::RuntimeContext, stage).unwrap());
    let less = |size: Bytes, context: Bytes| size.minus(context).unwrap_or(Bytes::ZERO);
    Amount { low: less(all.low, context.low), expected: less(all.expected, context.expected), high: less(all.high, context.high) }
}

/// What is left for the cache, as `size`: what the others may take more or less, it has less or more.
fn room(answer: &Estimate, size: f64) -> Band {
    const OTHERS: &[Term] =
        &[Term::Weights, Term::Buffers, Term::Activations, Term::Logits, Term::Workspace, Term::Communication, Term::Adapters, Term::DraftModel];
    let [low, expected, high] = band(largest(&answer.worst().unwrap().ledger, OTHERS));
    let bytes = number(answer.capacity.expect("a cache").kv_cache_bytes);
    let per_byte = if bytes > 0.0 { size / bytes } else { 0.0 };
    [(size - (high - expected) * per_byte).max(0.0), size, size + (expected - low) * per_byte]
}

fn band(amount: Amount) -> Band {
    [number(amount.low), number(amount.expected), number(amount.high)]
}

fn number(bytes: Bytes) -> f64 {
    count(bytes.get())
}

#[allow(clippy::cast_precision_loss)] // sizes of memory
fn count(value: u64) -> f64 {
    value as f64
}
