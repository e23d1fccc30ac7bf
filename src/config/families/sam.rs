//! Segment Anything, and GOT-OCR 2 around its tower: attention in windows with relative positions, a neck of two
//! convolutions; for masks a prompt encoder and a two-way decoder.

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Tie, Wrapper, language, with_projector};
use super::networks::perceptron_of;
use super::vision::{CLIP, Encoder, Patches, Style, Task, Tower, bare, linear, norm, task};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role, Tensor};

const SAM: Style = Style { qkv: &["attn.qkv"], output: "attn.proj", up: "mlp.lin1", down: "mlp.lin2", ..CLIP };

/// The tower: `mlp_dim` is the inner width; layers not in `global_attn_indexes` see windows.
pub(super) fn tower(f: &Fields) -> Result<Tower, ConfigError> {
    let f = &f.with_defaults(&[("hidden_size", 768), ("num_hidden_layers", 12), ("num_attention_heads", 12), ("image_size", 1024), ("patch_size", 16)]);
    f.touch("model_type");
    // An old name that the class does not read.
    f.touch("intermediate_size");
    f.touch("projection_dim");
    let hidden = f.count("hidden_size")?;
    let ratio = f.optional_number("mlp_ratio")?.unwrap_or(4.0);
    // Exact for the ratios in use, which are small whole numbers or halves; the class truncates likewise.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let by_ratio = (hidden as f64 * ratio) as u64;
    let e = Encoder::read_with(f, f.optional_count("mlp_dim")?.unwrap_or(by_ratio))?;
    let patches = Patches::read(f)?;
    let outputs = f.count_or("output_channels", 256)?;
    let window = f.optional_count_or_zero("window_size")?.unwrap_or(14);
    let everywhere = if f.has("global_attn_indexes") { f.layer_numbers("global_attn_indexes")? } else { [2, 5, 8, 11].into() };
    let has_positions = f.flag("use_rel_pos", true)?;
    let mut t = Tensors::default();
    if f.flag("use_abs_pos", true)? {
        t.tensor("pos_embed", Role::Position, &[1, patches.grid[0], patches.grid[1], e.hidden]);
    }
    patches.convolution(&mut t, "patch_embed.projection", e.hidden, true);
    t.convolution("neck.conv1", &[outputs, e.hidden, 1, 1], false);
    norm(&mut t, "neck.layer_norm1", outputs, true);
    t.convolution("neck.conv2", &[outputs, outputs, 3, 3], false);
    norm(&mut t, "neck.layer_norm2", outputs, true);
    let style = Style { qkv_bias: [f.flag("qkv_bias", true)?; 3], ..SAM };
    let mut layers = style.layers(&e);
    if has_positions {
        let head = e.hidden / e.heads;
        for ((_, tensors), number) in layers.iter_mut().zip(0_u64..) {
            let [height, width] = if everywhere.contains(&number) || window == 0 { patches.grid } else { [window; 2] };
            let mut more = Tensors::default();
            more.tensor("attn.rel_pos_h", Role::Position, &[height.saturating_mul(2) - 1, head]);
            more.tensor("attn.rel_pos_w", Role::Position, &[width.saturating_mul(2) - 1, head]);
            tensors.extend(more.build());
        }
    }
    Ok(Tower { encoder: e, layers_at: "layers".to_owned(), tensors: t.build(), layers })
}

/// A nested config, or its class's defaults.
fn part(f: &Fields, key: &'static str) -> Result<Fields, ConfigError> {
    let part = f.part(&[key])?;
    part.touch("model_type");
    Ok(part)
}

/// SAM.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, false)
}

/// SAM-HQ: a token for finer masks, made of what the tower sees early and late too.
pub(super) fn read_hq(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, true)
}

