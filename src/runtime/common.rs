//! What several engines share: the width of a feed-forward, the context on the card, collective operations.

use std::ops::Range;

use super::{EstimateError, Setup};
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Capacity, Device, Entry, Ledger, RUNNING, Term};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, Vendor};
use crate::model::{CacheGroup, FeedForward, LatentAttention, Mixer, Recurrence, Role, Tensor};
use crate::quantity::{Bytes, MIB, Overflow};
use crate::scenario::KvCache;

/// A card with these claims on it, of an engine without a budget.
pub(super) fn device_of(ranks: Range<u64>, card: &Card, ledger: Ledger) -> Device {
    Device { ranks, gpu: card.name.clone(), capacity: card.capacity, usable: card.usable, budget: None, claim: None, minimum: None, ledger, slack: None }
}

/// Refuses Apple's chips, for servers that have no kernels for them.
pub(super) fn check_not_apple(setup: &Setup) -> Result<(), EstimateError> {
    if setup.card.gpu.is_some_and(|gpu| gpu.vendor == Vendor::Apple) {
        let (label, card) = (setup.engine.label(), &setup.card.name);
        return Err(EstimateError::Unsupported(format!("{label} does not run on {card}; choose the transformers runtime")));
    }
    Ok(())
}

/// Refuses a cache in FP32, which no server keeps.
pub(super) fn check_kv_cache(setup: &Setup) -> Result<(), EstimateError> {
    if setup.scenario.kv_cache == KvCache::Fp32 {
        let label = setup.engine.label();
        return Err(EstimateError::Unsupported(format!("{label} keeps keys and values in the dtype of computation or in FP8; FP32 is for transformers")));
    }
    Ok(())
}

/// Values that one token's feed-forward holds at once on one rank: gate, up and their product.
pub(super) fn feed_forward_width(setup: &Setup) -> Expr {
    let split = |product: Vec<Expr>| setup.spread.per_rank(Expr::Product(product));
    match setup.model.decoder().widest_feed_forward() {
        Some(FeedForward::Dense { intermediate, .. }) => {
            split(vec![Expr::constant(3), Expr::leaf(intermediate, "intermediate_size", Source::Config("intermediate_size".into()))])
        }
        Some(FeedForward::MixtureOfExperts { active, intermediate, shared, .. }) => {
            let active = Expr::leaf(active, "experts per token", Source::Config("num_experts_per_tok".into()));
            let width = |times: u64| {
                let whole = vec![Expr::constant(times), Expr::leaf(intermediate, "expert width", Source::Config("moe_intermediate_size".into()))];
                // Experts that are spread are whole.
                if setup.spread.expert.value > 1 { Expr::Product(whole) } else { split(whole) }
            };
            let hidden = Expr::leaf(setup.model.decoder().hidden_size, "hidden_size", Source::Config("hidden_size".into()));
            // A token's copies: gate and up, then what the expert makes, in one buffer; their product in another.
            let mut parts = vec![Expr::Product(vec![active, Expr::Sum(vec![Expr::Max(vec![width(2), hidden]), width(1)])])];
            if shared > 0 {
                parts.push(split(vec![Expr::constant(3), Expr::leaf(shared, "shared experts' width", Source::Config("shared expert size".into()))]));
            }
            Expr::Sum(parts)
        }
        Some(FeedForward::None) | None => Expr::constant(0),
    }
}

/// Bytes of one token in so many layers on one rank, of which each keeps these elements.
pub(super) fn cell(setup: &Setup, layers: u64, elements: Vec<Expr>) -> Expr {
    let mut product = vec![Expr::leaf(layers, "layers", Source::Config("num_hidden_layers".into()))];
    product.extend(elements);
    Expr::encoded(Expr::Product(product), setup.kv_encoding)
}

/// A cache in whole blocks of so many tokens, over the whole context in every layer.
pub(super) struct Blocks {
    /// Tokens of one block.
    pub tokens: u64,
    /// Why so many.
    pub rule: &'static str,
    /// Bytes of one token in the layers of a group.
    pub cell: fn(&Setup, &CacheGroup) -> Expr,
}

