//! What SGLang fills in by the card's memory (`arg_groups/memory_hook.py:handle_gpu_memory_settings`).

use super::super::{Defaults, Known, Setup};
use crate::gpu::{Card, Vendor};
use crate::model::{Component, ComponentKind, Mixer, Model};
use crate::quantity::{Decimal, GIB, MIB};
use crate::scenario::Version;

/// The version whose rules were read.
pub(super) const NEWEST: Version = Version(0, 5, 23);

/// (below so many GiB, `chunked_prefill_size`, sequences of the largest graph with less than four ranks, and with more)
const BY_MEMORY: &[(u64, u64, u64, u64)] = &[(20, 2048, 8, 8), (35, 4096, 48, 160), (60, 4096, 32, 160), (160, 8192, 256, 512), (u64::MAX, 16_384, 512, 512)];

/// 0.4: by ranks alone, in hundredths. Public logs of 0.4.1 and 0.4.3 show 0.88 on one and 0.85 on four.
const BY_RANKS: &[(u64, u64)] = &[(16, 79), (8, 81), (4, 85), (2, 87), (1, 88)];

/// `chunked_prefill_size`, and the sequences of the largest graph.
fn by_memory(card: &Card, ranks: u64) -> (u64, u64) {
    let row = BY_MEMORY.iter().find(|(below, ..)| card.capacity.get() / GIB < *below).unwrap_or(&BY_MEMORY[BY_MEMORY.len() - 1]);
    let &(_, chunk, few, many) = row;
    (chunk, if ranks < 4 { few } else { many })
}

/// Sequences of the largest graph: as many as the card's default, but not more than are run.
pub(super) fn graph_sequences(setup: &Setup) -> u64 {
    by_memory(&setup.card, setup.spread.tensor.value).1.min(setup.step_sequences.value)
}

pub(super) fn of(known: &Known) -> Defaults {
    let memory = known.card.capacity.get();
    let ranks = known.spread.tensor.value;
    let (chunk, most) = by_memory(known.card, ranks);
    let fraction = if known.version < Version(0, 5, 0) {
        let hundredths = BY_RANKS.iter().find(|(from, _)| ranks >= *from).map_or(88, |(_, hundredths)| *hundredths);
        Decimal::new(hundredths, 2)
    } else {
        let step_tokens = known.scenario.max_num_batched_tokens.unwrap_or(chunk);
        let sequences = known.scenario.max_num_seqs.unwrap_or(most).min(most);
        let reserved = reserved(known, step_tokens, sequences).saturating_mul(MIB);
        // To three places.
        let halves = u128::from(memory.saturating_sub(reserved)) * 2000 / u128::from(memory.max(1));
        Decimal::new(u64::try_from(halves.div_ceil(2)).unwrap_or(1).clamp(1, 1000), 3)
    };
    Defaults { utilization: Some(fraction), step_tokens: Some(chunk), step_sequences: Some(most) }
}

/// MiB that stay out of the static share.
fn reserved(known: &Known, step_tokens: u64, sequences: u64) -> u64 {
    let ranks = known.spread.tensor.value.saturating_mul(known.spread.pipeline.value) * 128;
    let images = if has_images(known.model) { 8 * 1024 } else { 0 };
    if is_sized_late(known.version, known.model, known.card.gpu.map(|gpu| gpu.vendor)) {
        return (1536 + ranks).saturating_add(images);
    }
    let graphs = if is_latent(known.model) { sequences.saturating_mul(2).saturating_add(1536) } else { sequences.saturating_mul(2) };
    let all = 512u64.saturating_add(step_tokens.max(2048).saturating_mul(3) / 2).saturating_add(ranks).saturating_add(graphs);
    if known.card.capacity.get() > 60 * GIB { all.max(10 * 1024) } else { all }
}

/// Whether the pools are sized after graphs are captured (`post_capture_kv_sizing_planned`): on CUDA, for models without MLA.
pub(super) fn sizes_after_capture(setup: &Setup) -> bool {
    is_sized_late(setup.version, setup.model, setup.card.gpu.map(|gpu| gpu.vendor))
}

fn is_sized_late(version: Version, model: &Model, vendor: Option<Vendor>) -> bool {
    version >= NEWEST && !is_latent(model) && vendor.is_none_or(|vendor| vendor == Vendor::Nvidia)
}

fn is_latent(model: &Model) -> bool {
    model.decoder().layers.iter().any(|run| matches!(run.layer.mixer, Mixer::Latent(_)))
}

fn has_images(model: &Model) -> bool {
    model.anatomy.counted().any(|component: &Component| component.kind == ComponentKind::VisionTower)
}
