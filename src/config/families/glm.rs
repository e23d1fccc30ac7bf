//! GLM-4 in transformers' own classes: biases on q, k and v by default, gate and up in one matrix; GLM-4-0414 has four norms.

use super::classic::{Bias, Mlp, Sizes, Variant};
use super::decoder::Draft;
use super::{ConfigError, Fields};

const GLM: Variant = Variant {
    sizes: Some(Sizes { hidden: 4096, layers: 40, heads: 32, kv_heads: Some(2), head_dim: Some(128), intermediate: Some(13_696), vocab: 151_552 }),
    qkv_bias: Bias::Key("attention_bias", true),
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    mlp: Mlp::GateUp,
    ..Variant::LLAMA
};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    GLM.read(f)
}

pub(super) fn read_glm4(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { norms: &["input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"], ..GLM }.read(f)
}
