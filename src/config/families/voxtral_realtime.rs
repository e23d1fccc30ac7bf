//! Voxtral Realtime: a causal encoder with windows over its frames, four frames side by side, and Mistral with a small scale per
//! layer that depends on the delay.

use super::decoder::{Draft, Shape, Tensors};
use super::mistral;
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{audio_tower, projector};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Keeps, Layer, Mixer, Span};

/// `VoxtralRealtimeTextConfig` of transformers 5.23, where it stands alone.
const TEXT_ALONE: &[(&str, u64)] = &[
    ("vocab_size", 32_000),
    ("hidden_size", 4096),
    ("intermediate_size", 14_336),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("sliding_window", 4096),
];

/// What `VoxtralRealtimeConfig` gives it inside the whole model.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 131_072),
    ("hidden_size", 3072),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("sliding_window", 8192),
];

/// `VoxtralRealtimeEncoderConfig`.
const ENCODER: &[(&str, u64)] = &[
    ("hidden_size", 1280),
    ("intermediate_size", 5120),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("head_dim", 64),
    ("num_mel_bins", 128),
    ("sliding_window", 750),
    ("vocab_size", 131_072),
];

/// The width between the two matrices of a layer's scale.
const SCALE_WIDTH: u64 = 32;

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT_ALONE);
    let mut draft = mistral::read(f)?;
    let hidden = draft.decoder.shape.hidden;
    let scale =
        Tensors::default().linear("ada_rms_norm.linear1", hidden, SCALE_WIDTH, false).linear("ada_rms_norm.linear2", SCALE_WIDTH, hidden, false).build();
    for (_, tensors) in &mut draft.decoder.layers {
        tensors.extend(scale.iter().cloned());
    }
    draft.decoder.tied_by_default = true;
    Ok(draft)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: true }, ..Wrapper::new("voxtral_realtime_text") };
    let text = f.part(TEXT_CONFIGS)?.with_defaults(TEXT);
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    f.touch("hidden_size");
    let a = f.part(&["audio_config"])?.with_defaults(ENCODER);
    for key in ["model_type", "max_position_embeddings", "vocab_size"] {
        a.touch(key);
    }
    let shape = Shape::read(&a)?;
    a.not_counted("vocab_size");
    let (hidden, inner, mels) = (shape.hidden, a.count("intermediate_size")?, a.count("num_mel_bins")?);
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, queries, true)
        .linear("self_attn.k_proj", hidden, keys, false)
        .linear("self_attn.v_proj", hidden, keys, true)
        .linear("self_attn.o_proj", queries, hidden, true)
        .linear("mlp.gate_proj", hidden, inner, false)
        .linear("mlp.up_proj", hidden, inner, false)
        .linear("mlp.down_proj", inner, hidden, true)
        .norms(&["self_attn_layer_norm", "final_layer_norm"], hidden)
        .build();
    let window = a.optional_count("sliding_window")?.map_or(Span::Full, Span::Sliding);
    let mut attention = shape.attention(window);
    // Frames come as the sound does: the encoder keeps its own window.
    attention.keeps = Keeps::Own;
    let layers = (0..shape.layers).map(|_| {
        let kind = Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } };
        (kind, layer.clone())
    });
    let outside = Tensors::default()
        .convolution("model.audio_tower.embedder.conv1", &[hidden, mels, 3], true)
        .convolution("model.audio_tower.embedder.conv2", &[hidden, hidden, 3], true)
        .norm("model.audio_tower.norm", hidden, false)
        .build();
    let tower = audio_tower(hidden, "model.audio_tower.layers", outside, layers.collect());
    let side_by_side = hidden.saturating_mul(f.count_or("downsample_factor", 4)?);
    let matrices = Tensors::default()
        .linear("model.multi_modal_projector.linear_1", side_by_side, width, false)
        .linear("model.multi_modal_projector.linear_2", width, width, false)
        .build();
    for key in ["audio_length_per_tok", "default_num_delay_tokens"] {
        f.touch(key);
    }
    Ok(draft.with(tower).with(projector(width, matrices)))
}
