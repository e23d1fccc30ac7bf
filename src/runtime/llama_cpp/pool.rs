//! A compute buffer as ggml's allocator fills it: values are taken and given back in the order of the graph, each into the
//! smallest hole that holds it, and the buffer is as long as it ever had to be.
//!
//! Read from ggml (llama.cpp 0c1e57098): `ggml-alloc.c` (`ggml_dyn_tallocr_alloc`, `ggml_dyn_tallocr_free_bytes`).

use crate::formula::{Expr, Leaf, Source};
use crate::quantity::Overflow;

/// A factor of a size: `4,096 hidden_size`, and where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factor {
    pub count: u64,
    pub name: &'static str,
    pub from: From,
}

/// Where a factor is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// config.json.
    Config(&'static str),
    /// A setting or a rule of llama.cpp.
    Rule(&'static str),
    /// A constant of the formula.
    Formula,
}

impl Factor {
    pub(super) const fn config(count: u64, name: &'static str, key: &'static str) -> Self {
        Self { count, name, from: From::Config(key) }
    }

    pub(super) const fn rule(count: u64, name: &'static str, rule: &'static str) -> Self {
        Self { count, name, from: From::Rule(rule) }
    }

    pub(super) const fn of(count: u64, name: &'static str) -> Self {
        Self { count, name, from: From::Formula }
    }

    /// As a leaf of a formula.
    pub(super) fn leaf(self) -> Expr {
        match self.from {
            From::Config(key) => Expr::leaf(self.count, self.name, Source::Config(key.into())),
            From::Rule(rule) => Expr::leaf(self.count, self.name, Source::Runtime(rule)),
            From::Formula => Expr::named(self.count, self.name),
        }
    }
}

/// The most factors of a value.
const RANK: usize = 3;

/// A value of the graph: what it is, its shape and the bytes of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    what: &'static str,
    factors: [Option<Factor>; RANK],
    element: u64,
}

impl Value {
    /// A value of 4-byte elements; with more than three factors it does not compile.
    pub(super) fn new<const N: usize>(what: &'static str, factors: &[Factor; N]) -> Self {
        const { assert!(N <= RANK) }
        let mut own = [None; RANK];
        for (place, factor) in own.iter_mut().zip(factors) {
            *place = Some(*factor);
        }
        Self { what, factors: own, element: 4 }
    }

    /// The same with elements of another size.
    pub(super) const fn of_bytes(self, element: u64) -> Self {
        Self { element, ..self }
    }

    fn bytes(&self) -> Result<u64, Overflow> {
        self.factors.iter().flatten().try_fold(self.element, |product, factor| product.checked_mul(factor.count)).ok_or(Overflow)
    }

    /// `4,096 hidden_size × 512 tokens × 4 B of the residual`
    fn expr(&self) -> Expr {
        let factors = self.factors.iter().flatten().map(|factor| factor.leaf());
        let element = Expr::Leaf(Leaf { value: self.element, name: format!("B of {}", self.what).into(), source: None });
        Expr::Product(factors.chain([element]).collect())
    }
}

/// A value's place in a pool, until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    slot: usize,
    /// How many values were taken before.
    number: u32,
}

/// A value that is held, or was when the buffer was longest.
#[derive(Clone, Debug)]
struct Slot {
    number: u32,
    /// How many values had been taken when it was given back.
    given: Option<u32>,
    at: u64,
    size: u64,
    value: Value,
}

impl Slot {
    /// Whether it was held when the value with this number had been taken.
    fn was_held(&self, number: u32) -> bool {
        self.number <= number && self.given.is_none_or(|given| given > number)
    }
}

/// A stretch that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    at: u64,
    size: u64,
}

/// Values of a pool at once, in most graphs.
const USUAL: usize = 32;

/// One buffer. What it held when it was longest is not copied each time it grows: the slots of then are kept, the others are filled anew.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    alignment: u64,
    /// Holes in order; behind the last one the buffer may grow without end.
    holes: Vec<Hole>,
    slots: Vec<Slot>,
    /// Slots that nobody needs.
    spare: Vec<usize>,
    taken: u32,
    top: u64,
    /// The value that made it so long.
    at_top: Option<u32>,
}

impl Pool {
    /// An empty buffer whose values start at multiples of `alignment`.
    pub(super) fn new(alignment: u64) -> Self {
        let holes = vec![Hole { at: 0, size: u64::MAX }];
        Self { alignment, holes, slots: Vec::with_capacity(USUAL), spare: Vec::new(), taken: 0, top: 0, at_top: None }
    }

