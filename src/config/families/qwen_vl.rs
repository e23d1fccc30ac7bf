//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a tower over patches of image and time, and a merger of neighbouring patches. The
//! older two keep the language model's fields beside the tower's object; Qwen3-VL has one more merger per deep-stacked layer.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, fused_attention, projector, vision_tower};
use super::{ConfigError, Fields, qwen2, qwen3, qwen3_moe};
use crate::model::Component;

/// `Qwen2VLTextConfig` and `Qwen2_5_VLTextConfig` of transformers 5.23.
const TEXT2: &[(&str, u64)] = &[
    ("vocab_size", 152_064),
    ("hidden_size", 8192),
    ("intermediate_size", 29_568),
    ("num_hidden_layers", 80),
    ("num_attention_heads", 64),
    ("num_key_value_heads", 8),
    ("sliding_window", 4096),
    ("max_window_layers", 80),
];

/// `Qwen3VLTextConfig`.
const TEXT3: &[(&str, u64)] = &[
    ("vocab_size", 151_936),
    ("hidden_size", 4096),
    ("intermediate_size", 22_016),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 32),
    ("head_dim", 128),
];

/// `Qwen3VLMoeTextConfig`.
const TEXT3_MOE: &[(&str, u64)] = &[
    ("vocab_size", 151_936),
    ("hidden_size", 2048),
    ("intermediate_size", 5632),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 16),
    ("moe_intermediate_size", 1408),
    ("num_experts", 60),
    ("num_experts_per_tok", 4),
];

/// What all their towers take when the config does not say.
const TOWER2: &[(&str, u64)] = &[
    ("depth", 32),
    ("embed_dim", 1280),
    ("hidden_size", 3584),
    ("intermediate_size", 3420),
    ("out_hidden_size", 3584),
    ("mlp_ratio", 4),
    ("num_heads", 16),
    ("in_channels", 3),
    ("patch_size", 14),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 2),
];

/// `Qwen3VLVisionConfig` and its kin.
const TOWER3: &[(&str, u64)] = &[
    ("depth", 27),
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("out_hidden_size", 3584),
    ("num_heads", 16),
    ("in_channels", 3),
    ("patch_size", 16),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 2),
    ("num_position_embeddings", 2304),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    qwen2::read(&f.with_defaults(TEXT2))
}

pub(super) fn read_text3(f: &Fields) -> Result<Draft, ConfigError> {
    qwen3::read(&f.with_defaults(TEXT3))
}

pub(super) fn read_text3_moe(f: &Fields) -> Result<Draft, ConfigError> {
    qwen3_moe::read(&f.with_defaults(TEXT3_MOE))
}

pub(super) fn read_qwen2_vl(f: &Fields) -> Result<Draft, ConfigError> {
    let vision = vision(f)?;
    // Qwen2-VL calls the tower's width `embed_dim`, and the width that it gives out `hidden_size`.
    let embed = vision.count("embed_dim")?;
    let inner = embed.saturating_mul(vision.count("mlp_ratio")?);
    let tower = Shape2 { hidden: embed, out: vision.count("hidden_size")?, intermediate: inner, gated: false, layer_norm: true, separate: false, keys: embed };
    with_tower(f, "qwen2_vl_text", &vision, &tower)
}

pub(super) fn read_qwen2_5_vl(f: &Fields) -> Result<Draft, ConfigError> {
    let vision = vision(f)?;
    with_tower(f, "qwen2_5_vl_text", &vision, &shape2_5(&vision)?)
}

fn vision(f: &Fields) -> Result<Fields, ConfigError> {
    Ok(f.part(&["vision_config"])?.with_defaults(TOWER2))
}

/// What distinguishes the towers of Qwen2-VL and Qwen2.5-VL.
struct Shape2 {
    hidden: u64,
    out: u64,
    intermediate: u64,
    gated: bool,
    /// LayerNorms with biases instead of RMSNorms.
    layer_norm: bool,
    /// Query, key and value apart.
    separate: bool,
    /// Width of the keys, and of the values.
    keys: u64,
}

fn shape2_5(vision: &Fields) -> Result<Shape2, ConfigError> {
    let (hidden, out) = (vision.count("hidden_size")?, vision.count("out_hidden_size")?);
    Ok(Shape2 { hidden, out, intermediate: vision.count("intermediate_size")?, gated: true, layer_norm: false, separate: false, keys: hidden })
}

