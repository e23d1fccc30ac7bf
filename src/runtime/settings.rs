//! Settings that not every engine has: which engine has which, and what is said when one is asked for that it has not.

use super::EstimateError;
use crate::model::{Model, Work};
use crate::scenario::{AttentionImplementation, CacheImplementation, LlamaCpp, Parallel, Runtime, Scenario};

/// A setting that not every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Layers on the host, micro-batches and the like.
    LlamaCpp,
    /// Several kinds of GPU.
    MixedGpus,
    /// A cache in ggml's blocks.
    GgmlCache,
    /// The version whose rules are used.
    Version,
    /// Pipelines, replicas, spread experts and contexts.
    Parallel,
    /// vLLM's and TensorRT-LLM's share of the card.
    Utilization,
    /// SGLang's share of the card.
    MemFractionStatic,
    /// Tokens of a step.
    StepTokens,
    /// Sequences of a step.
    StepSequences,
    /// Without CUDA graphs.
    EnforceEager,
    /// How attention is computed.
    Attention,
    /// A part of the weights on the host.
    CpuOffload,
    /// A prefix that all requests share.
    PrefixShare,
    /// Slots for LoRA adapters.
    Loras,
    /// Where the prompt ends and the answer begins.
    Answer,
    /// What keeps keys and values in transformers.
    Cache,
    /// Tokens that are drafted, by a model beside it or a module of its own.
    Drafting,
    /// The size of a picture that is made, or that a network of convolutions reads.
    Picture,
    /// The frames of a video.
    Frames,
    /// Images in a sample.
    Images,
}

/// A setting: its flag, whether a scenario asks for it, and what it is.
struct Row {
    setting: Setting,
    flag: &'static str,
    is_asked: fn(&Scenario) -> bool,
    what: &'static str,
}

const fn row(setting: Setting, flag: &'static str, is_asked: fn(&Scenario) -> bool, what: &'static str) -> Row {
    Row { setting, flag, is_asked, what }
}

static ROWS: &[Row] = &[
    row(Setting::LlamaCpp, "--gpu-layers and the like", |s| s.llama_cpp != LlamaCpp::default(), "layers on the host, micro-batches and the like"),
    row(Setting::MixedGpus, "--gpu A,B", |s| s.gpu.as_ref().is_some_and(|names| names.contains(',')), "several kinds of GPU"),
    row(Setting::GgmlCache, "--kv-cache q8_0 and the like", |s| s.kv_cache.is_ggml(), "keys and values in ggml's blocks"),
    row(Setting::Version, "--runtime-version", |s| s.serving.runtime_version.is_some(), "rules by version"),
    row(Setting::Parallel, "--pp, --dp, --ep, --cp", |s| s.parallel != Parallel::default(), "stages, replicas and spread experts"),
    row(Setting::Utilization, "--gpu-memory-utilization", |s| s.gpu_memory_utilization.is_some(), "a share of the card"),
    row(Setting::MemFractionStatic, "--mem-fraction-static", |s| s.serving.mem_fraction_static.is_some(), "a static share of the card"),
    row(Setting::StepTokens, "--max-num-batched-tokens", |s| s.max_num_batched_tokens.is_some(), "a limit of tokens per step"),
    row(Setting::StepSequences, "--max-num-seqs", |s| s.max_num_seqs.is_some(), "a limit of sequences per step"),
    row(Setting::EnforceEager, "--enforce-eager", |s| s.enforce_eager, "CUDA graphs to do without"),
    row(Setting::Attention, "--attention", |s| s.attention != AttentionImplementation::Sdpa, "a choice of how attention is computed"),
    row(Setting::CpuOffload, "--cpu-offload-gib", |s| s.serving.cpu_offload.is_some(), "a part of the weights on the host"),
    row(Setting::PrefixShare, "--prefix-share", |s| s.serving.prefix_share.is_some(), "a common prefix of requests"),
    row(Setting::Loras, "--max-loras, --max-lora-rank", |s| s.serving.max_loras.is_some() || s.serving.max_lora_rank.is_some(), "slots for LoRA adapters"),
    row(Setting::Answer, "--answer-tokens", |s| s.serving.answer.is_some(), "a rule that depends on the length of the answer"),
    row(Setting::Cache, "--cache-implementation", |s| s.serving.cache != CacheImplementation::Dynamic, "a choice of caches"),
    row(Setting::Drafting, "--draft-model, --speculative-tokens", |s| s.serving.draft.is_some() || s.serving.speculative_tokens.is_some(), "drafted tokens"),
    row(Setting::Picture, "--image-size", |s| s.picture.size.is_some(), "pictures to make"),
    row(Setting::Frames, "--frames", |s| s.picture.frames.is_some(), "videos to make"),
    row(Setting::Images, "--images", |s| s.picture.count.is_some(), "samples to train on"),
];

