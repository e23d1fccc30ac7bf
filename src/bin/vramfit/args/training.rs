//! Flags of training.

use clap::Args;
use vramfit::quantity::Decimal;
use vramfit::scenario::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, MixedRecipe, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Schedule,
    Sharding, Targets, Trainable, Trainer, Training,
};

#[derive(Args)]
#[command(next_help_heading = super::TRAINING)]
pub struct TrainingArguments {
    /// Framework whose defaults are used: torch, transformers (with PEFT's `prepare_model_for_kbit_training`), trl or unsloth [default: torch]
    #[arg(long, value_name = "NAME")]
    trainer: Option<Trainer>,
    /// What is trained: full, freeze, lora, rslora, dora, qlora, ia3, prefix or prompt [default: full]
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// What is learned from: sft, dpo, orpo, kto, reward, ppo or grpo [default: sft]
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
    /// Optimizer: adamw, adamw-foreach, adamw-8bit, sgd, sgd-momentum, adafactor, lion, muon ... [default: adamw]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Optimizer>,
    /// Rank of GaLore and APOLLO [default: 128]
    #[arg(long, value_name = "N")]
    optimizer_rank: Option<u64>,
    /// Use and drop each gradient in the backward pass, whatever the optimizer
    #[arg(long)]
    optimizer_in_backward: bool,
    /// fp32, bf16, fp16, bf16-mixed, fp16-mixed or fp8 [default: bf16]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// How mixed precision is done: autocast, deepspeed, fsdp or megatron [default: by --sharding, --tp and --pp]
    #[arg(long, value_name = "NAME")]
    mixed_recipe: Option<MixedRecipe>,
    /// Sequences of one forward pass of one replica [default: 1]
    #[arg(long, value_name = "N")]
    micro_batch: Option<u64>,
    /// Forward passes per optimizer step [default: 1]
    #[arg(long, value_name = "N")]
    grad_accum: Option<u64>,
    /// Sequences of one optimizer step over all replicas; gives --grad-accum
    #[arg(long, value_name = "N", conflicts_with = "grad_accum")]
    global_batch: Option<u64>,
    /// Tokens of one sequence [default: 2048, or the model's maximum when shorter]
    #[arg(long, value_name = "N")]
    seq_len: Option<u64>,
    /// Seconds of sound in one sample that a model with an audio tower is trained on [default: 0; one window for Whisper]
    #[arg(long, value_name = "N")]
    audio_seconds: Option<u64>,
    /// What is recomputed: none, selective, full, every-N or uniform-N [default: by --trainer, else none]
    #[arg(long, value_name = "HOW")]
    gradient_checkpointing: Option<Checkpointing>,
    /// Room of each expert in parts of its even share of the tokens [default: 1]
    #[arg(long, value_name = "X")]
    expert_capacity_factor: Option<Decimal>,
    /// Logits and loss: standard, chunked, fused (Liger) or tiled (TRL) [default: by --trainer and --algorithm, else standard]
    #[arg(long, value_name = "HOW")]
    loss: Option<Loss>,
    /// Operators of norms and feed-forwards: standard (PyTorch's), transformers, or fused (Liger, Unsloth, compiled) [default: standard]
    #[arg(long, value_name = "KIND")]
    kernels: Option<Kernels>,
    /// Rank of LoRA adapters [default: 8]
    #[arg(long, value_name = "N")]
    lora_rank: Option<u64>,
    /// Modules with adapters: all-linear, or names joined by commas [default: PEFT's for the family]
    #[arg(long, value_name = "LIST")]
    lora_targets: Option<Targets>,
    /// Dropout before LoRA's first matrix [default: 0]
    #[arg(long, value_name = "X")]
    lora_dropout: Option<Decimal>,
    /// Type of adapters: fp32 or model [default: fp32]
    #[arg(long, value_name = "TYPE")]
    adapter_dtype: Option<AdapterDtype>,
    /// Virtual tokens of prefix and prompt tuning [default: 20]
    #[arg(long, value_name = "N")]
    virtual_tokens: Option<u64>,
    /// What `--method freeze` leaves trainable: last-N and roles such as norm,head [default: last-2]; with LoRA, roles trained whole beside it
    #[arg(long, value_name = "LIST")]
    trainable: Option<Trainable>,
    /// How replicas share states: none, ddp, zero1, zero2, zero3, fsdp or hsdp [default: ddp when there are several]
    #[arg(long, value_name = "KIND")]
    sharding: Option<Sharding>,
    /// Ranks of one shard group of hsdp [default: 8]
    #[arg(long, value_name = "N")]
    shard_size: Option<u64>,
    /// Units that are gathered ahead of the one in use [default: 1]
    #[arg(long, value_name = "N")]
    prefetch: Option<u64>,
    /// What lies outside of the GPU: none, optimizer, params or activations [default: none]
    #[arg(long, value_name = "WHAT")]
    offload: Option<Offload>,
    /// Where it lies: cpu or nvme [default: cpu]
    #[arg(long, value_name = "WHERE")]
    offload_device: Option<OffloadDevice>,
    /// Pipeline schedule: 1f1b, gpipe or interleaved [default: 1f1b]
    #[arg(long, value_name = "NAME")]
    pipeline_schedule: Option<Schedule>,
    /// Chunks of layers on each stage of the interleaved schedule [default: 2]
    #[arg(long, value_name = "N")]
    virtual_stages: Option<u64>,
    /// Tensor-parallel ranks also share the tokens between matrices
    #[arg(long)]
    sequence_parallel: bool,
    /// Keep a float32 average of the weights on the GPU
    #[arg(long)]
    ema: bool,
    /// What answers are compared with: none, adapter or copy [default: by algorithm and method]
    #[arg(long, value_name = "KIND")]
    reference: Option<Reference>,
    /// Completions of one prompt (grpo, ppo) [default: 8; 1 for ppo]
    #[arg(long, value_name = "K")]
    generations: Option<u64>,
    /// What writes completions: generate, colocate, colocate-asleep or server [default: colocate; generate for ppo]
    #[arg(long, value_name = "HOW")]
    rollout: Option<Rollout>,
    /// Share of the card that a colocated engine takes [default: 0.3]
    #[arg(long, value_name = "X")]
    rollout_memory_fraction: Option<Decimal>,
}

