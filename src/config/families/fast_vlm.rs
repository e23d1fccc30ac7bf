//! `FastVLM`: `FastViT`'s tower (stages of convolutions, then of attention), two matrices, Qwen2. Perception LM: the Perception Encoder's
//! tower, two matrices, Llama. Both towers are timm's by name.

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Tie, Wrapper, language};
use super::towers::{TowerShape, fused_attention, projector, vision_tower};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Role};

/// A `FastViT` of timm 1.0.31 (`fastvit.py`), with its branches merged as for inference: blocks and width of each stage, and how many
/// stages, the last ones, have attention.
struct FastVit {
    name: &'static str,
    depths: &'static [u64],
    width: u64,
    attention: usize,
}

const FASTVITS: &[FastVit] = &[
    FastVit { name: "fastvit_mci3", depths: &[2, 12, 24, 4, 2], width: 96, attention: 2 },
    FastVit { name: "fastvit_mci4", depths: &[2, 12, 24, 4, 4], width: 128, attention: 2 },
];

/// What a wrapper's `vision_config` names, and the object.
fn named(f: &Fields) -> Result<(Fields, String), ConfigError> {
    let v = f.part(&["vision_config"])?;
    for key in ["model_type", "do_pooling", "global_pool", "num_classes", "num_features", "label_names", "pretrained_cfg"] {
        v.touch(key);
    }
    let name = v.optional_text("architecture")?.unwrap_or_default();
    Ok((v, name))
}

/// A depthwise convolution with the bias that its merged norm leaves.
fn depthwise(t: &mut Tensors, at: &str, width: u64, side: u64) {
    t.convolution(&format!("{at}.reparam_conv"), &[width, 1, side, side], true);
}

fn fastvit(kind: &FastVit) -> Component {
    let at = |leaf: &str| format!("model.vision_tower.timm_model.{leaf}");
    let mut t = Tensors::default();
    let first = kind.width;
    t.convolution(&at("stem.0.reparam_conv"), &[first, 3, 3, 3], true);
    depthwise(&mut t, &at("stem.1"), first, 3);
    t.convolution(&at("stem.2.reparam_conv"), &[first, first, 1, 1], true);
    let mut width = first;
    for (stage, &depth) in kind.depths.iter().enumerate() {
        let has_attention = stage + kind.attention >= kind.depths.len();
        if stage > 0 {
            width *= 2;
            depthwise(&mut t, &at(&format!("stages.{stage}.downsample.proj.0")), width, 7);
            t.convolution(&at(&format!("stages.{stage}.downsample.proj.1.reparam_conv")), &[width, width, 1, 1], true);
        }
        if has_attention {
            depthwise(&mut t, &at(&format!("stages.{stage}.pos_emb")), width, 7);
        }
        for number in 0..depth {
            let block = at(&format!("stages.{stage}.blocks.{number}"));
            let leaf = |leaf: &str| format!("{block}.{leaf}");
            let scales: &[&str] = if has_attention {
                norm(&mut t, &leaf("norm"), width, true);
                linear(&mut t, Role::Qkv, &leaf("token_mixer.qkv"), width, 3 * width, false);
                linear(&mut t, Role::AttentionOutput, &leaf("token_mixer.proj"), width, width, true);
                &["layer_scale_1.gamma", "layer_scale_2.gamma"]
            } else {
                depthwise(&mut t, &leaf("token_mixer"), width, 3);
                &["layer_scale.gamma"]
            };
            t.convolution(&leaf("mlp.conv.conv"), &[width, 1, 7, 7], false);
            norm(&mut t, &leaf("mlp.conv.bn"), width, true);
            linear(&mut t, Role::Up, &leaf("mlp.fc1"), width, 4 * width, true);
            linear(&mut t, Role::Down, &leaf("mlp.fc2"), 4 * width, width, true);
            for scale in scales {
                t.tensor(&leaf(scale), Role::Other, &[width]);
            }
        }
    }
    let last = 2 * width;
    linear(&mut t, Role::Other, &at("final_conv.se.fc1"), last, last / 16, true);
    linear(&mut t, Role::Other, &at("final_conv.se.fc2"), last / 16, last, true);
    depthwise(&mut t, &at("final_conv"), last, 3);
    component("vision", ComponentKind::VisionTower, last, "", t.build(), Vec::new())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { tie: Tie::Either, ..Wrapper::new("qwen2") })?;
    let (v, name) = named(f)?;
    let name = if name.is_empty() { "fastvit_mci3" } else { &name };
    let kind = FASTVITS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| v.impossible("architecture", "of FastViT's towers, `fastvit_mci3` and `fastvit_mci4` are known"))?;
    if let Some(args) = v.nested(&["model_args"])? {
        image_sides(&args, 1)?;
        if !args.flag("inference_mode", false)? {
            return Err(args.impossible("inference_mode", "it must be true: only merged branches are known"));
        }
    }
    let tower = fastvit(kind);
    let seen = v.optional_count("hidden_size")?.unwrap_or(tower.hidden_size);
    for key in ["vision_feature_layer", "image_token_index"] {
        f.touch(key);
    }
    Ok(two_matrices(draft, tower, seen, f.flag("multimodal_projector_bias", true)?))
}

/// The usual projector, behind a tower that gives `seen` features.
fn two_matrices(draft: Draft, tower: Component, seen: u64, bias: bool) -> Draft {
    let width = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_1", seen, width, bias);
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_2", width, width, bias);
    draft.with(tower).with(projector(width, t.build()))
}

