//! `AFMoE` (Trinity): gated attention, four norms, three sliding layers to one full, a balancing bias that is a parameter.

use super::decoder::{Decoder, Draft, Shape, Tensors, spans_by_layer_types};
use super::experts::{MLP, Mixture, MixtureDefaults, Names};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

const NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"];

const NAMES: Names = Names { router: "mlp.router.gate", ..MLP };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with_head_dim(f, 128)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 64, active: 6, width: 1408, shared: 2 })?;
    let bias = f.flag("attention_bias", false)?;
    let intermediate = f.count("intermediate_size")?;
    let dense_layers = f.optional_count_or_zero("num_dense_layers")?.unwrap_or(1);
    let step = f.step_or("global_attn_every_n_layers", 4, &["layer_types"])?;
    let window = if f.has("sliding_window") { f.optional_count("sliding_window")? } else { Some(1024) };
    let spans = spans_by_layer_types(f, &shape)?.unwrap_or_else(|| {
        let slides = |number: u64| window.filter(|_| !(number + 1).is_multiple_of(step));
        (0..shape.layers).map(|number| slides(number).map_or(Span::Full, Span::Sliding)).collect()
    });
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias).query_key_norm(&shape).linear(
            "self_attn.gate_proj",
            shape.hidden,
            shape.heads.saturating_mul(shape.head_dim),
            false,
        );
        let feed_forward = if number < dense_layers {
            tensors.gated_mlp(shape.hidden, intermediate, false);
            FeedForward::Dense { intermediate, gated: true }
        } else {
            mixture.add(&mut tensors, NAMES, shape.hidden);
            tensors.tensor("mlp.expert_bias", Role::Router, &[mixture.experts]);
            mixture.feed_forward()
        };
        (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.norms(NORMS, shape.hidden).build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}