fn with_tower(f: &Fields, text_type: &'static str, vision: &Fields, shape: &Shape2) -> Result<Draft, ConfigError> {
    // In published files the language model's fields stand beside `vision_config`; newer ones nest them.
    let wrapper = Wrapper { default_type: text_type, names: Names::Inside("model"), head: Head::ByArchitecture, tie: Tie::Either };
    let draft = match f.nested(TEXT_CONFIGS)? {
        Some(text) => language_in(f, &text, &wrapper)?,
        None => read_text(f)?,
    };
    let [tower, merger] = tower2(vision, shape, "visual", "visual.blocks")?;
    Ok(draft.with(tower).with(merger))
}

/// EXAONE 4.5: Qwen2.5-VL's tower with fewer heads for keys and values, before EXAONE 4.
pub(super) fn read_exaone4_5(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "exaone4", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: false } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let v = f.part(&["vision_config"])?.with_defaults(&[("hidden_size", 3584), ("num_key_value_heads", 8)]);
    let v = v.with_defaults(TOWER2);
    let shape = shape2_5(&v)?;
    let (heads, groups) = (v.count("num_heads")?, v.count("num_key_value_heads")?);
    if !shape.hidden.is_multiple_of(heads) {
        return Err(v.impossible("num_heads", "it must divide `hidden_size`"));
    }
    let keys = (shape.hidden / heads).saturating_mul(groups);
    let [tower, merger] = tower2(&v, &Shape2 { keys, ..shape }, "model.visual", "model.visual.blocks")?;
    Ok(draft.with(tower).with(merger))
}

/// HyperCLOVA X Vision 2: Qwen2.5-VL's tower and one matrix before HyperCLOVA X.
pub(super) fn read_hyperclovax(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "hyperclovax", names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: true } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let v = vision(f)?;
    v.touch("model_type");
    let shape = shape2_5(&v)?;
    let [tower, mut merger] = tower2(&v, &shape, "model.vision_model", "model.vision_model.blocks")?;
    merger.tensors.extend(Tensors::default().linear("model.projector", shape.out, draft.decoder.shape.hidden, true).build());
    Ok(draft.with(tower).with(merger))
}

/// The tower of Qwen2.5-Omni behind `prefix`, and its merger: that of Qwen2.5-VL with query, key and value apart.
pub(super) fn omni_tower(f: &Fields, prefix: &str, layer_prefix: &'static str) -> Result<[Component; 2], ConfigError> {
    let vision = f.with_defaults(TOWER2);
    tower2(&vision, &Shape2 { separate: true, ..shape2_5(&vision)? }, prefix, layer_prefix)
}

fn tower2(f: &Fields, shape: &Shape2, prefix: &str, layer_prefix: &'static str) -> Result<[Component; 2], ConfigError> {
    let &Shape2 { hidden, out, intermediate, gated, layer_norm, separate, keys } = shape;
    let tower = TowerShape { hidden, layers: f.count("depth")?, heads: f.count("num_heads")?, intermediate, gated }.checked(f, "depth", "num_heads")?;
    let mut layer = Tensors::default();
    layer.norm("norm1", hidden, layer_norm).norm("norm2", hidden, layer_norm);
    if separate {
        for name in ["attn.q", "attn.k", "attn.v", "attn.proj"] {
            layer.linear(name, hidden, hidden, true);
        }
    } else {
        layer.linear("attn.qkv", hidden, hidden.saturating_add(keys.saturating_mul(2)), true).linear("attn.proj", hidden, hidden, true);
    }
    if gated {
        layer.gated_mlp(hidden, intermediate, true);
    } else {
        layer.linear("mlp.fc1", hidden, intermediate, true).linear("mlp.fc2", intermediate, hidden, true);
    }
    let merged = merged(f, hidden)?;
    let merger = Tensors::default()
        .norm("merger.ln_q", hidden, layer_norm)
        .linear("merger.mlp.0", merged, merged, true)
        .linear("merger.mlp.2", merged, out, true)
        .build();
    let tensors = Tensors::default().convolution("patch_embed.proj", &patch_kernel(f, hidden)?, false).build();
    let behind = |tensors| Tensors::default().nested(prefix, tensors).build();
    Ok([vision_tower(hidden, layer_prefix, behind(tensors), tower.layers(&layer.build())), projector(out, behind(merger))])
}

/// Width of the patches that one merger takes together.
pub(super) fn merged(f: &Fields, hidden: u64) -> Result<u64, ConfigError> {
    let side = f.count("spatial_merge_size")?;
    Ok(hidden.saturating_mul(side).saturating_mul(side))
}

