//! Settings that not every engine has: which engine has which, and what becomes of one that is asked of an engine without it.
//!
//! What somebody asks for by name (a flag) is refused, with what has it. What is left over from another engine (on the page, where
//! one switches) is [set aside](set_aside): it comes back with the engine, and until then it is said.

use super::EstimateError;
use crate::model::{ComponentKind, Model, Work};
use crate::scenario::{AttentionImplementation, CacheImplementation, KvCache, LlamaCpp, Parallel, Runtime, Scenario};

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
    /// vLLM's, TensorRT-LLM's and TGI's share of the card.
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
    /// Keys and values on the host beside those on the GPUs.
    KvOffloading,
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

/// Whether a scenario asks for a setting.
type Asked = fn(&Scenario) -> bool;

static ASKED: &[(Setting, Asked)] = &[
    (Setting::LlamaCpp, |s| s.llama_cpp != LlamaCpp::default()),
    (Setting::MixedGpus, |s| s.gpu.as_ref().is_some_and(|names| names.contains(','))),
    (Setting::GgmlCache, |s| s.kv_cache.is_ggml()),
    (Setting::Version, |s| s.serving.runtime_version.is_some()),
    (Setting::Parallel, |s| s.parallel != Parallel::default()),
    (Setting::Utilization, |s| s.gpu_memory_utilization.is_some()),
    (Setting::MemFractionStatic, |s| s.serving.mem_fraction_static.is_some()),
    (Setting::StepTokens, |s| s.max_num_batched_tokens.is_some()),
    (Setting::StepSequences, |s| s.max_num_seqs.is_some()),
    (Setting::EnforceEager, |s| s.enforce_eager),
    (Setting::Attention, |s| s.attention != AttentionImplementation::Sdpa),
    (Setting::CpuOffload, |s| s.serving.cpu_offload.is_some()),
    (Setting::KvOffloading, |s| s.serving.kv_offloading_size.is_some()),
    (Setting::PrefixShare, |s| s.serving.prefix_share.is_some()),
    (Setting::Loras, |s| s.serving.max_loras.is_some() || s.serving.max_lora_rank.is_some()),
    (Setting::Answer, |s| s.serving.answer.is_some()),
    (Setting::Cache, |s| s.serving.cache != CacheImplementation::Dynamic),
    (Setting::Drafting, |s| s.serving.draft.is_some() || s.serving.speculative_tokens.is_some()),
    (Setting::Picture, |s| s.picture.size.is_some()),
    (Setting::Frames, |s| s.picture.frames.is_some()),
    (Setting::Images, |s| s.picture.count.is_some()),
];

