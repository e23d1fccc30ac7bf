//! Logits and loss: what the last matrix and the cross-entropy behind it take.

use super::run::Run;
use super::stages::PASSES;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Role, Tensor};
use crate::quantity::{Bytes, GIB, Overflow};
use crate::scenario::{Algorithm, Kernels, Loss, Schedule, Trainer};

/// Chunks of torchtune 0.6 `CEWithChunkedOutputLoss`.
const CHUNKS: u64 = 8;
/// TRL 1.16 `kernels/chunked_logprob.py:TOKEN_CHUNK_SIZE`: tokens of a tile.
const TILE_TOKENS: u64 = 4096;
/// TRL 1.16 `trainer/utils.py:_CHUNKED_LOGPROB_CHUNK_SIZE`: words of a tile.
const TILE_WORDS: u64 = 32_768;
/// Unsloth 2026.10 `unsloth_zoo/fused_losses/fused_linear.py:_MIN_LOGITS`: of a chunk, in 512 to `_MAX_ROWS` rows.
const UNSLOTH_LOGITS: u64 = 512 * 151_936;
const UNSLOTH_ROWS: (u64, u64) = (512, 4096);
/// `_CHUNK_GB`: what the logits of a chunk take at most.
const UNSLOTH_CHUNK: u64 = 2 * GIB;

/// Whether an embedding serves as the head too.
pub(super) fn is_tied(decoder: &Component, tensor: &Tensor) -> bool {
    tensor.role == Role::Embedding && tensor.shape.get(1) == Some(&decoder.hidden_size) && decoder.tensors.iter().all(|other| other.role != Role::Head)
}

/// Whether a tensor is what makes logits.
pub(super) fn is_head(decoder: &Component, tensor: &Tensor) -> bool {
    tensor.role == Role::Head || is_tied(decoder, tensor)
}

/// Whether the model ends in logits over its vocabulary.
pub(super) fn has_logits(run: &Run) -> bool {
    let decoder = run.model.decoder();
    let writes = decoder.kind == ComponentKind::TextDecoder || decoder.tensors.iter().any(|tensor| tensor.role == Role::Head);
    writes && decoder.vocab_size > 0 && run.algorithm != Algorithm::Reward
}

/// Values of the logits of one forward pass on this rank.
pub(super) fn logits(run: &Run) -> Expr {
    let vocabulary = run.width(run.model.decoder().vocab_size, "vocab_size", Source::Config("vocab_size".into()), true);
    Expr::Product(vec![run.tokens(), vocabulary])
}

/// Logits, their float32 copy, its log-softmax and their gradients, on the rank that has the head.
pub(super) fn entries(run: &Run, is_head_trained: bool) -> Result<Vec<Entry>, Overflow> {
    if !has_logits(run) || !run.place.is_last {
        return Ok(Vec::new());
    }
    let low = run.recipe.compute.block_bytes;
    let caps = run.model.anatomy.computation.caps_logits;
    let times = |bytes: u64, what: Expr| Expr::Product(vec![Expr::named(bytes, "B"), what]);
    let mut entries = match run.loss {
        Loss::Standard => {
            let capped = if caps { low } else { 0 };
            let widened = if low < 4 { 4 } else { 0 };
            let forward = times(low + widened + 4 + capped, logits(run));
            let backward = times(12 + capped, logits(run));
            Ok(vec![
                Entry::modelled(
                    Term::Logits,
                    forward,
                    (90, 110),
                    "transformers 5.23 loss/loss_utils.py `ForCausalLMLoss`: logits, their float32 copy and its log-softmax",
                    &[Stage::Forward],
                )?,
                Entry::modelled(
                    Term::Logits,
                    backward,
                    (90, 120),
                    "backward of cross-entropy: log-softmax, its gradient and that of the logits in float32; two bytes more where the outputs are still held",
                    &[Stage::Loss],
                )?,
            ])
        }
        Loss::Chunked => {
            // Compiled, a chunk keeps its logits alone, and what is through its backward pass is freed: the recipes hold no logits by then.
            let is_compiled = run.kernels == Kernels::Fused;
            let (whole, of_chunk, source) = if is_compiled {
                (low, low + 12, "torchtune 0.6 modules/loss/ce_chunked_output_loss.py, compiled: logits whole, gradient and float32 copies of an eighth")
            } else {
                (2 * low, 12, "torchtune 0.6 modules/loss/ce_chunked_output_loss.py: a log-softmax of every chunk, float32 copies of an eighth of the tokens")
            };
            let chunk = times(of_chunk, logits(run)).ceil_div(Expr::named(CHUNKS, "chunks"));
            let kept = times(whole + if caps { low } else { 0 }, logits(run));
            Ok(vec![Entry::modelled(Term::Logits, Expr::Sum(vec![kept, chunk]), (75, 130), source, &[Stage::Forward, Stage::Loss])?])
        }
        Loss::Fused if run.trainer == Trainer::Unsloth => fused_by_free_memory(run, low, is_head_trained),
        Loss::Fused => fused(run, low, is_head_trained),
        Loss::Tiled => tiled(run, low, is_head_trained),
    }?;
    entries.extend(earlier_passes(run, low, is_head_trained)?);
    Ok(entries)
}

