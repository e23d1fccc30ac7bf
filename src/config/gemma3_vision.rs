//! Gemma 3: Gemma 2's layers with norms on query and key heads; of six layers five slide. The larger ones have a SigLIP
//! tower and a projector that pools its patches.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, layers_by_span, spans_by_layer_types};
use super::gemma::GEMMA2_NORMS;
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{projector, siglip};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

/// `Gemma3TextConfig` of transformers 5.23: published files leave out what is equal.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("sliding_window", 4096),
    ("sliding_window_pattern", 6),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT);
    let shape = Shape::read(&f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let tensors = Tensors::default()
        .attention(&shape, attention_bias, attention_bias)
        .query_key_norm(&shape)
        .gated_mlp(shape.hidden, intermediate, false)
        .norms(GEMMA2_NORMS, shape.hidden)
        .build();
    let bidirectional = f.flag("use_bidirectional_attention", false)?;
    // A window to both sides: half of it, and the token itself.
    let narrowed = |span| match span {
        Span::Sliding(window) if bidirectional => Span::Sliding(window / 2 + 1),
        span => span,
    };
    let window = f.optional_count("sliding_window")?.map_or(Span::Full, Span::Sliding);
    f.touch("_sliding_window_pattern");
    let pattern = f.count("sliding_window_pattern")?;
    let spans = spans_by_layer_types(&f, &shape)?;
    let by_pattern = |i: usize| if (i as u64 + 1).is_multiple_of(pattern) { Span::Full } else { window };
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |i| {
        narrowed(spans.as_ref().map_or_else(|| by_pattern(i), |spans| spans[i]))
    });
    Ok(Decoder::llama_like(shape, layers, true).into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "gemma3_text", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText };
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.left_out("text_config"));
    let draft = language_in(f, &text, &wrapper)?;
    let hidden = draft.decoder.shape.hidden;
    let vision = f.nested(&["vision_config"])?.unwrap_or_else(|| f.left_out("vision_config"));
    let tower = siglip(&vision, "vision_tower.vision_model", "vision_tower.vision_model.encoder.layers")?;
    let width = tower.hidden_size;
    let pooled = Tensors::default()
        .tensor("multi_modal_projector.mm_input_projection_weight", Role::Other, &[width, hidden])
        .norm("multi_modal_projector.mm_soft_emb_norm", width, false)
        .build();
    // How many tokens an image makes; no parameters.
    f.touch("mm_tokens_per_image");
    Ok(draft.with(tower).with(projector(hidden, pooled)))
}
