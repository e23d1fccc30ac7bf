//! InternLM 1 (Llama with biases in attention) and 2 (q, k and v in one matrix under names of its own); a reward model of the
//! second ends in one score.

use super::classic::{Bias, Measured, Names, Variant, all_full, gpt_like};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields};

const NAMES: Names = Names { base: "model", layers: "model.layers", head: "output" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let bias = Bias::Key("bias", true);
    Variant { qkv_bias: bias, output_bias: bias, mlp_bias: Bias::Never, spans: all_full, ..Variant::LLAMA }.read(f)
}

pub(super) fn read_internlm2(f: &Fields) -> Result<Draft, ConfigError> {
    // Files that were converted to Llama's tensors keep their type.
    if f.architecture()?.is_some_and(|class| class.starts_with("Llama")) {
        f.touch("bias");
        return super::llama::read(f);
    }
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let bias = f.flag("bias", true)?;
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .linear("attention.wqkv", shape.hidden, queries + 2 * shape.kv_heads * shape.head_dim, bias)
        .linear("attention.wo", queries, shape.hidden, bias)
        .linear("feed_forward.w1", shape.hidden, intermediate, false)
        .linear("feed_forward.w3", shape.hidden, intermediate, false)
        .linear("feed_forward.w2", intermediate, shape.hidden, false)
        .norm("attention_norm", shape.hidden, false)
        .norm("ffn_norm", shape.hidden, false)
        .build();
    let mut outside = Tensors::default();
    outside.embedding("model.tok_embeddings", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, false);
    let is_reward = f.architecture()?.is_some_and(|class| class.ends_with("ForRewardModel"));
    if is_reward {
        outside.linear("v_head", shape.hidden, 1, false);
    }
    let mut draft = gpt_like(&NAMES, Measured { shape, intermediate }, true, outside.build(), &layer, false);
    if is_reward {
        draft.decoder.head = Head::Nothing;
    }
    Ok(draft)
}
