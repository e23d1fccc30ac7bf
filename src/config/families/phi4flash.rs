//! Phi-4-mini-flash: Mamba-1 and differential attention in turn; past the middle, attention reads the keys and values of one layer and
//! recurrent layers become gates of its neighbour's memory.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Mamba1, count_or_auto, scaled};
use super::{ConfigError, Fields};
use crate::model::{Attention, FeedForward, Keeps, Layer, Mixer, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(&f.with_defaults(&[("num_key_value_heads", 4)]))?;
    let hidden = shape.hidden;
    let intermediate = f.count("intermediate_size")?;
    let mlp_bias = f.flag("mlp_bias", false)?;
    let every = f.optional_count_or_zero("mb_per_layer")?.unwrap_or(2);
    let window = match f.raw("sliding_window") {
        // One entry per layer in some files; those that slide agree.
        Some(list) if list.is_array() => list.as_array().and_then(|list| list.iter().find_map(serde_json::Value::as_u64)),
        Some(_) => f.optional_count("sliding_window")?,
        None if f.has("sliding_window") => None,
        None => Some(2047),
    };
    let block = Mamba1 {
        hidden,
        inner: scaled(f, "mamba_expand", 2.0, hidden)?,
        state: f.count_or("mamba_d_state", 16)?,
        kernel: f.count_or("mamba_d_conv", 4)?,
        time_step_rank: count_or_auto(f, "mamba_dt_rank", hidden.div_ceil(16))?,
        conv_bias: f.flag("mamba_conv_bias", true)?,
        bias: f.flag("mamba_proj_bias", false)?,
    };
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let half = shape.layers / 2;
    let layers = (0..shape.layers).map(|number| {
        let reads_others = number >= half + 2;
        let mut t = Tensors::default();
        t.norm("input_layernorm", hidden, true).norm("post_attention_layernorm", hidden, true);
        let mixer = if every > 0 && number.is_multiple_of(every) {
            if reads_others {
                t.tensor("attn.in_proj.weight", Role::MixerInput, &[block.inner, hidden]).tensor(
                    "attn.out_proj.weight",
                    Role::MixerOutput,
                    &[hidden, block.inner],
                );
                if block.bias {
                    t.tensor("attn.in_proj.bias", Role::MixerInput, &[block.inner]).tensor("attn.out_proj.bias", Role::MixerOutput, &[hidden]);
                }
                Mixer::None
            } else {
                block.tensors(&mut t, "attn");
                Mixer::Recurrent(block.recurrence())
            }
        } else {
            t.linear("attn.Wqkv", hidden, if reads_others { queries } else { queries.saturating_add(keys.saturating_mul(2)) }, true).linear(
                "attn.out_proj",
                queries,
                hidden,
                true,
            );
            for name in ["lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"] {
                t.tensor(&format!("attn.inner_cross_attn.{name}"), Role::Other, &[shape.head_dim]);
            }
            t.norm("attn.inner_cross_attn.subln", 2 * shape.head_dim, false);
            let span = if number < half && number % 2 == 1 { window.map_or(Span::Full, Span::Sliding) } else { Span::Full };
            Mixer::Attention(Attention { keeps: if reads_others { Keeps::Shared } else { Keeps::Own }, ..shape.attention(span) })
        };
        t.tensor("mlp.fc1.weight", Role::GateUp, &[2 * intermediate, hidden]).tensor("mlp.fc2.weight", Role::Down, &[hidden, intermediate]);
        if mlp_bias {
            t.tensor("mlp.fc1.bias", Role::GateUp, &[2 * intermediate]).tensor("mlp.fc2.bias", Role::Down, &[hidden]);
        }
        (Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: true } }, t.build())
    });
    let layers = layers.collect();
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, hidden).norm("model.final_layernorm", hidden, true).build();
    let head = if f.flag("lm_head_bias", false)? { Head::LanguageWithBias } else { Head::ByArchitecture };
    Ok(Decoder { shape, base: "model", layer_prefix: "model.layers", tensors, layers, head, head_module: "lm_head", tied_by_default: true }.into())
}
