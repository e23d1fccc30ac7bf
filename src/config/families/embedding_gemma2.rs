//! `EmbeddingGemma` 2: Gemma 4's blocks in an encoder: every layer reads a projection of the words' embedding besides, and layers
//! that see everything have heads of their own; one matrix makes the embedding.

use super::decoder::{Draft, Shape, Tensors, spans_by_layer_types};
use super::{ConfigError, Fields};
use crate::config::decoder::Decoder;
use crate::model::{ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span};

/// `EmbeddingGemma2TextConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 262_144),
    ("hidden_size", 512),
    ("intermediate_size", 2048),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 4),
    ("num_key_value_heads", 2),
    ("head_dim", 256),
    ("hidden_size_per_layer_input", 512),
    ("embedding_dim", 768),
    ("sliding_window", 512),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    text.touch("model_type");
    f.touch("architectures");
    let mut draft = read_text(&text)?;
    for tensor in &mut draft.decoder.tensors {
        tensor.name.insert_str(0, "language_model.");
    }
    (draft.decoder.base, draft.decoder.layer_prefix) = ("language_model", "language_model.layers");
    Ok(draft)
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    f.touch("architectures");
    let shape = Shape::read(f)?;
    let (hidden, intermediate, narrow) = (shape.hidden, f.count("intermediate_size")?, f.count("hidden_size_per_layer_input")?);
    let bias = f.flag("attention_bias", false)?;
    let window = f.count("sliding_window")?;
    let pattern = f.count_or("sliding_window_pattern", 6)?;
    let mut spans = match spans_by_layer_types(f, &shape)? {
        Some(spans) => spans,
        None => (1..=shape.layers).map(|number| if number.is_multiple_of(pattern) { Span::Full } else { Span::Sliding(window) }).collect(),
    };
    // The last layer always sees everything, whatever is said of it.
    if let Some(last) = spans.last_mut() {
        *last = Span::Full;
    }
    // Heads of a layer that sees everything, where nothing is said of single layers; null says that all are alike.
    let global = (f.count_or("num_global_key_value_heads", 1)?, f.count_or("global_head_dim", 512)?);
    let says_of_layers = f.has("per_layer_config");
    for size in ["num_global_key_value_heads", "global_head_dim"].iter().filter(|_| says_of_layers) {
        f.not_counted(size);
    }
    let own = f.nested(&["per_layer_config"])?;
    let layers = spans.iter().enumerate().map(|(number, &span)| {
        // By number, padded to equal lengths.
        let place = own.as_ref().map(|own| own.nested(&[&format!("{number:02}"), &format!("{number:03}"), &number.to_string()])).transpose()?.flatten();
        let (kv_heads, head_dim) = if span == Span::Full && !says_of_layers { global } else { (shape.kv_heads, shape.head_dim) };
        let of =
            |key: &str, default: u64| Ok::<u64, ConfigError>(place.as_ref().map(|place| place.optional_count(key)).transpose()?.flatten().unwrap_or(default));
        let heads = (of("num_attention_heads", shape.heads)?, of("num_key_value_heads", kv_heads)?, Some(of("head_dim", head_dim)?));
        let shape = Shape::checked(f, hidden, shape.layers, shape.vocab, heads)?;
        let mut t = Tensors::default();
        t.attention(&shape, bias, bias)
            .norms(&["self_attn.q_norm", "self_attn.k_norm"], shape.head_dim)
            .gated_mlp(hidden, intermediate, false)
            .norms(&["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"], hidden)
            .linear("ple_block.per_layer_input_gate", hidden, narrow, false)
            .linear("ple_block.per_layer_projection", narrow, hidden, false)
            .norm("ple_block.post_per_layer_input_norm", hidden, false);
        let mut attention = shape.attention(span);
        attention.keeps = Keeps::Nothing;
        Ok((Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate, gated: true } }, t.build()))
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    let mut t = Tensors::default();
    t.embedding("embed_tokens", shape.vocab, hidden)
        .norm("norm", hidden, false)
        .linear("ple.per_layer_model_projection", hidden, shape.layers.saturating_mul(narrow), false)
        .norm("ple.per_layer_projection_norm", narrow, false)
        .tensor("embedding_projection.weight", Role::Other, &[f.count("embedding_dim")?, hidden]);
    let decoder = Decoder {
        shape,
        base: "",
        layer_prefix: "layers",
        tensors: t.build(),
        layers,
        head: super::decoder::Head::Nothing,
        head_module: "lm_head",
        tied_by_default: true,
    };
    Ok(Draft { kind: ComponentKind::TextEncoder, ..Draft::from(decoder) })
}
