//! Mamba-1 and Falcon-Mamba (whose norms of time step, B and C have no weights), and Mamba-2: recurrences alone, no feed-forward.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::recurrent::{Mamba1, Mamba2, count_or_auto, scaled, shape_without_attention};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Recurrence};

pub(super) fn read_mamba(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let expanded = scaled(f, "expand", 2.0, shape.hidden)?;
    let block = Mamba1 {
        hidden: shape.hidden,
        // Where both are given the width wins over the factor: Falcon-Mamba says `expand` 16 and means twice.
        inner: f.optional_count("intermediate_size")?.unwrap_or(expanded),
        state: f.count_or("state_size", 16)?,
        kernel: f.count_or("conv_kernel", 4)?,
        time_step_rank: count_or_auto(f, "time_step_rank", shape.hidden.div_ceil(16))?,
        conv_bias: f.flag("use_conv_bias", true)?,
        bias: f.flag("use_bias", false)?,
    };
    f.touch("d_inner");
    Ok(decoder(shape, block.recurrence(), true, |t| block.tensors(t, "mixer")))
}

pub(super) fn read_mamba2(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = shape_without_attention(f)?;
    let inner = scaled(f, "expand", 2.0, shape.hidden)?;
    let (heads, head_dim) = (f.count_or("num_heads", 128)?, f.count_or("head_dim", 64)?);
    if heads.saturating_mul(head_dim) != inner {
        return Err(f.impossible("num_heads", "times `head_dim` it must be `expand` times `hidden_size`"));
    }
    let bias = f.flag("use_bias", false)?;
    let block = Mamba2 {
        hidden: shape.hidden,
        inner,
        heads,
        head_dim,
        groups: f.count_or("n_groups", 8)?,
        state: f.count_or("state_size", 128)?,
        kernel: f.count_or("conv_kernel", 4)?,
        conv_bias: f.flag("use_conv_bias", true)?,
        in_bias: bias,
        out_bias: bias,
        gated_norm: true,
        state_dtype: None,
    };
    f.touch("intermediate_size");
    Ok(decoder(shape, block.recurrence(), false, |t| block.tensors(t, "mixer")))
}

/// Equal layers of one recurrence behind one norm, under `backbone`.
fn decoder(shape: Shape, recurrence: Recurrence, tied_by_default: bool, block: impl Fn(&mut Tensors)) -> Draft {
    let mut tensors = Tensors::default();
    block(tensors.norm("norm", shape.hidden, false));
    let tensors = tensors.build();
    let layer = Layer { mixer: Mixer::Recurrent(recurrence), feed_forward: FeedForward::None };
    let layers = (0..shape.layers).map(|_| (layer, tensors.clone())).collect();
    let tensors = Tensors::default().embedding("backbone.embeddings", shape.vocab, shape.hidden).norm("backbone.norm_f", shape.hidden, false).build();
    Decoder { shape, base: "backbone", layer_prefix: "backbone.layers", tensors, layers, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default }
        .into()
}
