//! EAGLE-3's draft of Llama layers (vLLM 0.33, `llama_eagle3.py`): a matrix over some layers of its target, a first layer that also
//! sees the embedding, and a head over the tokens that it drafts.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

/// How many layers of the target it sees, where its config names none.
const SEEN: u64 = 3;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let hidden = shape.hidden;
    let intermediate = f.count("intermediate_size")?;
    let (attention_bias, mlp_bias) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layer = |number: u64| {
        let inputs = if number == 0 { hidden.saturating_mul(2) } else { hidden };
        let tensors = Tensors::default()
            .linear("self_attn.q_proj", inputs, queries, attention_bias)
            .linear("self_attn.k_proj", inputs, keys, attention_bias)
            .linear("self_attn.v_proj", inputs, keys, attention_bias)
            .linear("self_attn.o_proj", queries, hidden, attention_bias)
            .gated_mlp(hidden, intermediate, mlp_bias)
            .norms(LLAMA_NORMS, hidden)
            .norms(&["hidden_norm"], hidden)
            .build();
        (Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward: FeedForward::Dense { intermediate, gated: true } }, tensors)
    };
    let layers = (0..shape.layers).map(layer).collect();
    let mut tensors = Tensors::default();
    let target = f.optional_count("target_hidden_size")?.unwrap_or(hidden);
    let eagle = f.nested(&["eagle_config"])?;
    let of_eagle = |key: &str, default: bool| eagle.as_ref().map_or(Ok(default), |eagle| eagle.flag(key, default));
    if of_eagle("use_aux_hidden_state", true)? {
        // One twice is read twice.
        let named = eagle.as_ref().map(|eagle| eagle.optional_counts("eagle_aux_hidden_state_layer_ids")).transpose()?.flatten();
        let named = named.map(|layers| layers.len() as u64).filter(|&layers| layers > 0);
        let seen = target.saturating_mul(f.optional_count("num_aux_hidden_states")?.or(named).unwrap_or(SEEN));
        tensors.linear("model.fc", seen, hidden, false);
        // One norm over all of them, or one each: as wide either way.
        let norms = [("input_norm", of_eagle("norm_before_fc", f.flag("norm_before_fc", false)?)?), ("fc_norm", f.flag("fc_norm", false)?)];
        for (name, _) in norms.into_iter().filter(|(_, is_there)| *is_there) {
            tensors.norm(&format!("model.{name}"), seen, false);
        }
    }
    let drafted = f.optional_count("draft_vocab_size")?.unwrap_or(shape.vocab);
    tensors.norm("model.norm", hidden, false).linear("lm_head", hidden, drafted, false);
    f.touch("tie_word_embeddings");
    let decoder = Decoder { tensors: tensors.build(), head: Head::Nothing, ..Decoder::llama_like(shape, layers, false) };
    let class = f.architecture()?.unwrap_or_default();
    let assumptions = vec![format!("`{class}` drafts for another model, whose embedding it takes: that is not counted here")];
    Ok(Draft { assumptions, ..decoder.into() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_draft_sees_three_layers_and_has_a_head_of_its_own() {
        let read = |class: &str, more: &str| {
            let config = format!(
                r#"{{"model_type": "llama", "architectures": ["{class}"], "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 1,
                    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": false{more}}}"#
            );
            let anatomy = crate::config::read(&config).unwrap();
            assert!(anatomy.assumptions.len() == 1 && anatomy.assumptions[0].contains("embedding"), "{:?}", anatomy.assumptions);
            anatomy.parameters().unwrap().get()
        };
        let attention = 8192 * (4096 + 2 * 1024) + 4096 * 4096;
        let draft = 3 * 4096 * 4096 + attention + 3 * 4096 * 14336 + 4 * 4096 + 32000 * 4096;
        assert_eq!(read("LlamaForCausalLMEagle3", r#", "draft_vocab_size": 32000"#), draft);
        assert_eq!(read("Eagle3LlamaForCausalLM", r#", "draft_vocab_size": 32000, "target_hidden_size": 8192"#), draft + 3 * 4096 * 4096);
        assert_eq!(read("LlamaForCausalLMEagle3", ""), draft + (128_256 - 32_000) * 4096);
        // Four layers of the target, normed before the matrix.
        let four = r#", "draft_vocab_size": 32000, "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 2, 3, 4], "norm_before_fc": true}"#;
        assert_eq!(read("LlamaForCausalLMEagle3", four), draft + 4096 * 4096 + 4 * 4096);
    }
}
