//! Inverse questions and sweeps: the longest context that fits, memory against context.

mod largest;

use serde::{Deserialize, Serialize};

use crate::estimate::{Device, Estimate, Term};
use crate::memory::{EstimateError, estimate};
use crate::model::Model;
use crate::quantity::Bytes;
use crate::scenario::Scenario;

use largest::largest_by;
pub use largest::{Largest, Question, fewest_gpus, largest, least_sharding, solve};

/// What answers for a scenario: [`estimate`] of a model, or as much of it as is at hand.
pub type Estimator<'a> = &'a dyn Fn(&Scenario) -> Result<Estimate, EstimateError>;

/// The longest context that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LongestContext {
    /// Not even one token fits.
    Nothing,
    /// This many tokens fit and one more does not.
    Tokens(u64),
    /// The need stops growing below the limit: no context that is searched is too long.
    Unlimited,
}

/// The longest context with which the scenario fits: tight to the token. The model's own maximum is not applied.
///
/// # Errors
/// As [`estimate`].
pub fn longest_context(model: &Model, scenario: &Scenario) -> Result<LongestContext, EstimateError> {
    longest_by(&|scenario| estimate(model, scenario), scenario)
}

fn longest_by(estimate: Estimator, scenario: &Scenario) -> Result<LongestContext, EstimateError> {
    Ok(match largest_by(estimate, scenario, set_length)? {
        // A length is no way to share.
        Largest::Nothing | Largest::Sharding(_) => LongestContext::Nothing,
        Largest::Count(tokens) => LongestContext::Tokens(tokens),
        Largest::Unlimited => LongestContext::Unlimited,
    })
}

fn set_length(scenario: &mut Scenario, tokens: u64) {
    *scenario.length_mut() = Some(tokens);
}

/// Memory against context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The points in ascending order of context.
    pub points: Vec<Point>,
    /// The longest context that fits.
    pub longest: LongestContext,
}

/// One point of a [`Curve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Tokens per request.
    pub context: u64,
    /// The peak on the device that decides.
    pub peak: Bytes,
    /// Its band.
    pub low: Bytes,
    /// Its band.
    pub high: Bytes,
    /// The terms at the peak, in the ledger's order.
    pub terms: Vec<(Term, Bytes)>,
}

/// The smallest context of a curve.
pub const CURVE_START: u64 = 512;

/// The largest context of a curve for this model: its maximum rounded up to a power of two, at least 32K.
pub fn curve_end(model: &Model) -> u64 {
    let max = model.anatomy.max_context.unwrap_or(1 << 17).clamp(1 << 15, 1 << 24);
    max.next_power_of_two()
}

/// Memory against context, with the device that decides at the chosen one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The curve.
    pub curve: Curve,
    /// The device whose limits it is drawn against.
    pub device: Device,
}

/// The sweep of a scenario: contexts from [`CURVE_START`] to [`curve_end`], several per doubling.
///
/// # Errors
/// As [`estimate`].
pub fn sweep(estimate: Estimator, model: &Model, scenario: &Scenario) -> Result<Sweep, EstimateError> {
    let device = estimate(scenario)?.worst()?.clone();
    let mut points = Vec::new();
    for context in curve_contexts(curve_end(model)) {
        let mut probe = scenario.clone();
        set_length(&mut probe, context);
        points.push(point(context, &estimate(&probe)?)?);
    }
    Ok(Sweep { curve: Curve { points, longest: longest_by(estimate, scenario)? }, device })
}

/// The point of an estimate.
pub fn point(context: u64, answer: &Estimate) -> Result<Point, EstimateError> {
    let device = answer.worst()?;
    let (stage, peak) = device.peak()?;
    let terms = device.terms().map(|term| Ok((term, device.term_at(term, stage)?.expected))).collect::<Result<_, EstimateError>>()?;
    Ok(Point { context, peak: peak.expected, low: peak.low, high: peak.high, terms })
}

/// Three points per doubling.
fn curve_contexts(end: u64) -> impl Iterator<Item = u64> {
    let octaves = (0..).map(|n| CURVE_START << n).take_while(move |&start| start < end);
    octaves.flat_map(|start| [start, start * 5 / 4, start * 8 / 5]).chain([end])
}
