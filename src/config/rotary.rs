//! The rotary position encoding that a config describes.

use serde_json::Value;

use super::{ConfigError, Fields};
use crate::model::{Component, Mixer, Role, Rotary};

/// Keys that only models with a rotary encoding have.
const SIGNS: &[&str] = &["rope_theta", "rope_parameters", "rope_scaling", "rotary_emb_base", "rotary_dim", "rotary_pct", "partial_rotary_factor", "rotary"];

/// Where the part of a head that turns is said.
const FACTORS: &[&str] = &["partial_rotary_factor", "rotary_pct", "rope_pct"];

/// The encoding of the decoder, read from the config of the language model.
pub(super) fn read(model_type: &str, fields: &Fields, decoder: &Component) -> Result<Option<Rotary>, ConfigError> {
    let learned = decoder.tensors.iter().any(|tensor| tensor.role == Role::Position);
    // The first Llama configs do not name the base.
    let is_rotary = SIGNS.iter().any(|key| fields.raw(key).is_some()) || model_type == "llama";
    let Some(positions) = fields.optional_count("max_position_embeddings")?.filter(|_| is_rotary && !learned) else { return Ok(None) };
    // One table for each kind of head and base: sliding layers often have their own.
    let mut heads: Vec<u64> = Vec::new();
    for run in &decoder.layers {
        let head = match run.layer.mixer {
            Mixer::Latent(latent) => latent.rope_dim,
            Mixer::Attention(attention) | Mixer::Parallel(attention, _) => attention.key_dim,
            Mixer::Recurrent(_) | Mixer::None => continue,
        };
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    // The full heads are the wider ones where they differ.
    heads.sort_unstable_by_key(|head| std::cmp::Reverse(*head));
    let head = heads.first().copied().unwrap_or(0);
    let scaling = ["rope_parameters", "rope_scaling"].iter().find_map(|key| fields.raw(key).filter(|value| value.is_object()));
    let by_type: Vec<&Value> = ["full_attention", "sliding_attention"].iter().filter_map(|key| scaling?.get(key)).collect();
    let own = |key: &str| fields.raw(key).and_then(Value::as_f64);
    let width = if by_type.len() > 1 {
        let of_type = |(index, of): (usize, &&Value)| turning(heads.get(index).copied().unwrap_or(head), |key| of.get(key).and_then(Value::as_f64));
        by_type.iter().enumerate().map(of_type).sum()
    } else if let Some(width) = fields.optional_count_or_zero("rotary_dim")? {
        width.min(head)
    } else {
        let has_local_base = ["rope_local_base_freq", "local_rope_theta"].iter().any(|key| fields.raw(key).is_some());
        turning(head, |key| scaling.and_then(|scaling| scaling.get(key)?.as_f64()).or_else(|| own(key))).saturating_mul(1 + u64::from(has_local_base))
    };
    let has_sections = scaling.is_some_and(|scaling| scaling.get("mrope_section").is_some());
    Ok(Some(Rotary { width, positions, has_sections }).filter(|rotary| rotary.width > 0))
}

/// The part of a head that turns; the whole where nothing says less.
fn turning(head: u64, factor: impl Fn(&str) -> Option<f64>) -> u64 {
    match FACTORS.iter().find_map(|key| factor(key)) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
        Some(factor) => head.saturating_mul(((factor * 10_000.0).round() as u64).min(10_000)) / 10_000,
        None => head,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read;
    use crate::model::Rotary;

    fn of(more: &str) -> Option<Rotary> {
        let config = r#"{"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 4096"#;
        read(&format!("{config}{more}}}")).unwrap().rotary
    }

    #[test]
    fn tables_have_the_part_that_turns() {
        let table = |width| Some(Rotary { width, positions: 4096, has_sections: false });
        assert_eq!(of(""), None);
        assert_eq!(of(r#", "rope_theta": 10000.0"#), table(32));
        assert_eq!(of(r#", "rope_theta": 10000.0, "partial_rotary_factor": 0.25"#), table(8));
        assert_eq!(of(r#", "rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}"#), table(16));
        assert_eq!(of(r#", "rope_theta": 1e6, "rope_local_base_freq": 10000.0"#), table(64));
        assert_eq!(of(r#", "rope_scaling": null, "rope_theta": "x""#), table(32));
    }
}
