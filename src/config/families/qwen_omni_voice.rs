//! What Qwen2.5-Omni speaks with: the talker, a Qwen2 over the thinker's states and codes of sound, and what turns codes into sound,
//! a diffusion transformer that makes a spectrogram and `BigVGAN`.

use super::decoder::{Draft, Head, Tensors, component};
use super::vision::block;
use super::{ConfigError, Fields, qwen2};
use crate::model::{Component, ComponentKind, Role};

/// `Qwen2_5OmniTalkerConfig` of transformers 5.23.
const TALKER: &[(&str, u64)] = &[
    ("vocab_size", 8448),
    ("embedding_size", 3584),
    ("hidden_size", 3584),
    ("intermediate_size", 18_944),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 28),
    ("num_key_value_heads", 4),
    ("head_dim", 128),
    ("sliding_window", 32_768),
    ("max_window_layers", 28),
];

/// `Qwen2_5OmniDiTConfig`.
const DIT: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("num_hidden_layers", 22),
    ("num_attention_heads", 16),
    ("head_dim", 64),
    ("ff_mult", 2),
    ("emb_dim", 512),
    ("mel_dim", 80),
    ("num_embeds", 8193),
    ("enc_dim", 128),
    ("enc_emb_dim", 192),
    ("enc_res2net_scale", 2),
    ("enc_attention_channels", 64),
    ("enc_se_channels", 64),
];

/// The width of the encoding of time.
const TIME: u64 = 256;

/// Most entries of a list of widths or kernels that are read.
const MAX_LIST: usize = 64;

fn list(f: &Fields, key: &'static str, default: &[u64]) -> Result<Vec<u64>, ConfigError> {
    let list = f.counts_or(key, default)?;
    let is_sound = !list.is_empty() && list.len() <= MAX_LIST && list.iter().all(|n| (1..=1 << 20).contains(n));
    is_sound.then_some(list).ok_or_else(|| f.impossible(key, "it must be a list of 1 to 64 sizes from 1 to 2^20"))
}

/// The talker and the speech decoder behind the thinker.
pub(super) fn with_voice(mut draft: Draft, f: &Fields) -> Result<Draft, ConfigError> {
    let part = |f: &Fields, key: &'static str| f.part(&[key]);
    draft = talker(draft, &part(f, "talker_config")?)?;
    let sound = part(f, "token2wav_config")?;
    for key in ["model_type", "dtype", "torch_dtype"] {
        sound.touch(key);
    }
    let draft = draft.with(transformer(&part(&sound, "dit_config")?)?);
    Ok(draft.with(vocoder(&part(&sound, "bigvgan_config")?)?))
}

fn talker(mut draft: Draft, f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TALKER);
    for key in ["model_type", "tie_word_embeddings", "position_id_per_seconds", "seconds_per_chunk", "spatial_merge_size", "max_position_embeddings"] {
        f.touch(key);
    }
    let mut speaking = qwen2::read(&f.as_class("Model"))?;
    speaking.decoder.head = Head::Nothing;
    let (hidden, vocab, width) = (speaking.decoder.shape.hidden, speaking.decoder.shape.vocab, f.count("embedding_size")?);
    speaking.decoder.tensors = Tensors::default()
        .embedding("talker.model.embed_tokens", vocab, width)
        .norm("talker.model.norm", hidden, false)
        .linear("talker.thinker_to_talker_proj", width, hidden, true)
        .linear("talker.codec_head", hidden, vocab, false)
        .build();
    (speaking.decoder.base, speaking.decoder.layer_prefix) = ("talker.model", "talker.model.layers");
    let mut parts = speaking.into_components(&f.as_class("Model"), &mut draft.assumptions)?;
    for part in &mut parts {
        (part.name, part.kind) = ("talker".into(), ComponentKind::Other);
    }
    draft.others.extend(parts);
    Ok(draft)
}

fn transformer(f: &Fields) -> Result<Component, ConfigError> {
    let f = &f.with_defaults(DIT);
    for key in ["model_type", "block_size", "look_ahead_layers", "look_backward_layers", "repeats", "rope_theta", "max_position_embeddings", "dropout"] {
        f.touch(key);
    }
    f.touch("enc_dilations");
    let [hidden, embedding, mels] = [f.count("hidden_size")?, f.count("emb_dim")?, f.count("mel_dim")?];
    let layers = super::encoder::layer_count(f, "num_hidden_layers", 22)?;
    let attention = f.count("num_attention_heads")?.saturating_mul(f.count("head_dim")?);
    let inner = hidden.saturating_mul(f.count("ff_mult")?);
    let (voice, voice_width) = (f.count("enc_dim")?, f.count("enc_emb_dim")?);
    let inputs = mels.saturating_add(voice).saturating_add(voice_width).saturating_add(embedding);
    let mut t = Tensors::default();
    t.linear("time_embed.time_mlp.0", TIME, hidden, true)
        .linear("time_embed.time_mlp.2", hidden, hidden, true)
        .embedding("text_embed.codec_embed", f.count("num_embeds")?.saturating_add(1), embedding)
        .linear("input_embed.proj", inputs, hidden, true)
        .linear("norm_out.linear", hidden, hidden.saturating_mul(2), true)
        .linear("proj_out", hidden, mels, true);
    speaker(f, &mut t, mels, voice)?;
    let base = "token2wav.code2wav_dit_model";
    let outside = Tensors::default().nested(base, t.build()).build();
    let mut layer = Tensors::default();
    layer.linear("attn_norm.linear", hidden, hidden.saturating_mul(6), true);
    for leaf in ["to_q", "to_k", "to_v"] {
        layer.linear(&format!("attn.{leaf}"), hidden, attention, true);
    }
    layer.linear("attn.to_out.0", attention, hidden, true).linear("ff.ff.0", hidden, inner, true).linear("ff.ff.3", inner, hidden, true);
    let (heads, layer) = (f.count("num_attention_heads")?, layer.build());
    let layers = (0..layers).map(|_| (block(attention, heads, inner), layer.clone())).collect();
    Ok(component("speech_transformer", ComponentKind::Other, hidden, "token2wav.code2wav_dit_model.transformer_blocks", outside, layers))
}

