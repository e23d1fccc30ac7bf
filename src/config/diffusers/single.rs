//! Transformers over the image's (or video's) own tokens, which look at the text through cross-attention or have it in front:
//! PixArt, Hunyuan-DiT, Wan, LTX, Sana, CogVideoX, CogView4, Lumina 2, Z-Image.

use super::super::{ConfigError, Fields};
use super::blueprint::Blueprint;
use super::{Dit, Draft};
use crate::model::Denoising;

/// `Attention` of diffusers with biases, for keys and values of width `x`.
const CROSS: &str = "
    attn2.to_q d d +
    attn2.to_k d x +
    attn2.to_v d x +
    attn2.to_out.0 d d +";
const SELF: &str = "
    attn1.to_q d d +
    attn1.to_k d d +
    attn1.to_v d d +
    attn1.to_out.0 d d +";
const FEED_FORWARD: &str = "
    ff.net.0.proj 4d d +
    ff.net.2 d 4d +";
const TIME: &str = "
    timestep_embedder.linear_1 d 256 +
    timestep_embedder.linear_2 d d +";
const CAPTION: &str = "
    caption_projection.linear_1 d c +
    caption_projection.linear_2 d d +";

/// `PixArt` alpha and sigma. The 1,024-pixel models of alpha know the resolution too.
pub(super) fn pixart(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 16),
        ("attention_head_dim", 72),
        ("in_channels", 4),
        ("out_channels", 8),
        ("num_layers", 28),
        ("patch_size", 2),
        ("cross_attention_dim", 1152),
    ]);
    for key in [
        "activation_fn",
        "attention_bias",
        "attention_type",
        "norm_elementwise_affine",
        "norm_eps",
        "norm_num_groups",
        "norm_type",
        "num_embeds_ada_norm",
        "upcast_attention",
        "interpolation_scale",
    ] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let sample = super::side(f, "sample_size", 128)?;
    let caption = f.optional_count("caption_channels")?;
    let symbols = [
        ("d", dit.hidden()),
        ("third", dit.hidden() / 3),
        ("x", f.count("cross_attention_dim")?),
        ("c", caption.unwrap_or(0)),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("", "!scale_shift_table 2 d\npos_embed.proj d i p p +\nproj_out p*p*o d +\nadaln_single.linear 6d d +")?;
    tensors.extend(print.tensors("adaln_single.emb.", TIME)?);
    if f.optional_flag("use_additional_conditions")?.unwrap_or(sample == 128) {
        for name in ["resolution_embedder", "aspect_ratio_embedder"] {
            tensors.extend(print.tensors(&format!("adaln_single.emb.{name}."), "linear_1 third 256 +\nlinear_2 third third +")?);
        }
    }
    if caption.is_some() {
        tensors.extend(print.tensors("", CAPTION)?);
    }
    let block = print.tensors("", &["!scale_shift_table 6 d", SELF, CROSS, FEED_FORWARD].concat())?;
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &block)?;
    Ok(dit.denoiser(tensors, layers, 124, Denoising { patch: 2, copies: 2, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// Hunyuan-DiT: the second half of its blocks reads what the first left.
pub(super) fn hunyuan_dit(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 16),
        ("attention_head_dim", 88),
        ("in_channels", 4),
        ("hidden_size", 1152),
        ("num_layers", 28),
        ("patch_size", 2),
        ("cross_attention_dim", 1024),
        ("cross_attention_dim_t5", 2048),
        ("pooled_projection_dim", 1024),
        ("text_len", 77),
        ("text_len_t5", 256),
    ]);
    for key in ["activation_fn", "norm_type"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let hidden = dit.hidden();
    let ratio = f.optional_number("mlp_ratio")?.unwrap_or(4.0);
    if !(0.0..1000.0).contains(&ratio) {
        return Err(f.impossible("mlp_ratio", "it must be a small positive number"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // as the class does: int(width × ratio)
    let dit = Dit { inner: (hidden as f64 * ratio) as u64, ..dit };
    let (inputs, five, pooled, time) =
        (f.count("in_channels")?, f.count("cross_attention_dim_t5")?, f.count("pooled_projection_dim")?, f.count("hidden_size")?);
    let with_style = f.flag("use_style_cond_and_image_meta_size", true)?;
    let (words, words_t5) = (f.count("text_len")?, f.count("text_len_t5")?);
    let symbols = [
        ("d", hidden),
        ("h", dit.head_dim),
        ("m", dit.inner),
        ("x", f.count("cross_attention_dim")?),
        ("y", five),
        ("t", time),
        ("pooled", pooled),
        ("extra", if with_style { pooled.saturating_add(time).saturating_add(6 * 256) } else { pooled }),
        ("words", words.saturating_add(words_t5)),
        ("positions", words_t5.saturating_add(1)),
        ("i", inputs),
        ("o", if f.flag("learn_sigma", true)? { inputs.saturating_mul(2) } else { inputs }),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors(
        "",
        "!text_embedding_padding words x
        text_embedder.linear_1 4y y +
        text_embedder.linear_2 x 4y +
        pos_embed.proj t i p p +
        time_extra_emb.timestep_embedder.linear_1 t 256 +
        time_extra_emb.timestep_embedder.linear_2 t t +
        !time_extra_emb.pooler.positional_embedding positions y
        time_extra_emb.pooler.k_proj y y +
        time_extra_emb.pooler.q_proj y y +
        time_extra_emb.pooler.v_proj y y +
        time_extra_emb.pooler.c_proj pooled y +
        time_extra_emb.extra_embedder.linear_1 4t extra +
        time_extra_emb.extra_embedder.linear_2 t 4t +
        norm_out.linear 2d d +
        proj_out p*p*o d +",
    )?;
    if with_style {
        tensors.extend(print.tensors("", "time_extra_emb.style_embedder 1 t")?);
    }
    let lines = [
        "norm1.linear d t +\nnorm1.norm d +\nnorm2 d +\nnorm3 d +\nattn1.norm_q h +\nattn1.norm_k h +\nattn2.norm_q h +\nattn2.norm_k h +\nff.net.0.proj m d +\nff.net.2 d m +",
        SELF,
        CROSS,
    ]
    .concat();
    let count = f.count("num_layers")?;
    let mut layers = dit.blocks(f, "num_layers", count, &print.tensors("", &lines)?)?;
    let skipping = print.tensors("", &[&lines, "\nskip_norm 2d +\nskip_linear d 2d +"].concat())?;
    for (_, layer) in (0u64..).zip(&mut layers).filter(|(number, _)| *number > count / 2) {
        layer.1.clone_from(&skipping);
    }
    let sample = super::side(f, "sample_size", 32)?;
    // Each block of the first half leaves its output.
    Ok(dit.denoiser(tensors, layers, 140 + 5 * count, Denoising { patch: 2, copies: 2, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// Wan 2.1 and 2.2, from text or from an image.
pub(super) fn wan(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 40),
        ("attention_head_dim", 128),
        ("in_channels", 16),
        ("out_channels", 16),
        ("text_dim", 4096),
        ("freq_dim", 256),
        ("ffn_dim", 13_824),
        ("num_layers", 40),
    ]);
    for key in ["eps", "rope_max_seq_len", "qk_norm"] {
        f.raw(key);
    }
    let dit = Dit { inner: f.count("ffn_dim")?, ..Dit::read(f)? };
    let patch = f.counts_or("patch_size", &[1, 2, 2])?;
    let [frames, rows, columns] = patch[..] else { return Err(f.impossible("patch_size", "it must be three numbers: frames, rows and columns")) };
    let symbols = [
        ("d", dit.hidden()),
        ("m", dit.inner),
        ("x", dit.hidden()),
        ("e", f.count("text_dim")?),
        ("t", f.count("freq_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("q", frames),
        ("p", rows),
        ("r", columns),
        ("image", f.count_or("image_dim", 0)?),
        ("added", f.count_or("added_kv_proj_dim", 0)?),
        ("n", f.count_or("pos_embed_seq_len", 0)?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors(
        "",
        "!scale_shift_table 1 2 d
        patch_embedding d i q p r +
        condition_embedder.time_embedder.linear_1 d t +
        condition_embedder.time_embedder.linear_2 d d +
        condition_embedder.time_proj 6d d +
        condition_embedder.text_embedder.linear_1 d e +
        condition_embedder.text_embedder.linear_2 d d +
        proj_out q*p*r*o d +",
    )?;
    if f.raw("image_dim").is_some() {
        tensors.extend(print.tensors("condition_embedder.image_embedder.", "norm1 image +\nnorm2 d +\nff.net.0.proj image image +\nff.net.2 d image +")?);
        if f.raw("pos_embed_seq_len").is_some() {
            tensors.extend(print.tensors("condition_embedder.image_embedder.", "!pos_embed 1 n image")?);
        }
    }
    let norm = if f.flag("cross_attn_norm", true)? { "\nnorm2 d +" } else { "" };
    let added = if f.raw("added_kv_proj_dim").is_some() { "\nattn2.add_k_proj d added +\nattn2.add_v_proj d added +\nattn2.norm_added_k d" } else { "" };
    let own = "!scale_shift_table 1 6 d\nattn1.norm_q d\nattn1.norm_k d\nattn2.norm_q d\nattn2.norm_k d\nffn.net.0.proj m d +\nffn.net.2 d m +";
    let block = print.tensors("", &[own, SELF, CROSS, norm, added].concat())?;
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &block)?;
    Ok(dit.denoiser(tensors, layers, 112, Denoising { patch: rows, output: (104, 60, 81), ..Denoising::LATENT }))
}

/// LTX-Video: its latents are tokens already.
pub(super) fn ltx(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 32),
        ("attention_head_dim", 64),
        ("in_channels", 128),
        ("out_channels", 128),
        ("cross_attention_dim", 2048),
        ("caption_channels", 4096),
        ("num_layers", 28),
    ]);
    for key in ["activation_fn", "attention_bias", "attention_out_bias", "norm_elementwise_affine", "norm_eps", "patch_size", "patch_size_t", "qk_norm"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let symbols = [
        ("d", dit.hidden()),
        ("x", f.count("cross_attention_dim")?),
        ("c", f.count("caption_channels")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("", &["!scale_shift_table 2 d\nproj_in d i +\nproj_out o d +\ntime_embed.linear 6d d +", CAPTION].concat())?;
    tensors.extend(print.tensors("time_embed.emb.", TIME)?);
    let own = "!scale_shift_table 6 d\nattn1.norm_q d\nattn1.norm_k d\nattn2.norm_q d\nattn2.norm_k d";
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &print.tensors("", &[own, SELF, CROSS, FEED_FORWARD].concat())?)?;
    Ok(dit.denoiser(tensors, layers, 162, Denoising { copies: 2, output: (22, 16, 161), ..Denoising::LATENT }))
}

/// Sana: linear attention, and convolutions for a feed-forward.
pub(super) fn sana(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 70),
        ("attention_head_dim", 32),
        ("num_cross_attention_heads", 20),
        ("cross_attention_head_dim", 112),
        ("cross_attention_dim", 2240),
        ("caption_channels", 2304),
        ("in_channels", 32),
        ("out_channels", 32),
        ("num_layers", 20),
        ("patch_size", 1),
    ]);
    for key in ["attention_bias", "dropout", "norm_elementwise_affine", "norm_eps", "interpolation_scale", "guidance_embeds_scale", "timestep_scale"] {
        f.raw(key);
    }
    if f.flag("guidance_embeds", false)? || f.raw("qk_norm").is_some() {
        return Err(f.impossible("guidance_embeds", "only Sana's first transformer is understood"));
    }
    let dit = Dit::read(f)?;
    let ratio = f.optional_number("mlp_ratio")?.unwrap_or(2.5);
    if !(0.0..1000.0).contains(&ratio) {
        return Err(f.impossible("mlp_ratio", "it must be a small positive number"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // as the class does: int(width × ratio)
    let dit = Dit { inner: (dit.hidden() as f64 * ratio) as u64, gated: true, ..dit };
    let cross = f.count("num_cross_attention_heads")?.saturating_mul(f.count("cross_attention_head_dim")?);
    let symbols = [
        ("d", dit.hidden()),
        ("m", dit.inner),
        ("k", cross),
        ("x", f.count("cross_attention_dim")?),
        ("c", f.count("caption_channels")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print
        .tensors("", &["!scale_shift_table 2 d\npatch_embed.proj d i p p +\nproj_out p*p*o d +\ntime_embed.linear 6d d +\ncaption_norm d", CAPTION].concat())?;
    tensors.extend(print.tensors("time_embed.emb.", TIME)?);
    let block = print.tensors(
        "",
        "!scale_shift_table 6 d
        attn1.to_q d d
        attn1.to_k d d
        attn1.to_v d d
        attn1.to_out.0 d d +
        attn2.to_q k d +
        attn2.to_k k x +
        attn2.to_v k x +
        attn2.to_out.0 d k +
        ff.conv_inverted 2m d 1 1 +
        ff.conv_depth 2m 1 3 3 +
        ff.conv_point d m 1 1",
    )?;
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &block)?;
    let sample = super::side(f, "sample_size", 32)?;
    Ok(dit.denoiser(tensors, layers, 147, Denoising { copies: 2, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// `CogVideoX`: the text stands before the video's tokens.
pub(super) fn cogvideox(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 30),
        ("attention_head_dim", 64),
        ("in_channels", 16),
        ("out_channels", 16),
        ("time_embed_dim", 512),
        ("text_embed_dim", 4096),
        ("num_layers", 30),
        ("patch_size", 2),
        ("sample_width", 90),
        ("sample_height", 60),
        ("sample_frames", 49),
        ("max_text_seq_length", 226),
    ]);
    for key in [
        "activation_fn",
        "attention_bias",
        "dropout",
        "flip_sin_to_cos",
        "freq_shift",
        "norm_elementwise_affine",
        "norm_eps",
        "spatial_interpolation_scale",
        "temporal_compression_ratio",
        "temporal_interpolation_scale",
        "timestep_activation_fn",
        "use_rotary_positional_embeddings",
        "use_learned_positional_embeddings",
    ] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let frames = f.optional_count("patch_size_t")?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("t", f.count("time_embed_dim")?),
        ("e", f.count("text_embed_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
        ("q", frames.unwrap_or(1)),
        ("ofs", f.count_or("ofs_embed_dim", 0)?),
    ];
    let print = Blueprint(&symbols);
    let bias = if f.flag("patch_bias", true)? { " +" } else { "" };
    let patches = if frames.is_some() { "patch_embed.proj d i*p*p*q" } else { "patch_embed.proj d i p p" };
    let mut tensors = print.tensors(
        "",
        &format!(
            "{patches}{bias}
            patch_embed.text_proj d e +
            time_embedding.linear_1 t d +
            time_embedding.linear_2 t t +
            norm_final d +
            norm_out.linear 2d t +
            norm_out.norm d +
            proj_out q*p*p*o d +"
        ),
    )?;
    if f.raw("ofs_embed_dim").is_some() {
        tensors.extend(print.tensors("", "ofs_embedding.linear_1 ofs ofs +\nofs_embedding.linear_2 ofs ofs +")?);
    }
    let own = "norm1.linear 6d t +\nnorm1.norm d +\nnorm2.linear 6d t +\nnorm2.norm d +\nattn1.norm_q h +\nattn1.norm_k h +";
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &print.tensors("", &[own, SELF, FEED_FORWARD].concat())?)?;
    let output = (f.count("sample_width")?, f.count("sample_height")?, f.count("sample_frames")?);
    Ok(dit.denoiser(tensors, layers, 121, Denoising { patch: 2, text_tokens: f.count("max_text_seq_length")?, copies: 2, output, ..Denoising::LATENT }))
}

/// `CogView4`.
pub(super) fn cogview4(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 64),
        ("attention_head_dim", 40),
        ("in_channels", 16),
        ("out_channels", 16),
        ("num_layers", 30),
        ("patch_size", 2),
        ("text_embed_dim", 4096),
        ("time_embed_dim", 512),
        ("condition_dim", 256),
    ]);
    for key in ["pos_embed_max_size", "rope_axes_dim"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let symbols = [
        ("d", dit.hidden()),
        ("t", f.count("time_embed_dim")?),
        ("e", f.count("text_embed_dim")?),
        ("c", f.count("condition_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let tensors = print.tensors(
        "",
        "patch_embed.proj d p*p*i +
        patch_embed.text_proj d e +
        time_condition_embed.timestep_embedder.linear_1 t d +
        time_condition_embed.timestep_embedder.linear_2 t t +
        time_condition_embed.condition_embedder.linear_1 t 6c +
        time_condition_embed.condition_embedder.linear_2 t t +
        norm_out.linear 2d t +
        proj_out p*p*o d +",
    )?;
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &print.tensors("", &["norm1.linear 12d t +", SELF, FEED_FORWARD].concat())?)?;
    let sample = super::side(f, "sample_size", 128)?;
    Ok(dit.denoiser(tensors, layers, 129, Denoising { patch: 2, text_tokens: 224, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// Lumina 2: grouped keys, gated feed-forwards, and blocks that refine the text and the noise first.
pub(super) fn lumina2(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("hidden_size", 2304),
        ("num_attention_heads", 24),
        ("num_kv_heads", 8),
        ("in_channels", 16),
        ("num_layers", 26),
        ("num_refiner_layers", 2),
        ("patch_size", 2),
        ("multiple_of", 256),
        ("cap_feat_dim", 1024),
    ]);
    for key in ["axes_dim_rope", "axes_lens", "norm_eps", "scaling_factor"] {
        f.raw(key);
    }
    if f.raw("ffn_dim_multiplier").is_some() {
        return Err(f.impossible("ffn_dim_multiplier", "a Lumina transformer with it is not understood"));
    }
    let (hidden, heads, inputs) = (f.count("hidden_size")?, f.count("num_attention_heads")?, f.count("in_channels")?);
    if !hidden.is_multiple_of(heads) {
        return Err(f.impossible("num_attention_heads", "it must divide `hidden_size`"));
    }
    let dit = Dit { heads, head_dim: hidden / heads, inner: hidden.saturating_mul(4).next_multiple_of(f.count("multiple_of")?), gated: true };
    let symbols = [
        ("d", hidden),
        ("h", dit.head_dim),
        ("k", f.count("num_kv_heads")?.saturating_mul(dit.head_dim)),
        ("m", dit.inner),
        ("t", hidden.min(1024)),
        ("c", f.count("cap_feat_dim")?),
        ("i", inputs),
        ("o", f.optional_count("out_channels")?.unwrap_or(inputs)),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors(
        "",
        "x_embedder d p*p*i +
        time_caption_embed.timestep_embedder.linear_1 t 256 +
        time_caption_embed.timestep_embedder.linear_2 t t +
        time_caption_embed.caption_embedder.0 c
        time_caption_embed.caption_embedder.1 d c +
        norm_out.linear_1 d t +
        norm_out.linear_2 p*p*o d +",
    )?;
    let own = "attn.norm_q h\nattn.norm_k h\nattn.to_q d d\nattn.to_k k d\nattn.to_v k d\nattn.to_out.0 d d\nfeed_forward.linear_1 m d\nfeed_forward.linear_2 d m\nfeed_forward.linear_3 m d\nffn_norm1 d\nnorm2 d\nffn_norm2 d\n";
    let modulated = [own, "norm1.linear 4d t +\nnorm1.norm d"].concat();
    for block in 0..f.count("num_refiner_layers")?.min(10_000) {
        tensors.extend(print.tensors(&format!("noise_refiner.{block}."), &modulated)?);
        tensors.extend(print.tensors(&format!("context_refiner.{block}."), &[own, "norm1 d"].concat())?);
    }
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &print.tensors("", &modulated)?)?;
    let sample = super::side(f, "sample_size", 128)?;
    Ok(dit.denoiser(tensors, layers, 160, Denoising { patch: 2, text_tokens: 256, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// Z-Image: text and image in one sequence.
pub(super) fn z_image(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("dim", 3840),
        ("n_heads", 30),
        ("n_kv_heads", 30),
        ("in_channels", 16),
        ("n_layers", 30),
        ("n_refiner_layers", 2),
        ("cap_feat_dim", 2560),
    ]);
    for key in ["axes_dims", "axes_lens", "norm_eps", "rope_theta", "t_scale", "qk_norm"] {
        f.raw(key);
    }
    let list = |key: &'static str, default: u64| -> Result<Vec<u64>, ConfigError> { f.counts_or(key, &[default]) };
    let (patches, frames) = (list("all_patch_size", 2)?, list("all_f_patch_size", 1)?);
    if patches.len() != frames.len() || patches.len() > 16 || f.raw("siglip_feat_dim").is_some() {
        return Err(f.impossible("all_patch_size", "a Z-Image transformer like this is not understood"));
    }
    let (hidden, heads) = (f.count("dim")?, f.count("n_heads")?);
    if !hidden.is_multiple_of(heads) || f.count("n_kv_heads")? != heads {
        return Err(f.impossible("n_heads", "it must divide `dim` and equal `n_kv_heads`"));
    }
    let dit = Dit { heads, head_dim: hidden / heads, inner: hidden / 3 * 8, gated: true };
    let symbols =
        [("d", hidden), ("h", dit.head_dim), ("m", dit.inner), ("t", hidden.min(256)), ("c", f.count("cap_feat_dim")?), ("i", f.count("in_channels")?)];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors(
        "",
        "!x_pad_token 1 d
        !cap_pad_token 1 d
        t_embedder.mlp.0 1024 256 +
        t_embedder.mlp.2 t 1024 +
        cap_embedder.0 c
        cap_embedder.1 d c +",
    )?;
    for (patch, frame) in patches.iter().zip(&frames) {
        let own = [("d", hidden), ("t", hidden.min(256)), ("n", patch.saturating_mul(*patch).saturating_mul(*frame).saturating_mul(f.count("in_channels")?))];
        let lines = format!(
            "all_x_embedder.{patch}-{frame} d n +\nall_final_layer.{patch}-{frame}.linear n d +\nall_final_layer.{patch}-{frame}.adaLN_modulation.1 d t +"
        );
        tensors.extend(Blueprint(&own).tensors("", &lines)?);
    }
    let own = "attention.norm_q h\nattention.norm_k h\nattention.to_q d d\nattention.to_k d d\nattention.to_v d d\nattention.to_out.0 d d\nfeed_forward.w1 m d\nfeed_forward.w2 d m\nfeed_forward.w3 m d\nattention_norm1 d\nffn_norm1 d\nattention_norm2 d\nffn_norm2 d";
    let modulated = [own, "\nadaLN_modulation.0 4d t +"].concat();
    for block in 0..f.count("n_refiner_layers")?.min(10_000) {
        tensors.extend(print.tensors(&format!("noise_refiner.{block}."), &modulated)?);
        tensors.extend(print.tensors(&format!("context_refiner.{block}."), own)?);
    }
    let layers = dit.blocks(f, "n_layers", f.count("n_layers")?, &print.tensors("", &modulated)?)?;
    Ok(dit.denoiser(tensors, layers, 159, Denoising { patch: 2, text_tokens: 512, ..Denoising::LATENT }))
}
