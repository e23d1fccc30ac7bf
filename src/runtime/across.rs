//! What decoders read through cross-attention: an encoder's output (Whisper, T5, BART) or an image's (Llama 3.2 Vision). Each layer
//! keeps keys and values of all of it for as long as a request lives, however few tokens it writes.
//!
//! Read from transformers 5.23 `cache_utils.py` (`EncoderDecoderCache`: computed once, in the first step) and the classes named;
//! vLLM 0.33 `v1/kv_cache_interface.py` (`CrossAttentionSpec`).

use super::{Choices, Chosen, Engine, Setup};
use crate::formula::{Expr, Source};
use crate::model::{Attention, Component, ComponentKind, Keeps, LayerRun, Map, Mixer, Model, Role, SECONDS, Span, Step, Work};

/// Parts of names of the modules that read an encoder's output (classes of transformers 5.23).
const MODULES: &[&str] = &["encoder_attn.", "crossattention.", "cross_attn.", "cross_attention.", "EncDecAttention.", "encoder_decoder_attention."];

/// What the layers of a decoder read.
pub struct Across<'a> {
    /// The part that makes it.
    pub part: &'a Component,
    /// Tokens of one request.
    pub tokens: Expr,
    /// As many as one step may have, of one request at least: what vLLM plans for.
    pub planned: Expr,
    /// What keeps keys and values of it in each of a run's layers.
    pub mixer: fn(&LayerRun) -> Option<Mixer>,
    /// Bytes of one of the part's layers with so many tokens.
    pub pass: fn(&Setup, &Component, Expr) -> Expr,
}

/// How [`Across`] is found: [`read`], or [`nothing`] where only models without are computed.
pub type ReadAcross = for<'a> fn(&'a Model, &dyn Engine, (&Chosen, &Chosen), &mut Choices) -> Option<Across<'a>>;

/// For models that read nothing across.
pub fn nothing<'a>(_: &'a Model, _: &dyn Engine, _: (&Chosen, &Chosen), _: &mut Choices) -> Option<Across<'a>> {
    None
}

/// Whether a decoder has layers that read an encoder's output.
pub(crate) fn is_read(model: &Model) -> bool {
    model.decoder().layers.iter().any(reads)
}

/// Whether a run's layers do.
fn reads(run: &LayerRun) -> bool {
    run.layer.mixer.attention().is_some_and(|own| own.keeps == Keeps::Encoder || run.tensors.iter().any(|tensor| is_across(&tensor.name)))
}

/// Whether a tensor is a matrix of cross-attention.
fn is_across(name: &str) -> bool {
    MODULES.iter().any(|module| name.contains(module)) && name.ends_with(".weight")
}

/// What a model's decoder reads, for requests and steps of so many tokens; `None` where it reads nothing, or how much is not known.
pub fn read<'a>(model: &'a Model, engine: &dyn Engine, (context, step): (&Chosen, &Chosen), choices: &mut Choices) -> Option<Across<'a>> {
    if !is_read(model) {
        return None;
    }
    let (part, tokens, rule) = model.anatomy.counted().skip(1).filter(|part| engine.counts_across(part.kind)).find_map(|part| {
        let (tokens, rule) = length(model, part, context)?;
        Some((part, tokens, rule))
    })?;
    choices.said("encoder_tokens", tokens.to_string(), Some(rule.to_owned()));
    let tokens = Expr::leaf(tokens, "tokens of the encoder", Source::Default(rule.to_owned().into()));
    Some(Across { part, planned: Expr::Max(vec![tokens.clone(), step.leaf("tokens per step")]), tokens, mixer: across, pass })
}

