//! Settings of training. Names are those of the field: PEFT's methods, torch's and bitsandbytes' optimizers, DeepSpeed's stages.

use std::str::FromStr;

use super::{UnknownChoice, choices};
use crate::quantity::Decimal;

/// Everything that training adds to a scenario; `None` means the default, which the estimate reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    /// The framework whose defaults are used.
    pub trainer: Option<Trainer>,
    /// What is trained.
    pub method: Option<Method>,
    /// What is learned from.
    pub algorithm: Option<Algorithm>,
    /// The optimizer.
    pub optimizer: Option<Optimizer>,
    /// Rank of optimizers that project gradients (GaLore, APOLLO).
    pub optimizer_rank: Option<u64>,
    /// Whether each gradient is used and dropped in the backward pass, whatever the optimizer (torchtune's `optimizer_in_bwd`).
    pub optimizer_in_backward: bool,
    /// Types of weights, gradients and states.
    pub precision: Option<Precision>,
    /// How mixed precision is done.
    pub mixed_recipe: Option<MixedRecipe>,
    /// Sequences of one forward pass of one replica.
    pub micro_batch: Option<u64>,
    /// Forward passes whose gradients are summed before a step.
    pub grad_accum: Option<u64>,
    /// Sequences of one optimizer step over all replicas; gives `grad_accum` when that is not chosen.
    pub global_batch: Option<u64>,
    /// Tokens of one sequence.
    pub seq_len: Option<u64>,
    /// Seconds of sound in one sample, for models with an audio tower.
    pub audio_seconds: Option<u64>,
    /// What is recomputed in the backward pass.
    pub checkpointing: Option<Checkpointing>,
    /// Room of each expert in parts of its even share of the tokens (`moe_expert_capacity_factor`); 1 where tokens are spread evenly.
    pub capacity_factor: Option<Decimal>,
    /// How logits and loss are computed.
    pub loss: Option<Loss>,
    /// Whether norms and feed-forwards are fused.
    pub kernels: Option<Kernels>,
    /// Rank of LoRA adapters.
    pub lora_rank: Option<u64>,
    /// Modules that get adapters.
    pub lora_targets: Option<Targets>,
    /// Dropout before LoRA's first matrix.
    pub lora_dropout: Option<Decimal>,
    /// Type of adapters.
    pub adapter_dtype: Option<AdapterDtype>,
    /// Virtual tokens of prefix and prompt tuning.
    pub virtual_tokens: Option<u64>,
    /// What `freeze` leaves trainable; with low-rank adapters, roles whose modules are trained whole beside them (PEFT's `modules_to_save`).
    pub trainable: Option<Trainable>,
    /// How states are shared by replicas.
    pub sharding: Option<Sharding>,
    /// Ranks of one shard group of hybrid sharding.
    pub shard_size: Option<u64>,
    /// Units that are gathered ahead of the one in use.
    pub prefetch: Option<u64>,
    /// What lies outside of the GPU.
    pub offload: Option<Offload>,
    /// Where it lies.
    pub offload_device: Option<OffloadDevice>,
    /// How micro-batches flow through pipeline stages.
    pub schedule: Option<Schedule>,
    /// Chunks of layers that each pipeline stage has (interleaved schedules).
    pub virtual_stages: Option<u64>,
    /// Whether tensor-parallel ranks also share the tokens between matrices.
    pub sequence_parallel: bool,
    /// Whether a float32 average of the weights is kept on the GPU.
    pub ema: bool,
    /// Whether a copy of the first weights is kept to compare with (DPO, KTO, GRPO, PPO).
    pub reference: Option<Reference>,
    /// Completions of one prompt (GRPO, PPO).
    pub generations: Option<u64>,
    /// What writes completions (GRPO, PPO).
    pub rollout: Option<Rollout>,
    /// The share of the card that an engine beside the trainer takes.
    pub rollout_memory: Option<Decimal>,
}

choices! {
    /// What a model is for.
    Task, "task", {
        /// Run it.
        Serve = "serve", "Run it";
        /// Train it.
        Train = "train", "Train it";
    }
}

choices! {
    /// The framework whose defaults are used.
    Trainer, "trainer", {
        /// PyTorch, and PEFT for adapters.
        Torch = "torch", "PyTorch and PEFT";
        /// The Trainer of transformers, with PEFT's `prepare_model_for_kbit_training` where weights are quantised.
        Transformers = "transformers", "transformers";
        /// TRL's trainers.
        Trl = "trl", "TRL";
        /// Unsloth.
        Unsloth = "unsloth", "Unsloth";
    }
}

