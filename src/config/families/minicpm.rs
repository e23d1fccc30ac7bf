//! MiniCPM 1, 2 and 4: Llama with scales and a head tied unless the config says otherwise; MiniCPM-MoE has experts in every layer.

use super::classic::{Bias, Variant};
use super::decoder::{Draft, LLAMA_NORMS, Tensors};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = Variant { mlp_bias: Bias::Never, tied: true, ..Variant::LLAMA }.read(f)?;
    let Some(experts) = f.optional_count_or_zero("num_experts")?.filter(|&experts| experts > 0) else { return Ok(draft) };
    let active = f.active_experts(experts, 2)?;
    let shape = draft.decoder.shape;
    let intermediate = f.count("intermediate_size")?;
    let bias = f.flag("attention_bias", false)?;
    let tensors = Tensors::default()
        .attention(&shape, bias, bias)
        .linear("mlp.gate", shape.hidden, experts, false)
        .experts("mlp.experts.{}.w1", experts, shape.hidden, intermediate)
        .experts("mlp.experts.{}.w2", experts, intermediate, shape.hidden)
        .experts("mlp.experts.{}.w3", experts, shape.hidden, intermediate)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    for (layer, old) in &mut draft.decoder.layers {
        layer.feed_forward = FeedForward::MixtureOfExperts { experts, active, intermediate, shared: 0 };
        old.clone_from(&tensors);
    }
    Ok(draft)
}
