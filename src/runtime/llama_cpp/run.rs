//! A run of llama.cpp with every default filled in: where layers go, how long the caches are, how much a micro-batch computes.
//!
//! Read from llama.cpp 0c1e57098: `llama-context.cpp` (constructor, `sched_reserve`), `llama-model.cpp` (`load_tensors`),
//! `llama-kv-cache-iswa.cpp`, `ggml-cuda/fattn.cu` (`ggml_cuda_get_best_fattn_kernel`).

use std::ops::Range;

use super::pool::{Factor, Value};
use super::style::honours_windows;
use crate::encoding::Encoding;
use crate::gpu::{Card, Vendor};
use crate::model::{Attention, LatentAttention, Mixer, Model, Role, Span};
use crate::quantity::{Decimal, Overflow};
use crate::runtime::asked::Asked;
use crate::runtime::{Choices, EstimateError, MAX_COUNT};
use crate::scenario::{FlashAttention, KvCache, Runtime, Scenario};

/// Where a layer or the output lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// On a device, by its number.
    Device(usize),
    /// On the host.
    Host,
}

/// A weight that lies on the host and is computed with on a device.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub layers: Range<u64>,
    pub role: Role,
    pub bytes: u64,
}

/// A run with every default filled in.
pub(super) struct Run<'a> {
    pub model: &'a Model,
    pub layers: u64,
    pub hidden: Factor,
    pub vocabulary: Factor,
    /// Tokens of a micro-batch.
    pub tokens: Factor,
    /// Rows that become logits.
    pub outputs: Factor,
    /// Sequences at once.
    pub sequences: Factor,
    /// Caches beside each other: one of each sequence, or one that all share (`--kv-unified`).
    pub streams: Factor,
    /// Requests of the chosen context that the caches hold.
    pub requests: u64,
    pub has_flash: bool,
    /// Encodings of keys and of values.
    pub kv: (Encoding, Encoding),
    pub devices: Vec<Card>,
    /// Of every layer, and last of the output.
    pub spots: Vec<Spot>,
    /// Of every spot, the first one behind it that is another.
    ends: Vec<u64>,
    /// Whether all caches and states lie on the host.
    pub no_kv_offload: bool,
    /// Whether devices may work on different micro-batches at once.
    pub can_pipeline: bool,
    /// Values of one token in one layer, the widest.
    pub value_width: Factor,
    full: Factor,
    windowed: Option<Factor>,
    pub staged: Vec<Staged>,
}

/// What micro-batches of at least so many tokens compute on a device though the weights lie on the host (`ggml-cuda.cu`).
const LEAST_OFFLOADED: u64 = 32;

/// Caches are padded to so many cells (`llama-context.cpp`, `llama-kv-cache-iswa.cpp`).
const CELLS: u64 = 256;

/// `Max Concurrent Predictions` of LM Studio.
const SHARING: u64 = 4;
const SHARING_RULE: &str = "Max Concurrent Predictions, which share one cache";

const CONTEXT_RULE: &str = "the context, padded to 256 cells (llama-context.cpp)";
const WINDOW_RULE: &str = "window (of every sequence that shares the cache) + micro-batch, padded to 256 cells, at most the context (llama-kv-cache-iswa.cpp)";
const UBATCH_RULE: &str = "micro-batch: --ubatch-size, 512 by default, at most the context";
const OUTPUT_RULE: &str = "rows that become logits: the whole micro-batch (n_outputs_max); a server of late 2026 plans one per sequence";

fn padded(cells: u64) -> Result<u64, Overflow> {
    cells.checked_next_multiple_of(CELLS).ok_or(Overflow)
}

