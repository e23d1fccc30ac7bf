//! The flags.

mod llama_cpp;
mod serving;
mod training;

use std::any::TypeId;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, Parser, Subcommand, ValueEnum};
use vramfit::gpu::GpuError;
use vramfit::memory::EstimateError;
use vramfit::plan;
use vramfit::quantity::{BadDecimal, Bytes, Decimal, GIB, MIB};
use vramfit::scenario::{AttentionImplementation, FlashAttention, KvCache, Picture, Runtime, Scenario, Task, Weights};

/// The environment variable that holds the access token unless another is named: that of the Hub's own tools.
pub const DEFAULT_TOKEN: &str = "HF_TOKEN";
/// What no GPU's memory comes near: 64 TiB in bytes, where the largest of today have less than one.
const LARGEST_GPU: u64 = 64 << 40;
/// Heading of flags of serving.
const SERVING: &str = "Serving";
/// Heading of flags of training.
const TRAINING: &str = "Training";
/// Heading of flags of llama.cpp.
const LLAMA_CPP: &str = "llama.cpp";

/// Flags of which none is a count too.
const MAY_BE_ZERO: &[&str] = &["gpu-layers", "n-cpu-moe", "images", "audio-seconds"];

/// Flags that are not called as the engine's settings are.
const CALLED_OTHERWISE: &[(&str, &str)] = &[
    ("tensor_parallel", "tp"),
    ("pipeline_parallel", "pp"),
    ("data_parallel", "dp"),
    ("expert_parallel", "ep"),
    ("context_parallel", "cp"),
    ("free_gpu_memory_fraction", "gpu-memory-utilization"),
    ("cuda_memory_fraction", "gpu-memory-utilization"),
];

/// What is said at the end of the help.
const EXIT_CODES: &str = "Exit codes: 0 an answer, 1 it does not fit (with --check), 2 bad input: the message says what to do.";

/// Will a neural network fit a GPU, and why? The memory that serving or training it takes, to the byte, with the working.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

impl Arguments {
    /// The command as clap derives it, but that a slip in a number is told as one.
    pub fn in_words() -> Command {
        Self::command().mut_subcommands(|verb| {
            verb.mut_args(|argument| match argument.get_value_parser().type_id() {
                id if id == TypeId::of::<u64>() && argument.get_long().is_some_and(|flag| MAY_BE_ZERO.contains(&flag)) => {
                    argument.value_parser(whole_number).allow_negative_numbers(true)
                }
                id if id == TypeId::of::<u64>() => argument.value_parser(count).allow_negative_numbers(true),
                id if id == TypeId::of::<Decimal>() || id == TypeId::of::<Bytes>() => argument.allow_negative_numbers(true),
                _ => argument,
            })
        })
    }

    /// What is said of flags that were given and belong to the other task.
    pub fn of_the_other_task(matches: &ArgMatches, task: Task) -> Option<String> {
        let (verb, given) = matches.subcommand()?;
        let command = Self::command();
        let (others, advice) = match task {
            Task::Serve => (&[TRAINING][..], "they are of training (--task train)"),
            Task::Train => (&[SERVING, LLAMA_CPP][..], "they are of serving; lengths and batches of training are --seq-len and --micro-batch"),
        };
        let of_others = command.find_subcommand(verb)?.get_arguments().filter(|argument| {
            let is_given = given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
            is_given && argument.get_help_heading().is_some_and(|heading| others.contains(&heading))
        });
        let flags: Vec<String> = of_others.filter_map(|argument| argument.get_long().map(|long| format!("--{long}"))).collect();
        (!flags.is_empty()).then(|| format!("without a part in this task: {} ({advice})", flags.join(", ")))
    }
}

