//! `MiniCPM3` and Youtu-LLM: multi-head latent attention over plain feed-forwards, head tied.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Tensors};
use super::latent::{Defaults, Latent, latent_shape};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer};

pub(super) fn read_minicpm3(f: &Fields) -> Result<Draft, ConfigError> {
    let heads = f.count("num_attention_heads")?;
    // Values are as wide as a head of plain attention would be.
    let value = f.count("hidden_size")? / heads;
    if value == 0 {
        return Err(f.impossible("num_attention_heads", "it cannot be more than `hidden_size`"));
    }
    let bias = f.flag("mlp_bias", false)?;
    read(f, Defaults { query_rank: Some(768), rank: 256, rope: 32, nope: 64, value }, bias)
}

pub(super) fn read_youtu(f: &Fields) -> Result<Draft, ConfigError> {
    read(f, Defaults { query_rank: Some(1536), rank: 512, rope: 64, nope: 128, value: 128 }, false)
}

fn read(f: &Fields, defaults: Defaults, mlp_bias: bool) -> Result<Draft, ConfigError> {
    let shape = latent_shape(f)?;
    let latent = Latent::read(f, shape.heads, defaults)?;
    let intermediate = f.count("intermediate_size")?;
    let mut tensors = Tensors::default();
    latent.add(&mut tensors, "self_attn", shape.hidden);
    let tensors = tensors.gated_mlp(shape.hidden, intermediate, mlp_bias).norms(LLAMA_NORMS, shape.hidden).build();
    let layer = Layer { mixer: latent.mixer(0), feed_forward: FeedForward::Dense { intermediate, gated: true } };
    let layers = (0..shape.layers).map(|_| (layer, tensors.clone())).collect();
    Ok(Decoder::llama_like(shape, layers, true).into())
}
