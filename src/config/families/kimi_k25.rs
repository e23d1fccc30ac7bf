//! Kimi-K2.5 and K3: a language model beside Moonshot's vision tower (MoonViT) and its patch merger.

use super::decoder::{Decoder, Draft, Tensors, component};
use super::{ConfigError, Fields, deepseek, kimi_k3};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.required_nested(&["text_config"])?;
    let (decoder, predictor) = deepseek::text(&text, "deepseek_v3")?;
    // The class ties the head unless the outer config says otherwise.
    Ok(with_vision(f, Decoder { tied_by_default: true, ..decoder })?.with_any(predictor))
}

pub(super) fn read_k3(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.required_nested(&["text_config"])?;
    let mut draft = with_vision(f, kimi_k3::text(&text)?)?;
    draft.assumptions.push("Kimi-K3 has no class in transformers: its parts follow the published modules and shapes".to_owned());
    Ok(draft)
}

fn with_vision(f: &Fields, decoder: Decoder) -> Result<Draft, ConfigError> {
    let hidden = decoder.shape.hidden;
    let draft = Draft::from(decoder.within_language_model());
    let Some(vision) = f.nested(&["vision_config"])? else { return Ok(draft) };
    let (tower, width) = tower(&vision)?;
    Ok(draft.with(tower).with(projector(f, &vision, width, hidden)?))
}

/// The tower, and its width. K3 norms without centring, has no biases, and widens queries, keys and values.
fn tower(f: &Fields) -> Result<(Component, u64), ConfigError> {
    let size = |old, new, default| Ok::<_, ConfigError>(f.optional_count(old)?.or(f.optional_count(new)?).unwrap_or(default));
    let hidden = size("vt_hidden_size", "hidden_size", 1152)?;
    let inner = size("vt_intermediate_size", "intermediate_size", 4304)?;
    let heads = size("vt_num_attention_heads", "num_attention_heads", 16)?;
    let layers = size("vt_num_hidden_layers", "num_hidden_layers", 27)?;
    if layers > super::decoder::Shape::MAX_LAYERS {
        return Err(f.impossible("vt_num_hidden_layers", "no model has more than 10,000 layers"));
    }
    let attention_width = f.optional_count("qkv_hidden_size")?.unwrap_or(hidden);
    if !attention_width.is_multiple_of(heads) {
        return Err(f.impossible("vt_num_attention_heads", "it must divide the width of the tower's attention"));
    }
    let patch = f.count_or("patch_size", 14)?;
    let (rows, columns) = (size("init_pos_emb_height", "pos_emb_height", 64)?, size("init_pos_emb_width", "pos_emb_width", 64)?);
    // Positions in time are computed.
    f.touch("init_pos_emb_time");
    f.touch("pos_emb_time");
    let centred = f.optional_text("norm_type")?.is_none_or(|kind| kind != "rmsnorm");
    let (attention_bias, linear_bias) = (f.flag("attn_bias", true)?, f.flag("linear_bias", true)?);
    let tensors = Tensors::default()
        .norm("norm0", hidden, centred)
        .norm("norm1", hidden, centred)
        .linear("wqkv", hidden, attention_width.saturating_mul(3), attention_bias)
        .linear("wo", attention_width, hidden, attention_bias)
        .linear("mlp.fc0", hidden, inner, linear_bias)
        .linear("mlp.fc1", inner, hidden, linear_bias)
        .build();
    let head_dim = attention_width / heads;
    let attention = Attention { heads, kv_heads: heads, key_dim: head_dim, value_dim: head_dim, span: Span::Full, keeps: Keeps::Nothing };
    let layer = Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated: false } };
    let outside = Tensors::default()
        .convolution("vision_tower.patch_embed.proj", &[hidden, 3, patch, patch], f.flag("patch_embed_proj_bias", true)?)
        .tensor("vision_tower.patch_embed.pos_emb.weight", crate::model::Role::Position, &[rows, columns, hidden])
        .norm("vision_tower.encoder.final_layernorm", hidden, centred)
        .build();
    let layers = (0..layers).map(|_| (layer, tensors.clone())).collect();
    Ok((component("vision", ComponentKind::VisionTower, hidden, "vision_tower.encoder.blocks", outside, layers), hidden))
}

/// Merged patches to the language model's width. The second version of the merger norms its output instead of its input.
fn projector(outer: &Fields, f: &Fields, width: u64, hidden: u64) -> Result<Component, ConfigError> {
    let width = f.optional_count("mm_hidden_size")?.unwrap_or(width);
    let normed = outer.optional_count("projection_hidden_size")?.unwrap_or(width);
    let merge = f.counts_or("merge_kernel_size", &[2, 2])?;
    let merged = merge.iter().fold(width, |product, &one| product.saturating_mul(one));
    let second = f.optional_text("mm_projector_type")?.is_some_and(|kind| kind == "patchmergerv2");
    let mut tensors = Tensors::default();
    if second {
        tensors.linear("mm_projector.proj.0", merged, merged, false).linear("mm_projector.proj.2", merged, hidden, false).norm(
            "mm_projector.post_norm",
            hidden,
            false,
        );
    } else {
        tensors.norm("mm_projector.pre_norm", normed, true).linear("mm_projector.proj.0", merged, merged, true).linear(
            "mm_projector.proj.2",
            merged,
            hidden,
            true,
        );
    }
    Ok(component("projector", ComponentKind::Projector, hidden, "", tensors.build(), Vec::new()))
}
