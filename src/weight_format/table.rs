//! The formats that have a name on the command line: one table.

use super::Method;
use super::scheme::{Group, Scheme, Takes};
use crate::quantity::Decimal;

/// A format with its names.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name on the command line, in links and in JSON; where it ends with `-`, a number of bits follows (`exl2-4.65`).
    pub name: &'static str,
    /// How matrices are stored.
    pub scheme: Scheme,
    /// Where the layout was read.
    pub source: &'static str,
}

const fn whole(bits: u64) -> Decimal {
    Decimal::new(bits, 0)
}

/// `qweight`, `qzeros`, `scales` and, always stored, `g_idx`.
const fn gptq(bits: u64) -> Scheme {
    Scheme { input_bits: 32, ..Scheme::codes(Method::Gptq, bits, Takes::LAYERS).scaled(Group::Inputs(128), 16, bits) }
}

/// HQQ packs three bits by tens into 32, five and six into bytes (`BitPack`).
pub const fn hqq_bits(bits: u64) -> Decimal {
    match bits {
        3 => Decimal::new(32, 1),
        5..=7 => whole(8),
        bits => whole(bits),
    }
}

const fn hqq(bits: u64) -> Scheme {
    Scheme::codes(Method::Hqq, 0, Takes::LINEARS).with_bits(hqq_bits(bits)).scaled(Group::Flat(64), 16, 16)
}

/// bitsandbytes keeps a table of 16 float32 codes with every matrix.
const fn bnb4(method: Method) -> Scheme {
    Scheme { matrix_bits: 16 * 32, ..Scheme::codes(method, 4, Takes::LINEARS).scaled(Group::Flat(64), 32, 0) }
}

/// Scales and biases in 16 bits; routers are kept at 8 bits in groups of 64.
const fn mlx(bits: u64) -> Scheme {
    Scheme { router_bits: Some(whole(8)), is_strict: true, ..Scheme::codes(Method::Mlx, bits, Takes::LANGUAGE).scaled(Group::Inputs(64), 16, 16) }
}

/// Micro-scaled floats: one E8M0 byte for 32 values.
const fn mx(method: Method, bits: u64, takes: Takes) -> Scheme {
    Scheme::codes(method, bits, takes).scaled(Group::Inputs(32), 8, 0)
}

/// One FP8 scale for 16 values; a float32 scale of the weights and one of the inputs.
const fn nvfp4(takes: Takes) -> Scheme {
    Scheme { matrix_bits: 64, ..Scheme::codes(Method::Nvfp4, 4, takes).scaled(Group::Inputs(16), 8, 0) }
}

const fn named(name: &'static str, scheme: Scheme, source: &'static str) -> Named {
    Named { name, scheme, source }
}

const GPTQMODEL: &str = "gptqmodel 7.7.0 nn_modules/qlinear/__init__.py (PackedGroupedQuantLinear): qweight, qzeros, scales, g_idx";
const AUTOAWQ: &str = "autoawq 0.2.9 awq/modules/linear/gemm.py (WQLinear_GEMM): qweight, qzeros, scales";
const BNB: &str = "bitsandbytes 0.50.2 functional.py (quantize_4bit: blocks of 64, nested blocks of 256), nn/modules.py (Params4bit, Int8Params)";
const TENSORS: &str = "compressed-tensors 0.20.0 compressors/ and quantization/quant_scheme.py";
const FINE_FP8: &str = "transformers 5.23 integrations/finegrained_fp8.py (FP8Linear)";
const HQQ: &str = "hqq 0.2.8 core/quantize.py (Quantizer.quantize, BitPack)";
const MLX: &str = "mlx-lm 0.32.2 utils.py (quantize_model); mlx nn.QuantizedLinear: weight, scales, biases";
const TORCHAO: &str = "torchao 0.18.0 quantization/quant_api.py";
const QUANTO: &str = "optimum-quanto tensor/weights (qint8 per output; qint4 and qint2 in groups of 128 with scale and shift)";

