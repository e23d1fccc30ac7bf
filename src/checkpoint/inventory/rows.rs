//! Rows of the inventory: equal tensors of all layers, sorted, told as one.

use std::collections::BTreeMap;

use crate::encoding::Encoding;
use crate::model::{Role, Tensor};
use crate::quantity::{Bytes, Overflow};

/// The tensors of a [`Group`].
pub(super) struct Members {
    pub(super) encoding: Encoding,
    pub(super) bytes: Bytes,
    /// How many there are in each layer.
    pub(super) per_layer: BTreeMap<Option<u64>, u64>,
}

impl Members {
    pub(super) fn count(&self) -> u64 {
        self.per_layer.values().sum()
    }
}

/// By what rows are sorted: the architecture's order, then the name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) order: usize,
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) dtype: &'static str,
}

#[derive(Default)]
pub(super) struct Rows {
    pub(super) by_key: BTreeMap<Key, (Role, Members)>,
    pub(super) count: u64,
    pub(super) bytes: Bytes,
}

impl Rows {
    pub(super) fn add(&mut self, key: Key, role: Role, members: Members) -> Result<(), Overflow> {
        self.count += members.count();
        self.bytes = self.bytes.plus(members.bytes)?;
        let empty = Members { encoding: members.encoding, bytes: Bytes::ZERO, per_layer: BTreeMap::new() };
        let (_, row) = self.by_key.entry(key).or_insert((role, empty));
        row.bytes = row.bytes.plus(members.bytes)?;
        for (layer, count) in members.per_layer {
            *row.per_layer.entry(layer).or_insert(0) += count;
        }
        Ok(())
    }

    /// Adds tensors that no file holds, in the dtype of the first that one does; says so.
    pub(super) fn make(&mut self, anew: &[(usize, Tensor)]) -> Result<Option<String>, Overflow> {
        let Some(encoding) = self.by_key.values().map(|(_, members)| members.encoding).find(|encoding| encoding.is_float) else { return Ok(None) };
        for (order, tensor) in anew {
            let bytes = encoding.bytes_for(tensor.elements()?.get())?;
            let key = Key { order: *order, name: tensor.name.clone(), shape: tensor.shape.clone(), dtype: encoding.name };
            self.add(key, tensor.role, Members { encoding, bytes, per_layer: BTreeMap::from([(None, 1)]) })?;
        }
        let names: Vec<String> = anew.iter().map(|(_, tensor)| format!("`{}`", tensor.name)).collect();
        Ok(Some(format!("the files lack {}: the class that is loaded makes them anew, in {}", names.join(", "), encoding.name)))
    }

    /// One tensor, with the number of layers, for each count per layer that occurs.
    pub(super) fn into_tensors(self) -> Vec<(Tensor, u64)> {
        let mut tensors = Vec::new();
        for (key, (role, members)) in self.by_key {
            let mut layers_by_count: BTreeMap<u64, u64> = BTreeMap::new();
            for count in members.per_layer.into_values() {
                *layers_by_count.entry(count).or_insert(0) += 1;
            }
            for (count, layers) in layers_by_count {
                let tensor = Tensor { name: key.name.clone(), role, shape: key.shape.clone(), count, stored: Some(members.encoding) };
                tensors.push((tensor, layers));
            }
        }
        tensors
    }
}
