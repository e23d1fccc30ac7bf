//! Moonshine: three convolutions over samples, rotary positions, norms without biases; its decoder's feed-forward is gated.

use super::audio::of_samples;
use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Layer, Role, Span, Tensor, Window};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f
        .with_alias("decoder_num_hidden_layers", "num_hidden_layers")
        .with_alias("decoder_num_attention_heads", "num_attention_heads")
        .with_alias("decoder_num_key_value_heads", "num_key_value_heads");
    let or = |key: &str, default: u64| f.count_or(key, default);
    let hidden = or("hidden_size", 288)?;
    let inner = or("intermediate_size", 1152)?;
    let vocab = or("vocab_size", 32768)?;
    let bias = f.flag("attention_bias", false)?;
    f.optional_count("pad_head_dim_to_multiple_of")?;
    f.optional_text("encoder_hidden_act")?;
    let gated = f.optional_text("decoder_hidden_act")?.is_none_or(|name| name == "silu");
    if !gated {
        return Err(f.impossible("decoder_hidden_act", "only the gated `silu` is understood"));
    }
    // The class gives both halves the encoder's heads.
    for key in ["decoder_num_attention_heads", "decoder_num_key_value_heads"] {
        f.touch(key);
    }
    let stack = |name: &str| {
        let [heads, kv_heads] = ["encoder_num_attention_heads", "encoder_num_key_value_heads"].map(str::to_owned);
        let heads_found = or(&heads, 8)?;
        let width = match f.optional_count("head_dim")? {
            Some(width) => width,
            None => head_dim(f, &heads, hidden, heads_found)?,
        };
        let mut sizes = Sizes::plain(hidden, inner, layer_count(f, &format!("{name}_num_hidden_layers"), 6)?, heads_found, width, vocab);
        sizes.kv_heads = or(&kv_heads, heads_found)?;
        if !sizes.heads.is_multiple_of(sizes.kv_heads) {
            return Err(f.impossible(&kv_heads, "it must divide the number of attention heads"));
        }
        Ok(sizes)
    };
    let encoder = stack("encoder")?;
    let decoder = Sizes { gated: true, ..stack("decoder")? };
    let tensors = Tensors::default()
        .convolution("model.encoder.conv1", &[hidden, 1, 127], false)
        .convolution("model.encoder.conv2", &[2 * hidden, hidden, 7], true)
        .convolution("model.encoder.conv3", &[hidden, 2 * hidden, 3], true)
        .norm("model.encoder.groupnorm", hidden, true)
        .norm("model.encoder.layer_norm", hidden, false)
        .build();
    let mut component = encoder_component(&encoder, ComponentKind::AudioTower, "model.encoder.layers", tensors, layers(&encoder, bias, false));
    component.work = of_samples([(127, 64), (7, 3), (3, 2)].map(|(kernel, stride)| Window::tight(kernel, stride)));
    let mut tensors = Tensors::default();
    tensors.embedding("model.decoder.embed_tokens", vocab, hidden).norm("model.decoder.norm", hidden, false);
    let is_bare = f.architecture()?.is_some_and(|class| class.ends_with("Model"));
    if !f.flag("tie_word_embeddings", true)? && !is_bare {
        tensors.linear("proj_out", hidden, vocab, false);
    }
    let draft = decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), layers(&decoder, bias, true));
    Ok(draft.with(component))
}

/// `MoonshineStreamingConfig` of transformers 5.23, and its encoder's object.
const STREAMING: &[(&str, u64)] = &[
    ("vocab_size", 32_768),
    ("hidden_size", 320),
    ("intermediate_size", 1280),
    ("num_hidden_layers", 6),
    ("num_attention_heads", 8),
    ("max_position_embeddings", 4096),
];

