//! The backbones of detectors and segmenters: networks of their own types whose stages another network reads, and the channels
//! of those stages.

use super::decoder::{Draft, Tensors, component};
use super::networks::size;
use super::vision::{norm, per_stage};
use super::{ConfigError, Fields, convnet, detr, hgnet, rt_detr, swin, vit, vitdet};
use crate::model::{Component, ComponentKind, Role, Tensor};

/// A backbone, and the channels of the stages that it gives.
pub(super) struct Backbone {
    pub component: Component,
    pub channels: Vec<u64>,
}

/// What a class takes where its config describes no backbone.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub model_type: &'static str,
    /// Its config, as far as it is not that type's own default: an object of JSON.
    pub config: &'static str,
    /// Stages given, counted from the stem.
    pub stages: &'static [u64],
}

/// A network, and the channels of its stem and all its stages.
struct Staged {
    tensors: Vec<Tensor>,
    layers: Vec<crate::model::LayerRun>,
    layers_at: String,
    channels: Vec<u64>,
    /// Whether each stage given has a norm of its own.
    norms_stages: bool,
    /// Whether its norms are batch norms, which some detectors freeze into buffers.
    has_batch_norms: bool,
}

/// How a type of backbone is read.
type Read = fn(&Fields) -> Result<Staged, ConfigError>;

/// The types that are known.
const TYPES: &[(&str, Read)] = &[
    ("resnet", |f| Ok(convolutions(convnet::read_resnet(&f.as_class("ResNetModel"))?, &stem_and_stages(f, 64, &[256, 512, 1024, 2048])?))),
    ("rt_detr_resnet", |f| rt_detr::resnet(f).map(|(tensors, channels)| of_batch_norms(tensors, channels))),
    ("hgnet_v2", |f| hgnet::network(f).map(|(tensors, channels)| of_batch_norms(tensors, channels))),
    ("convnext", |f| convnext(f, convnet::read_convnext(&f.as_class("ConvNextBackbone"))?)),
    ("convnextv2", |f| convnext(f, convnet::read_convnext2(&f.as_class("ConvNextV2Backbone"))?)),
    ("swin", |f| windows(f, swin::read(&f.as_class("SwinModel"))?)),
    ("maskformer-swin", |f| windows(f, swin::read(&f.as_class("SwinModel"))?)),
    ("swinv2", |f| {
        // Neither the last norm nor one for each stage.
        let mut draft = swin::read2(&f.as_class("Swinv2Model"))?;
        draft.decoder.tensors.retain(|tensor| !tensor.name.starts_with("swinv2.layernorm"));
        Ok(Staged { norms_stages: false, ..windows(f, draft)? })
    }),
    ("dinov2", |f| Ok(layered(vit::read_dinov2(&f.as_class("Dinov2Backbone"))?))),
    ("dinov2_with_registers", |f| Ok(layered(vit::read_dinov2_registers(&f.as_class("Dinov2WithRegistersBackbone"))?))),
    ("beit", |f| {
        let mut draft = vit::read_beit(&f.as_class("BeitBackbone"))?;
        draft.decoder.tensors.retain(|tensor| !tensor.name.contains("pooler"));
        Ok(layered(draft))
    }),
    ("vitdet", |f| Ok(layered(vitdet::read(&f.as_class("VitDetBackbone"))?))),
    ("timm_backbone", |f| detr::resnet(f).map(|(tensors, channels)| of_batch_norms(tensors, channels))),
];

fn stem_and_stages(f: &Fields, stem: u64, sizes: &[u64]) -> Result<Vec<u64>, ConfigError> {
    Ok(std::iter::once(size(f, "embedding_size", stem)?).chain(per_stage(f, "hidden_sizes", sizes)?).collect())
}

fn of_batch_norms(mut tensors: Tensors, channels: Vec<u64>) -> Staged {
    Staged { tensors: tensors.build(), layers: Vec::new(), layers_at: String::new(), channels, norms_stages: false, has_batch_norms: true }
}

fn convolutions(draft: Draft, channels: &[u64]) -> Staged {
    Staged { channels: channels.to_vec(), has_batch_norms: true, ..staged(draft) }
}

fn convnext(f: &Fields, draft: Draft) -> Result<Staged, ConfigError> {
    let sizes = per_stage(f, "hidden_sizes", &[96, 192, 384, 768])?;
    Ok(Staged { channels: sizes.iter().take(1).chain(&sizes).copied().collect(), norms_stages: true, ..staged(draft) })
}

