//! `SpeechT5`: one encoder and decoder between speech and text; which nets stand before and after them the class says.

use super::audio::{feature_extractor, of_samples, position_convolution, wav2vec2_windows};
use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Tensor};

/// `SpeechT5Config` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 81),
    ("hidden_size", 768),
    ("num_mel_bins", 80),
    ("speech_decoder_prenet_layers", 2),
    ("speech_decoder_prenet_units", 256),
    ("speaker_embedding_dim", 512),
    ("speech_decoder_postnet_layers", 5),
    ("speech_decoder_postnet_units", 256),
    ("speech_decoder_postnet_kernel", 5),
    ("reduction_factor", 2),
    ("encoder_max_relative_position", 160),
];

const ENCODER: &str = "speecht5.encoder.wrapped_encoder.layers";
const DECODER: &str = "speecht5.decoder.wrapped_decoder.layers";

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    // Sines, and how attention is guided in training.
    for key in ["max_speech_positions", "max_text_positions", "guided_attention_loss_num_heads", "use_guided_attention_loss", "num_feat_extract_layers"] {
        f.touch(key);
    }
    let class = f.architecture()?.unwrap_or_default();
    let (hears, speaks) = (class.contains("ForSpeechTo"), class.ends_with("ToSpeech"));
    let (reads, writes) = (class.contains("ForTextTo"), class.ends_with("ToText"));
    let encoder = stack(f, ["encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"], 12)?;
    let decoder = stack(f, ["decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"], 6)?;
    let hidden = encoder.hidden;

    let mut t = Tensors::default();
    if hears {
        let prenet = "speecht5.encoder.prenet";
        if f.optional_number("mask_time_prob")?.unwrap_or(0.05) > 0.0 || f.optional_number("mask_feature_prob")?.unwrap_or(0.0) > 0.0 {
            t.tensor(&format!("{prenet}.masked_spec_embed"), Role::Other, &[hidden]);
        }
        let frames = feature_extractor(f, &mut t, &format!("{prenet}.feature_encoder"), false)?;
        t.norm(&format!("{prenet}.feature_projection.layer_norm"), frames, true).linear(
            &format!("{prenet}.feature_projection.projection"),
            frames,
            hidden,
            true,
        );
        position_convolution(f, &mut t, &format!("{prenet}.pos_conv_embed"), hidden)?;
    } else if reads {
        t.embedding("speecht5.encoder.prenet.embed_tokens", encoder.vocab, hidden).tensor(
            "speecht5.encoder.prenet.encode_positions.alpha",
            Role::Position,
            &[],
        );
    }
    let distances = f.count("encoder_max_relative_position")?.saturating_mul(2);
    t.norm("speecht5.encoder.wrapped_encoder.layer_norm", hidden, true).embedding(
        "speecht5.encoder.wrapped_encoder.embed_positions.pe_k",
        distances,
        encoder.head_dim,
    );
    let layers = encoder.equal_layers(Keeps::Nothing, &layer(&encoder, false));
    let mut encoder = encoder_component(&encoder, ComponentKind::AudioTower, ENCODER, t.build(), layers);
    if !reads {
        encoder.work = of_samples(wav2vec2_windows(f)?);
    }

    let mut t = Tensors::default();
    if speaks {
        speech_nets(f, &mut t, hidden)?;
    } else if writes {
        t.embedding("speecht5.decoder.prenet.embed_tokens", decoder.vocab, hidden);
        if !f.flag("tie_word_embeddings", true)? {
            t.linear("text_decoder_postnet.lm_head", hidden, decoder.vocab, false);
        }
    }
    let layers = decoder.equal_layers(Keeps::Own, &layer(&decoder, true));
    let mut draft = decoder.model(ComponentKind::TextDecoder, "speecht5", DECODER, t.build(), layers).with(encoder);
    if !hears && !reads && !class.is_empty() && !class.ends_with("Model") {
        draft.assumptions.push(format!("architecture `{class}` is counted as the encoder and decoder alone"));
    }
    Ok(draft)
}

fn stack(f: &Fields, keys: [&'static str; 3], layers: u64) -> Result<Sizes, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let heads = f.count_or(keys[1], 12)?;
    let inner = f.count_or(keys[2], 3072)?;
    Ok(Sizes::plain(hidden, inner, layer_count(f, keys[0], layers)?, heads, head_dim(f, keys[1], hidden, heads)?, f.count("vocab_size")?))
}

fn layer(sizes: &Sizes, crosses: bool) -> Vec<Tensor> {
    let hidden = sizes.hidden;
    let mut t = Tensors::default();
    // The encoder's attention and its norm are called otherwise.
    let blocks: &[[&str; 2]] =
        if crosses { &[["self_attn", "self_attn_layer_norm"], ["encoder_attn", "encoder_attn_layer_norm"]] } else { &[["attention", "layer_norm"]] };
    for [module, norm] in blocks {
        for leaf in ["k_proj", "v_proj", "q_proj", "out_proj"] {
            t.linear(&format!("{module}.{leaf}"), hidden, hidden, true);
        }
        t.norm(norm, hidden, true);
    }
    t.linear("feed_forward.intermediate_dense", hidden, sizes.inner, true)
        .linear("feed_forward.output_dense", sizes.inner, hidden, true)
        .norm("final_layer_norm", hidden, true)
        .build()
}

/// Spectrograms into the decoder and out of it.
fn speech_nets(f: &Fields, t: &mut Tensors, hidden: u64) -> Result<(), ConfigError> {
    let (mels, units) = (f.count("num_mel_bins")?, f.count("speech_decoder_prenet_units")?);
    for number in 0..layer_count(f, "speech_decoder_prenet_layers", 2)? {
        t.linear(&format!("speecht5.decoder.prenet.layers.{number}"), if number == 0 { mels } else { units }, units, true);
    }
    t.linear("speecht5.decoder.prenet.final_layer", units, hidden, true).tensor("speecht5.decoder.prenet.encode_positions.alpha", Role::Position, &[]).linear(
        "speecht5.decoder.prenet.speaker_embeds_layer",
        hidden.saturating_add(f.count("speaker_embedding_dim")?),
        hidden,
        true,
    );
    let rate = f.count("reduction_factor")?;
    t.linear("speech_decoder_postnet.feat_out", hidden, mels.saturating_mul(rate), true).linear("speech_decoder_postnet.prob_out", hidden, rate, true);
    let (width, kernel) = (f.count("speech_decoder_postnet_units")?, f.count("speech_decoder_postnet_kernel")?);
    let last = layer_count(f, "speech_decoder_postnet_layers", 5)? - 1;
    for number in 0..=last {
        let (inputs, outputs) = (if number == 0 { mels } else { width }, if number == last { mels } else { width });
        let at = format!("speech_decoder_postnet.layers.{number}");
        t.convolution(&format!("{at}.conv"), &[outputs, inputs, kernel], false).norm(&format!("{at}.batch_norm"), outputs, true);
    }
    Ok(())
}
