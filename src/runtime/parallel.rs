//! How a model is spread over GPUs: the sizes of each way, checked, and what one rank holds of the layers.
//!
//! A world of `tensor × pipeline × data` GPUs. Ranks that hold the same share one ledger, so only pipeline stages differ.

use std::ops::Range;

use super::{Choices, Chosen, Engine, EstimateError, MAX_COUNT};
use crate::formula::{Expr, Source};
use crate::model::Model;
use crate::quantity::Overflow;
use crate::scenario::Scenario;

/// The most GPUs that are computed.
const MAX_GPUS: u64 = 1 << 16;

/// A way to spread a model that not every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Pipeline stages.
    Pipeline,
    /// Replicas.
    Data,
    /// Experts over ranks.
    Expert,
    /// A request's cache over ranks.
    Context,
}

impl Way {
    /// What it is called.
    const fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline parallelism",
            Self::Data => "data parallelism",
            Self::Expert => "expert parallelism",
            Self::Context => "context parallelism",
        }
    }
}

/// The sizes of every way, each at least 1.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Ranks that each matrix is split over.
    pub tensor: Chosen,
    /// Stages that the layers are cut into.
    pub pipeline: Chosen,
    /// Replicas.
    pub data: Chosen,
    /// Ranks that the experts are spread over, each whole; 1 when every expert is split like other matrices.
    pub expert: Chosen,
    /// Ranks of those of `tensor` that a request's cache is spread over.
    pub context: Chosen,
    /// Whether the experts are spread over all replicas: attention alone is replicated.
    pub is_attention_replicated: bool,
}

impl Spread {
    /// The sizes that a scenario asks for, as the engine understands a bare number of GPUs.
    pub(super) fn new(model: &Model, scenario: &Scenario, engine: &dyn Engine, choices: &mut Choices) -> Result<Self, EstimateError> {
        let asked = &scenario.parallel;
        let shares_experts = engine.shares_experts();
        let placed = scenario.gpus.filter(|_| engine.places_layers() && scenario.tensor_parallel.is_none() && asked.data.is_none());
        let pipeline = choices.count("pipeline_parallel", asked.pipeline.or(placed), 1, "one stage", MAX_GPUS)?;
        let data = choices.count("data_parallel", asked.data, 1, "one replica", MAX_GPUS)?;
        let others = pipeline.value * data.value;
        let of_gpus = match scenario.gpus {
            Some(gpus) if gpus.is_multiple_of(others) => Some(gpus / others),
            Some(gpus) => return Err(unsupported(format!("{gpus} GPUs do not divide over {} stages × {} replicas", pipeline.value, data.value))),
            None => None,
        };
        let tensor = choices.count("tensor_parallel", scenario.tensor_parallel.or(of_gpus), 1, "one GPU", MAX_GPUS)?;
        let world = tensor.value.checked_mul(others).filter(|&world| world <= MAX_GPUS).ok_or(Overflow)?;
        if let Some(gpus) = scenario.gpus.filter(|&gpus| gpus != world) {
            let Chosen { value: tensor, .. } = tensor;
            return Err(unsupported(format!(
                "{gpus} GPUs, but {tensor} (tensor) × {} (pipeline) × {} (data parallel) are {world}: the two must be equal",
                pipeline.value, data.value
            )));
        }
        choices.said("gpus", world.to_string(), scenario.gpus.is_none().then(|| "tensor × pipeline × data parallel".to_owned()));
        let experts = model.decoder().layers.iter().filter_map(|run| run.layer.feed_forward.experts()).max();
        let is_attention_replicated = data.value > 1 && experts.is_some() && (asked.data_attention || shares_experts);
        let expert = choices.count("expert_parallel", asked.expert, 1, "experts are split like other matrices", MAX_GPUS)?;
        let context = choices.count("context_parallel", asked.context, 1, "every rank caches every token", MAX_COUNT)?;
        let spread = Self { tensor, pipeline, data, expert, context, is_attention_replicated };
        // A device map leaves GPUs empty.
        let layers = model.decoder().layer_count().max(1);
        if spread.pipeline.value > layers && (!engine.places_layers() || engine.unfollowed(model).is_some()) {
            return Err(unsupported(format!("{layers} layers cannot be cut into {} stages", spread.pipeline.value)));
        }
        spread.check(experts)?;
        Ok(spread)
    }

