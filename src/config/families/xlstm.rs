//! xLSTM: one matrix per head with input, forget and output gates, and a gated feed-forward.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{divided, layer_count, scaled, small, whole};
use super::{ConfigError, Fields};
use crate::encoding::Encoding;
use crate::model::{FeedForward, Layer, Mixer, Recurrence, RecurrenceKind};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let hidden = match f.optional_count("hidden_size")? {
        Some(hidden) => hidden,
        None => f.count("embedding_dim")?,
    };
    let embedding = f.optional_count("embedding_dim")?.unwrap_or(hidden);
    if embedding != hidden {
        return Err(f.impossible("embedding_dim", "it must be `hidden_size`"));
    }
    let layers = match f.optional_count("num_blocks")? {
        Some(layers) => layers,
        None => f.count("num_hidden_layers")?,
    };
    f.touch("num_hidden_layers");
    let shape = Shape { hidden, layers: layer_count(f, layers)?, vocab: f.count("vocab_size")?, heads: 0, kv_heads: 0, head_dim: 0 };
    let heads = f.count_or("num_heads", 8)?;
    let bias = f.flag("use_bias", false)?;
    let keys = scaled(f, "qk_dim_factor", 0.5, hidden)?;
    let values = scaled(f, "v_dim_factor", 1.0, hidden)?;
    let multiple = f.count_or("ffn_round_up_to_multiple_of", 64)?;
    let intermediate = rounded_up(f, "ffn_proj_factor", 2.667, hidden, multiple)?;
    let mut t = Tensors::default();
    t.norm("norm_mlstm", hidden, bias).norm("norm_ffn", hidden, bias).norm("mlstm_layer.multihead_norm", values, bias);
    let is_fused = f.optional_text("weight_mode")?.as_deref() == Some("fused");
    if is_fused {
        t.linear("mlstm_layer.qkv_opreact", hidden, 2 * keys + 2 * values, bias).linear("mlstm_layer.ifgate_preact", hidden, 2 * heads, true);
        t.linear("ffn.proj_up_gate_z", hidden, 2 * intermediate, bias);
    } else {
        for (name, width) in [("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)] {
            t.linear(&format!("mlstm_layer.{name}"), hidden, width, bias);
        }
        t.linear("mlstm_layer.igate_preact", hidden, heads, true).linear("mlstm_layer.fgate_preact", hidden, heads, true);
        t.linear("ffn.proj_up_gate", hidden, intermediate, bias).linear("ffn.proj_up", hidden, intermediate, bias);
    }
    t.linear("mlstm_layer.out_proj", values, hidden, bias).linear("ffn.proj_down", intermediate, hidden, bias);
    // The state is padded to heads of whole multiples of 64, unlike the projections.
    let head = |key, default| -> Result<u64, ConfigError> {
        divided(f, "num_heads", rounded_up(f, key, default, hidden, 64)?, heads, "it must divide the widths of keys and values")
    };
    let (key_dim, value_dim) = (head("qk_dim_factor", 0.5)?, head("v_dim_factor", 1.0)?);
    let state = heads.saturating_mul(key_dim.saturating_mul(value_dim).saturating_add(key_dim).saturating_add(1));
    let state_dtype = Some(f.optional_dtype("inference_state_dtype")?.unwrap_or(Encoding::F32));
    let mixer = Mixer::Recurrent(Recurrence { kind: RecurrenceKind::Xlstm, conv_channels: 0, conv_kernel: 0, state, state_dtype });
    let layer = Layer { mixer, feed_forward: FeedForward::Dense { intermediate, gated: true } };
    let tensors = t.build();
    let layers = (0..shape.layers).map(|_| (layer, tensors.clone())).collect();
    let tensors = Tensors::default().embedding("backbone.embeddings", shape.vocab, hidden).norm("backbone.out_norm", hidden, false).build();
    let decoder = Decoder {
        shape,
        base: "backbone",
        layer_prefix: "backbone.blocks",
        tensors,
        layers,
        head: Head::ByArchitecture,
        head_module: "lm_head",
        tied_by_default: false,
    };
    decoder.never_tied(f)
}

/// A factor times the hidden size, up to a multiple.
fn rounded_up(f: &Fields, key: &str, default: f64, hidden: u64, multiple: u64) -> Result<u64, ConfigError> {
    let factor = f.optional_number(key)?.unwrap_or(default);
    // Floats throughout, as the class has it: 2.667 times 4096 is no whole number.
    let width = ((factor * small(hidden) + small(multiple) - 1.0) / small(multiple)).floor() * small(multiple);
    whole(width).ok_or_else(|| f.impossible(key, "it must be a factor that gives a width of at least 1 and at most 2^40"))
}
