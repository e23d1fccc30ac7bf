//! Whisper: an audio encoder and a text decoder; the output matrix (`proj_out`) is the embedding.

use super::audio::{WHISPER, whisper_encoder};
use super::decoder::{Draft, Tensors, labels};
use super::encoder::{Sizes, head_dim, layer_count, seq2seq_layer, without_head};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = parts(f)?;
    draft.assumptions.extend(without_head(f, &["ForConditionalGeneration", "ForCausalLM", "ForAudioClassification"])?);
    Ok(draft)
}

fn parts(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("encoder_layers", "num_hidden_layers");
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (encoder, component) = whisper_encoder(f, &WHISPER, "model.encoder", "model.encoder.layers")?;
    let class = f.architecture()?.unwrap_or_default();
    let weighted = f.flag("use_weighted_layer_sum", false)?;
    let projection = or("classifier_proj_size", 256)?;
    if class.ends_with("ForAudioClassification") {
        let mut tensors = Tensors::default();
        tensors.extend(component.tensors).linear("projector", encoder.hidden, projection, true).linear("classifier", projection, labels(f)?, true);
        if weighted {
            tensors.tensor("layer_weights", Role::Other, &[encoder.layers + 1]);
        }
        let layers = encoder.equal_layers(Keeps::Nothing, &seq2seq_layer(encoder.hidden, encoder.inner, false, false));
        return Ok(encoder.model(ComponentKind::AudioTower, "model", "model.encoder.layers", tensors.build(), layers));
    }
    let hidden = encoder.hidden;
    let heads = or("decoder_attention_heads", 6)?;
    let layers = layer_count(f, "decoder_layers", 4)?;
    let vocab = or("vocab_size", 51865)?;
    let decoder = Sizes::plain(hidden, or("decoder_ffn_dim", 1536)?, layers, heads, head_dim(f, "decoder_attention_heads", hidden, heads)?, vocab);
    let mut tensors = Tensors::default();
    tensors.embedding("model.decoder.embed_tokens", vocab, hidden).embedding("model.decoder.embed_positions", or("max_target_positions", 448)?, hidden).norm(
        "model.decoder.layer_norm",
        hidden,
        true,
    );
    if !f.flag("tie_word_embeddings", true)? && !class.ends_with("Model") {
        tensors.linear("proj_out", hidden, vocab, false);
    }
    let layers = decoder.equal_layers(Keeps::Own, &seq2seq_layer(hidden, decoder.inner, true, false));
    if class.ends_with("ForCausalLM") {
        return Ok(decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), layers));
    }
    Ok(decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), layers).with(component))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_head_that_is_not_known_is_said_of_audio_models() {
        for (model_type, known, other) in [
            ("whisper", "WhisperForConditionalGeneration", "WhisperForFrameTagging"),
            ("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2ForSpeechClassification"),
            ("hubert", "HubertForSequenceClassification", "HubertForSpeechClassification"),
            ("wav2vec2-bert", "Wav2Vec2BertForCTC", "Wav2Vec2BertForMaskedLM"),
        ] {
            let lines = |class: &str| {
                let lines = crate::config::read(&format!(r#"{{"model_type": "{model_type}", "architectures": ["{class}"]}}"#)).unwrap().assumptions;
                // A config of nothing leaves all its sizes to the class.
                lines.into_iter().filter(|line| !line.contains("its class's own sizes")).collect::<Vec<_>>()
            };
            assert!(lines(known).is_empty(), "{known}: {:?}", lines(known));
            let lines = lines(other);
            assert!(lines.len() == 1 && lines[0].contains(other) && lines[0].contains("bare model"), "{other}: {lines:?}");
        }
    }
}