/// All forward passes come before the first backward pass (`GPipe`): what the earlier ones keep of their losses.
fn earlier_passes(run: &Run, low: u64, is_head_trained: bool) -> Result<Option<Entry>, Overflow> {
    let passes = run.accumulation.value.saturating_sub(1);
    if run.world.pipeline.value == 1 || run.schedule != Schedule::Gpipe || passes == 0 {
        return Ok(None);
    }
    let capped = if run.model.anatomy.computation.caps_logits { low } else { 0 };
    let times = |bytes: u64, what: Expr| Expr::Product(vec![Expr::named(bytes, "B"), what]);
    let (one, source) = match run.loss {
        Loss::Standard => (times(4 + capped, logits(run)), "log-softmax of the micro-batches that wait for their backward passes"),
        Loss::Chunked => (times(low + capped, logits(run)), "logits of the micro-batches that wait for their backward passes"),
        Loss::Tiled => (of_tokens(run, stream(run, low)), "scored hidden states of the micro-batches that wait for their backward passes"),
        Loss::Fused => (
            Expr::sum(made_ahead(run, low, is_head_trained)),
            "gradients that the forward passes of the waiting micro-batches have made: of hidden states and head",
        ),
    };
    let passes = Expr::leaf(passes, "earlier micro-batches", Source::Derived("pipeline schedule".into()));
    Entry::modelled(Term::Logits, Expr::Product(vec![passes, one]), (90, 110), source, PASSES).map(Some)
}

fn hidden(run: &Run) -> Expr {
    Expr::leaf(run.model.decoder().hidden_size, "hidden_size", Source::Config("hidden_size".into()))
}

/// So many bytes for each value of the hidden states.
fn of_tokens(run: &Run, bytes: u64) -> Expr {
    Expr::Product(vec![Expr::named(bytes, "B"), run.tokens(), hidden(run)])
}

/// Bytes of a value of the hidden states that the head reads.
const fn stream(run: &Run, low: u64) -> u64 {
    if run.recipe.casts_weights { 4 } else { low }
}

/// Gradients that a fused loss makes in the forward pass and keeps: of the hidden states, and of a head that is trained.
fn made_ahead(run: &Run, low: u64, is_head_trained: bool) -> Vec<Expr> {
    let words = || run.width(run.model.decoder().vocab_size, "vocab_size", Source::Config("vocab_size".into()), true);
    let of_head = is_head_trained.then(|| Expr::Product(vec![Expr::named(low, "B"), words(), hidden(run)]));
    std::iter::once(of_tokens(run, low)).chain(of_head).collect()
}

/// The tile of logits of TRL's kernel.
pub(super) fn tile(run: &Run) -> Result<Expr, Overflow> {
    let tokens = run.tokens().evaluate()?.min(TILE_TOKENS);
    // As wide also for smaller vocabularies (`mm_buf`).
    let tile = Expr::Product(vec![Expr::named(tokens, "tokens of a tile"), Expr::named(TILE_WORDS, "words of a tile")]);
    Ok(Expr::encoded(tile, run.recipe.compute))
}

/// TRL: logits in tiles, made once more in the backward pass; the hidden states of the scored tokens are copied, gradients summed in float32.
fn tiled(run: &Run, low: u64, is_head_trained: bool) -> Result<Vec<Entry>, Overflow> {
    let (stream, of_tokens) = (stream(run, low), |bytes: u64| of_tokens(run, bytes));
    let source =
        "TRL 1.16 kernels/chunked_logprob.py `ChunkedLogProbFunction`: scored hidden states, a tile of 4,096 tokens by 32,768 words, float32 gradients";
    // Their gradient in float32, and as it is handed on.
    let mut backward = vec![of_tokens(stream + 4 + stream), tile(run)?];
    let mut forward = vec![of_tokens(stream), tile(run)?];
    // A float32 head is cast slice by slice.
    if run.recipe.casts_weights {
        let words = Expr::named(run.model.decoder().vocab_size.min(TILE_WORDS), "words of a tile");
        let slice = Expr::encoded(Expr::Product(vec![words, hidden(run)]), run.recipe.compute);
        forward.push(slice.clone());
        backward.push(slice);
    }
    if is_head_trained {
        let words = run.width(run.model.decoder().vocab_size, "vocab_size", Source::Config("vocab_size".into()), true);
        backward.push(Expr::Product(vec![Expr::named(4 + run.recipe.weight.block_bytes, "B"), words, hidden(run)]));
    }
    Ok(vec![
        Entry::modelled(Term::Logits, Expr::sum(forward), (75, 150), source, &[Stage::Forward])?,
        Entry::modelled(Term::Logits, Expr::sum(backward), (75, 125), source, &[Stage::Loss])?,
    ])
}

