//! Keys of training.

use super::{Key, count, parsed, switch, whole};
use crate::quantity::Decimal;
use crate::scenario::{
    AdapterDtype, Algorithm, Checkpointing, Kernels, Loss, Method, MixedRecipe, Offload, OffloadDevice, Optimizer, Precision, Reference, Rollout, Schedule,
    Sharding, Targets, Trainable, Trainer,
};

pub(super) static TRAINING: &[Key] = &[
    parsed!("by", Trainer, training.trainer),
    parsed!("method", Method, training.method),
    parsed!("algo", Algorithm, training.algorithm),
    parsed!("opt", Optimizer, training.optimizer),
    count!("optrank", training.optimizer_rank),
    switch!("oib", training.optimizer_in_backward),
    parsed!("prec", Precision, training.precision),
    parsed!("mixed", MixedRecipe, training.mixed_recipe),
    count!("mb", training.micro_batch),
    count!("ga", training.grad_accum),
    count!("gb", training.global_batch),
    count!("seq", training.seq_len),
    count!("sec", training.audio_seconds),
    parsed!("gc", Checkpointing, training.checkpointing),
    parsed!("capf", Decimal, training.capacity_factor),
    parsed!("loss", Loss, training.loss),
    parsed!("kern", Kernels, training.kernels),
    count!("r", training.lora_rank),
    parsed!("lt", Targets, training.lora_targets),
    parsed!("ld", Decimal, training.lora_dropout),
    parsed!("ad", AdapterDtype, training.adapter_dtype),
    count!("vt", training.virtual_tokens),
    parsed!("train", Trainable, training.trainable),
    parsed!("sh", Sharding, training.sharding),
    count!("ss", training.shard_size),
    count!("pf", training.prefetch),
    parsed!("off", Offload, training.offload),
    parsed!("offto", OffloadDevice, training.offload_device),
    parsed!("sched", Schedule, training.schedule),
    count!("vs", training.virtual_stages),
    switch!("sp", training.sequence_parallel),
    switch!("ema", training.ema),
    parsed!("ref", Reference, training.reference),
    count!("gen", training.generations),
    parsed!("roll", Rollout, training.rollout),
    parsed!("rollmem", Decimal, training.rollout_memory),
];
