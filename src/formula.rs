//! The computation itself: one tree that is evaluated to give a number and printed to explain it, so the two cannot drift.
//!
//! Every leaf knows where its value came from.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::fixed::{self, Text};
use crate::format::grouped;
use crate::quantity::{Bytes, Decimal, Overflow};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A key of `config.json`.
    Config(Cow<'static, str>),
    /// The headers of the weight files.
    Headers,
    /// A default, with the rule that gives it.
    Default(Cow<'static, str>),
    /// The user's choice.
    User(#[serde(deserialize_with = "fixed::text")] Text),
    /// The rules of a runtime, with the version and file they were read from.
    Runtime(#[serde(deserialize_with = "fixed::text")] Text),
    /// The GPU's row in the catalogue.
    Gpu(Cow<'static, str>),
    /// A published measurement.
    Measured(#[serde(deserialize_with = "fixed::text")] Text),
    /// Follows from other values.
    Derived(Cow<'static, str>),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(key) => write!(f, "config.json › {key}"),
            Self::Headers => f.write_str("headers of the weight files"),
            Self::Default(rule) => write!(f, "default: {rule}"),
            Self::User(what) => write!(f, "your choice: {what}"),
            Self::Runtime(rule) => f.write_str(rule),
            Self::Gpu(what) => write!(f, "GPU catalogue: {what}"),
            Self::Measured(what) => write!(f, "measured: {what}"),
            Self::Derived(rule) => f.write_str(rule),
        }
    }
}

/// A named value with its source: `8 KV heads`, from `config.json › num_key_value_heads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The value.
    pub value: u64,
    /// What it counts, in the plural where that reads well; empty for a bare number.
    pub name: Cow<'static, str>,
    /// Where it came from; `None` for constants of arithmetic ("keys and values: 2").
    pub source: Option<Source>,
}

/// An expression over non-negative integers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expr {
    /// A value.
    Leaf(Leaf),
    /// `a + b + ...`
    Sum(Vec<Expr>),
    /// `a × b × ...`
    Product(Vec<Expr>),
    /// `a - b`
    Difference(Box<Expr>, Box<Expr>),
    /// `ceil(a / b)`
    CeilDiv(Box<Expr>, Box<Expr>),
    /// `floor(a / b)`
    FloorDiv(Box<Expr>, Box<Expr>),
    /// The largest.
    Max(Vec<Expr>),
    /// The smallest.
    Min(Vec<Expr>),
    /// `ceil(fraction × of)`, the fraction with what it is and where it came from.
    Fraction {
        /// The factor.
        ratio: Decimal,
        /// What the factor is; empty for a bare number.
        #[serde(deserialize_with = "fixed::text")]
        name: Text,
        /// Where the factor came from.
        source: Source,
        /// What it is applied to.
        of: Box<Expr>,
    },
    /// The bytes of `count` values in an encoding.
    Encoded {
        /// How many values.
        count: Box<Expr>,
        /// Their encoding.
        encoding: Encoding,
    },
}

impl Expr {
    /// A named value with its source.
    pub fn leaf(value: u64, name: impl Into<Cow<'static, str>>, source: Source) -> Self {
        Self::Leaf(Leaf { value, name: name.into(), source: Some(source) })
    }

    /// A bare constant of the formula itself.
    pub const fn constant(value: u64) -> Self {
        Self::Leaf(Leaf { value, name: Cow::Borrowed(""), source: None })
    }

    /// A bare constant with a name.
    pub const fn named(value: u64, name: &'static str) -> Self {
        Self::Leaf(Leaf { value, name: Cow::Borrowed(name), source: None })
    }

    /// One part as it is, several as a sum.
    pub fn sum(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 { parts.swap_remove(0) } else { Self::Sum(parts) }
    }

    /// The bytes of `count` values in `encoding`.
    pub fn encoded(count: Self, encoding: Encoding) -> Self {
        Self::Encoded { count: Box::new(count), encoding }
    }

    /// `ceil(self / divisor)`.
    #[must_use]
    pub fn ceil_div(self, divisor: Self) -> Self {
        Self::CeilDiv(Box::new(self), Box::new(divisor))
    }

    /// `floor(self / divisor)`.
    #[must_use]
    pub fn floor_div(self, divisor: Self) -> Self {
        Self::FloorDiv(Box::new(self), Box::new(divisor))
    }

    /// `self - other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self::Difference(Box::new(self), Box::new(other))
    }

    /// The value, or [`Overflow`] when a step leaves the range of `u64` or divides by zero.
    pub fn evaluate(&self) -> Result<u64, Overflow> {
        let quotient = |top: &Self, bottom: &Self| Ok((top.evaluate()?, Some(bottom.evaluate()?).filter(|&n| n > 0).ok_or(Overflow)?));
        match self {
            Self::Leaf(leaf) => Ok(leaf.value),
            Self::Sum(parts) => parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.evaluate()?).ok_or(Overflow)),
            Self::Product(parts) => parts.iter().try_fold(1u64, |product, part| product.checked_mul(part.evaluate()?).ok_or(Overflow)),
            Self::Difference(a, b) => a.evaluate()?.checked_sub(b.evaluate()?).ok_or(Overflow),
            Self::CeilDiv(a, b) => quotient(a, b).map(|(a, b)| a.div_ceil(b)),
            Self::FloorDiv(a, b) => quotient(a, b).map(|(a, b)| a / b),
            Self::Max(parts) => parts.iter().try_fold(0u64, |max, part| Ok(max.max(part.evaluate()?))),
            Self::Min(parts) => parts.iter().try_fold(u64::MAX, |min, part| Ok(min.min(part.evaluate()?))),
            Self::Fraction { ratio, of, .. } => ratio.ceil_of(of.evaluate()?),
            Self::Encoded { count, encoding } => encoding.bytes_for(count.evaluate()?).map(Bytes::get),
        }
    }

    /// Every leaf that has a source, in reading order, each once: `("8 KV heads", source)`.
    pub fn sources(&self) -> Vec<(String, &Source)> {
        let mut found = Vec::new();
        self.visit(&mut |text, source| {
            if !found.iter().any(|(seen, _)| *seen == text) {
                found.push((text, source));
            }
        });
        found
    }

    fn visit<'a>(&'a self, see: &mut impl FnMut(String, &'a Source)) {
        match self {
            Self::Leaf(leaf) => {
                if let Some(source) = &leaf.source {
                    see(leaf.to_string(), source);
                }
            }
            Self::Sum(parts) | Self::Product(parts) | Self::Max(parts) | Self::Min(parts) => parts.iter().for_each(|part| part.visit(see)),
            Self::Difference(a, b) | Self::CeilDiv(a, b) | Self::FloorDiv(a, b) => {
                a.visit(see);
                b.visit(see);
            }
            Self::Fraction { ratio, name, source, of } => {
                see(labelled(&ratio.to_string(), name), source);
                of.visit(see);
            }
            Self::Encoded { count, .. } => count.visit(see),
        }
    }

    /// Whether the expression must be bracketed as a factor.
    fn is_sum(&self) -> bool {
        match self {
            Self::Sum(parts) | Self::Product(parts) if parts.len() == 1 => parts[0].is_sum(),
            Self::Sum(parts) => !parts.is_empty(),
            Self::Difference(..) => true,
            _ => false,
        }
    }

    /// Whether the expression must be bracketed as a divisor.
    fn is_product(&self) -> bool {
        match self {
            Self::Sum(parts) | Self::Product(parts) if parts.len() == 1 => parts[0].is_product(),
            Self::Product(parts) => !parts.is_empty(),
            Self::Fraction { .. } | Self::Encoded { .. } => true,
            _ => false,
        }
    }

    /// `name(a / b)`
    fn write_quotient(f: &mut std::fmt::Formatter<'_>, name: &str, a: &Self, b: &Self) -> std::fmt::Result {
        write!(f, "{name}(")?;
        a.write_factor(f)?;
        f.write_str(" / ")?;
        if b.is_product() {
            write!(f, "({b})")?;
        } else {
            b.write_factor(f)?;
        }
        f.write_str(")")
    }

    fn write_factor(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_sum() { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

fn labelled(value: &str, name: &str) -> String {
    if name.is_empty() { value.to_owned() } else { format!("{value} {name}") }
}

fn write_list(f: &mut std::fmt::Formatter<'_>, parts: &[Expr], separator: &str, factor: bool) -> std::fmt::Result {
    if parts.is_empty() {
        return f.write_str("0");
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        if factor && parts.len() > 1 {
            part.write_factor(f)?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl std::fmt::Display for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&labelled(&grouped(self.value), &self.name))
    }
}

impl std::fmt::Display for Expr {
    /// The expression with its values in it: `32 layers × 2 × 8 KV heads × 128 × 2 B × 8,192 tokens`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let call = |f: &mut std::fmt::Formatter<'_>, name: &str, parts: &[Self]| {
            write!(f, "{name}(")?;
            write_list(f, parts, ", ", false)?;
            f.write_str(")")
        };
        match self {
            Self::Leaf(leaf) => write!(f, "{leaf}"),
            Self::Sum(parts) => write_list(f, parts, " + ", false),
            Self::Product(parts) if parts.is_empty() => f.write_str("1"),
            Self::Product(parts) => write_list(f, parts, " × ", true),
            Self::Difference(a, b) => {
                write!(f, "{a} − ")?;
                b.write_factor(f)
            }
            Self::CeilDiv(a, b) => Self::write_quotient(f, "ceil", a, b),
            Self::FloorDiv(a, b) => Self::write_quotient(f, "floor", a, b),
            Self::Max(parts) => call(f, "max", parts),
            Self::Min(parts) => call(f, "min", parts),
            Self::Fraction { ratio, name, of, .. } => {
                write!(f, "{} × ", labelled(&ratio.to_string(), name))?;
                of.write_factor(f)
            }
            Self::Encoded { count, encoding } => {
                count.write_factor(f)?;
                match encoding.block_elements {
                    1 => write!(f, " × {} B", encoding.block_bytes),
                    elements => write!(f, " × {} B per {elements}", encoding.block_bytes),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a printed formula as one who knows arithmetic and nothing else.
    struct Read<'a>(&'a str);

    impl Read<'_> {
        fn take(&mut self, token: &str) -> bool {
            let rest = self.0.trim_start().strip_prefix(token);
            self.0 = rest.unwrap_or(self.0);
            rest.is_some()
        }

        fn list(&mut self) -> Option<Vec<u64>> {
            let mut values = vec![self.sum()?];
            while self.take(",") {
                values.push(self.sum()?);
            }
            self.take(")").then_some(values)
        }

        fn sum(&mut self) -> Option<u64> {
            let mut value = self.product()?;
            loop {
                if self.take("+") {
                    value = value.checked_add(self.product()?)?;
                } else if self.take("−") {
                    value = value.checked_sub(self.product()?)?;
                } else {
                    return Some(value);
                }
            }
        }

        fn product(&mut self) -> Option<u64> {
            let mut value = self.factor()?;
            while self.take("×") {
                value = value.checked_mul(self.factor()?)?;
            }
            Some(value)
        }

        fn factor(&mut self) -> Option<u64> {
            for (name, of) in [("max(", u64::max as fn(u64, u64) -> u64), ("min(", u64::min)] {
                if self.take(name) {
                    return self.list()?.into_iter().reduce(of);
                }
            }
            for (name, of) in [("ceil(", u64::div_ceil as fn(u64, u64) -> u64), ("floor(", |a, b| a / b)] {
                if self.take(name) {
                    // `a × b / c` is read from the left.
                    let top = self.product()?;
                    let bottom = if self.take("/") { self.factor()? } else { return None };
                    return (self.take(")") && bottom > 0).then(|| of(top, bottom));
                }
            }
            if self.take("(") {
                let value = self.sum()?;
                return self.take(")").then_some(value);
            }
            let text = self.0.trim_start();
            let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
            let (digits, rest) = text.split_at(end);
            self.0 = rest;
            let value = digits.parse().ok()?;
            self.take("tokens");
            Some(value)
        }
    }

    fn any_formula() -> impl Strategy<Value = Expr> {
        let leaf = (0u64..900, any::<bool>()).prop_map(|(value, is_named)| Expr::named(value, if is_named { "tokens" } else { "" }));
        leaf.prop_recursive(4, 24, 3, |part| {
            let parts = || prop::collection::vec(part.clone(), 1..4);
            prop_oneof![
                parts().prop_map(Expr::Sum),
                parts().prop_map(Expr::Product),
                parts().prop_map(Expr::Max),
                parts().prop_map(Expr::Min),
                (part.clone(), part.clone()).prop_map(|(a, b)| a.minus(b)),
                (part.clone(), part.clone()).prop_map(|(a, b)| a.ceil_div(b)),
                (part.clone(), part).prop_map(|(a, b)| a.floor_div(b)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_comes_to_the_same(formula in any_formula()) {
            // What has no value in whole numbers may have one when it is read in another order.
            let Ok(value) = formula.evaluate() else { return Ok(()) };
            let text = formula.to_string();
            let mut reader = Read(&text);
            prop_assert_eq!((reader.sum(), reader.0), (Some(value), ""), "{}", text);
        }
    }

    fn kv_cache() -> Expr {
        Expr::encoded(
            Expr::Product(vec![
                Expr::leaf(32, "layers", Source::Config("num_hidden_layers".into())),
                Expr::constant(2),
                Expr::leaf(8, "KV heads", Source::Config("num_key_value_heads".into())),
                Expr::leaf(128, "", Source::Default("hidden_size / num_attention_heads".into())),
                Expr::leaf(32_768, "tokens", Source::User("context")),
            ]),
            Encoding::F16,
        )
    }

    #[test]
    fn the_same_tree_is_evaluated_and_printed() {
        assert_eq!(kv_cache().evaluate(), Ok(4_294_967_296));
        assert_eq!(kv_cache().to_string(), "32 layers × 2 × 8 KV heads × 128 × 32,768 tokens × 2 B");
        let sources: Vec<_> = kv_cache().sources().iter().map(|(text, source)| format!("{text}: {source}")).collect();
        assert_eq!(sources[1], "8 KV heads: config.json › num_key_value_heads");
        assert_eq!(sources.len(), 4);
    }

    #[test]
    fn brackets_appear_where_they_are_needed() {
        let sum = Expr::Sum(vec![Expr::constant(1), Expr::constant(2)]);
        let product = Expr::Product(vec![sum.clone(), Expr::constant(3)]);
        assert_eq!((product.to_string(), product.evaluate()), ("(1 + 2) × 3".to_owned(), Ok(9)));
        let rest = Expr::constant(9).minus(sum.clone());
        assert_eq!((rest.to_string(), rest.evaluate()), ("9 − (1 + 2)".to_owned(), Ok(6)));
        let blocks = Expr::constant(33).ceil_div(Expr::constant(16));
        assert_eq!((blocks.to_string(), blocks.evaluate()), ("ceil(33 / 16)".to_owned(), Ok(3)));
        let alone = Expr::Product(vec![Expr::Product(vec![sum.clone()]), Expr::constant(3)]);
        assert_eq!((alone.to_string(), alone.evaluate()), ("(1 + 2) × 3".to_owned(), Ok(9)));
        let by_product = sum.clone().ceil_div(Expr::Product(vec![Expr::constant(2), Expr::constant(2)]));
        assert_eq!((by_product.to_string(), by_product.evaluate()), ("ceil((1 + 2) / (2 × 2))".to_owned(), Ok(1)));
        let share = Expr::Fraction { ratio: Decimal::new(92, 2), name: "", source: Source::User("x"), of: Box::new(sum) };
        assert_eq!((share.to_string(), share.evaluate()), ("0.92 × (1 + 2)".to_owned(), Ok(3)));
    }

    #[test]
    fn what_does_not_fit_is_an_error_not_a_wrong_number() {
        let huge = Expr::Product(vec![Expr::constant(u64::MAX), Expr::constant(2)]);
        assert_eq!(huge.evaluate(), Err(Overflow));
        assert_eq!(Expr::constant(1).minus(Expr::constant(2)).evaluate(), Err(Overflow));
        assert_eq!(Expr::constant(1).ceil_div(Expr::constant(0)).evaluate(), Err(Overflow));
    }
}