/// The kernel over patches of image and time.
pub(super) fn patch_kernel(f: &Fields, hidden: u64) -> Result<[u64; 5], ConfigError> {
    let (channels, patch) = (f.count("in_channels")?, f.count("patch_size")?);
    // The key of the published files of Qwen2-VL and 2.5-VL, which the class does not read.
    f.touch("in_chans");
    f.touch("spatial_patch_size");
    // Which layers of the tower see windows alone.
    f.touch("window_size");
    f.touch("fullatt_block_indexes");
    Ok([hidden, channels, f.count("temporal_patch_size")?, patch, patch])
}

pub(super) fn read_qwen3_vl(f: &Fields) -> Result<Draft, ConfigError> {
    wrap3(f, "qwen3_vl_text", false)
}

pub(super) fn read_qwen3_vl_moe(f: &Fields) -> Result<Draft, ConfigError> {
    wrap3(f, "qwen3_vl_moe_text", false)
}

/// Compass and North Vision: the same tower before Command R.
pub(super) fn read_compass(f: &Fields) -> Result<Draft, ConfigError> {
    wrap3(f, "cohere_compass_text", true)
}

fn wrap3(f: &Fields, text_type: &'static str, tied: bool) -> Result<Draft, ConfigError> {
    let tie = Tie::Wrapper { default: tied };
    let wrapper = Wrapper { default_type: text_type, names: Names::Inside("model.language_model"), head: Head::ByArchitecture, tie };
    let text = f.part(TEXT_CONFIGS)?;
    let vision = f.part(&["vision_config"])?;
    let draft = language_in(f, &text, &wrapper)?;
    let [tower, merger] = tower3(&vision, "model.visual", "model.visual.blocks")?;
    Ok(draft.with(tower).with(merger))
}

/// The tower of Qwen3-VL behind `prefix`, and its mergers.
pub(super) fn tower3(f: &Fields, prefix: &str, layer_prefix: &'static str) -> Result<[Component; 2], ConfigError> {
    let f = f.with_defaults(TOWER3);
    // `[8, 16, 24]` is the class's default; Qwen3.5's towers have an empty list.
    let deep = f.optional_counts("deepstack_visual_indexes")?.map_or(3, |layers| layers.len());
    tower3_with(&f, prefix, layer_prefix, deep, &["deepstack_merger_list", "norm", "linear_fc1", "linear_fc2"])
}

/// The same in Qwen3-Omni, whose mergers are named otherwise.
pub(super) fn omni_tower3(f: &Fields, prefix: &str, layer_prefix: &'static str) -> Result<[Component; 2], ConfigError> {
    let f = f.with_defaults(TOWER3);
    let deep = f.optional_counts("deepstack_visual_indexes")?.map_or(3, |layers| layers.len());
    tower3_with(&f, prefix, layer_prefix, deep, &["merger_list", "ln_q", "mlp.0", "mlp.2"])
}

/// The same with as many deep-stack mergers as said.
fn tower3_with(f: &Fields, prefix: &str, layer_prefix: &'static str, deep: usize, names: &[&str; 4]) -> Result<[Component; 2], ConfigError> {
    let (hidden, intermediate, out) = (f.count("hidden_size")?, f.count("intermediate_size")?, f.count("out_hidden_size")?);
    let tower = TowerShape { hidden, layers: f.count("depth")?, heads: f.count("num_heads")?, intermediate, gated: false }.checked(f, "depth", "num_heads")?;
    let mut layer = Tensors::default();
    let layer = fused_attention(layer.norm("norm1", hidden, true).norm("norm2", hidden, true), hidden, true, true)
        .linear("mlp.linear_fc1", hidden, intermediate, true)
        .linear("mlp.linear_fc2", intermediate, hidden, true)
        .build();
    let tensors = Tensors::default()
        .convolution("patch_embed.proj", &patch_kernel(f, hidden)?, true)
        .embedding("pos_embed", f.count("num_position_embeddings")?, hidden)
        .build();
    let merged = merged(f, hidden)?;
    let mut mergers = Tensors::default();
    let mut merger = |name: &str, norm: u64| {
        mergers.norm(&format!("{name}.{}", names[1]), norm, true).linear(&format!("{name}.{}", names[2]), merged, merged, true).linear(
            &format!("{name}.{}", names[3]),
            merged,
            out,
            true,
        );
    };
    merger("merger", hidden);
    // The deep ones normalise after the patches are put together.
    (0..deep).for_each(|number| merger(&format!("{}.{number}", names[0]), merged));
    let behind = |tensors| Tensors::default().nested(prefix, tensors).build();
    Ok([vision_tower(hidden, layer_prefix, behind(tensors), tower.layers(&layer)), projector(out, behind(mergers.build()))])
}
