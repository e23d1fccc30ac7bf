//! Forecasters of time series over patches of it: `TimesFM` (residual blocks in and out of a decoder) and `PatchTST` (an encoder).

use super::decoder::{Draft, Tensors};
use super::vision::{Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role, Tensor};

/// `TimesFmConfig` of transformers 5.23.
const TIMESFM: &[(&str, u64)] = &[
    ("hidden_size", 1280),
    ("intermediate_size", 1280),
    ("num_hidden_layers", 50),
    ("num_attention_heads", 16),
    ("patch_length", 32),
    ("horizon_length", 128),
    ("freq_size", 3),
];

/// Two matrices with a third beside them.
fn residual(t: &mut Tensors, module: &str, inputs: u64, inner: u64, outputs: u64) {
    linear(t, Role::Other, &format!("{module}.input_layer"), inputs, inner, true);
    linear(t, Role::Other, &format!("{module}.output_layer"), inner, outputs, true);
    linear(t, Role::Other, &format!("{module}.residual_layer"), inputs, outputs, true);
}

pub(super) fn read_timesfm(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TIMESFM);
    let e = Encoder::read(f)?;
    let head_dim = f.count_or("head_dim", 80)?;
    let (hidden, inner, width) = (e.hidden, e.intermediate, e.heads.saturating_mul(head_dim));
    let mut layer = Tensors::default();
    layer.tensor("self_attn.scaling", Role::Other, &[head_dim]);
    for name in ["q_proj", "k_proj", "v_proj"] {
        layer.linear(&format!("self_attn.{name}"), hidden, width, true);
    }
    layer.linear("self_attn.o_proj", width, hidden, true).norm("input_layernorm", hidden, false);
    linear(&mut layer, Role::Up, "mlp.gate_proj", hidden, inner, true);
    linear(&mut layer, Role::Down, "mlp.down_proj", inner, hidden, true);
    norm(&mut layer, "mlp.layer_norm", hidden, true);
    let layer = layer.build();
    let mut t = Tensors::default();
    residual(&mut t, "input_ff_layer", f.count("patch_length")?.saturating_mul(2), inner, hidden);
    t.embedding("freq_emb", f.count("freq_size")?, hidden);
    for key in ["context_length", "max_timescale", "min_timescale", "pad_val", "tolerance", "use_positional_embedding"] {
        f.touch(key);
    }
    // The mean comes besides the quantiles.
    let quantiles = f.raw("quantiles").and_then(serde_json::Value::as_array).map_or(9, Vec::len) as u64;
    let mut top = Tensors::default();
    if f.architecture()?.is_none_or(|class| class.ends_with("ForPrediction")) {
        residual(&mut top, "horizon_ff_layer", hidden, inner, f.count("horizon_length")?.saturating_mul(1 + quantiles));
    }
    // Its layers attend within one series and keep nothing between steps.
    let layers = Style::layers_of(&e, &layer);
    let tower = Tower { encoder: e, layers_at: "layers".to_owned(), tensors: t.build(), layers };
    Ok(tower.below("decoder").with(top).draft(ComponentKind::TextEncoder, "decoder", 0))
}

/// `PatchTSTConfig`.
const PATCHTST: &[(&str, u64)] = &[
    ("hidden_size", 128),
    ("intermediate_size", 512),
    ("num_hidden_layers", 3),
    ("num_attention_heads", 4),
    ("num_input_channels", 1),
    ("context_length", 32),
    ("patch_length", 1),
    ("patch_stride", 1),
    ("prediction_length", 24),
    ("num_targets", 1),
];

