//! OLMo: norms without parameters; OLMo 2: norms after each block and over all queries and keys; OLMo 3 slides in three of four layers.

use super::classic::{Bias, NormKind, QueryKeyNorm, Sizes, Variant, spans_with, window_or};
use super::decoder::Draft;
use super::{ConfigError, Fields};

const OLMO: Variant = Variant {
    sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(11_008), vocab: 50_304 }),
    mlp_bias: Bias::Never,
    norm_kind: NormKind::Plain,
    ..Variant::LLAMA
};

const OLMO2: Variant =
    Variant { norm_kind: NormKind::Weight, norms: &["post_attention_layernorm", "post_feedforward_layernorm"], query_key_norm: QueryKeyNorm::OfAll, ..OLMO };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    OLMO.read(f)
}

pub(super) fn read_olmo2(f: &Fields) -> Result<Draft, ConfigError> {
    OLMO2.read(f)
}

pub(super) fn read_olmo3(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { spans: |f, shape| spans_with(f, shape, window_or(f, 4096)?, |number| !(number + 1).is_multiple_of(4)), ..OLMO2 }.read(f)
}