impl Setting {
    /// Its flag, and what it is.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::LlamaCpp => ("--gpu-layers and the like", "layers on the host, micro-batches and the like"),
            Self::MixedGpus => ("--gpu A,B", "several kinds of GPU"),
            Self::GgmlCache => ("--kv-cache q8_0 and the like", "keys and values in ggml's blocks"),
            Self::Version => ("--runtime-version", "rules by version"),
            Self::Parallel => ("--pp, --dp, --ep, --cp", "stages, replicas and spread experts"),
            Self::Utilization => ("--gpu-memory-utilization", "a share of the card"),
            Self::MemFractionStatic => ("--mem-fraction-static", "a static share of the card"),
            Self::StepTokens => ("--max-num-batched-tokens", "a limit of tokens per step"),
            Self::StepSequences => ("--max-num-seqs", "a limit of sequences per step"),
            Self::EnforceEager => ("--enforce-eager", "CUDA graphs to do without"),
            Self::Attention => ("--attention", "a choice of how attention is computed"),
            Self::CpuOffload => ("--cpu-offload-gib", "a part of the weights on the host"),
            Self::KvOffloading => ("--kv-offloading-size", "a part of the KV cache on the host"),
            Self::PrefixShare => ("--prefix-share", "a common prefix of requests"),
            Self::Loras => ("--max-loras, --max-lora-rank", "slots for LoRA adapters"),
            Self::Answer => ("--answer-tokens", "a rule that depends on the length of the answer"),
            Self::Cache => ("--cache-implementation", "a choice of caches"),
            Self::Drafting => ("--draft-model, --speculative-tokens", "drafted tokens"),
            Self::Picture => ("--image-size", "pictures to make"),
            Self::Frames => ("--frames", "videos to make"),
            Self::Images => ("--images", "samples to train on"),
        }
    }

    /// Puts it back to its default.
    fn clear(self, scenario: &mut Scenario) {
        let serving = &mut scenario.serving;
        match self {
            Self::LlamaCpp => scenario.llama_cpp = LlamaCpp::default(),
            Self::MixedGpus => scenario.gpu = scenario.gpu.take().map(|names| names.split(',').next().unwrap_or_default().to_owned()),
            Self::GgmlCache => scenario.kv_cache = KvCache::Auto,
            Self::Version => serving.runtime_version = None,
            Self::Parallel => scenario.parallel = Parallel::default(),
            Self::Utilization => scenario.gpu_memory_utilization = None,
            Self::MemFractionStatic => serving.mem_fraction_static = None,
            Self::StepTokens => scenario.max_num_batched_tokens = None,
            Self::StepSequences => scenario.max_num_seqs = None,
            Self::EnforceEager => scenario.enforce_eager = false,
            Self::Attention => scenario.attention = AttentionImplementation::Sdpa,
            Self::CpuOffload => serving.cpu_offload = None,
            Self::KvOffloading => serving.kv_offloading_size = None,
            Self::PrefixShare => serving.prefix_share = None,
            Self::Loras => (serving.max_loras, serving.max_lora_rank) = (None, None),
            Self::Answer => serving.answer = None,
            Self::Cache => serving.cache = CacheImplementation::Dynamic,
            Self::Drafting => (serving.draft, serving.speculative_tokens) = (None, None),
            Self::Picture => scenario.picture.size = None,
            Self::Frames => scenario.picture.frames = None,
            Self::Images => scenario.picture.count = None,
        }
    }
}

/// Settings that an engine has, beside those of every engine.
pub fn settings(runtime: Runtime) -> &'static [Setting] {
    use Setting::{
        Answer, Attention, Cache, CpuOffload, Drafting, EnforceEager, GgmlCache, KvOffloading, LlamaCpp, Loras, MemFractionStatic, MixedGpus, Parallel,
        PrefixShare, StepSequences, StepTokens, Utilization, Version,
    };
    match runtime {
        Runtime::Vllm => &[Version, Parallel, Utilization, StepTokens, StepSequences, EnforceEager, CpuOffload, KvOffloading, PrefixShare, Loras, Drafting],
        Runtime::Sglang => &[Version, Parallel, MemFractionStatic, StepTokens, StepSequences, EnforceEager, CpuOffload, KvOffloading, Drafting],
        Runtime::TensorRtLlm => &[Version, Parallel, Utilization, StepTokens, StepSequences, EnforceEager, KvOffloading, Drafting],
        // Tokens of a step are its `max_batch_prefill_tokens`, the share its `cuda_memory_fraction`.
        Runtime::Tgi => &[Version, Utilization, StepTokens, EnforceEager],
        // Tokens of a step are its `prefill_chunk_size`.
        Runtime::Transformers => &[Version, Parallel, StepTokens, Attention, Answer, Cache, Drafting],
        Runtime::LlamaCpp | Runtime::Ollama | Runtime::LmStudio => &[LlamaCpp, MixedGpus, GgmlCache, Drafting],
        // Its `prefill_step_size`.
        Runtime::Mlx => &[StepTokens],
    }
}

/// Those of pipelines, which run in diffusers whatever the engine.
const PIPELINE: &[Setting] = &[Setting::Picture, Setting::Frames];

/// Settings that what runs the model has.
fn own(scenario: &Scenario, model: &Model) -> &'static [Setting] {
    if model.is_pipeline() { PIPELINE } else { settings(scenario.runtime) }
}

fn reads_images(model: &Model) -> bool {
    !model.is_pipeline() && matches!(model.decoder().work, Work::Images(_))
}

/// Settings that are asked for and that what runs the model has not.
fn lacking<'a>(scenario: &'a Scenario, model: &Model) -> impl Iterator<Item = Setting> + 'a {
    let (own, reads_images) = (own(scenario, model), reads_images(model));
    let has = move |setting| own.contains(&setting) || (reads_images && setting == Setting::Picture);
    ASKED.iter().filter(move |(setting, is_asked)| is_asked(scenario) && !has(*setting)).map(|(setting, _)| *setting)
}

