//! What TGI's launcher makes of config.json: whether FlashInfer computes attention, and how long a prompt suits the card. It reads
//! keys of config.json itself by one spelling each, and gives up where one of them is not there.
//!
//! Read from TGI 3.3.7 `launcher/src/main.rs` (`RawConfig`, `get_head_dim`, `resolve_attention`, `flop`, `model_vram`, `token_vram`,
//! `compute_optimal`, `vram_maximum`, `f16_flop`).

use super::vendor;
use crate::gpu::{Card, Vendor};
use crate::model::{FeedForward, Mixer, Model, Origin};
use crate::runtime::Known;

/// The heads that FlashInfer has kernels for (`resolve_attention`).
const FLASHINFER_HEADS: &[u64] = &[64, 128, 256];

/// Families that FlashInfer is not used for.
const WITHOUT_FLASHINFER: &[&str] = &["falcon", "deepseek_v2"];

/// (card, TFLOPS in 16 bits) of the cards that the launcher knows by what `nvidia-smi` calls them (`f16_flop`). It looks for
/// `nvidia-t4` and `nvidia-4090`, which are called `Tesla T4` and `NVIDIA GeForce RTX 4090`, and so does not find them.
const SPEEDS: &[(&str, u64)] = &[
    ("L4", 121),
    ("L40", 181),
    ("L40S", 363),
    ("A10G", 125),
    ("A40", 149),
    ("A100 40GB SXM/PCIe", 312),
    ("A100 80GB SXM", 312),
    ("A100 80GB PCIe", 312),
    ("H100 SXM5 80GB", 900),
    ("H100 NVL 94GB", 900),
    ("H200 SXM", 989),
];

/// Tokens of a prompt at once where the launcher cannot compute what suits the card, by family.
const LONGEST_PROMPTS: &[(&str, u64)] = &[("qwen2_vl", 10_000), ("qwen2_5_vl", 10_000), ("gemma3", 8000)];

/// `max_batch_prefill_tokens` where it is not given: what the card computes in a second, at most the model's maximum and what the
/// launcher thinks fits.
pub(super) fn prompt_tokens(known: &Known) -> u64 {
    let Known { model, card, spread, .. } = known;
    let of_family = || LONGEST_PROMPTS.iter().find(|(family, _)| *family == model.anatomy.model_type).map_or(4096, |(_, tokens)| *tokens);
    let ranks = u128::from(spread.tensor.value);
    let sizes = Sizes::of(model);
    let suited = sizes.as_ref().zip(speed(card)).map(|(sizes, speed)| product(&[speed.into(), ranks]) / sizes.operations().max(1));
    let suited = suited.and_then(|tokens| u64::try_from(tokens).ok()).filter(|tokens| *tokens > 100);
    let longest = model.anatomy.max_context.filter(|_| LONGEST.iter().any(|key| has(model, key)));
    let tokens = suited.unwrap_or_else(of_family).min(longest.unwrap_or(u64::MAX));
    let is_nvidia = vendor(card) == Vendor::Nvidia;
    let fitting = sizes.filter(|_| is_nvidia && model.anatomy.quantization.is_none() && has(model, "vocab_size")).and_then(|sizes| {
        // The launcher leaves a twentieth, the server a tenth.
        let share = known.scenario.gpu_memory_utilization.map_or(Ok(card.capacity.get()), |share| share.floor_of(card.capacity.get()));
        let available = product(&[share.ok()?.into(), ranks, 95]) / 100;
        available.checked_sub(sizes.weights()).map(|free| free / sizes.token().max(1))
    });
    fitting.and_then(|fitting| u64::try_from(fitting).ok()).map_or(tokens, |fitting| tokens.min(fitting)).max(1)
}

/// Operations per second in 16 bits.
fn speed(card: &Card) -> Option<u64> {
    let name = card.gpu?.name;
    SPEEDS.iter().find(|(known, _)| *known == name).map(|(_, tera)| tera * 1_000_000_000_000)
}

/// What the launcher reads from config.json to guess the cost of a token.
struct Sizes {
    heads: u128,
    kv_heads: u128,
    head_dim: u128,
    hidden: u128,
    intermediate: u128,
    /// Experts of a token, shared ones too.
    active: u128,
    experts: u128,
    layers: u128,
    vocabulary: u128,
}

/// Keys that the launcher guesses nothing without.
const NEEDED: &[&str] = &["num_attention_heads", "num_hidden_layers", "intermediate_size"];

/// Keys for the longest context that it reads.
const LONGEST: &[&str] = &["max_position_embeddings", "max_seq_len", "n_positions"];

/// Keys for the width of an expert where `intermediate_size` is not that.
const OF_EXPERTS: &[&str] = &["moe_intermediate_size", "expert_ffn_hidden_size"];

/// Whether config.json itself, not a part of it, has a key. A GGUF file does not have the keys of the model that it is of: all are assumed.
fn has(model: &Model, key: &str) -> bool {
    model.provenance.source == Origin::Gguf || model.anatomy.keys_used.iter().any(|used| used == key)
}

fn has_hidden_size(model: &Model) -> bool {
    has(model, "hidden_size") || has(model, "n_embd")
}

