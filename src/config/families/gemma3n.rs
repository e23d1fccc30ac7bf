//! Gemma 3n: embeddings per layer, alternating updates over several streams, low-rank residuals, and layers that read the cache of
//! earlier ones (their own key and value projections are in the published files, which are what is counted; transformers 5.23
//! builds none); a `MobileNet` tower and a conformer for sound.

use super::decoder::{Decoder, Draft, Shape, Tensors, component, spans_by_layer_types};
use super::multimodal::{Names, Wrapper, language};
use super::recurrent::divided;
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// `Gemma3nTextConfig` of transformers 5.23.
const TEXT_DEFAULTS: &[(&str, u64)] = &[
    ("num_key_value_heads", 2),
    ("head_dim", 256),
    ("sliding_window", 512),
    ("intermediate_size", 16_384),
    ("vocab_size_per_layer_input", 262_144),
    ("hidden_size_per_layer_input", 256),
    ("altup_num_inputs", 4),
    ("laurel_rank", 64),
];

const NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "post_per_layer_input_norm"];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT_DEFAULTS);
    let shape = Shape::read(f)?;
    let hidden = shape.hidden;
    let attention_bias = f.flag("attention_bias", false)?;
    let (per_layer, rank) = (f.count("hidden_size_per_layer_input")?, f.count("laurel_rank")?);
    let streams = f.count("altup_num_inputs")?;
    if streams > 1000 {
        return Err(f.impossible("altup_num_inputs", "no model has more than 1000 streams"));
    }
    let shared = f.optional_count_or_zero("num_kv_shared_layers")?.unwrap_or(15);
    let Some(first_shared) = shape.layers.checked_sub(shared).filter(|&first| first > 0 || shared == 0) else {
        return Err(f.impossible("num_kv_shared_layers", "it must be less than `num_hidden_layers`"));
    };
    let spans = match spans_by_layer_types(f, &shape)? {
        Some(spans) => spans,
        // Every fifth layer is full.
        None => {
            let window = f.count("sliding_window")?;
            (1..=shape.layers).map(|i| if i.is_multiple_of(5) { Span::Full } else { Span::Sliding(window) }).collect()
        }
    };
    f.touch("sliding_window");
    let widths = f.counts_of_layers("intermediate_size", shape.layers)?;
    let layers = (0..).zip(spans).zip(widths).map(|((number, span), intermediate)| {
        let keeps = if number < first_shared { Keeps::Own } else { Keeps::Shared };
        let mixer = Mixer::Attention(Attention { keeps, ..shape.attention(span) });
        let tensors = Tensors::default()
            .norms(NORMS, hidden)
            .attention(&shape, attention_bias, attention_bias)
            .query_key_norm(&shape)
            .gated_mlp(hidden, intermediate, false)
            .tensor("altup.correct_output_scale", Role::Other, &[hidden])
            .linear("altup.correction_coefs", streams, streams, false)
            .linear("altup.prediction_coefs", streams, streams * streams, false)
            .linear("altup.modality_router", hidden, streams, false)
            .norm("altup.router_norm", hidden, false)
            .linear("laurel.linear_left", hidden, rank, false)
            .linear("laurel.linear_right", rank, hidden, false)
            .norm("laurel.post_laurel_norm", hidden, false)
            .linear("per_layer_input_gate", hidden, per_layer, false)
            .linear("per_layer_projection", per_layer, hidden, false)
            .build();
        (Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: true } }, tensors)
    });
    let layers = layers.collect();
    let of_all_layers = shape.layers.saturating_mul(per_layer);
    let mut t = Tensors::default();
    t.embedding("model.embed_tokens", shape.vocab, hidden)
        .embedding("model.embed_tokens_per_layer", f.count("vocab_size_per_layer_input")?, of_all_layers)
        .linear("model.per_layer_model_projection", hidden, of_all_layers, false)
        .norm("model.per_layer_projection_norm", per_layer, false)
        .norm("model.norm", hidden, false);
    for stream in 1..streams {
        for list in ["altup_projections", "altup_unembed_projections"] {
            t.linear(&format!("model.{list}.{}", stream - 1), hidden, hidden, false);
        }
    }
    let tensors = t.build();
    Ok(Decoder { tensors, ..Decoder::llama_like(shape, layers, true) }.into())
}