/// Counted as the layers of a decoder are.
fn pass(setup: &Setup, part: &Component, tokens: Expr) -> Expr {
    let inner = part.widest_feed_forward().map_or(0, |feed_forward| feed_forward.active_width());
    let per_token = Expr::Sum(vec![
        Expr::Product(vec![Expr::constant(3), setup.spread.per_rank(Expr::named(inner, "encoder's inner width"))]),
        Expr::Product(vec![Expr::constant(4), Expr::named(part.hidden_size, "encoder's hidden_size")]),
    ]);
    Expr::encoded(Expr::Product(vec![tokens, per_token]), setup.dtype)
}

const OF_TEXT: &str = "the encoder reads as many tokens as the context, beside the decoder's own, at most what it has positions for";

/// Tokens that a part gives to the decoder for one request, and why so many.
fn length<'a>(model: &Model, part: &'a Component, context: &Chosen) -> Option<(u64, &'a str)> {
    let input = if let Work::Input(input) = &part.work { Some((input.tokens, &*input.rule)) } else { None };
    // SpeechT5 speaks or listens: an encoder with a table of words reads text, whatever it is called.
    let reads_text = part.kind == ComponentKind::TextEncoder || part.tensors.iter().any(|tensor| tensor.role == Role::Embedding);
    match part.kind {
        _ if reads_text => {
            let has_table = part.tensors.iter().any(|tensor| tensor.role == Role::Position && tensor.shape.last() == Some(&part.hidden_size));
            let most = model.anatomy.max_context.filter(|_| has_table).unwrap_or(u64::MAX);
            let (more, rule) = input.unwrap_or((0, OF_TEXT));
            Some((context.value.saturating_add(more).min(most), rule))
        }
        _ if input.is_some() => input,
        ComponentKind::AudioTower => {
            let frames = part.frames()?;
            match frames.window {
                Some(window) => Some((window, "sound is padded to one window of the encoder")),
                None => Some((frames.tokens(SECONDS)?, "30 s of sound in a request")),
            }
        }
        ComponentKind::VisionTower => {
            let tiles = part.tensors.iter().find(|tensor| tensor.name.ends_with("tile_embedding.weight") && tensor.shape.len() == 2);
            if let Some(of_tiles) = tiles.and_then(|table| table.shape[1].checked_div(part.hidden_size)).filter(|&tokens| tokens > 0) {
                return Some((of_tiles, "one image in a request, cut into as many tiles as there are positions for"));
            }
            if let Work::Images(images) = &part.work {
                let is_kept = |step: &&Step| !matches!(step, Step::GlobalPool | Step::AdaptivePool(_) | Step::Flatten);
                let map = images.steps().iter().take_while(is_kept).try_fold(images.map(images.size), Map::after)?;
                return Some((map.width.checked_mul(map.height)?, "one image in a request, of the size that the encoder was made for"));
            }
            let patches = part.patches()?;
            Some((patches.tokens(patches.size?)?, "one image in a request"))
        }
        _ => None,
    }
}

/// The cross-attention of a run's layers, as attention that keeps keys and values of what it reads.
fn across(run: &LayerRun) -> Option<Mixer> {
    let own = run.layer.mixer.attention()?;
    if own.keeps == Keeps::Encoder {
        return Some(Mixer::Attention(Attention { keeps: Keeps::Own, span: Span::Full, ..*own }));
    }
    let rows = |role| run.tensors.iter().find(|tensor| tensor.role == role && is_across(&tensor.name)).and_then(|tensor| tensor.shape.first().copied());
    let head = |rows: u64| rows.checked_div(own.kv_heads);
    let (key_dim, value_dim) = match (rows(Role::Key), rows(Role::Value)) {
        (Some(keys), Some(values)) => (head(keys)?, head(values)?),
        // One matrix for both (GPT-2's): as wide as the layer's own.
        _ if run.tensors.iter().any(|tensor| is_across(&tensor.name)) => (own.key_dim, own.value_dim),
        _ => return None,
    };
    Some(Mixer::Attention(Attention { key_dim, value_dim, keeps: Keeps::Own, span: Span::Full, ..*own }))
}
