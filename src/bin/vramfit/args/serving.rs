//! Flags of parallelism and of serving engines.

use clap::Args;
use vramfit::quantity::{Bytes, Decimal, Overflow};
use vramfit::scenario::{CacheImplementation, DraftModel, Parallel, Serving, Version};

#[derive(Args)]
pub struct ParallelArguments {
    /// Pipeline-parallel size: stages that the layers are cut into [default: 1]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    pp: Option<u64>,
    /// Data-parallel size: replicas that share the requests [default: 1]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    dp: Option<u64>,
    /// Expert-parallel size: ranks over which whole experts are spread [default: 1]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    ep: Option<u64>,
    /// Context-parallel size: tensor-parallel ranks over which a request's cache is spread [default: 1]
    #[arg(long, value_name = "N", help_heading = "Hardware")]
    cp: Option<u64>,
    /// Replicate attention alone: the experts are spread over all --tp × --dp ranks, a product that SGLang and TensorRT-LLM call
    /// their tensor-parallel size: its `--tp 8 --dp 8` is --tp 1 --dp 8 here
    #[arg(long, help_heading = "Hardware")]
    dp_attention: bool,
}

impl ParallelArguments {
    pub fn to_parallel(&self) -> Parallel {
        Parallel { pipeline: self.pp, data: self.dp, expert: self.ep, context: self.cp, data_attention: self.dp_attention }
    }
}

#[derive(Args)]
pub struct ServingArguments {
    /// Version of the engine: its rules and defaults are used [default: the newest that is known]
    #[arg(long, value_name = "V", help_heading = super::SERVING)]
    runtime_version: Option<Version>,
    /// Share of the card for weights and cache in SGLang [default: its own rule]
    #[arg(long, value_name = "X", help_heading = super::SERVING)]
    mem_fraction_static: Option<Decimal>,
    /// Share of every request's tokens that is a prefix common to all of them, cached once [default: 0]
    #[arg(long, value_name = "X", value_parser = share, help_heading = super::SERVING)]
    prefix_share: Option<Decimal>,
    /// GiB of each GPU's weights that lie on the host instead [default: 0]
    #[arg(long, value_name = "X", value_parser = gibibytes, help_heading = super::SERVING)]
    cpu_offload_gib: Option<Bytes>,
    /// GiB of keys and values that the host holds beside what is on the GPUs, over all ranks of a replica, as in
    /// vLLM. What other engines name is of one rank: SGLang's --hicache-size in units of 10^9 bytes, its --hicache-ratio as a multiple
    /// of the rank's pool, TensorRT-LLM's `host_cache_size` in bytes [default: 0]
    #[arg(long, value_name = "X", value_parser = gibibytes, help_heading = super::SERVING)]
    kv_offloading_size: Option<Bytes>,
    /// LoRA adapters that are on the GPU at once [default: none]
    #[arg(long, value_name = "N", help_heading = super::SERVING)]
    max_loras: Option<u64>,
    /// The largest rank of an adapter [default: 16]
    #[arg(long, value_name = "N", help_heading = super::SERVING)]
    max_lora_rank: Option<u64>,
    /// How many of the context's tokens are the answer, in transformers [default: half of them, at most 2,048]
    #[arg(long, value_name = "N", help_heading = super::SERVING)]
    answer_tokens: Option<u64>,
    /// What keeps keys and values in transformers: dynamic, static, offloaded or quantized
    #[arg(long, value_name = "KIND", default_value = "dynamic", help_heading = super::SERVING)]
    cache_implementation: CacheImplementation,
    /// A model that drafts tokens: a Hub id or URL, a directory, or a path
    #[arg(long, value_name = "MODEL", help_heading = super::SERVING)]
    pub draft_model: Option<String>,
    /// Tokens that are drafted at once; without --draft-model by the model's own multi-token-prediction module
    #[arg(long, value_name = "N", help_heading = super::SERVING)]
    speculative_tokens: Option<u64>,
}

impl ServingArguments {
    pub fn to_serving(&self) -> Serving {
        Serving {
            runtime_version: self.runtime_version,
            mem_fraction_static: self.mem_fraction_static,
            prefix_share: self.prefix_share,
            cpu_offload: self.cpu_offload_gib,
            kv_offloading_size: self.kv_offloading_size,
            max_loras: self.max_loras,
            max_lora_rank: self.max_lora_rank,
            answer: self.answer_tokens,
            cache: self.cache_implementation,
            draft: self.draft_model.clone().map(|name| DraftModel { name, model: None }),
            speculative_tokens: self.speculative_tokens,
        }
    }
}

fn gibibytes(text: &str) -> Result<Bytes, String> {
    super::decimal(text)?.floor_of(1 << 30).map(Bytes).map_err(|error: Overflow| error.to_string())
}

/// A part of a whole.
fn share(text: &str) -> Result<Decimal, String> {
    let number = super::decimal(text)?;
    let (numerator, denominator) = number.parts();
    if numerator > denominator { Err("it must be between 0 and 1".to_owned()) } else { Ok(number) }
}
