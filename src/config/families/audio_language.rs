//! Language models that hear through Whisper's encoder or one like it: Qwen2-Audio, Voxtral, Audio Flamingo 3, GLM-ASR, Qwen3-ASR.

use super::audio::{WHISPER_LARGE, WhisperKeys, whisper_encoder};
use super::decoder::{Draft, Head, Tensors, component};
use super::encoder::seq2seq_layer;
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, audio_tower};
use super::{ConfigError, Fields};
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
    let text = f.required_nested(&["text_config"])?.with_defaults(QWEN2);
    let draft = language_in(f, &text, &Wrapper { tie: Tie::Never, ..Wrapper::new("qwen2") })?;
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
    let text = f.required_nested(&["text_config"])?.with_defaults(VOXTRAL);
    let draft = language_in(f, &text, &Wrapper { tie: Tie::Never, ..Wrapper::new("llama") })?;
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

/// Audio Flamingo 3 and Music Flamingo: Qwen2 behind Whisper's encoder and two matrices.
pub(super) fn read_flamingo(f: &Fields) -> Result<Draft, ConfigError> {
    const KEYS: WhisperKeys =
        WhisperKeys { layers: ("num_hidden_layers", 32), heads: ("num_attention_heads", 20), inner: ("intermediate_size", 5120), ..WHISPER_LARGE };
    let draft = inside(f, "qwen2", Tie::Never)?;
    let audio = f.part(&["audio_config"])?;
    audio.touch("model_type");
    let (sizes, tower) = whisper_encoder(&audio, &KEYS, "model.audio_tower", "model.audio_tower.layers")?;
    let bias = f.flag("projector_bias", true)?;
    Ok(projected(draft, tower, [sizes.hidden, 0], bias))
}

/// GLM-ASR: rotary positions in the encoder, four frames side by side before the projector.
pub(super) fn read_glmasr(f: &Fields) -> Result<Draft, ConfigError> {
    const ENCODER: &[(&str, u64)] =
        &[("hidden_size", 1280), ("intermediate_size", 5120), ("num_hidden_layers", 32), ("num_attention_heads", 20), ("num_mel_bins", 128)];
    const TEXT: &[(&str, u64)] = &[
        ("vocab_size", 59_264),
        ("hidden_size", 2048),
        ("intermediate_size", 6144),
        ("num_hidden_layers", 28),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 4),
    ];
    let text = f.part(TEXT_CONFIGS)?.with_defaults(TEXT);
    let draft = language_in(f, &text, &Wrapper { tie: Tie::Wrapper { default: true }, ..named("llama") })?;
    let audio = f.part(&["audio_config"])?.with_defaults(ENCODER);
    audio.touch("model_type");
    let tower = TowerShape::read(&audio, TowerShape::KEYS)?;
    let (hidden, inner) = (tower.hidden, tower.intermediate);
    let keys = audio.optional_count("num_key_value_heads")?.unwrap_or(tower.heads).saturating_mul(hidden / tower.heads);
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, hidden, true)
        .linear("self_attn.k_proj", hidden, keys, false)
        .linear("self_attn.v_proj", hidden, keys, true)
        .linear("self_attn.o_proj", hidden, hidden, true)
        .linear("mlp.fc1", hidden, inner, true)
        .linear("mlp.fc2", inner, hidden, true)
        .norm("input_layernorm", hidden, true)
        .norm("post_attention_layernorm", hidden, true)
        .build();
    let outside = Tensors::default()
        .convolution("model.audio_tower.conv1", &[hidden, audio.count("num_mel_bins")?, 3], true)
        .convolution("model.audio_tower.conv2", &[hidden, hidden, 3], true)
        .norm("model.audio_tower.norm", hidden, true)
        .build();
    audio.touch("max_position_embeddings");
    let tower = audio_tower(hidden, "model.audio_tower.layers", outside, tower.layers(&layer));
    let twice = draft.decoder.shape.hidden.saturating_mul(2);
    Ok(projected(draft, tower, [inner, twice], true))
}

