//! Transformers whose blocks attend over text and image together (MMDiT): FLUX, Stable Diffusion 3 and their kin.

use super::super::{ConfigError, Fields};
use super::blueprint::Blueprint;
use super::{Dit, Draft};
use crate::model::Denoising;

/// How the time is embedded: 256 sines, two matrices.
const TIME: &str = "
    timestep_embedder.linear_1 d 256 +
    timestep_embedder.linear_2 d d +";
const GUIDANCE: &str = "
    guidance_embedder.linear_1 d 256 +
    guidance_embedder.linear_2 d d +";
const POOLED: &str = "
    text_embedder.linear_1 d p +
    text_embedder.linear_2 d d +";
/// Attention of the image's tokens, and what the text's tokens bring to it.
const ATTENTION: &str = "
    attn.to_q d d +
    attn.to_k d d +
    attn.to_v d d +
    attn.to_out.0 d d +
    attn.add_q_proj d d +
    attn.add_k_proj d d +
    attn.add_v_proj d d +";
const TEXT_OUT: &str = "attn.to_add_out d d +";
const NORMS: &str = "
    attn.norm_q h
    attn.norm_k h
    attn.norm_added_q h
    attn.norm_added_k h";
const FEED_FORWARD: &str = "
    ff.net.0.proj 4d d +
    ff.net.2 d 4d +";
const TEXT_FEED_FORWARD: &str = "
    ff_context.net.0.proj 4d d +
    ff_context.net.2 d 4d +";
const MODULATION: &str = "
    norm1.linear 6d d +
    norm1_context.linear 6d d +";
/// FLUX's second kind of block: attention and feed-forward side by side, one matrix out.
const SINGLE: &str = "
    proj_mlp 4d d +
    proj_out d 5d +
    attn.norm_q h
    attn.norm_k h
    attn.to_q d d +
    attn.to_k d d +
    attn.to_v d d +";

/// What FLUX.1 and Chroma take for keys that are left out.
const FLUX: &[(&str, u64)] = &[
    ("num_attention_heads", 24),
    ("attention_head_dim", 128),
    ("in_channels", 64),
    ("num_layers", 19),
    ("num_single_layers", 38),
    ("joint_attention_dim", 4096),
];

/// FLUX.1. The pipeline packs 2 × 2 latents into one token.
pub(super) fn flux(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(FLUX).with_defaults(&[("pooled_projection_dim", 768)]);
    for key in ["patch_size", "axes_dims_rope"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let inputs = f.count("in_channels")?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("p", f.count("pooled_projection_dim")?),
        ("j", f.count("joint_attention_dim")?),
        ("i", inputs),
        ("o", f.optional_count("out_channels")?.unwrap_or(inputs)),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("time_text_embed.", &[TIME, POOLED].concat())?;
    if f.flag("guidance_embeds", false)? {
        tensors.extend(print.tensors("time_text_embed.", GUIDANCE)?);
    }
    tensors.extend(print.tensors("", "context_embedder d j +\nx_embedder d i +\nnorm_out.linear 2d d +\nproj_out o d +")?);
    let double = print.tensors("", &[MODULATION, NORMS, ATTENTION, TEXT_OUT, FEED_FORWARD, TEXT_FEED_FORWARD].join("\n"))?;
    let single = print.tensors("", &["norm.linear 3d d +", SINGLE].concat())?;
    let mut layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &double)?;
    layers.extend(dit.blocks(f, "num_single_layers", f.count("num_single_layers")?, &single)?);
    Ok(dit.denoiser(tensors, layers, 174, Denoising { patch: 2, text_tokens: 512, ..Denoising::LATENT }))
}

