//! `T5Gemma` 2: Gemma 3 as an encoder-decoder that sees: one embedding for both halves, a decoder that attends to itself and to the
//! encoder with the same matrices, `SigLIP` before the encoder.

use super::decoder::{Draft, Shape, Tensors, component, labels};
use super::encoder::{Sizes, encoder_component};
use super::towers::siglip;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// `T5Gemma2TextConfig` and `T5Gemma2DecoderConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("sliding_window", 4096),
];

const NORMS: &[&str] = &["pre_self_attn_layernorm", "post_self_attn_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"];

/// Layers with their tensors.
type Layers = Vec<(Layer, Vec<Tensor>)>;

/// One half: its sizes, and its layers.
fn half(f: &Fields, keeps: Keeps) -> Result<(Sizes, Layers), ConfigError> {
    let shape = Shape::read(f)?;
    let inner = f.count("intermediate_size")?;
    let bias = f.flag("attention_bias", false)?;
    for key in ["architectures", "dtype", "is_decoder", "max_position_embeddings", "model_type", "tie_word_embeddings"] {
        f.touch(key);
    }
    let tensors =
        Tensors::default().attention(&shape, bias, bias).query_key_norm(&shape).gated_mlp(shape.hidden, inner, false).norms(NORMS, shape.hidden).build();
    let window = f.count("sliding_window")?;
    let period = f.count_or("sliding_window_pattern", 6)?;
    f.touch("_sliding_window_pattern");
    let spans = super::classic::spans_with(f, &shape, Some(window), |number| !(number + 1).is_multiple_of(period))?;
    let layer = |span: Span| {
        let mut attention = shape.attention(span);
        attention.keeps = keeps;
        (Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } }, tensors.clone())
    };
    let sizes = Sizes { kv_heads: shape.kv_heads, gated: true, ..Sizes::plain(shape.hidden, inner, shape.layers, shape.heads, shape.head_dim, shape.vocab) };
    Ok((sizes, spans.into_iter().map(layer).collect()))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let part = |f: &Fields, key: &'static str| f.part(&[key]);
    let seeing = part(f, "encoder")?;
    let (sizes, layers) = half(&part(&seeing, "text_config")?.with_defaults(CLASS), Keeps::Nothing)?;
    let hidden = sizes.hidden;
    let tensors = Tensors::default()
        .embedding("model.encoder.text_model.embed_tokens", sizes.vocab, hidden)
        .tensor("model.encoder.text_model.embed_tokens.eoi_embedding", Role::Embedding, &[hidden])
        .norm("model.encoder.text_model.norm", hidden, false)
        .build();
    let encoder = encoder_component(&sizes, ComponentKind::TextEncoder, "model.encoder.text_model.layers", tensors, layers);
    let tower = siglip(&part(&seeing, "vision_config")?, "model.encoder.vision_tower", "model.encoder.vision_tower.encoder.layers")?;
    let width = tower.hidden_size;
    let projector = Tensors::default()
        .tensor("model.encoder.multi_modal_projector.mm_input_projection_weight", Role::Other, &[width, hidden])
        .norm("model.encoder.multi_modal_projector.mm_soft_emb_norm", width, false)
        .build();
    seeing.touch("mm_tokens_per_image");
    seeing.touch("model_type");

    let decoder = part(f, "decoder")?.with_defaults(CLASS);
    let (sizes, layers) = half(&decoder, Keeps::Own)?;
    if f.flag("tie_word_embeddings", true)? {
        decoder.not_counted("vocab_size");
    }
    if sizes.hidden != hidden {
        return Err(f.impossible("decoder", "both halves share an embedding: they must be equally wide"));
    }
    f.touch("vocab_size");
    let mut tensors = Tensors::default();
    tensors.norm("model.decoder.norm", hidden, false);
    let class = f.architecture()?.unwrap_or_default();
    if !f.flag("tie_word_embeddings", true)? {
        // The decoder then has tables of its own.
        tensors.embedding("model.decoder.embed_tokens", sizes.vocab, hidden).tensor("model.decoder.embed_tokens.eoi_embedding", Role::Embedding, &[hidden]);
    }
    if class.ends_with("Classification") {
        tensors.linear("score.out_proj", hidden, labels(f)?, true);
    } else if !class.ends_with("Model") && !f.flag("tie_word_embeddings", true)? {
        tensors.linear("lm_head.out_proj", hidden, sizes.vocab, false);
    }
    let draft = sizes.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), layers);
    Ok(draft.with(encoder).with(tower).with(component("projector", ComponentKind::Projector, hidden, "", projector, Vec::new())))
}