/// Moonshine that listens as it goes: frames of samples, two causal convolutions, and an encoder of a width of its own whose places
/// the decoder learns.
pub(super) fn read_streaming(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(STREAMING);
    let e = &f.part(&["encoder_config"])?.with_defaults(&STREAMING[1..5]);
    for key in ["model_type", "frame_ms", "sample_rate", "sliding_windows", "max_position_embeddings"] {
        e.touch(key);
    }
    f.touch("pad_head_dim_to_multiple_of");
    let vocab = f.count("vocab_size")?;
    let sizes = |f: &Fields, kv_heads: Option<u64>| {
        let (hidden, heads) = (f.count("hidden_size")?, f.count("num_attention_heads")?);
        let width = f.optional_count("head_dim")?.map_or_else(|| head_dim(f, "num_attention_heads", hidden, heads), Ok)?;
        let mut sizes = Sizes::plain(hidden, f.count("intermediate_size")?, layer_count(f, "num_hidden_layers", 6)?, heads, width, vocab);
        sizes.kv_heads = f.optional_count("num_key_value_heads")?.or(kv_heads).unwrap_or(heads);
        if !heads.is_multiple_of(sizes.kv_heads) {
            return Err(f.impossible("num_key_value_heads", "it must divide the number of attention heads"));
        }
        Ok(sizes)
    };
    // Where they are not said, the decoder has as many as heads, the encoder the class's number.
    let (encoder, decoder) = (sizes(e, Some(8))?, Sizes { gated: true, ..sizes(f, None)? });
    let (heard, hidden) = (encoder.hidden, decoder.hidden);
    let rate = e.optional_number("sample_rate")?.unwrap_or(16_000.0) * e.optional_number("frame_ms")?.unwrap_or(5.0) / 1000.0;
    if !(1.0..=1e6).contains(&rate) {
        return Err(e.impossible("frame_ms", "with `sample_rate` it must give frames of 1 to 1,000,000 samples"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Within the range just checked.
    let frame = rate.round() as u64;
    let tensors = Tensors::default()
        .tensor("model.encoder.embedder.comp.log_k", Role::Other, &[])
        .linear("model.encoder.embedder.linear", frame, heard, false)
        .convolution("model.encoder.embedder.conv1", &[2 * heard, heard, 5], true)
        .convolution("model.encoder.embedder.conv2", &[heard, 2 * heard, 5], true)
        .tensor("model.encoder.final_norm.gamma", Role::Norm, &[heard])
        .build();
    let is_biased = e.flag("attention_bias", false)?;
    let mut of_encoder = layers(&encoder, is_biased, false);
    // Its output has the bias too, which the decoder's has not.
    for (_, tensors) in of_encoder.iter_mut().filter(|_| is_biased) {
        tensors.extend(Tensors::default().tensor("self_attn.o_proj.bias", Role::AttentionOutput, &[heard]).build());
    }
    let mut component = encoder_component(&encoder, ComponentKind::AudioTower, "model.encoder.layers", tensors, of_encoder);
    // The convolutions are causal: their zeros all stand before the frames.
    component.work = of_samples([Window::tight(frame, frame), Window::same(5, 2), Window::same(5, 2)]);
    let mut tensors = Tensors::default();
    tensors.embedding("model.decoder.embed_tokens", vocab, hidden).norm("model.decoder.norm", hidden, false).tensor(
        "model.decoder.pos_emb.weight",
        Role::Position,
        &[f.count("max_position_embeddings")?, heard],
    );
    if heard != hidden {
        tensors.linear("model.decoder.proj", heard, hidden, false);
    }
    let is_bare = f.architecture()?.is_some_and(|class| class.ends_with("Model"));
    if !f.flag("tie_word_embeddings", false)? && !is_bare {
        tensors.linear("proj_out", hidden, vocab, false);
    }
    let of_decoder = layers(&decoder, f.flag("attention_bias", false)?, true);
    Ok(decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", tensors.build(), of_decoder).with(component))
}

fn layers(sizes: &Sizes, bias: bool, is_decoder: bool) -> Vec<(Layer, Vec<Tensor>)> {
    let (hidden, inner) = (sizes.hidden, sizes.inner);
    let (queries, keys) = (sizes.heads.saturating_mul(sizes.head_dim), sizes.kv_heads.saturating_mul(sizes.head_dim));
    let mut tensors = Tensors::default();
    for module in ["self_attn", "encoder_attn"].iter().take(if is_decoder { 2 } else { 1 }) {
        tensors
            .linear(&format!("{module}.q_proj"), hidden, queries, bias)
            .linear(&format!("{module}.k_proj"), hidden, keys, bias)
            .linear(&format!("{module}.v_proj"), hidden, keys, bias)
            .linear(&format!("{module}.o_proj"), queries, hidden, false);
    }
    let up = if is_decoder { 2 * inner } else { inner };
    tensors.linear("mlp.fc1", hidden, up, true).linear("mlp.fc2", inner, hidden, true).norms(&["input_layernorm", "post_attention_layernorm"], hidden);
    if is_decoder {
        tensors.norm("final_layernorm", hidden, false);
    }
    let keeps = if is_decoder { Keeps::Own } else { Keeps::Nothing };
    let tensors = tensors.build();
    (0..sizes.layers).map(|_| (sizes.layer(Span::Full, keeps), tensors.clone())).collect()
}
