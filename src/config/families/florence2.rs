//! Florence-2: `DaViT` (attention over windows, then over channels, each behind a depthwise convolution) before BART. The published
//! files and transformers spell the tower's keys differently.

use super::bart;
use super::decoder::{Draft, Tensors, component};
use super::towers::scaled;
use super::vision::{depths, linear, norm, per_stage_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Input, Role, Work};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    let mut draft = bart::read_bart(&text)?;
    draft.assumptions.clear();
    f.touch("architectures");
    // The text's flag ties the stacks' tables, the outer one the head.
    let has_head = !f.architecture()?.is_some_and(|class| class.ends_with("Model"));
    draft.decoder.tensors.retain(|tensor| tensor.role != Role::Head);
    if has_head && !f.flag("tie_word_embeddings", true)? {
        let shape = draft.decoder.shape;
        draft.decoder.tensors.extend(Tensors::default().linear("lm_head", shape.hidden, shape.vocab, false).build());
    }
    let v = f.part(&["vision_config"])?;
    let depths = depths(&v, &[1, 1, 9, 1])?;
    let stages = depths.len();
    let widths = per_stage_of(&v, if v.has("dim_embed") { "dim_embed" } else { "embed_dim" }, &[128, 256, 512, 1024], stages)?;
    let patches = per_stage_of(&v, "patch_size", &[7, 3, 3, 3], stages)?;
    let norms_first = match v.raw("patch_prenorm").and_then(serde_json::Value::as_array) {
        Some(list) if list.len() != stages => return Err(v.impossible("patch_prenorm", "it must have one entry per stage (`depths`)")),
        Some(list) => list.iter().map(|first| first.as_bool().unwrap_or(false)).collect(),
        None => (0..stages).map(|stage| stage > 0).collect::<Vec<_>>(),
    };
    let bias = v.flag("qkv_bias", true)?;
    // How windows and groups are cut, and what the published files say besides.
    for key in ["enable_checkpoint", "image_feature_source", "max_temporal_embeddings", "model_type", "num_groups", "num_heads", "patch_padding"] {
        v.touch(key);
    }
    for key in ["visual_temporal_embedding", "window_size", "drop_path_rate"] {
        v.touch(key);
    }
    // Of images of 768 pixels a side (`CLIPImageProcessor` of the published files), and the mean of all.
    let strides = per_stage_of(&v, "patch_stride", &[4, 2, 2, 2], stages)?;
    let side = strides.into_iter().try_fold(768_u64, u64::checked_div).unwrap_or(0);
    let rule = format!("one image of {side} × {side} tokens and their mean, and as many tokens of text as the context, at most what there are positions for");
    for encoder in draft.others.iter_mut().filter(|part| part.kind == ComponentKind::TextEncoder) {
        encoder.work = Work::Input(Input { tokens: side * side + 1, rule: rule.clone().into() });
    }
    let mut t = Tensors::default();
    let mut before = v.count_or("in_channels", 3)?;
    for stage in 0..stages {
        let width = widths[stage];
        let inner = scaled(&v, "mlp_ratio", 4.0, width)?;
        t.convolution(&format!("convs.{stage}.conv"), &[width, before, patches[stage], patches[stage]], true);
        norm(&mut t, &format!("convs.{stage}.norm"), if norms_first[stage] { before } else { width }, true);
        for number in 0..depths[stage] {
            for (block, attention) in [("spatial_block", "window_attn"), ("channel_block", "channel_attn")] {
                let at = format!("blocks.{stage}.{number}.{block}");
                for half in [1, 2] {
                    t.convolution(&format!("{at}.conv{half}"), &[width, 1, 3, 3], true);
                    norm(&mut t, &format!("{at}.norm{half}"), width, true);
                }
                linear(&mut t, Role::Qkv, &format!("{at}.{attention}.qkv"), width, 3 * width, bias);
                linear(&mut t, Role::AttentionOutput, &format!("{at}.{attention}.proj"), width, width, true);
                linear(&mut t, Role::Up, &format!("{at}.ffn.fc1"), width, inner, true);
                linear(&mut t, Role::Down, &format!("{at}.ffn.fc2"), inner, width, true);
            }
        }
        before = width;
    }
    let tensors = Tensors::default().nested("model.vision_tower", t.build()).build();
    let tower = component("vision", ComponentKind::VisionTower, before, "", tensors, Vec::new());
    let positions = match v.nested(&["image_pos_embed"])? {
        Some(embedding) => {
            embedding.touch("type");
            embedding.optional_count("max_pos_embeddings")?
        }
        None => v.optional_count("max_position_embeddings")?,
    };
    let (positions, width) = (positions.unwrap_or(50), v.count_or("projection_dim", 1024)?);
    let mut t = Tensors::default();
    let at = "model.multi_modal_projector";
    linear(&mut t, Role::Other, &format!("{at}.image_projection"), before, width, false);
    norm(&mut t, &format!("{at}.image_proj_norm"), width, true);
    t.embedding(&format!("{at}.image_position_embed.row_embeddings"), positions, before / 2).embedding(
        &format!("{at}.image_position_embed.column_embeddings"),
        positions,
        before - before / 2,
    );
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new())))
}
