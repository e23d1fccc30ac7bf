//! RWKV-4 (one number per channel) and RWKV-5 (one matrix per head): LayerNorms with biases, a head of its own.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{divided, plain_recurrence, shape_without_attention};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, RecurrenceKind, Role};

pub(super) fn read_rwkv4(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let inner = f.optional_count("attention_hidden_size")?.unwrap_or(shape.hidden);
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(4 * shape.hidden);
    let mut t = Tensors::default();
    t.tensor("attention.time_decay", Role::MixerState, &[inner]).tensor("attention.time_first", Role::MixerState, &[inner]);
    mixes(&mut t, "attention", &["key", "value", "receptance"], shape.hidden);
    // Two shifted inputs and three sums, each of the hidden size.
    let mixer = plain_recurrence(RecurrenceKind::Rwkv, shape.hidden.saturating_mul(5));
    Ok(decoder(shape, mixer, &mut t, &["key", "value", "receptance"], inner, intermediate).into())
}

pub(super) fn read_rwkv5(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let inner = f.optional_count("attention_hidden_size")?.unwrap_or(shape.hidden);
    let head_size = f.optional_count("head_size")?.unwrap_or(64);
    let heads = divided(f, "head_size", inner, head_size, "it must divide `attention_hidden_size`")?;
    // Three and a half times, down to a multiple of 32.
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(shape.hidden.saturating_mul(7) / 2 / 32 * 32);
    // Tuning of the kernel; a divisor of the output, not a size.
    f.touch("head_size_divisor");
    f.touch("model_version");
    let mut t = Tensors::default();
    t.tensor("attention.time_decay", Role::MixerState, &[heads, head_size]).tensor("attention.time_faaaa", Role::MixerState, &[heads, head_size]);
    mixes(&mut t, "attention", &["key", "value", "receptance", "gate"], shape.hidden);
    t.norm("attention.ln_x", inner, true);
    let mixer = plain_recurrence(RecurrenceKind::Rwkv, inner.saturating_mul(head_size).saturating_add(2 * shape.hidden));
    // The files hold two matrices even where they say that the head is tied.
    decoder(shape, mixer, &mut t, &["key", "value", "receptance", "gate"], inner, intermediate).never_tied(f)
}

/// How much of the shifted input each projection takes.
fn mixes(t: &mut Tensors, at: &str, names: &[&str], hidden: u64) {
    for name in names {
        t.tensor(&format!("{at}.time_mix_{name}"), Role::MixerState, &[1, 1, hidden]);
    }
}

/// The decoder of both: `t` holds what the time mixing has besides its projections.
fn decoder(shape: Shape, mixer: Mixer, t: &mut Tensors, projections: &[&str], inner: u64, intermediate: u64) -> Decoder {
    for name in projections {
        t.tensor(&format!("attention.{name}.weight"), Role::MixerInput, &[inner, shape.hidden]);
    }
    t.tensor("attention.output.weight", Role::MixerOutput, &[shape.hidden, inner]).norm("ln1", shape.hidden, true).norm("ln2", shape.hidden, true);
    mixes(t, "feed_forward", &["key", "receptance"], shape.hidden);
    t.tensor("feed_forward.key.weight", Role::Up, &[intermediate, shape.hidden])
        .tensor("feed_forward.receptance.weight", Role::Gate, &[shape.hidden, shape.hidden])
        .tensor("feed_forward.value.weight", Role::Down, &[shape.hidden, intermediate]);
    let tensors = t.build();
    let layer = Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: false } };
    // The first layer normalises the embedding.
    let first = Tensors::default().norm("pre_ln", shape.hidden, true).build();
    let layers = (0..shape.layers).map(|number| (layer, if number == 0 { first.iter().chain(&tensors).cloned().collect() } else { tensors.clone() })).collect();
    let tensors = Tensors::default().embedding("rwkv.embeddings", shape.vocab, shape.hidden).norm("rwkv.ln_out", shape.hidden, true).build();
    Decoder { shape, base: "rwkv", layer_prefix: "rwkv.blocks", tensors, layers, head: Head::ByArchitecture, head_module: "head", tied_by_default: false }
}
