//! Stretches of a training step in which the same memory is held.

use crate::estimate::Stage;

/// All of them.
pub(super) const ALL: &[Stage] = Stage::TRAINING;
/// From the first step on.
pub(super) const STEPPING: &[Stage] = &[Stage::Generate, Stage::Score, Stage::Forward, Stage::Loss, Stage::Backward, Stage::OptimizerStep];
/// While the model's own passes run.
pub(super) const PASSES: &[Stage] = &[Stage::Forward, Stage::Loss, Stage::Backward];
/// From the end of the forward pass to the start of the backward pass through layers.
pub(super) const FORWARD_AND_LOSS: &[Stage] = &[Stage::Forward, Stage::Loss];
/// The passes through layers.
pub(super) const IN_MATRICES: &[Stage] = &[Stage::Forward, Stage::Backward];
/// The backward pass through layers.
pub(super) const BACKWARD: &[Stage] = &[Stage::Backward];
/// The same, and the step.
pub(super) const BACKWARD_AND_STEP: &[Stage] = &[Stage::Backward, Stage::OptimizerStep];
/// The step.
pub(super) const AT_STEP: &[Stage] = &[Stage::OptimizerStep];
/// While other models score.
pub(super) const SCORE: &[Stage] = &[Stage::Score];
/// While completions are written.
pub(super) const GENERATE: &[Stage] = &[Stage::Generate];

/// The stages of plain training.
pub(super) const SUPERVISED: &[Stage] = &[Stage::Load, Stage::Forward, Stage::Loss, Stage::Backward, Stage::OptimizerStep];
/// The stages with a model that scores or is compared with.
pub(super) const SCORED: &[Stage] = &[Stage::Load, Stage::Score, Stage::Forward, Stage::Loss, Stage::Backward, Stage::OptimizerStep];
/// The stages with completions of one's own.
pub(super) const ROLLED: &[Stage] = Stage::TRAINING;
