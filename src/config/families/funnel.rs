//! Funnel: blocks of layers over fewer and fewer positions, with relative positions, and a short decoder back to all of them where the
//! task is per token.

use super::decoder::{Draft, Tensors, labels};
use super::encoder::{Sizes, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Span, Tensor};

/// `FunnelConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[("vocab_size", 30_522), ("hidden_size", 768), ("num_attention_heads", 12), ("d_head", 64), ("d_inner", 3072)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    for key in ["attention_type", "pool_q_only", "pooling_type", "separate_cls", "truncate_seq", "max_position_embeddings", "type_vocab_size"] {
        f.touch(key);
    }
    let blocks = f.counts_or("block_sizes", &[4, 4, 4])?;
    let repeats = f.optional_counts("block_repeats")?.unwrap_or_else(|| vec![1; blocks.len()]);
    if repeats.len() != blocks.len() {
        return Err(f.impossible("block_repeats", "it must have one entry per block of `block_sizes`"));
    }
    if blocks.is_empty() || blocks.iter().chain(&repeats).any(|&n| n == 0 || n > 1000) || blocks.len() > 64 {
        return Err(f.impossible("block_sizes", "it must be a list of at most 64 sizes from 1 to 1000"));
    }
    // A block's layers may run several times; their weights are there once.
    let layers = blocks.iter().sum();
    let (hidden, heads, head, inner) = (f.count("hidden_size")?, f.count("num_attention_heads")?, f.count("d_head")?, f.count("d_inner")?);
    let vocab = f.count("vocab_size")?;
    let sizes = Sizes::plain(hidden, inner, layers, heads, head, vocab);
    let tensors = layer(&sizes);
    let class = f.architecture()?.unwrap_or_default();
    let is = |ending: &str| class.ends_with(ending);
    // Those that answer once per text need no decoder.
    let pools = is("BaseModel") || is("ForSequenceClassification") || is("ForMultipleChoice");
    let mut top = Tensors::default();
    top.embedding("funnel.embeddings.word_embeddings", vocab, hidden).norm("funnel.embeddings.layer_norm", hidden, true);
    let depth = if f.has("num_decoder_layers") { f.count_or("num_decoder_layers", 2)? } else { 2 };
    layer_count(f, "num_decoder_layers", 2)?;
    if !pools {
        for number in 0..depth {
            top.nested(&format!("funnel.decoder.layers.{number}"), tensors.clone());
        }
    }
    match class.rsplit_once("For").map_or("", |(_, task)| task) {
        "MaskedLM" => {
            top.tensor("lm_head.bias", Role::Head, &[vocab]);
            if !f.flag("tie_word_embeddings", true)? {
                top.tensor("lm_head.weight", Role::Head, &[vocab, hidden]);
            }
        }
        "PreTraining" => {
            _ = top.linear("discriminator_predictions.dense", hidden, hidden, true).linear("discriminator_predictions.dense_prediction", hidden, 1, true);
        }
        "SequenceClassification" => _ = top.linear("classifier.linear_hidden", hidden, hidden, true).linear("classifier.linear_out", hidden, labels(f)?, true),
        "MultipleChoice" => _ = top.linear("classifier.linear_hidden", hidden, hidden, true).linear("classifier.linear_out", hidden, 1, true),
        "TokenClassification" => _ = top.linear("classifier", hidden, labels(f)?, true),
        "QuestionAnswering" => _ = top.linear("qa_outputs", hidden, labels(f)?, true),
        _ => {}
    }
    f.flag("tie_word_embeddings", true)?;
    let layers = (0..layers).map(|_| (sizes.layer(Span::Full, Keeps::Nothing), tensors.clone())).collect();
    Ok(sizes.model(ComponentKind::TextEncoder, "funnel", "funnel.encoder.blocks", top.build(), layers))
}

fn layer(sizes: &Sizes) -> Vec<Tensor> {
    let (hidden, width) = (sizes.hidden, sizes.heads.saturating_mul(sizes.head_dim));
    let mut t = Tensors::default();
    for name in ["r_w_bias", "r_r_bias", "r_s_bias"] {
        t.tensor(&format!("attention.{name}"), Role::Position, &[sizes.heads, sizes.head_dim]);
    }
    t.tensor("attention.r_kernel", Role::Position, &[hidden, sizes.heads, sizes.head_dim]).tensor(
        "attention.seg_embed",
        Role::Position,
        &[2, sizes.heads, sizes.head_dim],
    );
    for (name, role, bias) in [("q_head", Role::Query, false), ("k_head", Role::Key, true), ("v_head", Role::Value, true)] {
        t.tensor(&format!("attention.{name}.weight"), role, &[width, hidden]);
        if bias {
            t.tensor(&format!("attention.{name}.bias"), role, &[width]);
        }
    }
    t.tensor("attention.post_proj.weight", Role::AttentionOutput, &[hidden, width]).tensor("attention.post_proj.bias", Role::AttentionOutput, &[hidden]);
    t.norm("attention.layer_norm", hidden, true)
        .tensor("ffn.linear_1.weight", Role::Up, &[sizes.inner, hidden])
        .tensor("ffn.linear_1.bias", Role::Up, &[sizes.inner])
        .tensor("ffn.linear_2.weight", Role::Down, &[hidden, sizes.inner])
        .tensor("ffn.linear_2.bias", Role::Down, &[hidden])
        .norm("ffn.layer_norm", hidden, true)
        .build()
}