    /// Room for a value.
    pub(super) fn take(&mut self, value: Value) -> Result<Ticket, Overflow> {
        let size = value.bytes()?.checked_next_multiple_of(self.alignment).ok_or(Overflow)?;
        let last = self.holes.len() - 1;
        let fits = |(_, hole): &(usize, &Hole)| hole.size >= size;
        // The smallest that fits, the later of two alike; the open end only when no other does.
        let best = self.holes[..last].iter().enumerate().filter(fits).min_by_key(|(index, hole)| (hole.size, std::cmp::Reverse(*index)));
        let index = best.map_or(last, |(index, _)| index);
        let hole = &mut self.holes[index];
        let at = hole.at;
        let end = at.checked_add(size).ok_or(Overflow)?;
        (hole.at, hole.size) = (end, hole.size - size);
        if hole.size == 0 {
            self.holes.remove(index);
        }
        let number = self.taken;
        self.taken += 1;
        let held = Slot { number, given: None, at, size, value };
        let slot = match self.spare.pop() {
            Some(slot) => {
                self.slots[slot] = held;
                slot
            }
            None => {
                self.slots.push(held);
                self.slots.len() - 1
            }
        };
        if end > self.top {
            (self.top, self.at_top) = (end, Some(number));
        }
        Ok(Ticket { slot, number })
    }

    /// Gives a value's room back.
    pub(super) fn give(&mut self, ticket: Ticket) {
        let Some(slot) = self.slots.get_mut(ticket.slot).filter(|slot| slot.number == ticket.number && slot.given.is_none()) else { return };
        slot.given = Some(self.taken);
        let (at, size) = (slot.at, slot.size);
        if self.at_top.is_none_or(|top| !slot.was_held(top)) {
            self.spare.push(ticket.slot);
        }
        let next = self.holes.partition_point(|hole| hole.at < at);
        let touches_next = self.holes.get(next).is_some_and(|hole| at + size == hole.at);
        let touches_before = next > 0 && self.holes[next - 1].at + self.holes[next - 1].size == at;
        match (touches_before, touches_next) {
            (true, true) => {
                self.holes[next - 1].size = self.holes[next - 1].size.saturating_add(size).saturating_add(self.holes[next].size);
                self.holes.remove(next);
            }
            (true, false) => self.holes[next - 1].size += size,
            (false, true) => {
                let hole = &mut self.holes[next];
                (hole.at, hole.size) = (at, hole.size.saturating_add(size));
            }
            (false, false) => self.holes.insert(next, Hole { at, size }),
        }
    }

    /// What the next values will be placed by: holes, and where a value lies.
    pub(super) fn state(&self, of: Ticket) -> (Vec<Hole>, Option<u64>) {
        let slot = self.slots.get(of.slot).filter(|slot| slot.number == of.number && slot.given.is_none());
        (self.holes.clone(), slot.map(|slot| slot.at))
    }

    /// Its length in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.top
    }

    /// Its length, as the values that were held when it was longest; `None` when nothing ever was.
    pub(super) fn formula(&self) -> Option<Expr> {
        let top = self.at_top?;
        // What is smaller than a thousandth (positions, row numbers) is told with the gaps.
        let is_told = |slot: &&Slot| slot.was_held(top) && slot.size.saturating_mul(1000) >= self.top;
        let mut held: Vec<&Slot> = self.slots.iter().filter(is_told).collect();
        crate::order::sort_short(&mut held, |slot| slot.at);
        let mut parts: Vec<Expr> = held.iter().map(|slot| slot.value.expr()).collect();
        let told: u64 = held.iter().filter_map(|slot| slot.value.bytes().ok()).sum();
        if self.top > told {
            parts.push(Expr::leaf(
                self.top - told,
                "B of gaps and row numbers",
                Source::Runtime("ggml-alloc.c: values are placed into the smallest hole that holds them"),
            ));
        }
        Some(Expr::sum(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(size: u64) -> Value {
        Value::new("x", &[Factor::of(size, "")]).of_bytes(1)
    }

    #[test]
    fn the_smallest_hole_is_filled_and_the_end_grows_last() {
        let mut pool = Pool::new(1);
        let [a, b, c, _d] = [8, 2, 4, 1].map(|size| pool.take(value(size)).unwrap());
        pool.give(a);
        pool.give(c);
        pool.take(value(3)).unwrap(); // into the 4 bytes of c, not the 8 of a
        assert_eq!(pool.holes[..2], [Hole { at: 0, size: 8 }, Hole { at: 13, size: 1 }]);
        pool.give(b);
        assert_eq!(pool.holes[0], Hole { at: 0, size: 10 });
        pool.take(value(11)).unwrap();
        assert_eq!(pool.formula().unwrap().evaluate(), Ok(26));
        assert_eq!(pool.take(value(u64::MAX)), Err(Overflow));
    }
}
