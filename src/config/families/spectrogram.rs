//! Encoders of sound as an image of its spectrum: the Audio Spectrogram Transformer; and `Speech2Text`, whose convolutions gate
//! what they halve before an encoder and a decoder.

use super::audio::of_frames;
use super::decoder::{Draft, Tensors, labels};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count, seq2seq_layer};
use super::vision::{Encoder, Tower, VIT, linear, norm, pair};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Window};

/// `ASTConfig` of transformers 5.23.
const AST: &[(&str, u64)] = &[
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("patch_size", 16),
    ("frequency_stride", 10),
    ("time_stride", 10),
    ("max_length", 1024),
    ("num_mel_bins", 128),
];

pub(super) fn read_ast(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(AST);
    let e = Encoder::read(f)?;
    let patch = pair(f, "patch_size")?;
    let along = |key: &'static str, size: u64, stride: &'static str| -> Result<u64, ConfigError> {
        let past = f.count(key)?.checked_sub(size).ok_or_else(|| f.impossible("patch_size", "it must not be larger than the spectrum"))?;
        Ok(past / f.count(stride)? + 1)
    };
    let patches = along("num_mel_bins", patch[0], "frequency_stride")?.saturating_mul(along("max_length", patch[1], "time_stride")?);
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden])
        .tensor("embeddings.distillation_token", Role::Other, &[1, 1, e.hidden])
        .tensor("embeddings.position_embeddings", Role::Position, &[1, patches.saturating_add(2), e.hidden])
        .convolution("embeddings.patch_embeddings.projection", &[e.hidden, 1, patch[0], patch[1]], true);
    norm(&mut t, "layernorm", e.hidden, true);
    let mut top = Tensors::default();
    if f.architecture()?.is_none_or(|class| !class.ends_with("Model")) {
        norm(&mut top, "classifier.layernorm", e.hidden, true);
        linear(&mut top, Role::Score, "classifier.dense", e.hidden, labels(f)?, true);
    }
    let style = VIT.biases(f.flag("qkv_bias", true)?, true, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    Ok(tower.below("audio_spectrogram_transformer").with(top).draft(ComponentKind::AudioTower, "audio_spectrogram_transformer", 0))
}

/// `Speech2TextConfig`.
const SPEECH: &[(&str, u64)] = &[
    ("vocab_size", 10_000),
    ("d_model", 256),
    ("encoder_ffn_dim", 2048),
    ("encoder_attention_heads", 4),
    ("decoder_ffn_dim", 2048),
    ("decoder_attention_heads", 4),
    ("num_conv_layers", 2),
    ("conv_channels", 1024),
    ("input_feat_per_channel", 80),
    ("input_channels", 1),
];

pub(super) fn read_speech_to_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("encoder_layers", "num_hidden_layers").with_defaults(SPEECH);
    let (hidden, vocab) = (f.count("d_model")?, f.count("vocab_size")?);
    let stack = |layers: &'static str, default: u64, inner: &'static str, heads: &'static str| -> Result<Sizes, ConfigError> {
        let count = f.count(heads)?;
        Ok(Sizes::plain(hidden, f.count(inner)?, layer_count(f, layers, default)?, count, head_dim(f, heads, hidden, count)?, vocab))
    };
    let encoder = stack("encoder_layers", 12, "encoder_ffn_dim", "encoder_attention_heads")?;
    let decoder = stack("decoder_layers", 6, "decoder_ffn_dim", "decoder_attention_heads")?;
    // A copy of the encoder's; positions are computed; what is read as one channel of many.
    for key in ["num_hidden_layers", "max_source_positions", "max_target_positions", "scale_embedding"] {
        f.touch(key);
    }
    let (count, middle) = (f.count("num_conv_layers")?, f.count("conv_channels")?);
    let kernels = f.counts_or("conv_kernel_sizes", &[5, 5])?;
    if kernels.len() as u64 != count {
        return Err(f.impossible("conv_kernel_sizes", "it must have one entry per convolution (`num_conv_layers`)"));
    }
    // Each halves the frames (`Conv1dSubsampler`).
    let windows: Vec<Window> = kernels.iter().map(|&kernel| Window { kernel, stride: 2, padding: kernel / 2 }).collect();
    let mut inputs = f.count("input_feat_per_channel")?.saturating_mul(f.count("input_channels")?);
    let mut t = Tensors::default();
    for (number, kernel) in kernels.into_iter().enumerate() {
        // Half of the outputs gate the other half.
        let is_last = number as u64 + 1 == count;
        let outputs = if is_last { hidden.saturating_mul(2) } else { middle };
        t.convolution(&format!("model.encoder.conv.conv_layers.{number}"), &[outputs, inputs, kernel], true);
        inputs = outputs / 2;
    }
    norm(&mut t, "model.encoder.layer_norm", hidden, true);
    let layers = encoder.equal_layers(Keeps::Nothing, &seq2seq_layer(hidden, encoder.inner, false, true));
    let mut sound = encoder_component(&encoder, ComponentKind::AudioTower, "model.encoder.layers", t.build(), layers);
    sound.work = of_frames(windows);
    let mut t = Tensors::default();
    t.embedding("model.decoder.embed_tokens", vocab, hidden);
    norm(&mut t, "model.decoder.layer_norm", hidden, true);
    let tied = f.flag("tie_word_embeddings", true)?;
    if !tied && f.architecture()?.is_none_or(|class| class.ends_with("ForConditionalGeneration")) {
        t.linear("lm_head", hidden, vocab, false);
    }
    let layers = decoder.equal_layers(Keeps::Own, &seq2seq_layer(hidden, decoder.inner, true, true));
    Ok(decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", t.build(), layers).with(sound))
}