pub(super) fn read_patchtst(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(PATCHTST);
    let e = Encoder::read(f)?;
    let hidden = e.hidden;
    let (bias, crosses) = (f.flag("bias", true)?, f.flag("channel_attention", false)?);
    let mut layer = Tensors::default();
    for name in ["k_proj", "v_proj", "q_proj", "out_proj"] {
        layer.linear(&format!("self_attn.{name}"), hidden, hidden, true);
    }
    linear(&mut layer, Role::Up, "ff.0", hidden, e.intermediate, bias);
    linear(&mut layer, Role::Down, "ff.3", e.intermediate, hidden, bias);
    // Both kinds of norm have a weight and a bias.
    let names = match f.optional_text("norm_type")?.as_deref() {
        None | Some("batchnorm") => ["norm_sublayer1.batchnorm", "norm_sublayer2.batchnorm", "norm_sublayer3.batchnorm"],
        Some(_) => ["norm_sublayer1", "norm_sublayer2", "norm_sublayer3"],
    };
    for (name, is_there) in names.into_iter().zip([true, crosses, true]) {
        if is_there {
            norm(&mut layer, name, hidden, true);
        }
    }
    let layer = layer.build();
    let (channels, length) = (f.count("num_input_channels")?, f.count("patch_length")?);
    let past = f.count("context_length")?.checked_sub(length).ok_or_else(|| f.impossible("patch_length", "it must not be longer than `context_length`"))?;
    let patches = past / f.count("patch_stride")? + 1;
    let has_class = f.flag("use_cls_token", false)?;
    let mut t = Tensors::default();
    // One for all channels, or one for each.
    let copies = |is_shared: bool| if is_shared { 1 } else { channels.min(10_000) };
    for channel in 0..copies(f.flag("share_embedding", true)?) {
        linear(&mut t, Role::Embedding, &format!("embedder.input_embedding.{channel}"), length, hidden, true);
    }
    if has_class {
        t.tensor("positional_encoder.cls_token", Role::Other, &[1, 1, 1, hidden]);
    }
    t.tensor("positional_encoder.position_enc", Role::Position, &[patches + u64::from(has_class), hidden]);
    let mut top = Tensors::default();
    let class = f.architecture()?.unwrap_or_default();
    let pools = has_class || !f.has("pooling_type") || f.raw("pooling_type").is_some();
    let by_loss = f.optional_text("loss")?.is_none_or(|loss| loss == "mse") && !(f.has("loss") && f.raw("loss").is_none());
    // A distribution has this many parameters.
    let outputs = match f.optional_text("distribution_output")?.as_deref() {
        _ if by_loss => 1,
        None | Some("student_t") => 3,
        _ => 2,
    };
    let (targets, prediction) = (f.count("num_targets")?, f.count("prediction_length")?);
    for key in ["distribution_output", "do_mask_input", "loss", "mask_type", "pooling_type", "positional_encoding_type", "scaling", "share_projection"] {
        f.touch(key);
    }
    let all = channels.saturating_mul(hidden);
    let mut project = |name: &str, inputs: u64, width: u64| {
        for part in 0..outputs {
            linear(&mut top, Role::Other, &format!("head.{name}.{part}"), inputs, width, true);
        }
    };
    if class.ends_with("ForPretraining") {
        linear(&mut top, Role::Other, "head.linear", hidden, length, true);
    } else if class.ends_with("ForClassification") {
        linear(&mut top, Role::Score, "head.linear", all, targets, true);
    } else if class.ends_with("ForRegression") {
        project("projection", all, targets);
    } else if class.ends_with("ForPrediction") {
        let width = if pools { hidden } else { hidden.saturating_mul(patches) };
        for channel in 0..copies(f.flag("share_projection", true)?) {
            project(&format!("projections.{channel}"), width, prediction);
        }
    }
    let tower = Tower { encoder: e, layers_at: "layers".to_owned(), tensors: t.build(), layers: Style::layers_of(&e, &layer) };
    Ok(tower.below("model.encoder").with(top).draft(ComponentKind::TextEncoder, "model", 0))
}

impl Style {
    /// Layers of an encoder whose tensors no style describes.
    pub(super) fn layers_of(e: &Encoder, tensors: &[Tensor]) -> Vec<(crate::model::Layer, Vec<Tensor>)> {
        (0..e.layers).map(|_| (super::vision::block(e.hidden, e.heads, e.intermediate), tensors.to_vec())).collect()
    }
}