/// Every named format. Where a config says more (groups, zero points, exceptions), [`crate::config`] starts from these rows.
pub static NAMED: &[Named] = &[
    named("awq-int4", Scheme::codes(Method::Awq, 4, Takes::LAYERS).scaled(Group::Inputs(128), 16, 4), AUTOAWQ),
    named("gptq-int4", gptq(4), GPTQMODEL),
    named("gptq-int8", gptq(8), GPTQMODEL),
    named("gptq-int3", gptq(3), GPTQMODEL),
    named("gptq-int2", gptq(2), GPTQMODEL),
    named("w4a16", Scheme { matrix_bits: 128, ..Scheme::codes(Method::CompressedTensors, 4, Takes::LAYERS).scaled(Group::Inputs(128), 16, 0) }, TENSORS),
    named("w8a8-int8", Scheme::codes(Method::CompressedTensors, 8, Takes::LAYERS).scaled(Group::Row, 16, 0), TENSORS),
    named("fp8", Scheme { matrix_bits: 32, ..Scheme::codes(Method::Fp8, 8, Takes::LAYERS) }, FINE_FP8),
    named("fp8-dynamic", Scheme::codes(Method::Fp8, 8, Takes::LAYERS).scaled(Group::Row, 16, 0), TENSORS),
    named("fp8-block", Scheme::codes(Method::Fp8, 8, Takes::LAYERS).scaled(Group::Block(128, 128), 32, 0), FINE_FP8),
    named("nvfp4", nvfp4(Takes::LAYERS), "compressed-tensors 0.20.0 compressors/nvfp4; modelopt 0.47.0 export/convert_hf_config.py"),
    named("mxfp4", mx(Method::Mxfp, 4, Takes::LAYERS), "transformers 5.23 integrations/mxfp4.py; compressed-tensors 0.20.0 compressors/mxfp4"),
    named("mxfp6", mx(Method::Mxfp, 6, Takes::LAYERS), "compressed-tensors 0.20.0 compressors/mxfp6"),
    named("mxfp8", mx(Method::Mxfp, 8, Takes::LAYERS), "compressed-tensors 0.20.0 compressors/mxfp8"),
    named("int8", Scheme::codes(Method::LlmInt8, 8, Takes::LINEARS).scaled(Group::Row, 32, 0), BNB),
    named("nf4", bnb4(Method::Nf4), BNB),
    // The scales in 8 bits, with a mean, and a table of 256 codes besides.
    named("nf4-dq", Scheme { nested: 256, scale_bits: 8, matrix_bits: (16 + 256 + 1) * 32, ..bnb4(Method::Nf4) }, BNB),
    named("fp4", bnb4(Method::Fp4), BNB),
    named("hqq-4bit", hqq(4), HQQ),
    named("hqq-3bit", hqq(3), HQQ),
    named("hqq-2bit", hqq(2), HQQ),
    named("hqq-8bit", hqq(8), HQQ),
    named("mlx-4bit", mlx(4), MLX),
    named("mlx-2bit", mlx(2), MLX),
    named("mlx-3bit", mlx(3), MLX),
    named("mlx-5bit", mlx(5), MLX),
    named("mlx-6bit", mlx(6), MLX),
    named("mlx-8bit", mlx(8), MLX),
    named("mlx-mxfp4", Scheme { is_strict: true, ..mx(Method::MlxMxfp, 4, Takes::LANGUAGE) }, MLX),
    named("mlx-nvfp4", Scheme { is_strict: true, ..Scheme::codes(Method::MlxNvfp4, 4, Takes::LANGUAGE).scaled(Group::Inputs(16), 8, 0) }, MLX),
    named("mlx-mxfp8", Scheme { is_strict: true, ..mx(Method::MlxMxfp, 8, Takes::LANGUAGE) }, MLX),
    // The number is the average over the layers' matrices with everything that is kept beside the codes.
    named(
        "exl2-",
        Scheme { head_bits: Some(whole(6)), copies_tied_head: true, spread: 2, ..Scheme::codes(Method::Exl2, 4, Takes::LAYERS_AND_HEAD) },
        "exllamav2 0.3.2 conversion/optimize.py (weight_budget), convert_exl2.py (head 6 bits)",
    ),
    named(
        "exl3-",
        Scheme {
            head_bits: Some(whole(6)),
            copies_tied_head: true,
            input_bits: 16,
            output_bits: 16,
            spread: 1,
            ..Scheme::codes(Method::Exl3, 4, Takes::LAYERS_AND_HEAD)
        },
        "exllamav3 1.6.5 modules/quant/exl3.py (trellis, suh, svh), conversion/allocation.py",
    ),
    named("torchao-int4", Scheme::codes(Method::TorchAo, 4, Takes::LINEARS).scaled(Group::Inputs(128), 16, 16), TORCHAO),
    named("torchao-int8", Scheme::codes(Method::TorchAo, 8, Takes::LINEARS).scaled(Group::Row, 16, 0), TORCHAO),
    named("torchao-fp8", Scheme::codes(Method::TorchAoFp8, 8, Takes::LINEARS).scaled(Group::Row, 32, 0), TORCHAO),
    named("quanto-int8", Scheme::codes(Method::Quanto, 8, Takes::LINEARS).scaled(Group::Row, 16, 0), QUANTO),
    named("quanto-int4", Scheme::codes(Method::Quanto, 4, Takes::LINEARS).scaled(Group::Inputs(128), 16, 16), QUANTO),
    named("quanto-int2", Scheme::codes(Method::Quanto, 2, Takes::LINEARS).scaled(Group::Inputs(128), 16, 16), QUANTO),
    named("eetq-int8", Scheme::codes(Method::Eetq, 8, Takes::LINEARS).scaled(Group::Row, 16, 0), "transformers 5.23 integrations/eetq.py (EetqLinear)"),
    // One codebook of 2^16 entries of eight float16 values for every matrix.
    named(
        "aqlm-2bit",
        Scheme { output_bits: 16, matrix_bits: (1 << 16) * 8 * 16, ..Scheme::codes(Method::Aqlm, 2, Takes::LAYERS) },
        "aqlm inference.py (QuantizedLinear): codes, codebooks, scales; transformers 5.23 AqlmConfig (1 × 16 bits for 8 weights)",
    ),
    named(
        "bitnet",
        Scheme { matrix_bits: 16, ..Scheme::codes(Method::BitNet, 2, Takes::LAYERS) },
        "transformers 5.23 integrations/bitnet.py (BitLinear): four weights in a byte",
    ),
];

