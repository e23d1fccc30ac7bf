//! What the reader computes of a model: whatever the first module has no rules for.
//!
//! Scenarios come as the queries of links, which both modules read and write.

use crate::chart;
use crate::estimate::Estimate;
use crate::format::{Unit, sentence};
use crate::link::Link;
use crate::markup;
use crate::memory::{self, EstimateError};
use crate::model::Model;
use crate::plan::{self, Sweep};
use crate::report;
use crate::scenario::Scenario;

/// The query that says a scenario.
pub fn query(scenario: &Scenario) -> String {
    Link { scenario: scenario.clone(), ..Link::default() }.encode()
}

fn scenario(query: &str) -> Scenario {
    Link::decode(query).scenario
}

fn problem(error: impl std::fmt::Display) -> String {
    sentence(&error.to_string())
}

/// An answer that can be shown: whatever the page sums of it stays in range. Otherwise why there is none, as a sentence.
pub fn shown(said: Result<Estimate, EstimateError>) -> Result<Estimate, String> {
    let estimate = said.map_err(problem)?;
    estimate.worst().and_then(crate::estimate::Device::headroom).map_err(problem)?;
    Ok(estimate)
}

/// The estimate.
pub fn estimate(model: &Model, query: &str) -> Result<Estimate, String> {
    shown(memory::estimate(model, &scenario(query)))
}

/// Memory against context.
pub fn sweep(model: &Model, query: &str) -> Result<Sweep, String> {
    plan::sweep(&|scenario| memory::estimate(model, scenario), model, &scenario(query)).map_err(problem)
}

/// What is held in each stage of a run, on the device that decides: a drawing of so many pixels, and the same in words.
pub fn timeline(model: &Model, query: &str, unit: Unit, width: u32) -> Result<String, String> {
    let estimate = memory::estimate(model, &scenario(query)).map_err(problem)?;
    let device = estimate.worst().map_err(problem)?;
    let words = chart::stages_in_words(device, unit).map_err(problem)?.join("; ");
    let drawing = chart::stages(device, unit, width).map_err(problem)?.svg;
    let mut out = String::new();
    markup::weave(
        &mut out,
        &["<figure><figcaption>Over the stages of a step<span class='visually-hidden'>: ", &words, "</span></figcaption><div class='drawing'>"],
    );
    Ok([&out, &drawing, "</div></figure>"].concat())
}

/// The whole anatomy, as tables.
pub fn anatomy(model: &Model) -> Result<String, String> {
    super::anatomy::tables(&model.anatomy).map_err(problem)
}

/// The estimate as JSON, in the contract's shape.
pub fn report(model: &Model, query: &str) -> Result<String, String> {
    let scenario = scenario(query);
    let estimate = memory::estimate(model, &scenario).map_err(problem)?;
    let longest = plan::longest_context(model, &scenario).map_err(problem)?;
    report::estimate_json(model, &scenario, &estimate, longest).map(|report| format!("{report:#}")).map_err(problem)
}
