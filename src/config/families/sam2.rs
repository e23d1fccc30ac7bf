//! Segment Anything 2, for images and for videos: a Hiera encoder, a neck, prompts, a two-way decoder; for videos attention over
//! the memory of earlier frames.

use super::decoder::{Draft, Tensors, component};
use super::networks::{Network, class, feed_forward, heads, layers, layers_or_none, norms, pair_or, perceptron_of, ratio, size, size_or_zero, times};
use super::vision::{Encoder, block, channels, linear, norm, per_stage, per_stage_of};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Layer, Role, Tensor};

pub(super) fn part(f: &Fields, key: &'static str) -> Result<Fields, ConfigError> {
    let part = f.part(&[key])?;
    part.touch("model_type");
    Ok(part)
}

/// Layers with their tensors.
type Blocks = Vec<(Layer, Vec<Tensor>)>;

/// The encoder: blocks in stages, the first of each twice as wide as those before. Names are relative to it.
fn hiera(f: &Fields) -> Result<(Tensors, Blocks, u64), ConfigError> {
    let stem = size(f, "hidden_size", 96)?;
    let counts = per_stage(f, "blocks_per_stage", &[1, 2, 7, 2])?;
    let list = |key, default: &[u64]| per_stage_of(f, key, default, counts.len());
    let (widths, attention) = (list("embed_dim_per_stage", &[96, 192, 384, 768])?, list("num_attention_heads_per_stage", &[1, 2, 4, 8])?);
    let windows = list("window_size_per_stage", &[8, 4, 14, 7])?;
    if counts.len() > 16 || counts.iter().sum::<u64>() > 1000 {
        return Err(f.impossible("blocks_per_stage", "it must be at most 16 stages, of 1000 blocks in all"));
    }
    let ratio = ratio(f, "mlp_ratio", 4.0)?;
    let patch = pair_or(f, "patch_kernel_size", [7, 7])?;
    let background = pair_or(f, "window_positional_embedding_background_size", [7, 7])?;
    for key in ["global_attention_blocks", "image_size", "num_attention_heads", "num_query_pool_stages", "patch_stride", "patch_padding", "query_stride"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    t.convolution("patch_embed.projection", &[stem, channels(f)?, patch[0], patch[1]], true)
        .tensor("pos_embed", Role::Position, &[1, stem, background[0], background[1]])
        .tensor("pos_embed_window", Role::Position, &[1, stem, windows[0], windows[0]]);
    let mut blocks = Vec::new();
    let mut before = widths[0];
    for (stage, (&width, &count)) in widths.iter().zip(&counts).enumerate() {
        if !width.is_multiple_of(attention[stage]) {
            return Err(f.impossible("num_attention_heads_per_stage", "each must divide its stage's width"));
        }
        let inner = times(width, ratio);
        for _ in 0..count {
            let mut one = Tensors::default();
            norm(&mut one, "layer_norm1", before, true);
            linear(&mut one, Role::Qkv, "attn.qkv", before, 3 * width, true);
            linear(&mut one, Role::AttentionOutput, "attn.proj", width, width, true);
            norm(&mut one, "layer_norm2", width, true);
            feed_forward(&mut one, ["mlp.proj_in", "mlp.proj_out"], width, inner);
            if before != width {
                linear(&mut one, Role::Other, "proj", before, width, true);
            }
            blocks.push((block(width, attention[stage], inner), one.build()));
            before = width;
        }
    }
    Ok((t, blocks, before))
}

/// The encoder and its neck as the first stack of a network.
fn encoder(f: &Fields, network: &mut Network, at: &str) -> Result<u64, ConfigError> {
    let backbone = part(f, "backbone_config")?;
    let kind = backbone.optional_text("model_type")?;
    if kind.as_deref().is_some_and(|kind| kind != "sam2_hiera_det_model") {
        return Err(backbone.impossible("model_type", "only `sam2_hiera_det_model` is understood as this model's encoder"));
    }
    let (mut tensors, blocks, width) = hiera(&backbone)?;
    let inputs = per_stage(f, "backbone_channel_list", &[768, 384, 192, 96])?;
    let (fused, kernel) = (size(f, "fpn_hidden_size", 256)?, size(f, "fpn_kernel_size", 1)?);
    for key in ["fpn_stride", "fpn_padding", "fpn_top_down_levels", "backbone_feature_sizes", "num_feature_levels"] {
        f.touch(key);
    }
    network.t.nested(&format!("{at}backbone"), tensors.build());
    for (number, &channels) in inputs.iter().enumerate() {
        network.t.convolution(&format!("{at}neck.convs.{number}"), &[fused, channels, kernel, kernel], true);
    }
    let shape = Encoder { hidden: width, layers: blocks.len() as u64, heads: 1, intermediate: 0 };
    network.stack_of("vision", &format!("{at}backbone.blocks"), &shape, blocks);
    Ok(fused)
}

/// The encoder alone.
pub(super) fn read_hiera(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let (t, blocks, width) = hiera(f)?;
    let mut network = Network::default();
    network.t = t;
    let shape = Encoder { hidden: width, layers: blocks.len() as u64, heads: 1, intermediate: 0 };
    network.stack_of("vision", "blocks", &shape, blocks);
    Ok(network.draft(width))
}

/// Encoder and neck alone.
pub(super) fn read_vision(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let mut network = Network::default();
    let width = encoder(f, &mut network, "")?;
    Ok(network.draft(width))
}

/// Prompts: points, boxes and masks as vectors.
pub(super) fn prompts(f: &Fields) -> Result<Component, ConfigError> {
    let (hidden, inner) = (size(f, "hidden_size", 256)?, size(f, "mask_input_channels", 16)?);
    for key in ["image_size", "patch_size", "scale"] {
        f.touch(key);
    }
    let mut t = Tensors::default();
    t.convolution("mask_embed.conv1", &[inner / 4, 1, 2, 2], true)
        .convolution("mask_embed.conv2", &[inner, inner / 4, 2, 2], true)
        .convolution("mask_embed.conv3", &[hidden, inner, 1, 1], true)
        .norm("mask_embed.layer_norm1", inner / 4, true)
        .norm("mask_embed.layer_norm2", inner / 4 * 4, true)
        .embedding("no_mask_embed", 1, hidden)
        .embedding("point_embed", size(f, "num_point_embeddings", 4)?, hidden)
        .embedding("not_a_point_embed", 1, hidden);
    let t = Tensors::default().nested("prompt_encoder", t.build()).build();
    Ok(component("prompt_encoder", ComponentKind::Other, hidden, "", t, Vec::new()))
}

/// Attention whose inner width is a part of the outer one.
fn attention(t: &mut Tensors, at: &str, outer: u64, inputs: u64, inner: u64) {
    t.linear(&format!("{at}.q_proj"), outer, inner, true)
        .linear(&format!("{at}.k_proj"), inputs, inner, true)
        .linear(&format!("{at}.v_proj"), inputs, inner, true)
        .linear(&format!("{at}.o_proj"), inner, outer, true);
}

/// The two-way decoder: tokens look at the image, the image at tokens; small networks make masks and their scores.
pub(super) fn masks(f: &Fields) -> Result<Component, ConfigError> {
    let hidden = size(f, "hidden_size", 256)?;
    let (depth, inner) = (layers(f, "num_hidden_layers", 2)?, size(f, "mlp_dim", 2048)?);
    let less = hidden / size(f, "attention_downsample_rate", 2)?;
    let heads = heads(f, "num_attention_heads", 8, hidden)?;
    let tokens = size(f, "num_multimask_outputs", 3)? + 1;
    if tokens > 1000 {
        return Err(f.impossible("num_multimask_outputs", "it must be less than 1000"));
    }
    let score = [size(f, "iou_head_hidden_dim", 256)?, layers(f, "iou_head_depth", 3)?];
    for key in ["dynamic_multimask_via_stability", "dynamic_multimask_stability_delta", "dynamic_multimask_stability_thresh"] {
        f.touch(key);
    }
    let mut layer = Tensors::default();
    attention(&mut layer, "self_attn", hidden, hidden, hidden);
    attention(&mut layer, "cross_attn_token_to_image", hidden, hidden, less);
    attention(&mut layer, "cross_attn_image_to_token", hidden, hidden, less);
    norms(&mut layer, &["layer_norm1", "layer_norm2", "layer_norm3", "layer_norm4"], hidden);
    // The class takes the number of its layers for that of the matrices in one.
    perceptron_of(&mut layer, "mlp", [hidden, inner, hidden], depth);
    let layer = layer.build();
    let mut t = Tensors::default();
    t.embedding("iou_token", 1, hidden).embedding("mask_tokens", tokens, hidden).embedding("obj_score_token", 1, hidden);
    attention(&mut t, "transformer.final_attn_token_to_image", hidden, hidden, less);
    norm(&mut t, "transformer.layer_norm_final_attn", hidden, true);
    t.convolution("upscale_conv1", &[hidden / 4, hidden, 2, 2], true)
        .convolution("upscale_conv2", &[hidden / 8, hidden / 4, 2, 2], true)
        .norm("upscale_layer_norm", hidden / 4, true)
        .convolution("conv_s0", &[hidden / 8, hidden, 1, 1], true)
        .convolution("conv_s1", &[hidden / 4, hidden, 1, 1], true);
    for number in 0..tokens {
        perceptron_of(&mut t, &format!("output_hypernetworks_mlps.{number}"), [hidden, hidden, hidden / 8], 3);
    }
    perceptron_of(&mut t, "iou_prediction_head", [hidden, score[0], tokens], score[1]);
    perceptron_of(&mut t, "pred_obj_score_head", [hidden, hidden, 1], 3);
    let shape = Encoder { hidden, layers: depth, heads, intermediate: inner };
    let t = Tensors::default().nested("mask_decoder", t.build()).build();
    let stack = super::vision::Style::layers_of(&shape, &layer);
    Ok(component("mask_decoder", ComponentKind::Other, hidden, "mask_decoder.transformer.layers", t, stack))
}

/// SAM 2; as `Sam2VideoModel` with the memory of earlier frames.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, false)
}

