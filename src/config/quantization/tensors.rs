//! compressed-tensors and its kin: groups of modules, each with the arguments of its weights.

use std::cell::Cell;

use super::methods::preset;
use super::patterns::Patterns;
use super::{About, Said, Sparse};
use crate::quantity::Decimal;
use crate::weight_format::{Group, Scheme, Takes};

/// The layout that the arguments of weights describe (`num_bits`, `type`, `strategy`, `group_size`, `symmetric` ...), stored in
/// `format`.
pub(super) fn layout(weights: About<'_>, format: Option<&str>) -> Option<Scheme> {
    let bits = weights.count("num_bits").filter(|bits| *bits <= 8)?;
    let is_float = weights.text("type") == Some("float");
    let strategy = weights.text("strategy");
    let block: Option<Vec<u64>> = weights.get("block_structure").and_then(|sizes| sizes.as_array()?.iter().map(serde_json::Value::as_u64).collect());
    let group = match (strategy, block.as_deref(), weights.count("group_size")) {
        (_, Some([rows, columns]), _) => Group::Block(*rows, *columns),
        (Some("channel"), ..) => Group::Row,
        (_, None, Some(size)) => Group::Inputs(size),
        _ if strategy == Some("group") => Group::Row,
        _ => Group::Matrix,
    };
    if is_float {
        return Some(match (bits, group) {
            (4, Group::Inputs(16)) => preset("nvfp4")?,
            (4, _) => preset("mxfp4")?.scaled(group, 8, 0),
            (6, _) => preset("mxfp6")?,
            (8, Group::Inputs(32)) => preset("mxfp8")?,
            (8, group) => preset("fp8-dynamic")?.scaled(group, 16, 0),
            _ => return None,
        });
    }
    let is_packed = bits < 8 && format != Some("naive-quantized") || format == Some("pack-quantized");
    let zero_bits = if weights.flag("symmetric").unwrap_or(true) {
        0
    } else if is_packed {
        bits
    } else {
        8
    };
    let scheme = if is_packed { preset("w4a16")? } else { preset("w8a8-int8")? };
    // Activation order that is not undone in the file keeps each input's group.
    let is_ordered = matches!(weights.text("actorder"), Some("group")) || weights.flag("actorder") == Some(true);
    let stored_bits = if is_packed { bits } else { 8 };
    Some(Scheme { input_bits: if is_ordered { 32 } else { 0 }, bits: Decimal::new(stored_bits, 0), ..scheme.scaled(group, 16, zero_bits) })
}

/// Classes that stand for all modules of a kind.
fn is_class(target: &str) -> bool {
    !target.starts_with("re:") && !target.contains('.') && target.starts_with(|letter: char| letter.is_ascii_uppercase())
}

/// What is said of files that only older engines read: vLLM 0.33.0 `compressed_tensors.py:_parse_sparsity_config` refuses them and 0.22.0 has
/// no `compressed_tensors_24.py`; transformers 4.57.1 `quantizer_compressed_tensors.py` decompresses the model, 5.23's knows no sparsity.
const SPARSE: &str = "two weights of every four are left out of this model's files (2:4 sparsity), and it is counted as the files have it: vLLM 0.33, \
    SGLang 0.5.23 and transformers 5.23 do not load such files; vLLM 0.20 does, and transformers 4.57 restores the whole matrices, which take more";

/// The same of Marlin's 2:4 files, which were for vLLM alone: neither `gptq_marlin_24` nor the format `marlin-24` is known to vLLM 0.33.
pub(super) const MARLIN_24: &str = "two weights of every four are left out of this model's files (2:4 sparsity in Marlin's layout), and it is counted as \
    the files have it: vLLM 0.33, SGLang 0.5.23 and transformers 5.23 do not load such files, only older versions of vLLM do";

