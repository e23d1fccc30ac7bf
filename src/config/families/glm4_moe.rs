//! GLM-4.5 to 4.7 and Solar Open: grouped attention with biases on q, k and v alone, DeepSeek's mixture.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::experts::{Mixture, MixtureDefaults, dense_or_sparse, predictors, sparse_layers, token_predictor};
use super::{ConfigError, Fields};
use crate::model::{Component, Mixer, Span};

pub(super) fn read_glm4_moe(f: &Fields) -> Result<Draft, ConfigError> {
    let (decoder, predictor) = text(f)?;
    Ok(Draft::from(decoder).with_any(predictor))
}

/// The decoder and its token predictor, for GLM-4.5V too.
pub(super) fn text(f: &Fields) -> Result<(Decoder, Option<Component>), ConfigError> {
    // The class rounds the size of a head down where the config leaves it out.
    let head_dim = f.count("hidden_size")? / f.count("num_attention_heads")?;
    let shape = Shape::read_with(&f.with_derived("head_dim", head_dim.max(1)), Some(head_dim.max(1)), Some(8))?;
    let sparse = sparse_layers(f, &shape, 1)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 128, active: 8, width: 1408, shared: 1 })?;
    let has_norms = f.flag("use_qk_norm", false)?;
    let decoder = decoder(f, shape, &sparse, &mixture, has_norms)?;
    let predictor = token_predictor(&shape, predictors(f)?, decoder.layers.last());
    Ok((decoder, predictor))
}

/// Solar Open: experts in every layer.
pub(super) fn read_solar_open(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(128), Some(8))?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 128, active: 8, width: 1280, shared: 1 })?;
    let sparse = vec![true; usize::try_from(shape.layers).unwrap_or(0)];
    Ok(decoder(f, shape, &sparse, &mixture, false)?.into())
}

fn decoder(f: &Fields, shape: Shape, sparse: &[bool], mixture: &Mixture, has_norms: bool) -> Result<Decoder, ConfigError> {
    let bias = f.flag("attention_bias", false)?;
    let layers = dense_or_sparse(f, &shape, sparse, mixture, LLAMA_NORMS, |_, tensors: &mut Tensors| {
        tensors.attention(&shape, bias, false);
        if has_norms {
            tensors.query_key_norm(&shape);
        }
        Ok(Mixer::Attention(shape.attention(Span::Full)))
    })?;
    Ok(Decoder::llama_like(shape, layers, false))
}
