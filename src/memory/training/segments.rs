//! What PyTorch's caching allocator holds after loading beyond the tensors themselves: it takes memory from the driver in segments
//! (c10/cuda/CUDACachingAllocator.cpp of torch 2.15).

use std::collections::BTreeMap;

use super::holdings::{Held, Holdings, is_quantised, stored};
use super::run::Run;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::Role;
use crate::quantity::{Bytes, MIB, Overflow};

/// `kMinBlockSize`: sizes are rounded up to this.
const BLOCK: u64 = 512;
/// `kSmallSize`: tensors up to this lie together in small segments; a rest that is no larger is not used for large tensors.
const SMALL: u64 = MIB;
/// `kSmallBuffer`, and `kRoundLarge`.
const STEP: u64 = 2 * MIB;
/// `kMinLargeAlloc`: from this on a tensor has a segment of its own.
const LARGE: u64 = 10 * MIB;
/// `kLargeBuffer`: a segment that tensors below that share.
const SHARED: u64 = 20 * MIB;

/// Segments while tensors are put into them: each into the smallest free block that it fits.
#[derive(Debug, Default)]
struct Segments {
    small: u64,
    reserved: u64,
    used: u64,
    /// Free blocks of segments for large tensors: how many of each size.
    free: BTreeMap<u64, u64>,
}

impl Segments {
    /// `count` tensors of `bytes` each.
    fn put(&mut self, bytes: u64, count: u64) -> Result<(), Overflow> {
        self.used = bytes.checked_mul(count).and_then(|all| all.checked_add(self.used)).ok_or(Overflow)?;
        let size = bytes.checked_next_multiple_of(BLOCK).ok_or(Overflow)?;
        if size <= SMALL {
            self.small = size.checked_mul(count).and_then(|all| all.checked_add(self.small)).ok_or(Overflow)?;
            return Ok(());
        }
        let mut left = count;
        while left > 0 {
            let Some((&block, _)) = self.free.range(size..).next() else {
                let segment = if size < LARGE { SHARED } else { size.checked_next_multiple_of(STEP).ok_or(Overflow)? };
                let segments = left.div_ceil(segment / size);
                self.reserved = segment.checked_mul(segments).and_then(|all| all.checked_add(self.reserved)).ok_or(Overflow)?;
                self.add_free(segment, segments);
                continue;
            };
            let blocks = self.free.remove(&block).unwrap_or_default();
            let taken = blocks.min(left);
            self.add_free(block, blocks - taken);
            self.add_free(block - size, taken);
            left -= taken;
        }
        Ok(())
    }

    fn add_free(&mut self, block: u64, count: u64) {
        if count > 0 && block > SMALL {
            let blocks = self.free.entry(block).or_default();
            *blocks = blocks.saturating_add(count);
        }
    }

    /// What is held of the driver.
    fn held(&self) -> Result<u64, Overflow> {
        self.small.checked_next_multiple_of(STEP).and_then(|small| small.checked_add(self.reserved)).ok_or(Overflow)
    }
}

/// What is free in the segments after loading; in a step activations use it. Nothing is said where ranks hold shares of tensors.
pub(super) fn entry(run: &Run, holdings: &Holdings) -> Result<Option<Entry>, Overflow> {
    if run.sharding.shares_weights() && run.world.shards > 1 || run.offload == crate::scenario::Offload::Params {
        return Ok(None);
    }
    let mut segments = Segments::default();
    // In the order of loading: what is outside of the layers, then layer by layer, by name (transformers 5.23 core_model_loading.py,
    // `dot_natural_key`).
    for unit in holdings.tensors.chunk_by(|one, next| one.unit == next.unit) {
        let mut sorted: Vec<&Held> = unit.iter().filter(|held| held.elements > 0 && held.times > 0).collect();
        // The standard sort: a network of maps has all of its blocks in one unit.
        sorted.sort_by_key(|held| held.tensor.name.as_str());
        let mut tensors: Vec<(u64, u64)> = Vec::new();
        for held in &sorted {
            let count = held.tensor.count.max(1);
            // transformers 5 keeps the matrices of all experts in one parameter, gates and ups together.
            if held.tensor.role.is_expert() && held.tensor.shape.len() > 1 && !is_quantised(run, held) {
                let pairs = match held.tensor.role {
                    Role::ExpertGate => 2,
                    Role::ExpertUp if sorted.iter().any(|other| other.tensor.role == Role::ExpertGate) => 0,
                    _ => 1,
                };
                let encoding = if held.is_trained { run.recipe.weight } else { run.base };
                tensors.push((encoding.bytes_for(held.elements.checked_mul(pairs).ok_or(Overflow)?)?.get(), pairs.min(1)));
                continue;
            }
            if held.is_trained {
                tensors.push((run.recipe.weight.bytes_for(held.elements / count)?.get(), count));
            } else {
                for (_, all, of) in stored(run, held, 1)? {
                    tensors.push((of.bytes(all)?.get() / count, count));
                }
            }
        }
        for _ in 0..unit.first().map_or(0, |held| held.times) {
            for &(bytes, count) in &tensors {
                segments.put(bytes, count)?;
            }
        }
    }
    for &(_, rows, columns, times) in &holdings.adapter_shapes {
        segments.put(run.recipe.weight.bytes_for(rows.checked_mul(columns).ok_or(Overflow)?)?.get(), times)?;
    }
    let rule = |what: &'static str| Source::Derived(what.into());
    let held = Expr::leaf(segments.held()?, "B of segments", rule("2 MiB for tensors up to 1 MiB, 20 MiB for those below 10 MiB, their own for larger ones"));
    let formula = held.minus(Expr::leaf(segments.used, "B of tensors", rule("every tensor that is loaded")));
    let source = "torch 2.15 c10/cuda/CUDACachingAllocator.cpp: segments that loaded tensors do not fill";
    let entry = Entry::exact(Term::Fragmentation, formula, Basis::Modelled, source, &[Stage::Load])?;
    let expected = entry.amount.expected;
    // transformers from 4.50 on asks for one segment first, which leaves nothing over; another order of tensors leaves more.
    Ok(Some(entry.with_band(Bytes::ZERO, Bytes(expected.get().saturating_mul(2)), Basis::Modelled)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_share_segments_by_their_size() {
        let held = |tensors: &[(u64, u64)]| {
            let mut segments = Segments::default();
            for &(bytes, count) in tensors {
                segments.put(bytes, count).unwrap();
            }
            segments.held().unwrap() / MIB
        };
        assert_eq!(held(&[(1, 1)]), 2);
        assert_eq!(held(&[(MIB, 3)]), 4);
        assert_eq!(held(&[(MIB + 1, 1)]), 20);
        assert_eq!(held(&[(9 * MIB, 3)]), 40);
        // Two of 8 MiB leave 4, into which one of 3 goes.
        assert_eq!(held(&[(8 * MIB, 2), (3 * MIB, 1)]), 20);
        assert_eq!(held(&[(8 * MIB, 2), (3 * MIB, 2)]), 40);
        assert_eq!(held(&[(11 * MIB, 4)]), 48);
        assert_eq!(held(&[(28 * MIB, 4), (1, 1)]), 114);
    }
}