/// `config_groups` with `targets` and `weights`, less what `ignore` lists; `sparsity_config` has lists of its own.
pub(super) fn read(about: About<'_>) -> Option<Said> {
    let sparsity = about.object("sparsity_config");
    let form = sparsity.and_then(|sparsity| sparsity.text("format")).unwrap_or("dense");
    let is_marlin = Cell::new(false);
    let mut said = read_groups(about, Takes::ALL_LINEARS, |weights, format| {
        let scheme = layout(weights, format)?;
        match (format, form) {
            // The weights as they were, rounded: not packed.
            (Some("dense"), _) => None,
            (Some("marlin-24"), _) => {
                is_marlin.set(true);
                Some(scheme.two_of_four())
            }
            (_, "dense" | "sparse-24-bitmask") => Some(scheme),
            // How many weights are zero is not said.
            _ => None,
        }
    })?;
    // `compressed_tensors/utils/match.py` compares whole names; lists name the parents of what is quantised too.
    said.rules = said.rules.into_iter().map(|(patterns, scheme)| (patterns.exactly(), scheme)).collect();
    if is_marlin.get() {
        said.note = Some(MARLIN_24);
    } else if form == "sparse-24-bitmask" {
        let listed = |key: &str| sparsity.and_then(|sparsity| sparsity.texts(key));
        let targets = listed("targets").filter(|targets| !targets.iter().any(|target| is_class(target)));
        said.halve(Sparse { targets: targets.map(Patterns::new), ignored: Patterns::new(listed("ignore").unwrap_or_default()) });
        said.note = Some(SPARSE);
    }
    Some(said)
}

fn read_groups(about: About<'_>, takes: Takes, scheme: impl Fn(About<'_>, Option<&str>) -> Option<Scheme>) -> Option<Said> {
    let mut said = Said { only_named: true, ..Said::default() };
    said.rule(about.left().unwrap_or_default(), None);
    let mut by_class = None;
    for (_, group) in about.object("config_groups")?.objects() {
        let Some(weights) = group.object("weights") else { continue };
        let scheme = Scheme { takes, ..scheme(weights, group.text("format").or(about.text("format")))? };
        let targets = group.texts("targets").unwrap_or_else(|| vec!["Linear"]);
        let takes_embedding = targets.iter().any(|target| target.contains("Embedding"));
        if targets.iter().any(|target| is_class(target)) {
            by_class = by_class.or(Some(Scheme { takes: Takes { embedding: takes_embedding, ..takes }, ..scheme }));
        }
        let named: Vec<&str> = targets.into_iter().filter(|target| !is_class(target)).collect();
        if !named.is_empty() {
            said.rule(named, Some(scheme));
        }
    }
    if let Some(scheme) = by_class {
        said.only_named = false;
        // What no rule names has the first format.
        said.schemes.insert(0, scheme);
        for (_, number) in &mut said.rules {
            *number = number.map(|number| number + 1);
        }
    }
    Some(said)
}

/// The algorithms of modelopt.
fn algorithm(name: &str, about: About<'_>) -> Option<Scheme> {
    // Scales of weights and of inputs in float32.
    let nvfp4 = || preset("nvfp4").map(|scheme| Scheme { group: about.group(scheme.group), ..scheme });
    let per_tensor = || Some(Scheme { matrix_bits: 64, ..preset("fp8")? });
    Some(match name {
        "FP8" => per_tensor()?,
        "FP8_PER_CHANNEL_PER_TOKEN" | "FP8_PC_PT" => preset("fp8")?.scaled(Group::Row, 32, 0),
        "FP8_PB_WO" | "FP8_PB_REAL" | "FP8_BLOCK" | "FP8_BLOCK_SCALES" => preset("fp8-block")?,
        "NVFP4" | "W4A16_NVFP4" | "NVFP4_AWQ" | "W4A8_NVFP4_FP8" => nvfp4()?,
        // Two narrow matrices in 16 bits besides (`svdquant_lora_a`, `svdquant_lora_b`), of rank 32 where nothing is said.
        "NVFP4_SVD" | "NVFP4_SVDQUANT" => {
            let rank_bits = 16 * about.count("lora_rank").unwrap_or(32);
            Scheme { input_bits: rank_bits, output_bits: rank_bits, ..nvfp4()? }
        }
        "W4A8_AWQ" | "W4A16_AWQ" | "INT4_AWQ" => Scheme { matrix_bits: 64, ..preset("w4a16")?.scaled(about.group(Group::Inputs(128)), 16, 0) },
        "MXFP4" | "W4A16_MXFP4" | "W4A8_MXFP4_FP8" | "W4A8_MXFP4_MXFP8" => preset("mxfp4")?,
        "MXFP8" => preset("mxfp8")?,
        "W8A16" | "W8A8_SQ_PER_CHANNEL" | "INT8_SQ" | "INT8_WO" => preset("w8a8-int8")?.scaled(Group::Row, 32, 0),
        _ => return None,
    })
}

