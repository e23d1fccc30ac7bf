//! How values are stored: one table, (block elements, block bytes), for every dtype of safetensors and every type of ggml.
//!
//! Never a float of bytes per parameter: 6-bit floats are 4 elements in 3 bytes, 4-bit floats 2 in 1, `Q4_K` 256 in 144.

mod ggml;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::format::fixed;
use crate::quantity::{Bytes, Overflow};

/// `block_elements` values occupy `block_bytes` bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// The name that safetensors headers or ggml use (`BF16`, `Q4_K`).
    pub name: &'static str,
    /// The name of the same type in `config.json` and on the command line, where it has one (`bfloat16`, `bf16`).
    pub config_name: Option<&'static str>,
    /// Its short name on the command line and in links.
    pub flag: Option<&'static str>,
    /// Its number in ggml (`enum ggml_type`), where it has one.
    pub ggml: Option<u32>,
    /// Values in one block.
    pub block_elements: u64,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Whether values of the type are floating point (loaders cast between these).
    pub is_float: bool,
}

/// A storage format: a row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Encoding(&'static Format);

impl PartialEq for Encoding {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.0 == other.0
    }
}
impl Eq for Encoding {}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <&str>::deserialize(deserializer)?;
        Self::all().find(|encoding| encoding.name == name).ok_or_else(|| D::Error::custom("not a storage format"))
    }
}

impl std::ops::Deref for Encoding {
    type Target = Format;

    fn deref(&self) -> &Format {
        self.0
    }
}

const fn format(
    name: &'static str,
    config_name: Option<&'static str>,
    flag: Option<&'static str>,
    (block_elements, block_bytes): (u64, u64),
    is_float: bool,
) -> Format {
    Format { name, config_name, flag, ggml: None, block_elements, block_bytes, is_float }
}

/// A row that ggml has too, with its number there.
const fn ggml(id: u32, format: Format) -> Format {
    Format { ggml: Some(id), ..format }
}

/// Every dtype of safetensors 0.8 (`safetensors/src/tensor.rs`, enum `Dtype`).
static DTYPES: &[Format] = &[
    ggml(30, format("BF16", Some("bfloat16"), Some("bf16"), (1, 2), true)),
    ggml(1, format("F16", Some("float16"), Some("fp16"), (1, 2), true)),
    ggml(0, format("F32", Some("float32"), Some("fp32"), (1, 4), true)),
    ggml(28, format("F64", Some("float64"), None, (1, 8), true)),
    format("F8_E4M3", Some("float8_e4m3fn"), Some("fp8"), (1, 1), true),
    format("F8_E5M2", Some("float8_e5m2"), Some("fp8_e5m2"), (1, 1), true),
    format("F8_E4M3FNUZ", Some("float8_e4m3fnuz"), None, (1, 1), true),
    format("F8_E5M2FNUZ", Some("float8_e5m2fnuz"), None, (1, 1), true),
    format("F8_E8M0", Some("float8_e8m0fnu"), None, (1, 1), true),
    format("F6_E2M3", None, None, (4, 3), true),
    format("F6_E3M2", None, None, (4, 3), true),
    format("F4", Some("float4_e2m1fn_x2"), None, (2, 1), true),
    ggml(24, format("I8", Some("int8"), None, (1, 1), false)),
    format("U8", Some("uint8"), None, (1, 1), false),
    format("BOOL", Some("bool"), None, (1, 1), false),
    ggml(25, format("I16", Some("int16"), None, (1, 2), false)),
    format("U16", Some("uint16"), None, (1, 2), false),
    ggml(26, format("I32", Some("int32"), None, (1, 4), false)),
    format("U32", Some("uint32"), None, (1, 4), false),
    ggml(27, format("I64", Some("int64"), None, (1, 8), false)),
    format("U64", Some("uint64"), None, (1, 8), false),
    format("C64", Some("complex64"), None, (1, 8), false),
];

impl Encoding {
    /// bfloat16.
    pub const BF16: Self = Self(&DTYPES[0]);
    /// IEEE half precision.
    pub const F16: Self = Self(&DTYPES[1]);
    /// IEEE single precision.
    pub const F32: Self = Self(&DTYPES[2]);
    /// 8-bit float, 4 exponent bits.
    pub const F8_E4M3: Self = Self(&DTYPES[4]);

    /// Every format, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::dtypes().chain(ggml::BLOCKS.iter().copied())
    }

    fn dtypes() -> impl Iterator<Item = Self> {
        DTYPES.iter().map(Self)
    }

    /// The format with this safetensors name (`BF16`).
    pub fn from_safetensors(name: &str) -> Option<Self> {
        Self::dtypes().find(|encoding| encoding.name == name)
    }

    /// The format with this `config.json` name (`bfloat16`, also `torch.bfloat16`).
    pub fn from_config(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        let name = match name {
            "half" => "float16",
            "float" => "float32",
            other => other,
        };
        Self::all().find(|encoding| encoding.config_name == Some(name))
    }

    /// The format with this command-line name (`bf16`).
    pub fn from_flag(name: &str) -> Option<Self> {
        Self::all().find(|encoding| encoding.flag.is_some_and(|flag| flag.eq_ignore_ascii_case(name)))
    }

    /// The size of `count` values; the last block may be partly used.
    pub fn bytes_for(self, count: u64) -> Result<Bytes, Overflow> {
        count.div_ceil(self.block_elements).checked_mul(self.block_bytes).map(Bytes).ok_or(Overflow)
    }

    /// Bits of one value with its share of the block's scales: `16`, `4.5`, `2.0625`.
    pub fn bits(self) -> String {
        let places = (0..4).find(|places| (self.block_bytes * 8 * 10u64.pow(*places)).is_multiple_of(self.block_elements)).unwrap_or(4);
        fixed(self.block_bytes * 8, self.block_elements, places)
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.flag.unwrap_or(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_row() {
        for encoding in Encoding::all() {
            assert_eq!(Encoding::all().filter(|other| other.name == encoding.name).count(), 1, "{}", encoding.name);
            if let Some(name) = encoding.config_name {
                assert_eq!(Encoding::from_config(name), Some(encoding));
            }
            if let Some(flag) = encoding.flag {
                assert_eq!(Encoding::from_flag(flag), Some(encoding));
            }
        }
        for dtype in Encoding::dtypes() {
            assert_eq!(Encoding::from_safetensors(dtype.name), Some(dtype));
        }
        assert_eq!(Encoding::from_safetensors("Q4_K"), None);
        assert_eq!(Encoding::from_config("torch.bfloat16"), Some(Encoding::BF16));
        assert_eq!(Encoding::from_safetensors("Q9"), None);
    }

    #[test]
    fn blocks_round_up_and_overflow_is_an_error() {
        let f4 = Encoding::from_safetensors("F4").unwrap();
        let f6 = Encoding::from_safetensors("F6_E2M3").unwrap();
        let bits: Vec<String> = [Encoding::BF16, f6, Encoding::Q4_K, Encoding::IQ2_XXS].map(Encoding::bits).into();
        assert_eq!(bits, ["16", "6", "4.5", "2.0625"]);
        assert_eq!(f4.bytes_for(3), Ok(Bytes(2)));
        assert_eq!(f6.bytes_for(8), Ok(Bytes(6)));
        assert_eq!(f6.bytes_for(5), Ok(Bytes(6)));
        assert_eq!(Encoding::BF16.bytes_for(7_241_732_096), Ok(Bytes(14_483_464_192)));
        assert_eq!(Encoding::F32.bytes_for(u64::MAX), Err(Overflow));
    }
}
