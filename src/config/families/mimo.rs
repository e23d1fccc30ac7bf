//! `MiMo` 7B: Qwen2's decoder and, apart, layers that predict further tokens.

use super::decoder::{Draft, LLAMA_NORMS, Tensors, component};
use super::{ConfigError, Fields, qwen2};
use crate::model::{ComponentKind, FeedForward, Layer, Mixer, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = qwen2::read(f)?;
    f.flag("attention_bias", true)?;
    let Some(predictors) = f.optional_count_or_zero("num_nextn_predict_layers")?.filter(|&count| count > 0) else { return Ok(draft) };
    if predictors > 100 {
        return Err(f.impossible("num_nextn_predict_layers", "no model predicts so many tokens"));
    }
    let shape = draft.decoder.shape;
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default()
        .attention(&shape, true, false)
        .gated_mlp(shape.hidden, intermediate, false)
        .norms(LLAMA_NORMS, shape.hidden)
        .norms(&["token_layernorm", "hidden_layernorm", "final_layernorm"], shape.hidden)
        .linear("input_proj", 2 * shape.hidden, shape.hidden, false)
        .build();
    let layer = Layer { mixer: Mixer::Attention(shape.attention(Span::Full)), feed_forward: FeedForward::Dense { intermediate, gated: true } };
    let layers = (0..predictors).map(|_| (layer, tensors.clone())).collect();
    Ok(draft.with(component("mtp", ComponentKind::TokenPredictor, shape.hidden, "model.mtp_layers", Vec::new(), layers)))
}