impl<'a> Run<'a> {
    /// Fills in the defaults and checks the ranges.
    pub(super) fn new(asked: &Asked<'a>, devices: Vec<Card>, choices: &mut Choices, notes: &mut Vec<String>) -> Result<Self, EstimateError> {
        let (model, flags) = (asked.model, &asked.scenario.llama_cpp);
        let decoder = model.decoder();
        let layers = decoder.layer_count();
        // LM Studio 0.4 (docs: parallel requests; Unified KV Cache): four that share one cache.
        let is_unified = asked.scenario.runtime == Runtime::LmStudio;
        let (slots, rule) = if is_unified { (asked.batch.value.max(SHARING), SHARING_RULE) } else { (asked.batch.value, "the requests at once") };
        let sequences = choices.count("parallel", flags.parallel, slots, rule, MAX_COUNT)?;
        if asked.batch.value > sequences.value {
            notes.push(format!("--parallel plans {} requests at once: of the {} that are asked for the others wait", sequences.value, asked.batch.value));
        }
        let (requests, streams) = if is_unified { (asked.batch.value.min(sequences.value), 1) } else { (sequences.value, sequences.value) };
        let cells = padded(asked.context.value.checked_mul(if is_unified { requests } else { 1 }).ok_or(Overflow)?)?;
        let context = cells.checked_mul(streams).ok_or(Overflow)?;
        let ubatch = choices.count("ubatch", flags.ubatch, 512, "llama.cpp's default", MAX_COUNT)?;
        let batch = ubatch.value.min(context);
        // Graphs are reserved for as many tokens of every sequence (`graph_reserve`), caches for a micro-batch.
        let tokens = batch.checked_next_multiple_of(sequences.value).ok_or(Overflow)?;
        let kv = encodings(asked, choices);
        let window = decoder.layers.iter().find_map(|run| match run.layer.mixer.span() {
            Some(Span::Sliding(window) | Span::Chunked(window)) => Some(window),
            Some(Span::Full) | None => None,
        });
        let windowed = match window.filter(|_| honours_windows(model)) {
            Some(_) if flags.swa_full => Some(cells),
            Some(window) => {
                let windows = window.checked_mul(if is_unified { sequences.value } else { 1 });
                Some(padded(cells.min(windows.and_then(|windows| windows.checked_add(batch)).ok_or(Overflow)?))?)
            }
            None => None,
        };
        if window.is_some() && windowed.is_none() {
            notes.push("llama.cpp has no sliding window for this family: every layer keeps the whole context".to_owned());
        }
        let has_flash = flash(asked, &devices, choices, notes);
        if !has_flash && kv.1.block_elements > 1 {
            return Err(EstimateError::Unsupported(
                "llama.cpp keeps values quantised only with flash attention: leave out --flash-attention off, or name --kv-cache-v f16".to_owned(),
            ));
        }
        let spots = spots(asked, &devices, layers, choices)?;
        if flags.no_kv_offload {
            choices.said("no_kv_offload", "true".to_owned(), None);
        }
        let value_width = decoder.layers.iter().filter_map(|run| run.layer.mixer.attention()).map(|attention| attention.kv_heads * attention.value_dim).max();
        // Several devices work on different micro-batches at once when nothing lies elsewhere.
        let can_pipeline = devices.len() > 1
            && spots.iter().all(|spot| *spot != Spot::Host)
            && flags.overrides.is_empty()
            && flags.cpu_moe_layers.is_none()
            && !flags.no_kv_offload
            && devices.iter().all(|card| vendor(card) == Vendor::Nvidia);
        Ok(Self {
            model,
            layers,
            hidden: Factor::config(decoder.hidden_size, "hidden_size", "hidden_size"),
            vocabulary: Factor::config(decoder.vocab_size, "vocab_size", "vocab_size"),
            tokens: Factor::rule(tokens, "tokens", UBATCH_RULE),
            outputs: Factor::rule(tokens, "outputs", OUTPUT_RULE),
            sequences: Factor::rule(sequences.value, "sequences", "--parallel"),
            streams: Factor::rule(streams, "sequences", "--parallel"),
            requests,
            has_flash,
            kv,
            devices,
            ends: ends(&spots),
            spots,
            no_kv_offload: flags.no_kv_offload,
            can_pipeline,
            value_width: Factor::config(value_width.unwrap_or(1), "values per token", "num_key_value_heads × head_dim"),
            full: Factor::rule(cells, "cells", CONTEXT_RULE),
            windowed: windowed.map(|cells| Factor::rule(cells, "cells", WINDOW_RULE)),
            staged: Vec::new(),
        })
    }

    /// Whether layers of a span have the short cache.
    pub(super) fn is_windowed(&self, span: Span) -> bool {
        span != Span::Full && self.windowed.is_some()
    }

    /// Cells of one sequence's cache.
    pub(super) fn cells(&self, is_windowed: bool) -> Factor {
        self.windowed.filter(|_| is_windowed).unwrap_or(self.full)
    }

    /// The first layer behind this one that lies elsewhere.
    pub(super) fn stretch(&self, layer: u64) -> u64 {
        let end = usize::try_from(layer).ok().and_then(|layer| self.ends.get(layer)).copied();
        end.unwrap_or(layer).min(self.layers)
    }

    /// How many of these layers lie in a place.
    pub(super) fn layers_at(&self, layers: Range<u64>, place: Spot) -> u64 {
        let [start, end] = [layers.start, layers.end].map(|layer| usize::try_from(layer).unwrap_or(usize::MAX).min(self.spots.len()));
        self.spots[start..end].iter().filter(|spot| **spot == place).count() as u64
    }

    /// How many of these layers have their caches and states in a place.
    pub(super) fn caches_at(&self, layers: Range<u64>, place: Spot) -> u64 {
        match place {
            _ if !self.no_kv_offload => self.layers_at(layers, place),
            Spot::Host => layers.end - layers.start,
            Spot::Device(_) => 0,
        }
    }

