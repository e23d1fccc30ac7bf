//! The methods that a config may name, each with its reader.

use super::tensors;
use super::{About, Said};
use crate::quantity::Decimal;
use crate::quantization::{Group, Named, Patterns, Scheme, Takes, hqq_bits};

/// Reads what a method says; `None` when it does not say what its weights take.
type Read = fn(About<'_>) -> Option<Said>;

/// (names of the method, its reader)
pub(super) static METHODS: &[(&[&str], Read)] = &[
    (&["gptq", "gptq_marlin", "gptq_marlin_24", "gptq_bitblas"], gptq),
    (&["marlin"], |about| Some(Said::one(Scheme { zero_bits: 0, input_bits: 0, ..gptq_scheme(about)? }, &[]))),
    (&["awq", "awq_marlin"], awq),
    (&["bitsandbytes"], bitsandbytes),
    (&["compressed-tensors"], tensors::read),
    (&["modelopt", "modelopt_fp4", "modelopt_mixed"], tensors::read_modelopt),
    (&["fp8"], fp8),
    (&["fbgemm_fp8"], |about| linears(about, preset("fp8")?.scaled(Group::Row, 32, 0), 0)),
    (&["mxfp4"], |about| Some(with_list(about, Scheme { takes: Takes::EXPERTS, ..preset("mxfp4")? }))),
    (&["mxfp8"], |about| linears(about, preset("mxfp8")?, 0)),
    (&["nvfp4", "fouroversix"], |about| linears(about, preset("nvfp4")?, 0)),
    (&["fp_quant"], fp_quant),
    (&["hqq"], hqq),
    (&["quanto"], quanto),
    (&["eetq"], |about| linears(about, preset("eetq-int8")?, 0)),
    (&["torchao"], torchao),
    (&["aqlm"], aqlm),
    (&["vptq"], vptq),
    (&["higgs"], higgs),
    (&["bitnet"], |about| linears(about, preset("bitnet")?, 0)),
    (&["sinq"], |about| {
        // A second scale for every input.
        let scheme = Scheme { method: "SINQ", input_bits: 16, ..preset("hqq-4bit")? };
        linears(about, sized(about, scheme, "nbits", Group::Inputs(64)), 0)
    }),
    (&["metal"], |about| linears(about, sized(about, Scheme { takes: Takes::LINEARS, ..preset("mlx-4bit")? }, "bits", Group::Inputs(64)), 0)),
    (&["gemma"], gemma),
    (&["exl2"], |about| exl(about, "exl2-")),
    (&["exl3"], |about| exl(about, "exl3-")),
    (&["auto-round", "auto_round", "autoround", "intel/auto-round", "inc"], auto_round),
    (&["quark"], tensors::read_quark),
    (&["mlx"], mlx),
    (&["experts_int8"], |_| Some(Said::one(Scheme { takes: Takes::EXPERTS, ..preset("w8a8-int8")? }, &[]))),
];

/// The layout of a named format.
pub(super) fn preset(name: &str) -> Option<Scheme> {
    Named::get(name).map(|row| row.scheme)
}

/// The same format with the bits and the group that the config says.
fn sized(about: About<'_>, scheme: Scheme, bits: &str, group: Group) -> Scheme {
    let bits = about.count(bits).filter(|bits| *bits <= 16).map_or(scheme.bits, |bits| Decimal::new(bits, 0));
    Scheme { bits, group: about.group(group), ..scheme }
}

/// One format for what it takes but the modules of the config's list.
fn with_list(about: About<'_>, scheme: Scheme) -> Said {
    Said::one(scheme, &about.left().unwrap_or_default())
}

/// One format for every linear layer, towers included, but those of the config's list. Head and routers stay, as they do by default
/// and in every published list.
fn linears(about: About<'_>, scheme: Scheme, more_matrix_bits: u64) -> Option<Said> {
    let scheme = Scheme { takes: Takes::LINEARS, matrix_bits: scheme.matrix_bits + more_matrix_bits, ..scheme };
    Some(with_list(about, scheme))
}

fn gptq_scheme(about: About<'_>) -> Option<Scheme> {
    let bits = about.count("bits").filter(|bits| *bits <= 8)?;
    let head = about.flag("lm_head").unwrap_or(false);
    Some(Scheme { zero_bits: bits, takes: Takes { head, ..Takes::LAYERS }, ..sized(about, preset("gptq-int4")?, "bits", Group::Inputs(128)) })
}

fn gptq(about: About<'_>) -> Option<Said> {
    let scheme = gptq_scheme(about)?;
    let mut said = Said { schemes: vec![scheme], ..Said::default() };
    // gptqmodel's `dynamic`: `-:` leaves modules, `+:` or nothing gives them other parameters.
    for (name, other) in about.object("dynamic").into_iter().flat_map(About::objects) {
        let (sign, expression) = name.split_once(':').filter(|(sign, _)| matches!(*sign, "+" | "-")).unwrap_or(("+", name));
        let bits = other.count("bits").filter(|bits| *bits <= 8);
        let changed = Scheme { zero_bits: bits.unwrap_or(scheme.zero_bits), ..sized(other, scheme, "bits", scheme.group) };
        said.rule([format!("re:{expression}").as_str()], (sign == "+").then_some(changed));
    }
    said.rule(about.left().unwrap_or_default(), None);
    if let Some(lists) = about.get("modules_in_block_to_quantize").and_then(serde_json::Value::as_array) {
        let named: Vec<&str> = lists.iter().flat_map(|list| list.as_array().into_iter().flatten().chain(Some(list))).filter_map(|name| name.as_str()).collect();
        said.rule(named, Some(scheme));
        said.only_named = true;
    }
    Some(said)
}

fn awq(about: About<'_>) -> Option<Said> {
    let scheme = preset("awq-int4")?;
    let bits = about.count("bits").or_else(|| about.count("w_bit")).unwrap_or(4).min(8);
    let group = about.count("q_group_size").map_or(about.group(scheme.group), Group::Inputs);
    Some(with_list(about, Scheme { bits: Decimal::new(bits, 0), zero_bits: bits, group, ..scheme }))
}

fn bitsandbytes(about: About<'_>) -> Option<Said> {
    let is = |key: &str| about.flag(key).or(about.flag(&format!("_{key}"))).unwrap_or(false);
    let name = match (is("load_in_8bit"), about.text("bnb_4bit_quant_type"), is("bnb_4bit_use_double_quant")) {
        (true, ..) => "int8",
        (false, Some("nf4"), true) => "nf4-dq",
        (false, Some("nf4"), false) => "nf4",
        // FP4 is what the library takes when nothing is said.
        (false, _, true) => return linears(about, Scheme { method: "FP4 with double quantisation", ..preset("nf4-dq")? }, 0),
        (false, ..) => "fp4",
    };
    let scheme = preset(name)?;
    // Only without a list of one's own is the head left by itself.
    let takes = Takes { head: about.left().is_some(), ..Takes::LINEARS };
    Some(with_list(about, Scheme { takes, ..scheme }))
}

fn fp8(about: About<'_>) -> Option<Said> {
    let static_inputs = if about.text("activation_scheme") == Some("static") { 32 } else { 0 };
    let block: Option<Vec<u64>> = about.get("weight_block_size").and_then(|sizes| sizes.as_array()?.iter().map(serde_json::Value::as_u64).collect());
    match block.as_deref() {
        Some([rows, columns]) => linears(about, preset("fp8-block")?.scaled(Group::Block(*rows, *columns), 32, 0), 0),
        _ => linears(about, preset("fp8")?, static_inputs),
    }
}

fn fp_quant(about: About<'_>) -> Option<Said> {
    let name = if about.text("forward_dtype") == Some("mxfp4") { "mxfp4" } else { "nvfp4" };
    linears(about, preset(name)?, 0)
}

fn hqq(about: About<'_>) -> Option<Said> {
    let scheme = |params: About<'_>| {
        let bits = params.get("nbits")?.as_f64()?;
        // 1.58 bits are packed as two.
        let bits = [1u32, 2, 3, 4, 5, 6, 8].into_iter().find(|known| f64::from(*known) >= bits)?;
        let group = match params.group(Group::Flat(64)) {
            Group::Inputs(size) => Group::Flat(size),
            group => group,
        };
        Some(Scheme { bits: hqq_bits(bits.into()), group, ..preset("hqq-4bit")? })
    };
    let config = about.object("quant_config").unwrap_or(about);
    let mut said = Said::default();
    if let Some(mut common) = scheme(config.object("weight_quant_params").unwrap_or(config)) {
        // Scales and zero points in eight bits with scales of their own, in groups of 128.
        for (key, bits) in [("scale_quant_params", &mut common.scale_bits), ("zero_quant_params", &mut common.zero_bits)] {
            if config.object(key).is_some() {
                *bits = 8;
                common.nested = 128;
            }
        }
        said.schemes.push(common);
    } else {
        // `dynamic_config`: parameters by the name of a module.
        for (name, params) in config.objects() {
            let params = params.object("weight_quant_params").unwrap_or(params);
            let scheme = scheme(params);
            said.rule([name], scheme);
        }
        said.only_named = true;
    }
    said.rules.insert(0, (Patterns::new(about.left().unwrap_or_default()), None));
    Some(said)
}

