//! Llama 1 to 3.x, and the reading of unknown types with Llama-like fields.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    if f.architecture()?.is_some_and(|class| class.contains("Eagle3")) {
        return super::eagle3::read(f);
    }
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let attention_bias = f.flag("attention_bias", false)?;
    let tensors = Tensors::default()
        .attention(&shape, attention_bias, attention_bias)
        .gated_mlp(shape.hidden, intermediate, f.flag("mlp_bias", false)?)
        .norms(LLAMA_NORMS, shape.hidden)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |_| Span::Full);
    let mut decoder = Decoder::llama_like(shape, layers, false);
    if f.architecture()?.is_some_and(|class| class.ends_with("RewardModelWithGating")) {
        gated_reward(f, &mut decoder)?;
    }
    Ok(decoder.into())
}

/// `ArmoRM`'s top, by its own code (`modeling_custom.py` of ArmoRM-Llama3-8B): a score per objective, what turns them, and a network that
/// weighs them by the prompt.
fn gated_reward(f: &Fields, decoder: &mut Decoder) -> Result<(), ConfigError> {
    const MAX_DEPTH: u64 = 64;
    let hidden = decoder.shape.hidden;
    let (objectives, width, depth) = (f.count_or("num_objectives", 19)?, f.count_or("gating_hidden_dim", 1024)?, f.count_or("gating_n_hidden", 3)?);
    if depth > MAX_DEPTH {
        return Err(f.impossible("gating_n_hidden", "it must be at most 64"));
    }
    f.touch("gating_temperature");
    let mut t = Tensors::default();
    t.tensor("regression_layer.weight", Role::Score, &[objectives, hidden]).tensor("reward_transform_matrix", Role::Score, &[objectives, objectives]).tensor(
        "gating.logit_scale",
        Role::Score,
        &[1],
    );
    let mut inputs = hidden;
    for (number, outputs) in (0..depth).map(|number| (number, width)).chain([(depth, objectives)]) {
        let at = format!("gating.layers.{number}");
        t.tensor(&format!("{at}.weight"), Role::Score, &[outputs, inputs]).tensor(&format!("{at}.bias"), Role::Score, &[outputs]);
        inputs = outputs;
    }
    decoder.tensors.extend(t.build());
    decoder.head = Head::Nothing;
    Ok(())
}
