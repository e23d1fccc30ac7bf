//! Command R and Aya: one LayerNorm without bias before attention and feed-forward in parallel, tied head; Command R7B and A slide.

use super::classic::{Bias, QueryKeyNorm, Sizes, Variant, spans_with, window_or};
use super::decoder::Draft;
use super::{ConfigError, Fields};

const COHERE: Variant = Variant {
    sizes: Some(Sizes { hidden: 8192, layers: 40, heads: 64, kv_heads: None, head_dim: None, intermediate: Some(22_528), vocab: 256_000 }),
    mlp_bias: Bias::Never,
    norms: &["input_layernorm"],
    tied: true,
    ..Variant::LLAMA
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let query_key_norm = if f.flag("use_qk_norm", false)? { QueryKeyNorm::OfAll } else { QueryKeyNorm::None };
    Variant { query_key_norm, ..COHERE }.read(f)
}

pub(super) fn read_cohere2(f: &Fields) -> Result<Draft, ConfigError> {
    // Its class has no norms of queries and keys, whatever the key says.
    f.flag("use_qk_norm", false)?;
    for key in ["position_embedding_type", "use_embedding_sharing", "use_gated_activation", "use_parallel_block", "use_parallel_embedding"] {
        f.touch(key);
    }
    let variant = Variant {
        spans: |f, shape| {
            let period = f.count_or("sliding_window_pattern", 4)?;
            spans_with(f, shape, window_or(f, 4096)?, |number| !(number + 1).is_multiple_of(period))
        },
        ..COHERE
    };
    variant.read(f)
}

/// The language model of Compass: Command R, whose layers slide only where a list says so.
pub(super) fn read_compass(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("pooling");
    let variant = Variant {
        qkv_bias: Bias::Key("attention_bias", false),
        output_bias: Bias::Key("attention_bias", false),
        spans: |f, shape| spans_with(f, shape, window_or(f, 4096)?, |_| false),
        ..COHERE
    };
    variant.read(f)
}