#[derive(Subcommand)]
pub enum Verb {
    /// The answer for one scenario
    Estimate {
        #[command(flatten)]
        model: ModelArguments,
        /// Exit with 1 when it does not fit
        #[arg(long)]
        check: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        scenario: ScenarioArguments,
    },
    /// The anatomy of a model
    Inspect {
        #[command(flatten)]
        model: ModelArguments,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// The largest that still fits, or the fewest GPUs
    Solve {
        #[command(flatten)]
        model: ModelArguments,
        /// What to look for
        #[arg(long = "for", value_enum)]
        question: Question,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        scenario: ScenarioArguments,
    },
    /// The GPUs that are known
    Gpus {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// The storage formats that are known
    Formats {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs (schema vramfit/1)
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Question {
    /// The longest context, or sequence to train on
    Context,
    /// The most sequences of one forward pass (training)
    MicroBatch,
    /// The highest rank of low-rank adapters (training)
    LoraRank,
    /// The fewest GPUs
    Gpus,
    /// The least sharing of states (training)
    Sharding,
}

impl Question {
    /// What the engine calls it.
    pub const fn meant(self) -> plan::Question {
        match self {
            Self::Context => plan::Question::Context,
            Self::MicroBatch => plan::Question::MicroBatch,
            Self::LoraRank => plan::Question::LoraRank,
            Self::Gpus => plan::Question::Gpus,
            Self::Sharding => plan::Question::Sharding,
        }
    }
}

#[derive(Args, Clone)]
pub struct ModelArguments {
    /// A Hub id or URL, a directory, or paths: config.json, .safetensors files or their index, .gguf files; `-` for a
    /// config.json on standard input
    #[arg(required_unless_present = "manual", num_args = 1.., value_name = "MODEL")]
    pub model: Vec<String>,
    /// A model that exists nowhere, by its sizes: layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=128256; further head-dim,
    /// experts, active-experts, expert-intermediate, shared-experts, dense-layers, window, context, tied=yes, dtype; params=8B in the place of
    /// intermediate. Latent attention: kv-lora-rank, q-lora-rank, rope-head-dim, nope-head-dim, v-head-dim. A recurrence in the place of
    /// attention: recurrent=mamba2 or gated-delta-net with state-heads, state-head-dim, state-size, state-groups, conv-kernel.
    /// full-every=4: every fourth layer attends to everything, the others have the window or the recurrence
    #[arg(long, value_name = "SIZES", conflicts_with_all = ["model", "revision", "endpoint", "quant_config"])]
    pub manual: Option<String>,
    /// Branch, tag or commit on the Hub
    #[arg(long, value_name = "R")]
    pub revision: Option<String>,
    /// Address of the Hub, for mirrors and self-hosted ones
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// File that describes the quantisation where config.json does not [default: `hf_quant_config.json` beside it]
    #[arg(long, value_name = "PATH")]
    pub quant_config: Option<std::path::PathBuf>,
    /// Environment variable that holds the access token
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TOKEN)]
    pub token_env: String,
}

/// Stands last in a verb: the heading of its last flags would go on to what follows.
#[derive(Args)]
pub struct ScenarioArguments {
    /// GPU: a name from `vramfit gpus`, as drivers print it (`NVIDIA A100-SXM4-80GB`), or words of one only (`RTX 4090` is the plain card, not
    /// its variants); several, joined by commas, for unlike ones (llama.cpp) [default: H100 SXM5 80GB]
    #[arg(long, value_name = "NAME", help_heading = "Hardware")]
    gpu: Option<String>,
    /// Usable memory of one GPU in bytes; alone it stands for a GPU
    #[arg(long, value_name = "N", value_parser = capacity, help_heading = "Hardware")]
    gpu_capacity_bytes: Option<Bytes>,
    /// Number of GPUs [default: --tp × --pp × --dp]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    gpus: Option<u64>,
    /// Tensor-parallel size [default: --gpus over --pp and --dp, else 1]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    tp: Option<u64>,
    /// What the model is for: serve or train
    #[arg(long, value_name = "TASK", default_value = "serve", help_heading = "Task")]
    task: Task,
    /// Engine: vllm, sglang, tensorrt-llm, tgi, transformers, llama.cpp, ollama, lmstudio or mlx
    #[arg(long, default_value = "vllm", value_parser = runtime, help_heading = SERVING)]
    runtime: Runtime,
    /// Tokens per request, prompt and answer together [default: 8192, or the model's maximum when shorter]
    #[arg(long, value_name = "N", help_heading = SERVING)]
    context: Option<u64>,
    /// Requests at once [default: 1]
    #[arg(long, value_name = "N", help_heading = SERVING)]
    batch: Option<u64>,
    /// Weight format: as-stored, or one that `vramfit formats` lists (bf16, fp8, nf4, awq-int4, `q4_k_m` ...)
    #[arg(long, value_name = "FORMAT", default_value = "as-stored", help_heading = "Task")]
    weights: Weights,
    /// Bytes that every parameter takes, whatever its format (0.5625)
    #[arg(long, value_name = "X", value_parser = above_zero, conflicts_with = "weights", help_heading = "Task")]
    bytes_per_param: Option<Decimal>,
    /// Format of keys and values: auto, bf16, fp16, fp32, fp8, or in llama.cpp one of ggml: `q8_0`, `q5_1`, `q5_0`, `q4_1`, `q4_0`, `iq4_nl`
    #[arg(long, value_name = "FORMAT", default_value = "auto", help_heading = SERVING)]
    kv_cache: KvCache,
    /// Share of the card that vLLM may use; in TGI its `cuda_memory_fraction`, in TensorRT-LLM its `free_gpu_memory_fraction` [default:
    /// the engine's]
    #[arg(long, value_name = "X", help_heading = SERVING)]
    gpu_memory_utilization: Option<Decimal>,
    /// Tokens that one step processes at most; in TGI its `max_batch_prefill_tokens`, in transformers its `prefill_chunk_size` [default: the
    /// engine's]
    #[arg(long, value_name = "N", help_heading = SERVING)]
    max_num_batched_tokens: Option<u64>,
    /// Sequences that one step processes at most [default: the engine's]
    #[arg(long, value_name = "N", help_heading = SERVING)]
    max_num_seqs: Option<u64>,
    /// Without CUDA graphs
    #[arg(long, help_heading = SERVING)]
    enforce_eager: bool,
    /// How attention is computed in transformers and in training: eager, sdpa or flash
    #[arg(long, value_name = "HOW", default_value = "sdpa", help_heading = "Task")]
    attention: AttentionImplementation,
    /// Width and height of a picture that a diffusion pipeline makes, or a network of convolutions reads [default: its own]
    #[arg(long, value_name = "WxH", value_parser = Picture::parse_size, help_heading = "Task")]
    image_size: Option<(u64, u64)>,
    /// Images in one sample that a model with a vision tower is trained on [default: 0]
    #[arg(long, value_name = "N", help_heading = "Task")]
    images: Option<u64>,
    /// Frames of a video that a diffusion pipeline makes [default: the pipeline's own]
    #[arg(long, value_name = "N", value_parser = Picture::parse_frames, help_heading = SERVING)]
    frames: Option<u64>,
    #[command(flatten)]
    llama_cpp: llama_cpp::LlamaCppArguments,
    #[command(flatten)]
    parallel: serving::ParallelArguments,
    #[command(flatten)]
    serving: serving::ServingArguments,
    #[command(flatten)]
    training: training::TrainingArguments,
}

impl ScenarioArguments {
    /// What the model is for.
    pub const fn task(&self) -> Task {
        self.task
    }

    /// The scenario that the flags name, its GPUs by the table's names, and what is worth saying of those.
    pub fn to_scenario(&self) -> Result<(Scenario, Vec<String>), String> {
        let is_bare_size = self.gpu.is_none() && self.gpu_capacity_bytes.is_some();
        let gpu = self.gpu.clone();
        // In PyTorch the same flag chooses the way to compute attention.
        let is_torch = self.runtime == Runtime::Transformers || self.task == Task::Train;
        let mut llama_cpp = self.llama_cpp.to_llama_cpp();
        let is_flash = is_torch && std::mem::take(&mut llama_cpp.flash_attention) == FlashAttention::On;
        let scenario = Scenario {
            gpu: if is_bare_size { None } else { gpu.or(Scenario::default().gpu) },
            gpu_capacity: self.gpu_capacity_bytes,
            gpus: self.gpus,
            tensor_parallel: self.tp,
            task: self.task,
            runtime: self.runtime,
            context: self.context,
            batch: self.batch,
            weights: self.bytes_per_param.map_or(self.weights, Weights::Bytes),
            kv_cache: self.kv_cache,
            gpu_memory_utilization: self.gpu_memory_utilization,
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_num_seqs: self.max_num_seqs,
            enforce_eager: self.enforce_eager,
            llama_cpp,
            attention: if is_flash { AttentionImplementation::Flash } else { self.attention },
            picture: Picture { size: self.image_size, frames: self.frames, count: self.images },
            parallel: self.parallel.to_parallel(),
            serving: self.serving.to_serving(),
            training: self.training.to_training(),
        };
        let (named, said) = scenario.with_table_gpus().map_err(|error| no_gpu(&error))?;
        Ok((named.into_owned(), said))
    }
}

/// A count as a flag has it.
fn whole_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number such as 8192"))
}

/// A count of which there is one at least.
fn count(text: &str) -> Result<u64, String> {
    match whole_number(text)? {
        0 => Err("it must be at least 1; leave the flag out for the default".to_owned()),
        count => Ok(count),
    }
}

/// An engine, in its own spelling or that of its name: `lm-studio`, `llamacpp`.
fn runtime(text: &str) -> Result<Runtime, String> {
    let plain = |name: &str| name.replace(['-', '.', '_', ' '], "").to_ascii_lowercase();
    let named = Runtime::ALL.iter().find(|runtime| plain(runtime.name()) == plain(text));
    named.copied().map_or_else(|| text.parse().map_err(|error: vramfit::scenario::UnknownChoice| error.to_string()), Ok)
}

/// The memory of a GPU in bytes: what is too small or too large for one is a slip of the unit.
fn capacity(text: &str) -> Result<Bytes, String> {
    match whole_number(text)? {
        bytes if bytes < MIB => Err(format!("`{text}` bytes are less than any GPU has: 24 GiB are {}", 24 * GIB)),
        bytes if bytes > LARGEST_GPU => Err(format!("`{text}` bytes are more than any GPU has: 24 GiB are {}", 24 * GIB)),
        bytes => Ok(Bytes(bytes)),
    }
}

/// A decimal number that is not nothing.
fn above_zero(text: &str) -> Result<Decimal, String> {
    let number = decimal(text)?;
    if number.parts().0 == 0 { Err("it must be above 0".to_owned()) } else { Ok(number) }
}

/// A decimal number.
fn decimal(text: &str) -> Result<Decimal, String> {
    text.parse().map_err(|error: BadDecimal| error.to_string())
}

/// What is wrong with a name of a GPU, and what to do.
fn no_gpu(error: &GpuError) -> String {
    match error {
        GpuError::Unknown { .. } => format!("`--gpu`: {error} (`vramfit gpus` lists all; `--gpus N` says how many there are)"),
        error => format!("`--gpu`: {error}"),
    }
}

/// What the engine refuses, with the flag's name where the engine has a setting's.
pub fn refusal(error: &EstimateError) -> String {
    let EstimateError::OutOfRange { what, value, must } = error else { return error.to_string() };
    let flag = CALLED_OTHERWISE.iter().find(|(key, _)| key == what).map_or_else(|| what.replace('_', "-"), |(_, flag)| (*flag).to_owned());
    format!("`--{flag}` is {value}: {must}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_other_task_are_said_by_name() {
        let said = |task: Task, flags: &str| {
            let words = ["vramfit", "estimate", "MODEL"].into_iter().chain(flags.split_whitespace());
            Arguments::of_the_other_task(&Arguments::command().get_matches_from(words), task).unwrap_or_default()
        };
        assert_eq!(said(Task::Serve, "--format json --check --context 9"), "");
        assert_eq!(said(Task::Train, "--task train --format json --seq-len 9 --gpus 8"), "");
        for (task, flag) in [
            (Task::Serve, "--lora-rank"),
            (Task::Train, "--context"),
            (Task::Train, "--gpu-layers"),
            (Task::Train, "--frames"),
            (Task::Train, "--tensor-split"),
        ] {
            assert!(said(task, &format!("--task {task} {flag} 8")).contains(flag), "{flag}");
        }
    }
}
