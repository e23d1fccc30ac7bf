//! CPM-Ant: no bias anywhere, a gate, learned biases by segment and distance, prompts in the embedding, a head of its own.

use super::classic::{Measured, Names, gpt_like};
use super::decoder::{Draft, Head, Shape, Tensors, has_language_head};
use super::{ConfigError, Fields};
use crate::model::Role;

const NAMES: Names = Names { base: "cpmant", layers: "cpmant.encoder.layers", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, layers, vocab) = (f.count("hidden_size")?, f.count("num_hidden_layers")?, f.count("vocab_size")?);
    let heads = f.count("num_attention_heads")?;
    let shape = Shape::checked(f, hidden, layers, vocab, (heads, heads, f.optional_count("dim_head")?.or(Some(128))))?;
    let intermediate = f.count_or("dim_ff", 10_240)?;
    let small = |key: &'static str, default: u64| match f.count_or(key, default)? {
        count if count <= 1 << 20 => Ok(count),
        _ => Err(f.impossible(key, "no model has so many")),
    };
    let (types, length, segments) = (small("prompt_types", 32)?, small("prompt_length", 32)?, small("segment_types", 32)?);
    let buckets = small("position_bias_num_buckets", 512)?;
    let width = heads * shape.head_dim;
    let layer = Tensors::default()
        .tensor("self_att.layernorm_before_attention.weight", Role::Norm, &[hidden])
        .tensor("self_att.self_attention.project_q.weight", Role::Query, &[width, hidden])
        .tensor("self_att.self_attention.project_k.weight", Role::Key, &[width, hidden])
        .tensor("self_att.self_attention.project_v.weight", Role::Value, &[width, hidden])
        .tensor("self_att.self_attention.attention_out.weight", Role::AttentionOutput, &[hidden, width])
        .tensor("ffn.layernorm_before_ffn.weight", Role::Norm, &[hidden])
        .tensor("ffn.ffn.w_in.w_0.weight", Role::Gate, &[intermediate, hidden])
        .tensor("ffn.ffn.w_in.w_1.weight", Role::Up, &[intermediate, hidden])
        .tensor("ffn.ffn.w_out.weight", Role::Down, &[hidden, intermediate])
        .build();
    let outside = Tensors::default()
        .tensor("cpmant.input_embedding.weight", Role::Embedding, &[vocab + types * length, hidden])
        .tensor("cpmant.segment_embedding.weight", Role::Embedding, &[segments, hidden])
        .tensor("cpmant.position_bias.relative_attention_bias", Role::Position, &[segments * segments + buckets, heads])
        .tensor("cpmant.encoder.output_layernorm.weight", Role::Norm, &[hidden])
        .build();
    f.touch("tie_word_embeddings");
    f.touch("position_bias_max_distance");
    let mut draft = gpt_like(&NAMES, Measured { shape, intermediate }, true, outside, &layer, false);
    draft.decoder.head = Head::Nothing;
    if has_language_head(f, &mut draft.assumptions)? {
        // Narrower than the embedding, so never tied to it.
        draft.decoder.tensors.extend(Tensors::default().linear("lm_head", hidden, vocab, false).build());
    }
    Ok(draft)
}