/// (query heads, heads of keys and values, what `head_dim` says) of the first layers with attention; of latents that is the rotary part.
fn attention(model: &Model) -> Option<(u64, u64, u64)> {
    model.decoder().cache_groups().iter().find_map(|group| match group.mixer {
        Mixer::Latent(latent) => Some((latent.heads, latent.heads, latent.rope_dim)),
        mixer => mixer.attention().map(|attention| (attention.heads, attention.kv_heads, attention.key_dim)),
    })
}

/// `get_head_dim`: the key, what the keys of config.json itself divide to, the key of its text part.
fn head_dim(model: &Model) -> Option<u64> {
    let (heads, _, width) = attention(model)?;
    let hidden = model.decoder().hidden_size;
    if has(model, "head_dim") {
        return Some(width);
    }
    if has(model, "num_attention_heads") && has_hidden_size(model) && heads > 0 && hidden.is_multiple_of(heads) {
        return Some(hidden / heads);
    }
    if has(model, "text_config.head_dim") {
        return Some(width);
    }
    (model.anatomy.model_type == "gemma3").then_some(256)
}

/// Whether FlashInfer computes attention; the images for AMD set another (`Dockerfile_amd`).
pub(super) fn uses_flashinfer(model: &Model, card: &Card) -> bool {
    let has_kernel = head_dim(model).is_some_and(|width| FLASHINFER_HEADS.contains(&width));
    vendor(card) == Vendor::Nvidia && has_kernel && !WITHOUT_FLASHINFER.contains(&model.anatomy.model_type.as_str())
}

/// `intermediate_size` as the layers tell it, with the mixture of experts where there is one; `None` where none of them has that width.
fn intermediate(model: &Model) -> Option<u64> {
    let layers = || model.decoder().layers.iter().map(|run| run.layer.feed_forward);
    let dense = || layers().filter_map(|layer| if let FeedForward::Dense { intermediate, .. } = layer { Some(intermediate) } else { None }).max();
    let is_apart = OF_EXPERTS.iter().any(|key| has(model, key));
    let of_experts = layers().find_map(|layer| if let FeedForward::MixtureOfExperts { intermediate, .. } = layer { Some(intermediate) } else { None });
    of_experts.filter(|_| !is_apart).or_else(dense)
}

/// Whether the launcher would compute from what is said.
fn has_keys(model: &Model) -> bool {
    let reads_images = model.anatomy.keys_used.iter().any(|key| key == "vision_config");
    !reads_images && has_hidden_size(model) && NEEDED.iter().all(|key| has(model, key))
}

/// Whether the launcher computes a longest prompt for this card from an `intermediate_size` that is not known here.
pub(super) fn is_unread(model: &Model, card: &Card) -> bool {
    has_keys(model) && speed(card).is_some() && intermediate(model).is_none()
}

impl Sizes {
    /// `None` where a key that the launcher needs is not there, and for pictures, where it does not guess.
    fn of(model: &Model) -> Option<Self> {
        let decoder = model.decoder();
        let (heads, kv_heads, _) = attention(model).filter(|_| has_keys(model))?;
        // Other spellings are not read, and count as one expert.
        let said = |key: &str, value: u64, otherwise: u64| u128::from(if has(model, key) { value } else { otherwise });
        let mixture = decoder.layers.iter().find_map(|run| match run.layer.feed_forward {
            FeedForward::MixtureOfExperts { experts, active, intermediate, shared } => Some((experts, active, shared / intermediate.max(1))),
            _ => None,
        });
        let (experts, active, shared) = mixture.unwrap_or((1, 1, 0));
        Some(Self {
            heads: heads.into(),
            kv_heads: said("num_key_value_heads", kv_heads, heads),
            head_dim: head_dim(model)?.into(),
            hidden: decoder.hidden_size.into(),
            intermediate: intermediate(model)?.into(),
            active: said("num_experts_per_tok", active, 1).saturating_add(said("n_shared_experts", shared, 0)),
            experts: said("num_local_experts", experts, 1),
            layers: decoder.layer_count().into(),
            vocabulary: decoder.vocab_size.into(),
        })
    }

    /// `flop`: of one token.
    fn operations(&self) -> u128 {
        let attention = product(&[2, self.head_dim, self.hidden, 3 * self.heads + 2 * self.kv_heads]);
        let feed_forward = product(&[6, self.hidden, self.intermediate, self.active]);
        product(&[attention.saturating_add(feed_forward), self.layers])
    }

    /// `model_vram`: its bytes, as the launcher guesses them.
    fn weights(&self) -> u128 {
        let projections = product(&[self.heads + 2 * self.kv_heads, self.head_dim]);
        let output = product(&[self.heads, self.head_dim, self.hidden]);
        let feed_forward = product(&[3, self.intermediate, self.experts, self.hidden]);
        let layer = projections.saturating_add(output).saturating_add(feed_forward);
        product(&[2, product(&[layer, self.layers]).saturating_add(product(&[2, self.hidden, self.vocabulary]))])
    }

    /// `token_vram`: bytes of a token's keys, values and feed-forward, as the launcher guesses them.
    fn token(&self) -> u128 {
        let cache = product(&[4, self.kv_heads, self.head_dim, self.layers]);
        cache.saturating_add(product(&[6, self.intermediate + self.intermediate / 2, self.experts]))
    }
}

/// The launcher's guesses need no more than an order of magnitude: what is too large stays so.
fn product(factors: &[u128]) -> u128 {
    factors.iter().fold(1, |product: u128, factor| product.saturating_mul(*factor))
}
