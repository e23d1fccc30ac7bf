//! Mimi, a codec of sound with a transformer on either side of its codes (which are buffers); and CSM, a language model that speaks in
//! them: a decoder over text and codes, and a small one over the codebooks of one frame.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, component, layers_by_span};
use super::towers::TowerShape;
use super::vision::staged;
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// `MimiConfig` of transformers 5.23.
const CODEC: &[(&str, u64)] = &[
    ("hidden_size", 512),
    ("intermediate_size", 2048),
    ("num_hidden_layers", 8),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 8),
    ("head_dim", 64),
    ("num_filters", 64),
    ("num_residual_layers", 1),
    ("kernel_size", 7),
    ("last_kernel_size", 3),
    ("residual_kernel_size", 3),
    ("compress", 2),
    ("audio_channels", 1),
    ("vector_quantization_hidden_dimension", 256),
    ("sampling_rate", 24_000),
];

/// `CsmConfig`.
const CSM: &[(&str, u64)] = &[
    ("num_codebooks", 32),
    ("vocab_size", 2051),
    ("text_vocab_size", 128_256),
    ("hidden_size", 2048),
    ("intermediate_size", 8192),
    ("num_hidden_layers", 16),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 8),
];

/// `CsmDepthDecoderConfig`.
const DEPTH: &[(&str, u64)] = &[
    ("num_codebooks", 32),
    ("backbone_hidden_size", 2048),
    ("vocab_size", 2051),
    ("hidden_size", 1024),
    ("intermediate_size", 8192),
    ("num_hidden_layers", 4),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 2),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let [encoder, decoder] = codec(f, "")?;
    let width = encoder.hidden_size;
    let draft = Draft { kind: ComponentKind::AudioTower, ..staged(width, Vec::new(), Vec::new(), "") };
    Ok(draft.with(encoder).with(decoder))
}

/// Both sides of a codec whose modules stand under `at`.
pub(super) fn codec(f: &Fields, at: &str) -> Result<[Component; 2], ConfigError> {
    let f = &f.with_defaults(CODEC);
    for key in ["codebook_size", "codebook_dim", "num_quantizers", "num_semantic_quantizers", "sliding_window", "dilation_growth_rate", "upsample_groups"] {
        f.touch(key);
    }
    for key in ["model_type", "pad_mode", "trim_right_ratio", "use_causal_conv", "use_streaming", "layer_scale_initial_scale", "max_position_embeddings"] {
        f.touch(key);
    }
    let ratios = f.counts_or("upsampling_ratios", &[8, 6, 5, 4])?;
    if ratios.is_empty() || ratios.len() > 16 || ratios.contains(&0) {
        return Err(f.impossible("upsampling_ratios", "it must be a list of at most 16 factors, at least 1 each"));
    }
    let (hidden, filters, channels) = (f.count("hidden_size")?, f.count("num_filters")?, f.count("audio_channels")?);
    let (kernel, last, inside) = (f.count("kernel_size")?, f.count("last_kernel_size")?, f.count("residual_kernel_size")?);
    let (residuals, compress, shortcut) = (f.count("num_residual_layers")?, f.count("compress")?, f.flag("use_conv_shortcut", false)?);
    if residuals > 64 {
        return Err(f.impossible("num_residual_layers", "it must be at most 64"));
    }
    let block = |t: &mut Tensors, name: &str, width: u64| {
        for number in 0..residuals {
            let narrow = (width / compress).max(1);
            t.convolution(&format!("{name}.{number}.block.1.conv"), &[narrow, width, inside], true).convolution(
                &format!("{name}.{number}.block.3.conv"),
                &[width, narrow, 1],
                true,
            );
            if shortcut {
                t.convolution(&format!("{name}.{number}.shortcut.conv"), &[width, width, 1], true);
            }
        }
    };
    let mut down = Tensors::default();
    let mut up = Tensors::default();
    down.convolution("encoder.layers.0.conv", &[filters, channels, kernel], true);
    let mut width = filters;
    for (number, ratio) in ratios.iter().rev().enumerate() {
        block(&mut down, &format!("encoder.stage.{number}"), width);
        let twice = width.saturating_mul(2);
        down.convolution(&format!("encoder.stage.{number}.conv"), &[twice, width, ratio.saturating_mul(2)], true);
        width = twice;
    }
    down.convolution("encoder.layers.last.conv", &[hidden, width, last], true);
    up.convolution("decoder.layers.0.conv", &[width, hidden, kernel], true);
    for (number, ratio) in ratios.iter().enumerate() {
        let half = width / 2;
        // Transposed: inputs first.
        up.tensor(&format!("decoder.stage.{number}.conv.weight"), Role::Other, &[width, half, ratio.saturating_mul(2)]).tensor(
            &format!("decoder.stage.{number}.conv.bias"),
            Role::Other,
            &[half],
        );
        block(&mut up, &format!("decoder.stage.{number}"), half);
        width = half;
    }
    up.convolution("decoder.layers.last.conv", &[channels, filters, last], true);
    // Twice as few frames as the convolutions leave, unless the rate says that these are the frames.
    let hop = ratios.iter().fold(1u64, |product, &ratio| product.saturating_mul(ratio));
    let frames = f.count("sampling_rate")?.div_ceil(hop);
    let same = f.optional_number("frame_rate")?.or(f.optional_number("_frame_rate")?).is_some_and(|rate| (rate - super::recurrent::small(frames)).abs() < 1e-6);
    if !same {
        down.convolution("downsample.conv", &[hidden, hidden, 4], false);
        up.tensor("upsample.conv.weight", Role::Other, &[hidden, 1, 4]);
    }
    let codes = f.count("vector_quantization_hidden_dimension")?;
    if codes != hidden {
        for part in ["semantic", "acoustic"] {
            down.convolution(&format!("quantizer.{part}_residual_vector_quantizer.input_proj"), &[codes, hidden, 1], false);
            up.convolution(&format!("quantizer.{part}_residual_vector_quantizer.output_proj"), &[hidden, codes, 1], false);
        }
    }
    let (heads, head) = (f.count("num_attention_heads")?, f.count("head_dim")?);
    let (queries, keys) = (heads.saturating_mul(head), f.count("num_key_value_heads")?.saturating_mul(head));
    let tower = TowerShape::read(f, TowerShape::KEYS)?;
    let inner = tower.intermediate;
    let bias = f.flag("attention_bias", false)?;
    let layer = Tensors::default()
        .linear("self_attn.q_proj", hidden, queries, bias)
        .linear("self_attn.k_proj", hidden, keys, bias)
        .linear("self_attn.v_proj", hidden, keys, bias)
        .linear("self_attn.o_proj", queries, hidden, bias)
        .linear("mlp.fc1", hidden, inner, false)
        .linear("mlp.fc2", inner, hidden, false)
        .norm("input_layernorm", hidden, true)
        .norm("post_attention_layernorm", hidden, true)
        .tensor("self_attn_layer_scale.scale", Role::Other, &[hidden])
        .tensor("mlp_layer_scale.scale", Role::Other, &[hidden])
        .build();
    let place = |tensors: Vec<Tensor>| if at.is_empty() { tensors } else { Tensors::default().nested(at, tensors).build() };
    let part = |name: &'static str, prefix: &'static str, tensors: Vec<Tensor>| {
        component(name, ComponentKind::AudioTower, hidden, prefix, place(tensors), tower.layers(&layer))
    };
    Ok([part("encoder", "encoder_transformer.layers", down.build()), part("decoder", "decoder_transformer.layers", up.build())])
}

