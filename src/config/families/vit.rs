//! `ViT` and its kin: `DeiT`, ViT-MAE, ViT-MSN, I-JEPA, `BEiT`, Data2Vec-Vision, `DINOv2` (with registers), `DINOv3`, YOLOS.
//! The encoder is the whole model; what stands above it the class name says.

use super::decoder::{Draft, Tensors, labels};
use super::vision::{CLIP, DINOV2, Encoder, Patches, Style, Task, Tower, VIT, bare, classifier, linear, norm, pair, task};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role, Tensor};

const KEYS: [&str; 6] = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"];

fn with_defaults(f: &Fields, values: [u64; 6]) -> Fields {
    let defaults: Vec<_> = KEYS.into_iter().zip(values).collect();
    f.with_defaults(&defaults)
}

/// The base sizes of all but `DINOv3` and YOLOS.
const BASE: [u64; 6] = [768, 12, 12, 3072, 224, 16];

/// A member of the family without further parts.
struct Member {
    /// Module of the encoder below a head.
    base: &'static str,
    /// Tokens before the patches, each a vector.
    tokens: &'static [&'static str],
    /// Whether the bare model has a pooler.
    has_pooler: bool,
}

const VIT_MEMBER: Member = Member { base: "vit", tokens: &["cls_token"], has_pooler: true };

/// `ViT`.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    member(f, &VIT_MEMBER)
}

/// ViT-MSN has no pooler.
pub(super) fn read_msn(f: &Fields) -> Result<Draft, ConfigError> {
    member(f, &Member { has_pooler: false, ..VIT_MEMBER })
}

/// I-JEPA has no class token; its pooler is built and left unused.
pub(super) fn read_ijepa(f: &Fields) -> Result<Draft, ConfigError> {
    member(f, &Member { base: "ijepa", tokens: &[], has_pooler: false })
}

/// `DeiT` has a second token, and with a teacher a second classifier.
pub(super) fn read_deit(f: &Fields) -> Result<Draft, ConfigError> {
    member(f, &Member { base: "deit", tokens: &["cls_token", "distillation_token"], has_pooler: true })
}

fn member(f: &Fields, member: &Member) -> Result<Draft, ConfigError> {
    let f = &with_defaults(f, BASE);
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let (task, class) = task(f)?;
    let is_masked = class.ends_with("ForMaskedImageModeling");
    let mut t = Tensors::default();
    for token in member.tokens {
        t.tensor(&format!("embeddings.{token}"), Role::Other, &[1, 1, e.hidden]);
    }
    if is_masked {
        t.tensor("embeddings.mask_token", Role::Other, &[1, 1, e.hidden]);
    }
    t.tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number + member.tokens.len() as u64, e.hidden]);
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", e.hidden, true);
    norm(&mut t, "layernorm", e.hidden, true);
    if task == Task::Model && member.has_pooler {
        linear(&mut t, Role::Other, "pooler.dense", e.hidden, f.optional_count("pooler_output_size")?.unwrap_or(e.hidden), true);
    } else {
        f.touch("pooler_output_size");
    }
    let style = VIT.biases(f.flag("qkv_bias", true)?, true, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    let mut top = Tensors::default();
    if is_masked {
        let stride = f.count_or("encoder_stride", 16)?;
        let area = stride.checked_mul(stride).and_then(|area| area.checked_mul(patches.channels)).ok_or(ConfigError::Overflow)?;
        top.convolution("decoder.0", &[area, e.hidden, 1, 1], true);
    } else {
        f.touch("encoder_stride");
    }
    if class.ends_with("WithTeacher") {
        let labels = labels(f)?;
        classifier(&mut top, "cls_classifier", e.hidden, labels);
        classifier(&mut top, "distillation_classifier", e.hidden, labels);
        return Ok(tower.below(member.base).with(top).draft(ComponentKind::VisionTower, member.base, 0));
    }
    Ok(finish(tower, top, task, &class, e.hidden, member.base, is_masked))
}

