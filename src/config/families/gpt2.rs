//! GPT-2: learned positions, LayerNorms, biases everywhere, q, k and v in one matrix, tied head.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, labels, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(4 * shape.hidden);
    let positions = f.count("max_position_embeddings")?;
    let mut tensors = Tensors::default();
    if f.flag("add_cross_attention", false)? {
        tensors
            .linear("crossattention.c_attn", shape.hidden, 2 * shape.hidden, true)
            .linear("crossattention.q_attn", shape.hidden, shape.hidden, true)
            .linear("crossattention.c_proj", shape.hidden, shape.hidden, true)
            .norm("ln_cross_attn", shape.hidden, true);
    }
    let tensors = tensors
        .norm("ln_1", shape.hidden, true)
        .linear("attn.c_attn", shape.hidden, 3 * shape.hidden, true)
        .linear("attn.c_proj", shape.hidden, shape.hidden, true)
        .norm("ln_2", shape.hidden, true)
        .linear("mlp.c_fc", shape.hidden, intermediate, true)
        .linear("mlp.c_proj", intermediate, shape.hidden, true)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: false }, &tensors, |_| Span::Full);
    let tensors = Tensors::default()
        .embedding("transformer.wte", shape.vocab, shape.hidden)
        .embedding("transformer.wpe", positions, shape.hidden)
        .norm("transformer.ln_f", shape.hidden, true)
        .build();
    Ok(Decoder {
        shape,
        base: "transformer",
        layer_prefix: "transformer.h",
        tensors,
        layers,
        head: Head::ByArchitecture,
        head_module: "lm_head",
        tied_by_default: true,
    }
    .into())
}

/// `ImageGPT`: norms without biases, and a head for the colours alone, without the token that begins an image.
pub(super) fn read_imagegpt(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read(f)?;
    let decoder = &mut draft.decoder;
    let is_shift =
        |name: &str| name.ends_with("ln_1.bias") || name.ends_with("ln_2.bias") || name.ends_with("ln_f.bias") || name.ends_with("ln_cross_attn.bias");
    decoder.tensors.retain(|tensor| !is_shift(&tensor.name));
    for (_, tensors) in &mut decoder.layers {
        tensors.retain(|tensor| !is_shift(&tensor.name));
    }
    let class = f.architecture()?.unwrap_or_default();
    let (hidden, colours) = (decoder.shape.hidden, decoder.shape.vocab.saturating_sub(1).max(1));
    let head = if class.ends_with("ForImageClassification") {
        Tensors::default().linear("score", hidden, labels(f)?, false).build()
    } else if class.ends_with("Model") && !class.ends_with("ImageModeling") {
        Vec::new()
    } else {
        Tensors::default().linear("lm_head", hidden, colours, false).build()
    };
    decoder.tensors.extend(head);
    decoder.head = Head::Nothing;
    f.touch("tie_word_embeddings");
    Ok(draft)
}