/// Qwen3-ASR: convolutions over the spectrogram, then Whisper's layers with a bias on keys too.
pub(super) fn read_qwen3_asr(f: &Fields) -> Result<Draft, ConfigError> {
    const ENCODER: &[(&str, u64)] = &[
        ("num_mel_bins", 128),
        ("encoder_layers", 24),
        ("encoder_attention_heads", 16),
        ("encoder_ffn_dim", 4096),
        ("hidden_size", 1024),
        ("output_dim", 3584),
        ("downsample_hidden_size", 480),
    ];
    const TEXT: &[(&str, u64)] = &[
        ("hidden_size", 2048),
        ("intermediate_size", 6144),
        ("num_hidden_layers", 28),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("vocab_size", 151_936),
    ];
    let text = f.part(TEXT_CONFIGS)?.with_defaults(TEXT);
    let mut draft = language_in(f, &text, &Wrapper { tie: Tie::Wrapper { default: true }, ..named("qwen3") })?;
    if f.architecture()?.is_some_and(|class| class.ends_with("ForTokenClassification")) && !f.flag("token_classification_bias", false)? {
        draft.decoder.tensors.retain(|tensor| tensor.name != "score.bias");
    }
    f.touch("token_classification_bias");
    let audio = f.part(&["audio_config"])?.with_defaults(ENCODER);
    for key in ["model_type", "n_window", "n_window_infer", "max_position_embeddings"] {
        audio.touch(key);
    }
    let tower = TowerShape::read(&audio, TowerShape::WHISPER_KEYS)?;
    let (hidden, inner) = (tower.hidden, tower.intermediate);
    let layer = seq2seq_layer(hidden, inner, false, true);
    let (width, mels) = (audio.count("downsample_hidden_size")?, audio.count("num_mel_bins")?);
    // Three convolutions halve the bins each, rounding up.
    let bins = mels.div_ceil(2).div_ceil(2).div_ceil(2);
    let outside = Tensors::default()
        .convolution("model.audio_tower.conv2d1", &[width, 1, 3, 3], true)
        .convolution("model.audio_tower.conv2d2", &[width, width, 3, 3], true)
        .convolution("model.audio_tower.conv2d3", &[width, width, 3, 3], true)
        .linear("model.audio_tower.conv_out", width.saturating_mul(bins), hidden, false)
        .norm("model.audio_tower.ln_post", hidden, true)
        .build();
    let output = audio.count("output_dim")?;
    let tower = audio_tower(hidden, "model.audio_tower.layers", outside, tower.layers(&layer));
    let projector = Tensors::default()
        .linear("model.multi_modal_projector.linear_1", hidden, hidden, true)
        .linear("model.multi_modal_projector.linear_2", hidden, output, true)
        .build();
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, output, "", projector, Vec::new())))
}

/// MOSS-Transcribe-Diarize: Whisper's encoder, four frames side by side, two matrices and a norm, Qwen3.
pub(super) fn read_moss(f: &Fields) -> Result<Draft, ConfigError> {
    const KEYS: WhisperKeys =
        WhisperKeys { layers: ("num_hidden_layers", 24), heads: ("num_attention_heads", 16), inner: ("intermediate_size", 4096), hidden: 1024, mels: 80 };
    // The class's own sizes where nothing is said of the language model; where something is, Qwen3's.
    const TEXT: &[(&str, u64)] = &[
        ("hidden_size", 1024),
        ("intermediate_size", 3072),
        ("num_hidden_layers", 28),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("vocab_size", 151_936),
    ];
    let text = f.nested(TEXT_CONFIGS)?.unwrap_or_else(|| f.left_out("text_config").with_defaults(TEXT));
    let draft = language_in(f, &text, &Wrapper { tie: Tie::Wrapper { default: true }, ..named("qwen3") })?;
    let audio = f.part(&["audio_config"])?;
    audio.touch("model_type");
    let (sizes, tower) = whisper_encoder(&audio, &KEYS, "model.audio_tower", "model.audio_tower.layers")?;
    let (width, bias) = (draft.decoder.shape.hidden, f.flag("projector_bias", true)?);
    let inputs = sizes.hidden.saturating_mul(f.count_or("audio_merge_size", 4)?);
    let projector = Tensors::default()
        .linear("model.multi_modal_projector.linear_1", inputs, width, bias)
        .linear("model.multi_modal_projector.linear_2", width, width, bias)
        .norm("model.multi_modal_projector.norm", width, true)
        .build();
    f.touch("audio_chunk_size");
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new())))
}

/// A wrapper whose language model lives in `model.language_model`.
const fn named(default_type: &'static str) -> Wrapper {
    Wrapper { default_type, names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText }
}

fn inside(f: &Fields, default_type: &'static str, tie: Tie) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    language_in(f, &text, &Wrapper { tie, ..named(default_type) })
}

/// Two matrices between tower and language model: from `inputs` over a width of their own (0: the language model's).
fn projected(draft: Draft, tower: Component, [inputs, between]: [u64; 2], bias: bool) -> Draft {
    let hidden = draft.decoder.shape.hidden;
    let between = if between == 0 { hidden } else { between };
    let projector = Tensors::default()
        .linear("model.multi_modal_projector.linear_1", inputs, between, bias)
        .linear("model.multi_modal_projector.linear_2", between, hidden, bias)
        .build();
    draft.with(tower).with(component("projector", ComponentKind::Projector, hidden, "", projector, Vec::new()))
}

fn heard(f: &Fields, draft: Draft, tower: Component, projector: Vec<Tensor>) -> Draft {
    // Copies of the language model's.
    f.touch("vocab_size");
    f.touch("hidden_size");
    let hidden = draft.decoder.shape.hidden;
    draft.with(tower).with(component("projector", ComponentKind::Projector, hidden, "", projector, Vec::new()))
}
