//! OLMo-Hybrid: gated delta-net with norms before, attention with norms after (and over all query and key heads) in every fourth layer.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::recurrent::{DeltaNet, Kind, kinds_of_layers, periodic};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

/// Kinds of layers that this family has.
const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let key_heads = f.optional_count("linear_num_key_heads")?.unwrap_or(shape.heads);
    // Three quarters of the hidden size over the heads; values twice as wide as keys.
    let key_dim = f.optional_count("linear_key_head_dim")?.unwrap_or_else(|| shape.hidden * 3 / 4 / key_heads).max(1);
    let delta = DeltaNet {
        hidden: shape.hidden,
        key_heads,
        key_dim,
        value_heads: f.optional_count("linear_num_value_heads")?.unwrap_or(shape.heads),
        value_dim: f.optional_count("linear_value_head_dim")?.unwrap_or(2 * key_dim),
        kernel: f.count_or("linear_conv_kernel_dim", 4)?,
        state_dtype: None,
    };
    let mut kinds = kinds_of_layers(f, "layer_types", shape.layers, KINDS)?.unwrap_or_else(|| periodic(shape.layers, 4, 3, Kind::Full, Kind::Recurrent));
    if let (false, Some(last)) = (kinds.contains(&Kind::Full), kinds.last_mut()) {
        *last = Kind::Full;
    }
    let (queries, all_keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layers = kinds.into_iter().map(|kind| {
        let mut t = Tensors::default();
        let mixer = if kind == Kind::Full {
            t.norms(&["post_attention_layernorm", "post_feedforward_layernorm"], shape.hidden)
                .attention(&shape, attention_bias, attention_bias)
                .norm("self_attn.q_norm", queries, false)
                .norm("self_attn.k_norm", all_keys, false);
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            let (keys, values, heads) = (delta.keys(), delta.values(), delta.value_heads);
            t.norms(&["attention_layer_norm", "feedforward_layer_norm"], shape.hidden);
            for (name, width) in [("q_proj", keys), ("k_proj", keys), ("v_proj", values), ("a_proj", heads), ("b_proj", heads), ("g_proj", values)] {
                t.tensor(&format!("linear_attn.{name}.weight"), Role::MixerInput, &[width, shape.hidden]);
            }
            for (name, width) in [("q_conv1d", keys), ("k_conv1d", keys), ("v_conv1d", values)] {
                t.convolution(&format!("linear_attn.{name}"), &[width, 1, delta.kernel], false);
            }
            t.tensor("linear_attn.A_log", Role::MixerState, &[heads])
                .tensor("linear_attn.dt_bias", Role::MixerState, &[heads])
                .norm("linear_attn.o_norm", delta.value_dim, false)
                .tensor("linear_attn.o_proj.weight", Role::MixerOutput, &[shape.hidden, values]);
            Mixer::Recurrent(delta.recurrence())
        };
        t.gated_mlp(shape.hidden, intermediate, false);
        (Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: true } }, t.build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}
