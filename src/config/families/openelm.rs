//! OpenELM: query heads, key and value heads and the feed-forward's width differ from layer to layer; the head is the embedding.

use super::classic::{Names, with_layers};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

const NAMES: Names = Names { base: "transformer", layers: "transformer.layers", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, vocab, head_dim) = (f.count("model_dim")?, f.count("vocab_size")?, f.count("head_dim")?);
    let layers = f.count("num_transformer_layers")?;
    let gated = f.flag("ffn_with_glu", true)?;
    let normed = f.flag("normalize_qk_projections", true)?;
    let divisor = f.count_or("ffn_dim_divisor", 256)?;
    let (queries, keys) = (per_layer(f, "num_query_heads", layers)?, per_layer(f, "num_kv_heads", layers)?);
    let widths = widths(f, hidden, layers, divisor)?;
    let mut all = Vec::new();
    let mut first = None;
    for ((heads, kv_heads), intermediate) in queries.into_iter().zip(keys).zip(widths) {
        if heads == 0 || kv_heads == 0 {
            return Err(f.impossible("num_query_heads", "no layer can be without heads"));
        }
        let shape = Shape::checked(f, hidden, layers, vocab, (heads, kv_heads, Some(head_dim)))?;
        let mut tensors = Tensors::default();
        tensors
            .linear("attn.qkv_proj", hidden, (heads + 2 * kv_heads) * head_dim, false)
            .linear("attn.out_proj", heads * head_dim, hidden, false)
            .linear("ffn.proj_1", hidden, if gated { 2 * intermediate } else { intermediate }, false)
            .linear("ffn.proj_2", intermediate, hidden, false)
            .norms(&["attn_norm", "ffn_norm"], hidden);
        if normed {
            tensors.norms(&["attn.q_norm", "attn.k_norm"], head_dim);
        }
        let feed_forward = FeedForward::Dense { intermediate, gated };
        all.push((Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, tensors.build()));
        first.get_or_insert(shape);
    }
    let shape = first.ok_or_else(|| f.impossible("num_transformer_layers", "there must be layers"))?;
    let outside = Tensors::default().embedding("transformer.token_embeddings", vocab, hidden).norm("transformer.norm", hidden, false).build();
    let mut draft = with_layers(&NAMES, shape, outside, all, false);
    f.touch("tie_word_embeddings");
    draft.decoder.head = if f.flag("share_input_output_layers", true)? { Head::Nothing } else { Head::Language };
    Ok(draft)
}

fn per_layer(f: &Fields, key: &'static str, layers: u64) -> Result<Vec<u64>, ConfigError> {
    let list = f.optional_counts(key)?.ok_or_else(|| f.missing(key))?;
    if list.len() as u64 == layers { Ok(list) } else { Err(f.impossible(key, "it must have one entry per layer (`num_transformer_layers`)")) }
}

/// Each layer's multiplier times the hidden size, rounded to the divisor as the class does it.
fn widths(f: &Fields, hidden: u64, layers: u64, divisor: u64) -> Result<Vec<u64>, ConfigError> {
    const KEY: &str = "ffn_multipliers";
    const WHY: &str = "it must be a list of one number between 0 and 1000 per layer (`num_transformer_layers`)";
    let list = f.raw(KEY).and_then(serde_json::Value::as_array).filter(|list| list.len() as u64 == layers).ok_or_else(|| f.impossible(KEY, WHY))?;
    let width = |multiplier: &serde_json::Value| {
        let multiplier = multiplier.as_f64().filter(|m| (0.0..=1000.0).contains(m)).ok_or_else(|| f.impossible(KEY, WHY))?;
        // Both are far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rounded = |exact: f64| {
            let steps = ((exact + divisor as f64 / 2.0) as u64 / divisor * divisor).max(divisor);
            if (steps as f64) < 0.9 * exact { steps + divisor } else { steps }
        };
        #[allow(clippy::cast_precision_loss)]
        let exact = multiplier * hidden as f64;
        Ok(rounded(exact))
    };
    list.iter().map(width).collect()
}
