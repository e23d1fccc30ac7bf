//! Settings that were chosen and change nothing here: each is said, none is passed over.

use super::loss::has_logits;
use super::run::Run;
use crate::model::{FeedForward, Mixer};
use crate::scenario::{Algorithm, AttentionImplementation, Method, Offload, Optimizer, Rollout, Schedule, Sharding, Training};

/// A setting: its name, whether it was chosen, whether it plays a part, and what it takes to play one.
struct Row {
    name: &'static str,
    is_asked: fn(&Training) -> bool,
    counts: fn(&Run) -> bool,
    needs: &'static str,
}

const fn row(name: &'static str, is_asked: fn(&Training) -> bool, counts: fn(&Run) -> bool, needs: &'static str) -> Row {
    Row { name, is_asked, counts, needs }
}

static ROWS: &[Row] = &[
    row("lora_rank", |t| t.lora_rank.is_some(), |run| run.method.is_low_rank(), "low-rank adapters (lora, rslora, dora, qlora)"),
    row("lora_dropout", |t| t.lora_dropout.is_some(), |run| run.method.is_low_rank(), "low-rank adapters (lora, rslora, dora, qlora)"),
    row(
        "lora_targets",
        |t| t.lora_targets.is_some(),
        |run| run.method.is_low_rank() || run.method == Method::Ia3,
        "adapters on modules (LoRA and its kin, IA3)",
    ),
    row("adapter_dtype", |t| t.adapter_dtype.is_some(), |run| run.method.is_adapter(), "adapters"),
    row("virtual_tokens", |t| t.virtual_tokens.is_some(), |run| matches!(run.method, Method::Prefix | Method::Prompt), "prefix or prompt tuning"),
    row("trainable", |t| t.trainable.is_some(), |run| run.method == Method::Freeze || run.method.is_low_rank(), "the method freeze, or low-rank adapters"),
    row(
        "optimizer_rank",
        |t| t.optimizer_rank.is_some(),
        |run| matches!(run.optimizer, Optimizer::Galore | Optimizer::Apollo),
        "an optimizer that projects gradients (galore, apollo)",
    ),
    row("mixed_recipe", |t| t.mixed_recipe.is_some(), |run| run.is_mixed || run.fp8.is_some(), "mixed precision (bf16-mixed, fp16-mixed, fp8)"),
    row("expert_capacity_factor", |t| t.capacity_factor.is_some(), has_experts, "a mixture of experts"),
    row("loss", |t| t.loss.is_some(), has_logits, "a model that ends in logits over words"),
    row("seq_len", |t| t.seq_len.is_some(), |run| !run.reads_images_alone(), "a model of sequences"),
    row("shard_size", |t| t.shard_size.is_some(), |run| run.sharding == Sharding::Hsdp, "hybrid sharding (hsdp)"),
    row(
        "prefetch",
        |t| t.prefetch.is_some(),
        |run| run.sharding.shares_weights() && run.sharding != Sharding::Zero3 && run.world.shards > 1 || run.offload == Offload::Params,
        "units that are gathered (fsdp, hsdp) or parameters that are offloaded",
    ),
    row("offload_device", |t| t.offload_device.is_some(), |run| run.offload != Offload::None, "something to offload"),
    row("pipeline_schedule", |t| t.schedule.is_some(), |run| run.world.pipeline.value > 1, "a pipeline (--pp)"),
    row(
        "virtual_stages",
        |t| t.virtual_stages.is_some(),
        |run| run.world.pipeline.value > 1 && run.schedule == Schedule::Interleaved,
        "a pipeline with the interleaved schedule",
    ),
    row("sequence_parallel", |t| t.sequence_parallel, |run| run.world.tensor.value > 1, "tensor parallelism (--tp)"),
    row("generations", |t| t.generations.is_some(), is_rolled, "an algorithm that writes its own answers (grpo, ppo)"),
    row("rollout", |t| t.rollout.is_some(), is_rolled, "an algorithm that writes its own answers (grpo, ppo)"),
    row(
        "rollout_memory_fraction",
        |t| t.rollout_memory.is_some(),
        |run| is_rolled(run) && matches!(run.rollout, Rollout::Colocate | Rollout::ColocateAsleep),
        "an engine on the same GPU that writes answers",
    ),
];

fn is_rolled(run: &Run) -> bool {
    matches!(run.algorithm, Algorithm::Ppo | Algorithm::Grpo)
}

fn has_experts(run: &Run) -> bool {
    let mut layers = run.model.anatomy.counted().flat_map(|part| &part.layers);
    layers.any(|layers| matches!(layers.layer.feed_forward, FeedForward::MixtureOfExperts { .. }))
}

fn has_attention(run: &Run) -> bool {
    let mut layers = run.model.anatomy.counted().flat_map(|part| &part.layers);
    layers.any(|layers| matches!(layers.layer.mixer, Mixer::Attention(_) | Mixer::Latent(_) | Mixer::Parallel(..)))
}

/// What is said of settings without a part.
pub(super) fn told(run: &Run) -> Vec<String> {
    let asked = ROWS.iter().filter(|row| (row.is_asked)(&run.scenario.training) && !(row.counts)(run));
    let mut told: Vec<String> = asked.map(|row| sentence(row.name, row.needs)).collect();
    if run.scenario.attention != AttentionImplementation::Sdpa && !has_attention(run) {
        told.push(sentence("attention", "layers of attention"));
    }
    if run.scenario.parallel.data_attention {
        told.push(sentence("dp_attention", "serving"));
    }
    if run.scenario.picture.size.is_some() && run.image.is_none() {
        told.push(sentence("image_size", "a model that reads images, and how many there are in a sample (images)"));
    }
    told
}

fn sentence(name: &str, needs: &str) -> String {
    format!("{name} plays no part here: it takes {needs}")
}