choices! {
    /// What is trained.
    Method, "training method", {
        /// Every weight.
        Full = "full", "Full";
        /// Some layers or roles; the rest stays as it is.
        Freeze = "freeze", "Part of the layers";
        /// Low-rank adapters.
        Lora = "lora", "LoRA";
        /// Low-rank adapters with another scale.
        Rslora = "rslora", "rsLoRA";
        /// Low-rank adapters with a magnitude per output.
        Dora = "dora", "DoRA";
        /// Low-rank adapters on a quantised model.
        Qlora = "qlora", "QLoRA";
        /// One factor per output or input.
        Ia3 = "ia3", "IA3";
        /// Learned keys and values of virtual tokens in every layer.
        Prefix = "prefix", "Prefix tuning";
        /// Learned embeddings of virtual tokens.
        Prompt = "prompt", "Prompt tuning";
    }
}

impl Method {
    /// True when the model's own weights stay as they are.
    pub const fn is_adapter(self) -> bool {
        !matches!(self, Self::Full | Self::Freeze)
    }

    /// True for low-rank adapters of any kind.
    pub const fn is_low_rank(self) -> bool {
        matches!(self, Self::Lora | Self::Rslora | Self::Dora | Self::Qlora)
    }
}

choices! {
    /// What is learned from.
    Algorithm, "training algorithm", {
        /// Texts: pre-training and supervised fine-tuning.
        Sft = "sft", "Supervised (SFT, pre-training)";
        /// Pairs of answers, against a reference.
        Dpo = "dpo", "DPO";
        /// Pairs of answers, without a reference.
        Orpo = "orpo", "ORPO";
        /// Single answers, good or bad, against a reference.
        Kto = "kto", "KTO";
        /// Pairs of answers, to a score.
        Reward = "reward", "Reward model";
        /// Own answers, scored by a reward model, with a value model.
        Ppo = "ppo", "PPO";
        /// Groups of own answers, scored against each other.
        Grpo = "grpo", "GRPO";
    }
}

choices! {
    /// The optimizers.
    Optimizer, "optimizer", {
        /// AdamW as one fused kernel (transformers' default, `adamw_torch_fused`).
        Adamw = "adamw", "AdamW (fused)";
        /// AdamW over lists of tensors, torch's own default.
        AdamwForeach = "adamw-foreach", "AdamW (foreach)";
        /// Adam, fused.
        Adam = "adam", "Adam";
        /// 8-bit blockwise AdamW of bitsandbytes.
        Adamw8bit = "adamw-8bit", "AdamW 8-bit";
        /// The same in memory that the driver may move to the host.
        PagedAdamw8bit = "paged-adamw-8bit", "Paged AdamW 8-bit";
        /// AdamW in memory that the driver may move to the host.
        PagedAdamw = "paged-adamw", "Paged AdamW";
        /// Plain gradient descent.
        Sgd = "sgd", "SGD";
        /// Gradient descent with momentum.
        SgdMomentum = "sgd-momentum", "SGD with momentum";
        /// Adafactor without momentum.
        Adafactor = "adafactor", "Adafactor";
        /// Lion.
        Lion = "lion", "Lion";
        /// 8-bit blockwise Lion of bitsandbytes.
        Lion8bit = "lion-8bit", "Lion 8-bit";
        /// Muon for hidden matrices, AdamW for the rest.
        Muon = "muon", "Muon";
        /// Sophia.
        Sophia = "sophia", "Sophia";
        /// AdamW on gradients that are projected to a low rank.
        Galore = "galore", "GaLore";
        /// AdamW with scales from a low-rank random projection.
        Apollo = "apollo", "APOLLO";
        /// The same with rank 1.
        ApolloMini = "apollo-mini", "APOLLO-Mini";
        /// Steps inside the backward pass, without states.
        Lomo = "lomo", "LOMO";
        /// The same with a factored second moment.
        Adalomo = "adalomo", "AdaLomo";
    }
}

choices! {
    /// Types of weights, gradients and states.
    Precision, "precision", {
        /// All in float32.
        Fp32 = "fp32", "FP32";
        /// All in bfloat16.
        Bf16 = "bf16", "BF16 (pure)";
        /// All in float16.
        Fp16 = "fp16", "FP16 (pure)";
        /// Computation in bfloat16, states in float32.
        Bf16Mixed = "bf16-mixed", "BF16 mixed";
        /// Computation in float16, states in float32.
        Fp16Mixed = "fp16-mixed", "FP16 mixed";
        /// Matrices in 8-bit float, weights in bfloat16.
        Fp8 = "fp8", "FP8";
    }
}

