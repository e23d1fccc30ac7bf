//! Snowflake Arctic: Mixtral's experts beside a dense residual feed-forward as wide as the hidden state.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{BLOCK_SPARSE, Mixture};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let hidden = shape.hidden;
    let bias = f.flag("attention_bias", false)?;
    let width = f.count("intermediate_size")?;
    let experts = f.count_or("num_experts", 8)?;
    let step = f.count_or("moe_layer_frequency", 2)?;
    let has_residual = f.flag("parallel_attn_mlp_res", false)?;
    let mixture = Mixture { experts, active: f.active_experts(experts, 1)?, width, shared: 0, bias: false };
    // The file says how experts were trained, and slides nowhere.
    for key in ["use_residual", "sliding_window"] {
        f.touch(key);
    }
    let layers = (0..shape.layers).map(|number| {
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias).norms(LLAMA_NORMS, hidden);
        let feed_forward = if (number + 1).is_multiple_of(step) {
            mixture.add(&mut tensors, BLOCK_SPARSE, hidden);
            if has_residual {
                tensors.norm("residual_layernorm", hidden, false);
                add_mlp(&mut tensors, "residual_mlp", hidden, hidden);
            }
            Mixture { shared: if has_residual { hidden } else { 0 }, ..mixture }.feed_forward()
        } else {
            add_mlp(&mut tensors, "block_sparse_moe.mlp", hidden, width);
            FeedForward::Dense { intermediate: width, gated: true }
        };
        (Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward }, tensors.build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}

fn add_mlp(tensors: &mut Tensors, module: &str, hidden: u64, width: u64) {
    tensors.linear(&format!("{module}.w1"), hidden, width, false).linear(&format!("{module}.w3"), hidden, width, false).linear(
        &format!("{module}.w2"),
        width,
        hidden,
        false,
    );
}
