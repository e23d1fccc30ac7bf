//! Qwen3-MoE: Qwen3's attention; layer `i` has experts when `(i + 1) % decoder_sparse_step == 0` and it is not in `mlp_only_layers`.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, qwen_spans};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let attention_bias = f.flag("attention_bias", false)?;
    let experts = f.count("num_experts")?;
    let active = f.active_experts(experts, 8)?;
    let expert_width = f.count("moe_intermediate_size")?;
    let step = f.count_or("decoder_sparse_step", 1)?;
    let dense_layers = f.layer_numbers("mlp_only_layers")?;
    let spans = qwen_spans(f, &shape)?;
    let layers = (0..shape.layers).zip(spans).map(|(number, span)| {
        let is_sparse = (number + 1).is_multiple_of(step) && !dense_layers.contains(&number);
        let mut tensors = Tensors::default();
        tensors.attention(&shape, attention_bias, attention_bias).query_key_norm(&shape);
        let feed_forward = if is_sparse {
            tensors
                .linear("mlp.gate", shape.hidden, experts, false)
                .experts("mlp.experts.{}.gate_proj", experts, shape.hidden, expert_width)
                .experts("mlp.experts.{}.up_proj", experts, shape.hidden, expert_width)
                .experts("mlp.experts.{}.down_proj", experts, expert_width, shape.hidden);
            FeedForward::MixtureOfExperts { experts, active, intermediate: expert_width, shared: 0 }
        } else {
            let intermediate = f.count("intermediate_size")?;
            tensors.gated_mlp(shape.hidden, intermediate, false);
            FeedForward::Dense { intermediate, gated: true }
        };
        let layer = Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward };
        Ok((layer, tensors.norms(LLAMA_NORMS, shape.hidden).build()))
    });
    let layers = layers.collect::<Result<_, ConfigError>>()?;
    // Present in every file of the family, used only by dense layers.
    f.touch("intermediate_size");
    Ok(Decoder::llama_like(shape, layers, false).into())
}
