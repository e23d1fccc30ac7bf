//! What a step of a prompt works with: values of operations that are not finished, and the scores of attention where Metal has no
//! fused kernel for a layer's heads.
//!
//! Read from MLX 0.32.2 (`transforms.cpp`: `eval_impl`, `MAX_ACTIVE_TASKS`; `backend/metal/device.cpp`: `needs_commit`,
//! `max_mb_per_buffer_`; `backend/metal/scaled_dot_product_attention.cpp`: `use_fallback`; `fast.cpp`: the fallback) and mlx-lm 0.32.2
//! (`generate.py`; `models/deepseek_v3.py`; `models/switch_layers.py`).

use super::{held, is_expanded};
use crate::estimate::{Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::gpu::Card;
use crate::model::{FeedForward, LatentAttention, Mixer};
use crate::quantity::Overflow;
use crate::runtime::asked::Asked;

/// Tokens of a prompt that are read at once (`prefill_step_size`).
pub(super) const PREFILL: u64 = 2048;
/// Requests whose prompts are read together (`prefill_batch_size`).
const TOGETHER: u64 = 8;
/// Command buffers at once: those that run (`MAX_ACTIVE_TASKS`) and the one that is filled.
const IN_FLIGHT: u64 = 11;
/// Widths of heads that the kernel for prompts has, and is faster with.
const FUSED: &[u64] = &[64, 72, 80, 96, 128];

const WORK: &str = "values of operations that are not finished (at most 11 command buffers, each sent off when it reads and writes 50 Mi elements, 40 on base and Pro chips; half of them are values of its own), and those of one layer";
const SCORES: &str = "scores of one layer's attention in a step of the prompt: MLX has fused kernels for heads of 64, 72, 80, 96 and 128 alike for queries and values, others it computes in full (M5 also fuses 256)";
const LATENT: &str = "mlx-lm models/deepseek_v3.py: rotary scores of one layer, masked; keys and values expanded from the latents";

/// One step of a prompt, and the last token's logits.
pub(super) fn entries(asked: &Asked, card: &Card) -> Result<Vec<Entry>, Overflow> {
    let logits = Expr::Product(vec![
        asked.batch.leaf("requests"),
        Expr::leaf(asked.model.decoder().vocab_size, "vocab_size", Source::Config("vocab_size".into())),
        Expr::named(6, "B (logits in 16 bits, their logarithms in 32)"),
    ]);
    let mut entries = vec![
        Entry::modelled(Term::Activations, work(asked, card), (40, 200), WORK, &[Stage::Prefill])?,
        Entry::modelled(Term::Logits, logits, (70, 300), "mlx-lm generate.py: logits of the last token", &[Stage::Sampling, Stage::Decode])?,
    ];
    entries.extend(scores(asked)?);
    Ok(entries)
}

/// Tokens of one step, of the requests that are read together.
fn step(asked: &Asked) -> Vec<Expr> {
    vec![Expr::Min(vec![prefill(asked), asked.context.leaf("tokens")]), requests(asked)]
}

/// `prefill_step_size`
pub(super) fn prefill(asked: &Asked) -> Expr {
    match asked.scenario.max_num_batched_tokens {
        Some(tokens) => Expr::leaf(tokens, "tokens of a prefill step", Source::User("prefill_step_size")),
        None => Expr::leaf(PREFILL, "tokens of a prefill step", Source::Runtime("mlx-lm prefill_step_size")),
    }
}

fn requests(asked: &Asked) -> Expr {
    Expr::Min(vec![asked.batch.leaf("requests"), Expr::leaf(TOGETHER, "requests at once", Source::Runtime("mlx-lm prefill_batch_size"))])
}

fn work(asked: &Asked, card: &Card) -> Expr {
    let decoder = asked.model.decoder();
    let widest = decoder.widest_feed_forward().unwrap_or(FeedForward::None);
    let hidden = || Expr::leaf(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
    let inner = Expr::leaf(widest.active_width(), "feed-forward width", Source::Config("intermediate_size".into()));
    let mut width = vec![Expr::Product(vec![Expr::constant(3), inner]), Expr::Product(vec![Expr::constant(4), hidden()])];
    if let FeedForward::MixtureOfExperts { active, .. } = widest {
        // Each expert's copy of a token, and what the expert makes of it.
        width.push(Expr::Product(vec![Expr::constant(2), Expr::leaf(active, "experts per token", Source::Config("num_experts_per_tok".into())), hidden()]));
    }
    let layer = Expr::Product([step(asked), vec![Expr::Sum(width)]].concat());
    let all = Expr::Product(vec![Expr::leaf(decoder.layer_count(), "layers", Source::Config("num_hidden_layers".into())), layer.clone()]);
    let is_small = card.gpu.is_some_and(|gpu| !["Max", "Ultra"].iter().any(|size| gpu.name.contains(size)));
    let committed = if is_small { 40 } else { 50 };
    let pending = Expr::Product(vec![
        Expr::leaf(IN_FLIGHT, "command buffers", Source::Runtime("MLX MAX_ACTIVE_TASKS")),
        Expr::leaf(committed << 19, "values", Source::Runtime("half of MLX max_mb_per_buffer_, which counts elements")),
    ]);
    Expr::encoded(Expr::Sum(vec![Expr::Min(vec![all, pending]), layer]), asked.dtype)
}

/// The scores of the layer that has most of them.
fn scores(asked: &Asked) -> Result<Option<Entry>, Overflow> {
    let mut most: Option<(u64, Expr, &'static str)> = None;
    for run in &asked.model.decoder().layers {
        let Some(span) = run.layer.mixer.span() else { continue };
        let keys = held(asked, span, true);
        let (elements, source) = match run.layer.mixer {
            Mixer::Latent(latent) if !is_expanded(asked.model) => (of_latents(asked, &latent, &keys), LATENT),
            Mixer::Latent(latent) => (of_heads(asked, latent.heads, &keys), SCORES),
            Mixer::Attention(attention) | Mixer::Parallel(attention, _) if !is_fused(attention.key_dim, attention.value_dim) => {
                (of_heads(asked, attention.heads, &keys), SCORES)
            }
            _ => continue,
        };
        let size = elements.evaluate()?;
        if most.as_ref().is_none_or(|(known, ..)| size > *known) {
            most = Some((size, elements, source));
        }
    }
    let Some((_, elements, source)) = most else { return Ok(None) };
    Entry::modelled(Term::Activations, Expr::encoded(elements, asked.dtype), (40, 160), source, &[Stage::Prefill]).map(Some)
}

fn is_fused(key_dim: u64, value_dim: u64) -> bool {
    key_dim == value_dim && FUSED.contains(&key_dim)
}

/// `requests × heads × tokens of the step × cached tokens`
fn of_heads(asked: &Asked, heads: u64, keys: &Expr) -> Expr {
    let heads = Expr::leaf(heads, "heads", Source::Config("num_attention_heads".into()));
    Expr::Product([step(asked), vec![heads, keys.clone()]].concat())
}

/// Rotary scores and their masked copy, those of attention where its heads have no fused kernel, and the expanded keys and values.
fn of_latents(asked: &Asked, latent: &LatentAttention, keys: &Expr) -> Expr {
    let copies = if is_fused(latent.nope_dim, latent.value_dim) { 2 } else { 3 };
    let expanded = Expr::Product(vec![
        requests(asked),
        Expr::leaf(latent.heads, "heads", Source::Config("num_attention_heads".into())),
        Expr::Sum(vec![Expr::named(latent.nope_dim, "key"), Expr::named(latent.value_dim, "value")]),
        keys.clone(),
    ]);
    Expr::Sum(vec![Expr::Product(vec![Expr::named(copies, "copies"), of_heads(asked, latent.heads, keys)]), expanded])
}
