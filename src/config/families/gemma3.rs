//! Gemma 3 (text) and VaultGemma: `head_dim` 256, tied head; Gemma 3 norms each query and key head and slides in five of six
//! layers, VaultGemma in every other one.

use super::classic::{Bias, QueryKeyNorm, Sizes, Variant, spans_with, window_or};
use super::decoder::{Draft, Shape};
use super::gemma::GEMMA2_NORMS;
use super::{ConfigError, Fields};
use crate::model::Span;

const GEMMA3: Variant = Variant {
    sizes: Some(Sizes { hidden: 2304, layers: 26, heads: 8, kv_heads: Some(4), head_dim: Some(256), intermediate: Some(9216), vocab: 262_208 }),
    mlp_bias: Bias::Never,
    query_key_norm: QueryKeyNorm::OfHead("self_attn.q_norm", "self_attn.k_norm"),
    norms: GEMMA2_NORMS,
    tied: true,
    spans: gemma3_spans,
    ..Variant::LLAMA
};

fn gemma3_spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    // Written by some versions, read by none.
    f.touch("_sliding_window_pattern");
    let period = f.count_or("sliding_window_pattern", 6)?;
    let window = window_or(f, 4096)?;
    // An embedding model looks half its window back and half ahead.
    let window = if f.flag("use_bidirectional_attention", false)? { window.map(|window| window / 2 + 1) } else { window };
    spans_with(f, shape, window, |number| !(number + 1).is_multiple_of(period))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    GEMMA3.read(f)
}

pub(super) fn read_vaultgemma(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: GEMMA3.sizes.map(|sizes| Sizes { vocab: 256_000, ..sizes }),
        query_key_norm: QueryKeyNorm::None,
        norms: &["input_layernorm", "pre_feedforward_layernorm"],
        spans: |f, shape| spans_with(f, shape, window_or(f, 4096)?, |number| number.is_multiple_of(2)),
        ..GEMMA3
    };
    variant.read(f)
}
