//! How a quantised matrix is stored: codes, scales, zero points and whatever else the format keeps, as numbers.

use serde::{Deserialize, Serialize};

use super::Method;
use crate::quantity::{Bytes, Decimal, Overflow};

/// The weights that share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// All weights of one output.
    Row,
    /// This many inputs of one output; the last group of a row may be shorter.
    Inputs(u64),
    /// A block of outputs × inputs.
    Block(u64, u64),
    /// This many weights one after the other, whatever the shape of the matrix.
    Flat(u64),
    /// The whole matrix.
    Matrix,
}

impl Group {
    /// How many there are in a matrix.
    ///
    /// # Errors
    /// [`Overflow`] when the matrix has more than 2^64 - 1 weights.
    pub fn count(self, rows: u64, columns: u64) -> Result<u64, Overflow> {
        match self {
            Self::Row => Some(rows),
            Self::Inputs(inputs) => rows.checked_mul(columns.div_ceil(inputs.max(1))),
            Self::Block(outputs, inputs) => rows.div_ceil(outputs.max(1)).checked_mul(columns.div_ceil(inputs.max(1))),
            Self::Flat(weights) => rows.checked_mul(columns).map(|all| all.div_ceil(weights.max(1))),
            Self::Matrix => Some(1),
        }
        .ok_or(Overflow)
    }

    /// Whether the inputs of a row are whole groups.
    fn divides(self, columns: u64) -> bool {
        match self {
            Self::Inputs(inputs) | Self::Block(_, inputs) => columns.is_multiple_of(inputs.max(1)),
            Self::Row | Self::Flat(_) | Self::Matrix => true,
        }
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Row => f.write_str("one scale per output"),
            Self::Inputs(inputs) => write!(f, "groups of {inputs}"),
            Self::Block(outputs, inputs) => write!(f, "blocks of {outputs} × {inputs}"),
            Self::Flat(weights) => write!(f, "blocks of {weights}"),
            Self::Matrix => f.write_str("one scale per matrix"),
        }
    }
}

/// Which matrices a format takes. Norms, biases, positions, convolutions and recurrent parameters are never taken.
#[allow(clippy::struct_excessive_bools)] // one answer for each kind of matrix
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takes {
    /// Routed experts.
    pub experts: bool,
    /// The other linear layers of the language model's layers.
    pub linears: bool,
    /// The output head, where it is a matrix of its own.
    pub head: bool,
    /// The token embedding.
    pub embedding: bool,
    /// Routers of mixtures of experts.
    pub routers: bool,
    /// Linear layers of towers and projectors, and those outside of layers.
    pub others: bool,
}

impl Takes {
    /// Linear layers of the language model's layers, nothing else.
    pub const LAYERS: Self = Self { experts: true, linears: true, head: false, embedding: false, routers: false, others: false };
    /// Routed experts alone.
    pub const EXPERTS: Self = Self { linears: false, ..Self::LAYERS };
    /// The same and the output head.
    pub const LAYERS_AND_HEAD: Self = Self { head: true, ..Self::LAYERS };
    /// Every linear layer but head and routers.
    pub const LINEARS: Self = Self { others: true, ..Self::LAYERS };
    /// Every linear layer, head and routers included: what formats take whose configs list the exceptions.
    pub const ALL_LINEARS: Self = Self { head: true, routers: true, ..Self::LINEARS };
    /// The language model whole: linear layers, embedding, head, routers.
    pub const LANGUAGE: Self = Self { head: true, embedding: true, routers: true, ..Self::LAYERS };

    /// What is taken and what is left, for people.
    pub fn said(self) -> (String, String) {
        let all = [
            (self.linears, "attention and dense layers"),
            (self.experts, "experts"),
            (self.embedding, "embedding"),
            (self.head, "head"),
            (self.routers, "routers"),
            (self.others, "towers"),
            (false, "norms and biases"),
        ];
        let named = |wanted| all.into_iter().filter(|(is_taken, _)| *is_taken == wanted).map(|(_, name)| name).collect::<Vec<_>>().join(", ");
        (named(true), named(false))
    }
}

