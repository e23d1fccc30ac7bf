//! Nemotron-NAS (DeciLM): Llama's blocks, each layer's own by `block_configs`: attention with its own number of KV heads, a feed-forward
//! of its own width, either replaced by one matrix or left out together with its norm.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{GATE_UP_DOWN, LayerTensors, divided, gated, layer_count, small, whole};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let heads = f.count("num_attention_heads")?;
    let head_dim = match f.optional_count("head_dim")? {
        Some(head_dim) => head_dim,
        None => divided(f, "num_attention_heads", hidden, heads, "it must divide `hidden_size` when there is no `head_dim`")?,
    };
    let layers = layer_count(f, f.count("num_hidden_layers")?)?;
    let shape = Shape { hidden, layers, vocab: f.count("vocab_size")?, heads, kv_heads: heads, head_dim };
    // Per block; the outer ones are null.
    f.touch("num_key_value_heads");
    f.touch("intermediate_size");
    let biases = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let blocks = f.optional_objects("block_configs")?.ok_or_else(|| f.missing("block_configs"))?;
    if blocks.len() as u64 != layers {
        return Err(f.impossible("block_configs", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let layers = blocks.iter().map(|block| layer(block, shape, biases)).collect::<Result<_, _>>()?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}

fn layer(block: &Fields, shape: Shape, (attention_bias, mlp_bias): (bool, bool)) -> Result<LayerTensors, ConfigError> {
    let mut t = Tensors::default();
    let (attention, ffn) = (block.required_nested(&["attention"])?, block.required_nested(&["ffn"])?);
    let mut mixer = Mixer::None;
    if !attention.flag("no_op", false)? {
        t.norm("input_layernorm", shape.hidden, false);
        if attention.flag("replace_with_linear", false)? {
            t.linear("self_attn.linear_attn", shape.hidden, shape.hidden, attention_bias);
        } else {
            let group = attention.count("n_heads_in_group")?;
            let kv_heads = divided(&attention, "n_heads_in_group", shape.heads, group, "it must divide `num_attention_heads`")?;
            let shape = Shape { kv_heads, ..shape };
            t.attention(&shape, attention_bias, attention_bias);
            let window = attention.optional_count("window_length")?;
            mixer = Mixer::Attention(shape.attention(window.map_or(Span::Full, Span::Sliding)));
        }
    }
    for unread in
        ["n_heads_in_group", "window_length", "replace_with_linear", "num_sink_tokens", "sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention"]
    {
        attention.touch(unread);
    }
    let mut feed_forward = FeedForward::None;
    if !ffn.flag("no_op", false)? {
        t.norm("post_attention_layernorm", shape.hidden, false);
        if ffn.flag("replace_with_linear", false)? {
            t.linear("mlp.linear_mlp", shape.hidden, shape.hidden, false);
        } else {
            feed_forward = gated(&mut t, "mlp", GATE_UP_DOWN, shape.hidden, width(&ffn, shape.hidden)?, mlp_bias);
        }
    }
    for unread in ["ffn_mult", "intermediate_size", "replace_with_linear", "sparsify"] {
        ffn.touch(unread);
    }
    Ok((Layer { mixer, feed_forward }, t.build()))
}

/// Two thirds of `ffn_mult` times the hidden size, up to a multiple of 256; newer files give the width itself.
fn width(ffn: &Fields, hidden: u64) -> Result<u64, ConfigError> {
    if let Some(width) = ffn.optional_count("intermediate_size")? {
        return Ok(width);
    }
    let factor = ffn.optional_number("ffn_mult")?.ok_or_else(|| ffn.missing("ffn_mult"))?;
    // The factor is rounded to six places first, as the remote code does.
    let factor = (factor * 1e6).round() / 1e6;
    let width = whole(2.0 * factor * small(hidden) / 3.0).ok_or_else(|| ffn.impossible("ffn_mult", "it must be a positive factor"))?;
    Ok(width.next_multiple_of(256))
}

/// DeciLM-6B and -7B: Llama, but for the number of KV heads of each layer.
pub(super) fn read_deci(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let mlp_bias = f.flag("mlp_bias", false)?;
    let of_layers = f.optional_counts("num_key_value_heads_per_layer")?;
    if of_layers.as_ref().is_some_and(|list| list.len() as u64 != shape.layers) {
        return Err(f.impossible("num_key_value_heads_per_layer", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let of_layers = of_layers.unwrap_or_else(|| (0..shape.layers).map(|_| shape.kv_heads).collect());
    let layers = of_layers.into_iter().map(|kv_heads| {
        divided(f, "num_key_value_heads_per_layer", shape.heads, kv_heads, "each must divide `num_attention_heads`")?;
        let shape = Shape { kv_heads, ..shape };
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, shape.hidden).attention(&shape, attention_bias, attention_bias);
        let feed_forward = gated(&mut t, "mlp", GATE_UP_DOWN, shape.hidden, intermediate, mlp_bias);
        Ok((Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, t.build()))
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}
