//! MiMo-V2-Flash: keys of 192 and values of 128 elements, more key-value heads and attention sinks in sliding layers.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, spans_by_layer_types};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, sparse_layers};
use super::{ConfigError, Fields};
use crate::model::{Attention, Keeps, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(192), Some(4))?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 256, active: 8, width: 2048, shared: 0 })?;
    let bias = f.flag("attention_bias", false)?;
    let value_dim = f.count_or("v_head_dim", 128)?;
    // The class counts the token itself beside those of `sliding_window_size`.
    let window = f.optional_count("sliding_window_size")?.map(|size| size + 1).or(f.optional_count("sliding_window")?).unwrap_or(129);
    // The window once more.
    f.touch("attention_chunk_size");
    let spans = spans(f, &shape, window)?;
    let full = Attention { heads: shape.heads, kv_heads: shape.kv_heads, key_dim: shape.head_dim, value_dim, span: Span::Full, keeps: Keeps::Own };
    let sliding = Attention {
        heads: f.optional_count("swa_num_attention_heads")?.unwrap_or(full.heads),
        kv_heads: f.optional_count("swa_num_key_value_heads")?.unwrap_or(full.kv_heads.saturating_mul(2)),
        key_dim: f.optional_count("swa_head_dim")?.unwrap_or(full.key_dim),
        value_dim: f.optional_count("swa_v_head_dim")?.unwrap_or(value_dim),
        ..full
    };
    let sinks = (f.flag("add_full_attention_sink_bias", false)?, f.flag("add_swa_attention_sink_bias", true)?);
    let layers = dense_or_sparse(f, &shape, &sparse, &mixture, LLAMA_NORMS, |number, tensors| {
        let span = spans[number];
        let (one, has_sinks) = if span == Span::Full { (full, sinks.0) } else { (Attention { span, ..sliding }, sinks.1) };
        tensors
            .linear("self_attn.q_proj", shape.hidden, one.heads.saturating_mul(one.key_dim), bias)
            .linear("self_attn.k_proj", shape.hidden, one.kv_heads.saturating_mul(one.key_dim), bias)
            .linear("self_attn.v_proj", shape.hidden, one.kv_heads.saturating_mul(one.value_dim), bias)
            .linear("self_attn.o_proj", one.heads.saturating_mul(one.value_dim), shape.hidden, false);
        if has_sinks {
            tensors.tensor("self_attn.attention_sink_bias", Role::Other, &[one.heads]);
        }
        Ok(Mixer::Attention(one))
    })?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// `layer_types`, or `hybrid_layer_pattern` (1 slides), or five sliding layers to one full, the first full too.
fn spans(f: &Fields, shape: &Shape, window: u64) -> Result<Vec<Span>, ConfigError> {
    let pattern = f.optional_counts("hybrid_layer_pattern")?;
    if let Some(spans) = spans_by_layer_types(f, shape)? {
        return Ok(spans.into_iter().map(|span| if span == Span::Full { span } else { Span::Sliding(window) }).collect());
    }
    let slides: Vec<bool> = match pattern {
        Some(pattern) if pattern.len() as u64 != shape.layers => {
            return Err(f.impossible("hybrid_layer_pattern", "it must have one entry per layer (`num_hidden_layers`)"));
        }
        Some(pattern) => pattern.into_iter().map(|one| one != 0).collect(),
        None => (0..shape.layers).map(|number| number > 0 && !(number + 1).is_multiple_of(6)).collect(),
    };
    Ok(slides.into_iter().map(|slides| if slides { Span::Sliding(window) } else { Span::Full }).collect())
}