pub(super) fn read_csm(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CSM);
    let (shape, layers) = llama(f)?;
    let hidden = shape.hidden;
    let (books, text) = (f.count("num_codebooks")?, f.count("text_vocab_size")?);
    let entries = books.saturating_mul(shape.vocab);
    let tied = f.flag("tie_codebooks_embeddings", true)?;
    for key in ["codebook_eos_token_id", "codebook_pad_token_id"] {
        f.touch(key);
    }
    let depth = f.part(&["depth_decoder_config"])?.with_defaults(DEPTH);
    depth.touch("model_type");
    let (small, inside) = llama(&depth)?;
    let above = depth.count("backbone_hidden_size")?;
    let rows = depth.count("num_codebooks")?;
    let mut t = Tensors::default();
    if !tied {
        t.embedding("depth_decoder.model.embed_tokens", rows.saturating_mul(small.vocab), above);
    }
    let t = t
        .linear("depth_decoder.model.inputs_embeds_projector", above, small.hidden, false)
        .norm("depth_decoder.model.norm", small.hidden, false)
        .tensor("depth_decoder.codebooks_head.weight", Role::Head, &[rows.saturating_sub(1), small.hidden, small.vocab])
        .build();
    let depth = component("depth_decoder", ComponentKind::Other, small.hidden, "depth_decoder.model.layers", t, inside);
    let tensors = Tensors::default()
        .embedding("embed_text_tokens", text, hidden)
        .embedding("backbone_model.embed_tokens.embed_audio_tokens", entries, hidden)
        .norm("backbone_model.norm", hidden, false)
        .linear("lm_head", hidden, shape.vocab, false)
        .build();
    f.touch("tie_word_embeddings");
    let (base, layer_prefix, head_module) = ("backbone_model", "backbone_model.layers", "lm_head");
    let decoder = Decoder { shape, base, layer_prefix, tensors, layers, head: Head::Nothing, head_module, tied_by_default: false };
    let [encoder, voice] = codec(&f.part(&["codec_config"])?, "codec_model")?;
    Ok(Draft::from(decoder).with(depth).with(encoder).with(voice))
}

