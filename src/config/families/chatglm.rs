//! ChatGLM: the first with LayerNorms, biases everywhere and a tied head; from the second on (GLM-4-9B too) with grouped keys
//! and values, RMSNorms, gate and up in one matrix and a head of its own. Its class is called a bare model but has the head.

use super::classic::{Measured, Names, gpt_like};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields, cogvlm, towers};

/// The inner width where a file gives none.
const FEED_FORWARD: u64 = 13_696;

const FIRST: Names = Names { base: "transformer", layers: "transformer.layers", head: "lm_head" };
const SECOND: Names = Names { base: "transformer", layers: "transformer.encoder.layers", head: "transformer.output_layer" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = if f.has("inner_hidden_size") || f.has("position_encoding_2d") { read_first(f)? } else { read_second(f)? };
    if let Some(vision) = f.nested(&["vision_config"])? {
        // GLM-4V-9B: CogVLM's tower, whose features a convolution merges two by two and widens.
        let (tower, width) = cogvlm::tower(&vision, "transformer.vision")?;
        let hidden = draft.decoder.shape.hidden;
        let mut t = Tensors::default();
        t.convolution("transformer.vision.conv", &[hidden, width, 2, 2], true);
        cogvlm::gated_map(&mut t, "transformer.vision", hidden, hidden, f.count_or("ffn_hidden_size", FEED_FORWARD)?);
        for token in ["boi_token_id", "eoi_token_id"] {
            f.touch(token);
        }
        draft = draft.with(tower).with(towers::projector(hidden, t.build()));
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
    Ok(gpt_like(&FIRST, Measured { shape, intermediate }, false, outside, &layer, true))
}

fn read_second(f: &Fields) -> Result<Draft, ConfigError> {
    let (hidden, layers, heads) = (f.count("hidden_size")?, f.count("num_hidden_layers")?, f.count("num_attention_heads")?);
    let vocab = match f.optional_count("padded_vocab_size")? {
        Some(vocab) => vocab,
        None => f.count("vocab_size")?,
    };
    f.touch("vocab_size");
    let groups = f.count_or("num_key_value_heads", 1)?;
    let kv_heads = if f.flag("multi_query_attention", false)? { groups } else { heads };
    let shape = Shape::checked(f, hidden, layers, vocab, (heads, kv_heads, f.optional_count("kv_channels")?.or(Some(128))))?;
    let intermediate = f.count_or("ffn_hidden_size", FEED_FORWARD)?;
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
    let mut draft = gpt_like(&SECOND, Measured { shape, intermediate }, true, outside.build(), &layer, false);
    if bias {
        draft.decoder.head = Head::ByArchitectureWithBias;
    }
    Ok(draft)
}

#[cfg(test)]
mod tests {
    #[test]
    fn glm_4v_9b_has_the_tower_of_cogvlm() {
        let config = r#"{"model_type": "chatglm", "architectures": ["ChatGLMModel"], "hidden_size": 4096, "num_layers": 40, "num_attention_heads": 32,
            "multi_query_attention": true, "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13696, "padded_vocab_size": 151552,
            "add_qkv_bias": true, "add_bias_linear": false, "post_layer_norm": true, "rmsnorm": true, "vision_config": {"hidden_size": 1792,
            "intermediate_size": 15360, "num_heads": 16, "num_hidden_layers": 63, "num_positions": 6401, "patch_size": 14, "in_channels": 3,
            "image_size": 1120, "scaling_factor": 8, "dropout_prob": 0.0}}"#;
        let anatomy = crate::config::read(config).unwrap();
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
        // 9,399,951,360 of GLM-4-9B-Chat, and the tower as vLLM's glm4v.py builds it: 13.9 B as published.
        assert_eq!(anatomy.parameters().unwrap().get(), 9_399_951_360 + 4_506_369_536);
    }
}