/// A quantised format: what it keeps of a matrix of `rows` outputs and `columns` inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    /// Who made it.
    pub method: Method,
    /// Bits of one weight as they are packed.
    pub bits: Decimal,
    /// The weights that share a scale.
    pub group: Group,
    /// Bits of one group's scale.
    pub scale_bits: u64,
    /// Bits of one group's zero point or bias; 0 without.
    pub zero_bits: u64,
    /// Scales that share a second, 32-bit scale; 0 without.
    pub nested: u64,
    /// Bits kept per input.
    pub input_bits: u64,
    /// Bits kept per output.
    pub output_bits: u64,
    /// Bits kept per matrix.
    pub matrix_bits: u64,
    /// Which matrices it takes.
    pub takes: Takes,
    /// Bits of the head's weights, where they differ.
    pub head_bits: Option<Decimal>,
    /// Bits of the routers' weights, where they differ.
    pub router_bits: Option<Decimal>,
    /// Whether a matrix whose inputs are not whole groups stays as it was.
    pub is_strict: bool,
    /// Whether an embedding that is the head too gets a quantised copy for that.
    pub copies_tied_head: bool,
    /// How far the bits of a matrix may be from the average that the name says, in percent.
    pub spread: u64,
}

/// What there is one of: what tensor parallelism splits with a matrix, and what it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Every weight, or group of weights.
    Weights,
    /// Every input.
    Inputs,
    /// Every output.
    Outputs,
    /// The matrix.
    Matrix,
}

/// What a quantised matrix consists of: `count` things of `bits` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What they are, in the plural.
    pub what: &'static str,
    /// What there is one of.
    pub along: Along,
    /// How many.
    pub count: u64,
    /// Bits of one.
    pub bits: Decimal,
}

impl Scheme {
    /// Plain codes without any scale: where every other format starts.
    pub const fn codes(method: Method, bits: u64, takes: Takes) -> Self {
        Self {
            method,
            bits: Decimal::new(bits, 0),
            group: Group::Matrix,
            scale_bits: 0,
            zero_bits: 0,
            nested: 0,
            input_bits: 0,
            output_bits: 0,
            matrix_bits: 0,
            takes,
            head_bits: None,
            router_bits: None,
            is_strict: false,
            copies_tied_head: false,
            spread: 0,
        }
    }

    /// The same with a scale for each group, and a zero point where that has bits.
    #[must_use]
    pub const fn scaled(self, group: Group, scale_bits: u64, zero_bits: u64) -> Self {
        Self { group, scale_bits, zero_bits, ..self }
    }

    /// The same with other bits.
    #[must_use]
    pub const fn with_bits(self, bits: Decimal) -> Self {
        Self { bits, ..self }
    }

    /// The same for matrices of which two weights in four are zero: half of the codes, and two bits for the place of each that is left.
    #[must_use]
    pub fn two_of_four(self) -> Self {
        let (digits, unit) = self.bits.parts();
        Self { bits: Decimal::ratio(digits + 2 * unit, 2 * unit).unwrap_or(self.bits), ..self }
    }

    /// What a matrix consists of, for people: `4 bits a weight; groups of 128: 16-bit scale, 4-bit zero point; 32 bits an input`.
    pub fn layout(&self) -> String {
        let mut parts = vec![format!("{} bits a weight", self.bits)];
        if self.scale_bits > 0 {
            let nested = if self.nested > 0 { format!(" (of which {} share a 32-bit scale)", self.nested) } else { String::new() };
            let zero = if self.zero_bits > 0 { format!(", {}-bit zero point", self.zero_bits) } else { String::new() };
            parts.push(format!("{}: {}-bit scale{nested}{zero}", self.group, self.scale_bits));
        }
        for (bits, what) in [(self.input_bits, "an input"), (self.output_bits, "an output"), (self.matrix_bits, "a matrix")] {
            if bits > 0 {
                parts.push(format!("{bits} bits {what}"));
            }
        }
        for (bits, what) in [(self.head_bits, "head"), (self.router_bits, "routers")] {
            parts.extend(bits.map(|bits| format!("{what} at {bits} bits")));
        }
        parts.join("; ")
    }

    /// Whether a matrix with this many inputs can be stored so.
    pub fn fits(&self, columns: u64) -> bool {
        !self.is_strict || self.group.divides(columns)
    }

