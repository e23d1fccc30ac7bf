//! The largest setting that still fits, and the fewest GPUs.

use super::Estimator;
use crate::memory::{EstimateError, estimate};
use crate::model::Model;
use crate::scenario::{Method, Scenario, Sharding, Task};

/// The largest value that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    /// Not even 1 fits.
    Nothing,
    /// This many fit and one more does not.
    Count(u64),
    /// The need stops growing below the limit: no value that is searched is too large.
    Unlimited,
    /// This way to share the states, and none that shares less.
    Sharding(Sharding),
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The longest context, or sequence to train on.
    Context,
    /// The most sequences of one forward pass.
    MicroBatch,
    /// The highest rank of low-rank adapters.
    LoraRank,
    /// The fewest GPUs.
    Gpus,
    /// The least sharing of states over the GPUs at hand.
    Sharding,
}

impl Question {
    /// Its name in the JSON contract and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::MicroBatch => "micro-batch",
            Self::LoraRank => "lora-rank",
            Self::Gpus => "gpus",
            Self::Sharding => "sharding",
        }
    }
}

/// The largest value that is searched.
const SEARCH_LIMIT: u64 = 1 << 32;
/// GPUs are tried one by one up to this many.
const SINGLE_GPUS: u64 = 64;
/// The most GPUs that are tried, in machines of eight.
const MOST_GPUS: u64 = 4096;

