//! Quantisation as configs say it and as tensors show it, with anything in it.

use crate::common::{fixture, model};
use crate::draws::any_config;
use crate::{cases, possible};
use proptest::prelude::*;
use vramfit::checkpoint::{Header, HeaderTensor, match_inventory};
use vramfit::encoding::Encoding;
use vramfit::memory::estimate;
use vramfit::model::Model;
use vramfit::scenario::Scenario;

/// An object with the keys that quantisation methods use, and anything in them.
fn any_quantization() -> impl Strategy<Value = serde_json::Value> {
    const METHODS: &[&str] = &[
        "gptq",
        "awq",
        "bitsandbytes",
        "compressed-tensors",
        "modelopt",
        "fp8",
        "fbgemm_fp8",
        "mxfp4",
        "hqq",
        "quanto",
        "torchao",
        "aqlm",
        "vptq",
        "higgs",
        "exl2",
        "exl3",
        "auto-round",
        "quark",
        "mlx",
        "gemma",
        "sinq",
        "?",
    ];
    const KEYS: &[&str] = &[
        "bits",
        "group_size",
        "modules_to_not_convert",
        "ignore",
        "config_groups",
        "weights",
        "targets",
        "weight_block_size",
        "num_bits",
        "type",
        "strategy",
        "block_structure",
        "dynamic",
        "quant_config",
        "weight_quant_params",
        "nbits",
        "quant_type",
        "default",
        "_type",
        "_data",
        "in_group_size",
        "num_codebooks",
        "nbits_per_codebook",
        "config_for_layers",
        "vector_lens",
        "num_centroids",
        "head_bits",
        "extra_config",
        "global_quant_config",
        "weight",
        "dtype",
        "quantized_layers",
        "quant_algo",
        "num_bits",
        "load_in_4bit",
        "mode",
        "expert_dtype",
    ];
    let words = vec![
        "int",
        "float",
        "group",
        "channel",
        "NVFP4",
        "FP8",
        "Linear",
        "re:.*_proj",
        "re:((a*)*)*$",
        "model.layers.0*",
        "lm_head",
        "int4",
        "fp4",
        "Int4WeightOnlyConfig",
        "",
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(serde_json::Value::from),
        prop::sample::select(vec![0i64, 1, -1, 2, 3, 4, 8, 16, 64, 128, 65_536, i64::MAX]).prop_map(serde_json::Value::from),
        prop::sample::select(vec![0.0, 2.5, 1e300]).prop_map(serde_json::Value::from),
        prop::sample::select(words).prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let value = leaf.prop_recursive(4, 32, 5, |inner| {
        let object = prop::collection::vec((prop::sample::select(KEYS.to_vec()), inner.clone()), 0..5);
        let object = object.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<serde_json::Map<_, _>>().into());
        prop_oneof![2 => object, 1 => prop::collection::vec(inner, 0..4).prop_map(serde_json::Value::from)]
    });
    (prop::sample::select(METHODS.to_vec()), prop::collection::vec((prop::sample::select(KEYS.to_vec()), value), 0..8)).prop_map(|(method, pairs)| {
        let mut object: serde_json::Map<_, _> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        object.insert("quant_method".to_owned(), method.into());
        object.into()
    })
}

/// Tensors that formats keep of a matrix, in any dtype and shape.
fn any_tensors() -> impl Strategy<Value = std::collections::BTreeMap<&'static str, (&'static str, Vec<u64>)>> {
    const LEAVES: &[&str] = &[
        "weight",
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
        "weight.absmax",
        "weight.quant_map",
        "weight.nested_absmax",
        "weight.quant_state.bitsandbytes__nf4",
        "SCB",
        "weight_packed",
        "weight_scale",
        "weight_scale_2",
        "weight_scale_inv",
        "weight_zero_point",
        "biases",
        "q_weight",
        "q_scale",
        "q_groups",
        "trellis",
        "suh",
        "W_q",
        "scale",
        "zero",
        "codes",
        "codebooks",
    ];
    let dtype = prop::sample::select(vec!["F16", "F32", "I16", "I32", "I8", "U8", "U32", "F8_E4M3"]);
    // Sizes of the matrix of 14,336 by 4,096 and of its packed forms among others.
    let size = prop_oneof![prop::sample::select(vec![0u64, 1, 8, 14_336, 4096, 512, 1792, 128, 32, 1 << 40]), 0u64..20_000];
    prop::collection::btree_map(prop::sample::select(LEAVES), (dtype, prop::collection::vec(size, 0..3)), 0..8)
        .prop_filter("sizes that a header can have", |all| {
            all.values().all(|(_, shape)| shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size)).is_some_and(|product| product < 1 << 50))
        })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_quantisation_is_read_or_said_to_be_unknown(config in any_config(), object in any_quantization(), parallel in prop::sample::select(vec![1u64, 2])) {
        let mut config: serde_json::Value = serde_json::from_str(config).unwrap();
        config["quantization_config"] = object;
        let anatomy = vramfit::config::read(&config.to_string());
        prop_assume!(anatomy.is_ok());
        let quantised = Model { anatomy: anatomy.unwrap(), ..model(fixture::GPT2) };
        let answer = possible(&quantised, &Scenario { gpus: Some(parallel), ..Scenario::default() })?;
        let is_known = !quantised.anatomy.quantization.as_ref().unwrap().schemes.is_empty();
        prop_assert!(is_known || answer.warnings.iter().any(|warning| warning.contains("quantisation")));
        for entry in &answer.devices[0].entries {
            prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
        }
    }

    #[test]
    fn any_tensors_of_a_matrix_are_recognised_or_left(tensors in any_tensors()) {
        let mut model = model(fixture::MISTRAL_7B);
        let (mut end, mut header) = (0, Header { tensors: Vec::new(), metadata: Vec::new() });
        for (leaf, (dtype, shape)) in tensors {
            let encoding = Encoding::from_safetensors(dtype).unwrap();
            let begin = end;
            end += encoding.bytes_for(shape.iter().product()).unwrap().get();
            header.tensors.push(HeaderTensor { name: format!("model.layers.0.mlp.up_proj.{leaf}"), encoding, shape, begin, end });
        }
        let files = match_inventory(&model.anatomy, [header].iter()).unwrap().files;
        vramfit::config::quantization_of_files(&mut model.anatomy, &files);
        prop_assert!(model.anatomy.quantization.as_ref().is_none_or(|quantization| !quantization.schemes.is_empty()));
        model.provenance.files = Some(files);
        if let Ok(answer) = estimate(&model, &Scenario::default()) {
            prop_assert!(answer.devices[0].entries.iter().all(|entry| entry.formula.evaluate() == Ok(entry.amount.expected.get())));
        }
    }
}
