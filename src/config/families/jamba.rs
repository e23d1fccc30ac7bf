//! Jamba: Mamba-1 with norms of time step, B and C; attention in every eighth layer, experts in every second.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{GATE_UP_DOWN, Kind, Mamba1, count_or_auto, experts, gated, offset, periodic, scaled};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

/// `JambaConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] =
    &[("num_key_value_heads", 8), ("num_experts", 16), ("expert_layer_period", 2), ("attn_layer_period", 8), ("mamba_d_state", 16), ("mamba_d_conv", 4)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let count = f.count("num_experts")?;
    let active = f.active_experts(count, 2.min(count))?;
    let (period, expert_period) = (f.count("attn_layer_period")?, f.count("expert_layer_period")?);
    let mixers = periodic(shape.layers, period, offset(f, "attn_layer_offset", 4, period)?, Kind::Full, Kind::Recurrent);
    let feed_forwards = periodic(shape.layers, expert_period, offset(f, "expert_layer_offset", 1, expert_period)?, Kind::Experts, Kind::Dense);
    let block = Mamba1 {
        hidden: shape.hidden,
        inner: scaled(f, "mamba_expand", 2.0, shape.hidden)?,
        state: f.count("mamba_d_state")?,
        kernel: f.count("mamba_d_conv")?,
        time_step_rank: count_or_auto(f, "mamba_dt_rank", shape.hidden.div_ceil(16))?,
        conv_bias: f.flag("mamba_conv_bias", true)?,
        bias: f.flag("mamba_proj_bias", false)?,
    };
    // Named by the files, read by no class.
    f.touch("sliding_window");
    let layers = mixers.into_iter().zip(feed_forwards).map(|(mixer, feed_forward)| {
        let mut t = Tensors::default();
        t.norms(&["input_layernorm", "pre_ff_layernorm"], shape.hidden);
        let mixer = if mixer == Kind::Full {
            t.attention(&shape, false, false);
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            block.tensors(&mut t, "mamba");
            t.norm("mamba.dt_layernorm", block.time_step_rank, false).norm("mamba.b_layernorm", block.state, false).norm(
                "mamba.c_layernorm",
                block.state,
                false,
            );
            Mixer::Recurrent(block.recurrence())
        };
        // A single expert is a plain feed-forward.
        let feed_forward = if feed_forward == Kind::Experts && count > 1 {
            t.linear("feed_forward.router", shape.hidden, count, false);
            experts(&mut t, "feed_forward.experts", GATE_UP_DOWN, count, shape.hidden, intermediate);
            FeedForward::MixtureOfExperts { experts: count, active, intermediate, shared: 0 }
        } else {
            gated(&mut t, "feed_forward", GATE_UP_DOWN, shape.hidden, intermediate, false)
        };
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    Ok(decoder(shape, layers, false))
}

/// Llama's names but for the final norm, as Jamba's kin have them.
pub(super) fn decoder(shape: Shape, layers: Vec<super::recurrent::LayerTensors>, tied_by_default: bool) -> Draft {
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.final_layernorm", shape.hidden, false).build();
    Decoder { shape, base: "model", layer_prefix: "model.layers", tensors, layers, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default }.into()
}