/// Whether a scenario fits; sizes that leave 64 bits do not.
fn fits(estimate: Estimator, scenario: &Scenario) -> Result<bool, EstimateError> {
    match estimate(scenario) {
        Ok(answer) => Ok(answer.fits()?),
        Err(EstimateError::Overflow(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The answer to a question about a scenario.
///
/// # Errors
/// As [`estimate`]; [`EstimateError::Unsupported`] where the question makes no sense for the task.
pub fn solve(model: &Model, scenario: &Scenario, question: Question) -> Result<Largest, EstimateError> {
    let method = scenario.training.method.unwrap_or(Method::Full);
    match question {
        Question::Context if scenario.task == Task::Train && !estimate(model, scenario)?.choices.iter().any(|choice| choice.key == "seq_len") => {
            Err(EstimateError::Unsupported("this model reads images alone, and no sequences: ask for micro-batch".to_owned()))
        }
        Question::Context => largest(model, scenario, super::set_length),
        Question::Gpus => fewest_gpus(model, scenario),
        _ if scenario.task != Task::Train => Err(EstimateError::Unsupported(format!("{} is a question about training: add --task train", question.name()))),
        Question::Sharding => least_sharding(model, scenario),
        Question::MicroBatch => largest_micro_batch(model, scenario),
        Question::LoraRank if !method.is_low_rank() => Err(EstimateError::Unsupported(format!("{method} has no rank: choose lora, rslora, dora or qlora"))),
        Question::LoraRank => largest(model, scenario, |scenario, value| scenario.training.lora_rank = Some(value)),
    }
}

/// The largest micro-batch; of a global batch that is asked for only what divides each replica's part.
fn largest_micro_batch(model: &Model, scenario: &Scenario) -> Result<Largest, EstimateError> {
    let with = |global: Option<u64>, value: u64| {
        let mut probe = scenario.clone();
        (probe.training.global_batch, probe.training.micro_batch) = (global, Some(value));
        probe
    };
    let estimated = |scenario: &Scenario| estimate(model, scenario);
    let Some(global) = scenario.training.global_batch else {
        return largest(model, scenario, |scenario, value| scenario.training.micro_batch = Some(value));
    };
    let alone = estimate(model, &with(None, 1))?;
    let replicas = alone.choices.iter().find(|choice| choice.key == "data_parallel").and_then(|choice| choice.value.parse::<u64>().ok());
    let Some(part) = replicas.filter(|replicas| global > 0 && global.is_multiple_of(*replicas)).map(|replicas| global / replicas) else {
        // No micro-batch divides it: why is what the smallest one is told.
        return estimate(model, &with(Some(global), 1)).map(|_| Largest::Nothing);
    };
    // All of it at once needs no room to add up gradients: it may fit where less does not.
    match fits(&estimated, &with(Some(global), part)) {
        Ok(true) => return Ok(Largest::Count(part)),
        Ok(false) | Err(EstimateError::Unsupported(_)) => {}
        Err(error) => return Err(error),
    }
    let divisors = divisors(part);
    let (mut from, mut to, mut best) = (0, divisors.len() - 1, Largest::Nothing);
    // Memory grows with the rest. What is refused otherwise (a schedule wants a multiple of so many micro-batches) is passed over.
    while from < to {
        let middle = from + (to - from) / 2;
        let mut found = None;
        for (at, &value) in divisors.iter().enumerate().take(to).skip(middle) {
            match fits(&estimated, &with(Some(global), value)) {
                Err(EstimateError::Unsupported(_)) => {}
                answer => {
                    found = answer?.then_some((at, value));
                    break;
                }
            }
        }
        match found {
            Some((at, value)) => (from, best) = (at + 1, Largest::Count(value)),
            None => to = middle,
        }
    }
    Ok(best)
}

/// What divides a number, from 1 to itself, in as many steps as its root: at most 2^20 for a count that is accepted.
fn divisors(number: u64) -> Vec<u64> {
    let small: Vec<u64> = (1..=number.isqrt()).filter(|divisor| number.is_multiple_of(*divisor)).collect();
    let large = small.iter().rev().map(|divisor| number / divisor).filter(|large| large * large != number);
    small.iter().copied().chain(large).collect()
}

/// The largest value of a setting with which the scenario fits: tight to one. A value that is out of the setting's range does not fit.
///
/// # Errors
/// As [`estimate`].
pub fn largest(model: &Model, scenario: &Scenario, set: impl Fn(&mut Scenario, u64)) -> Result<Largest, EstimateError> {
    largest_by(&|scenario| estimate(model, scenario), scenario, set)
}

/// [`largest`], whoever answers.
pub(super) fn largest_by(estimate: Estimator, scenario: &Scenario, set: impl Fn(&mut Scenario, u64)) -> Result<Largest, EstimateError> {
    let mut probe = scenario.clone();
    let mut fits = |value: u64| {
        set(&mut probe, value);
        match fits(estimate, &probe) {
            Err(EstimateError::OutOfRange { .. }) if value > 1 => Ok(false),
            answer => answer,
        }
    };
    if !fits(1)? {
        return Ok(Largest::Nothing);
    }
    // Doubling first: the answer is usually small against the search limit.
    let (mut good, mut bad) = (1, 2);
    while fits(bad)? {
        if bad >= SEARCH_LIMIT {
            return Ok(Largest::Unlimited);
        }
        (good, bad) = (bad, bad * 2);
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Largest::Count(good))
}

/// The stages of ZeRO, each of which shares what the one before does and more.
const STAGES: &[Sharding] = &[Sharding::Ddp, Sharding::Zero1, Sharding::Zero2, Sharding::Zero3];

/// The first stage of ZeRO with which the scenario fits its GPUs.
///
/// # Errors
/// As [`estimate`]; [`EstimateError::Unsupported`] on one GPU, where nothing can be shared.
pub fn least_sharding(model: &Model, scenario: &Scenario) -> Result<Largest, EstimateError> {
    let replicas = scenario.gpus.or(scenario.parallel.data).unwrap_or(1);
    if replicas < 2 {
        return Err(EstimateError::Unsupported("states are shared by several GPUs: say how many, such as --gpus 8".to_owned()));
    }
    for &stage in STAGES {
        let mut probe = scenario.clone();
        probe.training.sharding = Some(stage);
        if fits(&|scenario| estimate(model, scenario), &probe)? {
            return Ok(Largest::Sharding(stage));
        }
    }
    Ok(Largest::Nothing)
}

/// The fewest GPUs with which the scenario fits, its other sizes as they are: each up to 64, then machines of eight. Counts that the
/// sizes do not divide are passed over.
///
/// # Errors
/// As [`estimate`], where no count can be computed at all.
pub fn fewest_gpus(model: &Model, scenario: &Scenario) -> Result<Largest, EstimateError> {
    let mut refused = None;
    let mut was_computed = false;
    for gpus in (1..=SINGLE_GPUS).chain((SINGLE_GPUS + 8..=MOST_GPUS).step_by(8)) {
        match fits(&|scenario| estimate(model, scenario), &Scenario { gpus: Some(gpus), ..scenario.clone() }) {
            Ok(true) => return Ok(Largest::Count(gpus)),
            Ok(false) => was_computed = true,
            Err(EstimateError::Unsupported(why)) => refused = Some(why),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(why) if !was_computed => Err(EstimateError::Unsupported(why)),
        _ => Ok(Largest::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::divisors;

    #[test]
    fn all_divisors_are_listed_once_and_in_order() {
        assert_eq!(divisors(1), [1]);
        assert_eq!(divisors(12), [1, 2, 3, 4, 6, 12]);
        assert_eq!(divisors(49), [1, 7, 49]);
        for number in 1..200u64 {
            assert_eq!(divisors(number), (1..=number).filter(|divisor| number.is_multiple_of(*divisor)).collect::<Vec<_>>());
        }
    }
}