/// A tower of the Perception Encoder in timm 1.0.31 (`eva.py`).
struct Perception {
    name: &'static str,
    tower: TowerShape,
    side: u64,
    /// Whether a vector stands for the whole image.
    has_class: bool,
    /// Its core has a norm above its blocks and a pool of attention; its tower for language models scales what each block adds instead.
    is_core: bool,
}

const LARGE: TowerShape = TowerShape { hidden: 1024, layers: 23, heads: 16, intermediate: 4096, gated: false };
const GIGANTIC: TowerShape = TowerShape { hidden: 1536, layers: 47, heads: 16, intermediate: 8960, gated: false };
const LANGUAGE: Perception = Perception { name: "vit_pe_lang_large_patch14_448", tower: LARGE, side: 448, has_class: true, is_core: false };
const CORE: Perception = Perception { name: "vit_pe_core_large_patch14_336", tower: TowerShape { layers: 24, ..LARGE }, side: 336, is_core: true, ..LANGUAGE };
const PERCEPTIONS: &[Perception] = &[
    LANGUAGE,
    Perception { name: "vit_pe_lang_gigantic_patch14_448", tower: GIGANTIC, has_class: false, ..LANGUAGE },
    CORE,
    Perception { name: "vit_pe_core_gigantic_patch14_448", tower: TowerShape { layers: 50, ..GIGANTIC }, side: 448, has_class: false, ..CORE },
];

/// `img_size`: height and width, or one size for both.
fn image_sides(args: &Fields, default: u64) -> Result<[u64; 2], ConfigError> {
    let sides = match args.raw("img_size") {
        Some(size) if size.is_array() => args.optional_counts("img_size")?.unwrap_or_default(),
        _ => vec![args.optional_count("img_size")?.unwrap_or(default); 2],
    };
    match sides.as_slice() {
        &[height, width] if height > 0 && width > 0 => Ok([height, width]),
        _ => Err(args.impossible("img_size", "it must be one size or two above zero: height and width")),
    }
}

/// Arguments of timm's that a config may give, as far as they change sizes.
fn perception(v: &Fields, name: &str) -> Result<(Component, u64), ConfigError> {
    const PATCH: u64 = 14;
    let name = name.split_once('.').map_or(name, |(name, _)| name);
    let kind = PERCEPTIONS.iter().find(|kind| kind.name == name);
    let kind =
        kind.ok_or_else(|| v.impossible("architecture", "of timm's towers, those of the Perception Encoder (`vit_pe_lang_`, `vit_pe_core_`) are known"))?;
    let args = v.part(&["model_args"])?;
    let number = |key: &str, default: u64| args.count_or(key, default);
    let (hidden, layers) = (number("embed_dim", kind.tower.hidden)?, number("depth", kind.tower.layers)?);
    let intermediate = if hidden == kind.tower.hidden { kind.tower.intermediate } else { hidden.saturating_mul(4) };
    let tower = TowerShape { hidden, layers, intermediate, ..kind.tower }.checked(&args, "depth", "embed_dim")?;
    let [height, width] = image_sides(&args, kind.side)?;
    let places = (height / PATCH).saturating_mul(width / PATCH);
    if places == 0 {
        return Err(args.impossible("img_size", "it must hold a patch of 14 × 14 at least"));
    }
    if args.optional_text("global_pool")?.map_or(kind.is_core, |pool| pool == "map") {
        return Err(args.impossible("global_pool", "pooling by attention is not known here"));
    }
    args.touch("ref_feat_shape");
    // What a block adds is scaled where the first scale is given.
    let has_scales = match args.optional_number("init_values")? {
        Some(first) => first > 0.0,
        None => !kind.is_core && !args.has("init_values"),
    };
    let mut layer = Tensors::default();
    if has_scales {
        layer.tensor("gamma_1", Role::Other, &[hidden]).tensor("gamma_2", Role::Other, &[hidden]);
    }
    let layer = fused_attention(layer.norm("norm1", hidden, true), hidden, true, true)
        .norm("norm2", hidden, true)
        .linear("mlp.fc1", hidden, intermediate, true)
        .linear("mlp.fc2", intermediate, hidden, true)
        .build();
    let mut t = Tensors::default();
    if kind.has_class {
        t.tensor("cls_token", Role::Other, &[1, 1, hidden]);
    }
    t.tensor("pos_embed", Role::Position, &[1, places + u64::from(kind.has_class), hidden])
        .convolution("patch_embed.proj", &[hidden, 3, PATCH, PATCH], false)
        .norm("norm_pre", hidden, true);
    if args.flag("use_post_transformer_norm", kind.is_core)? {
        t.norm("norm", hidden, true);
    }
    let tensors = Tensors::default().nested("model.vision_tower.timm_model", t.build()).build();
    Ok((vision_tower(hidden, "model.vision_tower.timm_model.blocks", tensors, tower.layers(&layer)), hidden))
}

pub(super) fn read_perception(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper::new("llama"))?;
    let (v, name) = named(f)?;
    let (tower, seen) = perception(&v, &name)?;
    for key in ["projector_pooling_ratio", "vision_use_cls_token"] {
        f.touch(key);
    }
    Ok(two_matrices(draft, tower, seen, true))
}
