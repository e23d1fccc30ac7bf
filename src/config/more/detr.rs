//! DETR and Table Transformer: a `ResNet` whose batch norms are frozen (buffers), an encoder and a decoder over its last stage, a
//! table of queries, a class and a box for each.

use super::decoder::{Draft, Tensors, component, labels};
use super::vision::{Encoder, Style, Tower, linear, norm};
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

/// `ResNet`s by name: blocks per stage, and whether a block is a bottleneck of three convolutions.
const RESNETS: &[(&str, [u64; 4], bool)] = &[
    ("resnet18", [2, 2, 2, 2], false),
    ("resnet34", [3, 4, 6, 3], false),
    ("resnet50", [3, 4, 6, 3], true),
    ("resnet101", [3, 4, 23, 3], true),
    ("resnet152", [3, 8, 36, 3], true),
];

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
    let (backbone, width) = resnet(f)?;
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
    let backbone = component("backbone", ComponentKind::VisionTower, width, "", backbone, Vec::new());
    Ok(draft.with(encoder).with(backbone))
}

fn layer(e: &Encoder, crosses: bool) -> Vec<Tensor> {
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

/// The convolutions of the backbone, and the width of its last stage.
fn resnet(f: &Fields) -> Result<(Vec<Tensor>, u64), ConfigError> {
    let nested = f.nested(&["backbone_config"])?;
    let at = nested.as_ref().unwrap_or(f);
    for key in ["dilation", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs", "num_channels"] {
        f.touch(key);
        at.touch(key);
    }
    for key in ["backbone_config", "features_only", "freeze_batch_norm_2d", "model_type", "out_indices", "output_stride", "out_features", "stage_names"] {
        at.touch(key);
    }
    let channels = f.count("num_channels")?;
    let name = at.optional_text("backbone")?.unwrap_or_else(|| "resnet50".to_owned());
    let known = RESNETS.iter().find(|(known, ..)| name.split(['.', '_']).next() == Some(known));
    let Some((_, depths, is_deep)) = known else { return Err(at.impossible("backbone", "this backbone is not known here; ResNets of 18 to 152 layers are")) };
    let mut t = Tensors::default();
    let mut convolution = |name: &str, shape: [u64; 4]| _ = t.convolution(&format!("model.backbone.model.{name}"), &shape, false);
    convolution("conv1", [64, channels, 7, 7]);
    let mut before = 64;
    for (stage, (&depth, width)) in depths.iter().zip([64, 128, 256, 512]).enumerate() {
        let outputs = if *is_deep { 4 * width } else { width };
        for number in 0..depth {
            let name = |leaf: &str| format!("layer{}.{number}.{leaf}", stage + 1);
            if *is_deep {
                convolution(&name("conv1"), [width, before, 1, 1]);
                convolution(&name("conv2"), [width, width, 3, 3]);
                convolution(&name("conv3"), [outputs, width, 1, 1]);
            } else {
                convolution(&name("conv1"), [width, before, 3, 3]);
                convolution(&name("conv2"), [width, width, 3, 3]);
            }
            if number == 0 && before != outputs {
                convolution(&name("downsample.0"), [outputs, before, 1, 1]);
            }
            before = outputs;
        }
    }
    Ok((t.build(), before))
}
