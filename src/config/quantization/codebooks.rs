//! Methods whose weights are codes: numbers of entries in codebooks, or paths through a trellis.

use super::methods::{linears, preset, with_list};
use super::{About, Said};
use crate::quantity::Decimal;
use crate::weight_format::{Group, Method, Scheme, Takes};

/// AQLM: codes into one codebook or several for each matrix.
pub(super) fn aqlm(about: About<'_>) -> Option<Said> {
    let number = |key: &str, default: u64, most: u64| about.count(key).unwrap_or(default).min(most);
    let (inputs, outputs) = (number("in_group_size", 8, 1024), number("out_group_size", 1, 1024));
    let (books, bits) = (number("num_codebooks", 1, 64), number("nbits_per_codebook", 16, 16));
    // Codes of up to eight bits are kept in bytes, longer ones in sixteen.
    let code = if bits <= 8 { 8 } else { 16 };
    let per_weight = Decimal::ratio(books * code, inputs * outputs)?;
    let codebooks = books * (1 << bits) * inputs * outputs * 16;
    Some(with_list(about, Scheme { matrix_bits: codebooks, ..preset("aqlm-2bit")?.with_bits(per_weight) }))
}

/// VPTQ: the same over vectors, with residuals.
pub(super) fn vptq(about: About<'_>) -> Option<Said> {
    // The layers' entries are alike but for their shapes; the first stands for all.
    let (_, layer) = about.object("config_for_layers").or(about.object("shared_layer_config"))?.objects().next()?;
    let last = |key: &str| layer.get(key)?.as_array()?.last()?.as_i64().and_then(|n| u64::try_from(n).ok()).filter(|n| (1..=1 << 20).contains(n));
    let (centroids, length) = (last("num_centroids")?, last("vector_lens")?);
    let residual = last("num_res_centroids").unwrap_or(1);
    let bits = Decimal::ratio(u64::from(centroids.ilog2() + residual.ilog2()), length)?;
    let books = (centroids + if residual > 1 { residual } else { 0 }) * length * 16;
    let scheme = Scheme { method: Method::Vptq, matrix_bits: books, input_bits: 48, output_bits: 0, spread: 3, ..preset("aqlm-2bit")? };
    Some(linears(about, scheme.with_bits(bits)))
}

/// HIGGS: codes into one grid, with a scale for each group.
pub(super) fn higgs(about: About<'_>) -> Said {
    let bits = about.count("bits").unwrap_or(4).min(8);
    // Tables of 2^bits and of 2^bits × 2^bits × 2 values.
    let tables = ((1 << bits) + (1 << (2 * bits)) * 2) * 16;
    let scheme = Scheme { matrix_bits: tables, ..Scheme::codes(Method::Higgs, bits, Takes::LINEARS).scaled(about.group(Group::Inputs(256)), 16, 0) };
    linears(about, scheme)
}

/// A number of bits that need not be whole (`4.65`).
fn decimal(about: About<'_>, key: &str) -> Option<Decimal> {
    about.get(key)?.as_number()?.to_string().parse().ok()
}

/// EXL2 and EXL3: an average number of bits.
pub(super) fn exl(about: About<'_>, name: &str) -> Option<Said> {
    let scheme = preset(name)?.with_bits(decimal(about, "bits")?);
    let head = decimal(about, "head_bits").or(scheme.head_bits);
    let sixteen = Decimal::new(16, 0);
    Some(Said::one(Scheme { head_bits: head, takes: Takes { head: head != Some(sixteen), ..Takes::LAYERS }, ..scheme }, &[]))
}
