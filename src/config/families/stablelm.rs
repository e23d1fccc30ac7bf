//! StableLM (also as `stablelm_epoch`) and Orion: Llama with LayerNorms; StableLM 2 12B norms each query and key head apart and
//! has one norm before parallel blocks.

use super::classic::{Bias, NormKind, Sizes, Variant};
use super::decoder::{Draft, LLAMA_NORMS, Tensors};
use super::{ConfigError, Fields};
use crate::model::{Role, Tensor};

const STABLELM: Variant = Variant {
    sizes: Some(Sizes { hidden: 2560, layers: 32, heads: 32, kv_heads: Some(32), head_dim: None, intermediate: Some(6912), vocab: 50_304 }),
    qkv_bias: Bias::Key("use_qkv_bias", false),
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    norm_kind: NormKind::WeightAndBias,
    ..Variant::LLAMA
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let norms = if f.flag("use_parallel_residual", false)? { &LLAMA_NORMS[..1] } else { LLAMA_NORMS };
    let mut draft = Variant { norms, ..STABLELM }.read(f)?;
    if f.flag("qk_layernorm", false)? {
        let shape = draft.decoder.shape;
        let norms = |count| vec![Tensor { name: "{}.weight".to_owned(), role: Role::Norm, shape: vec![shape.head_dim], count, stored: None }];
        let more =
            Tensors::default().nested("self_attn.q_layernorm.norms", norms(shape.heads)).nested("self_attn.k_layernorm.norms", norms(shape.kv_heads)).build();
        for (_, tensors) in &mut draft.decoder.layers {
            tensors.extend(more.iter().cloned());
        }
    }
    Ok(draft)
}

pub(super) fn read_orion(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { sizes: None, qkv_bias: Bias::Never, ..STABLELM }.read(f)
}