fn model(f: &Fields, is_finer: bool) -> Result<Draft, ConfigError> {
    let (task, class) = task(f)?;
    let seen = part(f, "vision_config")?;
    let tower = tower(&seen)?.below("vision_encoder");
    let mut draft = tower.draft(ComponentKind::VisionTower, "", 0);
    if task != Task::Model {
        bare(&mut draft, &class);
    }
    if class.ends_with("VisionModel") {
        f.touch("prompt_encoder_config");
        f.touch("mask_decoder_config");
        return Ok(draft);
    }
    // The random positions that prompts and images share are a buffer of the class that wrote the files (a parameter in transformers 5.23).
    let prompt = prompt_encoder(&part(f, "prompt_encoder_config")?)?;
    let masks = part(f, "mask_decoder_config")?;
    let (width, mut mask) = mask_decoder(&masks)?;
    if is_finer {
        let positions = seen.count_or("num_pos_feats", 128)?;
        let mut t = Tensors::default();
        t.tensor("shared_image_embedding.positional_embedding", Role::Position, &[2, positions]);
        if !f.flag("tie_word_embeddings", true)? {
            t.tensor("prompt_encoder.shared_embedding.positional_embedding", Role::Position, &[2, positions]);
        }
        draft.decoder.tensors.extend(t.build());
        mask.extend(finer(width, masks.count_or("vit_dim", 768)?));
    }
    let prompt = component("prompt_encoder", ComponentKind::Other, width, "", prompt, Vec::new());
    Ok(draft.with(prompt).with(component("mask_decoder", ComponentKind::Other, width, "", mask, Vec::new())))
}

/// SAM's tower alone.
pub(super) fn read_vision(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    Ok(tower(f)?.below("vision_encoder").draft(ComponentKind::VisionTower, "", 0))
}

fn prompt_encoder(f: &Fields) -> Result<Vec<Tensor>, ConfigError> {
    let hidden = f.count_or("hidden_size", 256)?;
    let channels = f.count_or("mask_input_channels", 16)?;
    let points = f.count_or("num_point_embeddings", 4)?;
    // Sizes of images: for positions, which are computed.
    f.touch("image_size");
    f.touch("patch_size");
    f.touch("image_embedding_size");
    let mut t = Tensors::default();
    t.convolution("prompt_encoder.mask_embed.conv1", &[channels / 4, 1, 2, 2], true)
        .convolution("prompt_encoder.mask_embed.conv2", &[channels, channels / 4, 2, 2], true)
        .convolution("prompt_encoder.mask_embed.conv3", &[hidden, channels, 1, 1], true);
    norm(&mut t, "prompt_encoder.mask_embed.layer_norm1", channels / 4, true);
    norm(&mut t, "prompt_encoder.mask_embed.layer_norm2", channels, true);
    t.tensor("prompt_encoder.no_mask_embed.weight", Role::Other, &[1, hidden]);
    t.tensor("prompt_encoder.not_a_point_embed.weight", Role::Other, &[1, hidden]);
    if points > 1000 {
        return Err(f.impossible("num_point_embeddings", "it must be at most 1000"));
    }
    for number in 0..points {
        t.tensor(&format!("prompt_encoder.point_embed.{number}.weight"), Role::Other, &[1, hidden]);
    }
    Ok(t.build())
}

/// What SAM-HQ's decoder of masks has besides.
fn finer(hidden: u64, seen: u64) -> Vec<Tensor> {
    let mut t = Tensors::default();
    t.tensor("hq_token.weight", Role::Other, &[1, hidden]);
    perceptron_of(&mut t, "hq_mask_mlp", [hidden, hidden, hidden / 8], 3);
    let (half, less) = (hidden / 4, hidden / 8);
    // The first four are transposed: inputs first.
    for (name, [inputs, outputs]) in
        [("compress_vit_conv1", [seen, hidden]), ("compress_vit_conv2", [hidden, less]), ("encoder_conv1", [hidden, half]), ("encoder_conv2", [half, less])]
    {
        t.tensor(&format!("{name}.weight"), Role::Other, &[inputs, outputs, 2, 2]).tensor(&format!("{name}.bias"), Role::Other, &[outputs]);
    }
    t.convolution("mask_conv1", &[half, less, 3, 3], true).convolution("mask_conv2", &[less, half, 3, 3], true);
    for (name, width) in [("compress_vit_norm", hidden), ("encoder_norm", half), ("mask_norm", half)] {
        norm(&mut t, name, width, true);
    }
    Tensors::default().nested("mask_decoder", t.build()).build()
}

