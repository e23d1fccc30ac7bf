//! Ouro: its layers, with norms before and after each block, are passed several times; every pass keeps keys and values of its own
//! (vLLM's `ouro.py`).

use super::decoder::{Decoder, Draft, Shape, Tensors, qwen_spans};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let stated = Shape::read(f)?;
    let passes = f.count_or("total_ut_steps", 4)?;
    let layers = stated.layers.saturating_mul(passes);
    if layers > Shape::MAX_LAYERS {
        return Err(f.impossible("total_ut_steps", "no model passes more than 10,000 layers"));
    }
    // When a token may leave early.
    for key in ["early_exit_threshold", "early_exit_step"] {
        f.touch(key);
    }
    let spans = qwen_spans(f, &stated)?;
    let (hidden, intermediate) = (stated.hidden, f.count("intermediate_size")?);
    let tensors = Tensors::default()
        .attention(&stated, false, false)
        .gated_mlp(hidden, intermediate, false)
        .norms(&["input_layernorm", "input_layernorm_2", "post_attention_layernorm", "post_attention_layernorm_2"], hidden)
        .build();
    let stored = spans.len();
    let layer = |number: usize| {
        let span = spans.get(number % stored.max(1)).copied().unwrap_or(Span::Full);
        let layer = Layer { mixer: Mixer::Attention(stated.attention(span)), feed_forward: FeedForward::Dense { intermediate, gated: true } };
        // The weights are those of the first pass.
        (layer, if number < stored { tensors.clone() } else { Vec::new() })
    };
    let layers = (0..usize::try_from(layers).unwrap_or(0)).map(layer).collect();
    let mut decoder = Decoder::llama_like(stated, layers, false);
    decoder.tensors.extend(Tensors::default().linear("model.early_exit_gate", hidden, 1, true).build());
    Ok(decoder.into())
}

#[cfg(test)]
mod tests {
    /// Ouro-1.4B: each of four passes keeps 2 × 2,048 elements of a token in each of 24 layers.
    #[test]
    fn each_pass_keeps_its_own() {
        let config = r#"{"model_type": "ouro", "architectures": ["OuroForCausalLM"], "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 49152, "total_ut_steps": 4, "tie_word_embeddings": false}"#;
        let anatomy = crate::config::read(config).unwrap();
        let kept: u64 = anatomy.components[0].layers.iter().map(|run| run.count * run.layer.mixer.cache_elements_per_token()).sum();
        assert_eq!((kept, anatomy.assumptions.len()), (4 * 24 * 2 * 2048, 0));
        // Its weights are there once: 24 layers of 51,388,416, two tables, a norm and a gate.
        assert_eq!(anatomy.parameters().unwrap().get(), 24 * 51_388_416 + 2 * 49_152 * 2048 + 2048 + 2049);
    }
}