/// Chroma: FLUX without modulation in its blocks; one small network makes all of it.
pub(super) fn chroma(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(FLUX).with_defaults(&[("approximator_num_channels", 64), ("approximator_hidden_dim", 5120), ("approximator_layers", 5)]);
    for key in ["patch_size", "axes_dims_rope"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let inputs = f.count("in_channels")?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("j", f.count("joint_attention_dim")?),
        ("i", inputs),
        ("o", f.optional_count("out_channels")?.unwrap_or(inputs)),
        ("a", f.count("approximator_hidden_dim")?),
        ("n", f.count("approximator_num_channels")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("distilled_guidance_layer.", "in_proj a n +\nout_proj d a +")?;
    for layer in 0..f.count("approximator_layers")?.min(10_000) {
        tensors.extend(print.tensors("distilled_guidance_layer.", &format!("layers.{layer}.linear_1 a a +\nlayers.{layer}.linear_2 a a +\nnorms.{layer} a"))?);
    }
    tensors.extend(print.tensors("", "context_embedder d j +\nx_embedder d i +\nproj_out o d +")?);
    let double = print.tensors("", &[NORMS, ATTENTION, TEXT_OUT, FEED_FORWARD, TEXT_FEED_FORWARD].join("\n"))?;
    let mut layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &double)?;
    layers.extend(dit.blocks(f, "num_single_layers", f.count("num_single_layers")?, &print.tensors("", SINGLE)?)?);
    Ok(dit.denoiser(tensors, layers, 165, Denoising { patch: 2, text_tokens: 512, ..Denoising::LATENT }))
}

/// FLUX.2: no biases, gated feed-forwards, modulation shared by all blocks, single blocks of two matrices.
pub(super) fn flux2(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 48),
        ("attention_head_dim", 128),
        ("in_channels", 128),
        ("num_layers", 8),
        ("num_single_layers", 48),
        ("joint_attention_dim", 15_360),
        ("timestep_guidance_channels", 256),
        ("mlp_ratio", 3),
    ]);
    for key in ["patch_size", "axes_dims_rope", "rope_theta", "eps"] {
        f.raw(key);
    }
    let ratio = f.count("mlp_ratio")?;
    let dit = Dit { gated: true, ..Dit::read(f)? };
    let inputs = f.count("in_channels")?;
    let hidden = dit.hidden();
    let dit = Dit { inner: hidden.saturating_mul(ratio), ..dit };
    let symbols = [
        ("d", hidden),
        ("h", dit.head_dim),
        ("m", dit.inner),
        ("j", f.count("joint_attention_dim")?),
        ("i", inputs),
        ("o", f.optional_count("out_channels")?.unwrap_or(inputs)),
        ("t", f.count("timestep_guidance_channels")?),
        ("wide", hidden.saturating_mul(3).saturating_add(dit.inner.saturating_mul(2))),
        ("both", hidden.saturating_add(dit.inner)),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("time_guidance_embed.", "timestep_embedder.linear_1 d t\ntimestep_embedder.linear_2 d d")?;
    if f.flag("guidance_embeds", true)? {
        tensors.extend(print.tensors("time_guidance_embed.", "guidance_embedder.linear_1 d t\nguidance_embedder.linear_2 d d")?);
    }
    tensors.extend(print.tensors(
        "",
        "double_stream_modulation_img.linear 6d d\ndouble_stream_modulation_txt.linear 6d d\nsingle_stream_modulation.linear 3d d\nx_embedder d i\ncontext_embedder d j\nnorm_out.linear 2d d\nproj_out o d",
    )?);
    let attention = [ATTENTION, TEXT_OUT].join("\n").replace('+', "");
    let double =
        print.tensors("", &[&attention, NORMS, "\nff.linear_in 2m d\nff.linear_out d m\nff_context.linear_in 2m d\nff_context.linear_out d m"].concat())?;
    let single = print.tensors("", "attn.to_qkv_mlp_proj wide d\nattn.norm_q h\nattn.norm_k h\nattn.to_out d both")?;
    let mut layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &double)?;
    layers.extend(dit.blocks(f, "num_single_layers", f.count("num_single_layers")?, &single)?);
    Ok(dit.denoiser(tensors, layers, 216, Denoising { patch: 2, text_tokens: 512, ..Denoising::LATENT }))
}