/// The encoder below its base module, or bare, with a classifier when the class has one.
fn finish(tower: Tower, mut top: Tensors, task: Task, class: &str, width: u64, base: &'static str, is_complete: bool) -> Draft {
    if let Task::Classification { labels } = task {
        classifier(&mut top, "classifier", width, labels);
    }
    let mut draft = tower.below(base).with(top).draft(ComponentKind::VisionTower, base, 0);
    if task == Task::Other && !is_complete {
        bare(&mut draft, class);
    }
    draft
}

/// ViT-MAE: for pre-training a small decoder over all patches.
pub(super) fn read_mae(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &with_defaults(f, BASE);
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let (task, class) = task(f)?;
    let bias = f.flag("qkv_bias", true)?;
    let style = VIT.biases(bias, true, true);
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden]).tensor(
        "embeddings.position_embeddings",
        Role::Position,
        &[1, patches.number + 1, e.hidden],
    );
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", e.hidden, true);
    norm(&mut t, "layernorm", e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    let number = |key: &str, default: u64| f.count_or(key, default);
    let decoder = Encoder {
        hidden: number("decoder_hidden_size", 512)?,
        layers: number("decoder_num_hidden_layers", 8)?,
        heads: number("decoder_num_attention_heads", 16)?,
        intermediate: number("decoder_intermediate_size", 2048)?,
    };
    let mut top = Tensors::default();
    let is_pretraining = class.ends_with("ForPreTraining");
    if is_pretraining {
        if decoder.layers > 1000 {
            return Err(f.impossible("decoder_num_hidden_layers", "it must be at most 1000"));
        }
        top.tensor("decoder.mask_token", Role::Other, &[1, 1, decoder.hidden]).tensor(
            "decoder.decoder_pos_embed",
            Role::Position,
            &[1, patches.number + 1, decoder.hidden],
        );
        linear(&mut top, Role::Other, "decoder.decoder_embed", e.hidden, decoder.hidden, true);
        let layer = style.tensors(&decoder);
        for number in 0..decoder.layers {
            top.nested(&format!("decoder.decoder_layers.{number}"), layer.clone());
        }
        norm(&mut top, "decoder.decoder_norm", decoder.hidden, true);
        let area = patches.size[0].checked_mul(patches.size[1]).and_then(|area| area.checked_mul(patches.channels)).ok_or(ConfigError::Overflow)?;
        linear(&mut top, Role::Other, "decoder.decoder_pred", decoder.hidden, area, true);
    }
    Ok(finish(tower, top, task, &class, e.hidden, "vit", is_pretraining))
}

/// `BEiT`: no bias on keys, layer scales, relative positions per layer or shared.
pub(super) fn read_beit(f: &Fields) -> Result<Draft, ConfigError> {
    beit(f, "beit", true)
}

/// Data2Vec-Vision: `BEiT` under another name; the bare model has no pooler.
pub(super) fn read_data2vec(f: &Fields) -> Result<Draft, ConfigError> {
    beit(f, "data2vec_vision", false)
}

fn beit(f: &Fields, base: &'static str, has_pooler: bool) -> Result<Draft, ConfigError> {
    let f = &with_defaults(f, BASE);
    let (e, patches) = (Encoder::read(f)?, Patches::read(f)?);
    let (task, class) = task(f)?;
    let is_masked = class.ends_with("ForMaskedImageModeling");
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden]);
    if f.flag("use_mask_token", false)? {
        t.tensor("embeddings.mask_token", Role::Other, &[1, 1, e.hidden]);
    }
    if f.flag("use_absolute_position_embeddings", false)? {
        t.tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number + 1, e.hidden]);
    }
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", e.hidden, true);
    let span = |side: u64| side.saturating_mul(2).saturating_sub(1);
    let distances = span(patches.grid[0]).checked_mul(span(patches.grid[1])).and_then(|n| n.checked_add(3)).ok_or(ConfigError::Overflow)?;
    if f.flag("use_shared_relative_position_bias", false)? {
        t.tensor("encoder.relative_position_bias.relative_position_bias_table", Role::Position, &[distances, e.heads]);
    }
    let pools = f.flag("use_mean_pooling", true)?;
    if !pools {
        norm(&mut t, "layernorm", e.hidden, true);
    } else if matches!(task, Task::Classification { .. }) || (has_pooler && task == Task::Model) {
        norm(&mut t, "pooler.layernorm", e.hidden, true);
    }
    let mut more = Tensors::default();
    if f.flag("use_relative_position_bias", false)? {
        more.tensor("attention.attention.relative_position_bias.relative_position_bias_table", Role::Position, &[distances, e.heads]);
    }
    let scales: &[&str] = if f.optional_number("layer_scale_init_value")?.unwrap_or(0.1) > 0.0 { &["lambda_1", "lambda_2"] } else { &[] };
    let style = Style { qkv_bias: [true, false, true], scales, ..VIT };
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers_with(&e, &more.build()) };
    let mut top = Tensors::default();
    if is_masked {
        norm(&mut top, "layernorm", e.hidden, true);
        linear(&mut top, Role::Head, "lm_head", e.hidden, f.count_or("vocab_size", 8192)?, true);
    } else {
        f.touch("vocab_size");
    }
    Ok(finish(tower, top, task, &class, e.hidden, base, is_masked))
}