/// Liger: logits of a chunk of tokens at a time, with the gradients of hidden states and head made in the forward pass.
fn fused(run: &Run, low: u64, is_head_trained: bool) -> Result<Vec<Entry>, Overflow> {
    let decoder = run.model.decoder();
    let (vocabulary, hidden) = (decoder.vocab_size.max(1), decoder.hidden_size.max(1));
    let tokens = run.tokens().evaluate()?;
    let chunk = tokens.div_ceil(vocabulary.div_ceil(hidden)).max(1);
    let chunk = chunk.checked_next_power_of_two().ok_or(Overflow)?.min(tokens.max(1));
    let source = || Source::Derived("next power of two of tokens / (vocab_size / hidden_size)".into());
    let words = || run.width(vocabulary, "vocab_size", Source::Config("vocab_size".into()), true);
    let one = Expr::Product(vec![Expr::named(low + 4, "B"), Expr::leaf(chunk, "tokens of a chunk", source()), words()]);
    let liger = "liger-kernel 0.8.5 ops/fused_linear_cross_entropy.py: logits of one chunk, gradients of hidden states and head";
    let kept = made_ahead(run, low, is_head_trained);
    Ok(vec![
        Entry::exact(Term::Logits, Expr::sum(kept), Basis::Derived, liger, PASSES)?,
        Entry::modelled(Term::Logits, one, (75, 200), liger, &[Stage::Forward])?,
    ])
}

/// The largest power of two that is no more, at least 1.
fn power_below(number: u64) -> u64 {
    1 << number.max(1).ilog2()
}

/// Tokens whose logits Unsloth makes at once (`fused_linear_rows`): as Liger's chunk rounded down, but enough to keep matrix products busy.
fn unsloth_rows(tokens: u64, hidden: u64, vocabulary: u64) -> Result<u64, Overflow> {
    let few = power_below(UNSLOTH_LOGITS / vocabulary).clamp(UNSLOTH_ROWS.0, UNSLOTH_ROWS.1);
    let rows = power_below(tokens.checked_mul(hidden).ok_or(Overflow)? / vocabulary).clamp(few, UNSLOTH_ROWS.1);
    let cap = UNSLOTH_CHUNK / vocabulary.checked_mul(4).ok_or(Overflow)?;
    Ok(rows.min(cap.max(2)).min(tokens).max(1))
}

/// Unsloth: float32 logits of one chunk of tokens, which become their gradients in place; a frozen head goes in tiles that take less.
fn fused_by_free_memory(run: &Run, low: u64, is_head_trained: bool) -> Result<Vec<Entry>, Overflow> {
    let decoder = run.model.decoder();
    let rows = unsloth_rows(run.tokens().evaluate()?, decoder.hidden_size, decoder.vocab_size.max(1))?;
    let words = run.width(decoder.vocab_size, "vocab_size", Source::Config("vocab_size".into()), true);
    let rows = Expr::leaf(rows, "tokens of a chunk", Source::Derived("tokens × hidden_size / vocab_size, within 512 to 4,096 and 2 GiB".into()));
    let one = Expr::Product(vec![Expr::named(4, "B"), rows, words]);
    let source = "Unsloth 2026.10 unsloth_zoo/fused_losses/fused_linear.py: gradients of hidden states and head, logits of one chunk";
    let kept = made_ahead(run, low, is_head_trained);
    let chunk = Entry::exact(Term::Logits, one, Basis::Modelled, source, &[Stage::Forward])?;
    let most = chunk.amount.expected;
    Ok(vec![Entry::exact(Term::Logits, Expr::sum(kept), Basis::Derived, source, PASSES)?, chunk.with_band(Bytes::ZERO, most, Basis::Modelled)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fused_linear_rows` of `unsloth_zoo` 2026.10.9 gives.
    #[test]
    fn chunks_of_unsloth() {
        for ((tokens, hidden, vocabulary), rows) in ROWS {
            assert_eq!(unsloth_rows(tokens, hidden, vocabulary), Ok(rows), "{tokens} × {hidden} / {vocabulary}");
        }
    }

    /// (tokens, hidden size, words), rows.
    const ROWS: [((u64, u64, u64), u64); 7] = [
        ((2048, 4096, 128_256), 512),
        ((32_768, 4096, 128_256), 1024),
        ((8192, 2048, 32_000), 2048),
        ((100, 768, 50_257), 100),
        ((65_536, 8192, 262_144), 2048),
        ((4096, 64, 1_000_000), 512),
        ((1, 1, 1), 1),
    ];
}
