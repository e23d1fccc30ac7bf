//! ERNIE 4.5 MoE: experts from `moe_layer_start_index` to `moe_layer_end_index`, a balancing bias that is a parameter, a
//! dense token predictor; tied head.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors};
use super::experts::{MLP, Mixture, MixtureDefaults, predictor_component, predictors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, None, Some(4))?;
    let bias = f.flag("use_bias", false)?;
    let intermediate = f.count("intermediate_size")?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 64, active: 6, width: 1536, shared: 2 })?;
    let first = f.optional_count_or_zero("moe_layer_start_index")?.unwrap_or(1);
    // -1, the default, is the last layer.
    let last = match f.raw("moe_layer_end_index").and_then(serde_json::Value::as_i64) {
        Some(-1) => shape.layers - 1,
        _ => f.optional_count_or_zero("moe_layer_end_index")?.unwrap_or(shape.layers - 1),
    };
    let step = f.count_or("moe_layer_interval", 1)?;
    let mixer = Mixer::Attention(shape.attention(Span::Full));
    let dense = FeedForward::Dense { intermediate, gated: true };
    let layers = (0..shape.layers).map(|number| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias);
        let feed_forward = if (number + 1).is_multiple_of(step) && (first..=last).contains(&number) {
            mixture.add(&mut tensors, MLP, shape.hidden);
            if bias && mixture.shared > 0 {
                tensors
                    .tensor("mlp.shared_experts.gate_proj.bias", Role::Gate, &[mixture.shared])
                    .tensor("mlp.shared_experts.up_proj.bias", Role::Up, &[mixture.shared])
                    .tensor("mlp.shared_experts.down_proj.bias", Role::Down, &[shape.hidden]);
            }
            tensors.tensor("mlp.moe_statics.e_score_correction_bias", Role::Router, &[1, mixture.experts]);
            mixture.feed_forward()
        } else {
            tensors.gated_mlp(shape.hidden, intermediate, bias);
            dense
        };
        (Layer { mixer, feed_forward }, tensors.norms(LLAMA_NORMS, shape.hidden).build())
    });
    let layers = layers.collect();
    let head = if bias { Head::LanguageWithBias } else { Head::ByArchitecture };
    let draft = Draft::from(Decoder { head, ..Decoder::llama_like(shape, layers, true) });
    let predictors = predictors(f)?;
    if predictors == 0 {
        return Ok(draft);
    }
    let tensors = Tensors::default()
        .attention(&shape, bias, bias)
        .gated_mlp(shape.hidden, intermediate, bias)
        .norms(LLAMA_NORMS, shape.hidden)
        .norms(&["mtp_emb_norm", "mtp_hidden_norm"], shape.hidden)
        .linear("mtp_linear_proj", shape.hidden.saturating_mul(2), shape.hidden, bias)
        .build();
    let layer = Layer { mixer, feed_forward: dense };
    Ok(draft.with(predictor_component(&shape, "model.mtp_block", (0..predictors).map(|_| (layer, tensors.clone())).collect())))
}