    /// Whether a device computes what lies on the host.
    pub(super) fn offloads_operations(&self) -> bool {
        self.tokens.count >= LEAST_OFFLOADED && !self.devices.is_empty()
    }

    /// Whether a layer lies on the host and is computed on a device.
    pub(super) fn is_on_host(&self, layer: u64) -> bool {
        self.offloads_operations() && usize::try_from(layer).ok().and_then(|layer| self.spots.get(layer)) == Some(&Spot::Host)
    }

    /// Whether a layer is computed on a device and its cache lies on the host.
    pub(super) fn reads_host_cache(&self, layer: u64) -> bool {
        let spot = usize::try_from(layer).ok().and_then(|layer| self.spots.get(layer));
        self.is_on_host(layer) || self.no_kv_offload && matches!(spot, Some(Spot::Device(_)))
    }

    /// Bytes of a layer's weight that must be copied to the device; the output is the layer behind the last.
    pub(super) fn staged_bytes(&self, layer: u64, role: Role) -> u64 {
        if self.staged.is_empty() || !self.offloads_operations() {
            return 0;
        }
        let of = |wanted: Role| self.staged.iter().filter(|staged| staged.role == wanted && staged.layers.contains(&layer)).map(|staged| staged.bytes).max();
        // Files of llama.cpp keep apart what other checkpoints stack.
        let half = |wanted| of(wanted).map(|bytes| bytes / 2);
        let found = match role {
            Role::ExpertGate | Role::ExpertUp => of(role).or_else(|| half(Role::ExpertGateUp)),
            Role::Gate | Role::Up => of(role).or_else(|| half(Role::GateUp)),
            Role::Head => of(role).or_else(|| of(Role::Embedding)),
            role => of(role),
        };
        found.unwrap_or(0)
    }

    /// Keys and values as 16-bit copies, for kernels that read no other (`ggml_cuda_flash_attn_ext_get_alloc_size`).
    pub(super) fn converted(&self, parts: &[(u64, u64, Encoding)], cells: Factor) -> Option<Value> {
        let width: u64 = parts.iter().filter(|(.., encoding)| *encoding != Encoding::F16).map(|(heads, dim, _)| heads * dim).sum();
        let width = Factor::config(width, "keys and values", "num_key_value_heads × head_dim");
        (width.count > 0).then(|| Value::new("16-bit copies", &[width, cells, self.streams]).of_bytes(2))
    }
}

/// The cards: those that are named, or the named one as often as asked.
pub(super) fn devices(scenario: &Scenario) -> Result<Vec<Card>, EstimateError> {
    if scenario.tensor_parallel.is_some_and(|ranks| ranks > 1) {
        return Err(EstimateError::Unsupported("llama.cpp gives whole layers to each GPU: say how many with --gpus, not --tp".to_owned()));
    }
    let cards = scenario.cards()?;
    let asked = scenario.gpus;
    match (cards.as_slice(), asked) {
        ([card], Some(count)) => {
            let count = usize::try_from(count).ok().filter(|count| (1..=MOST_DEVICES).contains(count));
            let count = count.ok_or_else(|| EstimateError::OutOfRange {
                what: "gpus",
                value: asked.unwrap_or(0).to_string(),
                must: "llama.cpp takes 1 to 16 devices".into(),
            })?;
            Ok(vec![card.clone(); count])
        }
        (_, Some(count)) if count != cards.len() as u64 => {
            Err(EstimateError::Unsupported(format!("{} GPUs are named, and {count} are asked for: leave one of the two out", cards.len())))
        }
        _ if cards.len() > MOST_DEVICES => Err(EstimateError::Unsupported(format!("llama.cpp takes at most {MOST_DEVICES} devices"))),
        _ => Ok(cards),
    }
}

/// `GGML_CUDA_MAX_DEVICES`, `llama_max_devices`.
const MOST_DEVICES: usize = 16;

fn vendor(card: &Card) -> Vendor {
    card.gpu.map_or(Vendor::Nvidia, |gpu| gpu.vendor)
}

/// Encodings of keys and values: 16 bits unless told otherwise.
fn encodings(asked: &Asked, choices: &mut Choices) -> (Encoding, Encoding) {
    let flags = &asked.scenario.llama_cpp;
    let mut one = |key, kind: Option<KvCache>| {
        let encoding = kind.and_then(KvCache::encoding);
        let chosen = encoding.unwrap_or(asked.kv_encoding);
        choices.said(key, chosen.to_string(), encoding.is_none().then(|| "as --kv-cache".to_owned()));
        chosen
    };
    (one("kv_cache_k", flags.kv_cache_k), one("kv_cache_v", flags.kv_cache_v))
}