/// Each stage of windows is twice as wide as the one before; the stem is as wide as the first.
fn windows(f: &Fields, draft: Draft) -> Result<Staged, ConfigError> {
    // Inside another model its own images are not the input, and places are learned only where the flag says so.
    if !f.flag("use_absolute_embeddings", false)? {
        f.not_counted("image_size");
    }
    let first = size(f, "embed_dim", 96)?;
    let stages = per_stage(f, "depths", &[2, 2, 6, 2])?.len().min(20);
    Ok(Staged { channels: std::iter::once(first).chain((0..stages).map(|stage| first << stage)).collect(), norms_stages: true, ..staged(draft) })
}

/// Every layer gives the hidden width.
fn layered(draft: Draft) -> Staged {
    let shape = draft.decoder.shape;
    Staged { channels: vec![shape.hidden; usize::try_from(shape.layers).unwrap_or(0) + 1], ..staged(draft) }
}

/// The draft's tensors with names relative to the backbone.
fn staged(draft: Draft) -> Staged {
    let (base, prefix) = (draft.decoder.base, draft.decoder.layer_prefix);
    let mut tensors = draft.decoder.tensors;
    let relative = |name: &str| name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name).to_owned();
    for tensor in &mut tensors {
        tensor.name = relative(&tensor.name);
    }
    let layers = crate::model::LayerRun::code(draft.decoder.layers);
    Staged { tensors, layers_at: relative(prefix), layers, channels: Vec::new(), norms_stages: false, has_batch_norms: false }
}

/// The same, of which every stage after the stem is read if it is a Swin.
pub(super) fn all_of_swin(f: &Fields, at: &str, usual: Usual) -> Result<Backbone, ConfigError> {
    let is_swin = match f.nested(&["backbone_config"])? {
        Some(inner) => inner.optional_text("model_type")?.is_none_or(|name| name == "swin"),
        None => true,
    };
    chosen(f, at, usual, false, is_swin)
}

/// The backbone that `f` describes under `backbone_config`, by the name of a timm network, or the class's usual one. Its tensors are
/// below `at`; with `is_frozen`, batch norms are buffers and no parameters.
pub(super) fn backbone(f: &Fields, at: &str, usual: Usual, is_frozen: bool) -> Result<Backbone, ConfigError> {
    chosen(f, at, usual, is_frozen, false)
}

/// A backbone's config, its type, and the stages that it gives where it names none.
struct Described {
    inner: Fields,
    model_type: String,
    stages: &'static [u64],
}

/// Of `consolidate_backbone_kwargs_to_config` of transformers 5.23: an object, a name of timm's with the class's usual stages or with
/// what `backbone_kwargs` says in their place, or the class's own.
fn described(f: &Fields, usual: Usual) -> Result<Described, ConfigError> {
    const TIMM: &str = "timm_backbone";
    let named = f.optional_text("backbone")?;
    let is_of_timm = f.flag("use_timm_backbone", true)?;
    let said = f.nested(&["backbone_kwargs"])?.filter(|_| f.entries("backbone_kwargs").is_some_and(|entries| entries > 0));
    if let Some(inner) = f.nested(&["backbone_config"])? {
        let model_type = inner.optional_text("model_type")?.unwrap_or_else(|| usual.model_type.to_owned());
        // An object that names none gives the last alone; the usual stages stand for what other classes take.
        let stages = if model_type == TIMM || usual.model_type == TIMM { &[] } else { usual.stages };
        return Ok(Described { inner, model_type, stages });
    }
    Ok(match (named, said) {
        (Some(name), Some(said)) => {
            said.touch("in_chans");
            Described { inner: said.with_text("backbone", &name), model_type: TIMM.to_owned(), stages: &[] }
        }
        (Some(_), None) => {
            let stages = if is_of_timm && usual.model_type == TIMM { usual.stages } else { &[] };
            Described { inner: f.with_defaults(&[]), model_type: TIMM.to_owned(), stages }
        }
        (None, said) => {
            // A ResNet of the library's own in the place of timm's gives the last stage too.
            let stages = if usual.model_type == TIMM && (said.is_some() || !is_of_timm) { &[] } else { usual.stages };
            Described { inner: f.left_out("backbone_config").with_values(usual.config), model_type: usual.model_type.to_owned(), stages }
        }
    })
}

