//! LFM2 and LFM3: gated short convolutions, attention in some layers; dense, or experts after the first dense layers.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Kind, LayerTensors, W1_W3_W2, experts, gated, kinds_of_layers, short_convolution, small, whole};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role, Span};

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_key_value_heads", 8)]);
    let shape = Shape::read(f)?;
    let full = f.layer_numbers("full_attn_idxs")?;
    // No list at all means attention everywhere.
    let kind = |number| if full.contains(&number) || !f.has("full_attn_idxs") { Kind::Full } else { Kind::Recurrent };
    let kinds = kinds_of_layers(f, "layer_types", shape.layers, KINDS)?.unwrap_or_else(|| (0..shape.layers).map(kind).collect());
    let intermediate = adjusted(f)?;
    let feed_forward = |t: &mut Tensors, _| gated(t, "feed_forward", W1_W3_W2, shape.hidden, intermediate, false);
    layers(f, shape, kinds, feed_forward)
}

/// The width of the feed-forward: two thirds of what the file says, up to a multiple, unless it says not to.
fn adjusted(f: &Fields) -> Result<u64, ConfigError> {
    // The older spelling wins, as in the class.
    let stated = match f.optional_count("block_ff_dim")? {
        Some(stated) => stated,
        None => f.count("intermediate_size")?,
    };
    f.touch("intermediate_size");
    let multiplier = if f.has("block_ffn_dim_multiplier") { f.optional_number("block_ffn_dim_multiplier")? } else { Some(1.0) };
    let multiple = f.count_or("block_multiple_of", 256)?;
    if !f.flag("block_auto_adjust_ff_dim", true)? {
        return Ok(stated);
    }
    let Some(multiplier) = multiplier else { return Ok((stated * 2 / 3).max(1)) };
    let scaled = whole(multiplier * small(stated * 2 / 3)).ok_or_else(|| f.impossible("block_ffn_dim_multiplier", "it must be a positive factor"))?;
    Ok(scaled.div_ceil(multiple).saturating_mul(multiple))
}

pub(super) fn read_moe(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_key_value_heads", 8), ("moe_intermediate_size", 1792), ("num_experts", 32), ("num_experts_per_tok", 4)]);
    let shape = Shape::read(f)?;
    let kinds = kinds_of_layers(f, "layer_types", shape.layers, KINDS)?.ok_or_else(|| f.missing("layer_types"))?;
    let (intermediate, width) = (f.count("intermediate_size")?, f.count("moe_intermediate_size")?);
    let dense = f.optional_count_or_zero("num_dense_layers")?.unwrap_or(2);
    let count = f.count("num_experts")?;
    let active = f.active_experts(count, 4.min(count))?;
    // The bias is a buffer.
    f.flag("use_expert_bias", true)?;
    let feed_forward = |t: &mut Tensors, number| {
        if number < dense {
            return gated(t, "feed_forward", W1_W3_W2, shape.hidden, intermediate, false);
        }
        t.linear("feed_forward.gate", shape.hidden, count, false);
        experts(t, "feed_forward.experts", W1_W3_W2, count, shape.hidden, width);
        FeedForward::MixtureOfExperts { experts: count, active, intermediate: width, shared: 0 }
    };
    layers(f, shape, kinds, feed_forward)
}

fn layers(f: &Fields, shape: Shape, kinds: Vec<Kind>, feed_forward: impl Fn(&mut Tensors, u64) -> FeedForward) -> Result<Draft, ConfigError> {
    for unread in ["block_dim", "conv_dim", "conv_dim_out", "num_heads"] {
        f.touch(unread);
    }
    let (kernel, bias) = (f.count_or("conv_L_cache", 3)?, f.flag("conv_bias", false)?);
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    let layers = (0..).zip(kinds).map(|(number, kind)| {
        let mut t = Tensors::default();
        t.norms(&["operator_norm", "ffn_norm"], shape.hidden);
        let mixer = if kind == Kind::Full {
            t.linear("self_attn.q_proj", shape.hidden, queries, false)
                .linear("self_attn.k_proj", shape.hidden, keys, false)
                .linear("self_attn.v_proj", shape.hidden, keys, false)
                .linear("self_attn.out_proj", queries, shape.hidden, false)
                .norms(&["self_attn.q_layernorm", "self_attn.k_layernorm"], shape.head_dim);
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            Mixer::Recurrent(short_convolution(&mut t, shape.hidden, kernel, bias))
        };
        let feed_forward = feed_forward(&mut t, number);
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    decoder(f, shape, layers)
}

fn decoder(f: &Fields, shape: Shape, layers: Vec<LayerTensors>) -> Result<Draft, ConfigError> {
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.embedding_norm", shape.hidden, false).build();
    // The older spelling wins, as in the class.
    let tied_by_default = f.flag("tie_embedding", true)?;
    Ok(Decoder { shape, base: "model", layer_prefix: "model.layers", tensors, layers, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default }
        .into())
}

pub(super) fn read_lfm3(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_key_value_heads", 4), ("head_dim", 128), ("sliding_window", 256)]);
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let by_default = |number: u64| match number % 4 {
        2 => Kind::Full,
        0 if number > 0 => Kind::Sliding,
        _ => Kind::Recurrent,
    };
    let kinds = kinds_of_layers(f, "layer_types", shape.layers, &[Kind::Recurrent, Kind::Full, Kind::Sliding])?;
    let kinds = kinds.unwrap_or_else(|| (0..shape.layers).map(by_default).collect());
    let window = f.optional_count("sliding_window")?;
    let (has_sandwich, has_gate) = (f.flag("use_sandwich_norm", true)?, f.flag("use_attention_gate", true)?);
    let attention_bias = f.flag("attention_bias", false)?;
    let (kernel, bias) = (f.count_or("conv_L_cache", 7)?, f.flag("conv_bias", false)?);
    let layers = kinds.into_iter().map(|kind| {
        let mut t = Tensors::default();
        t.norms(&["operator_norm", "ffn_norm"], shape.hidden);
        if has_sandwich {
            t.norms(&["post_operator_norm", "post_ffn_norm"], shape.hidden);
        }
        let mixer = if kind == Kind::Recurrent {
            Mixer::Recurrent(short_convolution(&mut t, shape.hidden, kernel, bias))
        } else {
            t.attention(&shape, attention_bias, attention_bias).query_key_norm(&shape);
            if has_gate {
                t.tensor("self_attn.gate_proj.weight", Role::MixerInput, &[shape.heads, shape.hidden]);
            }
            let span = if kind == Kind::Sliding { window.map_or(Span::Full, Span::Sliding) } else { Span::Full };
            Mixer::Attention(shape.attention(span))
        };
        let feed_forward = gated(&mut t, "feed_forward", W1_W3_W2, shape.hidden, intermediate, false);
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    decoder(f, shape, layers)
}
