//! `SeamlessM4T`, both versions: encoders of text and of speech (a conformer), one decoder of text; for speech out a small model from text
//! to units and a vocoder. What a class has of these its name says.

use super::decoder::{Draft, Tensors, component};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Keeps, Role, Tensor};

/// `SeamlessM4TConfig` and `SeamlessM4Tv2Config` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 256_102),
    ("hidden_size", 1024),
    ("speech_encoder_intermediate_size", 4096),
    ("feature_projection_input_dim", 160),
    ("conv_depthwise_kernel_size", 31),
    ("adaptor_kernel_size", 8),
    ("num_adapter_layers", 1),
    ("left_max_position_embeddings", 64),
    ("right_max_position_embeddings", 8),
    ("t2u_vocab_size", 10_082),
    ("char_vocab_size", 10_943),
    ("t2u_variance_predictor_embed_dim", 1024),
    ("t2u_variance_predictor_hidden_dim", 256),
    ("t2u_variance_predictor_kernel_size", 3),
    ("upsample_initial_channel", 512),
    ("unit_hifi_gan_vocab_size", 10_000),
    ("unit_embed_dim", 1280),
    ("lang_embed_dim", 256),
    ("spkr_embed_dim", 256),
    ("vocoder_num_langs", 36),
    ("vocoder_num_spkrs", 200),
    ("variance_predictor_kernel_size", 3),
];

/// Keys of how it is run and trained, and of lengths that no table depends on.
const METHOD: &[&str] = &[
    "adaptor_stride",
    "max_source_positions",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
    "rotary_embedding_base",
    "speech_encoder_chunk_size",
    "speech_encoder_left_chunk_num",
    "t2u_max_new_tokens",
    "t2u_max_position_embeddings",
    "upsample_rates",
    "vocoder_offset",
];

/// Most layers of the adapter, and of a vocoder's level, that are read.
const MAX: usize = 1000;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    build(f, false)
}

pub(super) fn read_v2(f: &Fields) -> Result<Draft, ConfigError> {
    build(f, true)
}

fn build(f: &Fields, second: bool) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    for key in METHOD {
        f.touch(key);
    }
    let class = f.architecture()?.unwrap_or_default();
    let whole = !class.contains("For");
    let (hears, reads) = (whole || class.contains("ForSpeechTo"), whole || class.contains("ForTextTo"));
    let speaks = whole || class.ends_with("ToSpeech");

    let decoder = stack(f, ["decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"], [24, 16, 8192])?;
    let hidden = decoder.hidden;
    let mut tensors = Tensors::default();
    tensors.embedding("shared", f.count("vocab_size")?, hidden).norm("text_decoder.layer_norm", hidden, true);
    // Untied, the head and each stack have a table of their own beside the shared one.
    let tied = f.flag("tie_word_embeddings", true)?;
    if !tied {
        tensors.linear("lm_head", hidden, decoder.vocab, false).embedding("text_decoder.embed_tokens", decoder.vocab, hidden);
        if reads {
            tensors.embedding("text_encoder.embed_tokens", decoder.vocab, hidden);
        }
    }
    let layers = decoder.equal_layers(Keeps::Own, &layer(&decoder, true));
    let mut draft = decoder.model(ComponentKind::TextDecoder, "", "text_decoder.layers", tensors.build(), layers);
    if reads {
        let sizes = stack(f, ["encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"], [24, 16, 8192])?;
        let norm = Tensors::default().norm("text_encoder.layer_norm", hidden, true).build();
        let layers = sizes.equal_layers(Keeps::Nothing, &layer(&sizes, false));
        draft = draft.with(encoder_component(&sizes, ComponentKind::TextEncoder, "text_encoder.layers", norm, layers));
    }
    if hears {
        draft = draft.with(speech_encoder(f, second)?);
    }
    if speaks {
        let [encoder, mut units] = text_to_unit(f, second)?;
        if !tied {
            let head = Tensors::default().linear("t2u_model.lm_head", units.hidden_size, f.count("t2u_vocab_size")?, false).build();
            units.tensors.extend(head);
        }
        draft = draft.with(encoder).with(units).with(component("vocoder", ComponentKind::Other, f.count("unit_embed_dim")?, "", vocoder(f)?, Vec::new()));
    }
    Ok(draft)
}

