//! Moshi: a decoder over text and the codes of two voices, a small one over the codebooks of a frame, whose matrices differ by
//! codebook, and Mimi, which turns codes into sound.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, component, layers_by_span};
use super::mimi::codec;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Layer, Mixer, Role, Span};

/// `MoshiConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 32_000),
    ("hidden_size", 4096),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("ffn_dim", 22_528),
    ("num_codebooks", 8),
    ("sliding_window", 3000),
];

/// `MoshiDepthConfig`.
const DEPTH: &[(&str, u64)] = &[
    ("vocab_size", 32_000),
    ("hidden_size", 1024),
    ("input_size", 4096),
    ("num_hidden_layers", 6),
    ("num_attention_heads", 16),
    ("audio_vocab_size", 2048),
    ("ffn_dim", 5632),
    ("num_codebooks", 8),
    ("sliding_window", 8),
];

/// The inner width: both halves of the gated feed-forward stand in one matrix.
fn halves(f: &Fields) -> Result<u64, ConfigError> {
    let both = f.count("ffn_dim")?;
    (both.is_multiple_of(2) && both > 1)
        .then_some(both / 2)
        .ok_or_else(|| f.impossible("ffn_dim", "it is twice the width of the feed-forward: it must be even"))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    let shape = Shape::read(f)?;
    let (hidden, inner) = (shape.hidden, halves(f)?);
    let window = f.count("sliding_window")?;
    f.touch("tie_word_embeddings");
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layer = Tensors::default()
        .linear("self_attn.q_proj.linear", hidden, queries, false)
        .linear("self_attn.k_proj.linear", hidden, keys, false)
        .linear("self_attn.v_proj.linear", hidden, keys, false)
        .linear("self_attn.o_proj.linear", queries, hidden, false)
        .linear("mlp.fc1", hidden, inner.saturating_mul(2), false)
        .linear("mlp.fc2", inner, hidden, false)
        .norms(LLAMA_NORMS, hidden)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate: inner, gated: true }, &layer, |_| Span::Sliding(window));
    let class = f.architecture()?.unwrap_or_default();
    // The language model alone has no codes, no voice.
    let is_whole = !class.ends_with("ForCausalLM") && !class.ends_with("Model");
    let at = if is_whole { "decoder." } else { "" };
    let mut t = Tensors::default();
    // One more row stands for what is left out.
    t.embedding(&format!("{at}model.embed_tokens"), shape.vocab.saturating_add(1), hidden).norm(&format!("{at}model.norm"), hidden, false);
    if !class.ends_with("Model") {
        t.linear(&format!("{at}lm_head"), hidden, shape.vocab, false);
    }
    let books = f.count("num_codebooks")?;
    let small = f.part(&["depth_decoder_config"])?.with_defaults(DEPTH);
    let codes = f.count_or("audio_vocab_size", 2048)?;
    if is_whole {
        let tables = books.saturating_mul(2);
        t.repeated("embed_tokens.{}.weight", Role::Embedding, tables, &[codes.saturating_add(1), hidden]);
    }
    let (base, layer_prefix) = if is_whole { ("decoder.model", "decoder.model.layers") } else { ("model", "model.layers") };
    let decoder = Decoder { shape, base, layer_prefix, tensors: t.build(), layers, head: Head::Nothing, head_module: "lm_head", tied_by_default: false };
    let draft = Draft::from(decoder);
    if !is_whole {
        for key in ["depth_decoder_config", "audio_encoder_config"] {
            f.touch(key);
        }
        return Ok(draft);
    }
    let mut draft = draft.with(depth(&small)?);
    if class != "MoshiForConditionalGeneration" {
        draft.assumptions.push(format!("architecture `{class}` is counted as `MoshiForConditionalGeneration`"));
    }
    let [heard, spoken] = codec(&f.part(&["audio_encoder_config"])?, "audio_encoder")?;
    Ok(draft.with(heard).with(spoken))
}

/// The small decoder: every matrix once per codebook.
fn depth(f: &Fields) -> Result<crate::model::Component, ConfigError> {
    for key in ["model_type", "max_position_embeddings", "tie_word_embeddings"] {
        f.touch(key);
    }
    let shape = Shape::read(f)?;
    let (hidden, inner, books, codes) = (shape.hidden, halves(f)?, f.count("num_codebooks")?, f.count("audio_vocab_size")?);
    let window = f.count("sliding_window")?;
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let mut t = Tensors::default();
    t.tensor("self_attn.q_proj.linear.weight", Role::Query, &[books, queries, hidden])
        .tensor("self_attn.k_proj.linear.weight", Role::Key, &[books, keys, hidden])
        .tensor("self_attn.v_proj.linear.weight", Role::Value, &[books, keys, hidden])
        .tensor("self_attn.o_proj.linear.weight", Role::AttentionOutput, &[books, hidden, queries])
        .tensor("mlp.fc1.weight", Role::GateUp, &[books, inner.saturating_mul(2), hidden])
        .tensor("mlp.fc2.weight", Role::Down, &[books, hidden, inner])
        .norms(LLAMA_NORMS, hidden);
    let layer = t.build();
    let kind = Layer { mixer: Mixer::Attention(shape.attention(Span::Sliding(window))), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } };
    let layers = (0..shape.layers).map(|_| (kind, layer.clone())).collect();
    let outside = Tensors::default()
        .embedding("depth_decoder.text_embed_tokens", shape.vocab.saturating_add(1), hidden)
        .repeated("depth_decoder.embed_tokens.{}.weight", Role::Embedding, books.saturating_sub(1).max(1), &[codes.saturating_add(1), hidden])
        .tensor("depth_decoder.input_projections.weight", Role::Other, &[books, hidden, f.count("input_size")?])
        .tensor("depth_decoder.lm_heads.weight", Role::Head, &[books, codes, hidden])
        .build();
    Ok(component("depth_decoder", ComponentKind::Other, hidden, "depth_decoder.layers", outside, layers))
}

/// `KyutaiSpeechToTextConfig` of transformers 5.23.
const HEARING: &[(&str, u64)] = &[
    ("vocab_size", 4001),
    ("codebook_vocab_size", 2049),
    ("hidden_size", 2048),
    ("num_hidden_layers", 48),
    ("num_attention_heads", 32),
    ("ffn_dim", 11_264),
    ("num_codebooks", 32),
    ("sliding_window", 375),
];

/// Kyutai's transcriber: Moshi's decoder over words and codes of what it hears, all in one table.
pub(super) fn read_kyutai(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(HEARING);
    let class = f.architecture()?.unwrap_or_default();
    let mut draft = read(&f.as_class(if class.ends_with("Model") { "Model" } else { "ForCausalLM" }))?;
    let hidden = draft.decoder.shape.hidden;
    let codes = f.count("num_codebooks")?.saturating_mul(f.count("codebook_vocab_size")?);
    let rows = codes.saturating_add(draft.decoder.shape.vocab).saturating_add(1);
    for tensor in &mut draft.decoder.tensors {
        if tensor.role == Role::Embedding {
            tensor.name = "model.embed_tokens.embed_tokens.weight".into();
            tensor.shape = vec![rows, hidden];
        }
    }
    for key in ["audio_pad_token_id", "frame_size", "architectures"] {
        f.touch(key);
    }
    if class.ends_with("Model") {
        f.touch("codec_config");
        return Ok(draft);
    }
    let [heard, spoken] = codec(&f.part(&["codec_config"])?, "codec_model")?;
    Ok(draft.with(heard).with(spoken))
}
