//! The tensors of a GGUF file by where they belong, and the inventory that they make.

use std::collections::{BTreeMap, HashMap};

use super::tensors::{Place, Stack, is_parameter, role};
use crate::checkpoint::HeaderTensor;
use crate::format::{Unit, grouped};
use crate::model::{Files, Tensor};
use crate::quantity::{Bytes, Overflow, ParamCount};

/// Tensors by where they belong. Experts that stand one by one are one tensor with a count.
#[derive(Default)]
pub struct Inventory {
    /// Outside of layers.
    outside: BTreeMap<Stack, Vec<Tensor>>,
    layers: BTreeMap<(Stack, u64), Vec<Tensor>>,
}

/// Whether a tensor outside of layers belongs to multi-token prediction.
pub fn predicts(tensor: &Tensor) -> bool {
    tensor.name.starts_with("nextn.")
}

impl Inventory {
    /// Sorts the tensors of a header.
    pub fn new(tensors: &[HeaderTensor]) -> Self {
        let mut inventory = Self::default();
        // Where experts that stand one by one are, by layer, name, shape and type.
        let mut experts: HashMap<(Stack, u64, String, &[u64], &str), usize> = HashMap::new();
        for tensor in tensors {
            let Place { stack, layer, name } = Place::of(&tensor.name);
            let group = match layer {
                Some(layer) => inventory.layers.entry((stack, layer)).or_default(),
                None => inventory.outside.entry(stack).or_default(),
            };
            if let Some(layer) = layer.filter(|_| name.contains("{}")) {
                let place = *experts.entry((stack, layer, name.clone(), &tensor.shape, tensor.encoding.name)).or_insert(group.len());
                if let Some(alike) = group.get_mut(place) {
                    alike.count += 1;
                    continue;
                }
            }
            group.push(Tensor { role: role(&name), name, shape: tensor.shape.clone(), count: 1, stored: Some(tensor.encoding) });
        }
        inventory
    }

    /// Whether there are tensors of a stack.
    pub fn has(&self, stack: Stack) -> bool {
        self.outside.contains_key(&stack) || self.layers_of(stack).next().is_some()
    }

    /// The layers of a stack that are there, in order.
    pub fn layers_of(&self, stack: Stack) -> impl Iterator<Item = (u64, &[Tensor])> {
        self.layers.range((stack, 0)..=(stack, u64::MAX)).map(|((_, number), tensors)| (*number, tensors.as_slice()))
    }

    /// The tensors of one layer.
    pub fn layer(&self, stack: Stack, number: u64) -> Option<&[Tensor]> {
        self.layers.get(&(stack, number)).map(Vec::as_slice)
    }

    /// Tensors outside of the layers of these stacks.
    pub fn outside_of<'a>(&'a self, stacks: &'a [Stack]) -> impl Iterator<Item = &'a Tensor> {
        stacks.iter().filter_map(|stack| self.outside.get(stack)).flatten()
    }

    /// All tensors.
    pub fn all(&self) -> impl Iterator<Item = &Tensor> {
        self.outside.values().chain(self.layers.values()).flatten()
    }

    /// The inventory with types; of the main stack, layers from `first_predictor` on are left, since llama.cpp loads multi-token
    /// prediction only when it is asked to (`load_mtp`).
    ///
    /// # Errors
    /// [`Overflow`] when the sizes add up to more than is possible.
    pub fn files(&self, tensors: &[HeaderTensor], first_predictor: u64) -> Result<(Files, Vec<String>), Overflow> {
        let mut files = Files { count: 1, ..Files::default() };
        for tensor in tensors {
            let elements = tensor.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or(Overflow)?;
            files.bytes = files.bytes.plus(Bytes(tensor.end).minus(Bytes(tensor.begin))?)?;
            files.elements = files.elements.plus(ParamCount(elements))?;
        }
        let (mut loaded, mut left) = (Rows::default(), Rows::default());
        for tensor in self.outside.values().flatten() {
            let rows = if predicts(tensor) { &mut left } else { &mut loaded };
            rows.add(tensor.clone());
        }
        for ((stack, number), tensors) in &self.layers {
            let rows = if *stack == Stack::Main && *number >= first_predictor { &mut left } else { &mut loaded };
            for tensor in tensors {
                rows.add(Tensor { name: format!("{}.{{}}.{}", stack.layer_prefix(), tensor.name), ..tensor.clone() });
            }
        }
        let mut notes = Vec::new();
        if !left.rows.is_empty() {
            let count: u64 = left.rows.iter().map(|(tensor, layers)| tensor.count * layers).sum();
            notes.push(format!("{} tensors of multi-token prediction ({}) are not loaded", grouped(count), Unit::Gib.text(left.bytes()?)));
        }
        (files.loaded, files.left) = (loaded.rows, left.rows);
        Ok((files, notes))
    }
}

/// The tensors that hold parameters, without a type, by name: files do not list the tensors of all layers in the same order.
pub fn parameters<'a>(arch: &str, tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<Tensor> {
    let learned = tensors.into_iter().filter(|tensor| is_parameter(arch, &tensor.name));
    let mut parameters: Vec<Tensor> = learned.map(|tensor| Tensor { stored: None, ..tensor.clone() }).collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}

/// Equal tensors with the number of layers that have them, in order of first appearance.
#[derive(Default)]
struct Rows {
    rows: Vec<(Tensor, u64)>,
    /// Where a tensor stands, by name, shape, type and count.
    places: HashMap<(String, Vec<u64>, &'static str, u64), usize>,
}

impl Rows {
    fn add(&mut self, tensor: Tensor) {
        let key = (tensor.name.clone(), tensor.shape.clone(), tensor.stored.map_or("", |stored| stored.name), tensor.count);
        let place = *self.places.entry(key).or_insert(self.rows.len());
        match self.rows.get_mut(place) {
            Some((_, layers)) => *layers += 1,
            None => self.rows.push((tensor, 1)),
        }
    }

    fn bytes(&self) -> Result<Bytes, Overflow> {
        self.rows.iter().try_fold(Bytes::ZERO, |sum, (tensor, layers)| {
            let Some(stored) = tensor.stored else { return Ok(sum) };
            sum.plus(stored.bytes_for(tensor.elements()?.times(*layers)?.get())?)
        })
    }
}
