//! RecurrentGemma: real-gated linear recurrent units and local attention in the pattern of `block_types`, tied head.

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::recurrent::{GATE_UP_DOWN, Kind, divided, gated, kinds};
use super::{ConfigError, Fields};
use crate::model::{Layer, Mixer, Recurrence, RecurrenceKind, Role, Span};

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let stated = Shape::read(f)?;
    let (head_dim, shape) = (stated.head_dim, stated);
    let lru = f.optional_count("lru_width")?.unwrap_or(shape.hidden);
    let block = divided(f, "lru_width", lru, shape.heads, "`num_attention_heads` must divide it")?;
    let kernel = f.count_or("conv1d_width", 4)?;
    let window = f.count_or("attention_window_size", 2048)?;
    let intermediate = divided(f, "intermediate_size", f.count("intermediate_size")?, 2, "it must be even: each of gate and up has half of it")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let pattern = match kinds(f, "block_types", KINDS)? {
        // Published files have it with an underscore.
        None => kinds(f, "_block_types", KINDS)?,
        listed => listed,
    };
    let pattern = pattern.unwrap_or_else(|| vec![Kind::Recurrent, Kind::Recurrent, Kind::Full]);
    if pattern.is_empty() {
        return Err(f.impossible("block_types", "it must name at least one kind"));
    }
    let (queries, keys) = (shape.heads.saturating_mul(head_dim), shape.kv_heads.saturating_mul(head_dim));
    // One column fewer than the kernel has, as the class keeps them.
    let recurrence = Recurrence { kind: RecurrenceKind::Rglru, conv_channels: lru, conv_kernel: kernel - 1, state: lru, state_dtype: None };
    let layers = (0..shape.layers).zip(pattern.iter().cycle()).map(|(_, &kind)| {
        let mut t = Tensors::default();
        t.norms(&["temporal_pre_norm", "channel_pre_norm"], shape.hidden);
        let mixer = if kind == Kind::Full {
            t.linear("temporal_block.q_proj", shape.hidden, queries, attention_bias)
                .linear("temporal_block.k_proj", shape.hidden, keys, attention_bias)
                .linear("temporal_block.v_proj", shape.hidden, keys, attention_bias)
                .linear("temporal_block.o_proj", queries, shape.hidden, true);
            Mixer::Attention(shape.attention(Span::Sliding(window)))
        } else {
            t.linear("temporal_block.linear_y", shape.hidden, lru, true)
                .linear("temporal_block.linear_x", shape.hidden, lru, true)
                .linear("temporal_block.linear_out", lru, shape.hidden, true)
                .convolution("temporal_block.conv_1d", &[lru, 1, kernel], true)
                .tensor("temporal_block.rg_lru.recurrent_param", Role::MixerState, &[lru]);
            for gate in ["input_gate", "recurrent_gate"] {
                t.tensor(&format!("temporal_block.rg_lru.{gate}_weight"), Role::MixerInput, &[shape.heads, block, block]).tensor(
                    &format!("temporal_block.rg_lru.{gate}_bias"),
                    Role::MixerInput,
                    &[shape.heads, block],
                );
            }
            Mixer::Recurrent(recurrence)
        };
        let feed_forward = gated(&mut t, "mlp_block", GATE_UP_DOWN, shape.hidden, intermediate, true);
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.final_norm", shape.hidden, false).build();
    Ok(Decoder { tensors, ..Decoder::llama_like(shape, layers, true) }.into())
}