    fn check(&self, experts: Option<u64>) -> Result<(), EstimateError> {
        let (ranks, expert, context) = (self.expert_ranks(), self.expert.value, self.context.value);
        match experts {
            None if expert > 1 => return Err(unsupported("expert parallelism is for mixtures of experts, which this model is not".to_owned())),
            Some(_) if !ranks.is_multiple_of(expert) => {
                return Err(unsupported(format!("expert parallelism over {expert} does not divide the {ranks} ranks that hold the experts")));
            }
            Some(experts) if expert > experts => return Err(unsupported(format!("{experts} experts cannot be spread over {expert} ranks"))),
            _ => {}
        }
        if !self.tensor.value.is_multiple_of(context) {
            return Err(unsupported(format!("context parallelism over {context} does not divide tensor parallelism over {}", self.tensor.value)));
        }
        Ok(())
    }

    /// Ranks that share one copy of the experts.
    pub fn expert_ranks(&self) -> u64 {
        if self.is_attention_replicated { self.tensor.value * self.data.value } else { self.tensor.value }
    }

    /// All GPUs.
    pub fn world(&self) -> u64 {
        self.tensor.value * self.pipeline.value * self.data.value
    }

    /// The ranks of a stage, which hold the same: stage by stage, replicas and tensor-parallel ranks together.
    pub fn ranks_of(&self, stage: u64) -> Range<u64> {
        let each = self.tensor.value * self.data.value;
        stage * each..(stage + 1) * each
    }

    /// `whole` divided over the tensor-parallel ranks.
    pub fn per_rank(&self, whole: Expr) -> Expr {
        if self.tensor.value == 1 { whole } else { whole.ceil_div(self.tensor.leaf("GPUs")) }
    }

    /// Requests of one replica.
    pub(super) fn requests(&self, batch: Chosen) -> Chosen {
        match self.data.value {
            1 => batch,
            replicas => {
                Chosen { value: batch.value.div_ceil(replicas), source: Source::Derived(format!("{} requests over {replicas} replicas", batch.value).into()) }
            }
        }
    }
}

/// What one rank holds of the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its stage, from 0.
    pub stage: u64,
    /// Whether the embedding is on it.
    pub is_first: bool,
    /// Whether the final norm and the head are on it.
    pub is_last: bool,
    /// The numbers of the decoder's layers on it.
    pub layers: Range<u64>,
}

impl Place {
    /// The places of every stage, given how many layers each has.
    pub(crate) fn of_stages(layers: &[u64]) -> Vec<Self> {
        let mut first = 0;
        let places = layers.iter().zip(0u64..).map(|(&count, stage)| {
            let place = Self { stage, is_first: stage == 0, is_last: stage + 1 == layers.len() as u64, layers: first..first + count };
            first += count;
            place
        });
        places.collect()
    }
}

/// Layers over stages as evenly as possible, with those that are left on the stages before the last, as vLLM does since 0.8
/// (`distributed/utils.py:get_pp_indices`).
pub(crate) fn even_stages(layers: u64, stages: u64) -> Vec<u64> {
    let (each, left) = (layers / stages, layers % stages);
    (0..stages).map(|stage| each + u64::from(stage + 1 < stages && stage + 1 + left >= stages)).collect()
}

fn unsupported(sentence: String) -> EstimateError {
    EstimateError::Unsupported(sentence)
}

/// Refuses ways that the engine does not have.
pub(super) fn check_ways(spread: &Spread, has: &[Way], label: &str) -> Result<(), EstimateError> {
    let sizes = [(Way::Pipeline, &spread.pipeline), (Way::Data, &spread.data), (Way::Expert, &spread.expert), (Way::Context, &spread.context)];
    match sizes.into_iter().find(|(way, size)| size.value > 1 && !has.contains(way)) {
        Some((way, _)) => Err(unsupported(format!("{label} has no {} here", way.name()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uneven_layers_go_to_the_middle() {
        for (layers, stages, expected) in [
            (32, 1, vec![32]),
            (32, 4, vec![8, 8, 8, 8]),
            (61, 4, vec![15, 15, 16, 15]),
            (62, 4, vec![15, 16, 16, 15]),
            (63, 4, vec![16, 16, 16, 15]),
            (5, 2, vec![3, 2]),
        ] {
            assert_eq!(even_stages(layers, stages), expected, "{layers} over {stages}");
        }
    }
}
