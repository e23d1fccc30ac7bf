//! Ministral: Mistral with a span of its own per layer, and Ministral 3, whose window is off unless the config gives one.

use super::classic::{Bias, Sizes, Variant, all_sliding, spans_with, window_or};
use super::decoder::Draft;
use super::{ConfigError, Fields};

const MINISTRAL: Variant = Variant {
    sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: Some(8), head_dim: None, intermediate: Some(14_336), vocab: 32_000 }),
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    spans: |f, shape| spans_with(f, shape, window_or(f, 4096)?, |_| true),
    ..Variant::LLAMA
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    MINISTRAL.read(f)
}

pub(super) fn read_ministral3(f: &Fields) -> Result<Draft, ConfigError> {
    let variant =
        Variant { sizes: MINISTRAL.sizes.map(|sizes| Sizes { layers: 34, head_dim: Some(128), vocab: 131_072, ..sizes }), spans: all_sliding, ..MINISTRAL };
    variant.read(f)
}
