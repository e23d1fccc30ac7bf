//! GPTQ and its kin: integers of a few bits, packed, with a scale and a zero point for a group of inputs.

use super::methods::{preset, sized, with_list};
use super::{About, Said};
use crate::quantity::Decimal;
use crate::weight_format::{Group, Method, Scheme, Takes};

/// The layout that `bits`, `group_size` and `lm_head` describe.
pub(super) fn scheme(about: About<'_>) -> Option<Scheme> {
    let bits = about.count("bits").filter(|bits| *bits <= 8)?;
    let head = about.flag("lm_head").unwrap_or(false);
    Some(Scheme { zero_bits: bits, takes: Takes { head, ..Takes::LAYERS }, ..sized(about, preset("gptq-int4")?, "bits", Group::Inputs(128)) })
}

/// Marlin's own files: codes and scales, no zero points, no indices of groups. Four bits where nothing is said.
pub(super) fn marlin(about: About<'_>) -> Option<Scheme> {
    let scheme = sized(about, preset("gptq-int4")?, "bits", Group::Inputs(128));
    Some(Scheme { zero_bits: 0, input_bits: 0, ..scheme })
}

/// GPTQ, with exceptions by pattern.
pub(super) fn read(about: About<'_>) -> Option<Said> {
    let scheme = scheme(about)?;
    let mut said = Said { schemes: vec![scheme], ..Said::default() };
    // gptqmodel's `dynamic`: `-:` leaves modules, `+:` or nothing gives them other parameters; what is left is left first.
    let dynamic = || about.object("dynamic").into_iter().flat_map(About::objects);
    for (name, _) in dynamic() {
        if let Some(expression) = name.strip_prefix("-:") {
            said.rule([format!("re:{expression}").as_str()], None);
        }
    }
    for (name, other) in dynamic().filter(|(name, _)| !name.starts_with("-:")) {
        let expression = name.strip_prefix("+:").unwrap_or(name);
        let bits = other.count("bits").filter(|bits| *bits <= 8);
        let changed = Scheme { zero_bits: bits.unwrap_or(scheme.zero_bits), ..sized(other, scheme, "bits", scheme.group) };
        said.rule([format!("re:{expression}").as_str()], Some(changed));
    }
    said.rule(about.left().unwrap_or_default(), None);
    if let Some(lists) = about.get("modules_in_block_to_quantize").and_then(serde_json::Value::as_array) {
        let named: Vec<&str> = lists.iter().flat_map(|list| list.as_array().into_iter().flatten().chain(Some(list))).filter_map(|name| name.as_str()).collect();
        said.rule(named, Some(scheme));
        said.only_named = true;
    }
    Some(said)
}

/// AWQ.
pub(super) fn read_awq(about: About<'_>) -> Option<Said> {
    let scheme = preset("awq-int4")?;
    let bits = about.count("bits").or_else(|| about.count("w_bit")).unwrap_or(4).min(8);
    let group = about.count("q_group_size").map_or(about.group(scheme.group), Group::Inputs);
    Some(with_list(about, Scheme { bits: Decimal::new(bits, 0), zero_bits: bits, group, ..scheme }))
}

/// `AutoRound`: packed as GPTQ or AWQ does, or micro-scaled floats.
pub(super) fn read_auto_round(about: About<'_>) -> Option<Said> {
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
            _ => Scheme { method: Method::AutoRound, input_bits: 0, ..preset("gptq-int4")? },
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
