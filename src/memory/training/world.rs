//! How a training run is spread over GPUs.

use super::run::unsupported;
use crate::formula::{Expr, Source};
use crate::model::Model;
use crate::quantity::Overflow;
use crate::runtime::{Choices, Chosen, EstimateError, Place, even_stages};
use crate::scenario::{Scenario, Sharding};

/// The most GPUs that are computed.
const MAX_GPUS: u64 = 1 << 20;

/// The sizes of every way, each at least 1: a world of `tensor × pipeline × context × data` ranks.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Ranks that each matrix is split over.
    pub tensor: Chosen,
    /// Stages that the layers are cut into.
    pub pipeline: Chosen,
    /// Ranks that a sequence's tokens are spread over.
    pub context: Chosen,
    /// Replicas.
    pub data: Chosen,
    /// Ranks that the experts are spread over, each whole.
    pub expert: Chosen,
    /// Ranks that share the states of what is not an expert's.
    pub shards: u64,
}

impl World {
    /// The sizes that a scenario asks for; GPUs that no other way takes are replicas.
    pub fn new(model: &Model, scenario: &Scenario, choices: &mut Choices) -> Result<Self, EstimateError> {
        let asked = &scenario.parallel;
        let tensor = choices.count("tensor_parallel", scenario.tensor_parallel, 1, "matrices are not split", MAX_GPUS)?;
        let pipeline = choices.count("pipeline_parallel", asked.pipeline, 1, "one stage", MAX_GPUS)?;
        let context = choices.count("context_parallel", asked.context, 1, "every rank has whole sequences", MAX_GPUS)?;
        let others = tensor.value.checked_mul(pipeline.value).and_then(|n| n.checked_mul(context.value)).ok_or(Overflow)?;
        let left = match scenario.gpus {
            Some(gpus) if gpus == 0 || !gpus.is_multiple_of(others) => {
                return Err(unsupported(format!(
                    "{gpus} GPUs do not divide over {} (tensor) × {} (pipeline) × {} (context parallel)",
                    tensor.value, pipeline.value, context.value
                )));
            }
            gpus => gpus.map(|gpus| gpus / others),
        };
        let data = choices.count("data_parallel", asked.data, left.unwrap_or(1), "the GPUs that no other way takes", MAX_GPUS)?;
        if left.is_some_and(|left| left != data.value) {
            return Err(unsupported(format!("{} replicas of {others} GPUs are not the {} GPUs that were asked for", data.value, scenario.gpus.unwrap_or(0))));
        }
        let world = others.checked_mul(data.value).filter(|&world| world <= MAX_GPUS).ok_or(Overflow)?;
        choices.said("gpus", world.to_string(), scenario.gpus.is_none().then(|| "tensor × pipeline × context × data parallel".to_owned()));
        let expert = choices.count("expert_parallel", asked.expert, 1, "experts are not spread", MAX_GPUS)?;
        let shards = data.value * context.value;
        let this = Self { tensor, pipeline, context, data, expert, shards };
        this.check(model)?;
        this.with_groups(scenario, choices)
    }

    fn check(&self, model: &Model) -> Result<(), EstimateError> {
        let layers = model.decoder().layer_count();
        if self.pipeline.value > layers.max(1) {
            return Err(unsupported(format!("{layers} layers cannot be cut into {} stages", self.pipeline.value)));
        }
        let experts = model.decoder().layers.iter().filter_map(|run| run.layer.feed_forward.experts()).max();
        let expert = self.expert.value;
        match experts {
            None if expert > 1 => return Err(unsupported("expert parallelism is for mixtures of experts, which this model is not".to_owned())),
            Some(experts) if expert > experts => return Err(unsupported(format!("{experts} experts cannot be spread over {expert} ranks"))),
            Some(_) if !self.shards.is_multiple_of(expert) => {
                return Err(unsupported(format!("expert parallelism over {expert} does not divide the {} ranks that share states", self.shards)));
            }
            _ => {}
        }
        for run in &model.decoder().layers {
            if let Some(attention) = run.layer.mixer.attention()
                && !attention.heads.is_multiple_of(self.tensor.value)
            {
                return Err(unsupported(format!("{} attention heads do not divide over {} GPUs", attention.heads, self.tensor.value)));
            }
        }
        Ok(())
    }

    /// Hybrid sharding shares states within groups only.
    fn with_groups(mut self, scenario: &Scenario, choices: &mut Choices) -> Result<Self, EstimateError> {
        if scenario.training.sharding == Some(Sharding::Hsdp) {
            let group = choices.count("shard_size", scenario.training.shard_size, self.shards.min(8), "the GPUs of one machine", MAX_GPUS)?.value;
            if !self.shards.is_multiple_of(group) {
                return Err(unsupported(format!("shard groups of {group} do not divide {} replicas", self.shards)));
            }
            self.shards = group;
        }
        Ok(self)
    }

    /// The places of every pipeline stage.
    pub fn places(&self, layers: u64) -> Vec<Place> {
        Place::of_stages(&even_stages(layers, self.pipeline.value))
    }

    /// Ranks of one stage.
    pub const fn ranks_of_stage(&self) -> u64 {
        self.tensor.value * self.context.value * self.data.value
    }

    /// All ranks.
    pub const fn ranks(&self) -> u64 {
        self.ranks_of_stage() * self.pipeline.value
    }

    /// What a rank has of a sequence.
    pub fn of_context(&self, tokens: Expr) -> Expr {
        if self.context.value == 1 { tokens } else { tokens.ceil_div(self.context.leaf("context-parallel GPUs")) }
    }

    /// `count` elements of what is and what is not an expert's, shared by the ranks that share them.
    pub fn shared(&self, [dense, expert]: [u64; 2], name: &'static str, source: &Source) -> Expr {
        let of = |count: u64, ranks: u64| {
            let leaf = Expr::leaf(count, name, source.clone());
            if ranks > 1 { leaf.ceil_div(Expr::leaf(ranks, "GPUs", Source::Derived("ranks that share it".into()))) } else { leaf }
        };
        match (dense, expert) {
            (_, 0) => of(dense, self.shards),
            (0, _) => of(expert, self.expert_shards()),
            _ => Expr::Sum(vec![of(dense, self.shards), of(expert, self.expert_shards())]),
        }
    }

    /// Ranks that share the states of one rank's experts.
    const fn expert_shards(&self) -> u64 {
        let ranks = self.shards / self.expert.value;
        if ranks == 0 { 1 } else { ranks }
    }
}
