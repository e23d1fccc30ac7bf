//! What `convert_hf_to_gguf` makes of weights that are stored quantised: some it takes over as they are, most it computes back,
//! and at all others it stops.
//!
//! Read from llama.cpp in llama-cpp-python 0.3.36: `conversion/base.py` (`dequant_model`, `_generate_nvfp4_tensors`),
//! `gpt_oss.py`, `deepseek.py`, `kimi_k3.py` and `mimo.py`, which alone take over MXFP4.

use std::borrow::Cow;
use std::ops::Range;

use crate::encoding::Encoding;
use crate::model::{Anatomy, Assigned, Item, Quantization, is_taken};
use crate::quantity::Decimal;
use crate::weight_format::{Group, Method, Scheme};

/// What becomes of weights in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// They stay as they are, in this type.
    Kept(Encoding),
    /// They become values of the dtype.
    Computed,
}

/// A row of [`READ`].
struct Row {
    /// The method as configs name it.
    method: &'static str,
    /// The model types whose converter has it; empty for all.
    models: &'static [&'static str],
    /// The formats.
    is_read: fn(&Scheme) -> bool,
    fate: Fate,
}

const fn row(method: &'static str, models: &'static [&'static str], is_read: fn(&Scheme) -> bool, fate: Fate) -> Row {
    Row { method, models, is_read, fate }
}

/// All that the converter reads.
static READ: &[Row] = &[
    row("mxfp4", &["gpt_oss"], is_mxfp4, Fate::Kept(Encoding::MXFP4)),
    row("fp8", &["deepseek_v4", "deepseek_ref", "mimo_v2_flash", "mimo_v2"], is_mxfp4, Fate::Kept(Encoding::MXFP4)),
    row("compressed-tensors", &["kimi_k3"], is_mxfp4, Fate::Kept(Encoding::MXFP4)),
    row("compressed-tensors", &[], is_nvfp4, Fate::Kept(Encoding::NVFP4)),
    row("modelopt", &[], is_nvfp4, Fate::Kept(Encoding::NVFP4)),
    row("modelopt", &[], |scheme| scheme.method == Method::Fp8, Fate::Computed),
    row("fp8", &[], |scheme| scheme.method == Method::Fp8, Fate::Computed),
    // `float-quantized` and `int-quantized` by output or block, `pack-quantized` in groups whose inputs are in order.
    row("compressed-tensors", &[], |scheme| is_eight_bit(scheme) && matches!(scheme.group, Group::Row | Group::Block(..)), Fate::Computed),
    row("compressed-tensors", &[], |scheme| is_packed(scheme) && matches!(scheme.group, Group::Inputs(_)) && scheme.input_bits == 0, Fate::Computed),
    row("gptq", &[], |scheme| [2, 4, 8].iter().any(|bits| scheme.bits == Decimal::new(*bits, 0)), Fate::Computed),
    row("bitnet", &[], |_| true, Fate::Computed),
];

fn is_mxfp4(scheme: &Scheme) -> bool {
    scheme.method == Method::Mxfp && scheme.group == Group::Inputs(32) && scheme.bits == Decimal::new(4, 0)
}

fn is_nvfp4(scheme: &Scheme) -> bool {
    scheme.method == Method::Nvfp4 && scheme.group == Group::Inputs(16)
}

/// Codes in 32-bit words, whose shape stands beside them.
fn is_packed(scheme: &Scheme) -> bool {
    scheme.method == Method::CompressedTensors && scheme.matrix_bits > 0
}

fn is_eight_bit(scheme: &Scheme) -> bool {
    scheme.bits == Decimal::new(8, 0) && matches!(scheme.method, Method::Fp8 | Method::CompressedTensors) && !is_packed(scheme)
}

/// How experts are called that NVFP4 is not read of: `_generate_nvfp4_tensors` knows `gate_proj`, `up_proj` and `down_proj` alone.
const UNKNOWN_EXPERTS: [&str; 3] = [".w1.weight", ".w2.weight", ".w3.weight"];

/// The quantised weights of a model as the converter sees them.
pub struct Converted<'a> {
    quantization: Cow<'a, Quantization>,
    /// By the number of the format.
    fates: Vec<Fate>,
}