/// Qwen-Image and its editing models.
pub(super) fn qwen_image(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 24),
        ("attention_head_dim", 128),
        ("in_channels", 64),
        ("num_layers", 60),
        ("joint_attention_dim", 3584),
        ("patch_size", 2),
        ("out_channels", 16),
    ]);
    for key in ["axes_dims_rope", "guidance_embeds", "zero_cond_t", "use_layer3d_rope", "pooled_projection_dim"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("j", f.count("joint_attention_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let mut tensors = print.tensors("time_text_embed.", TIME)?;
    if f.flag("use_additional_t_cond", false)? {
        tensors.extend(print.tensors("time_text_embed.", "addition_t_embedding 2 d")?);
    }
    tensors.extend(print.tensors("", "txt_norm j\nimg_in d i +\ntxt_in d j +\nnorm_out.linear 2d d +\nproj_out p*p*o d +")?);
    let feed_forwards =
        "\nimg_mod.1 6d d +\ntxt_mod.1 6d d +\nimg_mlp.net.0.proj 4d d +\nimg_mlp.net.2 d 4d +\ntxt_mlp.net.0.proj 4d d +\ntxt_mlp.net.2 d 4d +";
    let block = print.tensors("", &[NORMS, ATTENTION, "\n", TEXT_OUT, feed_forwards].concat())?;
    let layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &block)?;
    Ok(dit.denoiser(tensors, layers, 144, Denoising { patch: 2, text_tokens: 512, ..Denoising::LATENT }))
}

/// Stable Diffusion 3 and 3.5: the last block leaves the text as it is; some blocks of 3.5-medium attend a second time.
pub(super) fn sd3(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 18),
        ("attention_head_dim", 64),
        ("in_channels", 16),
        ("num_layers", 18),
        ("joint_attention_dim", 4096),
        ("caption_projection_dim", 1152),
        ("pooled_projection_dim", 2048),
        ("patch_size", 2),
        ("out_channels", 16),
    ]);
    f.raw("pos_embed_max_size");
    let dit = Dit::read(f)?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("j", f.count("joint_attention_dim")?),
        ("c", f.count("caption_projection_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
    ];
    let pooled = [("d", dit.hidden()), ("p", f.count("pooled_projection_dim")?)];
    let print = Blueprint(&symbols);
    let mut tensors = Blueprint(&pooled).tensors("time_text_embed.", &[TIME, POOLED].concat())?;
    tensors.extend(print.tensors("", "pos_embed.proj d i p p +\ncontext_embedder c j +\nnorm_out.linear 2d d +\nproj_out p*p*o d +")?);
    let norms = match f.optional_text("qk_norm")?.as_deref() {
        None => "",
        Some("rms_norm") => NORMS,
        Some(_) => return Err(f.impossible("qk_norm", "only `rms_norm` is understood")),
    };
    let count = f.count("num_layers")?;
    let twice = f.optional_counts("dual_attention_layers")?.unwrap_or_default();
    let second_norms = if norms.is_empty() { "" } else { "\nattn2.norm_q h\nattn2.norm_k h" };
    let mut layers = dit.blocks(f, "num_layers", count, &[])?;
    for (number, layer) in (0u64..).zip(&mut layers) {
        let (is_last, is_twice) = (number + 1 == count, twice.contains(&number));
        let modulation = if is_twice { "norm1.linear 9d d +" } else { "norm1.linear 6d d +" };
        let text = if is_last { "norm1_context.linear 2d d +".to_owned() } else { ["norm1_context.linear 6d d +\n", TEXT_OUT, TEXT_FEED_FORWARD].concat() };
        let second = if is_twice { "\nattn2.to_q d d +\nattn2.to_k d d +\nattn2.to_v d d +\nattn2.to_out.0 d d +" } else { "" };
        let second_norms = if is_twice { second_norms } else { "" };
        layer.1 = print.tensors("", &[modulation, "\n", &text, norms, ATTENTION, FEED_FORWARD, second, second_norms].concat())?;
    }
    let sample = super::side(f, "sample_size", 128)?;
    Ok(dit.denoiser(tensors, layers, 125, Denoising { patch: 2, text_tokens: 333, copies: 2, output: (sample, sample, 1), ..Denoising::LATENT }))
}

