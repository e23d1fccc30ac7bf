//! What must hold for every model and scenario.

mod at_once;
#[path = "../common/mod.rs"]
mod common;
mod draws;
mod quantization;
mod serving;
mod texts;
mod training;

use proptest::prelude::*;
use vramfit::estimate::Estimate;
use vramfit::memory::estimate;
use vramfit::model::Model;
use vramfit::scenario::Scenario;

/// The answer; what is refused is drawn again.
fn possible(model: &Model, scenario: &Scenario) -> Result<Estimate, TestCaseError> {
    estimate(model, scenario).map_err(|error| TestCaseError::reject(error.to_string()))
}

/// As many draws may be refused for each that counts.
const REFUSED: u32 = 20;

fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, max_global_rejects: REFUSED.saturating_mul(config.cases), ..config }
}
