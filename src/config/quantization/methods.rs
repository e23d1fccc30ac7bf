//! The methods that a config may name, each with its reader.

use super::patterns::Patterns;
use super::{About, Said, codebooks, gptq, tensors};
use crate::quantity::Decimal;
use crate::weight_format::{Group, Method, Named, Scheme, Takes, hqq_bits};

/// Reads what a method says; `None` when it does not say what its weights take.
type Read = fn(About<'_>) -> Option<Said>;

/// (names of the method, its reader)
pub(super) static METHODS: &[(&[&str], Read)] = &[
    (&["gptq", "gptq_marlin", "gptq_bitblas", "auto_gptq", "gptqmodel"], gptq::read),
    (&["marlin"], |about| Some(Said::one(gptq::marlin(about)?, &[]))),
    (&["gptq_marlin_24"], |about| Some(Said { note: Some(tensors::MARLIN_24), ..Said::one(gptq::marlin(about)?.two_of_four(), &[]) })),
    (&["awq", "awq_marlin", "auto_awq", "cpu_awq"], gptq::read_awq),
    (&["bitsandbytes"], bitsandbytes),
    (&["compressed-tensors"], tensors::read),
    (&["modelopt", "modelopt_fp8", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "petit_nvfp4"], tensors::read_modelopt),
    (&["fp8", "deepgemm_fp8", "deepseek_v4_fp8"], fp8),
    (&["ptpc_fp8", "w8a8_fp8"], |about| Some(linears(about, preset("fp8")?.scaled(Group::Row, 32, 0)))),
    (&["w8a8_int8", "blockwise_int8"], int8),
    (&["fbgemm_fp8"], |about| Some(linears(about, preset("fp8")?.scaled(Group::Row, 32, 0)))),
    (&["mxfp4", "gpt_oss_mxfp4"], |about| Some(with_list(about, Scheme { takes: Takes::EXPERTS, ..preset("mxfp4")? }))),
    (&["mxfp8"], |about| Some(linears(about, preset("mxfp8")?))),
    (&["nvfp4", "fouroversix"], |about| Some(linears(about, preset("nvfp4")?))),
    (&["fp_quant"], fp_quant),
    (&["hqq"], |about| Some(hqq(about))),
    (&["quanto"], quanto),
    (&["eetq"], |about| Some(linears(about, preset("eetq-int8")?))),
    (&["torchao"], torchao),
    (&["aqlm"], codebooks::aqlm),
    (&["vptq"], codebooks::vptq),
    (&["higgs"], |about| Some(codebooks::higgs(about))),
    (&["bitnet"], |about| Some(linears(about, preset("bitnet")?))),
    (&["sinq"], |about| {
        // A second scale for every input.
        let scheme = Scheme { method: Method::Sinq, input_bits: 16, ..preset("hqq-4bit")? };
        Some(linears(about, sized(about, scheme, "nbits", Group::Inputs(64))))
    }),
    (&["metal"], |about| Some(linears(about, sized(about, Scheme { takes: Takes::LINEARS, ..preset("mlx-4bit")? }, "bits", Group::Inputs(64))))),
    (&["gemma"], |about| Some(gemma(about))),
    (&["exl2"], |about| codebooks::exl(about, "exl2-")),
    (&["exl3"], |about| codebooks::exl(about, "exl3-")),
    (&["auto-round", "auto_round", "autoround", "intel/auto-round", "inc"], gptq::read_auto_round),
    (&["quark", "quark_mxfp4"], tensors::read_quark),
    (&["mlx"], mlx),
    (&["experts_int8"], |_| Some(Said::one(Scheme { takes: Takes::EXPERTS, ..preset("w8a8-int8")? }, &[]))),
];

/// The layout of a named format.
pub(super) fn preset(name: &str) -> Option<Scheme> {
    Named::get(name).map(|row| row.scheme)
}

/// The same format with the bits and the group that the config says.
pub(super) fn sized(about: About<'_>, scheme: Scheme, bits: &str, group: Group) -> Scheme {
    let bits = about.count(bits).filter(|bits| *bits <= 16).map_or(scheme.bits, |bits| Decimal::new(bits, 0));
    Scheme { bits, group: about.group(group), ..scheme }
}

/// One format for what it takes but the modules of the config's list.
pub(super) fn with_list(about: About<'_>, scheme: Scheme) -> Said {
    Said::one(scheme, &about.left().unwrap_or_default())
}

/// One format for every linear layer, towers included, but those of the config's list. Head and routers stay, as they do by default
/// and in every published list.
pub(super) fn linears(about: About<'_>, scheme: Scheme) -> Said {
    with_list(about, Scheme { takes: Takes::LINEARS, ..scheme })
}

fn bitsandbytes(about: About<'_>) -> Option<Said> {
    let is = |key: &str| about.flag(key).or(about.flag(&format!("_{key}"))).unwrap_or(false);
    let name = match (is("load_in_8bit"), about.text("bnb_4bit_quant_type"), is("bnb_4bit_use_double_quant")) {
        (true, ..) => "int8",
        (false, Some("nf4"), true) => "nf4-dq",
        (false, Some("nf4"), false) => "nf4",
        // FP4 is what the library takes when nothing is said.
        (false, _, true) => return Some(linears(about, Scheme { method: Method::Fp4, ..preset("nf4-dq")? })),
        (false, ..) => "fp4",
    };
    let scheme = preset(name)?;
    // Only without a list of one's own is the head left by itself.
    let takes = Takes { head: about.left().is_some(), ..Takes::LINEARS };
    Some(with_list(about, Scheme { takes, ..scheme }))
}

/// `weight_block_size`: outputs × inputs that share a scale.
fn block(about: About<'_>) -> Option<Group> {
    let sizes: Option<Vec<u64>> = about.get("weight_block_size")?.as_array()?.iter().map(serde_json::Value::as_u64).collect();
    match sizes?.as_slice() {
        [rows, columns] => Some(Group::Block(*rows, *columns)),
        _ => None,
    }
}

/// Eight-bit integers as SGLang reads them (0.5.23 `layers/quantization/w8a8_int8.py`, `blockwise_int8.py`): a float32 scale for each output or block.
fn int8(about: About<'_>) -> Option<Said> {
    Some(linears(about, preset("w8a8-int8")?.scaled(block(about).unwrap_or(Group::Row), 32, 0)))
}

fn fp8(about: About<'_>) -> Option<Said> {
    let static_inputs = if about.text("activation_scheme") == Some("static") { 32 } else { 0 };
    // Powers of two as scales take a byte each.
    let scale_bits = if about.text("scale_fmt") == Some("ue8m0") { 8 } else { 32 };
    let mut said = match block(about) {
        Some(block) => linears(about, preset("fp8-block")?.scaled(block, scale_bits, 0)),
        None => {
            let scheme = preset("fp8")?;
            linears(about, Scheme { matrix_bits: scheme.matrix_bits + static_inputs, ..scheme })
        }
    };
    if about.text("expert_dtype") == Some("fp4") {
        said.rule(["experts"], Some(Scheme { scale_bits, ..preset("mxfp4")? }));
    }
    // MiMo V2.6 (SGLang `layers/quantization/fp8.py`, `store_dtype`): its experts alone.
    if about.text("store_dtype") == Some("mxfp4") {
        said.rule(["experts"], Some(preset("mxfp4")?));
    }
    Some(said)
}

fn fp_quant(about: About<'_>) -> Option<Said> {
    let name = if about.text("forward_dtype") == Some("mxfp4") { "mxfp4" } else { "nvfp4" };
    Some(linears(about, preset(name)?))
}

fn hqq(about: About<'_>) -> Said {
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
    said
}

fn quanto(about: About<'_>) -> Option<Said> {
    let scheme = match about.text("weights")? {
        "int8" | "qint8" => preset("quanto-int8")?,
        "int4" | "qint4" => preset("quanto-int4")?,
        "int2" | "qint2" => preset("quanto-int2")?,
        "float8" | "qfloat8" => Scheme { method: Method::QuantoFp8, ..preset("quanto-int8")? },
        _ => return None,
    };
    Some(linears(about, scheme))
}

/// The format of a torchao config class or of the older string; `data` holds its parameters.
fn torchao_scheme(name: &str, data: About<'_>) -> Option<Scheme> {
    let name = name.to_ascii_lowercase().replace('_', "");
    let has = |part: &str| name.contains(part);
    let group = |scheme: Scheme, size: u64| Scheme { group: data.group(Group::Inputs(size)), ..scheme };
    // A dtype of torch, as text or as an object that says it is one.
    let dtype = |key: &str| Some(data.text(key).or(data.object(key)?.text("_data"))?.trim_start_matches("torch."));
    Some(match name.as_str() {
        // Weights of four bits under activations of eight: groups of 32 by default, no zero points.
        _ if has("int8dynamicactivationint4weight") => Scheme { zero_bits: 0, ..group(preset("torchao-int4")?, 32) },
        _ if has("int4weight") => group(preset("torchao-int4")?, 128),
        // Packed. gemlite's kernels (`bit_width`): groups of 128, of eight bits one symmetric scale per output; the older form has a dtype.
        _ if has("uintx") && data.get("bit_width").is_some() => match data.count("bit_width")? {
            8 => Scheme { zero_bits: 0, ..preset("torchao-int4")?.scaled(Group::Row, 16, 0) }.with_bits(Decimal::new(8, 0)),
            bits @ 1..8 => group(preset("torchao-int4")?, 128).with_bits(Decimal::new(bits, 0)),
            _ => return None,
        },
        _ if has("uintx") => {
            let bits: u64 = dtype("dtype")?.strip_prefix("uint")?.parse().ok().filter(|bits| (1..=8).contains(bits))?;
            group(preset("torchao-int4")?, 64).with_bits(Decimal::new(bits, 0))
        }
        _ if has("intxweight") => {
            let bits: u64 = dtype("weight_dtype")?.strip_prefix("int")?.parse().ok().filter(|bits| *bits <= 8)?;
            let size = data.object("granularity").or(data.object("weight_granularity")).and_then(|kind| kind.object("_data")?.count("group_size"));
            // Kept one to a byte until they are packed for a device.
            let scheme = Scheme { bits: Decimal::new(8, 0), ..preset("torchao-int8")? };
            if bits > 0 { size.map_or(scheme, |size| scheme.scaled(Group::Inputs(size), 16, 8)) } else { return None }
        }
        _ if has("int8weight") => preset("torchao-int8")?,
        _ if has("float8") => preset("torchao-fp8")?,
        _ if has("nvfp4") => preset("nvfp4")?,
        _ if has("mxweight") || has("mxfp") => match dtype("weight_dtype").unwrap_or("float8_e4m3fn") {
            "float4_e2m1fn_x2" => preset("mxfp4")?,
            "float8_e4m3fn" | "float8_e5m2" => preset("mxfp8")?,
            _ => return None,
        },
        // A sign, and as many bits of exponent and mantissa as it says.
        _ if has("fpx") => preset("torchao-int8")?.with_bits(Decimal::new(1 + data.count("ebits")? + data.count("mbits")?, 0)),
        _ => return None,
    })
}

fn torchao(about: About<'_>) -> Option<Said> {
    let scheme =
        |kind: About<'_>| torchao_scheme(kind.text("_type")?, kind.object("_data").unwrap_or(kind)).map(|scheme| Scheme { takes: Takes::LINEARS, ..scheme });
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

fn gemma(about: About<'_>) -> Said {
    let bits = about.count("num_bits").unwrap_or(4).min(8);
    let takes = Takes { embedding: about.flag("quantize_embeddings").unwrap_or(false), ..Takes::ALL_LINEARS };
    // A float32 scale per output, two of activations per matrix.
    let scheme = Scheme { matrix_bits: 64, ..Scheme::codes(Method::Gemma, bits, takes).scaled(Group::Row, 32, 0) };
    let mut said = Said { schemes: vec![scheme], ..Said::default() };
    said.rule(about.left().unwrap_or_default(), None);
    for (expression, options) in about.object("module_quant_configs").into_iter().flat_map(About::objects) {
        let named = options.count("num_bits").map_or(scheme, |bits| scheme.with_bits(Decimal::new(bits.min(8), 0)));
        said.rule([format!("re:.*(?:{expression})").as_str()], Some(named));
    }
    said
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