/// Whether flash attention is used, and what that rests on.
fn flash(asked: &Asked, devices: &[Card], choices: &mut Choices, notes: &mut Vec<String>) -> bool {
    let is_cuda = devices.iter().any(|card| matches!(vendor(card), Vendor::Nvidia | Vendor::Amd));
    let is_supported = !is_cuda || asked.model.decoder().layers.iter().all(|run| has_kernel(&run.layer.mixer));
    let (is_used, rule) = match asked.scenario.llama_cpp.flash_attention {
        FlashAttention::On => (true, None),
        FlashAttention::Off => (false, None),
        FlashAttention::Auto if is_supported => (true, Some("auto: the devices have kernels for these heads")),
        FlashAttention::Auto => (false, Some("auto: CUDA has no kernel for these heads")),
    };
    if is_used && !is_supported {
        notes.push(
            "CUDA has no flash attention kernel for these heads: llama.cpp computes attention on the host, with what is counted here on the GPU".to_owned(),
        );
    }
    choices.said("flash_attention", if is_used { "on" } else { "off" }.to_owned(), rule.map(str::to_owned));
    is_used
}

/// Whether CUDA has a flash attention kernel for the heads of a mixer.
fn has_kernel(mixer: &Mixer) -> bool {
    match mixer {
        Mixer::Attention(Attention { heads, kv_heads, key_dim, value_dim, .. }) | Mixer::Parallel(Attention { heads, kv_heads, key_dim, value_dim, .. }, _) => {
            let grouping = heads / (*kv_heads).max(1);
            match (key_dim, value_dim) {
                (40 | 64 | 72 | 80 | 96 | 112 | 128 | 256, value) => value == key_dim,
                (192, 128) => grouping.is_multiple_of(8),
                (320, 256) => grouping.is_multiple_of(32),
                (512, 512) => grouping >= 2,
                _ => false,
            }
        }
        Mixer::Latent(LatentAttention { heads, kv_lora_rank, rope_dim, .. }) => match (kv_lora_rank + rope_dim, kv_lora_rank) {
            (576, 512) => *heads >= 2,
            (320, 256) => heads.is_multiple_of(32),
            _ => false,
        },
        Mixer::Recurrent(_) | Mixer::None => true,
    }
}

/// Where every layer and the output go.
fn spots(asked: &Asked, devices: &[Card], layers: u64, choices: &mut Choices) -> Result<Vec<Spot>, EstimateError> {
    let flags = &asked.scenario.llama_cpp;
    let all = layers.checked_add(1).ok_or(Overflow)?;
    let on_devices = flags.gpu_layers.unwrap_or(all).min(all);
    choices.said("gpu_layers", on_devices.to_string(), flags.gpu_layers.is_none().then(|| "all layers and the output".to_owned()));
    let shares = shares(&flags.tensor_split, devices)?;
    let total: u128 = shares.iter().sum();
    let first = all - on_devices;
    let mut spots = Vec::new();
    for layer in 0..all {
        spots.push(match layer.checked_sub(first) {
            None => Spot::Host,
            // The first device whose share, with those before it, is not used up yet.
            Some(number) => {
                let mut sum = 0u128;
                let found = shares.iter().position(|share| {
                    sum += share;
                    sum * u128::from(on_devices) > u128::from(number) * total
                });
                Spot::Device(found.unwrap_or(devices.len() - 1))
            }
        });
    }
    Ok(spots)
}

/// Of every spot, the first one behind it that is another.
fn ends(spots: &[Spot]) -> Vec<u64> {
    let alike = spots.chunk_by(|one, next| one == next);
    let all = alike.scan(0u64, |end, run| {
        *end += run.len() as u64;
        Some(std::iter::repeat_n(*end, run.len()))
    });
    all.flatten().collect()
}

/// The devices' shares: as asked, else their memory.
fn shares(asked: &[Decimal], devices: &[Card]) -> Result<Vec<u128>, EstimateError> {
    if asked.is_empty() {
        return Ok(devices.iter().map(|card| u128::from(card.usable.get())).collect());
    }
    if asked.len() != devices.len() {
        return Err(EstimateError::Unsupported(format!("--tensor-split has {} shares for {} GPUs", asked.len(), devices.len())));
    }
    let common = |share: &Decimal| {
        let (digits, scale) = share.parts();
        u128::from(digits) * u128::from(1_000_000_000 / scale)
    };
    let shares: Vec<u128> = asked.iter().map(common).collect();
    if shares.iter().all(|share| *share == 0) {
        return Err(EstimateError::Unsupported("--tensor-split has no share above 0".to_owned()));
    }
    Ok(shares)
}
