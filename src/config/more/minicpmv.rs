//! MiniCPM-V 2.5 and later: a language model's own fields at the top, `SigLIP` without a head, a resampler of latent queries.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, Tie, Wrapper, language_of, with_projector};
use super::vision::{idefics, linear, norm};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `version` says which language model it is.
const VERSIONS: &[(&str, &str)] = &[("2.5", "llama"), ("2.6", "qwen2"), ("4.0", "llama"), ("4", "llama"), ("4.5", "qwen3")];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let version = match f.raw("version") {
        Some(serde_json::Value::String(version)) => version.clone(),
        Some(number) => number.to_string(),
        None => return Err(ConfigError::Missing { key: "version", model_type: f.model_type() }),
    };
    let Some((_, text)) = VERSIONS.iter().find(|(name, _)| *name == version) else {
        return Err(f.impossible("version", "only 2.5, 2.6, 4.0 and 4.5 are understood"));
    };
    let wrapper = Wrapper { default_type: "", names: Names::Behind("llm"), head: Head::Language, tie: Tie::Text };
    // How images are cut before the tower sees them.
    f.touch("image_size");
    f.touch("slice_config");
    let draft = language_of(f, f, (*text).to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.required_nested(&["vision_config"])?;
    vision.touch("model_type");
    let mut tower = idefics(&vision.with_defaults(&[
        ("hidden_size", 768),
        ("num_hidden_layers", 12),
        ("num_attention_heads", 12),
        ("intermediate_size", 3072),
        ("image_size", 224),
        ("patch_size", 16),
    ]))?;
    if f.flag("drop_vision_last_layer", true)? {
        tower.layers.pop();
    }
    let tower = tower.below("vpm");
    let mut t = Tensors::default();
    t.tensor("resampler.query", Role::Other, &[f.optional_count("query_num")?.unwrap_or(64), width]);
    linear(&mut t, Role::Other, "resampler.kv_proj", tower.hidden(), width, false);
    t.tensor("resampler.attn.in_proj_weight", Role::Qkv, &[width.saturating_mul(3), width]).tensor(
        "resampler.attn.in_proj_bias",
        Role::Qkv,
        &[width.saturating_mul(3)],
    );
    linear(&mut t, Role::AttentionOutput, "resampler.attn.out_proj", width, width, true);
    for name in ["resampler.ln_q", "resampler.ln_kv", "resampler.ln_post"] {
        norm(&mut t, name, width, true);
    }
    t.tensor("resampler.proj", Role::Other, &[width, width]);
    Ok(with_projector(draft, tower, width, t.build()))
}