    /// What `count` matrices of this shape consist of; parts that are not there are left out.
    ///
    /// # Errors
    /// [`Overflow`] when a count passes 2^64 - 1.
    pub fn parts(&self, count: u64, rows: u64, columns: u64) -> Result<impl Iterator<Item = Part> + use<>, Overflow> {
        let whole = |bits| Decimal::new(bits, 0);
        let groups = self.group.count(rows, columns)?;
        let nested = if self.nested == 0 { 0 } else { groups.div_ceil(self.nested) };
        let of = |what, along, one: u64, bits| Ok(Part { what, along, count: one.checked_mul(count).ok_or(Overflow)?, bits });
        let of_groups = match self.group {
            Group::Row => Along::Outputs,
            Group::Matrix => Along::Matrix,
            Group::Inputs(_) | Group::Block(..) | Group::Flat(_) => Along::Weights,
        };
        let parts = [
            of("quantised weights", Along::Weights, rows.checked_mul(columns).ok_or(Overflow)?, self.bits)?,
            of("scales", of_groups, groups, whole(self.scale_bits))?,
            of("zero points", of_groups, groups, whole(self.zero_bits))?,
            of("scales of scales", of_groups, nested, whole(32))?,
            of("entries per input", Along::Inputs, columns, whole(self.input_bits))?,
            of("entries per output", Along::Outputs, rows, whole(self.output_bits))?,
            of("constants per matrix", Along::Matrix, 1, whole(self.matrix_bits))?,
        ];
        Ok(parts.into_iter().filter(|part| part.count > 0 && part.bits != Decimal::new(0, 0)))
    }

    /// The size of one matrix.
    ///
    /// # Errors
    /// [`Overflow`] when it passes 2^64 - 1.
    pub fn bytes(&self, rows: u64, columns: u64) -> Result<Bytes, Overflow> {
        self.parts(1, rows, columns)?.try_fold(Bytes::ZERO, |sum, part| sum.plus(part.bytes()?))
    }
}

impl Part {
    /// Its size.
    ///
    /// # Errors
    /// [`Overflow`] when it passes 2^64 - 1.
    pub fn bytes(&self) -> Result<Bytes, Overflow> {
        Ok(Bytes(self.bits.ceil_of(self.count)?.div_ceil(8)))
    }
}

impl std::fmt::Display for Scheme {
    /// `GPTQ, 4 bits, groups of 128`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} bits", self.method.name(), self.bits)?;
        if self.scale_bits > 0 {
            write!(f, ", {}", self.group)?;
        }
        if self.nested > 0 { f.write_str(", double quantisation") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_round_up_and_count_as_the_formats_do() {
        for (group, count) in
            [(Group::Row, 3), (Group::Inputs(64), 9), (Group::Block(2, 100), 4), (Group::Flat(64), 7), (Group::Matrix, 1), (Group::Inputs(0), 390)]
        {
            assert_eq!(group.count(3, 130), Ok(count), "{group}");
        }
        assert_eq!(Group::Flat(64).count(1 << 40, 1 << 40), Err(Overflow));
    }

    #[test]
    fn parts_are_what_there_is() {
        let scheme = Scheme { input_bits: 32, ..Scheme::codes(Method::Gptq, 4, Takes::LAYERS).scaled(Group::Inputs(128), 16, 4) };
        let parts: Vec<_> = scheme.parts(2, 256, 512).unwrap().map(|part| (part.what, part.count)).collect();
        assert_eq!(parts, [("quantised weights", 262_144), ("scales", 2048), ("zero points", 2048), ("entries per input", 1024)]);
        assert_eq!(scheme.bytes(256, 512), Ok(Bytes(65_536 + 2048 + 512 + 2048)));
        assert_eq!(scheme.to_string(), "GPTQ, 4 bits, groups of 128");
        assert_eq!(scheme.layout(), "4 bits a weight; groups of 128: 16-bit scale, 4-bit zero point; 32 bits an input");
        let strict = Scheme { is_strict: true, ..scheme };
        assert!(strict.fits(256) && !strict.fits(200) && scheme.fits(200));
        assert!(scheme.parts(1 << 40, 1 << 20, 1 << 20).is_err());
    }
}
