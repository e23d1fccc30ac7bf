//! Flags of llama.cpp and of what is built on it.

use clap::Args;
use vramfit::quantity::Decimal;
use vramfit::scenario::{FlashAttention, KvCache, LlamaCpp, TensorOverride};

#[derive(Args)]
pub struct LlamaCppArguments {
    /// How the layers are shared by the GPUs: one share each, `3,1` [default: by their memory]
    #[arg(long, value_name = "A,B,..", value_delimiter = ',', help_heading = super::LLAMA_CPP)]
    tensor_split: Vec<Decimal>,
    /// Layers on the GPUs, the output layer counted first [default: all]
    #[arg(long, value_name = "N", help_heading = super::LLAMA_CPP)]
    gpu_layers: Option<u64>,
    /// Layers, from the first, whose experts stay on the host [default: 0]
    #[arg(long, value_name = "N", help_heading = super::LLAMA_CPP)]
    n_cpu_moe: Option<u64>,
    /// Where tensors whose GGUF names fit a regular expression go: `exps=CPU`, `blk\.[0-9]\.=CUDA1` (repeatable, or joined by commas)
    #[arg(long, value_name = "P=DEV", value_delimiter = ',', help_heading = super::LLAMA_CPP)]
    override_tensor: Vec<TensorOverride>,
    /// Tokens that one micro-batch computes [default: 512]
    #[arg(long, value_name = "N", help_heading = super::LLAMA_CPP)]
    ubatch: Option<u64>,
    /// Flash attention: on, off or auto
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Task")]
    flash_attention: FlashAttention,
    /// Caches of sliding windows as long as the context
    #[arg(long, help_heading = super::LLAMA_CPP)]
    swa_full: bool,
    /// Caches and states of every layer on the host, copied to the GPU layer by layer as attention reads them
    #[arg(long, help_heading = super::LLAMA_CPP)]
    no_kv_offload: bool,
    /// Sequences at once, each with a cache of the chosen context [default: --batch]
    #[arg(long, value_name = "N", help_heading = super::LLAMA_CPP)]
    parallel: Option<u64>,
    /// Format of keys [default: --kv-cache]
    #[arg(long, value_name = "T", help_heading = super::LLAMA_CPP)]
    kv_cache_k: Option<KvCache>,
    /// Format of values [default: --kv-cache]
    #[arg(long, value_name = "T", help_heading = super::LLAMA_CPP)]
    kv_cache_v: Option<KvCache>,
    /// With the towers' file beside the model
    #[arg(long, help_heading = super::LLAMA_CPP)]
    mmproj: bool,
}

impl LlamaCppArguments {
    pub fn to_llama_cpp(&self) -> LlamaCpp {
        LlamaCpp {
            gpu_layers: self.gpu_layers,
            tensor_split: self.tensor_split.clone(),
            cpu_moe_layers: self.n_cpu_moe,
            overrides: self.override_tensor.clone(),
            ubatch: self.ubatch,
            flash_attention: self.flash_attention,
            swa_full: self.swa_full,
            no_kv_offload: self.no_kv_offload,
            parallel: self.parallel,
            kv_cache_k: self.kv_cache_k,
            kv_cache_v: self.kv_cache_v,
            mmproj: self.mmproj,
        }
    }
}
