//! What differs between versions of vLLM. Read at 0.6.3, 0.6.4, 0.6.6, 0.7.3, 0.8.5, 0.9.2, 0.10.0, 0.10.2, 0.11.0, 0.11.2, 0.12, 0.13,
//! 0.14, 0.15, 0.16, 0.17.1, 0.18.1, 0.19, 0.20, 0.22, 0.24, 0.25.1, 0.27.1, 0.29, 0.31 and 0.33.

use super::super::{Defaults, Known, Setup};
use crate::gpu::{Card, Vendor};
use crate::model::{ComponentKind, Mixer, Model};
use crate::quantity::{Decimal, GIB};
use crate::scenario::Version;

/// The newest version whose rules are known.
pub(super) const NEWEST: Version = Version(0, 33, 0);

/// How the sampler of the memory profile filters by top-k and top-p.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampler {
    /// It sorts the logits (`torch.sort` in segments).
    Sorts,
    /// A kernel of FlashInfer or Triton filters in place.
    Filters,
}

/// The rules of one version on one card.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    version: Version,
    /// The engine of 0.8 and later; before, and on cards that it does not support until 0.11, the first one.
    pub is_v1: bool,
}

/// What vLLM's defaults distinguish.
enum CardClass {
    Huge,
    Large,
    Other,
}

impl Rules {
    pub fn of(version: Version, card: &Card) -> Self {
        // `engine/arg_utils.py:_is_v1_supported_oracle`: compute capability below 8.0 stays on V0 until that is gone.
        let is_old_card = card.gpu.is_some_and(|gpu| ["Pascal", "Volta", "Turing"].contains(&gpu.architecture));
        Self { version, is_v1: version >= Version(0, 11, 0) || (version >= Version(0, 8, 0) && !is_old_card) }
    }

    fn since(self, minor: u32) -> bool {
        self.version >= Version(0, minor, 0)
    }

    /// `CacheConfig.gpu_memory_utilization`.
    pub fn utilization(self) -> Decimal {
        if self.since(20) { Decimal::new(92, 2) } else { Decimal::new(9, 1) }
    }

    /// The sampler on NVIDIA cards; FlashInfer needs capability 8.0, else Triton filters.
    pub fn sampler(self) -> Sampler {
        // 0.9 to 0.11.0 use FlashInfer where it is installed, which public logs of those versions seldom show.
        if self.since(17) { Sampler::Filters } else { Sampler::Sorts }
    }

    /// Hidden states that are held beside the widest matrices of a layer: residual, input of the layer, of its feed-forward, output.
    /// V0's Llama lets go of gate and up before the output is made (`models/llama.py:LlamaMLP.forward`), other families do not.
    pub fn hidden_copies(self, model: &Model) -> u64 {
        let is_llama = ["llama", "mistral"].contains(&model.anatomy.model_type.as_str());
        if is_llama && !self.is_v1 { 3 } else { 4 }
    }

    /// Whether the graphs' estimate is taken off the budget (`VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`).
    pub fn budgets_graphs(self) -> bool {
        self.since(20)
    }

    /// How many batch sizes graphs are captured for (`_set_cudagraph_sizes`; `_BATCH_SIZES_TO_CAPTURE`): 1, 2, 4 and multiples of 8, above
    /// 256 of 16 since 0.11.1, up to twice the tokens that a step decodes (since 0.13 drafted ones too); V0 rounds the sequences up.
    pub fn captured_sizes(self, setup: &Setup) -> u64 {
        let sequences = setup.step_sequences.value;
        let is_blackwell = setup.card.gpu.is_some_and(|gpu| gpu.architecture == "Blackwell" && gpu.memory_type.starts_with("HBM"));
        let largest = if self.since(29) && is_blackwell { 1024 } else { 512 };
        let each = if self.since(13) { setup.drafted.value + 1 } else { 1 };
        let most = match (self.is_v1, self.since(10)) {
            (false, _) if sequences > 4 => sequences.next_multiple_of(8),
            (false, _) => sequences.next_power_of_two(),
            (true, false) => largest,
            (true, true) => sequences.saturating_mul(2 * each).min(largest),
        };
        let most = if self.is_v1 { most.min(setup.step_tokens.value) } else { most };
        let step = if self.version > Version(0, 11, 0) { 16 } else { 8 };
        u64::from(most.checked_ilog2().unwrap_or(0)).min(2) + 1 + most.min(256) / 8 + most.saturating_sub(256) / step
    }

    /// Whether the process's context on the card counts as used in the budget (0.6.4: everything that the driver reports as used).
    pub fn budgets_context(self) -> bool {
        self.version >= Version(0, 6, 4) && self.version < Version(0, 6, 5)
    }

    /// Whether "GPU KV cache size" is the concurrency times the context; before, blocks of each group times their tokens.
    pub fn counts_tokens_by_requests(self) -> bool {
        self.since(21)
    }

    /// Steps whose tokens a sliding layer holds beside its window.
    pub fn steps_in_flight(self, stages: u64) -> u64 {
        match (self.since(27), stages) {
            (false, _) => 1,
            (true, 1) => 2,
            (true, stages) => stages,
        }
    }

