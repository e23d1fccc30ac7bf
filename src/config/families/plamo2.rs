//! PLaMo 2: a Mamba with one number per head and norms of time step, B and C; attention in the middle of every `mamba_step` layers.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span};

const NORMS: &[&str] = &["pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("hidden_size_per_head", 128), ("mamba_d_state", 64), ("mamba_d_conv", 4), ("mamba_num_heads", 64), ("mamba_step", 2)]);
    let head_dim = f.count("hidden_size_per_head")?;
    let shape = Shape { head_dim, ..Shape::read_with_head_dim(&f.with_derived("head_dim", head_dim), head_dim)? };
    let hidden = shape.hidden;
    let intermediate = f.count("intermediate_size")?;
    let (heads, state, kernel) = (f.count("mamba_num_heads")?, f.count("mamba_d_state")?, f.count("mamba_d_conv")?);
    let inner = heads.saturating_mul(head_dim);
    let rank = (hidden / 16).max(64);
    let step = f.count("mamba_step")?;
    if step < 2 {
        return Err(f.impossible("mamba_step", "it must be at least 2"));
    }
    let has_mamba = f.flag("mamba_enabled", true)?;
    let is_mamba = |number| has_mamba && if shape.layers <= step / 2 { number != shape.layers - 1 } else { number % step != step / 2 };
    let window = f.optional_count("attention_window_size")?;
    let full = f.layer_numbers("full_attention_idx")?;
    let recurrence =
        Recurrence { kind: RecurrenceKind::Mamba2, conv_channels: inner, conv_kernel: kernel, state: inner.saturating_mul(state), state_dtype: None };
    let (queries, keys) = (shape.heads.saturating_mul(head_dim), shape.kv_heads.saturating_mul(head_dim));
    let layers = (0..shape.layers).map(|number| {
        let mut t = Tensors::default();
        t.norms(NORMS, hidden);
        let mixer = if is_mamba(number) {
            t.linear("mixer.in_proj", hidden, inner.saturating_mul(2), false)
                .convolution("mixer.conv1d", &[inner, 1, kernel], false)
                .tensor("mixer.bcdt_proj.weight", Role::MixerInput, &[rank + 2 * state, inner])
                .linear("mixer.dt_proj", rank, heads, false)
                .linear("mixer.out_proj", inner, hidden, false)
                .tensor("mixer.dt_norm_weight", Role::Norm, &[rank]);
            for name in ["mixer.B_norm_weight", "mixer.C_norm_weight"] {
                t.tensor(name, Role::Norm, &[state]);
            }
            for name in ["mixer.A_log", "mixer.D", "mixer.dt_bias"] {
                t.tensor(name, Role::MixerState, &[heads]);
            }
            Mixer::Recurrent(recurrence)
        } else {
            t.linear("mixer.qkv_proj", hidden, queries.saturating_add(keys.saturating_mul(2)), false)
                .linear("mixer.o_proj", queries, hidden, false)
                .tensor("mixer.q_weight", Role::Norm, &[shape.heads, head_dim])
                .tensor("mixer.k_weight", Role::Norm, &[shape.kv_heads, head_dim]);
            let span = window.filter(|_| !full.contains(&number)).map_or(Span::Full, Span::Sliding);
            Mixer::Attention(shape.attention(span))
        };
        t.linear("mlp.gate_up_proj", hidden, 2 * intermediate, false).linear("mlp.down_proj", intermediate, hidden, false);
        (Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: true } }, t.build())
    });
    let layers = layers.collect();
    Ok(Decoder { layer_prefix: "model.layers.layers", ..Decoder::llama_like(shape, layers, true) }.into())
}