fn quanto(about: About<'_>) -> Option<Said> {
    let scheme = match about.text("weights")? {
        "int8" | "qint8" => preset("quanto-int8")?,
        "int4" | "qint4" => preset("quanto-int4")?,
        "int2" | "qint2" => preset("quanto-int2")?,
        "float8" | "qfloat8" => Scheme { method: "Quanto FP8", ..preset("quanto-int8")? },
        _ => return None,
    };
    linears(about, scheme, 0)
}

/// The format of a torchao config class or of the older string; `data` holds its parameters.
fn torchao_scheme(name: &str, data: About<'_>) -> Option<Scheme> {
    let name = name.to_ascii_lowercase().replace('_', "");
    let has = |part: &str| name.contains(part);
    let group = |scheme: Scheme, size: u64| Scheme { group: data.group(Group::Inputs(size)), ..scheme };
    Some(match name.as_str() {
        // Weights of four bits under activations of eight: groups of 32 by default, no zero points.
        _ if has("int8dynamicactivationint4weight") => Scheme { zero_bits: 0, ..group(preset("torchao-int4")?, 32) },
        _ if has("int4weight") || has("uintx") => group(preset("torchao-int4")?, 128),
        _ if has("intxweight") => {
            let bits = data.text("weight_dtype").or(data.object("weight_dtype").and_then(|dtype| dtype.text("_data")))?;
            let bits: u64 = bits.trim_start_matches("torch.").trim_start_matches("int").parse().ok().filter(|bits| *bits <= 8)?;
            let size = data.object("granularity").or(data.object("weight_granularity")).and_then(|kind| kind.object("_data")?.count("group_size"));
            // Kept one to a byte until they are packed for a device.
            let scheme = Scheme { bits: Decimal::new(8, 0), ..preset("torchao-int8")? };
            if bits > 0 { size.map_or(scheme, |size| scheme.scaled(Group::Inputs(size), 16, 8)) } else { return None }
        }
        _ if has("int8weight") => preset("torchao-int8")?,
        _ if has("float8") => preset("torchao-fp8")?,
        _ if has("nvfp4") => preset("nvfp4")?,
        _ if has("mxfp") || has("mx") => preset("mxfp8")?,
        _ if has("fpx") => Scheme { bits: Decimal::new(6, 0), ..preset("torchao-int8")? },
        _ => return None,
    })
}