/// The encoder of a voice (ECAPA-TDNN): convolutions over time whose channels are weighed, and a mean that is attended to.
fn speaker(f: &Fields, t: &mut Tensors, mels: u64, out: u64) -> Result<(), ConfigError> {
    let widths = list(f, "enc_channels", &[256, 256, 256, 256, 768])?;
    let kernels = list(f, "enc_kernel_sizes", &[5, 3, 3, 3, 1])?;
    if widths.len() != kernels.len() || widths.len() < 2 {
        return Err(f.impossible("enc_kernel_sizes", "it must have one entry per entry of `enc_channels`"));
    }
    let (scale, squeezed, attended) = (f.count("enc_res2net_scale")?, f.count("enc_se_channels")?, f.count("enc_attention_channels")?);
    if scale > 64 {
        return Err(f.impossible("enc_res2net_scale", "it must be at most 64"));
    }
    let at = |leaf: &str| format!("input_embed.spk_encoder.{leaf}");
    t.convolution(&at("blocks.0.conv"), &[widths[0], mels, kernels[0]], true);
    let last = widths.len() - 1;
    for number in 1..last {
        let (before, width, kernel) = (widths[number - 1], widths[number], kernels[number]);
        let part = width / scale;
        t.convolution(&at(&format!("blocks.{number}.tdnn1.conv")), &[width, before, 1], true);
        for split in 0..scale - 1 {
            t.convolution(&at(&format!("blocks.{number}.res2net_block.blocks.{split}.conv")), &[part, part, kernel], true);
        }
        t.convolution(&at(&format!("blocks.{number}.tdnn2.conv")), &[width, width, 1], true)
            .convolution(&at(&format!("blocks.{number}.se_block.conv1")), &[squeezed, width, 1], true)
            .convolution(&at(&format!("blocks.{number}.se_block.conv2")), &[width, squeezed, 1], true);
    }
    let top = widths[last];
    t.convolution(&at("mfa.conv"), &[top, top, kernels[last]], true)
        .convolution(&at("asp.tdnn.conv"), &[attended, top.saturating_mul(3), 1], true)
        .convolution(&at("asp.conv"), &[top, attended, 1], true)
        .convolution(&at("fc"), &[out, top.saturating_mul(2), 1], true);
    Ok(())
}

/// `BigVGAN`: the spectrogram is stretched step by step; after each, blocks of several kernels with learned waves between them.
fn vocoder(f: &Fields) -> Result<Component, ConfigError> {
    f.touch("model_type");
    let (mels, first) = (f.count_or("mel_dim", 80)?, f.count_or("upsample_initial_channel", 1536)?);
    let (rates, ups) = (list(f, "upsample_rates", &[5, 3, 2, 2, 2, 2])?, list(f, "upsample_kernel_sizes", &[11, 7, 4, 4, 4, 4])?);
    if rates.len() != ups.len() || rates.len() > 32 {
        return Err(f.impossible("upsample_kernel_sizes", "it must have one entry per entry of `upsample_rates`, at most 32"));
    }
    let kernels = list(f, "resblock_kernel_sizes", &[3, 7, 11])?;
    let rounds: Vec<u64> = match f.raw("resblock_dilation_sizes") {
        None => vec![3; kernels.len()],
        Some(value) => value.as_array().map(|lists| lists.iter().map(|list| list.as_array().map_or(0, |list| list.len() as u64)).collect()).unwrap_or_default(),
    };
    if rounds.len() != kernels.len() || rounds.iter().any(|rounds| !(1..=64).contains(rounds)) {
        return Err(f.impossible("resblock_dilation_sizes", "it must have a list of dilations per entry of `resblock_kernel_sizes`"));
    }
    let mut t = Tensors::default();
    t.convolution("conv_pre", &[first, mels, 7], true);
    let mut width = first;
    for (level, &kernel) in ups.iter().enumerate() {
        let half = width / 2;
        if half == 0 {
            return Err(f.impossible("upsample_initial_channel", "it is halved once per entry of `upsample_rates`"));
        }
        // Transposed: inputs first.
        t.tensor(&format!("ups.{level}.0.weight"), Role::Other, &[width, half, kernel]).tensor(&format!("ups.{level}.0.bias"), Role::Other, &[half]);
        width = half;
        for (place, (&kernel, &rounds)) in kernels.iter().zip(&rounds).enumerate() {
            let at = format!("resblocks.{}", level * kernels.len() + place);
            for round in 0..rounds {
                for convolutions in ["convs1", "convs2"] {
                    t.convolution(&format!("{at}.{convolutions}.{round}"), &[width, width, kernel], true);
                }
            }
            for wave in ["alpha", "beta"] {
                t.repeated(&format!("{at}.activations.{{}}.act.{wave}"), Role::Other, 2 * rounds, &[width]);
            }
        }
    }
    t.tensor("activation_post.act.alpha", Role::Other, &[width]).tensor("activation_post.act.beta", Role::Other, &[width]);
    t.convolution("conv_post", &[1, width, 7], false);
    let tensors = Tensors::default().nested("token2wav.code2wav_bigvgan_model", t.build()).build();
    Ok(component("vocoder", ComponentKind::Other, first, "", tensors, Vec::new()))
}