impl Blocks {
    /// Keys and values of the chosen load.
    pub(super) fn entries(&self, setup: &Setup, source: &'static str) -> Result<Vec<Entry>, Overflow> {
        let groups = setup.cache_groups();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let context = || setup.context.leaf("tokens");
        let size = || Expr::leaf(self.tokens, "tokens per block", Source::Runtime(self.rule));
        let held = || if self.tokens == 1 { vec![context()] } else { vec![context().ceil_div(size()), size()] };
        let parts = groups.iter().map(|group| Expr::Product([vec![setup.batch.leaf("requests")], held(), vec![(self.cell)(setup, group)]].concat()));
        Ok(vec![Entry::exact(Term::KvCache, Expr::sum(parts.collect()), Basis::Derived, source, RUNNING)?])
    }

    /// What `room` bytes hold.
    pub(super) fn capacity(&self, setup: &Setup, room: Bytes) -> Result<Capacity, Overflow> {
        let cells = setup.cache_groups().iter().try_fold(0u64, |sum, group| sum.checked_add((self.cell)(setup, group).evaluate()?).ok_or(Overflow))?;
        let tokens = room.get() / cells.checked_mul(self.tokens).ok_or(Overflow)?.max(1) * self.tokens;
        let padded = setup.context.value.checked_next_multiple_of(self.tokens).ok_or(Overflow)?;
        let hundredths = u128::from(tokens) * 100 / u128::from(padded.max(1));
        let concurrency_hundredths = u64::try_from(hundredths).unwrap_or(u64::MAX);
        Ok(Capacity { kv_cache_bytes: Bytes(tokens.checked_mul(cells).ok_or(Overflow)?), kv_cache_tokens: tokens, concurrency_hundredths })
    }
}

/// The driver's context and the kernels that are loaded.
pub(super) fn context(setup: &Setup) -> Result<Entry, Overflow> {
    let (low, expected, high, source) = setup.card.context_bytes();
    let formula = Expr::leaf(expected.get(), "B", source);
    Ok(Entry::exact(Term::RuntimeContext, formula, Basis::Modelled, "the process's context on the card: outside every engine's own figures", ALWAYS)?
        .with_band(low, high, Basis::Modelled))
}

/// Buffers of the collective operations between ranks (NCCL and the like).
pub(super) fn communication(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let (expected, low, high) = match setup.spread.tensor.value {
        1 => return Ok(None),
        2..8 => (440 * MIB, 50 * MIB, 1300 * MIB),
        _ => (2000 * MIB, 100 * MIB, 2600 * MIB),
    };
    let source = "non-torch memory in vLLM logs beyond one card's: 0.01 to 1.3 GiB on 2 and 4 GPUs, 2.1 GiB on 8; NVIDIA/nccl issue 964: 544 MB for 2 GPUs";
    let entry = Entry::exact(Term::Communication, Expr::leaf(expected, "B", Source::Measured("public vLLM logs, median")), Basis::Modelled, source, ALWAYS)?;
    Ok(Some(entry.with_band(Bytes(low), Bytes(high), Basis::Modelled)))
}

/// The table of sines and cosines of a rotary position encoding, which every layer uses; `sections` is how many times as many
/// positions it has when they have sections for time, height and width.
pub(super) fn rotary_table(setup: &Setup, sections: u64, encoding: Encoding) -> Result<Option<Entry>, Overflow> {
    let Some(rotary) = setup.model.anatomy.rotary else { return Ok(None) };
    let mut product = vec![
        Expr::leaf(rotary.positions, "positions", Source::Config("max_position_embeddings".into())),
        Expr::leaf(rotary.width, "values", Source::Config("head_dim, rotary part, bases".into())),
    ];
    if rotary.has_sections && sections > 1 {
        product.push(Expr::leaf(sections, "for long videos", Source::Runtime("positions with sections: four times as many")));
    }
    let source = "sines and cosines of the rotary position encoding for every position, loaded with the weights";
    let encoding = if rotary.in_float32 { Encoding::F32 } else { encoding };
    Entry::exact(Term::Buffers, Expr::encoded(Expr::Product(product), encoding), Basis::Derived, source, ALWAYS).map(Some)
}

