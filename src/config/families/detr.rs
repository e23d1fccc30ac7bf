//! DETR and Table Transformer: a `ResNet` whose batch norms are frozen (buffers), an encoder and a decoder over its last stage, a
//! table of queries, a class and a box for each.

use super::backbones::{Usual, backbone};
use super::decoder::{Draft, Tensors, component, labels};
use super::networks::normed;
use super::timm::RESNET;
use super::vision::{Encoder, Style, Tower, channels, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role, Tensor};

const DEFAULTS: &[(&str, u64)] = &[
    ("d_model", 256),
    ("num_channels", 3),
    ("num_queries", 100),
    ("encoder_layers", 6),
    ("encoder_ffn_dim", 2048),
    ("encoder_attention_heads", 8),
    ("decoder_layers", 6),
    ("decoder_ffn_dim", 2048),
    ("decoder_attention_heads", 8),
];

/// What these classes take where their config names no backbone.
pub(super) const RESNET_50: Usual = Usual { model_type: "timm_backbone", config: "{}", stages: &[1, 2, 3, 4] };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, false)
}

/// Table Transformer has a norm after its encoder too.
pub(super) fn read_table(f: &Fields) -> Result<Draft, ConfigError> {
    model(f, true)
}

fn model(f: &Fields, norms_encoder: bool) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("encoder_layers", "num_hidden_layers").with_defaults(DEFAULTS);
    let hidden = f.count("d_model")?;
    let stack = |layers: &'static str, inner: &'static str, heads: &'static str| -> Result<Encoder, ConfigError> {
        let encoder = Encoder { hidden, layers: f.count(layers)?, heads: f.count(heads)?, intermediate: f.count(inner)? };
        if encoder.layers > 10_000 || !hidden.is_multiple_of(encoder.heads) {
            return Err(f.impossible(heads, "it must divide `d_model`, and there must be at most 10,000 layers"));
        }
        Ok(encoder)
    };
    let encoder = stack("encoder_layers", "encoder_ffn_dim", "encoder_attention_heads")?;
    let decoder = stack("decoder_layers", "decoder_ffn_dim", "decoder_attention_heads")?;
    // A copy of the encoder's.
    f.touch("num_hidden_layers");
    let backbone = backbone(f, "model.backbone.model", RESNET_50, true)?;
    let width = backbone.channels.last().copied().unwrap_or(0);
    let mut outer = Tensors::default();
    outer.embedding("model.query_position_embeddings", f.count("num_queries")?, hidden).convolution("model.input_projection", &[hidden, width, 1, 1], true);
    match f.optional_text("position_embedding_type")?.as_deref() {
        None | Some("sine") => {}
        Some(_) => {
            let half = hidden / 2;
            outer.embedding("model.position_embedding.row_embeddings", 50, half).embedding("model.position_embedding.column_embeddings", 50, half);
        }
    }
    let mut assumptions = Vec::new();
    let class = f.architecture()?.unwrap_or_default();
    if !class.ends_with("Model") {
        linear(&mut outer, Role::Score, "class_labels_classifier", hidden, labels(f)? + 1, true);
        for (number, width) in [hidden, hidden, 4].into_iter().enumerate() {
            linear(&mut outer, Role::Other, &format!("bbox_predictor.layers.{number}"), hidden, width, true);
        }
        if !class.is_empty() && !class.ends_with("ForObjectDetection") {
            assumptions.push(format!("architecture `{class}` is counted as the detector, without its head for masks"));
        }
    }
    let mut tensors = Tensors::default();
    norm(&mut tensors, "layernorm", hidden, true);
    let layers = Style::layers_of(&decoder, &layer(&decoder, true));
    let mut draft = Tower { encoder: decoder, layers_at: "layers".to_owned(), tensors: tensors.build(), layers }.below("model.decoder").with(outer).draft(
        ComponentKind::VisionTower,
        "model",
        0,
    );
    draft.assumptions = assumptions;
    let mut tensors = Tensors::default();
    if norms_encoder {
        norm(&mut tensors, "model.encoder.layernorm", hidden, true);
    }
    let layers = Style::layers_of(&encoder, &layer(&encoder, false));
    let encoder = component("encoder", ComponentKind::VisionTower, hidden, "model.encoder.layers", tensors.build(), layers);
    Ok(draft.with(encoder).with(backbone.component))
}

/// One layer, as DETR has it.
pub(super) fn layer(e: &Encoder, crosses: bool) -> Vec<Tensor> {
    let mut t = Tensors::default();
    for at in ["self_attn", "encoder_attn"].into_iter().take(1 + usize::from(crosses)) {
        for name in ["k_proj", "v_proj", "q_proj", "out_proj"] {
            t.linear(&format!("{at}.{name}"), e.hidden, e.hidden, true);
        }
        norm(&mut t, &format!("{at}_layer_norm"), e.hidden, true);
    }
    linear(&mut t, Role::Up, "fc1", e.hidden, e.intermediate, true);
    linear(&mut t, Role::Down, "fc2", e.intermediate, e.hidden, true);
    norm(&mut t, "final_layer_norm", e.hidden, true);
    t.build()
}

/// A `ResNet` by its name in timm, and the channels of its stem and stages.
pub(super) fn resnet(f: &Fields) -> Result<(Tensors, Vec<u64>), ConfigError> {
    let name = f.optional_text("backbone")?.unwrap_or_else(|| "resnet50".to_owned());
    let known = RESNET.iter().find(|(known, ..)| name.split(['.', '_']).next() == Some(known));
    let Some((_, depths, is_deep)) = known else { return Err(f.impossible("backbone", "this backbone is not known here; ResNets of 18 to 152 layers are")) };
    let mut t = Tensors::default();
    normed(&mut t, "conv1", "bn1", [64, channels(f)?, 7, 7]);
    let mut before = 64;
    let mut widths = vec![before];
    for (stage, (&depth, width)) in depths.iter().zip([64, 128, 256, 512]).enumerate() {
        let outputs = if *is_deep { 4 * width } else { width };
        for number in 0..depth {
            let at = format!("layer{}.{number}", stage + 1);
            let shapes: &[[u64; 4]] =
                if *is_deep { &[[width, before, 1, 1], [width, width, 3, 3], [outputs, width, 1, 1]] } else { &[[width, before, 3, 3], [width, width, 3, 3]] };
            for (place, &shape) in shapes.iter().enumerate() {
                normed(&mut t, &format!("{at}.conv{}", place + 1), &format!("{at}.bn{}", place + 1), shape);
            }
            if number == 0 && before != outputs {
                normed(&mut t, &format!("{at}.downsample.0"), &format!("{at}.downsample.1"), [outputs, before, 1, 1]);
            }
            before = outputs;
        }
        widths.push(before);
    }
    Ok((t, widths))
}
