//! Hunyuan-A13B: norms of queries and keys, one shared feed-forward beside the experts.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{MLP, Mixture, Names};
use super::{ConfigError, Fields};
use crate::model::{Layer, Mixer, Span};

const NAMES: Names = Names { router: "mlp.gate.wg", shared: "mlp.shared_mlp", ..MLP };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, f.optional_count("attention_head_dim")?, None)?;
    let bias = f.flag("attention_bias", false)?;
    let width = f.count("intermediate_size")?;
    let experts = f.count_or("num_experts", 1)?;
    // The class gives experts and the shared one `intermediate_size`; the files repeat it per layer.
    for key in ["moe_intermediate_size", "num_shared_expert", "use_qk_norm"] {
        f.touch(key);
    }
    let per_layer = if f.raw("num_experts_per_tok").is_some_and(serde_json::Value::is_array) { f.optional_counts("num_experts_per_tok")? } else { None };
    if per_layer.as_ref().is_some_and(|list| list.len() as u64 != shape.layers || list.iter().any(|&one| one == 0 || one > experts)) {
        return Err(f.impossible("num_experts_per_tok", "as a list it must have one number of experts per layer"));
    }
    let layers = (0..usize::try_from(shape.layers).unwrap_or(0)).map(|number| {
        let active = per_layer.as_ref().map_or_else(|| f.active_experts(experts, 1), |list| Ok(list[number]))?;
        let mixture = Mixture { experts, active, width, shared: width, bias: false };
        let mut tensors = Tensors::default();
        tensors.attention(&shape, bias, bias).norm("self_attn.query_layernorm", shape.head_dim, false).norm("self_attn.key_layernorm", shape.head_dim, false);
        mixture.add(&mut tensors, NAMES, shape.hidden);
        let layer = Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward: mixture.feed_forward() };
        Ok((layer, tensors.norms(LLAMA_NORMS, shape.hidden).build()))
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    Ok(Decoder::llama_like(shape, layers, false).into())
}
