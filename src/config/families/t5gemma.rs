//! `T5Gemma`: Gemma 2 as an encoder-decoder; each half has its own sizes and embedding, the output matrix is the decoder's embedding.

use super::decoder::{Draft, Shape, Tensors, labels, spans_by_layer_types};
use super::encoder::{Sizes, encoder_component};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Keeps, Layer, Mixer, Span, Tensor};

/// `T5GemmaModuleConfig`.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 256_000),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("sliding_window", 4096),
];

const NORMS: &[&str] = &["pre_self_attn_layernorm", "post_self_attn_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"];

/// One half.
struct Half {
    shape: Shape,
    inner: u64,
    tensors: Tensors,
    layers: Vec<(Layer, Vec<Tensor>)>,
}

/// `crosses`: the width of the encoder, for the decoder.
fn half(f: &Fields, module: &str, crosses: Option<u64>) -> Result<Half, ConfigError> {
    let shape = Shape::read(f)?;
    let inner = f.count("intermediate_size")?;
    let bias = f.flag("attention_bias", false)?;
    for key in ["architectures", "cross_attention_hidden_size", "dtype", "is_decoder", "max_position_embeddings", "model_type", "tie_word_embeddings"] {
        f.touch(key);
    }
    let window = f.count("sliding_window")?;
    let spans = spans_by_layer_types(f, &shape)?;
    let mut layer = Tensors::default();
    layer.attention(&shape, bias, bias).gated_mlp(shape.hidden, inner, false).norms(NORMS, shape.hidden);
    if let Some(width) = crosses {
        let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
        layer
            .linear("cross_attn.q_proj", shape.hidden, queries, bias)
            .linear("cross_attn.k_proj", width, keys, bias)
            .linear("cross_attn.v_proj", width, keys, bias)
            .linear("cross_attn.o_proj", queries, shape.hidden, bias)
            .norms(&["pre_cross_attn_layernorm", "post_cross_attn_layernorm"], shape.hidden);
    }
    let layer = layer.build();
    let keeps = if crosses.is_some() { Keeps::Own } else { Keeps::Nothing };
    let layers = (0..usize::try_from(shape.layers).unwrap_or(0)).map(|number| {
        // Without `layer_types`: layers 0, 2, 4 ... slide.
        let span = spans.as_ref().map_or(if number.is_multiple_of(2) { Span::Sliding(window) } else { Span::Full }, |spans| spans[number]);
        let mut attention = shape.attention(span);
        attention.keeps = keeps;
        (Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } }, layer.clone())
    });
    let layers = layers.collect();
    let mut tensors = Tensors::default();
    tensors.embedding(&format!("{module}.embed_tokens"), shape.vocab, shape.hidden).norm(&format!("{module}.norm"), shape.hidden, false);
    Ok(Half { shape, inner, tensors, layers })
}

impl Half {
    fn sizes(&self) -> Sizes {
        let shape = &self.shape;
        Sizes { kv_heads: shape.kv_heads, gated: true, ..Sizes::plain(shape.hidden, self.inner, shape.layers, shape.heads, shape.head_dim, shape.vocab) }
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut encoder = half(&f.required_nested(&["encoder"])?.or_defaults(CLASS), "model.encoder", None)?;
    let class = f.architecture()?.unwrap_or_default();
    let is = |ending: &str| class.ends_with(ending);
    let is_alone = !f.flag("is_encoder_decoder", true)? || is("EncoderModel");
    let classifies = is("Classification");
    let sizes = encoder.sizes();
    if is_alone {
        if classifies {
            encoder.tensors.linear("score.out_proj", sizes.hidden, labels(f)?, true);
        }
        return Ok(sizes.model(ComponentKind::TextEncoder, "model", "model.encoder.layers", encoder.tensors.build(), encoder.layers));
    }
    let component = encoder_component(&sizes, ComponentKind::TextEncoder, "model.encoder.layers", encoder.tensors.build(), encoder.layers);
    let mut decoder = half(&f.required_nested(&["decoder"])?.or_defaults(CLASS), "model.decoder", Some(sizes.hidden))?;
    f.touch("vocab_size");
    let sizes = decoder.sizes();
    if classifies {
        decoder.tensors.linear("score.out_proj", sizes.hidden, labels(f)?, true);
    } else if !is("Model") && !f.flag("tie_word_embeddings", true)? {
        decoder.tensors.linear("lm_head.out_proj", sizes.hidden, sizes.vocab, false);
    }
    Ok(sizes.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", decoder.tensors.build(), decoder.layers).with(component))
}
