//! What a training framework does where nothing is said.

use crate::scenario::{AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, Offload, Precision, Trainer};
use crate::weight_format::Method as Format;

/// A default, and why it is the default.
pub(super) type Usual<T> = (T, &'static str);

/// The defaults of a framework for a method and an algorithm.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// Types of weights and of the computation.
    pub precision: Usual<Precision>,
    /// What is recomputed.
    pub checkpointing: Usual<Checkpointing>,
    /// How logits and loss are computed.
    pub loss: Usual<Loss>,
    /// Whether operators are fused.
    pub kernels: Usual<Kernels>,
    /// What lies outside of the GPU.
    pub offload: Usual<Offload>,
    /// Type of adapters.
    pub adapter: Usual<AdapterDtype>,
    /// The rank of low-rank adapters.
    pub rank: Usual<u64>,
    /// Modules that get adapters, where they are not PEFT's for the family.
    pub targets: Option<Usual<&'static [&'static str]>>,
    /// Where frozen values that are not quantised are float32: why.
    pub widens_frozen: Option<&'static str>,
}

const TRL: &str = "TRL 1.16 trainer/base_config.py";
/// Formats whose other values `prepare_model_for_kbit_training` leaves in 16 bits.
const LEFT_NARROW: &[Format] = &[Format::Gptq, Format::Aqlm, Format::Eetq, Format::Hqq, Format::TorchAo, Format::TorchAoFp8];
/// Formats, besides those, of which it recomputes layers: what bitsandbytes loads in 4 or 8 bits.
const BITSANDBYTES: &[Format] = &[Format::LlmInt8, Format::Nf4, Format::Fp4];
const UNSLOTH: &str = "Unsloth 2026.10 models/llama.py `get_peft_model`";

impl Habits {
    /// Of a framework that trains by `method`; `quantised` is what the frozen weights are quantised by.
    pub fn of(trainer: Trainer, algorithm: Algorithm, method: Method, quantised: Option<Format>) -> Self {
        let is_quantised = quantised.is_some();
        let is_one_of = |formats: &[Format]| quantised.is_some_and(|format| formats.contains(&format));
        // TRL's algorithms are taken as TRL computes them; those that it has no trainer for any more, as transformers does.
        let loss = match algorithm {
            Algorithm::Dpo | Algorithm::Kto | Algorithm::Grpo => (Loss::Tiled, "log-probabilities in tiles, as TRL 1.16 makes them"),
            _ => (Loss::Standard, "all logits at once"),
        };
        let torch = Self {
            precision: (Precision::Bf16, "transformers 5 loads in the dtype of the files"),
            checkpointing: (Checkpointing::None, "nothing is recomputed"),
            loss,
            kernels: (Kernels::Standard, "PyTorch's own operators"),
            offload: (Offload::None, "nothing"),
            adapter: (AdapterDtype::Fp32, "PEFT casts 16-bit adapters up (autocast_adapter_dtype)"),
            // QLoRA's paper (Dettmers et al., arXiv 2305.14314, appendix B) fixes both rank and targets.
            rank: if method == Method::Qlora { (64, "the QLoRA paper's") } else { (8, "PEFT's default") },
            targets: None,
            widens_frozen: None,
        };
        match trainer {
            Trainer::Torch => torch,
            Trainer::Transformers => Self {
                kernels: (Kernels::Transformers, "as transformers writes them"),
                checkpointing: if is_one_of(LEFT_NARROW) || is_one_of(BITSANDBYTES) {
                    (Checkpointing::Full, "PEFT 0.21 utils/other.py `prepare_model_for_kbit_training`")
                } else {
                    torch.checkpointing
                },
                widens_frozen: (is_quantised && !is_one_of(LEFT_NARROW))
                    .then_some("PEFT 0.21 utils/other.py `prepare_model_for_kbit_training`: what is not quantised is cast to float32"),
                ..torch
            },
            Trainer::Trl => Self {
                precision: (Precision::Bf16Mixed, TRL),
                checkpointing: (Checkpointing::Full, TRL),
                kernels: (Kernels::Transformers, "as transformers writes them"),
                loss: if matches!(algorithm, Algorithm::Sft) { (Loss::Tiled, "TRL 1.16 kernels/chunked_logprob.py") } else { torch.loss },
                adapter: if is_quantised { (AdapterDtype::Model, "TRL 1.16 trainer/sft_trainer.py: bfloat16 on quantised weights") } else { torch.adapter },
                widens_frozen: Some("TRL 1.16 trainer/utils.py `create_model_from_path`: loaded in float32 unless a dtype is named (--weights bf16)"),
                ..torch
            },
            Trainer::Unsloth => Self {
                precision: if method.is_adapter() { torch.precision } else { (Precision::Bf16Mixed, "unsloth_zoo/training_utils.py: float32_mixed_precision") },
                checkpointing: (Checkpointing::Full, UNSLOTH),
                offload: (Offload::Activations, "Unsloth 2026.10 unsloth_zoo/gradient_checkpointing.py"),
                loss: (Loss::Fused, "Unsloth 2026.10 unsloth_zoo/fused_losses"),
                kernels: (Kernels::Fused, "Unsloth's kernels"),
                rank: (16, UNSLOTH),
                targets: Some((&["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], UNSLOTH)),
                ..torch
            },
        }
    }
}