/// timm builds a network up to the last stage that it gives, and needs `features_only` to give any.
fn up_to(inner: &Fields, staged: &mut Staged, last: usize) -> Result<(), ConfigError> {
    if !inner.flag("features_only", true)? {
        return Err(inner.impossible("features_only", "a backbone of timm gives its stages only with `features_only`"));
    }
    let stage = |name: &str| name.strip_prefix("layer").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    staged.tensors.retain(|tensor| stage(&tensor.name).is_none_or(|stage| stage <= last));
    Ok(())
}

fn chosen(f: &Fields, at: &str, usual: Usual, is_frozen: bool, takes_all: bool) -> Result<Backbone, ConfigError> {
    for key in ["use_pretrained_backbone", "dilation"] {
        f.touch(key);
    }
    let Described { inner, model_type, stages: usual_stages } = described(f, usual)?;
    for key in [
        "architectures",
        "drop_path_rate",
        "dilation",
        "use_pretrained_backbone",
        "use_timm_backbone",
        "freeze_batch_norm_2d",
        "output_stride",
        "stage_names",
        "num_channels",
        "hidden_act",
    ] {
        inner.touch(key);
    }
    let Some((_, read)) = TYPES.iter().find(|(known, _)| *known == model_type) else {
        return Err(ConfigError::UnknownType { model_type, why: "it is the backbone inside this model".to_owned() });
    };
    let mut staged = read(&inner)?;
    let asked = stages(&inner, staged.channels.len(), usual_stages)?;
    let given: Vec<usize> = if takes_all { (1..staged.channels.len()).collect() } else { asked };
    if model_type == "timm_backbone" {
        up_to(&inner, &mut staged, given.iter().copied().max().unwrap_or(0))?;
    }
    let channels: Vec<u64> = given.iter().filter_map(|&stage| staged.channels.get(stage).copied()).collect();
    if is_frozen && staged.has_batch_norms {
        staged.tensors.retain(|tensor| tensor.role != Role::Norm);
    }
    let mut t = Tensors::default();
    t.nested(at, staged.tensors);
    if staged.norms_stages {
        for (&stage, &width) in given.iter().zip(&channels) {
            norm(&mut t, &format!("{at}.hidden_states_norms.stage{stage}"), width, true);
        }
    }
    let width = channels.last().copied().unwrap_or(0);
    let mut component = component("backbone", ComponentKind::VisionTower, width, "", t.build(), Vec::new());
    component.layers = staged.layers;
    component.layer_prefix = format!("{at}.{}", staged.layers_at).into();
    Ok(Backbone { component, channels })
}

/// Which stages are given, 0 being the stem: by name, by number, the usual ones, or the last.
fn stages(f: &Fields, count: usize, usual: &[u64]) -> Result<Vec<usize>, ConfigError> {
    f.touch("out_indices");
    f.touch("out_features");
    let last = count.saturating_sub(1);
    if let Some(names) = f.optional_texts("out_features")? {
        let by_name = |name: &String| match name.strip_prefix("stage").or_else(|| name.strip_prefix("layer")) {
            Some(number) => number.parse().ok().filter(|&number| number <= last),
            None => (name == "stem").then_some(0),
        };
        let stages: Option<Vec<usize>> = names.iter().map(by_name).collect();
        let is_once = |stages: &[usize]| stages.iter().collect::<std::collections::BTreeSet<_>>().len() == stages.len();
        return match stages {
            Some(stages) if stages.is_empty() => Ok(vec![last]),
            Some(stages) if is_once(&stages) => Ok(stages),
            _ => Err(f.impossible("out_features", "it must name stages that there are, each once: `stem`, `stage1` ...")),
        };
    }
    // timm counts its features from 0 to 4, as the stem and four stages are.
    let numbers = match f.raw("out_indices").and_then(serde_json::Value::as_array) {
        Some(list) => list.iter().map(serde_json::Value::as_i64).collect::<Option<Vec<_>>>(),
        None => usual.iter().map(|&stage| i64::try_from(stage).ok()).collect(),
    };
    let position = |number: i64| usize::try_from(if number < 0 { number + i64::try_from(count).unwrap_or(0) } else { number }).ok().filter(|&at| at <= last);
    let stages: Option<Vec<usize>> = numbers.unwrap_or_default().into_iter().map(position).collect();
    match stages {
        Some(stages) if stages.is_empty() => Ok(vec![last]),
        Some(stages) => Ok(stages),
        None => Err(f.impossible("out_indices", "it must be a list of stages that there are")),
    }
}