impl TrainingArguments {
    pub fn to_training(&self) -> Training {
        Training {
            trainer: self.trainer,
            method: self.method,
            algorithm: self.algorithm,
            optimizer: self.optimizer,
            optimizer_rank: self.optimizer_rank,
            optimizer_in_backward: self.optimizer_in_backward,
            precision: self.precision,
            mixed_recipe: self.mixed_recipe,
            micro_batch: self.micro_batch,
            grad_accum: self.grad_accum,
            global_batch: self.global_batch,
            seq_len: self.seq_len,
            audio_seconds: self.audio_seconds,
            checkpointing: self.gradient_checkpointing,
            capacity_factor: self.expert_capacity_factor,
            loss: self.loss,
            kernels: self.kernels,
            lora_rank: self.lora_rank,
            lora_targets: self.lora_targets.clone(),
            lora_dropout: self.lora_dropout,
            adapter_dtype: self.adapter_dtype,
            virtual_tokens: self.virtual_tokens,
            trainable: self.trainable.clone(),
            sharding: self.sharding,
            shard_size: self.shard_size,
            prefetch: self.prefetch,
            offload: self.offload,
            offload_device: self.offload_device,
            schedule: self.pipeline_schedule,
            virtual_stages: self.virtual_stages,
            sequence_parallel: self.sequence_parallel,
            ema: self.ema,
            reference: self.reference,
            generations: self.generations,
            rollout: self.rollout,
            rollout_memory: self.rollout_memory_fraction,
        }
    }
}