/// HunyuanVideo: FLUX's blocks over a video, and a small transformer that refines the text.
pub(super) fn hunyuan_video(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 24),
        ("attention_head_dim", 128),
        ("in_channels", 16),
        ("out_channels", 16),
        ("num_layers", 20),
        ("num_single_layers", 40),
        ("num_refiner_layers", 2),
        ("patch_size", 2),
        ("patch_size_t", 1),
        ("text_embed_dim", 4096),
        ("pooled_projection_dim", 768),
        ("mlp_ratio", 4),
    ]);
    for key in ["qk_norm", "rope_axes_dim", "rope_theta"] {
        f.raw(key);
    }
    if f.raw("image_condition_type").is_some() || f.count("mlp_ratio")? != 4 {
        return Err(f.impossible("image_condition_type", "a HunyuanVideo transformer with this is not understood yet"));
    }
    let dit = Dit::read(f)?;
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
        ("q", f.count("patch_size_t")?),
        ("e", f.count("text_embed_dim")?),
    ];
    let print = Blueprint(&symbols);
    let with_pooled = |pooled| Blueprint(&[("d", dit.hidden()), ("p", pooled)]).tensors("", &[TIME, POOLED].concat());
    let behind = |prefix: &str, tensors: Vec<crate::model::Tensor>| {
        tensors.into_iter().map(|t| crate::model::Tensor { name: format!("{prefix}{}", t.name), ..t }).collect::<Vec<_>>()
    };
    let mut tensors = behind("context_embedder.time_text_embed.", with_pooled(f.count("text_embed_dim")?)?);
    tensors.extend(behind("time_text_embed.", with_pooled(f.count("pooled_projection_dim")?)?));
    if f.flag("guidance_embeds", true)? {
        tensors.extend(print.tensors("time_text_embed.", GUIDANCE)?);
    }
    tensors.extend(print.tensors("", "x_embedder.proj d i q p p +\ncontext_embedder.proj_in d e +\nnorm_out.linear 2d d +\nproj_out q*p*p*o d +")?);
    let refiner =
        ["norm1 d +\nnorm2 d +\nattn.to_q d d +\nattn.to_k d d +\nattn.to_v d d +\nattn.to_out.0 d d +\nnorm_out.linear 2d d +", FEED_FORWARD].concat();
    for block in 0..f.count("num_refiner_layers")?.min(10_000) {
        tensors.extend(print.tensors(&format!("context_embedder.token_refiner.refiner_blocks.{block}."), &refiner)?);
    }
    let double = print.tensors("", &[MODULATION, NORMS, ATTENTION, TEXT_OUT, FEED_FORWARD, TEXT_FEED_FORWARD].join("\n"))?;
    let single = print.tensors("", &["norm.linear 3d d +", SINGLE].concat())?;
    let mut layers = dit.blocks(f, "num_layers", f.count("num_layers")?, &double)?;
    layers.extend(dit.blocks(f, "num_single_layers", f.count("num_single_layers")?, &single)?);
    Ok(dit.denoiser(tensors, layers, 181, Denoising { patch: 2, text_tokens: 256, output: (160, 90, 129), ..Denoising::LATENT }))
}

