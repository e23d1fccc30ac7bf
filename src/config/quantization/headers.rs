//! The quantisation of files whose config does not say one: what the tensors beside a matrix are called gives the method away, their
//! shapes its bits and groups.
//!
//! Found is the object that the method would have written into the config, which is then read as any other.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{Anatomy, Files, Matrix, Tensor, module_and_leaf};

/// Finds the quantisation of the files where the config has none, and says so.
pub fn quantization_of_files(anatomy: &mut Anatomy, files: &Files) {
    if anatomy.quantization.is_some() || anatomy.is_guess {
        return;
    }
    let Some(object) = object(anatomy, files) else { return };
    let quantization = super::read(&object, anatomy);
    if let Some(scheme) = quantization.schemes.first() {
        anatomy.assumptions.push(format!("config.json names no quantisation; by the tensors of the files it is {scheme}"));
        anatomy.quantization = Some(quantization);
    }
}

/// A matrix of the architecture with the tensors that the files have in its place.
struct Packed<'a> {
    matrix: Matrix,
    /// By what they are of the matrix: `qweight`, `weight.absmax`.
    tensors: BTreeMap<&'a str, &'a Tensor>,
}

/// Names of the tensors of a packed matrix, and what the config would say; the first row that fits counts.
type Row = (&'static [&'static str], fn(&Packed<'_>) -> Option<Value>);

/// Where the names are from: gptqmodel 7.7, autoawq 0.2.9, bitsandbytes 0.50 (`QuantState.as_dict`), compressed-tensors 0.20, modelopt
/// 0.47, transformers 5.23 (`integrations`), mlx-lm 0.32, exllamav2 0.3, exllamav3 1.6, hqq 0.2.8, aqlm 1.1.
static ROWS: &[Row] = &[
    (&["qweight", "scales", "g_idx"], |one| {
        // Packed along the inputs; the list of groups has an entry for each.
        let bits = one.bits("qweight")?;
        Some(json!({ "quant_method": "gptq", "bits": bits, "group_size": one.group("scales")? }))
    }),
    (&["qweight", "scales"], |one| {
        // AWQ packs along the outputs, AutoRound as GPTQ does.
        let is_awq = one.tensors.get("qweight")?.shape.first() == Some(&one.matrix.columns);
        let method = if is_awq { "awq" } else { "auto-round" };
        Some(json!({ "quant_method": method, "bits": one.bits("qweight")?, "group_size": one.group("scales")? }))
    }),
    (&["weight.absmax", "weight.quant_map"], |one| {
        let kind = one.tensors.keys().find_map(|leaf| leaf.strip_prefix("weight.quant_state.bitsandbytes__"))?;
        let nested = one.has("weight.nested_absmax");
        Some(json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested }))
    }),
    (&["weight", "SCB"], |_| Some(json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }))),
    (&["weight_packed", "weight_scale"], |one| match (one.dtype("weight_packed")?, one.dtype("weight_scale")?) {
        ("U8", "F8_E4M3") => one.tensors_of_groups("nvfp4-pack-quantized", "float", "weight_packed"),
        ("U8", "U8" | "F8_E8M0") => one.tensors_of_groups("mxfp4-pack-quantized", "float", "weight_packed"),
        _ => one.tensors_of_groups("pack-quantized", "int", "weight_packed"),
    }),
    (&["weight", "weight_scale", "weight_scale_2"], |one| (one.dtype("weight")? == "U8").then(|| json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" }))),
    (&["weight", "weight_scale_inv"], |one| {
        let [rows, columns] = one.tensors.get("weight_scale_inv")?.shape[..] else { return None };
        let block = |size: u64, blocks: u64| [128, 64, 32, 256].into_iter().find(|block| size.div_ceil(*block) == blocks);
        let sizes = [block(one.matrix.rows, rows)?, block(one.matrix.columns, columns)?];
        (one.bits("weight")? == 8).then(|| json!({ "quant_method": "fp8", "weight_block_size": sizes }))
    }),
    (&["weight", "weight_scale"], |one| match one.dtype("weight")? {
        "I8" => one.tensors_of_groups("int-quantized", "int", "weight"),
        "F8_E4M3" if one.count("weight_scale") == 1 => Some(json!({ "quant_method": "fp8" })),
        "F8_E4M3" => one.tensors_of_groups("float-quantized", "float", "weight"),
        _ => None,
    }),
    (&["weight", "scales", "biases"], |one| Some(json!({ "bits": one.bits("weight")?, "group_size": one.group("scales")? }))),
    (&["weight", "scales"], |one| {
        let mode = match (one.dtype("weight")?, one.bits("weight")?, one.group("scales")?) {
            ("U32", 4, 32) => "mxfp4",
            ("U32", 4, 16) => "nvfp4",
            ("U32", 8, 32) => "mxfp8",
            _ => return None,
        };
        Some(json!({ "bits": one.bits("weight")?, "group_size": one.group("scales")?, "mode": mode }))
    }),
    (&["q_weight", "q_scale", "q_groups"], |one| Some(json!({ "quant_method": "exl2", "bits": one.average()? }))),
    (&["trellis"], |one| Some(json!({ "quant_method": "exl3", "bits": one.bits("trellis")? }))),
    (&["W_q", "scale", "zero"], |one| {
        let params = json!({ "nbits": one.bits("W_q")?, "group_size": one.group("scale")? });
        Some(json!({ "quant_method": "hqq", "quant_config": { "weight_quant_params": params } }))
    }),
    (&["codes", "codebooks", "scales"], |one| {
        let [books, entries, outputs, inputs] = one.tensors.get("codebooks")?.shape[..] else { return None };
        let sizes = json!({ "quant_method": "aqlm", "num_codebooks": books, "nbits_per_codebook": entries.checked_ilog2()?,
            "out_group_size": outputs, "in_group_size": inputs });
        Some(sizes)
    }),
];

/// Stacks of experts as gpt-oss has them: the parameters themselves carry the names.
const MXFP4_STACKS: [&str; 2] = ["gate_up_proj_blocks", "gate_up_proj_scales"];

/// What the first packed matrix of a layer says.
fn object(anatomy: &Anatomy, files: &Files) -> Option<Map<String, Value>> {
    let mut modules: BTreeMap<&str, BTreeMap<&str, &Tensor>> = BTreeMap::new();
    for (tensor, _) in files.loaded.iter().filter(|(tensor, _)| tensor.name.contains("{}")) {
        let (module, leaf) = module_and_leaf(&tensor.name);
        modules.entry(module).or_default().insert(leaf, tensor);
    }
    let found = modules.into_iter().find_map(|(module, tensors)| {
        if MXFP4_STACKS.iter().all(|leaf| tensors.contains_key(leaf)) {
            return Some(json!({ "quant_method": "mxfp4" }));
        }
        let matrix = matrix_of(anatomy, module)?;
        let packed = Packed { matrix, tensors };
        ROWS.iter().filter(|(leaves, _)| leaves.iter().all(|leaf| packed.has(leaf))).find_map(|(_, said)| said(&packed))
    });
    match found? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The matrix that the architecture has where the files have a module, whose layer and expert are `{}`.
fn matrix_of(anatomy: &Anatomy, module: &str) -> Option<Matrix> {
    let items = anatomy.inventory().filter(|item| item.is_in_layer() && item.tensor.is_matrix());
    let is_it = |path: &str| module == path || module.strip_suffix(path).is_some_and(|before| before.ends_with('.'));
    let mut items = items.filter(|item| is_it(&format!("{{}}.{}", item.tensor.module())));
    items.next()?.matrix().ok()
}

impl Packed<'_> {
    fn has(&self, leaf: &str) -> bool {
        self.tensors.contains_key(leaf)
    }

    fn dtype(&self, leaf: &str) -> Option<&'static str> {
        self.tensors.get(leaf)?.stored.map(|encoding| encoding.name)
    }

    /// Values of one tensor of one matrix.
    fn count(&self, leaf: &str) -> u64 {
        self.tensors.get(leaf).map_or(0, |tensor| tensor.shape.iter().product())
    }

    fn weights(&self) -> Option<u64> {
        self.matrix.rows.checked_mul(self.matrix.columns).filter(|weights| *weights > 0)
    }

    fn bits_of(&self, leaf: &str) -> Option<u64> {
        let stored = self.tensors.get(leaf)?.stored?;
        stored.bytes_for(self.count(leaf)).ok()?.get().checked_mul(8)
    }

    /// Bits of a weight in a tensor that holds all of them, where they are whole; HQQ packs three bits by tens into 32.
    fn bits(&self, leaf: &str) -> Option<u64> {
        let (bits, weights) = (self.bits_of(leaf)?, self.weights()?);
        let per_weight = bits / weights;
        let is_near = bits % weights <= weights / 4;
        (is_near && (1..=8).contains(&per_weight)).then_some(per_weight)
    }

    /// Inputs that share an entry of a tensor; -1 where all of an output do.
    fn group(&self, leaf: &str) -> Option<i64> {
        let entries = self.count(leaf);
        let inputs = self.weights()?.checked_div(entries)?;
        if inputs == self.matrix.columns { Some(-1) } else { i64::try_from(inputs).ok().filter(|inputs| *inputs > 0) }
    }

    /// Bits of a weight with everything that is kept beside it.
    fn average(&self) -> Option<f64> {
        let bits = self.tensors.keys().try_fold(0u64, |sum, leaf| sum.checked_add(self.bits_of(leaf)?))?;
        #[allow(clippy::cast_precision_loss)] // two digits of it count
        let average = bits as f64 / self.weights()? as f64;
        Some((average * 100.0).round() / 100.0)
    }

    /// As compressed-tensors writes it.
    fn tensors_of_groups(&self, format: &str, kind: &str, codes: &str) -> Option<Value> {
        let mut weights = json!({ "num_bits": self.bits(codes)?, "type": kind, "symmetric": !self.has("weight_zero_point") });
        match self.group("weight_scale")? {
            _ if self.count("weight_scale") == 1 => weights["strategy"] = "tensor".into(),
            -1 => weights["strategy"] = "channel".into(),
            size => (weights["strategy"], weights["group_size"]) = ("group".into(), size.into()),
        }
        let group = json!({ "targets": ["Linear"], "weights": weights });
        Some(json!({ "quant_method": "compressed-tensors", "format": format, "config_groups": { "group_0": group }, "ignore": ["lm_head"] }))
    }
}