/// `DINOv2`.
pub(super) fn read_dinov2(f: &Fields) -> Result<Draft, ConfigError> {
    dinov2(f, "dinov2", 14, false)
}

/// `DINOv2` with registers.
pub(super) fn read_dinov2_registers(f: &Fields) -> Result<Draft, ConfigError> {
    dinov2(f, "dinov2_with_registers", 16, true)
}

/// Layer scales; a plain feed-forward of `mlp_ratio`, or `SwiGLU`; the classifier sees class token and mean side by side.
fn dinov2(f: &Fields, base: &'static str, patch_size: u64, has_registers: bool) -> Result<Draft, ConfigError> {
    let (task, class) = task(f)?;
    let tower = dinov2_tower(f, patch_size, has_registers)?;
    let width = tower.hidden();
    Ok(finish(tower, Tensors::default(), task, &class, width.saturating_mul(2), base, class.ends_with("Backbone")))
}

/// The encoder alone, as depth models hold it too.
pub(super) fn dinov2_tower(f: &Fields, patch_size: u64, has_registers: bool) -> Result<Tower, ConfigError> {
    let f = &with_defaults(f, [768, 12, 12, 3072, 224, patch_size]);
    let ratio = f.count_or("mlp_ratio", 4)?;
    let inner = f.count("hidden_size")?.checked_mul(ratio).ok_or(ConfigError::Overflow)?;
    let is_gated = f.flag("use_swiglu_ffn", false)?;
    // `SwiGLU`: two thirds, rounded up to a multiple of 8.
    let inner = if is_gated { (inner.saturating_mul(2) / 3).div_ceil(8) * 8 } else { inner };
    let (e, patches) = (Encoder::read_with(f, inner)?, Patches::read(f)?);
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden]);
    if has_registers || f.flag("use_mask_token", true)? {
        t.tensor("embeddings.mask_token", Role::Other, &[1, e.hidden]);
    }
    t.tensor("embeddings.position_embeddings", Role::Position, &[1, patches.number + 1, e.hidden]);
    if has_registers {
        t.tensor("embeddings.register_tokens", Role::Other, &[1, f.optional_count_or_zero("num_register_tokens")?.unwrap_or(4), e.hidden]);
    }
    patches.convolution(&mut t, "embeddings.patch_embeddings.projection", e.hidden, true);
    norm(&mut t, "layernorm", e.hidden, true);
    let style = DINOV2.biases(f.flag("qkv_bias", true)?, true, true);
    let mut layers = style.layers(&e);
    if is_gated {
        let feed_forward = swiglu(&e);
        for (layer, tensors) in &mut layers {
            tensors.retain(|tensor| !tensor.name.starts_with("mlp."));
            tensors.extend(feed_forward.iter().cloned());
            layer.feed_forward = crate::model::FeedForward::Dense { intermediate: e.intermediate, gated: true };
        }
    }
    Ok(Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers })
}

/// Gate and up in one matrix, as the published files have them.
fn swiglu(e: &Encoder) -> Vec<Tensor> {
    let mut t = Tensors::default();
    linear(&mut t, Role::GateUp, "mlp.weights_in", e.hidden, e.intermediate.saturating_mul(2), true);
    linear(&mut t, Role::Down, "mlp.weights_out", e.intermediate, e.hidden, true);
    t.build()
}

