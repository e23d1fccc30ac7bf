//! The inventory as JSON: what each tensor is called, its shape and role, how many there are, and whether quantisers leave it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object;
use crate::model::{Anatomy, Item, is_taken};
use crate::quantity::Overflow;
use crate::weight_format::Takes;

/// Each tensor of the inventory, in the order in which they first stand in the anatomy; equal ones of several layers are one, and
/// `layers` says how many layers have it. `count` is how many of one shape there are in one layer (experts). Quantisers usually take
/// the linear layers of a language model's layers, experts included, and leave the rest.
pub(super) fn tensors_json(anatomy: &Anatomy) -> Result<Vec<Value>, Overflow> {
    let mut places = BTreeMap::new();
    let mut found: Vec<(Item<'_>, u64)> = Vec::new();
    for item in anatomy.inventory() {
        let layers = item.layers.end - item.layers.start;
        let tensor = item.tensor;
        let place = *places.entry((item.place.component, item.is_in_layer(), &tensor.name, &tensor.shape, tensor.count)).or_insert(found.len());
        match found.get_mut(place) {
            Some((_, sum)) => *sum = sum.saturating_add(layers),
            None => found.push((item, layers)),
        }
    }
    let one = |(item, layers): (Item<'_>, u64)| {
        let tensor = item.tensor;
        let name = if item.is_in_layer() { format!("{}.*.{}", item.component.layer_prefix, tensor.name) } else { tensor.name.clone() };
        Ok(object(&mut [
            ("name", Value::from(name)),
            ("component", Value::from(item.component.name.as_ref())),
            ("role", Value::from(tensor.role.name())),
            ("shape", Value::from(tensor.shape.clone())),
            ("count", Value::from(tensor.count)),
            ("layers", Value::from(layers)),
            ("elements", Value::from(tensor.elements()?.times(layers)?.get())),
            ("quantizers_skip", Value::from(!is_taken(Takes::LAYERS, item.is_main(), item.is_in_layer(), tensor))),
        ]))
    };
    found.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    /// A dense layer, and layers with experts.
    const CONFIG: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "num_hidden_layers": 4, "vocab_size": 100, "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [1]}"#;

    #[test]
    fn tensors_add_up_and_each_is_said_once() {
        let anatomy = crate::config::read(CONFIG).unwrap();
        let tensors = super::tensors_json(&anatomy).unwrap();
        let sum: u64 = tensors.iter().map(|tensor| tensor["elements"].as_u64().unwrap()).sum();
        assert_eq!(sum, anatomy.parameters().unwrap().get());
        let named = |name: &str| tensors.iter().filter(|tensor| tensor["name"] == name).collect::<Vec<_>>();
        let [queries] = named("model.layers.*.self_attn.q_proj.weight")[..] else { panic!("one row for all layers") };
        assert_eq!((&queries["layers"], &queries["quantizers_skip"]), (&4.into(), &false.into()));
        let [experts] = named("model.layers.*.mlp.experts.{}.up_proj.weight")[..] else { panic!("one row for all experts") };
        assert_eq!((&experts["count"], &experts["layers"], &experts["role"]), (&8.into(), &3.into(), &"expert_up".into()));
        for skipped in ["model.embed_tokens.weight", "lm_head.weight", "model.layers.*.mlp.gate.weight", "model.layers.*.input_layernorm.weight"] {
            assert_eq!(named(skipped)[0]["quantizers_skip"], true, "{skipped}");
        }
    }
}