choices! {
    /// How mixed precision is done.
    MixedRecipe, "recipe of mixed precision", {
        /// float32 weights, cast when used (`torch.autocast`).
        Autocast = "autocast", "Autocast";
        /// 16-bit weights and gradients, float32 copies beside them.
        DeepSpeed = "deepspeed", "DeepSpeed";
        /// float32 shards, gathered in 16 bits.
        Fsdp = "fsdp", "FSDP";
        /// 16-bit weights, float32 gradients and copies.
        Megatron = "megatron", "Megatron";
    }
}

choices! {
    /// How logits and loss are computed.
    Loss, "way to compute the loss", {
        /// All logits at once, in float32.
        Standard = "standard", "Standard";
        /// Logits at once, the loss in chunks of tokens.
        Chunked = "chunked", "Chunked";
        /// Head and loss together, in chunks of tokens (Liger).
        Fused = "fused", "Fused";
        /// Head and loss together, in tiles of tokens and words that are made again in the backward pass (TRL).
        Tiled = "tiled", "Tiled";
    }
}

choices! {
    /// Whether norms and feed-forwards are fused.
    Kernels, "kind of kernels", {
        /// PyTorch's own operators, as training frameworks use them (litgpt, torchtune, torchtitan).
        Standard = "standard", "PyTorch";
        /// As the modelling code of transformers writes them: some activation functions in several operators.
        Transformers = "transformers", "transformers";
        /// Fused: Liger, Unsloth, Transformer Engine or `torch.compile`.
        Fused = "fused", "Fused (Liger, compiled)";
    }
}

choices! {
    /// Type of adapters.
    AdapterDtype, "type of adapters", {
        /// float32, as PEFT does for 16-bit models (`autocast_adapter_dtype`).
        Fp32 = "fp32", "FP32";
        /// The type of computation.
        Model = "model", "As the model";
    }
}

choices! {
    /// How states are shared by replicas.
    Sharding, "kind of sharding", {
        /// Not at all.
        None = "none", "None";
        /// Not at all; gradients are averaged in buckets.
        Ddp = "ddp", "DDP";
        /// Optimizer states.
        Zero1 = "zero1", "ZeRO-1";
        /// Optimizer states and gradients.
        Zero2 = "zero2", "ZeRO-2";
        /// Optimizer states, gradients and weights.
        Zero3 = "zero3", "ZeRO-3";
        /// The same, by torch.
        Fsdp = "fsdp", "FSDP";
        /// The same within groups, replicated over groups.
        Hsdp = "hsdp", "HSDP";
    }
}

impl Sharding {
    /// True when weights are shared too.
    pub const fn shares_weights(self) -> bool {
        matches!(self, Self::Zero3 | Self::Fsdp | Self::Hsdp)
    }

    /// True when gradients are shared.
    pub const fn shares_gradients(self) -> bool {
        self.shares_weights() || matches!(self, Self::Zero2)
    }

    /// True when optimizer states are shared.
    pub const fn shares_states(self) -> bool {
        self.shares_gradients() || matches!(self, Self::Zero1)
    }
}

choices! {
    /// What lies outside of the GPU.
    Offload, "thing to offload", {
        /// Nothing.
        None = "none", "Nothing";
        /// Optimizer states and float32 copies.
        Optimizer = "optimizer", "Optimizer";
        /// These and the weights.
        Params = "params", "Parameters and optimizer";
        /// What checkpointed layers keep.
        Activations = "activations", "Activations";
    }
}

choices! {
    /// Where offloaded things lie.
    OffloadDevice, "place to offload to", {
        /// Host memory.
        Cpu = "cpu", "Host memory";
        /// Disk, through buffers in host memory.
        Nvme = "nvme", "NVMe";
    }
}

choices! {
    /// How micro-batches flow through pipeline stages.
    Schedule, "pipeline schedule", {
        /// One forward, one backward.
        OneForwardOneBackward = "1f1b", "1F1B";
        /// All forward, then all backward.
        Gpipe = "gpipe", "GPipe";
        /// 1F1B with several chunks of layers per stage.
        Interleaved = "interleaved", "Interleaved 1F1B";
    }
}

choices! {
    /// What an answer is compared with.
    Reference, "kind of reference", {
        /// Nothing.
        None = "none", "None";
        /// The same model without its adapters.
        Adapter = "adapter", "Adapters off";
        /// A second copy of the model.
        Copy = "copy", "A copy";
    }
}

choices! {
    /// What writes completions.
    Rollout, "way to roll out", {
        /// The model itself (`generate()`).
        Generate = "generate", "generate()";
        /// An engine on the same GPU that keeps its memory.
        Colocate = "colocate", "An engine on the same GPU";
        /// An engine on the same GPU that gives its memory back while the model is trained.
        ColocateAsleep = "colocate-asleep", "An engine on the same GPU, asleep while training";
        /// An engine elsewhere.
        Server = "server", "An engine elsewhere";
    }
}