fn torchao(about: About<'_>) -> Option<Said> {
    let scheme = |kind: About<'_>| torchao_scheme(kind.text("_type")?, kind.object("_data").unwrap_or(kind)).map(|scheme| Scheme { takes: Takes::LINEARS, ..scheme });
    let mut said = Said::default();
    said.rule(about.left().unwrap_or_default(), None);
    if let Some(name) = about.text("quant_type") {
        let scheme = torchao_scheme(name, about.object("quant_type_kwargs").unwrap_or(about))?;
        said.schemes.push(Scheme { takes: Takes::LINEARS, ..scheme });
        return Some(said);
    }
    let kind = about.object("quant_type")?.object("default")?;
    let by_name = kind.object("_data").and_then(|data| data.object("module_fqn_to_config").or(data.object("fqn_to_config")));
    let Some(by_name) = by_name else {
        said.schemes.push(scheme(kind)?);
        return Some(said);
    };
    match by_name.object("_default").and_then(scheme) {
        Some(default) => said.schemes.push(default),
        None => said.only_named = true,
    }
    for (name, value) in by_name.0.iter().filter(|(name, _)| *name != "_default") {
        let named = value.as_object().and_then(|kind| scheme(About(kind)));
        said.rule([name.as_str()], named);
    }
    Some(said)
}