/// Encoders of timm, named in the config: (name, parameters). Counted on timm 1.0.
const TIMM_TOWERS: &[(&str, u64)] = &[("mobilenetv5_300m_enc", 294_126_912)];

/// `Gemma3nVisionConfig` and `Gemma3nAudioConfig` of transformers 5.23.
const VISION_DEFAULTS: &[(&str, u64)] = &[("hidden_size", 2048), ("vocab_size", 128)];
const AUDIO_DEFAULTS: &[(&str, u64)] = &[
    ("hidden_size", 1536),
    ("vocab_size", 128),
    ("input_feat_size", 128),
    ("conf_num_attention_heads", 8),
    ("conf_num_hidden_layers", 12),
    ("conf_conv_kernel_size", 5),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("gemma3n_text") })?;
    let text_hidden = draft.decoder.shape.hidden;
    let open = |key: &'static str, defaults: &[(&str, u64)]| -> Result<Fields, ConfigError> { Ok(f.part(&[key])?.with_defaults(defaults)) };
    let (vision, audio) = (open("vision_config", VISION_DEFAULTS)?, open("audio_config", AUDIO_DEFAULTS)?);
    let embedder = |t: &mut Tensors, part: &Fields, at: &str| -> Result<(), ConfigError> {
        let width = part.count("hidden_size")?;
        t.embedding(&format!("{at}.embedding"), part.count("vocab_size")?, width)
            .norms(&[&format!("{at}.hard_embedding_norm"), &format!("{at}.soft_embedding_norm")], width)
            .linear(&format!("{at}.embedding_projection"), width, text_hidden, false);
        Ok(())
    };
    let mut t = Tensors::default();
    embedder(&mut t, &vision, "model.embed_vision")?;
    embedder(&mut t, &audio, "model.embed_audio")?;
    for part in [&vision, &audio] {
        for unread in ["model_type", "dtype", "torch_dtype", "architectures"] {
            part.touch(unread);
        }
    }
    let projector = component("projector", ComponentKind::Projector, text_hidden, "", t.build(), Vec::new());
    Ok(draft.with(tower(&vision)?).with(sound(&audio)?).with(projector))
}

/// The tower, whose tensors are not told apart.
fn tower(v: &Fields) -> Result<Component, ConfigError> {
    let name = v.optional_text("architecture")?.unwrap_or_else(|| TIMM_TOWERS[0].0.to_owned());
    let Some((_, parameters)) = TIMM_TOWERS.iter().find(|(known, _)| *known == name) else {
        return Err(v.impossible("architecture", "this image encoder of timm is not known"));
    };
    v.touch("do_pooling");
    v.touch("model_args");
    let tensors = Tensors::default().tensor("model.vision_tower.timm_model", Role::Other, &[*parameters]).build();
    Ok(component("vision", ComponentKind::VisionTower, v.count("hidden_size")?, "", tensors, Vec::new()))
}

/// A pair of numbers for the two convolutions, or a list of pairs.
fn pairs(a: &Fields, key: &'static str, default: [u64; 2]) -> Result<[[u64; 2]; 2], ConfigError> {
    let wrong = || a.impossible(key, "it must be two pairs of whole numbers, each at least 1");
    let Some(list) = a.raw(key) else { return Ok([default; 2]) };
    let pair = |value: &serde_json::Value| -> Option<[u64; 2]> {
        let number = |index: usize| value.get(index)?.as_u64().filter(|&n| (1..=1 << 20).contains(&n));
        Some([number(0)?, number(1)?])
    };
    match list.as_array().map(Vec::as_slice) {
        Some([first, second]) => Ok([pair(first).ok_or_else(wrong)?, pair(second).ok_or_else(wrong)?]),
        _ => Err(wrong()),
    }
}

