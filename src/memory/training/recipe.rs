//! In which types a precision keeps weights, gradients and states.

use crate::encoding::Encoding;
use crate::scenario::{MixedRecipe, Precision, Sharding};

/// The types of everything that is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Weights as a rank keeps them.
    pub weight: Encoding,
    /// Results of matrix products, and gathered weights.
    pub compute: Encoding,
    /// The hidden state between blocks.
    pub stream: Encoding,
    /// Gradients that the optimizer reads.
    pub gradient: Encoding,
    /// Wider copies of the weights beside them.
    pub master: Option<Encoding>,
    /// Values of the optimizer's states.
    pub state: Encoding,
    /// Whether gradients are copied to float32 in the step.
    pub widens_gradients: bool,
    /// Whether gradients have a buffer that is never given back.
    pub has_gradient_buffer: bool,
    /// Whether weights are cast by autocast when a matrix product reads them.
    pub casts_weights: bool,
    /// Where that was read.
    pub source: &'static str,
}

const PURE: &str = "one type for weights, gradients and states: torch optimizers make their states like the parameter (torch 2.15 torch/optim/adamw.py)";
const AUTOCAST: &str = "torch.autocast: weights, gradients and states stay in float32, matrix products cast (torch 2.15 torch/amp/autocast_mode.py)";
const DEEPSPEED: &str =
    "DeepSpeed 0.19.6 runtime/zero/stage_1_and_2.py and bf16_optimizer.py: 16-bit weights and gradients, float32 copies that the optimizer updates";
const FSDP: &str = "FSDP with mixed precision: float32 shards, gathered in 16 bits, float32 gradients (torch 2.15 torch/distributed/fsdp, torchtitan)";
const MEGATRON: &str =
    "Megatron-LM optimizer/optimizer.py and distributed/param_and_grad_buffer.py: 16-bit weights, a float32 buffer of gradients, float32 copies";

impl Recipe {
    /// The types of a model whose own weights are trained.
    pub fn of(precision: Precision, recipe: MixedRecipe) -> Self {
        let pure = |encoding| Self {
            weight: encoding,
            compute: encoding,
            stream: encoding,
            gradient: encoding,
            master: None,
            state: encoding,
            widens_gradients: false,
            has_gradient_buffer: false,
            casts_weights: false,
            source: PURE,
        };
        let low = match precision {
            Precision::Fp32 => return pure(Encoding::F32),
            Precision::Bf16 | Precision::Fp8 => return pure(Encoding::BF16),
            Precision::Fp16 => return pure(Encoding::F16),
            Precision::Bf16Mixed => Encoding::BF16,
            Precision::Fp16Mixed => Encoding::F16,
        };
        let wide = Encoding::F32;
        match recipe {
            MixedRecipe::Autocast => Self { compute: low, casts_weights: true, source: AUTOCAST, ..pure(wide) },
            MixedRecipe::Fsdp => Self { compute: low, stream: low, source: FSDP, ..pure(wide) },
            MixedRecipe::DeepSpeed => Self { master: Some(wide), state: wide, widens_gradients: true, source: DEEPSPEED, ..pure(low) },
            MixedRecipe::Megatron => Self { gradient: wide, master: Some(wide), state: wide, has_gradient_buffer: true, source: MEGATRON, ..pure(low) },
        }
    }

    /// The types of what is trained beside a model that stays as it is.
    pub fn of_adapters(self, adapter: Encoding) -> Self {
        let compute = self.compute;
        Self {
            weight: adapter,
            gradient: adapter,
            state: adapter,
            master: None,
            stream: compute,
            widens_gradients: false,
            has_gradient_buffer: false,
            casts_weights: false,
            source: "PEFT 0.21 tuners/tuners_utils.py: adapters of 16-bit models are float32 (autocast_adapter_dtype)",
            ..self
        }
    }
}

/// The recipe of mixed precision that a framework for this kind of run has.
pub(super) fn default_recipe(sharding: Sharding, splits: bool) -> (MixedRecipe, &'static str) {
    match sharding {
        Sharding::Fsdp | Sharding::Hsdp => (MixedRecipe::Fsdp, "FSDP keeps float32 shards"),
        Sharding::Zero1 | Sharding::Zero2 | Sharding::Zero3 => (MixedRecipe::DeepSpeed, "ZeRO is DeepSpeed's"),
        Sharding::None | Sharding::Ddp if splits => (MixedRecipe::Megatron, "tensor and pipeline parallelism are Megatron's"),
        Sharding::None | Sharding::Ddp => (MixedRecipe::Autocast, "torch.autocast"),
    }
}
