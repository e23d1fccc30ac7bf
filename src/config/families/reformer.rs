//! Reformer: layers that attend to a neighbourhood or to a bucket of similar tokens (there with one matrix for queries and keys),
//! positions from the axes of a grid; layers are reversible, so what stands above them is twice as wide.

use super::decoder::{Draft, Tensors, labels};
use super::encoder::{Sizes, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (hidden, heads, inner) = (or("hidden_size", 256)?, or("num_attention_heads", 12)?, or("feed_forward_size", 512)?);
    let (head_dim, vocab) = (or("attention_head_size", 64)?, or("vocab_size", 320)?);
    let kinds = f.optional_texts("attn_layers")?.unwrap_or_else(|| ["local", "lsh"].repeat(3).into_iter().map(str::to_owned).collect());
    if kinds.len() > 10_000 {
        return Err(f.impossible("attn_layers", "no model has more than 10,000 layers"));
    }
    let layers = layer_count(f, "num_hidden_layers", kinds.len() as u64)?;
    if layers != kinds.len() as u64 || kinds.iter().any(|kind| kind != "local" && kind != "lsh") {
        return Err(f.impossible("attn_layers", "it must name `local` or `lsh` for each layer"));
    }
    for key in ["local_attn_chunk_length", "lsh_attn_chunk_length", "num_buckets", "num_hashes", "hash_seed", "axial_norm_std", "chunk_size_lm_head"] {
        f.touch(key);
    }
    for key in ["local_num_chunks_after", "local_num_chunks_before", "lsh_num_chunks_after", "lsh_num_chunks_before", "tie_word_embeddings"] {
        f.touch(key);
    }
    for key in ["local_attention_probs_dropout_prob", "lsh_attention_probs_dropout_prob"] {
        f.touch(key);
    }
    let sizes = Sizes::plain(hidden, inner, layers, heads, head_dim, vocab);
    let class = f.architecture()?.unwrap_or_default();
    let at = if class == "ReformerModel" { "" } else { "reformer." };
    let mut t = Tensors::default();
    t.embedding(&format!("{at}embeddings.word_embeddings"), vocab, hidden);
    if f.flag("axial_pos_embds", true)? {
        let sides = f.counts_or("axial_pos_shape", &[64, 64])?;
        let widths = f.counts_or("axial_pos_embds_dim", &[64, 192])?;
        if sides.len() != widths.len() || widths.iter().fold(0, |sum: u64, &width| sum.saturating_add(width)) != hidden {
            return Err(f.impossible("axial_pos_embds_dim", "it must have a width for each axis of `axial_pos_shape`, which add up to `hidden_size`"));
        }
        for (number, (&side, &width)) in sides.iter().zip(&widths).enumerate() {
            t.tensor(&format!("{at}embeddings.position_embeddings.weights.{number}"), Role::Position, &[side, width]);
        }
        f.touch("max_position_embeddings");
    } else {
        t.embedding(&format!("{at}embeddings.position_embeddings.embedding"), or("max_position_embeddings", 4096)?, hidden);
        f.touch("axial_pos_shape");
        f.touch("axial_pos_embds_dim");
    }
    let wide = hidden.saturating_mul(2);
    t.norm(&format!("{at}encoder.layer_norm"), wide, true);
    let mut assumptions = Vec::new();
    match class.as_str() {
        "ReformerModel" => {}
        "ReformerForSequenceClassification" => {
            t.linear("classifier.dense", wide, hidden, true).linear("classifier.out_proj", hidden, labels(f)?, true);
        }
        "ReformerForQuestionAnswering" => _ = t.linear("qa_outputs", wide, labels(f)?, true),
        // Never tied: it is as wide as both halves.
        _ => {
            t.linear("lm_head.decoder", wide, vocab, false).tensor("lm_head.bias", Role::Head, &[vocab]);
            if !["ReformerForMaskedLM", "ReformerModelWithLMHead"].contains(&class.as_str()) {
                assumptions.push("counted with a language-model head".to_owned());
            }
        }
    }
    let is_decoder = f.flag("is_decoder", false)? || class == "ReformerModelWithLMHead";
    let (kind, keeps) = if is_decoder { (ComponentKind::TextDecoder, Keeps::Own) } else { (ComponentKind::TextEncoder, Keeps::Nothing) };
    let all = heads.saturating_mul(head_dim);
    let layers = kinds.iter().map(|kind| {
        let mut t = Tensors::default();
        t.norm("attention.layer_norm", hidden, true);
        if kind == "lsh" {
            t.linear("attention.self_attention.query_key", hidden, all, false);
        } else {
            t.linear("attention.self_attention.query", hidden, all, false).linear("attention.self_attention.key", hidden, all, false);
        }
        t.linear("attention.self_attention.value", hidden, all, false)
            .linear("attention.output.dense", all, hidden, false)
            .norm("feed_forward.layer_norm", hidden, true)
            .linear("feed_forward.dense.dense", hidden, inner, true)
            .linear("feed_forward.output.dense", inner, hidden, true);
        (sizes.layer(Span::Full, keeps), t.build())
    });
    let layers = layers.collect();
    let (base, layer_prefix) = if at.is_empty() { ("", "encoder.layers") } else { ("reformer", "reformer.encoder.layers") };
    Ok(Draft { assumptions, ..sizes.model(kind, base, layer_prefix, t.build(), layers) })
}
