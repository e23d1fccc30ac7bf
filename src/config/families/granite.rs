//! Granite 3 and 4 (dense): Llama's tensors with multipliers; Granite SWA adds sinks and slides in three of four layers.

use super::classic::{Sizes, Variant, spans_with, window_or};
use super::decoder::Draft;
use super::{ConfigError, Fields};
use crate::model::Role;

const GRANITE: Variant = Variant {
    sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(11_008), vocab: 32_000 }),
    ..Variant::LLAMA
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    GRANITE.read(f)
}

pub(super) fn read_swa(f: &Fields) -> Result<Draft, ConfigError> {
    let variant = Variant {
        sizes: Some(Sizes { hidden: 2560, layers: 24, heads: 20, kv_heads: Some(4), head_dim: None, intermediate: Some(8192), vocab: 100_352 }),
        tied: true,
        spans: |f, shape| spans_with(f, shape, window_or(f, 128)?, |number| !number.is_multiple_of(4)),
        more: |tensors, shape, _| _ = tensors.tensor("self_attn.sinks", Role::Other, &[shape.heads]),
        ..GRANITE
    };
    variant.read(f)
}
