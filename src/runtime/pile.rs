//! Weights that lie in one memory, as a formula.

use super::asked::Asked;
use crate::formula::{Expr, Source};
use crate::quantity::Overflow;
use crate::scenario::Weights;
use crate::weights::{Stored, Unit};

/// Things of one kind and unit: what they are, what one takes, how many there are.
type Row = (&'static str, Unit, u64);

/// What lies in one memory.
#[derive(Default)]
pub(super) struct Pile {
    rows: Vec<Row>,
    /// Bytes that the memory's owner adds.
    pub padding: u64,
}

impl Pile {
    /// Adds a tensor in so many of its layers.
    pub(super) fn add(&mut self, stored: &Stored, times: u64) -> Result<(), Overflow> {
        let all = stored.times().max(1);
        for piece in stored.pieces()? {
            let count = u64::try_from(u128::from(piece.count) * u128::from(times) / u128::from(all)).map_err(|_| Overflow)?;
            match self.rows.iter_mut().find(|(what, unit, _)| (*what, *unit) == (piece.what, piece.unit)) {
                Some((.., sum)) => *sum = sum.checked_add(count).ok_or(Overflow)?,
                None => self.rows.push((piece.what, piece.unit, count)),
            }
        }
        Ok(())
    }

    /// Its size; `None` where nothing lies. `padding` says why bytes are added.
    pub(super) fn formula(&self, asked: &Asked, is_read: bool, padding: &'static str) -> Option<Expr> {
        if self.rows.is_empty() {
            return None;
        }
        let source =
            || if is_read { Source::Headers } else { Source::Derived(format!("counted from config.json ({})", asked.model.anatomy.model_type).into()) };
        let of_row = |&(what, unit, count): &Row| {
            let count = Expr::leaf(count, what, source());
            let said = if asked.scenario.weights == Weights::AsStored { Source::Config("quantization_config".into()) } else { Source::User("weights") };
            let times = |ratio, name, of| Expr::Fraction { ratio, name, source: said, of: Box::new(of) };
            match unit {
                Unit::Value(encoding) => Expr::encoded(count, encoding),
                Unit::Bits(bits) => times(bits, "bits", count).ceil_div(Expr::constant(8)),
                Unit::Bytes(bytes) => times(bytes, "bytes per parameter", count),
            }
        };
        let mut parts: Vec<Expr> = self.rows.iter().map(of_row).collect();
        if self.padding > 0 {
            parts.push(Expr::leaf(self.padding, "B of padding", Source::Runtime(padding)));
        }
        Some(Expr::sum(parts))
    }
}