/// The same from the config for videos, from which the class for images can be made too.
pub(super) fn read_video(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    model(f, class != "Sam2Model")
}

fn model(f: &Fields, remembers: bool) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let mut network = Network::default();
    let width = encoder(&part(f, "vision_config")?, &mut network, "vision_encoder.")?;
    network.t.tensor("no_memory_embedding", Role::Other, &[1, 1, width]);
    network.part(prompts(&part(f, "prompt_encoder_config")?)?);
    network.part(masks(&part(f, "mask_decoder_config")?)?);
    if remembers {
        memory(f, &mut network, width)?;
    }
    if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(width))
}

/// What videos need: attention over what was seen, and what makes memories of masks.
pub(super) fn memory(f: &Fields, network: &mut Network, width: u64) -> Result<(), ConfigError> {
    let hidden = size(f, "memory_attention_hidden_size", 256)?;
    let inner = hidden / size(f, "memory_attention_downsample_rate", 1)?;
    let out = size(f, "memory_encoder_output_channels", 64)?;
    let encoder = Encoder {
        hidden,
        layers: layers(f, "memory_attention_num_layers", 4)?,
        heads: heads(f, "memory_attention_num_attention_heads", 1, hidden)?,
        intermediate: size(f, "memory_attention_feed_forward_hidden_size", 2048)?,
    };
    let mut layer = Tensors::default();
    attention(&mut layer, "self_attn", hidden, hidden, inner);
    // The class reads memories of this width, whatever the encoder of memories makes.
    attention(&mut layer, "cross_attn_image", hidden, 64, inner);
    feed_forward(&mut layer, ["linear1", "linear2"], hidden, encoder.intermediate);
    norms(&mut layer, &["layer_norm1", "layer_norm2", "layer_norm3"], hidden);
    network.stack("memory_attention", "memory_attention.layers", &encoder, &layer.build());
    let t = &mut network.t;
    norm(t, "memory_attention.layer_norm", hidden, true);
    let (wide, kernel) = (size(f, "memory_encoder_hidden_size", 256)?, size(f, "mask_downsampler_kernel_size", 3)?);
    let (stride, total) = (size(f, "mask_downsampler_stride", 2)?, size(f, "mask_downsampler_total_stride", 16)?);
    if !(2..=64).contains(&stride) {
        return Err(f.impossible("mask_downsampler_stride", "it must be 2 to 64"));
    }
    if total > 1 << 12 {
        return Err(f.impossible("mask_downsampler_total_stride", "it must be at most 4096"));
    }
    let mut before = 1;
    for number in 0..u64::from(total.ilog2() / stride.ilog2()) {
        let at = format!("memory_encoder.mask_downsampler.layers.{number}");
        let after = before * stride * stride;
        t.convolution(&format!("{at}.conv"), &[after, before, kernel, kernel], true).norm(&format!("{at}.layer_norm"), after, true);
        before = after;
    }
    t.convolution("memory_encoder.mask_downsampler.final_conv", &[size(f, "mask_downsampler_embed_dim", 256)?, before, 1, 1], true)
        .convolution("memory_encoder.feature_projection", &[wide, wide, 1, 1], true)
        .convolution("memory_encoder.projection", &[out, wide, 1, 1], true);
    let (fused, up, side) = (size(f, "memory_fuser_embed_dim", 256)?, size(f, "memory_fuser_intermediate_dim", 1024)?, size(f, "memory_fuser_kernel_size", 7)?);
    for number in 0..layers_or_none(f, "memory_fuser_num_layers", 2)? {
        let at = format!("memory_encoder.memory_fuser.layers.{number}");
        t.convolution(&format!("{at}.depthwise_conv"), &[fused, 1, side, side], true)
            .norm(&format!("{at}.layer_norm"), fused, true)
            .linear(&format!("{at}.pointwise_conv1"), fused, up, true)
            .linear(&format!("{at}.pointwise_conv2"), up, fused, true)
            .tensor(&format!("{at}.scale"), Role::Other, &[fused]);
    }
    t.tensor("no_memory_positional_encoding", Role::Other, &[1, 1, width])
        .tensor("memory_temporal_positional_encoding", Role::Position, &[size_or_zero(f, "num_maskmem", 7)?, 1, 1, out])
        .tensor("no_object_pointer", Role::Other, &[1, width])
        .convolution("mask_downsample", &[1, 1, 4, 4], true);
    perceptron_of(t, "object_pointer_proj", [width, width, width], 3);
    if f.flag("enable_temporal_pos_encoding_for_object_pointers", true)? {
        t.linear("temporal_positional_encoding_projection_layer", width, out, true);
    }
    if f.flag("enable_occlusion_spatial_embedding", true)? {
        t.tensor("occlusion_spatial_embedding_parameter", Role::Other, &[1, out]);
    }
    for key in ["image_size", "max_object_pointers_in_encoder", "max_cond_frame_num", "memory_attention_rope_feat_sizes", "memory_attention_rope_theta"] {
        f.touch(key);
    }
    Ok(())
}
