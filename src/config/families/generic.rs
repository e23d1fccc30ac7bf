//! Model types that are not known: read as the family whose name is part of theirs, or whose keys theirs are. Every such
//! reading is a guess and says what it was read as and which keys it leaves out.

use super::decoder::Draft;
use super::multimodal::TEXT_CONFIGS;
use super::{ConfigError, Fields, family_of, vision};
use crate::config::model_types;
use crate::model::ComponentKind;

/// Keys that together stand for a family's blocks; the first whose keys are all there is tried first, the last always.
const BY_KEYS: &[(&[&str], &str)] = &[
    (&["kv_lora_rank", "index_head_dim"], "deepseek_v32"),
    (&["kv_lora_rank", "num_experts"], "deepseek_v3"),
    (&["kv_lora_rank"], "youtu"),
    (&["hybrid_override_pattern"], "nemotron_h"),
    (&["linear_num_value_heads", "num_experts"], "qwen3_5_moe_text"),
    (&["linear_num_value_heads"], "qwen3_5_text"),
    (&["num_experts", "shared_expert_intermediate_size"], "qwen2_moe"),
    (&["num_experts", "n_shared_experts", "moe_intermediate_size"], "deepseek"),
    (&["num_experts", "moe_intermediate_size"], "qwen3_moe"),
    (&["num_experts"], "mixtral"),
    (&["encoder_layers", "decoder_layers", "vocab_size"], "bart"),
    (&["type_vocab_size"], "bert"),
    (&["vocab_size"], "llama"),
    (&["image_size", "patch_size"], "vit"),
    // What it lacks is said in Llama's words.
    (&[], "llama"),
];

/// Shorter names are part of too many others by chance.
const SHORTEST_NAME: usize = 4;

/// A reading of the config as another type's.
struct Reading {
    family: &'static str,
    /// Keys that change what layers are, and that this family does not read.
    left: Vec<String>,
}

/// The model as far as its fields tell; `model_type` is its own, unknown one.
pub(in crate::config) fn read(f: &Fields, model_type: &str) -> Result<Draft, ConfigError> {
    if let Some(text) = f.nested(TEXT_CONFIGS)? {
        return read_wrapper(f, &text, model_type);
    }
    let mut best: Option<Reading> = None;
    let mut plain_error = None;
    for family in candidates(f, model_type) {
        match attempt(f, family) {
            Ok(left) if best.as_ref().is_none_or(|best| left.len() < best.left.len()) => best = Some(Reading { family, left }),
            Ok(_) => {}
            Err(error) => plain_error = Some(error),
        }
        if best.as_ref().is_some_and(|best| best.left.is_empty()) {
            break;
        }
    }
    let Some((Reading { family, left }, found)) = best.and_then(|best| family_of(best.family).map(|found| (best, found))) else {
        return Err(match plain_error {
            Some(ConfigError::Missing { key, .. }) => unknown(model_type, format!("its config has no `{key}`")),
            Some(other) => other,
            None => unknown(model_type, String::new()),
        });
    };
    let rest = if left.is_empty() { String::new() } else { format!("; left out although they change its layers: `{}`", left.join("`, `")) };
    f.guess(format!(
        "model type `{model_type}` is not known here: its fields are read as those of a `{family}` model, so parameters and cache may be wrong by a lot{rest}"
    ));
    (found.read)(f)
}

/// A language model with other parts: the language model by its own type, a tower where its type is known.
fn read_wrapper(f: &Fields, text: &Fields, model_type: &str) -> Result<Draft, ConfigError> {
    let tower = f.nested(&["vision_config"])?.and_then(|v| vision::tower(&v, "").ok());
    let counted = if tower.is_some() { "its vision tower" } else { "no vision tower" };
    f.guess(format!(
        "model type `{model_type}` is not known here: its language model and {counted} are counted; what joins them, and other parts, come on top"
    ));
    let inner = text.optional_text("model_type")?;
    let mut draft = match inner.as_deref().and_then(family_of) {
        Some(family) => (family.read)(text)?,
        None => read(text, inner.as_deref().unwrap_or(model_type))?,
    };
    draft.decoder.tied_by_default = text.flag("tie_word_embeddings", draft.decoder.tied_by_default)?;
    Ok(draft.with_any(tower.map(|tower| tower.component("vision", ComponentKind::VisionTower))))
}

/// Families to try: by name, the longest first, then by keys.
fn candidates(f: &Fields, model_type: &str) -> Vec<&'static str> {
    let name = plain(model_type);
    let mut by_name: Vec<_> = model_types().filter(|known| plain(known).len() >= SHORTEST_NAME && name.contains(&plain(known))).collect();
    by_name.sort_by_key(|known| std::cmp::Reverse(known.len()));
    by_name.extend(BY_KEYS.iter().filter(|(keys, _)| keys.iter().all(|key| f.has_any(key))).map(|(_, family)| *family));
    by_name
}

/// A name without what separates its words.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// What a family leaves unread of this config.
fn attempt(f: &Fields, family: &str) -> Result<Vec<String>, ConfigError> {
    let trial = f.alone();
    let Some(found) = family_of(family) else { return Err(unknown(family, String::new())) };
    (found.read)(&trial)?;
    Ok(trial.structural_keys_left().collect())
}

fn unknown(model_type: &str, why: String) -> ConfigError {
    ConfigError::UnknownType { model_type: model_type.to_owned(), why }
}
