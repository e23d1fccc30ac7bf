//! Fuyu: Persimmon's decoder, fed with patches of the image through one matrix.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::vision_tower;
use super::{ConfigError, Fields};

/// `FuyuConfig` of transformers 5.23, and what it gives its Persimmon.
const DEFAULTS: &[(&str, u64)] = &[("patch_size", 30), ("num_channels", 3)];
const TEXT: &[(&str, u64)] =
    &[("vocab_size", 262_144), ("hidden_size", 4096), ("intermediate_size", 16_384), ("num_hidden_layers", 36), ("num_attention_heads", 64)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "persimmon", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: false } };
    let text = match f.nested(TEXT_CONFIGS)? {
        Some(text) => text,
        // The published file has the language model's fields at its top, and no type of its own for them.
        None => f.as_type("persimmon"),
    };
    let draft = language_in(f, &text.with_defaults(TEXT), &wrapper)?;
    let f = f.with_defaults(DEFAULTS);
    let (patch, hidden) = (f.count("patch_size")?, draft.decoder.shape.hidden);
    let inputs = patch.saturating_mul(patch).saturating_mul(f.count("num_channels")?);
    f.touch("image_size");
    let tensors = Tensors::default().linear("vision_embed_tokens", inputs, hidden, true).build();
    Ok(draft.with(vision_tower(hidden, "", tensors, Vec::new())))
}
