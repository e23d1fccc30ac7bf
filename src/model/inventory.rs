//! The inventory of an architecture: every tensor with where it stands, and as the matrices that quantisers see.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Component, Role, Tensor};
use crate::quantity::Overflow;
use crate::weight_format::{Scheme, Takes};

/// The place of a tensor in the inventory of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The component, by its number.
    pub component: usize,
    /// 0 outside of layers, else the number of the run, from 1.
    pub run: usize,
    /// The tensor, by its number there.
    pub tensor: usize,
}

/// A tensor as `count` matrices of `rows` outputs and `columns` inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// How many: experts, or one.
    pub count: u64,
    /// Outputs.
    pub rows: u64,
    /// Inputs: what a row of a quantised matrix runs over. All elements of a vector.
    pub columns: u64,
}

impl Matrix {
    /// The tensor's shape; `hidden` is the width of its component, which tells inputs from outputs where files keep a matrix the
    /// other way round (GPT-2's `Conv1D`, the experts of gpt-oss and Llama 4).
    ///
    /// # Errors
    /// [`Overflow`] when the shape is not possible.
    pub fn of(tensor: &Tensor, hidden: u64) -> Result<Self, Overflow> {
        let Some((&last, others)) = tensor.shape.split_last() else { return Ok(Self { count: tensor.count, rows: 1, columns: 1 }) };
        let product = |sizes: &[u64]| sizes.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or(Overflow);
        let (stacked, rows) = match others {
            [stacked @ .., rows] if tensor.role.is_expert() => (product(stacked)?, *rows),
            others => (1, product(others)?),
        };
        let count = tensor.count.checked_mul(stacked).ok_or(Overflow)?;
        let is_reversed = match tensor.role.reads_hidden() {
            Some(true) => last != hidden && rows == hidden,
            Some(false) => last == hidden && rows != hidden,
            None => false,
        };
        Ok(if is_reversed { Self { count, rows: last, columns: rows } } else { Self { count, rows, columns: last } })
    }
}

impl Role {
    /// Whether a matrix of this role reads the hidden state (`Some(true)`), writes it (`Some(false)`), or may do neither.
    fn reads_hidden(self) -> Option<bool> {
        match self {
            Self::AttentionOutput | Self::Down | Self::ExpertDown => Some(false),
            Self::Query | Self::Key | Self::Value | Self::Qkv => Some(true),
            role => [Self::Gate, Self::Up, Self::GateUp, Self::ExpertGate, Self::ExpertUp, Self::ExpertGateUp].contains(&role).then_some(true),
        }
    }
}

impl Tensor {
    /// True for the weight of a linear layer, embeddings and head included: a matrix that a quantiser could take. Stacks of experts
    /// are such weights too.
    pub fn is_matrix(&self) -> bool {
        match self.role {
            Role::Norm | Role::Position | Role::MixerConvolution | Role::MixerState => false,
            role if role.is_expert() && self.shape.len() == 3 => true,
            // Parameters without a module (`A_log`, class tokens) and tables of other things are none.
            Role::Other => self.shape.len() == 2 && self.name.ends_with(".weight") && !self.name.contains("embed"),
            _ => self.shape.len() == 2 && self.name.ends_with(".weight"),
        }
    }

    /// The module that it belongs to, by its path.
    pub fn module(&self) -> &str {
        // Stacks of experts are parameters themselves: `mlp.experts.gate_up_proj`.
        self.name.strip_suffix(".weight").or_else(|| self.name.strip_suffix(".bias")).unwrap_or(&self.name)
    }
}

/// Parts of a matrix that have tensors of their own in files: bitsandbytes' `weight.absmax` and
/// `weight.quant_state.bitsandbytes__nf4`, VPTQ's `centroids.weight`.
const NESTED: &[&str] = &["weight", "quant_state", "centroids", "res_centroids", "outlier_centroids"];

/// The name of a stored tensor as its module and what of that it is: `mlp.up_proj` and `weight`, `qweight` or `weight.absmax`. The
/// module is empty for a single segment.
pub fn module_and_leaf(name: &str) -> (&str, &str) {
    let outer = |path: &str| path.rfind('.').unwrap_or(0);
    let mut end = outer(name);
    while let Some((_, last)) = name[..end].rsplit_once('.')
        && NESTED.contains(&last)
    {
        end = outer(&name[..end]);
    }
    (&name[..end], name[end..].trim_start_matches('.'))
}

/// A tensor of an architecture with where it stands.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// Its place.
    pub place: Place,
    /// Its component.
    pub component: &'a Component,
    /// The tensor.
    pub tensor: &'a Tensor,
    /// The layers of the component that have it; `0..1` outside of layers.
    pub layers: Range<u64>,
}

impl Item<'_> {
    /// True for tensors of layers.
    pub fn is_in_layer(&self) -> bool {
        self.place.run > 0
    }

    /// True in the parts that llama.cpp and quantisers of language models work on: text, and whatever a model is mainly.
    pub fn is_main(&self) -> bool {
        self.place.component == 0 || self.component.is_text()
    }

    /// The tensor as matrices.
    ///
    /// # Errors
    /// [`Overflow`] when the shape is not possible.
    pub fn matrix(&self) -> Result<Matrix, Overflow> {
        Matrix::of(self.tensor, self.component.hidden_size)
    }

    /// The full name of its module in one layer; experts by their first.
    pub fn module(&self, layer: u64) -> String {
        let module = self.tensor.module().replace("{}", "0");
        if self.is_in_layer() { format!("{}.{layer}.{module}", self.component.layer_prefix) } else { module }
    }
}

/// Whether a format takes a tensor; `is_language` and `is_in_layer` say where it stands.
pub fn is_taken(takes: Takes, is_language: bool, is_in_layer: bool, tensor: &Tensor) -> bool {
    tensor.is_matrix()
        && match tensor.role {
            Role::Embedding => takes.embedding,
            Role::Head => takes.head,
            Role::Router => takes.routers,
            // Heads of classifiers are as precious as those of vocabularies.
            Role::Score => takes.head && takes.others,
            role if role.is_expert() => takes.experts,
            _ if is_language && is_in_layer => takes.linears,
            _ => takes.others,
        }
}

/// The format of one tensor: heads and routers may have bits of their own.
pub fn scheme_for(scheme: Scheme, role: Role) -> Scheme {
    let bits = match role {
        Role::Head => scheme.head_bits,
        Role::Router => scheme.router_bits,
        _ => None,
    };
    bits.map_or(scheme, |bits| scheme.with_bits(bits))
}