/// Networks of convolutions run in transformers only.
fn runs(scenario: &Scenario, model: &Model) -> bool {
    scenario.runtime == Runtime::Transformers || !reads_images(model)
}

/// Whether [`check`] has nothing to refuse.
pub(crate) fn suits(scenario: &Scenario, model: &Model) -> bool {
    runs(scenario, model) && lacking(scenario, model).next().is_none()
}

/// The scenario without the settings that what runs the model has not, and a sentence for each of them.
pub fn set_aside(scenario: &Scenario, model: &Model) -> (Scenario, Vec<String>) {
    let mut kept = scenario.clone();
    let label = label(scenario, model);
    let said = lacking(scenario, model).map(|setting| {
        setting.clear(&mut kept);
        // For the page, whose controls are not named as flags are.
        let (_, what) = setting.words();
        format!("{label} does not have this: {what}. What was chosen for it is set aside")
    });
    let said = said.collect();
    (kept, said)
}

fn label(scenario: &Scenario, model: &Model) -> &'static str {
    if model.is_pipeline() { "diffusers" } else { scenario.runtime.label() }
}

/// Refuses settings that the engine does not have, rather than pass over them, and names what has them.
pub(crate) fn check(scenario: &Scenario, model: &Model) -> Result<(), EstimateError> {
    let label = label(scenario, model);
    if !runs(scenario, model) {
        return Err(EstimateError::Unsupported(format!("{label} does not run networks that read images through feature maps: choose transformers")));
    }
    let Some(setting) = lacking(scenario, model).next() else { return check_draft(scenario) };
    let shares = [Setting::Utilization, Setting::MemFractionStatic];
    let instead = if shares.contains(&setting) { shares.into_iter().find(|share| own(scenario, model).contains(share)) } else { None };
    let advice = instead.map_or_else(
        || {
            let having: Vec<&str> = Runtime::ALL.iter().filter(|runtime| settings(**runtime).contains(&setting)).map(|runtime| runtime.label()).collect();
            let whose = match setting {
                Setting::Images => "training".to_owned(),
                Setting::Picture | Setting::Frames => "diffusion pipelines".to_owned(),
                _ => having.join(", "),
            };
            format!("it is a setting of {whose}")
        },
        |share| format!("its own is {}", share.words().0),
    );
    let (flag, what) = setting.words();
    Err(EstimateError::Unsupported(format!("{label} has no {flag} ({what}): leave it out; {advice}")))
}

/// Refuses to draft with what writes no text.
fn check_draft(scenario: &Scenario) -> Result<(), EstimateError> {
    let Some(draft) = &scenario.serving.draft else { return Ok(()) };
    let writes = |model: &Model| !model.is_pipeline() && model.decoder().kind == ComponentKind::TextDecoder;
    if draft.model.as_deref().is_none_or(writes) {
        return Ok(());
    }
    let name = &draft.name;
    Err(EstimateError::Unsupported(format!("{name} writes no text token by token, so it cannot draft: name a smaller model of the same family")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_row() {
        for setting in Runtime::ALL.iter().flat_map(|runtime| settings(*runtime)).chain(PIPELINE) {
            assert_eq!(ASKED.iter().filter(|(known, _)| known == setting).count(), 1, "{setting:?}");
        }
        assert!(ASKED.iter().all(|(_, is_asked)| !is_asked(&Scenario::default())));
    }

    #[test]
    fn what_is_cleared_is_not_asked_for() {
        let mut scenario = Scenario { gpu: Some("L4,A10G".into()), enforce_eager: true, kv_cache: KvCache::Q8_0, max_num_seqs: Some(4), ..Scenario::default() };
        scenario.serving.max_loras = Some(2);
        scenario.llama_cpp.swa_full = true;
        scenario.picture.frames = Some(9);
        for (setting, is_asked) in ASKED {
            setting.clear(&mut scenario);
            assert!(!is_asked(&scenario), "{setting:?}");
        }
        assert_eq!(scenario, Scenario { gpu: Some("L4".into()), ..Scenario::default() });
    }
}
