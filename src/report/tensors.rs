//! The inventory as JSON: what each tensor is called, its shape and role, how many there are, and whether quantisers leave it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object;
use crate::model::{Anatomy, Item, Tensor, is_taken};
use crate::quantity::Overflow;
use crate::weight_format::Takes;

/// One kind of tensor of the inventory.
pub struct Listed<'a> {
    item: Item<'a>,
    /// Layers that have it.
    pub layers: u64,
}

impl Listed<'_> {
    /// Its name in the files, `*` for the layer's number and `{}` for an expert's.
    pub fn name(&self) -> String {
        let tensor = self.item.tensor;
        if self.item.is_in_layer() { format!("{}.*.{}", self.item.component.layer_prefix, tensor.name) } else { tensor.name.clone() }
    }

    /// The tensor: its shape, role, and how many of it one layer has.
    pub fn tensor(&self) -> &Tensor {
        self.item.tensor
    }

    /// Elements in all layers.
    ///
    /// # Errors
    /// [`Overflow`] past 2^64 - 1.
    pub fn elements(&self) -> Result<u64, Overflow> {
        Ok(self.item.tensor.elements()?.times(self.layers)?.get())
    }

    /// Whether quantisers usually leave it: they take the linear layers of a language model's layers, experts included.
    pub fn is_left(&self) -> bool {
        !is_taken(Takes::LAYERS, self.item.is_main(), self.item.is_in_layer(), self.item.tensor)
    }
}

/// Each tensor of the inventory, in the order in which they first stand in the anatomy; equal ones of several layers are one.
pub fn listed(anatomy: &Anatomy) -> Vec<Listed<'_>> {
    let mut places = BTreeMap::new();
    let mut found: Vec<Listed<'_>> = Vec::new();
    for item in anatomy.inventory() {
        let layers = item.layers.end - item.layers.start;
        let tensor = item.tensor;
        let place = *places.entry((item.place.component, item.is_in_layer(), &tensor.name, &tensor.shape, tensor.count)).or_insert(found.len());
        match found.get_mut(place) {
            Some(known) => known.layers = known.layers.saturating_add(layers),
            None => found.push(Listed { item, layers }),
        }
    }
    found
}

/// The same as JSON: `layers` says how many layers have it, `count` how many of one shape there are in one layer (experts).
pub(super) fn tensors_json(anatomy: &Anatomy) -> Result<Vec<Value>, Overflow> {
    let one = |listed: Listed<'_>| {
        let tensor = listed.tensor();
        Ok(object(&mut [
            ("name", Value::from(listed.name())),
            ("component", Value::from(listed.item.component.name.as_ref())),
            ("role", Value::from(tensor.role.name())),
            ("shape", Value::from(tensor.shape.clone())),
            ("count", Value::from(tensor.count)),
            ("layers", Value::from(listed.layers)),
            ("elements", Value::from(listed.elements()?)),
            ("quantizers_skip", Value::from(listed.is_left())),
        ]))
    };
    listed(anatomy).into_iter().map(one).collect()
}