/// Copies of MLA's `kv_b_proj`, as the two matrices that decoding multiplies with; `None` where no layer has one.
pub(super) fn latent_copies(setup: &Setup, source: &'static str) -> Result<Option<Entry>, Overflow> {
    let parts = setup.runs().filter(|(_, run)| matches!(run.layer.mixer, Mixer::Latent(_))).flat_map(|(count, run)| {
        let of_latents = run.tensors.iter().filter(|tensor| tensor.role == Role::LatentUp && tensor.shape.len() > 1);
        of_latents.map(move |tensor| matrix(setup, count, tensor))
    });
    copies(setup, parts.collect(), source)
}

/// `layers × outputs × inputs` of a matrix whose heads are split.
pub(super) fn matrix(setup: &Setup, layers: u64, tensor: &Tensor) -> Expr {
    let sides = tensor.shape.iter().rev().zip(["inputs", "outputs", "heads"]).map(|(&side, name)| Expr::named(side, name)).collect();
    Expr::Product(vec![Expr::named(layers, "layers"), setup.spread.per_rank(Expr::Product(sides))])
}

/// `layers × heads × kv_lora_rank × width`
pub(super) fn latent_matrix(setup: &Setup, layers: u64, latent: &LatentAttention, width: Expr) -> Expr {
    let heads = setup.spread.per_rank(Expr::named(latent.heads, "heads"));
    let rank = Expr::leaf(latent.kv_lora_rank, "kv_lora_rank", Source::Config("kv_lora_rank".into()));
    Expr::Product(vec![Expr::named(layers, "layers"), heads, rank, width])
}

/// Matrices beside the parameters, in the dtype of computation.
pub(super) fn copies(setup: &Setup, parts: Vec<Expr>, source: &'static str) -> Result<Option<Entry>, Overflow> {
    if parts.is_empty() {
        return Ok(None);
    }
    Entry::exact(Term::Weights, Expr::encoded(Expr::sum(parts), setup.dtype), Basis::Derived, source, ALWAYS).map(Some)
}

/// States of one request over the layers of this rank, with each layer's by `state`; `None` without recurrences.
pub(super) fn per_layer_states(setup: &Setup, state: impl Fn(&Recurrence) -> Expr) -> Option<Expr> {
    let runs = setup.runs().filter_map(|(count, run)| Some((count, run.layer.mixer.recurrence()?)));
    let parts: Vec<Expr> = runs.map(|(count, recurrence)| Expr::Product(vec![Expr::named(count, "layers"), state(recurrence)])).collect();
    if parts.is_empty() { None } else { Some(Expr::sum(parts)) }
}

/// Recurrent and convolution states of the chosen load: of fixed size per request, whatever the context.
pub(super) fn states(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let runs = setup.runs().filter_map(|(count, run)| run.layer.mixer.recurrence().map(|recurrence| (count, recurrence)));
    let mut kinds: Vec<(u64, &Recurrence)> = Vec::new();
    for (count, recurrence) in runs {
        match kinds.iter_mut().find(|(_, kind)| *kind == recurrence) {
            Some((layers, _)) => *layers += count,
            None => kinds.push((count, recurrence)),
        }
    }
    if kinds.is_empty() {
        return Ok(None);
    }
    let parts = kinds.into_iter().map(|(layers, recurrence)| {
        let convolution = Expr::Product(vec![Expr::named(recurrence.conv_channels, "channels"), Expr::named(recurrence.conv_kernel, "kernel")]);
        let state = Expr::named(recurrence.state, "state elements");
        let bytes = Expr::Sum(vec![Expr::encoded(convolution, setup.dtype), Expr::encoded(state, recurrence.state_dtype.unwrap_or(Encoding::F32))]);
        let whole = Expr::Product(vec![Expr::leaf(layers, "layers", Source::Config("num_hidden_layers".into())), setup.batch.leaf("requests"), bytes]);
        setup.spread.per_rank(whole)
    });
    let source = "past inputs of convolutions in the dtype of computation, states in float32, as every class of transformers 5.23 that was run keeps them";
    Entry::modelled(Term::State, Expr::sum(parts.collect()), (50, 110), source, RUNNING).map(Some)
}