    /// Whether layers of different spans have groups of their own; before, all keep every token.
    pub fn has_hybrid_groups(self) -> bool {
        self.is_v1 && self.since(9)
    }

    /// Whether encoder-decoders have one graph of a whole decoding step for every size, not one of each layer (`FULL_DECODE_ONLY`).
    pub fn captures_whole_decoders(self) -> bool {
        self.since(13)
    }

    /// Whether states of recurrences are pages of the pool; before, they are set aside for `max_num_seqs` requests.
    pub fn pools_states(self) -> bool {
        self.is_v1 && self.since(10)
    }

    /// Pages of state that one request holds: two where prefixes of hybrids are cached by default.
    pub fn state_pages(self) -> u64 {
        if self.since(29) { 2 } else { 1 }
    }

    /// Whether MLA's matrices are multiplied together at load and kept beside the projections.
    pub fn absorbs_latents(self) -> bool {
        !self.since(8)
    }

    /// Whether FlashInfer's kernels pad an expert's inner width in MXFP4 to 128; before to 256.
    pub fn pads_experts_less(self) -> bool {
        self.since(27)
    }

    /// Whether Triton's kernels leave the scales of MXFP4 experts as they were read beside their own.
    pub fn keeps_expert_scales(self) -> bool {
        !self.since(27)
    }

    /// Tokens of a block: FlashMLA has 64, the rest 16.
    pub fn block(self, model: &Model) -> u64 {
        let is_latent = model.decoder().layers.iter().any(|run| matches!(run.layer.mixer, Mixer::Latent(_)));
        if is_latent && self.since(8) { 64 } else { 16 }
    }

    /// Layers over pipeline stages (`distributed/utils.py:get_pp_indices`).
    pub fn stages(self, layers: u64, stages: u64) -> Vec<u64> {
        if self.since(8) {
            return super::super::parallel::even_stages(layers, stages);
        }
        // The last one had what was left.
        let each = layers / stages;
        (0..stages).map(|stage| if stage + 1 == stages { layers - each * (stages - 1) } else { each }).collect()
    }

    /// `engine/arg_utils.py` (V1: by card, for the API server) and `config.py:SchedulerConfig` (V0: by context).
    pub fn defaults(self, known: &Known) -> Defaults {
        let (tokens, sequences) = if self.is_v1 {
            match self.class(known.card) {
                CardClass::Huge => (16_384, 1024),
                CardClass::Large => (8192, 1024),
                CardClass::Other => (2048, 256),
            }
        } else {
            let is_multimodal = is_multimodal(known.model);
            let tokens = match known.context {
                // Chunked prefill is on above 32K, but not for multimodal models.
                context if context > 32_768 && !is_multimodal => {
                    if self.version >= Version(0, 6, 5) {
                        2048
                    } else {
                        512
                    }
                }
                context => context.max(2048),
            };
            (if is_multimodal { tokens.max(5120) } else { tokens }, 256)
        };
        Defaults { utilization: Some(self.utilization()), step_tokens: Some(tokens), step_sequences: Some(sequences) }
    }

    /// `get_batch_defaults`: at least 160 GiB (0.29); at least 70 GiB, and neither A100 (0.9) nor GB10 (0.33); the rest.
    fn class(self, card: &Card) -> CardClass {
        let is_slow = (card.name.contains("A100") && self.since(9)) || (card.name.contains("GB10") && self.since(32));
        match card.usable.get() {
            bytes if bytes >= 160 * GIB && self.since(28) => CardClass::Huge,
            bytes if bytes >= 70 * GIB && !is_slow => CardClass::Large,
            _ => CardClass::Other,
        }
    }
}

/// True when it reads more than text.
pub(super) fn is_multimodal(model: &Model) -> bool {
    model.anatomy.counted().any(|component| matches!(component.kind, ComponentKind::VisionTower | ComponentKind::AudioTower))
}

/// True for data-centre cards with stacked memory: linked by NVLink or its like in their common form, and with more kernels
/// loaded. A size without a name is taken for one from 38 GiB on.
pub(in crate::runtime) fn is_large(card: &Card) -> bool {
    card.gpu.map_or(card.usable.get() >= 38 * GIB, |gpu| gpu.memory_type.starts_with("HBM"))
}

/// True for Blackwell for data centres (compute capability 10).
pub(in crate::runtime) fn is_large_blackwell(card: &Card) -> bool {
    card.gpu.is_some_and(|gpu| gpu.vendor == Vendor::Nvidia && gpu.architecture.starts_with("Blackwell") && gpu.memory_type.starts_with("HBM"))
}

/// cuBLAS's workspace in PyTorch (`CUDABlas.cpp`): 32 MiB on Hopper and Blackwell for data centres, 8.125 MiB before.
pub(super) fn cublas_workspace(card: &Card) -> u64 {
    let is_hopper = card.gpu.is_some_and(|gpu| gpu.architecture == "Hopper");
    if is_hopper || is_large_blackwell(card) { 32 << 20 } else { 8_519_680 }
}