impl<'a> Converted<'a> {
    /// `None` where nothing is stored quantised.
    ///
    /// # Errors
    /// What the converter does not read, for people.
    pub fn of(anatomy: &'a Anatomy) -> Option<Result<Self, String>> {
        let quantization = anatomy.quantization.as_ref()?;
        Some(fates(anatomy, quantization).map(|fates| Self { quantization: Cow::Borrowed(quantization), fates }))
    }

    /// The same of weights whose format only the repository's name tells, as the method by this name stores them.
    ///
    /// # Errors
    /// What the converter does not read, for people.
    pub fn named(anatomy: &'a Anatomy, scheme: Scheme, method: &str) -> Result<Self, String> {
        let is_packed = |item: &Item<'_>| {
            is_taken(scheme.takes, item.is_main(), item.is_in_layer(), item.tensor) && item.matrix().is_ok_and(|matrix| scheme.fits(matrix.columns))
        };
        let assigned = anatomy.inventory().filter(is_packed).map(|item| Assigned { place: item.place, layers: item.layers, scheme: 0 });
        let quantization = Quantization { method: method.to_owned(), schemes: vec![scheme], assigned: assigned.collect() };
        fates(anatomy, &quantization).map(|fates| Self { quantization: Cow::Owned(quantization), fates })
    }

    /// The method, as configs name it.
    pub fn method(&self) -> &str {
        &self.quantization.method
    }

    /// The types of a tensor that stay as they are, by layer. A file of theirs has whole blocks.
    pub(super) fn kept(&self, item: &Item<'_>) -> Vec<(Range<u64>, Encoding)> {
        let columns = item.matrix().map_or(0, |matrix| matrix.columns);
        let here = self.quantization.of(item.place).iter();
        here.filter_map(|assigned| match self.fates.get(assigned.scheme)? {
            Fate::Kept(encoding) if columns.is_multiple_of(encoding.block_elements) => Some((assigned.layers.clone(), *encoding)),
            Fate::Kept(_) | Fate::Computed => None,
        })
        .collect()
    }

    /// The types that stay in the model's file, each once.
    pub fn types(&self, anatomy: &Anatomy) -> Vec<Encoding> {
        let mut all = Vec::new();
        for (_, encoding) in anatomy.inventory().filter(Item::is_main).flat_map(|item| self.kept(&item)) {
            if !all.contains(&encoding) {
                all.push(encoding);
            }
        }
        all
    }
}

/// What becomes of each format, or what the converter stops at.
fn fates(anatomy: &Anatomy, quantization: &Quantization) -> Result<Vec<Fate>, String> {
    let (method, schemes) = (quantization.method.as_str(), quantization.schemes.as_slice());
    let mut rows = READ.iter().filter(|row| row.method == method).peekable();
    if rows.peek().is_none() {
        return Err(format!("`{method}` weights"));
    }
    let rows: Vec<&Row> = rows.filter(|row| row.models.is_empty() || row.models.contains(&anatomy.model_type.as_str())).collect();
    let fate = |scheme: &Scheme| {
        let found = rows.iter().find(|row| (row.is_read)(scheme)).map(|row| row.fate);
        found.ok_or_else(|| format!("`{method}` weights of this kind ({scheme})"))
    };
    let fates: Vec<Fate> = schemes.iter().map(fate).collect::<Result<_, _>>()?;
    let is_one = schemes.len() < 2;
    if method == "compressed-tensors" && !is_one && !schemes.iter().all(is_nvfp4)
        || method == "gptq" && schemes.windows(2).any(|two| two[0].bits != two[1].bits)
    {
        return Err(format!("`{method}` weights in several formats"));
    }
    let is_unknown = |item: &Item<'_>| {
        let name = item.tensor.name.as_str();
        let is_kept = |scheme: usize| fates.get(scheme) == Some(&Fate::Kept(Encoding::NVFP4));
        UNKNOWN_EXPERTS.iter().any(|end| name.ends_with(end))
            && name.contains("experts.")
            && quantization.of(item.place).iter().any(|assigned| is_kept(assigned.scheme))
    };
    if anatomy.inventory().any(|item| is_unknown(&item)) {
        return Err("NVFP4 experts by these names (w1, w2, w3)".to_owned());
    }
    Ok(fates)
}
