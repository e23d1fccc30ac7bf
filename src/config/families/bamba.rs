//! Bamba (Mamba-2, attention in the layers that `attn_layer_indices` lists) and Falcon-H1 (both side by side in every layer).

use super::decoder::{Draft, Shape, Tensors};
use super::jamba::decoder;
use super::recurrent::{GATE_UP_DOWN, Kind, Mamba2, gated, kinds_of_layers};
use super::{ConfigError, Fields};
use crate::model::{Layer, Mixer, Span};

/// Of both classes in transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[("num_key_value_heads", 8)];

const NORMS: &[&str] = &["input_layernorm", "pre_ff_layernorm"];

pub(super) fn read_bamba(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let (attention_bias, mlp_bias) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let block = Mamba2::read(f, shape.hidden, None)?;
    let attends = f.layer_numbers("attn_layer_indices")?;
    if attends.iter().any(|&number| number >= shape.layers) {
        return Err(f.impossible("attn_layer_indices", "it names a layer past the last"));
    }
    let kind = |number| if attends.contains(&number) { Kind::Full } else { Kind::Recurrent };
    // The list is derived from the indices; a file that holds it says the same.
    let listed = kinds_of_layers(f, "layers_block_type", shape.layers, &[Kind::Recurrent, Kind::Full])?;
    let kinds = if f.has("attn_layer_indices") { None } else { listed }.unwrap_or_else(|| (0..shape.layers).map(kind).collect());
    let layers = kinds.into_iter().map(|kind| {
        let mut t = Tensors::default();
        t.norms(NORMS, shape.hidden);
        let mixer = if kind == Kind::Full {
            t.attention(&shape, attention_bias, attention_bias);
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            block.tensors(&mut t, "mamba");
            Mixer::Recurrent(block.recurrence())
        };
        let feed_forward = gated(&mut t, "feed_forward", GATE_UP_DOWN, shape.hidden, intermediate, mlp_bias);
        (Layer { mixer, feed_forward }, t.build())
    });
    let layers = layers.collect();
    Ok(decoder(shape, layers, false))
}

pub(super) fn read_falcon_h1(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let (attention_bias, mlp_bias) = (f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    // `mamba_d_ssm` fixes the width unless it is null; absent, the class takes 1024.
    let inner = match f.optional_count("mamba_d_ssm")? {
        None if !f.has("mamba_d_ssm") => Some(1024),
        inner => inner,
    };
    let block = Mamba2 { gated_norm: f.flag("mamba_rms_norm", false)?, out_bias: f.flag("projectors_bias", false)?, ..Mamba2::read(f, shape.hidden, inner)? };
    f.touch("mamba_expand");
    f.touch("attn_layer_indices");
    // Some files say so though the class always has one.
    f.flag("mamba_use_mlp", true)?;
    let mut t = Tensors::default();
    t.norms(NORMS, shape.hidden).attention(&shape, attention_bias, attention_bias);
    block.tensors(&mut t, "mamba");
    let feed_forward = gated(&mut t, "feed_forward", GATE_UP_DOWN, shape.hidden, intermediate, mlp_bias);
    let layer = Layer { mixer: Mixer::Parallel(shape.attention(Span::Full), block.recurrence()), feed_forward };
    let tensors = t.build();
    let layers = (0..shape.layers).map(|_| (layer, tensors.clone())).collect();
    Ok(decoder(shape, layers, false))
}
