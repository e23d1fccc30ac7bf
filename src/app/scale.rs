//! The sliders' scales: whole positions to values and back, without rounding surprises.

use vramfit::plan::CURVE_START;

/// Positions in one doubling of the context.
pub const PER_DOUBLING: u64 = 16;

/// 2^(n/16), times 2^16.
const SIXTEENTHS: [u64; 16] =
    [65_536, 68_438, 71_468, 74_632, 77_936, 81_386, 84_990, 88_752, 92_682, 96_785, 101_070, 105_545, 110_218, 115_098, 120_194, 125_515];

/// Contexts between doublings are multiples of this, a block of vLLM's cache.
const STEP: u64 = 16;

/// The last position of a context slider that ends at `end`.
pub fn last_context(end: u64) -> u64 {
    u64::from((end / CURVE_START).max(1).ilog2()) * PER_DOUBLING
}

/// The context at a position.
pub fn context_at(position: u64) -> u64 {
    let (doublings, rest) = (position / PER_DOUBLING, position % PER_DOUBLING);
    let start = CURVE_START << doublings.min(40);
    let share = SIXTEENTHS[usize::try_from(rest).unwrap_or(0)];
    let exact = u64::try_from((u128::from(start) * u128::from(share)) >> 16).unwrap_or(u64::MAX);
    exact / STEP * STEP
}

/// The nearest position that is not above a context.
pub fn position_of_context(context: u64) -> u64 {
    let doublings = u64::from((context / CURVE_START).max(1).ilog2());
    let first = doublings * PER_DOUBLING;
    let within = (first..first + PER_DOUBLING).take_while(|&position| context_at(position) <= context).count() as u64;
    first + within.saturating_sub(1)
}

/// The last position of the slider for requests.
pub const LAST_BATCH: u64 = 17;

/// The number of requests at a position: 1, 2, 3, 4, 6, 8, 12 ... 512.
pub fn batch_at(position: u64) -> u64 {
    match position {
        0 => 1,
        position if position % 2 == 1 => 1 << position.div_ceil(2).min(40),
        position => 3 << (position / 2 - 1).min(40),
    }
}

/// The nearest position that is not above a number of requests.
pub fn position_of_batch(batch: u64) -> u64 {
    (0..=LAST_BATCH).rev().find(|&position| batch_at(position) <= batch).unwrap_or(0)
}