fn aqlm(about: About<'_>) -> Option<Said> {
    let number = |key: &str, default: u64, most: u64| about.count(key).unwrap_or(default).min(most);
    let (inputs, outputs) = (number("in_group_size", 8, 1024), number("out_group_size", 1, 1024));
    let (books, bits) = (number("num_codebooks", 1, 64), number("nbits_per_codebook", 16, 16));
    // Codes of up to eight bits are kept in bytes, longer ones in sixteen.
    let code = if bits <= 8 { 8 } else { 16 };
    let per_weight = Decimal::ratio(books * code, inputs * outputs)?;
    let codebooks = books * (1 << bits) * inputs * outputs * 16;
    Some(with_list(about, Scheme { matrix_bits: codebooks, ..preset("aqlm-2bit")?.with_bits(per_weight) }))
}

fn vptq(about: About<'_>) -> Option<Said> {
    // The layers' entries are alike but for their shapes; the first stands for all.
    let (_, layer) = about.object("config_for_layers").or(about.object("shared_layer_config"))?.objects().next()?;
    let last = |key: &str| layer.get(key)?.as_array()?.last()?.as_i64().and_then(|n| u64::try_from(n).ok()).filter(|n| (1..=1 << 20).contains(n));
    let (centroids, length) = (last("num_centroids")?, last("vector_lens")?);
    let residual = last("num_res_centroids").unwrap_or(1);
    let bits = Decimal::ratio(u64::from(centroids.ilog2() + residual.ilog2()), length)?;
    let books = (centroids + if residual > 1 { residual } else { 0 }) * length * 16;
    let scheme = Scheme { method: "VPTQ", matrix_bits: books, input_bits: 48, output_bits: 0, spread: 3, ..preset("aqlm-2bit")? };
    linears(about, scheme.with_bits(bits), 0)
}

fn higgs(about: About<'_>) -> Option<Said> {
    let bits = about.count("bits").unwrap_or(4).min(8);
    // Tables of 2^bits and of 2^bits × 2^bits × 2 values.
    let tables = ((1 << bits) + (1 << (2 * bits)) * 2) * 16;
    let scheme = Scheme { matrix_bits: tables, ..Scheme::codes("HIGGS", bits, Takes::LINEARS).scaled(about.group(Group::Inputs(256)), 16, 0) };
    linears(about, scheme, 0)
}

