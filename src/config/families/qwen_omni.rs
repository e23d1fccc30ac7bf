//! Qwen2.5-Omni and Qwen3-Omni: the thinker (decoder, image and sound towers). Qwen2.5's voice is counted besides; Qwen3's is said to
//! be missing.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::qwen_omni_voice::with_voice;
use super::qwen_vl::{omni_tower, omni_tower3};
use super::towers::{TowerShape, audio_tower};
use super::{ConfigError, Fields, qwen2, qwen3_moe};
use crate::model::{Component, Tensor};

/// `Qwen2_5OmniTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 152_064),
    ("hidden_size", 3584),
    ("intermediate_size", 18_944),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 28),
    ("num_key_value_heads", 4),
    ("sliding_window", 32_768),
    ("max_window_layers", 28),
];

/// `Qwen3OmniMoeTextConfig`.
const TEXT3: &[(&str, u64)] = &[
    ("vocab_size", 3584),
    ("hidden_size", 2048),
    ("intermediate_size", 18_944),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 28),
    ("num_key_value_heads", 4),
    ("moe_intermediate_size", 768),
    ("num_experts", 128),
    ("num_experts_per_tok", 8),
];

/// `Qwen2_5OmniAudioEncoderConfig` and `Qwen3OmniMoeAudioEncoderConfig`.
const AUDIO: &[(&str, u64)] = &[
    ("num_mel_bins", 128),
    ("encoder_layers", 32),
    ("encoder_attention_heads", 20),
    ("encoder_ffn_dim", 5120),
    ("d_model", 1280),
    ("output_dim", 3584),
    ("downsample_hidden_size", 480),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    qwen2::read(&f.with_defaults(TEXT))
}

pub(super) fn read_text3(f: &Fields) -> Result<Draft, ConfigError> {
    let f = f.with_defaults(TEXT3);
    // The class rounds the size of a head down where the config leaves it out.
    let head_dim = f.count("hidden_size")? / f.count("num_attention_heads")?;
    qwen3_moe::read(&f.with_derived("head_dim", head_dim.max(1)))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = read_thinker(&f.required_nested(&["thinker_config"])?)?;
    f.touch("architectures");
    f.touch("tie_word_embeddings");
    // The class makes the voice by default, from its own sizes where the file has none.
    if f.flag("enable_audio_output", true)? { with_voice(draft, f) } else { Ok(draft) }
}

pub(super) fn read3(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_thinker3(&f.required_nested(&["thinker_config"])?)?;
    f.touch("architectures");
    if f.flag("enable_audio_output", true)? && f.raw("talker_config").is_some() {
        draft.assumptions.push("only the thinker is counted: the talker and the speech decoder, which this repository also holds, come on top".to_owned());
    }
    Ok(draft)
}

pub(super) fn read_thinker(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, "qwen2_5_omni_text")?;
    let [tower, merger] = omni_tower(&part(f, "vision_config")?, "thinker.visual", "thinker.visual.blocks")?;
    Ok(draft.with(tower).with(merger).with(audio(&part(f, "audio_config")?, false)?))
}

pub(super) fn read_thinker3(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, "qwen3_omni_moe_text")?;
    let [tower, merger] = omni_tower3(&part(f, "vision_config")?, "thinker.visual", "thinker.visual.blocks")?;
    Ok(draft.with(tower).with(merger).with(audio(&part(f, "audio_config")?, true)?))
}

fn part(f: &Fields, key: &'static str) -> Result<Fields, ConfigError> {
    f.part(&[key])
}

fn language(f: &Fields, text_type: &'static str) -> Result<Draft, ConfigError> {
    let head = if f.architecture()?.is_some_and(|class| class.ends_with("ThinkerModel")) { Head::Nothing } else { Head::Language };
    let wrapper = Wrapper { default_type: text_type, names: Names::Behind("thinker"), head, tie: Tie::Wrapper { default: false } };
    let text = f.part(TEXT_CONFIGS)?;
    f.touch("architectures");
    language_in(f, &text, &wrapper)
}

/// Whisper's encoder without learned positions; Qwen3-Omni's takes in the spectrum by three convolutions over its plane.
fn audio(f: &Fields, plane: bool) -> Result<Component, ConfigError> {
    let f = f.with_defaults(AUDIO);
    let tower = TowerShape::read(&f, TowerShape::WHISPER_KEYS)?;
    let (hidden, intermediate, out) = (tower.hidden, tower.intermediate, f.count("output_dim")?);
    let bins = f.count("num_mel_bins")?;
    // How sound is cut into pieces.
    for key in ["n_window", "n_window_infer", "conv_chunksize", "max_source_positions", "num_hidden_layers"] {
        f.touch(key);
    }
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, hidden, true)
        .linear("self_attn.k_proj", hidden, hidden, plane)
        .linear("self_attn.v_proj", hidden, hidden, true)
        .linear("self_attn.out_proj", hidden, hidden, true)
        .norm("self_attn_layer_norm", hidden, true)
        .linear("fc1", hidden, intermediate, true)
        .linear("fc2", intermediate, hidden, true)
        .norm("final_layer_norm", hidden, true)
        .build();
    let mut tensors = Tensors::default();
    if plane {
        let channels = f.count("downsample_hidden_size")?;
        // Halved three times, rounded up.
        let rows = bins.div_ceil(2).div_ceil(2).div_ceil(2);
        tensors
            .convolution("conv2d1", &[channels, 1, 3, 3], true)
            .convolution("conv2d2", &[channels, channels, 3, 3], true)
            .convolution("conv2d3", &[channels, channels, 3, 3], true)
            .linear("conv_out", channels.saturating_mul(rows), hidden, false)
            .linear("proj1", hidden, hidden, true)
            .linear("proj2", hidden, out, true);
    } else {
        tensors
            .convolution("conv1", &[hidden, bins, 3], true)
            .convolution("conv2", &[hidden, hidden, 3], true)
            .embedding("audio_bos_eos_token", 2, out)
            .linear("proj", hidden, out, true);
    }
    let tensors: Vec<Tensor> = Tensors::default().nested("thinker.audio_tower", tensors.norm("ln_post", hidden, true).build()).build();
    Ok(audio_tower(hidden, "thinker.audio_tower.layers", tensors, tower.layers(&layer)))
}
