//! Sizes and counts: `u64` newtypes that add only to their own kind, with checked arithmetic.
//!
//! Never `usize` (wasm32 has 32 bits) and never a float. Printing lives in [`crate::format`].

use serde::{Deserialize, Serialize};

/// A number became larger than 2^64 - 1, or a difference fell below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number is out of range: the sizes in this model are not possible")]
pub struct Overflow;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Sum, or [`Overflow`].
            pub fn plus(self, other: Self) -> Result<Self, Overflow> {
                self.0.checked_add(other.0).map(Self).ok_or(Overflow)
            }

            /// Difference, or [`Overflow`] when `other` is larger.
            pub fn minus(self, other: Self) -> Result<Self, Overflow> {
                self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
            }

            /// `times` copies, or [`Overflow`].
            pub fn times(self, times: u64) -> Result<Self, Overflow> {
                self.0.checked_mul(times).map(Self).ok_or(Overflow)
            }

            /// Sum of many, or [`Overflow`].
            pub fn total(parts: impl IntoIterator<Item = Self>) -> Result<Self, Overflow> {
                parts.into_iter().try_fold(Self::ZERO, Self::plus)
            }
        }
    };
}

quantity! {
    /// A size in bytes.
    Bytes
}
quantity! {
    /// A number of parameters (tensor elements that are learned).
    ParamCount
}

/// 2^20 bytes.
pub const MIB: u64 = 1 << 20;
/// 2^30 bytes.
pub const GIB: u64 = 1 << 30;
/// 10^9 bytes.
pub const GB: u64 = 1_000_000_000;

/// An exact decimal fraction such as 0.92: `digits / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, u32)", try_from = "(u64, u32)")]
pub struct Decimal {
    digits: u64,
    scale: u32,
}

impl Decimal {
    /// Decimal places that are kept; more are refused.
    const MAX_SCALE: u32 = 9;

    /// `digits / 10^scale`, e.g. `Decimal::new(92, 2)` is 0.92.
    ///
    /// # Panics
    /// When `scale` is above nine: for constants, at compile time.
    pub const fn new(mut digits: u64, mut scale: u32) -> Self {
        assert!(scale <= Self::MAX_SCALE);
        while scale > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            scale -= 1;
        }
        Self { digits, scale }
    }

    /// `numerator / denominator` to nine decimal places; `None` where that is not a number of this kind.
    pub fn ratio(numerator: u64, denominator: u64) -> Option<Self> {
        let digits = (u128::from(numerator) * 1_000_000_000 + u128::from(denominator) / 2).checked_div(u128::from(denominator))?;
        u64::try_from(digits).ok().map(|digits| Self::new(digits, Self::MAX_SCALE))
    }

    /// The numerator and the denominator (a power of ten).
    pub const fn parts(self) -> (u64, u64) {
        (self.digits, 10u64.pow(self.scale))
    }

    /// True for 0 < self <= 1.
    pub const fn is_fraction(self) -> bool {
        let (numerator, denominator) = self.parts();
        numerator > 0 && numerator <= denominator
    }

    /// `floor(self * value)`.
    pub fn floor_of(self, value: u64) -> Result<u64, Overflow> {
        let (numerator, denominator) = self.parts();
        u64::try_from(u128::from(value) * u128::from(numerator) / u128::from(denominator)).map_err(|_| Overflow)
    }

    /// `ceil(self * value)`.
    pub fn ceil_of(self, value: u64) -> Result<u64, Overflow> {
        let (numerator, denominator) = self.parts();
        let product = u128::from(value) * u128::from(numerator);
        u64::try_from(product.div_ceil(u128::from(denominator))).map_err(|_| Overflow)
    }
}

impl From<Decimal> for (u64, u32) {
    fn from(decimal: Decimal) -> Self {
        (decimal.digits, decimal.scale)
    }
}

impl TryFrom<(u64, u32)> for Decimal {
    type Error = Overflow;

    fn try_from((digits, scale): (u64, u32)) -> Result<Self, Overflow> {
        if scale <= Self::MAX_SCALE { Ok(Self::new(digits, scale)) } else { Err(Overflow) }
    }
}

/// The text is not a plain decimal number with at most nine decimal places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a decimal number such as 0.92")]
pub struct BadDecimal(pub String);

impl std::str::FromStr for Decimal {
    type Err = BadDecimal;

    fn from_str(text: &str) -> Result<Self, BadDecimal> {
        let bad = || BadDecimal(text.to_owned());
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let fraction = fraction.trim_end_matches('0');
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let scale = u32::try_from(fraction.len()).map_err(|_| bad())?;
        if scale > Self::MAX_SCALE || (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
            return Err(bad());
        }
        let digits = format!("0{whole}{fraction}").parse().map_err(|_| bad())?;
        Ok(Self::new(digits, scale))
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (_, denominator) = self.parts();
        let (whole, fraction) = (self.digits / denominator, self.digits % denominator);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let places = usize::try_from(self.scale).unwrap_or(0);
        write!(f, "{whole}.{fraction:0places$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_print_as_typed() {
        for (text, printed) in [("0.92", "0.92"), ("0.9", "0.9"), ("1", "1"), (".5", "0.5"), ("0.900", "0.9"), ("9.7", "9.7")] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), printed);
        }
        for bad in ["", ".", "-1", "1e3", "0,9", "0.1234567891", "NaN", "99999999999999999999"] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
        let utilization: Decimal = "0.92".parse().unwrap();
        assert_eq!(utilization, Decimal::new(9200, 4));
        assert_eq!(utilization.ceil_of(100), Ok(92));
        assert_eq!(utilization.ceil_of(101), Ok(93));
        assert_eq!(utilization.floor_of(101), Ok(92));
        assert!(utilization.is_fraction() && !Decimal::new(0, 0).is_fraction());
        assert_eq!(Decimal::ratio(17, 8), Some(Decimal::new(2125, 3)));
        assert_eq!((Decimal::ratio(2, 3), Decimal::ratio(1, 0)), (Some(Decimal::new(666_666_667, 9)), None));
    }

    #[test]
    fn sums_that_do_not_fit_are_errors() {
        assert_eq!(Bytes(u64::MAX).plus(Bytes(1)), Err(Overflow));
        assert_eq!(Bytes(1).minus(Bytes(2)), Err(Overflow));
        assert_eq!(Bytes(1 << 40).times(1 << 40), Err(Overflow));
        assert_eq!(Bytes::total([Bytes(1), Bytes(2)]), Ok(Bytes(3)));
    }
}
