//! MiniCPM-V 2.5 and later: a language model's own fields at the top, `SigLIP` without a head, a resampler of latent queries. MiniCPM-o
//! hears with Whisper's encoder besides, and speaks.

use super::audio::{WHISPER, whisper_encoder};
use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Names, Tie, Wrapper, language_of, with_projector};
use super::tower_kinds::idefics;
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// `version` says which language model it is.
const VERSIONS: &[(&str, &str)] = &[("2.5", "llama"), ("2.6", "qwen2"), ("4.0", "llama"), ("4", "llama"), ("4.5", "qwen3")];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let version = match f.raw("version") {
        Some(serde_json::Value::String(version)) => version.clone(),
        Some(number) => number.to_string(),
        None => return Err(f.missing("version")),
    };
    let Some((_, text)) = VERSIONS.iter().find(|(name, _)| *name == version) else {
        return Err(f.impossible("version", "only 2.5, 2.6, 4.0 and 4.5 are understood"));
    };
    let wrapper = Wrapper { default_type: "", names: Names::Behind("llm"), head: Head::Language, tie: Tie::Text };
    // How images are cut before the tower sees them.
    f.touch("image_size");
    f.touch("slice_config");
    let draft = language_of(f, f, (*text).to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.required_nested(&["vision_config"])?;
    vision.touch("model_type");
    let mut tower = idefics(&vision.with_defaults(&[
        ("hidden_size", 768),
        ("num_hidden_layers", 12),
        ("num_attention_heads", 12),
        ("intermediate_size", 3072),
        ("image_size", 224),
        ("patch_size", 16),
    ]))?;
    if f.flag("drop_vision_last_layer", true)? {
        tower.layers.pop();
    }
    let tower = tower.below("vpm");
    let mut t = Tensors::default();
    t.tensor("resampler.query", Role::Other, &[f.count_or("query_num", 64)?, width]);
    linear(&mut t, Role::Other, "resampler.kv_proj", tower.hidden(), width, false);
    t.tensor("resampler.attn.in_proj_weight", Role::Qkv, &[width.saturating_mul(3), width]).tensor(
        "resampler.attn.in_proj_bias",
        Role::Qkv,
        &[width.saturating_mul(3)],
    );
    linear(&mut t, Role::AttentionOutput, "resampler.attn.out_proj", width, width, true);
    for name in ["resampler.ln_q", "resampler.ln_kv", "resampler.ln_post"] {
        norm(&mut t, name, width, true);
    }
    t.tensor("resampler.proj", Role::Other, &[width, width]);
    Ok(with_projector(draft, tower, width, t.build()))
}

/// MiniCPM-o 2.6 (vLLM's `minicpmo.py`): frames of Whisper's encoder through two matrices.
pub(super) fn read_omni(f: &Fields) -> Result<Draft, ConfigError> {
    for key in ["audio_chunk_length", "audio_pool_step", "batch_vision_input", "chunk_input", "listen_speak_type", "slice_mode", "use_image_id"] {
        f.touch(key);
    }
    for key in ["vision_batch_size", "stream_input", "image_size", "patch_size"] {
        f.touch(key);
    }
    let mut draft = read(f)?;
    let width = draft.decoder.shape.hidden;
    if f.flag("init_audio", true)?
        && let Some(audio) = f.nested(&["audio_config"])?
    {
        for key in ["model_type", "num_hidden_layers", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "max_target_positions", "vocab_size"] {
            audio.touch(key);
        }
        let (sizes, tower) = whisper_encoder(&audio, &WHISPER, "apm", "apm.layers")?;
        let mut t = Tensors::default();
        // The class takes a quarter of the inner width for the width.
        linear(&mut t, Role::Other, "audio_projection_layer.linear1", sizes.inner / 4, width, true);
        linear(&mut t, Role::Other, "audio_projection_layer.linear2", width, width, true);
        draft = draft.with(tower).with(component("audio_projector", ComponentKind::Projector, width, "", t.build(), Vec::new()));
    }
    if f.flag("init_tts", true)? {
        f.nested(&["tts_config"])?;
        draft.assumptions.push("the part that speaks (`tts_config`) is not counted: its sizes stand in its own code".to_owned());
    }
    f.flag("init_vision", true)?;
    Ok(draft)
}