/// Settings that an engine has, beside those of every engine.
pub fn settings(runtime: Runtime) -> &'static [Setting] {
    use Setting::{
        Answer, Attention, Cache, CpuOffload, Drafting, EnforceEager, GgmlCache, LlamaCpp, Loras, MemFractionStatic, MixedGpus, Parallel, PrefixShare,
        StepSequences, StepTokens, Utilization, Version,
    };
    match runtime {
        Runtime::Vllm => &[Version, Parallel, Utilization, StepTokens, StepSequences, EnforceEager, CpuOffload, PrefixShare, Loras, Drafting],
        Runtime::Sglang => &[Version, Parallel, MemFractionStatic, StepTokens, StepSequences, EnforceEager, CpuOffload, Drafting],
        Runtime::TensorRtLlm => &[Version, Parallel, Utilization, StepTokens, StepSequences, EnforceEager, Drafting],
        // Tokens of a step are its `prefill_chunk_size`.
        Runtime::Transformers => &[Version, Parallel, StepTokens, Attention, Answer, Cache, Drafting],
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => &[LlamaCpp, MixedGpus, GgmlCache, Drafting],
        Runtime::Mlx => &[],
    }
}

/// Those of pipelines, which run in diffusers whatever the engine.
const PIPELINE: &[Setting] = &[Setting::Picture, Setting::Frames];

/// Refuses settings that the engine does not have, rather than pass over them, and names what has them.
pub(super) fn check(scenario: &Scenario, model: &Model) -> Result<(), EstimateError> {
    let (own, label) = if model.is_pipeline() { (PIPELINE, "diffusers") } else { (settings(scenario.runtime), scenario.runtime.label()) };
    let reads_images = !model.is_pipeline() && matches!(model.decoder().work, Work::Images(_));
    if reads_images && scenario.runtime != Runtime::Transformers {
        return Err(EstimateError::Unsupported(format!("{label} does not run networks that read images through feature maps: choose transformers")));
    }
    let has = |setting: Setting| own.contains(&setting) || (reads_images && setting == Setting::Picture);
    let Some(row) = ROWS.iter().find(|row| (row.is_asked)(scenario) && !has(row.setting)) else { return Ok(()) };
    let instead = |shares: [Setting; 2]| shares.contains(&row.setting).then(|| shares.into_iter().find(|share| own.contains(share))).flatten();
    let advice = match instead([Setting::Utilization, Setting::MemFractionStatic]) {
        Some(share) => ROWS.iter().find(|row| row.setting == share).map(|row| format!("its own is {}", row.flag)),
        None => None,
    };
    let advice = advice.unwrap_or_else(|| {
        let having: Vec<&str> = Runtime::ALL.iter().filter(|runtime| settings(**runtime).contains(&row.setting)).map(|runtime| runtime.label()).collect();
        format!(
            "it is a setting of {}",
            match row.setting {
                Setting::Images => "training".to_owned(),
                Setting::Picture | Setting::Frames => "diffusion pipelines".to_owned(),
                _ => having.join(", "),
            }
        )
    });
    Err(EstimateError::Unsupported(format!("{label} has no {} ({}): leave it out; {advice}", row.flag, row.what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_row() {
        for setting in Runtime::ALL.iter().flat_map(|runtime| settings(*runtime)).chain(PIPELINE) {
            assert_eq!(ROWS.iter().filter(|row| row.setting == *setting).count(), 1, "{setting:?}");
        }
        assert!(ROWS.iter().all(|row| !(row.is_asked)(&Scenario::default())));
    }
}
