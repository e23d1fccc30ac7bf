//! EXAONE 3 and 3.5 under GPT-2's names, and EXAONE 4 with norms after each block and on query and key heads, which slides in
//! all but every fourth layer.

use super::classic::{Bias, GPT_NAMES, Measured, QueryKeyNorm, Sizes, Variant, gpt_like, spans_with, window_or};
use super::decoder::{Draft, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::Span;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(4 * shape.hidden);
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let layer = Tensors::default()
        .norm("ln_1", shape.hidden, false)
        .linear("attn.attention.q_proj", shape.hidden, queries, false)
        .linear("attn.attention.k_proj", shape.hidden, keys, false)
        .linear("attn.attention.v_proj", shape.hidden, keys, false)
        .linear("attn.attention.out_proj", queries, shape.hidden, false)
        .norm("ln_2", shape.hidden, false)
        .linear("mlp.c_fc_0", shape.hidden, intermediate, false)
        .linear("mlp.c_fc_1", shape.hidden, intermediate, false)
        .linear("mlp.c_proj", intermediate, shape.hidden, false)
        .build();
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, false).build();
    Ok(gpt_like(&GPT_NAMES, Measured { shape, intermediate }, true, outside, &layer, true))
}

pub(super) fn read_exaone4(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: Some(32), head_dim: None, intermediate: Some(16_384), vocab: 102_400 }),
        qkv_bias: Bias::Never,
        output_bias: Bias::Never,
        mlp_bias: Bias::Never,
        query_key_norm: QueryKeyNorm::OfHead("self_attn.q_norm", "self_attn.k_norm"),
        norms: &["post_attention_layernorm", "post_feedforward_layernorm"],
        spans: exaone4_spans,
        ..Variant::LLAMA
    };
    variant.read(f)
}

/// The pattern is a period or a word such as `LLLG` (local, global), repeated.
fn exaone4_spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let window = window_or(f, 4096)?;
    if let Some(word) = f.raw("sliding_window_pattern").and_then(serde_json::Value::as_str) {
        let pattern: Vec<bool> = word.chars().map(|letter| letter == 'L').collect();
        if pattern.is_empty() {
            return Err(f.impossible("sliding_window_pattern", "it must have a letter per layer of its period"));
        }
        let slides = |number: u64| usize::try_from(number).is_ok_and(|number| pattern[number % pattern.len()]);
        return spans_with(f, shape, window, slides);
    }
    // Files without any window write 0 here.
    let period = f.optional_count_or_zero("sliding_window_pattern")?.unwrap_or(4);
    spans_with(f, shape, window.filter(|_| period > 0), |number| !(number + 1).is_multiple_of(period.max(1)))
}
