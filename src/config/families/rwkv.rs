//! RWKV-4 (one number per channel), RWKV-5, 6 and 7 (one matrix per head): LayerNorms with biases, a head of its own; from the sixth on,
//! small matrices say how fast a channel forgets and how much of the token before it takes.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{divided, plain_recurrence, scaled, shape_without_attention, small, whole};
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
    let head_size = f.count_or("head_size", 64)?;
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

/// RWKV-6: how much of the token before it takes, and how fast it forgets, depend on the token.
pub(super) fn read_rwkv6(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let hidden = shape.hidden;
    let inner = f.optional_count("attention_hidden_size")?.unwrap_or(hidden);
    let head_size = f.count_or("head_size", 64)?;
    let heads = divided(f, "head_size", inner, head_size, "it must divide `attention_hidden_size`")?;
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(hidden.saturating_mul(7) / 2 / 32 * 32);
    f.touch("head_size_divisor");
    f.touch("model_version");
    // Written into the class: twice as much from the width of the 7B model on.
    let (mix, decay) = if hidden == 4096 { (64, 128) } else { (32, 64) };
    let mut t = Tensors::default();
    for name in ["x", "w", "k", "v", "r", "g"] {
        t.tensor(&format!("attention.time_maa_{name}"), Role::MixerState, &[1, 1, hidden]);
    }
    t.tensor("attention.time_maa_w1", Role::MixerState, &[hidden, mix * 5])
        .tensor("attention.time_maa_w2", Role::MixerState, &[5, mix, hidden])
        .tensor("attention.time_decay", Role::MixerState, &[1, 1, inner])
        .tensor("attention.time_decay_w1", Role::MixerState, &[hidden, decay])
        .tensor("attention.time_decay_w2", Role::MixerState, &[decay, inner])
        .tensor("attention.time_faaaa", Role::MixerState, &[heads, head_size])
        .norm("attention.ln_x", hidden, true);
    let mixer = plain_recurrence(RecurrenceKind::Rwkv, inner.saturating_mul(head_size).saturating_add(2 * hidden));
    let mut draft = decoder(shape, mixer, &mut t, &["key", "value", "receptance", "gate"], inner, intermediate).never_tied(f)?;
    for (_, tensors) in &mut draft.decoder.layers {
        for tensor in tensors {
            tensor.name = tensor
                .name
                .replace("feed_forward.time_mix_key", "feed_forward.time_maa_k")
                .replace("feed_forward.time_mix_receptance", "feed_forward.time_maa_r");
        }
    }
    Ok(draft)
}

