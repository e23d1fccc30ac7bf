//! ChatGLM: the first with LayerNorms, biases everywhere and a tied head; from the second on (GLM-4-9B too) with grouped keys
//! and values, RMSNorms, gate and up in one matrix and a head of its own. Its class is called a bare model but has the head.

use super::classic::{Measured, Names, gpt_like};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields};

const FIRST: Names = Names { base: "transformer", layers: "transformer.layers", head: "lm_head" };
const SECOND: Names = Names { base: "transformer", layers: "transformer.encoder.layers", head: "transformer.output_layer" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = if f.has("inner_hidden_size") || f.has("position_encoding_2d") { read_first(f)? } else { read_second(f)? };
    if f.has("vision_config") {
        draft.assumptions.push("the vision tower of this ChatGLM is not counted: only its text decoder is understood".to_owned());
    }
    if f.architecture()?.is_none_or(|class| !class.ends_with("Classification")) {
        draft.decoder.head = match draft.decoder.head {
            Head::ByArchitectureWithBias => Head::LanguageWithBias,
            _ => Head::Language,
        };
    }
    Ok(draft)
}

fn read_first(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("position_encoding_2d");
    let shape = Shape::read(f)?;
    let intermediate = f.optional_count("inner_hidden_size")?.unwrap_or(4 * shape.hidden);
    let layer = Tensors::default()
        .norm("input_layernorm", shape.hidden, true)
        .linear("attention.query_key_value", shape.hidden, 3 * shape.hidden, true)
        .linear("attention.dense", shape.hidden, shape.hidden, true)
        .norm("post_attention_layernorm", shape.hidden, true)
        .linear("mlp.dense_h_to_4h", shape.hidden, intermediate, true)
        .linear("mlp.dense_4h_to_h", intermediate, shape.hidden, true)
        .build();
    let outside =
        Tensors::default().embedding("transformer.word_embeddings", shape.vocab, shape.hidden).norm("transformer.final_layernorm", shape.hidden, true).build();
    Ok(gpt_like(&FIRST, Measured { shape, intermediate, assumptions: Vec::new() }, false, outside, &layer, true))
}

fn read_second(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, layers, heads) = (f.count("hidden_size")?, f.count("num_hidden_layers")?, f.count("num_attention_heads")?);
    let vocab = match f.optional_count("padded_vocab_size")? {
        Some(vocab) => vocab,
        None => f.count("vocab_size")?,
    };
    f.touch("vocab_size");
    let groups = f.optional_count("num_key_value_heads")?.unwrap_or(1);
    let kv_heads = if f.flag("multi_query_attention", false)? { groups } else { heads };
    let shape = Shape::checked(f, hidden, layers, vocab, (heads, kv_heads, f.optional_count("kv_channels")?.or(Some(128))))?;
    let intermediate = f.optional_count("ffn_hidden_size")?.unwrap_or(13_696);
    let bias = f.flag("add_bias_linear", false)?;
    let norm_bias = !f.flag("rmsnorm", true)?;
    let qkv_bias = f.flag("add_qkv_bias", false)? || bias;
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .norm("input_layernorm", hidden, norm_bias)
        .linear("self_attention.query_key_value", hidden, queries + 2 * shape.kv_heads * shape.head_dim, qkv_bias)
        .linear("self_attention.dense", queries, hidden, bias)
        .norm("post_attention_layernorm", hidden, norm_bias)
        .linear("mlp.dense_h_to_4h", hidden, 2 * intermediate, bias)
        .linear("mlp.dense_4h_to_h", intermediate, hidden, bias)
        .build();
    let mut outside = Tensors::default();
    outside.embedding("transformer.embedding.word_embeddings", vocab, hidden);
    if f.flag("post_layer_norm", true)? {
        outside.norm("transformer.encoder.final_layernorm", hidden, norm_bias);
    }
    let mut draft = gpt_like(&SECOND, Measured { shape, intermediate, assumptions: Vec::new() }, true, outside.build(), &layer, false);
    if bias {
        draft.decoder.head = Head::ByArchitectureWithBias;
    }
    Ok(draft)
}
