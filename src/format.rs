//! How a quantity is printed. Integer arithmetic only, so the page, the command line and the tests agree to the digit.

use crate::quantity::{Bytes, GB, GIB, ParamCount};

/// The unit in which sizes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// 2^30 bytes; what GPU tools print.
    #[default]
    Gib,
    /// 10^9 bytes; what model cards and file listings print.
    Gb,
}

impl Unit {
    /// `GiB` or `GB`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gib => "GiB",
            Self::Gb => "GB",
        }
    }

    /// Bytes in one unit.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Gib => GIB,
            Self::Gb => GB,
        }
    }

    /// The size in this unit without its name: two decimals below 10, else one (`0.46`, `13.5`, `134.6`).
    pub fn number(self, bytes: Bytes) -> String {
        let places = if bytes.get() < 10 * self.bytes() { 2 } else { 1 };
        fixed(bytes.get(), self.bytes(), places)
    }

    /// `13.5 to 14.1`; nothing where both ends read the same.
    pub fn range(self, low: Bytes, high: Bytes) -> Option<String> {
        let (low, high) = (self.number(low), self.number(high));
        (low != high).then(|| [low.as_str(), " to ", &high].concat())
    }

    /// The size with its unit: `13.5 GiB`.
    pub fn text(self, bytes: Bytes) -> String {
        format!("{} {}", self.number(bytes), self.name())
    }
}

/// `value / unit` rounded half up to `places` decimals, with thousands separators in the whole part.
pub fn fixed(value: u64, unit: u64, places: u32) -> String {
    let scale = 10u128.pow(places);
    let scaled = (u128::from(value) * scale + u128::from(unit) / 2) / u128::from(unit);
    let whole = grouped(narrow(scaled / scale));
    if places == 0 {
        return whole;
    }
    let width = usize::try_from(places).unwrap_or(0);
    format!("{whole}.{:0width$}", narrow(scaled % scale))
}

/// As 64 bits, the most there is where it is more: printing 128 bits takes code of its own.
fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// `14483464192` as `14,483,464,192`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A parameter count as people say it: `7.24 B`, `124 M`, `1.03 T`.
pub fn parameters(count: ParamCount) -> String {
    let count = count.get();
    for (unit, name) in [(1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")] {
        if count >= unit {
            let places = if count < 100 * unit { 2 } else { 0 };
            return format!("{} {name}", fixed(count, unit, places));
        }
    }
    count.to_string()
}

/// A token count as people say it where space is short: `512`, `4K`, `128K`, `1.5K`, `1M`.
pub fn tokens_short(tokens: u64) -> String {
    for (unit, name) in [(1 << 20, "M"), (1 << 10, "K")] {
        if tokens >= unit {
            let places = u32::from(!tokens.is_multiple_of(unit) && tokens < 100 * unit);
            return format!("{}{name}", fixed(tokens, unit, places));
        }
    }
    tokens.to_string()
}

/// `part / whole` in percent with one decimal: `80.6 %`.
pub fn percent(part: Bytes, whole: Bytes) -> String {
    percent_of(part.get(), whole.get())
}

/// A share of a count, with one decimal.
pub fn percent_of(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0 %".to_owned();
    }
    let per_mille = narrow((u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole));
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// A message as a sentence: a capital where it begins with a plain word, a full stop at its end.
pub fn sentence(message: &str) -> String {
    let word = message.split([' ', ':', ',']).next().unwrap_or_default();
    let mut letters = message.chars();
    let mut out = match letters.next() {
        Some(first) if word.bytes().all(|byte| byte.is_ascii_lowercase()) => format!("{}{}", first.to_ascii_uppercase(), letters.as_str()),
        _ => message.to_owned(),
    };
    if !out.ends_with(['.', '?', '!']) {
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_in_both_units() {
        let mistral = Bytes(14_483_464_192);
        assert_eq!(Unit::Gib.text(mistral), "13.5 GiB");
        assert_eq!(Unit::Gb.text(mistral), "14.5 GB");
        assert_eq!(Unit::Gib.text(Bytes(4 * GIB)), "4.00 GiB");
        assert_eq!(Unit::Gib.text(Bytes::ZERO), "0.00 GiB");
        assert_eq!(fixed(u64::MAX, 1, 0), "18,446,744,073,709,551,615");
    }

    #[test]
    fn counts_print_as_people_say_them() {
        assert_eq!(parameters(ParamCount(7_241_732_096)), "7.24 B");
        assert_eq!(parameters(ParamCount(124_439_808)), "124 M");
        assert_eq!(parameters(ParamCount(671_026_404_352)), "671 B");
        assert_eq!(parameters(ParamCount(12)), "12");
        assert_eq!(tokens_short(131_072), "128K");
        assert_eq!(tokens_short(45_312), "44.3K");
        assert_eq!(tokens_short(1 << 20), "1M");
        assert_eq!(percent(Bytes(806), Bytes(1000)), "80.6 %");
    }
}
