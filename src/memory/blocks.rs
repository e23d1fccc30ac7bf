//! What PyTorch's caching allocator hands out beyond the tensors themselves.
//!
//! `c10/cuda/CUDACachingAllocator.cpp`: from 10 MiB on a tensor has a segment of its own, in whole 2 MiB; smaller ones from 1 MiB on
//! are cut from segments of 20 MiB. What is left of a segment is given back only when it is more than 1 MiB; else it stays with
//! the tensor and counts as allocated. Weights are many equal tensors, so this adds up: 57 MB for the 36 layers of Qwen3-4B.

use super::placement::Placed;
use crate::estimate::{ALWAYS, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::{Layer, Role};
use crate::quantity::{Bytes, MIB, Overflow};

/// Tensors of one allocation.
#[derive(Default)]
pub(super) struct Blocks<'a> {
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    /// The path of the module around it, its place in that module, the layer, what of a packed matrix it is.
    key: (&'a str, &'a str, Fused, Option<*const Layer>, &'static str),
    bytes: u64,
    times: u64,
}

/// Projections that engines keep in one matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fused {
    QueryKeyValue,
    GateUp,
    ExpertGateUp,
    /// A delta-net's query, key, value and gate.
    DeltaInput,
    /// Not fused: the role, and a name where a module has several of it.
    Alone(Role),
}

impl Fused {
    fn of(role: Role, module: &str) -> Self {
        match role {
            Role::MixerInput if ["in_proj_qkv", "in_proj_z"].iter().any(|name| module.ends_with(name)) => Self::DeltaInput,
            Role::Query | Role::Key | Role::Value => Self::QueryKeyValue,
            Role::Gate | Role::Up => Self::GateUp,
            Role::ExpertGate | Role::ExpertUp => Self::ExpertGateUp,
            role => Self::Alone(role),
        }
    }
}

/// Groups of one module are next to each other: a part is looked for among the last few.
const NEAR: usize = 8;

impl<'a> Blocks<'a> {
    /// Takes in what a tensor has of one thing (weights, scales ...), of which a rank holds `bytes` in all.
    pub fn add(&mut self, placed: &Placed<'a>, what: &'static str, bytes: Bytes) {
        let (tensor, times) = (placed.stored.tensor, placed.stored.times());
        let (path, leaf) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
        let fused = Fused::of(tensor.role, path);
        let around = path.rsplit_once('.').map_or("", |(around, _)| around);
        let around = if matches!(fused, Fused::Alone(_)) { path } else { around };
        let key = (around, leaf, fused, placed.layer.map(std::ptr::from_ref), what);
        let each = bytes.get() / times.max(1);
        match self.parts.iter_mut().rev().take(NEAR).find(|part| part.key == key && part.times == times) {
            Some(part) => part.bytes = part.bytes.saturating_add(each),
            None => self.parts.push(Part { key, bytes: each, times }),
        }
    }

    /// The excess as an entry; `None` without.
    pub fn entry(&self) -> Result<Option<Entry>, Overflow> {
        let excess = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(excess(part.bytes).checked_mul(part.times)?)).ok_or(Overflow)?;
        if excess == 0 {
            return Ok(None);
        }
        let formula = Expr::leaf(excess, "B", Source::Derived("2 MiB segments less the tensors in them, where at most 1 MiB is left".into()));
        let source = "PyTorch's caching allocator: what is left of a tensor's segment stays with it up to 1 MiB";
        Entry::modelled(Term::Weights, formula, (50, 150), source, ALWAYS).map(Some)
    }
}

/// What the block of a tensor has beyond it.
fn excess(bytes: u64) -> u64 {
    let left = match bytes {
        n if n < MIB => return 0,
        // As many as fit share a segment; the last one keeps what is left.
        n if n < 10 * MIB => {
            let fitting = 20 * MIB / n;
            let left = 20 * MIB - fitting * n;
            return if left <= MIB { left / fitting } else { 0 };
        }
        n => n.next_multiple_of(2 * MIB) - n,
    };
    if left <= MIB { left } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole_and_rests_stay() {
        // Qwen3-4B in bfloat16: query, key and value; output; gate and up; down; embedding.
        for (rows, columns, left) in [(6144, 2560, 0), (2560, 4096, 0), (19_456, 2560, MIB), (2560, 9728, MIB / 2), (151_936, 2560, MIB / 8)] {
            assert_eq!(excess(rows * columns * 2), left, "{rows} x {columns}");
        }
        // More than 1 MiB is given back; small tensors are packed.
        assert_eq!((excess(10 * MIB + 1), excess(MIB - 1), excess(4 * MIB), excess(65 * MIB / 10)), (0, 0, 0, MIB / 2 / 3));
    }
}
