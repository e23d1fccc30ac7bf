//! Phi-3.5-MoE: Mixtral's experts between LayerNorms, biases in attention and head where the config says so.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, layers_by_span, sliding_or_full};
use super::experts::{BLOCK_SPARSE, Mixture};
use super::{ConfigError, Fields};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, None, Some(8))?;
    let bias = f.flag("attention_bias", false)?;
    let experts = f.count_or("num_experts", 16)?;
    let mixture = Mixture { experts, active: f.active_experts(experts, 2)?, width: f.count("intermediate_size")?, shared: 0, bias: false };
    let mut tensors = Tensors::default();
    tensors.attention(&shape, bias, bias);
    mixture.add(&mut tensors, BLOCK_SPARSE, shape.hidden);
    let tensors = tensors.norm("input_layernorm", shape.hidden, true).norm("post_attention_layernorm", shape.hidden, true).build();
    let span = sliding_or_full(f)?;
    let layers = layers_by_span(&shape, mixture.feed_forward(), &tensors, |_| span);
    let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, true).build();
    let head = if f.flag("lm_head_bias", false)? { Head::LanguageWithBias } else { Head::ByArchitecture };
    Ok(Decoder { tensors, head, ..Decoder::llama_like(shape, layers, false) }.into())
}
