//! The block formats of ggml, which GGUF files store: rows of the one table for what no safetensors dtype is.
//!
//! Names, numbers and blocks: ggml of llama.cpp 0c1e57098 (`ggml/include/ggml.h`, enum `ggml_type`; `ggml/src/ggml-common.h`, the
//! `static_assert` of each block), equal to gguf-py 0.19 (`constants.py`, `GGML_QUANT_SIZES`) but for `Q8_1`, which that counts
//! with its older layout of 40 bytes, and `Q2_0`, which is newer. Flags: the cache types of `common/arg.cpp` (`kv_cache_types`).

use super::{Encoding, Format};

macro_rules! blocks {
    ($($id:literal $name:ident ($elements:literal, $bytes:literal) $flag:expr;)*) => {
        impl Encoding {
            $(
                #[doc = concat!("ggml's `", stringify!($name), "`: ", stringify!($elements), " values in ", stringify!($bytes), " bytes.")]
                pub const $name: Self = Self(&Format {
                    name: stringify!($name),
                    config_name: None,
                    flag: $flag,
                    ggml: Some($id),
                    block_elements: $elements,
                    block_bytes: $bytes,
                    is_float: false,
                });
            )*
        }

        /// Every format that only ggml has.
        pub(super) static BLOCKS: &[Encoding] = &[$(Encoding::$name),*];
    };
}

blocks! {
    2 Q4_0 (32, 18) Some("q4_0");
    3 Q4_1 (32, 20) Some("q4_1");
    6 Q5_0 (32, 22) Some("q5_0");
    7 Q5_1 (32, 24) Some("q5_1");
    8 Q8_0 (32, 34) Some("q8_0");
    9 Q8_1 (32, 36) None;
    10 Q2_K (256, 84) None;
    11 Q3_K (256, 110) None;
    12 Q4_K (256, 144) None;
    13 Q5_K (256, 176) None;
    14 Q6_K (256, 210) None;
    15 Q8_K (256, 292) None;
    16 IQ2_XXS (256, 66) None;
    17 IQ2_XS (256, 74) None;
    18 IQ3_XXS (256, 98) None;
    19 IQ1_S (256, 50) None;
    20 IQ4_NL (32, 18) Some("iq4_nl");
    21 IQ3_S (256, 110) None;
    22 IQ2_S (256, 82) None;
    23 IQ4_XS (256, 136) None;
    29 IQ1_M (256, 56) None;
    34 TQ1_0 (256, 54) None;
    35 TQ2_0 (256, 66) None;
    39 MXFP4 (32, 17) None;
    40 NVFP4 (64, 36) None;
    41 Q1_0 (128, 18) None;
    42 Q2_0 (64, 18) None;
}

impl Encoding {
    /// The format with this number in ggml (`enum ggml_type`), which GGUF files give; `None` for numbers that are free or were
    /// given up (4 and 5, 31 to 33, 36 to 38).
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::all().find(|encoding| encoding.ggml == Some(id))
    }

    /// The format with ggml's name (`Q4_K`, `BF16`), in any case: llama.cpp prints `q4_K`, its options take `q4_k`.
    pub fn from_ggml_name(name: &str) -> Option<Self> {
        Self::all().find(|encoding| encoding.ggml.is_some() && encoding.name.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits per weight as ggml states them (its comments on the blocks and `llama-quantize --help`), in 10,000ths.
    #[test]
    fn every_type_has_the_bits_that_ggml_states() {
        let stated = [
            ("F32", 320_000),
            ("F16", 160_000),
            ("BF16", 160_000),
            ("Q4_0", 45_000),
            ("Q4_1", 50_000),
            ("Q5_0", 55_000),
            ("Q5_1", 60_000),
            ("Q8_0", 85_000),
            ("Q8_1", 90_000),
            ("Q2_K", 26_250),
            ("Q3_K", 34_375),
            ("Q4_K", 45_000),
            ("Q5_K", 55_000),
            ("Q6_K", 65_625),
            ("Q8_K", 91_250),
            ("IQ1_S", 15_625),
            ("IQ1_M", 17_500),
            ("IQ2_XXS", 20_625),
            ("IQ2_XS", 23_125),
            ("IQ2_S", 25_625),
            ("IQ3_XXS", 30_625),
            ("IQ3_S", 34_375),
            ("IQ4_NL", 45_000),
            ("IQ4_XS", 42_500),
            ("TQ1_0", 16_875),
            ("TQ2_0", 20_625),
            ("MXFP4", 42_500),
            ("NVFP4", 45_000),
            ("Q1_0", 11_250),
            ("Q2_0", 22_500),
            ("I8", 80_000),
            ("I16", 160_000),
            ("I32", 320_000),
            ("I64", 640_000),
            ("F64", 640_000),
        ];
        for (name, bits) in stated {
            let encoding = Encoding::from_ggml_name(name).unwrap();
            assert_eq!(encoding.block_bytes * 8 * 10_000, bits * encoding.block_elements, "{name}");
            assert_eq!(Encoding::from_ggml(encoding.ggml.unwrap()), Some(encoding));
        }
        assert_eq!(Encoding::all().filter(|encoding| encoding.ggml.is_some()).count(), stated.len());
    }

    #[test]
    fn numbers_are_those_of_ggml() {
        for (id, encoding) in [(0, Encoding::F32), (1, Encoding::F16), (12, Encoding::Q4_K), (30, Encoding::BF16), (39, Encoding::MXFP4)] {
            assert_eq!(Encoding::from_ggml(id), Some(encoding));
        }
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(Encoding::from_ggml(id), None, "{id}");
        }
        assert_eq!(Encoding::from_ggml_name("q4_k"), Some(Encoding::Q4_K));
        assert_eq!(Encoding::from_ggml_name("U8"), None);
        assert_eq!(Encoding::from_flag("q8_0"), Some(Encoding::Q8_0));
    }
}