/// Llama's layers.
#[allow(clippy::type_complexity)]
fn llama(f: &Fields) -> Result<(Shape, Vec<(Layer, Vec<Tensor>)>), ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let (attention, mlp) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let layer = Tensors::default().attention(&shape, attention, attention).gated_mlp(shape.hidden, intermediate, mlp).norms(LLAMA_NORMS, shape.hidden).build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &layer, |_| Span::Full);
    Ok((shape, layers))
}

/// Dia: an encoder of text and a decoder of nine codebooks at once.
pub(super) fn read_dia(f: &Fields) -> Result<Draft, ConfigError> {
    const ENCODER: &[(&str, u64)] = &[
        ("hidden_size", 1024),
        ("intermediate_size", 4096),
        ("num_hidden_layers", 12),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 16),
        ("head_dim", 128),
        ("vocab_size", 256),
    ];
    const DECODER: &[(&str, u64)] = &[
        ("hidden_size", 2048),
        ("intermediate_size", 8192),
        ("num_hidden_layers", 18),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 4),
        ("head_dim", 128),
        ("cross_num_attention_heads", 16),
        ("cross_head_dim", 128),
        ("cross_num_key_value_heads", 16),
        ("cross_hidden_size", 1024),
        ("vocab_size", 1028),
        ("num_channels", 9),
    ];
    let part = |key: &'static str, defaults| {
        let part = f.part(&[key])?.with_defaults(defaults);
        part.touch("model_type");
        Ok::<Fields, ConfigError>(part)
    };
    f.touch("delay_pattern");
    let stack = |f: &Fields, cross: Option<[u64; 3]>| {
        let shape = Shape::read(f)?;
        let (hidden, inner) = (shape.hidden, f.count("intermediate_size")?);
        let mut t = Tensors::default();
        let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
        let mut attention = |name: &str, [inputs, queries, keys]: [u64; 3]| {
            t.linear(&format!("{name}.q_proj"), hidden, queries, false)
                .linear(&format!("{name}.k_proj"), inputs, keys, false)
                .linear(&format!("{name}.v_proj"), inputs, keys, false)
                .linear(&format!("{name}.o_proj"), queries, hidden, false);
        };
        attention("self_attention", [hidden, queries, keys]);
        let norms: &[&str] = match cross {
            Some(sizes) => {
                attention("cross_attention", sizes);
                &["pre_sa_norm", "pre_ca_norm", "pre_mlp_norm"]
            }
            None => &["pre_sa_norm", "post_sa_norm"],
        };
        let layer =
            t.linear("mlp.gate_up_proj", hidden, inner.saturating_mul(2), false).linear("mlp.down_proj", inner, hidden, false).norms(norms, hidden).build();
        let mut mixer = shape.attention(Span::Full);
        mixer.keeps = if cross.is_some() { Keeps::Own } else { Keeps::Nothing };
        let one = Layer { mixer: Mixer::Attention(mixer), feed_forward: FeedForward::Dense { intermediate: inner, gated: true } };
        let layers: Vec<(Layer, Vec<Tensor>)> = (0..shape.layers).map(|_| (one, layer.clone())).collect();
        Ok::<_, ConfigError>((shape, layers))
    };
    let (e, d) = (part("encoder_config", ENCODER)?, part("decoder_config", DECODER)?);
    let (text, layers) = stack(&e, None)?;
    let tensors = Tensors::default().embedding("model.encoder.embedding", text.vocab, text.hidden).norm("model.encoder.norm", text.hidden, false).build();
    let encoder = component("encoder", ComponentKind::TextEncoder, text.hidden, "model.encoder.layers", tensors, layers);
    let head = d.count("cross_head_dim")?;
    let cross =
        [d.count("cross_hidden_size")?, d.count("cross_num_attention_heads")?.saturating_mul(head), d.count("cross_num_key_value_heads")?.saturating_mul(head)];
    let (shape, layers) = stack(&d, Some(cross))?;
    let entries = d.count("num_channels")?.saturating_mul(shape.vocab);
    let mut t = Tensors::default();
    t.embedding("model.decoder.embeddings.embed", entries, shape.hidden).norm("model.decoder.norm", shape.hidden, false);
    if f.architecture()?.is_none_or(|class| !class.ends_with("Model")) {
        t.linear("logits_dense", shape.hidden, entries, false);
    }
    f.touch("tie_word_embeddings");
    let (base, layer_prefix, head_module) = ("model", "model.decoder.layers", "logits_dense");
    let decoder = Decoder { shape, base, layer_prefix, tensors: t.build(), layers, head: Head::Nothing, head_module, tied_by_default: false };
    Ok(Draft::from(decoder).with(encoder))
}
