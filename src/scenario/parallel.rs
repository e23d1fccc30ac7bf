//! How the model is spread over GPUs besides tensor parallelism.

/// Sizes of the ways to spread; `None` means 1, or what the engine makes of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parallel {
    /// Stages that the layers are cut into.
    pub pipeline: Option<u64>,
    /// Replicas that share the requests.
    pub data: Option<u64>,
    /// Ranks over which the experts are spread, each whole.
    pub expert: Option<u64>,
    /// Ranks over which the tokens of a request's cache are spread, within those of tensor parallelism.
    pub context: Option<u64>,
    /// Replicas of attention alone: the experts are spread over all of them.
    pub data_attention: bool,
}