/// What is recomputed in the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpointing {
    /// Nothing.
    None,
    /// All but attention and every second matrix product, by operator (torchtitan's `selective`, `op`).
    Selective,
    /// Every layer: its input is kept.
    Full,
    /// One layer in so many (torchtitan's `selective` with a number).
    Every(u64),
    /// Groups of so many layers: the group's input is kept (Megatron's `uniform`).
    Uniform(u64),
}

impl FromStr for Checkpointing {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let lower = text.trim().to_ascii_lowercase();
        let number = |prefix: &str| lower.strip_prefix(prefix).and_then(|number| number.parse().ok()).filter(|number| (1..=1 << 20).contains(number));
        match lower.as_str() {
            "none" => Ok(Self::None),
            "selective" => Ok(Self::Selective),
            "full" => Ok(Self::Full),
            _ => number("every-").map(Self::Every).or_else(|| number("uniform-").map(Self::Uniform)).ok_or_else(|| UnknownChoice {
                input: text.to_owned(),
                what: "kind of gradient checkpointing",
                choices: "none, selective, full, every-N, uniform-N".to_owned(),
            }),
        }
    }
}

impl std::fmt::Display for Checkpointing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Selective => f.write_str("selective"),
            Self::Full => f.write_str("full"),
            Self::Every(layers) => write!(f, "every-{layers}"),
            Self::Uniform(layers) => write!(f, "uniform-{layers}"),
        }
    }
}

/// Modules that get adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every linear module but the head (PEFT's `all-linear`).
    AllLinear,
    /// These, by the last part of their names.
    Named(Vec<String>),
}

impl FromStr for Targets {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        match names.as_slice() {
            [one] if one == "all-linear" => Ok(Self::AllLinear),
            [] => Err(UnknownChoice { input: text.to_owned(), what: "list of modules", choices: "all-linear, or names such as q_proj,v_proj".to_owned() }),
            _ => Ok(Self::Named(names)),
        }
    }
}

impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllLinear => f.write_str("all-linear"),
            Self::Named(names) => f.write_str(&names.join(",")),
        }
    }
}

/// What `freeze` leaves trainable: the last layers, and tensors by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trainable {
    /// The last so many layers.
    pub last_layers: u64,
    /// Roles, by their names in the JSON contract (`norm`, `embedding`, `head` ...).
    pub roles: Vec<String>,
}

impl FromStr for Trainable {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let unknown = |part: &str| UnknownChoice {
            input: part.to_owned(),
            what: "part of a model",
            choices: "last-N, or roles such as norm, embedding, head, query, down".to_owned(),
        };
        let mut trainable = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.strip_prefix("last-") {
                Some(layers) => trainable.last_layers = layers.parse().map_err(|_| unknown(part))?,
                None if crate::model::Role::names().any(|name| name == part) => trainable.roles.push(part.to_owned()),
                None => return Err(unknown(part)),
            }
        }
        if trainable == Self::default() { Err(unknown(text)) } else { Ok(trainable) }
    }
}

impl std::fmt::Display for Trainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layers = (self.last_layers > 0).then(|| format!("last-{}", self.last_layers));
        let parts: Vec<&str> = layers.as_deref().into_iter().chain(self.roles.iter().map(String::as_str)).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["none", "selective", "full", "every-2", "uniform-4"] {
            assert_eq!(text.parse::<Checkpointing>().unwrap().to_string(), text);
        }
        for text in ["all-linear", "q_proj,v_proj"] {
            assert_eq!(text.parse::<Targets>().unwrap().to_string(), text);
        }
        for text in ["last-2", "norm,head", "last-4,embedding"] {
            assert_eq!(text.parse::<Trainable>().unwrap().to_string(), text);
        }
        assert!("every-0".parse::<Checkpointing>().is_err());
        for text in ["last-x", "last-0", "nothing", ""] {
            assert!(text.parse::<Trainable>().is_err(), "{text}");
        }
        assert!(" , ".parse::<Targets>().is_err());
    }

    #[test]
    fn each_stage_of_sharding_shares_what_the_one_before_does() {
        let shares = |sharding: Sharding| [sharding.shares_states(), sharding.shares_gradients(), sharding.shares_weights()];
        assert_eq!(shares(Sharding::Ddp), [false, false, false]);
        assert_eq!(shares(Sharding::Zero1), [true, false, false]);
        assert_eq!(shares(Sharding::Zero2), [true, true, false]);
        assert_eq!(shares(Sharding::Fsdp), [true, true, true]);
    }
}
