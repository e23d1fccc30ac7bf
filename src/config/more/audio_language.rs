//! Language models that hear through Whisper's encoder: Qwen2-Audio and Voxtral.

use super::audio::{WHISPER_LARGE, WhisperKeys, whisper_encoder};
use super::decoder::{Draft, Tensors, component};
use super::{ConfigError, Fields, read_language_model};
use crate::model::{Component, ComponentKind, Tensor};

/// `Qwen2Config`, which Qwen2-Audio's file leaves out for the most part.
const QWEN2: &[(&str, u64)] = &[
    ("hidden_size", 4096),
    ("intermediate_size", 22016),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 32),
    ("vocab_size", 151_936),
];

/// The language model that `VoxtralConfig` takes for what its file leaves out.
const VOXTRAL: &[(&str, u64)] = &[
    ("vocab_size", 131_072),
    ("hidden_size", 3072),
    ("intermediate_size", 8192),
    ("num_hidden_layers", 30),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
];

/// Qwen2-Audio: one linear layer between encoder and language model.
pub(super) fn read_qwen2_audio(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.required_nested(&["text_config"])?.or_defaults(QWEN2);
    let draft = language_model(&text, "qwen2")?;
    let audio = f.required_nested(&["audio_config"])?;
    for key in ["architectures", "dtype", "model_type"] {
        audio.touch(key);
    }
    let (sizes, tower) = whisper_encoder(&audio, &WHISPER_LARGE, "audio_tower", "audio_tower.layers")?;
    let projector = Tensors::default().linear("multi_modal_projector.linear", sizes.hidden, draft.decoder.shape.hidden, true).build();
    Ok(heard(f, draft, tower, projector))
}

/// Voxtral: four frames of the encoder become one token, so its projector reads them side by side.
pub(super) fn read_voxtral(f: &Fields) -> Result<Draft, ConfigError> {
    const KEYS: WhisperKeys =
        WhisperKeys { layers: ("num_hidden_layers", 32), heads: ("num_attention_heads", 20), inner: ("intermediate_size", 5120), ..WHISPER_LARGE };
    let text = f.required_nested(&["text_config"])?.or_defaults(VOXTRAL);
    let draft = language_model(&text, "llama")?;
    let audio = f.required_nested(&["audio_config"])?;
    for key in ["architectures", "dtype", "model_type"] {
        audio.touch(key);
    }
    for key in ["num_key_value_heads", "head_dim", "vocab_size"] {
        audio.touch(key);
    }
    let (sizes, tower) = whisper_encoder(&audio, &KEYS, "audio_tower", "audio_tower.layers")?;
    let hidden = draft.decoder.shape.hidden;
    let projector = Tensors::default()
        .linear("multi_modal_projector.linear_1", sizes.inner, hidden, false)
        .linear("multi_modal_projector.linear_2", hidden, hidden, false)
        .build();
    Ok(heard(f, draft, tower, projector))
}

/// The language model under the name that it has in these files.
fn language_model(text: &Fields, default: &'static str) -> Result<Draft, ConfigError> {
    let mut draft = read_language_model(text, default)?;
    for key in ["architectures", "max_position_embeddings", "dtype"] {
        text.touch(key);
    }
    let decoder = &mut draft.decoder;
    // The wrapper's own key decides.
    text.touch("tie_word_embeddings");
    decoder.tied_by_default = false;
    if decoder.base == "model" && decoder.layer_prefix == "model.layers" {
        for tensor in &mut decoder.tensors {
            tensor.name.insert_str(0, "language_model.");
        }
        (decoder.base, decoder.layer_prefix, decoder.head_module) = ("language_model.model", "language_model.model.layers", "language_model.lm_head");
    }
    Ok(draft)
}

fn heard(f: &Fields, draft: Draft, tower: Component, projector: Vec<Tensor>) -> Draft {
    // Copies of the language model's.
    f.touch("vocab_size");
    f.touch("hidden_size");
    let hidden = draft.decoder.shape.hidden;
    draft.with(tower).with(component("projector", ComponentKind::Projector, hidden, "", projector, Vec::new()))
}
