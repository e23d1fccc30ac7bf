//! Ultravox, by its own code (vLLM's `ultravox.py`): Whisper's encoder, frames stacked side by side, a norm and two matrices with a gate
//! between them, any language model. The published files hold what was trained and name the rest by its repository.

use super::audio::{WHISPER, whisper_encoder};
use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::projector;
use super::{ConfigError, Fields};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    for (key, part) in [("text_model_id", "text_config"), ("audio_model_id", "audio_config")] {
        // A copy of the config beside the name counts; `llm_config` and its like are the language model's too.
        let is_there = if part == "text_config" { f.nested(TEXT_CONFIGS)?.is_some() } else { f.nested(&[part])?.is_some() };
        if f.optional_text(key)?.is_some() && !is_there {
            return Err(f.impossible(
                key,
                "this part of the model is in another repository: give the headers of its files, or its config here as `text_config` or `audio_config`",
            ));
        }
    }
    let wrapper = Wrapper { default_type: "llama", names: Names::Behind("language_model"), head: Head::Language, tie: Tie::Text };
    let draft = language_in(f, &f.part(TEXT_CONFIGS)?, &wrapper)?;
    f.touch("architectures");
    let width = draft.decoder.shape.hidden;
    let audio = f.part(&["audio_config"])?;
    for key in ["architectures", "dtype", "torch_dtype", "model_type"] {
        audio.touch(key);
    }
    let (sizes, ear) = whisper_encoder(&audio, &WHISPER, "audio_tower", "audio_tower.layers")?;
    let stacked = sizes.hidden.saturating_mul(f.count_or("stack_factor", 8)?);
    let between = f.count_or("hidden_size", 4096)?;
    let gated = f.optional_text("projector_act")?.is_none_or(|act| act == "swiglu");
    let narrowed = if gated { between / 2 } else { between };
    let mut t = Tensors::default();
    t.norm("multi_modal_projector.ln_pre", stacked, false).linear("multi_modal_projector.linear_1", stacked, between, false).linear(
        "multi_modal_projector.linear_2",
        narrowed,
        width,
        false,
    );
    // Up to version 0.4.1 the norm is the last.
    let (norm, normed) = if f.flag("projector_ln_mid", false)? { ("ln_mid", narrowed) } else { ("ln_post", width) };
    t.norm(&format!("multi_modal_projector.{norm}"), normed, false);
    if f.optional_count_or_zero("num_projector_layers")?.is_some_and(|layers| layers > 0) {
        return Err(f.impossible("num_projector_layers", "layers in the projector are not known here"));
    }
    for key in ["audio_latency_block_size", "vocab_size"] {
        f.touch(key);
    }
    Ok(draft.with(ear).with(projector(width, t.build())))
}

#[cfg(test)]
mod tests {
    /// Whisper large v3 turbo's encoder before Llama 3.2 1B.
    #[test]
    fn a_gate_halves_the_width_between() {
        let text = r#"{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": true}"#;
        let audio =
            r#"{"model_type": "whisper", "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "num_mel_bins": 128}"#;
        let read = |more: &str| {
            let config = format!(
                r#"{{"model_type": "ultravox", "architectures": ["UltravoxModel"], "hidden_size": 4096, "stack_factor": 8, "projector_act": "swiglu"{more}}}"#
            );
            crate::config::read(&config)
        };
        let parts = format!(r#", "projector_ln_mid": true, "text_config": {text}, "audio_config": {audio}"#);
        let anatomy = read(&parts).unwrap();
        let encoder = 636_968_960; // model.encoder of whisper-large-v3, on the meta device
        let joined = 10_240 + 10_240 * 4096 + 2048 * 2048 + 2048;
        assert_eq!(anatomy.parameters().unwrap().get(), 1_235_814_400 + encoder + joined);
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
        // What another repository holds is not guessed.
        let error = read(r#", "text_model_id": "meta-llama/Llama-3.2-1B-Instruct""#).unwrap_err().to_string();
        assert!(error.contains("`text_model_id`") && error.contains("another repository"), "{error}");
    }
}