/// modelopt: `quant_algo`, by itself or by layer, in config.json or under `quantization` in `hf_quant_config.json`.
pub(super) fn read_modelopt(about: About<'_>) -> Option<Said> {
    let inner = about.object("quantization").unwrap_or(about);
    // Heads and routers stay unless someone goes out of the way.
    let with_takes = |scheme: Scheme| Scheme { takes: Takes::LINEARS, ..scheme };
    let mut said = Said::default();
    let left = inner.left().or_else(|| about.left()).unwrap_or_default();
    said.rule(left, None);
    if let Some(layers) = inner.object("quantized_layers") {
        let mut by_scheme: Vec<(Scheme, Vec<&str>)> = Vec::new();
        for (name, own) in layers.objects() {
            let Some(scheme) = own.text("quant_algo").and_then(|name| algorithm(name, own)).map(with_takes) else { continue };
            match by_scheme.iter_mut().find(|(known, _)| *known == scheme) {
                Some((_, names)) => names.push(name),
                None => by_scheme.push((scheme, vec![name])),
            }
        }
        for (scheme, names) in by_scheme {
            said.rule(names, Some(scheme));
        }
        said.only_named = true;
        return Some(said);
    }
    match inner.text("quant_algo") {
        Some(name) if name != "MIXED_PRECISION" => said.schemes.push(with_takes(algorithm(&name.to_ascii_uppercase(), inner)?)),
        _ => return read_groups(about, Takes::LINEARS, layout),
    }
    Some(said)
}

/// Quark: a global configuration, others by pattern, and a list of what is excluded.
pub(super) fn read_quark(about: About<'_>) -> Option<Said> {
    let scheme = |config: About<'_>| {
        let weights = match config.get("weight")? {
            serde_json::Value::Array(list) => list.first()?.as_object().map(About)?,
            value => value.as_object().map(About)?,
        };
        let group = match weights.text("qscheme") {
            Some("per_tensor") => Group::Matrix,
            Some("per_group") => weights.group(Group::Inputs(128)),
            _ => Group::Row,
        };
        let base = match weights.text("dtype")? {
            "fp8_e4m3" | "fp8" | "fp8_e5m2" => preset("fp8")?.scaled(group, 32, 0),
            "fp4" | "mxfp4" | "mx" => preset("mxfp4")?,
            "fp6_e3m2" | "fp6_e2m3" => preset("mxfp6")?,
            "int8" | "uint8" => preset("w8a8-int8")?.scaled(group, 32, 0),
            "int4" | "uint4" => preset("awq-int4")?.scaled(group, 16, 4),
            _ => return None,
        };
        Some(Scheme { takes: Takes::ALL_LINEARS, ..base })
    };
    let mut said = Said::default();
    said.rules.push((Patterns::new(about.left().unwrap_or_default()), None));
    said.schemes.push(scheme(about.object("global_quant_config")?)?);
    for (pattern, own) in about.object("layer_quant_config").into_iter().flat_map(About::objects) {
        let own = scheme(own);
        said.rule([pattern], own);
    }
    Some(said)
}