fn mask_decoder(f: &Fields) -> Result<(u64, Vec<Tensor>), ConfigError> {
    let hidden = f.count_or("hidden_size", 256)?;
    let inner = f.count_or("mlp_dim", 2048)?;
    let layers = f.count_or("num_hidden_layers", 2)?;
    let reduced = hidden / f.count_or("attention_downsample_rate", 2)?;
    f.touch("num_attention_heads");
    let masks = f.count_or("num_multimask_outputs", 3)?.saturating_add(1);
    let depth = f.count_or("iou_head_depth", 3)?;
    let iou = f.count_or("iou_head_hidden_dim", 256)?;
    for (key, value) in [("num_hidden_layers", layers), ("num_multimask_outputs", masks), ("iou_head_depth", depth)] {
        if value > 1000 {
            return Err(f.impossible(key, "it must be at most 1000"));
        }
    }
    let mut t = Tensors::default();
    t.tensor("mask_decoder.iou_token.weight", Role::Other, &[1, hidden]).tensor("mask_decoder.mask_tokens.weight", Role::Other, &[masks, hidden]);
    let attention = |t: &mut Tensors, name: &str, width: u64| {
        for (leaf, role) in [("q_proj", Role::Query), ("k_proj", Role::Key), ("v_proj", Role::Value)] {
            linear(t, role, &format!("{name}.{leaf}"), hidden, width, true);
        }
        linear(t, Role::AttentionOutput, &format!("{name}.out_proj"), width, hidden, true);
    };
    for number in 0..layers {
        let name = format!("mask_decoder.transformer.layers.{number}");
        attention(&mut t, &format!("{name}.self_attn"), hidden);
        attention(&mut t, &format!("{name}.cross_attn_token_to_image"), reduced);
        attention(&mut t, &format!("{name}.cross_attn_image_to_token"), reduced);
        for number in 1..=4 {
            norm(&mut t, &format!("{name}.layer_norm{number}"), hidden, true);
        }
        linear(&mut t, Role::Up, &format!("{name}.mlp.lin1"), hidden, inner, true);
        linear(&mut t, Role::Down, &format!("{name}.mlp.lin2"), inner, hidden, true);
    }
    attention(&mut t, "mask_decoder.transformer.final_attn_token_to_image", reduced);
    norm(&mut t, "mask_decoder.transformer.layer_norm_final_attn", hidden, true);
    // Transposed convolutions: inputs first.
    t.tensor("mask_decoder.upscale_conv1.weight", Role::Other, &[hidden, hidden / 4, 2, 2])
        .tensor("mask_decoder.upscale_conv1.bias", Role::Other, &[hidden / 4])
        .tensor("mask_decoder.upscale_conv2.weight", Role::Other, &[hidden / 4, hidden / 8, 2, 2])
        .tensor("mask_decoder.upscale_conv2.bias", Role::Other, &[hidden / 8]);
    norm(&mut t, "mask_decoder.upscale_layer_norm", hidden / 4, true);
    let feed_forward = |t: &mut Tensors, name: &str, inner: u64, outputs: u64, depth: u64| {
        linear(t, Role::Other, &format!("{name}.proj_in"), hidden, inner, true);
        for number in 0..depth.saturating_sub(2) {
            linear(t, Role::Other, &format!("{name}.layers.{number}"), inner, inner, true);
        }
        linear(t, Role::Other, &format!("{name}.proj_out"), inner, outputs, true);
    };
    for number in 0..masks {
        feed_forward(&mut t, &format!("mask_decoder.output_hypernetworks_mlps.{number}"), hidden, hidden / 8, 3);
    }
    feed_forward(&mut t, "mask_decoder.iou_prediction_head", iou, masks, depth);
    Ok((hidden, t.build()))
}

/// GOT-OCR 2: SAM's tower, two more convolutions, one matrix, Qwen2.
pub(super) fn read_got(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { tie: Tie::Wrapper { default: true }, ..Wrapper::new("qwen2") })?;
    let width = draft.decoder.shape.hidden;
    let vision = f.required_nested(&["vision_config"])?;
    // This class has no ratio: its inner width is fixed when the key is absent.
    let vision = vision.with_defaults(&[
        ("mlp_dim", 3072),
        ("hidden_size", 768),
        ("num_hidden_layers", 12),
        ("num_attention_heads", 12),
        ("image_size", 1024),
        ("patch_size", 16),
    ]);
    let outputs = vision.count_or("output_channels", 256)?;
    let tower = tower(&vision)?.below("vision_tower");
    let twice = outputs.saturating_mul(2);
    let mut t = Tensors::default();
    t.convolution("multi_modal_projector.conv_upsampler1", &[twice, outputs, 3, 3], false).convolution(
        "multi_modal_projector.conv_upsampler2",
        &[width, twice, 3, 3],
        false,
    );
    linear(&mut t, Role::Other, "multi_modal_projector.multimodal_projector", width, width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}
