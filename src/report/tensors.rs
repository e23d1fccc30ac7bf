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
