//! Qwen1.5, Qwen2 and Qwen2.5: Llama with biases on q, k and v. The window counts only when `use_sliding_window` is set.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, layers_by_span, qwen_spans};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let tensors = Tensors::default().attention(&shape, true, false).gated_mlp(shape.hidden, intermediate, false).norms(LLAMA_NORMS, shape.hidden).build();
    let spans = qwen_spans(f, &shape)?;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors, |i| spans[i]);
    Ok(Decoder::llama_like(shape, layers, false).into())
}

/// The same, or a reward model, which ends in two matrices (vLLM's `qwen2_rm.py`).
pub(super) fn read_or_reward(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read(f)?;
    let class = f.architecture()?.unwrap_or_default();
    if let Some((_, scores)) = REWARDS.iter().find(|(ending, _)| class.ends_with(ending)) {
        let hidden = draft.decoder.shape.hidden;
        let decoder = &mut draft.decoder;
        decoder.head = Head::Nothing;
        decoder.tensors.extend(Tensors::default().linear("score.0", hidden, hidden, true).linear("score.2", hidden, *scores, true).build());
    }
    Ok(draft)
}

/// What the names of reward models' classes end in, and how many scores they give: of the whole, of each step.
const REWARDS: [(&str, u64); 2] = [("ForRewardModel", 1), ("ForProcessRewardModel", 2)];

#[cfg(test)]
mod tests {
    #[test]
    fn reward_models_end_in_two_matrices() {
        let count = |class: &str| {
            let sizes = r#""hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4"#;
            let config = format!(r#"{{"model_type": "qwen2", "architectures": ["{class}"], {sizes}, "vocab_size": 152064}}"#);
            crate::config::read(&config).unwrap().parameters().unwrap().get()
        };
        let bare = count("Qwen2Model");
        // Qwen2.5-Math-7B without its head.
        assert_eq!(bare, 7_615_616_512 - 152_064 * 3584);
        assert_eq!(count("Qwen2ForRewardModel"), bare + 3584 * 3584 + 3584 + 3584 + 1);
        assert_eq!(count("Qwen2ForProcessRewardModel"), bare + 3584 * 3584 + 3584 + 2 * 3584 + 2);
        assert_eq!(count("AceMathQwen2ForRewardModel"), count("Qwen2ForRewardModel"));
    }
}