/// `DINOv3`: rotary positions, registers, each bias by its own flag.
pub(super) fn read_dinov3(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &with_defaults(f, [384, 12, 6, 1536, 224, 16]);
    let e = Encoder::read(f)?;
    let [height, width] = pair(f, "patch_size")?;
    let channels = f.count_or("num_channels", 3)?;
    let (task, class) = task(f)?;
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden]).tensor("embeddings.mask_token", Role::Other, &[1, 1, e.hidden]);
    if let Some(registers) = f.optional_count_or_zero("num_register_tokens")?.filter(|&n| n > 0) {
        t.tensor("embeddings.register_tokens", Role::Other, &[1, registers, e.hidden]);
    }
    t.convolution("embeddings.patch_embeddings", &[e.hidden, channels, height, width], true);
    norm(&mut t, "norm", e.hidden, true);
    let is_gated = f.flag("use_gated_mlp", false)?;
    let style = Style {
        qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        qkv_bias: [f.flag("query_bias", true)?, f.flag("key_bias", false)?, f.flag("value_bias", true)?],
        output: "attention.o_proj",
        output_bias: f.flag("proj_bias", true)?,
        gate: if is_gated { "mlp.gate_proj" } else { "" },
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        mlp_bias: f.flag("mlp_bias", true)?,
        norms: &["norm1", "norm2"],
        scales: &["layer_scale1.lambda1", "layer_scale2.lambda1"],
        ..CLIP
    };
    let tower = Tower { encoder: e, layers_at: "layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    // There is no other published class of it.
    let task = if task == Task::Model { task } else { Task::Other };
    Ok(finish(tower, Tensors::default(), task, &class, e.hidden, "", class.ends_with("Backbone")))
}

/// YOLOS: detection tokens, positions of every layer but the last, two small networks above.
pub(super) fn read_yolos(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("hidden_size", 768), ("num_hidden_layers", 12), ("num_attention_heads", 12), ("intermediate_size", 3072), ("patch_size", 16)]);
    let e = Encoder::read(f)?;
    let size = pair(f, "patch_size")?;
    let image = if f.has("image_size") { pair(f, "image_size")? } else { [512, 864] };
    let channels = f.count_or("num_channels", 3)?;
    let number = (image[0] / size[0]).checked_mul(image[1] / size[1]).filter(|&number| number <= 1 << 40).ok_or(ConfigError::Overflow)?;
    let detections = f.count_or("num_detection_tokens", 100)?;
    let positions = number.saturating_add(detections) + 1;
    let (task, class) = task(f)?;
    let is_detector = class.ends_with("ForObjectDetection");
    let mut t = Tensors::default();
    t.tensor("embeddings.cls_token", Role::Other, &[1, 1, e.hidden])
        .tensor("embeddings.detection_tokens", Role::Other, &[1, detections, e.hidden])
        .tensor("embeddings.position_embeddings", Role::Position, &[1, positions, e.hidden])
        .convolution("embeddings.patch_embeddings.projection", &[e.hidden, channels, size[0], size[1]], true);
    if f.flag("use_mid_position_embeddings", true)? && e.layers > 1 {
        t.tensor("encoder.mid_position_embeddings", Role::Position, &[e.layers - 1, 1, positions, e.hidden]);
    }
    norm(&mut t, "layernorm", e.hidden, true);
    if task == Task::Model {
        linear(&mut t, Role::Other, "pooler.dense", e.hidden, e.hidden, true);
    }
    let style = VIT.biases(f.flag("qkv_bias", true)?, true, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layer".to_owned(), tensors: t.build(), layers: style.layers(&e) };
    let mut top = Tensors::default();
    if is_detector {
        // One more for "no object".
        for (module, outputs) in [("class_labels_classifier", labels(f)?.saturating_add(1)), ("bbox_predictor", 4)] {
            for (number, outputs) in [e.hidden, e.hidden, outputs].into_iter().enumerate() {
                linear(&mut top, Role::Score, &format!("{module}.layers.{number}"), e.hidden, outputs, true);
            }
        }
    }
    Ok(finish(tower, top, task, &class, e.hidden, "vit", is_detector))
}