fn stack(f: &Fields, keys: [&'static str; 3], defaults: [u64; 3]) -> Result<Sizes, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let layers = layer_count(f, keys[0], defaults[0])?;
    let heads = f.count_or(keys[1], defaults[1])?;
    let inner = f.count_or(keys[2], defaults[2])?;
    Ok(Sizes::plain(hidden, inner, layers, heads, head_dim(f, keys[1], hidden, heads)?, f.count("vocab_size")?))
}

fn attention(t: &mut Tensors, name: &str, hidden: u64) {
    for leaf in ["k_proj", "v_proj", "q_proj", "out_proj"] {
        t.linear(&format!("{name}.{leaf}"), hidden, hidden, true);
    }
    t.norm(&format!("{name}_layer_norm"), hidden, true);
}

fn layer(sizes: &Sizes, crosses: bool) -> Vec<Tensor> {
    let mut t = Tensors::default();
    attention(&mut t, "self_attn", sizes.hidden);
    if crosses {
        attention(&mut t, "cross_attention", sizes.hidden);
    }
    t.linear("ffn.fc1", sizes.hidden, sizes.inner, true).linear("ffn.fc2", sizes.inner, sizes.hidden, true).norm("ffn_layer_norm", sizes.hidden, true).build()
}

/// Two half feed-forwards around attention and a convolution; positions by a matrix or by a table of distances.
fn speech_encoder(f: &Fields, second: bool) -> Result<Component, ConfigError> {
    let keys = ["speech_encoder_layers", "speech_encoder_attention_heads", "speech_encoder_intermediate_size"];
    let sizes = stack(f, keys, [24, 16, 4096])?;
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let feed_forward = |t: &mut Tensors, name: &str| {
        t.linear(&format!("{name}.intermediate_dense"), hidden, inner, true).linear(&format!("{name}.output_dense"), inner, hidden, true);
    };
    let projections = |t: &mut Tensors, name: &str| {
        for leaf in ["linear_q", "linear_k", "linear_v", "linear_out"] {
            t.linear(&format!("{name}.{leaf}"), hidden, hidden, true);
        }
    };
    let mut t = Tensors::default();
    for name in ["ffn1", "ffn2"] {
        feed_forward(t.norm(&format!("{name}_layer_norm"), hidden, true), name);
    }
    projections(t.norm("self_attn_layer_norm", hidden, true), "self_attn");
    let default = if second { "relative_key" } else { "relative" };
    let kind = if f.has("position_embeddings_type") { f.optional_text("position_embeddings_type")?.unwrap_or_default() } else { default.to_owned() };
    match kind.as_str() {
        "relative" => {
            t.linear("self_attn.linear_pos", hidden, hidden, false);
            for name in ["pos_bias_u", "pos_bias_v"] {
                t.tensor(&format!("self_attn.{name}"), Role::Position, &[sizes.heads, sizes.head_dim]);
            }
        }
        "relative_key" => {
            let distances = f.count("left_max_position_embeddings")?.saturating_add(f.count("right_max_position_embeddings")?).saturating_add(1);
            t.embedding("self_attn.distance_embedding", distances, sizes.head_dim);
        }
        _ => {}
    }
    let normed = if second { "depthwise_layer_norm" } else { "batch_norm" };
    t.norm("conv_module.layer_norm", hidden, true)
        .convolution("conv_module.pointwise_conv1", &[hidden.saturating_mul(2), hidden, 1], false)
        .convolution("conv_module.depthwise_conv", &[hidden, 1, f.count("conv_depthwise_kernel_size")?], false)
        .norm(&format!("conv_module.{normed}"), hidden, true)
        .convolution("conv_module.pointwise_conv2", &[hidden, hidden, 1], false)
        .norm("final_layer_norm", hidden, true);
    let layers = sizes.equal_layers(Keeps::Nothing, &t.build());

    let inputs = f.count("feature_projection_input_dim")?;
    let mut t = Tensors::default();
    t.norm("speech_encoder.feature_projection.layer_norm", inputs, true)
        .linear("speech_encoder.feature_projection.projection", inputs, hidden, true)
        .norm("speech_encoder.encoder.layer_norm", hidden, true)
        .norm("speech_encoder.inner_layer_norm", hidden, true);
    feed_forward(&mut t, "speech_encoder.intermediate_ffn");
    if f.flag("add_adapter", true)? {
        let kernel = f.count("adaptor_kernel_size")?;
        for number in 0..layer_count(f, "num_adapter_layers", 1)? {
            let at = format!("speech_encoder.adapter.layers.{number}");
            for name in ["residual", "self_attn"] {
                t.norm(&format!("{at}.{name}_layer_norm"), hidden, true).convolution(
                    &format!("{at}.{name}_conv"),
                    &[hidden.saturating_mul(2), hidden, kernel],
                    true,
                );
            }
            projections(&mut t, &format!("{at}.self_attn"));
            feed_forward(t.norm(&format!("{at}.ffn_layer_norm"), hidden, true), &format!("{at}.ffn"));
        }
    }
    Ok(component("speech_encoder", ComponentKind::AudioTower, hidden, "speech_encoder.encoder.layers", t.build(), layers))
}

/// The small model from text to units; in the second version its decoder writes all units at once, with convolutions.
fn text_to_unit(f: &Fields, second: bool) -> Result<[Component; 2], ConfigError> {
    let sizes = stack(f, ["t2u_encoder_layers", "t2u_encoder_attention_heads", "t2u_encoder_ffn_dim"], [6, 16, 8192])?;
    let hidden = sizes.hidden;
    let norm = Tensors::default().norm("t2u_model.model.encoder.layer_norm", hidden, true).build();
    let layers = sizes.equal_layers(Keeps::Nothing, &layer(&sizes, false));
    let encoder = component("unit_encoder", ComponentKind::TextEncoder, hidden, "t2u_model.model.encoder.layers", norm, layers);

    let sizes = stack(f, ["t2u_decoder_layers", "t2u_decoder_attention_heads", "t2u_decoder_ffn_dim"], [6, 16, 8192])?;
    let mut outside = Tensors::default();
    outside.embedding("t2u_model.model.decoder.embed_tokens", f.count("t2u_vocab_size")?, hidden).norm("t2u_model.model.decoder.layer_norm", hidden, true);
    let layers = if second {
        let (inputs, width) = (f.count("t2u_variance_predictor_embed_dim")?, f.count("t2u_variance_predictor_hidden_dim")?);
        outside
            .tensor("t2u_model.model.decoder.pos_emb_alpha_char", Role::Position, &[1])
            .tensor("t2u_model.model.decoder.pos_emb_alpha", Role::Position, &[1])
            .embedding("t2u_model.model.decoder.embed_char", f.count("char_vocab_size")?, hidden);
        duration(&mut outside, "t2u_model.model.decoder.duration_predictor", [inputs, width, f.count("t2u_variance_predictor_kernel_size")?]);
        let mut t = Tensors::default();
        attention(&mut t, "self_attn", hidden);
        // The kernel is written into the class.
        for name in ["conv1", "conv2"] {
            t.convolution(name, &[hidden, hidden, 7], true);
        }
        sizes.equal_layers(Keeps::Nothing, &t.norm("conv_layer_norm", hidden, true).build())
    } else {
        sizes.equal_layers(Keeps::Own, &layer(&sizes, true))
    };
    let units = component("unit_decoder", ComponentKind::Other, hidden, "t2u_model.model.decoder.layers", outside.build(), layers);
    Ok([encoder, units])
}

/// Two convolutions that say how long each piece is: inputs, width, kernel.
fn duration(t: &mut Tensors, at: &str, [inputs, width, kernel]: [u64; 3]) {
    t.convolution(&format!("{at}.conv1"), &[width, inputs, kernel], true)
        .norm(&format!("{at}.ln1"), width, true)
        .convolution(&format!("{at}.conv2"), &[width, width, kernel], true)
        .norm(&format!("{at}.ln2"), width, true)
        .linear(&format!("{at}.proj"), width, 1, true);
}

/// HiFi-GAN over units, speaker and language.
fn vocoder(f: &Fields) -> Result<Vec<Tensor>, ConfigError> {
    let list = |key: &'static str, default: &[u64]| match f.counts_or(key, default)? {
        list if list.len() <= MAX => Ok(list),
        _ => Err(f.impossible(key, "it is longer than any model's")),
    };
    let (units, speaker, language) = (f.count("unit_embed_dim")?, f.count("spkr_embed_dim")?, f.count("lang_embed_dim")?);
    let mut t = Tensors::default();
    duration(&mut t, "vocoder.dur_predictor", [units, units, f.count("variance_predictor_kernel_size")?]);
    t.embedding("vocoder.unit_embedding", f.count("unit_hifi_gan_vocab_size")?, units)
        .embedding("vocoder.speaker_embedding", f.count("vocoder_num_spkrs")?, speaker)
        .embedding("vocoder.language_embedding", f.count("vocoder_num_langs")?, language);
    let first = f.count("upsample_initial_channel")?;
    t.convolution("vocoder.hifi_gan.conv_pre", &[first, units.saturating_add(speaker).saturating_add(language), 7], true);
    let kernels = list("resblock_kernel_sizes", &[3, 7, 11])?;
    let dilations = f.raw("resblock_dilation_sizes").and_then(|list| list.as_array());
    let depth = |number: usize| dilations.map_or(3, |list| list.get(number).and_then(|list| list.as_array()).map_or(0, Vec::len).min(MAX));
    let (mut channels, mut block) = (first, 0);
    for (level, kernel) in list("upsample_kernel_sizes", &[11, 8, 8, 4, 4])?.into_iter().enumerate() {
        let half = channels / 2;
        // Transposed: inputs first.
        t.tensor(&format!("vocoder.hifi_gan.upsampler.{level}.weight"), Role::Other, &[channels, half, kernel]).tensor(
            &format!("vocoder.hifi_gan.upsampler.{level}.bias"),
            Role::Other,
            &[half],
        );
        channels = half;
        for (number, &kernel) in kernels.iter().enumerate() {
            for (part, convolution) in ["convs1", "convs2"].into_iter().flat_map(|part| (0..depth(number)).map(move |convolution| (part, convolution))) {
                t.convolution(&format!("vocoder.hifi_gan.resblocks.{block}.{part}.{convolution}"), &[channels, channels, kernel], true);
            }
            block += 1;
        }
    }
    t.convolution("vocoder.hifi_gan.conv_post", &[1, channels, 7], true);
    Ok(t.build())
}
