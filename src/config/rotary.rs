//! The rotary position encoding that a config describes.

use serde_json::Value;

use super::{ConfigError, Fields};
use crate::model::{Component, Mixer, Role, Rotary};

/// Keys that only models with a rotary encoding have.
const SIGNS: &[&str] = &["rope_theta", "rope_parameters", "rope_scaling", "rotary_emb_base", "rotary_dim", "rotary_pct", "partial_rotary_factor", "rotary"];

/// Where the part of a head that turns is said.
const FACTORS: &[&str] = &["partial_rotary_factor", "rotary_pct", "rope_pct"];

/// The encoding of the decoder for so many positions, read from the config of the language model; `of_family` is what the family says.
pub(super) fn read(
    (model_type, of_family): (&str, Option<u64>),
    fields: &Fields,
    positions: Option<u64>,
    decoder: &Component,
) -> Result<Option<Rotary>, ConfigError> {
    let learned = decoder.tensors.iter().any(|tensor| tensor.role == Role::Position);
    // The first Llama configs do not name the base.
    let is_rotary = SIGNS.iter().any(|key| fields.raw(key).is_some()) || model_type == "llama";
    let Some(positions) = positions.filter(|_| is_rotary && !learned) else { return Ok(None) };
    if let Some(width) = of_family {
        return Ok(Some(Rotary { width, positions, has_sections: false, in_float32: true }));
    }
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
        let of_type =
            |(index, of): (usize, &&Value)| stretched(turning(heads.get(index).copied().unwrap_or(head), |key| of.get(key).and_then(Value::as_f64)), Some(of));
        by_type.iter().enumerate().map(of_type).sum()
    } else if let Some(width) = fields.optional_count_or_zero("rotary_dim")? {
        width.min(head)
    } else {
        // The classes of Gemma 3 have one whatever their configs say.
        let has_local_base = model_type.starts_with("gemma3") || ["rope_local_base_freq", "local_rope_theta"].iter().any(|key| fields.raw(key).is_some());
        let width = turning(head, |key| scaling.and_then(|scaling| scaling.get(key)?.as_f64()).or_else(|| own(key)));
        stretched(width, scaling).saturating_add(if has_local_base { width } else { 0 })
    };
    let has_sections = scaling.is_some_and(|scaling| scaling.get("mrope_section").is_some());
    Ok(Some(Rotary { width, positions, has_sections, in_float32: false }).filter(|rotary| rotary.width > 0))
}

/// The part of a head that turns; the whole where nothing says less.
fn turning(head: u64, factor: impl Fn(&str) -> Option<f64>) -> u64 {
    match FACTORS.iter().find_map(|key| factor(key)) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
        Some(factor) => head.saturating_mul(((factor * 10_000.0).round() as u64).min(10_000)) / 10_000,
        None => head,
    }
}

/// Values for one position where positions are squeezed by a factor: engines make the table that many times as long (vLLM
/// `rotary_embedding/linear_scaling_rope.py`, SGLang `layers/rotary_embedding`).
fn stretched(width: u64, scaling: Option<&Value>) -> u64 {
    let said = |key| scaling.and_then(|scaling| scaling.get(key));
    let is_linear = said("rope_type").or_else(|| said("type")).is_some_and(|kind| kind == "linear");
    let factor = said("factor").and_then(Value::as_f64).filter(|factor| is_linear && *factor > 1.0).unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    let hundredths = ((factor * 100.0).round() as u64).min(100_000);
    width.saturating_mul(hundredths) / 100
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
        let table = |width| Some(Rotary { width, positions: 4096, has_sections: false, in_float32: false });
        assert_eq!(of(""), None);
        assert_eq!(of(r#", "rope_theta": 10000.0"#), table(32));
        assert_eq!(of(r#", "rope_theta": 10000.0, "partial_rotary_factor": 0.25"#), table(8));
        assert_eq!(of(r#", "rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}"#), table(16));
        assert_eq!(of(r#", "rope_theta": 1e6, "rope_local_base_freq": 10000.0"#), table(64));
        // Gemma 3: the table of full layers is eight times as long, that of sliding ones is not.
        assert_eq!(of(r#", "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1e6, "rope_local_base_freq": 1e4"#), table(9 * 32));
        let by_type = r#", "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_type": "default"}}"#;
        assert_eq!(of(by_type), table(9 * 32));
        assert_eq!(of(r#", "rope_scaling": {"type": "yarn", "factor": 4.0}"#), table(32));
        assert_eq!(of(r#", "rope_scaling": null, "rope_theta": "x""#), table(32));
        // A key of other families says nothing of these heads.
        for stray in ["0", "16", "-1", "\"x\"", "[]"] {
            assert_eq!(of(&format!(r#", "rope_theta": 1e6, "qk_rope_head_dim": {stray}"#)), table(32));
        }
    }

    #[test]
    fn what_configs_leave_to_the_class_is_the_class_s() {
        // google/gemma-3-27b-it says neither its positions nor the base of its sliding layers.
        let config = r#"{"model_type": "gemma3_text", "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
            "num_hidden_layers": 62, "num_key_value_heads": 16, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}"#;
        let anatomy = read(config).unwrap();
        assert_eq!(
            (anatomy.max_context, anatomy.rotary),
            (Some(131_072), Some(Rotary { width: 9 * 128, positions: 131_072, has_sections: false, in_float32: false }))
        );
    }
}