/// RWKV-7 as flash-linear-attention writes it: a delta rule whose four gates are products of small matrices.
pub(super) fn read_rwkv7(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let hidden = shape.hidden;
    let head = match (f.optional_count("head_dim")?, f.optional_count("num_heads")?) {
        (Some(head), _) => head,
        (None, Some(heads)) => divided(f, "num_heads", hidden, heads, "it must divide `hidden_size`")?,
        (None, None) => 64,
    };
    let heads = divided(f, "head_dim", hidden, head, "it must divide `hidden_size`")?;
    if f.raw("attn").is_some() {
        return Err(f.impossible("attn", "layers of attention among those of RWKV-7 are not known here"));
    }
    // The class's rule for a rank that the config leaves out: to a multiple of 32, at least 32.
    let rank = |key: &'static str, factor: f64| match f.optional_count(key)? {
        Some(rank) => Ok(rank),
        None => Ok::<u64, ConfigError>(whole((factor * small(hidden).sqrt() / 32.0).round_ties_even() * 32.0).unwrap_or(32).max(32)),
    };
    let wide = small(head) / 64.0;
    let [decay, gate, rate, value] =
        [rank("decay_low_rank_dim", 2.5 * wide)?, rank("gate_low_rank_dim", 5.0)?, rank("a_low_rank_dim", 2.5 * wide)?, rank("v_low_rank_dim", 1.7 * wide)?];
    let by_ratio = scaled(f, "hidden_ratio", 4.0, hidden)?.div_ceil(32) * 32;
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(by_ratio);
    let biased = f.flag("norm_bias", true)?;
    let first_norm = f.flag("norm_first", true)?;
    for key in ["attn_mode", "fuse_norm", "fuse_cross_entropy"] {
        f.touch(key);
    }
    let of_layer = |(number, values): (u64, u64)| {
        let mut t = Tensors::default();
        for name in ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"] {
            t.tensor(&format!("attn.{name}"), Role::MixerState, &[1, 1, hidden]);
        }
        t.tensor("attn.k_k", Role::MixerState, &[hidden]).tensor("attn.k_a", Role::MixerState, &[hidden]).tensor("attn.r_k", Role::MixerState, &[heads, head]);
        for (name, inputs, outputs) in [("r_proj", hidden, hidden), ("k_proj", hidden, hidden), ("v_proj", hidden, values)] {
            t.tensor(&format!("attn.{name}.weight"), Role::MixerInput, &[outputs, inputs]);
        }
        t.tensor("attn.o_proj.weight", Role::MixerOutput, &[hidden, values]);
        let mut small = |name: &str, rank: u64, outputs: u64, bias: bool| {
            t.tensor(&format!("attn.{name}_lora.lora.0.weight"), Role::MixerState, &[rank, hidden]).tensor(
                &format!("attn.{name}_lora.lora.2.weight"),
                Role::MixerState,
                &[outputs, rank],
            );
            if bias {
                t.tensor(&format!("attn.{name}_lora.lora.2.bias"), Role::MixerState, &[outputs]);
            }
        };
        small("w", decay, hidden, true);
        // The first layer's values are those that the others mix in.
        if number > 0 {
            small("v", value, values, true);
        }
        small("a", rate, hidden, true);
        small("g", gate, values, false);
        t.norm("attn.g_norm", values, true).norm("attn_norm", hidden, biased).norm("ffn_norm", hidden, biased);
        if number == 0 && first_norm {
            t.norm("pre_norm", hidden, biased);
        }
        t.tensor("ffn.x_k", Role::MixerState, &[hidden]).tensor("ffn.key.weight", Role::Up, &[intermediate, hidden]).tensor(
            "ffn.value.weight",
            Role::Down,
            &[hidden, intermediate],
        );
        let mixer = plain_recurrence(RecurrenceKind::Rwkv, values.saturating_mul(head).saturating_add(2 * hidden));
        (Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: false } }, t.build())
    };
    let widths = if f.raw("value_dim").is_some() { f.counts_of_layers("value_dim", shape.layers)? } else { (0..shape.layers).map(|_| hidden).collect() };
    let layers = (0..).zip(widths).map(of_layer).collect();
    let tensors = Tensors::default().embedding("model.embeddings", shape.vocab, hidden).norm("model.norm", hidden, biased).build();
    let (base, layer_prefix) = ("model", "model.layers");
    let decoder = Decoder { shape, base, layer_prefix, tensors, layers, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default: false };
    let mut draft = Draft::from(decoder);
    if !f.has("hidden_ratio") && !f.has("fuse_norm") {
        draft.assumptions.push("counted as flash-linear-attention writes RWKV-7; files of another make have a few more numbers in the first layer".to_owned());
    }
    Ok(draft)
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

#[cfg(test)]
mod tests {
    #[test]
    fn published_counts() {
        // fla-hub/rwkv7-0.1B-g1 and rwkv7-0.4B-world.
        let seven = |hidden: u64, layers: u64, extra: &str| {
            let config = format!(
                r#"{{"model_type": "rwkv7", "hidden_size": {hidden}, "num_hidden_layers": {layers}, "vocab_size": 65536, "head_dim": 64, "hidden_ratio": 4.0{extra}}}"#
            );
            crate::config::read(&config).unwrap().parameters().unwrap().get()
        };
        assert_eq!(seven(768, 12, r#", "decay_low_rank_dim": 64, "gate_low_rank_dim": 128, "a_low_rank_dim": 64, "v_low_rank_dim": 32"#), 191_034_624);
        assert_eq!(seven(1024, 24, r#", "decay_low_rank_dim": 64, "gate_low_rank_dim": 128, "a_low_rank_dim": 64, "v_low_rank_dim": 32"#), 450_767_872);
    }
}
