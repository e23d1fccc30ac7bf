//! What a config says about quantised weights, resolved to the tensors of the architecture.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::weight_format::Scheme;

/// The quantisation that a config describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// The method as the config names it (`gptq`, `compressed-tensors`).
    pub method: String,
    /// The formats that it uses; empty when the method is not known here, or does not say what its weights take.
    pub schemes: Vec<Scheme>,
    /// Which tensors have which of them, in the order of the inventory; all others are as they were.
    pub assigned: Vec<Assigned>,
}

impl Quantization {
    /// What a tensor of the inventory has, in the order of its layers; empty where it is as it was.
    pub fn of(&self, place: Place) -> &[Assigned] {
        let start = self.assigned.partition_point(|one| one.place < place);
        let rest = &self.assigned[start..];
        &rest[..rest.partition_point(|one| one.place == place)]
    }

    /// Adds what is said of a further part, whose first component is the one with this number.
    pub fn append(&mut self, part: Self, first: usize) {
        if self.method.is_empty() {
            self.method = part.method;
        }
        let before = self.schemes.len();
        self.schemes.extend(part.schemes);
        let moved = |one: Assigned| Assigned { place: Place { component: one.place.component + first, ..one.place }, scheme: one.scheme + before, ..one };
        self.assigned.extend(part.assigned.into_iter().map(moved));
    }
}

/// A tensor of the inventory in some layers, and the format that it has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its place in the inventory.
    pub place: Place,
    /// The layers of its component; `0..1` outside of layers.
    pub layers: Range<u64>,
    /// The format, by its number in [`Quantization::schemes`].
    pub scheme: usize,
}
