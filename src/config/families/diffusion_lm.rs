//! Language models that denoise a whole text at once: `LLaDA` (Llama with OLMo's keys) and Dream (Qwen2). Their classes have a
//! language-model head, whatever they are called, and attend in both directions; a cache is an approximation that engines add.

use super::decoder::{Draft, Head};
use super::{ConfigError, Fields, llama, qwen2};

pub(super) fn read_llada(f: &Fields) -> Result<Draft, ConfigError> {
    let names = [("intermediate_size", "mlp_hidden_size"), ("num_key_value_heads", "n_kv_heads"), ("vocab_size", "embedding_size")];
    let mut draft = llama::read(&names.into_iter().fold(f.with_defaults(&[]), |f, (key, alias)| f.with_alias(key, alias)))?;
    if f.flag("include_bias", false)? || f.flag("include_qkv_bias", false)? {
        return Err(f.impossible("include_bias", "no published model of this type has biases"));
    }
    for key in ["mlp_ratio", "block_type", "block_group_size", "alibi", "rope", "layer_norm_type", "layer_norm_with_affine", "bias_for_layer_norm"] {
        f.touch(key);
    }
    draft.decoder.head = Head::Language;
    draft.decoder.tied_by_default = f.flag("weight_tying", false)?;
    Ok(draft)
}

pub(super) fn read_dream(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = qwen2::read(f)?;
    draft.decoder.head = Head::Language;
    Ok(draft)
}