/// Mochi: the text has a width of its own.
pub(super) fn mochi(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 24),
        ("attention_head_dim", 128),
        ("in_channels", 12),
        ("num_layers", 48),
        ("patch_size", 2),
        ("pooled_projection_dim", 1536),
        ("text_embed_dim", 4096),
        ("time_embed_dim", 256),
    ]);
    for key in ["qk_norm", "activation_fn", "max_sequence_length"] {
        f.raw(key);
    }
    let dit = Dit::read(f)?;
    let (inputs, text) = (f.count("in_channels")?, f.count("pooled_projection_dim")?);
    let inner = |width: u64| width.saturating_mul(8) / 3;
    let dit = Dit { inner: inner(dit.hidden()), gated: true, ..dit };
    let symbols = [
        ("d", dit.hidden()),
        ("h", dit.head_dim),
        ("half", dit.head_dim / 2),
        ("n", dit.heads),
        ("c", text),
        ("m", dit.inner),
        ("k", inner(text)),
        ("e", f.count("text_embed_dim")?),
        ("t", f.count("time_embed_dim")?),
        ("i", inputs),
        ("o", f.optional_count("out_channels")?.unwrap_or(inputs)),
        ("p", f.count("patch_size")?),
    ];
    let print = Blueprint(&symbols);
    let tensors = print.tensors(
        "",
        "!pos_frequencies 3 n half
        patch_embed.proj d i p p +
        time_embed.timestep_embedder.linear_1 d t +
        time_embed.timestep_embedder.linear_2 d d +
        time_embed.pooler.to_kv 2e e +
        time_embed.pooler.to_q e e +
        time_embed.pooler.to_out d e +
        time_embed.caption_proj c e +
        norm_out.linear 2d d +
        proj_out p*p*o d +",
    )?;
    let shared = "
        norm1.linear 4d d +
        attn1.norm_q h
        attn1.norm_k h
        attn1.norm_added_q h
        attn1.norm_added_k h
        attn1.to_q d d
        attn1.to_k d d
        attn1.to_v d d
        attn1.add_q_proj d c
        attn1.add_k_proj d c
        attn1.add_v_proj d c
        attn1.to_out.0 d d +
        ff.net.0.proj 2m d
        ff.net.2 d m\n";
    let text = "norm1_context.linear 4c d +\nattn1.to_add_out c d +\nff_context.net.0.proj 2k c\nff_context.net.2 c k";
    let count = f.count("num_layers")?;
    let mut layers = dit.blocks(f, "num_layers", count, &print.tensors("", &[shared, text].concat())?)?;
    if let Some(last) = layers.last_mut() {
        last.1 = print.tensors("", &[shared, "norm1_context.linear_1 c d +"].concat())?;
    }
    Ok(dit.denoiser(tensors, layers, 180, Denoising { patch: 2, text_tokens: 256, copies: 2, output: (106, 60, 19), ..Denoising::LATENT }))
}

/// AuraFlow: no biases, feed-forwards of three matrices.
pub(super) fn aura_flow(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[
        ("num_attention_heads", 12),
        ("attention_head_dim", 256),
        ("in_channels", 4),
        ("out_channels", 4),
        ("num_mmdit_layers", 4),
        ("num_single_dit_layers", 32),
        ("joint_attention_dim", 2048),
        ("caption_projection_dim", 3072),
        ("patch_size", 2),
        ("pos_embed_max_size", 1024),
    ]);
    let dit = Dit::read(f)?;
    let hidden = dit.hidden();
    // Two thirds of four times the width, rounded up to a multiple of 256.
    let dit = Dit { inner: (hidden.saturating_mul(8) / 3).next_multiple_of(256), gated: true, ..dit };
    let symbols = [
        ("d", hidden),
        ("m", dit.inner),
        ("j", f.count("joint_attention_dim")?),
        ("c", f.count("caption_projection_dim")?),
        ("i", f.count("in_channels")?),
        ("o", f.count("out_channels")?),
        ("p", f.count("patch_size")?),
        ("n", f.count("pos_embed_max_size")?),
    ];
    let print = Blueprint(&symbols);
    let tensors = print.tensors(
        "",
        "!register_tokens 8 d
        !pos_embed.pos_embed n d
        pos_embed.proj d p*p*i +
        context_embedder c j
        time_step_proj.linear_1 d 256 +
        time_step_proj.linear_2 d d +
        norm_out.linear 2d d
        proj_out p*p*o d",
    )?;
    let own = "norm1.linear 6d d\nattn.to_q d d\nattn.to_k d d\nattn.to_v d d\nattn.to_out.0 d d\nff.linear_1 m d\nff.linear_2 m d\nff.out_projection d m\n";
    let text = "norm1_context.linear 6d d\nattn.add_q_proj d d\nattn.add_k_proj d d\nattn.add_v_proj d d\nattn.to_add_out d d\nff_context.linear_1 m d\nff_context.linear_2 m d\nff_context.out_projection d m";
    let mut layers = dit.blocks(f, "num_mmdit_layers", f.count("num_mmdit_layers")?, &print.tensors("", &[own, text].concat())?)?;
    layers.extend(dit.blocks(f, "num_single_dit_layers", f.count("num_single_dit_layers")?, &print.tensors("", own)?)?);
    let sample = super::side(f, "sample_size", 64)?;
    Ok(dit.denoiser(tensors, layers, 131, Denoising { patch: 2, text_tokens: 256, copies: 2, output: (sample, sample, 1), ..Denoising::LATENT }))
}