/// The conformer behind two strided convolutions.
fn sound(a: &Fields) -> Result<Component, ConfigError> {
    let hidden = a.count("hidden_size")?;
    let heads = a.count("conf_num_attention_heads")?;
    let head_dim = divided(a, "conf_num_attention_heads", hidden, heads, "it must divide `hidden_size`")?;
    let channels = a.counts_or("sscp_conv_channel_size", &[128, 32])?;
    let &[first, second] = channels.as_slice() else { return Err(a.impossible("sscp_conv_channel_size", "it must be two numbers")) };
    let kernels = pairs(a, "sscp_conv_kernel_size", [3, 3])?;
    let strides = pairs(a, "sscp_conv_stride_size", [2, 2])?;
    // One column of padding on either side of the frequencies.
    let mut frequencies = a.count("input_feat_size")?;
    for (kernel, stride) in kernels.iter().zip(strides) {
        let past = (frequencies + 2).checked_sub(kernel[1]).ok_or_else(|| a.impossible("input_feat_size", "it is narrower than the convolution"))?;
        frequencies = past / stride[1] + 1;
    }
    let at = "model.audio_tower.subsample_conv_projection";
    let tensors = Tensors::default()
        .convolution(&format!("{at}.conv_0.conv"), &[first, 1, kernels[0][0], kernels[0][1]], false)
        .norm(&format!("{at}.conv_0.norm"), first, false)
        .convolution(&format!("{at}.conv_1.conv"), &[second, first, kernels[1][0], kernels[1][1]], false)
        .norm(&format!("{at}.conv_1.norm"), second, false)
        .linear(&format!("{at}.input_proj_linear"), second.saturating_mul(frequencies), hidden, false)
        .build();
    let layers = a.count("conf_num_hidden_layers")?;
    if layers > 10_000 {
        return Err(a.impossible("conf_num_hidden_layers", "no model has more than 10,000 layers"));
    }
    // A block of frames attends to itself and to some before and behind it.
    let or = |key: &str, default: u64| Ok::<_, ConfigError>(a.optional_count_or_zero(key)?.unwrap_or(default));
    let reach = [or("conf_attention_chunk_size", 12)?, or("conf_attention_context_left", 13)?.saturating_sub(1), or("conf_attention_context_right", 0)?];
    let span = Span::Chunked(reach.into_iter().fold(0, u64::saturating_add));
    let attention = Attention { heads, kv_heads: heads, key_dim: head_dim, value_dim: head_dim, span, keeps: Keeps::Nothing };
    let layer = Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: 4 * hidden, gated: false } };
    let block = conformer_block(hidden, head_dim, a.count("conf_conv_kernel_size")?);
    let layers = (0..layers).map(|_| (layer, block.clone())).collect();
    Ok(component("audio", ComponentKind::AudioTower, hidden, "model.audio_tower.conformer", tensors, layers))
}

fn conformer_block(hidden: u64, head_dim: u64, kernel: u64) -> Vec<Tensor> {
    let mut t = Tensors::default();
    for at in ["ffw_layer_start", "ffw_layer_end"] {
        t.norms(&[&format!("{at}.pre_layer_norm"), &format!("{at}.post_layer_norm")], hidden)
            .linear(&format!("{at}.ffw_layer_1"), hidden, 4 * hidden, false)
            .linear(&format!("{at}.ffw_layer_2"), 4 * hidden, hidden, false);
    }
    t.norms(&["attention.pre_attn_norm", "attention.post_norm"], hidden).tensor("attention.attn.per_dim_scale", Role::Other, &[head_dim]).linear(
        "attention.attn.relative_position_embedding.pos_proj",
        hidden,
        hidden,
        false,
    );
    for name in ["attn.q_proj", "attn.k_proj", "attn.v_proj", "post"] {
        t.linear(&format!("attention.{name}"), hidden, hidden, false);
    }
    t.norms(&["lconv1d.pre_layer_norm", "lconv1d.conv_norm"], hidden)
        .linear("lconv1d.linear_start", hidden, 2 * hidden, false)
        .convolution("lconv1d.depthwise_conv1d", &[hidden, 1, kernel], false)
        .linear("lconv1d.linear_end", hidden, hidden, false)
        .norm("norm", hidden, false);
    t.build()
}