impl Named {
    /// The row with this name.
    pub fn get(name: &str) -> Option<&'static Self> {
        NAMED.iter().find(|row| row.name == name)
    }

    /// Whether a number of bits follows its name.
    pub fn is_open(&self) -> bool {
        self.name.ends_with('-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits_per_weight(name: &str) -> f64 {
        let bytes = Named::get(name).unwrap().scheme.bytes(4096, 4096).unwrap().get();
        #[allow(clippy::cast_precision_loss)]
        let bits = bytes as f64 * 8.0 / (4096.0 * 4096.0);
        bits
    }

    /// What the formats are known for, on a matrix of 4,096 × 4,096.
    #[test]
    fn bits_per_weight_are_the_known_ones() {
        for (name, bits) in [
            ("awq-int4", 4.15625),
            ("gptq-int4", 4.164_06),
            ("gptq-int8", 8.195_31),
            ("gptq-int3", 3.156_25),
            ("w4a16", 4.125),
            ("fp8", 8.0),
            ("fp8-block", 8.001_95),
            ("nf4", 4.500_03),
            ("nf4-dq", 4.127_47),
            ("int8", 8.007_81),
            ("nvfp4", 4.5),
            ("mxfp4", 4.25),
            ("mxfp8", 8.25),
            ("hqq-4bit", 4.5),
            ("hqq-3bit", 3.7),
            ("mlx-4bit", 4.5),
            ("mlx-8bit", 8.5),
            ("mlx-nvfp4", 4.5),
            ("torchao-int4", 4.25),
            ("exl3-", 4.007_81),
        ] {
            assert!((bits_per_weight(name) - bits).abs() < 1e-4, "{name}: {}", bits_per_weight(name));
        }
    }

    #[test]
    fn names_are_plain_and_single() {
        for (index, row) in NAMED.iter().enumerate() {
            assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{}", row.name);
            assert!(NAMED[..index].iter().all(|before| before.name != row.name), "{}", row.name);
        }
    }
}