fn gemma(about: About<'_>) -> Option<Said> {
    let bits = about.count("num_bits").unwrap_or(4).min(8);
    let takes = Takes { embedding: about.flag("quantize_embeddings").unwrap_or(false), ..Takes::ALL_LINEARS };
    // A float32 scale per output, two of activations per matrix.
    let scheme = Scheme { matrix_bits: 64, ..Scheme::codes("Gemma", bits, takes).scaled(Group::Row, 32, 0) };
    let mut said = Said { schemes: vec![scheme], ..Said::default() };
    said.rule(about.left().unwrap_or_default(), None);
    for (expression, options) in about.object("module_quant_configs").into_iter().flat_map(About::objects) {
        let named = options.count("num_bits").map_or(scheme, |bits| scheme.with_bits(Decimal::new(bits.min(8), 0)));
        said.rule([format!("re:.*(?:{expression})").as_str()], Some(named));
    }
    Some(said)
}

/// A number of bits that need not be whole (`4.65`).
fn decimal(about: About<'_>, key: &str) -> Option<Decimal> {
    about.get(key)?.as_number()?.to_string().parse().ok()
}

fn exl(about: About<'_>, name: &str) -> Option<Said> {
    let scheme = preset(name)?.with_bits(decimal(about, "bits")?);
    let head = decimal(about, "head_bits").or(scheme.head_bits);
    let sixteen = Decimal::new(16, 0);
    Some(Said::one(Scheme { head_bits: head, takes: Takes { head: head != Some(sixteen), ..Takes::LAYERS }, ..scheme }, &[]))
}

fn auto_round(about: About<'_>) -> Option<Said> {
    let is_mx = |about: About<'_>| about.text("data_type").map(str::to_ascii_lowercase);
    let format = about.text("packing_format").or(about.text("backend")).unwrap_or("auto_round:auto_gptq");
    let scheme = |own: About<'_>| {
        let bits = own.count("bits").or(about.count("bits")).unwrap_or(4);
        let scheme = match is_mx(own).or(is_mx(about)).as_deref() {
            Some("mx_fp" | "mx_fp_rceil") if bits == 8 => preset("mxfp8")?,
            Some("mx_fp" | "mx_fp_rceil") => preset("mxfp4")?,
            Some("nv_fp" | "nv_fp4_with_static_gs") => preset("nvfp4")?,
            Some("fp") if bits == 8 => preset("fp8")?,
            _ if format.contains("awq") => preset("awq-int4")?,
            // As GPTQ, without indices of groups.
            _ => Scheme { method: "AutoRound", input_bits: 0, ..preset("gptq-int4")? },
        };
        let group = if own.get("group_size").is_some() { own } else { about };
        let is_int = scheme.zero_bits > 0;
        (bits <= 8).then(|| if is_int { Scheme { zero_bits: bits, bits: Decimal::new(bits, 0), group: group.group(scheme.group), ..scheme } } else { scheme })
    };
    let mut said = Said { schemes: vec![scheme(about)?], ..Said::default() };
    for (name, own) in about.object("extra_config").into_iter().flat_map(About::objects) {
        let own = scheme(own);
        said.rule([name], own);
    }
    said.rule(about.left().unwrap_or_default(), None);
    Some(said)
}

fn mlx(about: About<'_>) -> Option<Said> {
    let scheme = |own: About<'_>| {
        let mode = own.text("mode").or(about.text("mode")).unwrap_or("affine");
        let base = match mode {
            "affine" => preset("mlx-4bit")?,
            "mxfp4" => preset("mlx-mxfp4")?,
            "nvfp4" => preset("mlx-nvfp4")?,
            "mxfp8" => preset("mlx-mxfp8")?,
            _ => return None,
        };
        // What the config lists for routers counts, not what is usual.
        Some(Scheme { router_bits: None, ..sized(own, base, "bits", base.group) })
    };
    let mut said = Said { schemes: vec![scheme(about)?], ..Said::default() };
    // Parameters of single modules under their paths; `false` leaves them.
    for (path, value) in about.0.iter().filter(|(key, _)| !matches!(key.as_str(), "group_size" | "bits" | "mode" | "quant_method")) {
        let own = match value {
            serde_json::Value::Object(own) => scheme(About(own)),
            serde_json::Value::Bool(false) => None,
            _ => continue,
        };
        said.rule([path.as_str()], own);
    }
    Some(said)
}
