//! What configs say about their quantisation, as the methods write it: the formats found, and how many weights have one.

use vramfit::config;
use vramfit::encoding::Encoding;
use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::{Runtime, Scenario, Weights};
use vramfit::weights::{Form, stored};

/// Four layers of 8,912,896 weights in seven matrices: queries and outputs 1024 × 1024, keys and values 256 × 1024, 2048 × 1024.
const DENSE: &str = r#"{"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 2,
    "num_hidden_layers": 4, "vocab_size": 1000, "torch_dtype": "bfloat16""#;
const LAYER: u64 = 8_912_896;
const ATTENTION: u64 = 2 * 1024 * 1024 + 2 * 256 * 1024;
const LINEARS: u64 = 4 * LAYER;
const HEAD: u64 = 1000 * 1024;

/// Two layers with eight experts each.
const MIXTURE: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 1024, "intermediate_size": 2048, "moe_intermediate_size": 512, "num_experts": 8,
    "num_experts_per_tok": 2, "num_attention_heads": 8, "head_dim": 128, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 1000,
    "torch_dtype": "bfloat16""#;
const EXPERTS: u64 = 2 * 8 * 3 * 512 * 1024;

fn model(base: &str, key: &str, object: &str) -> Model {
    let anatomy = config::read(&format!("{base}, \"{key}\": {object}}}")).unwrap();
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

/// The formats of the config, and the weights that have one.
fn read(base: &str, key: &str, object: &str) -> (String, u64) {
    let model = model(base, key, object);
    let quantization = model.anatomy.quantization.clone().expect("a quantised config");
    let packed = stored(&model, Weights::AsStored, Encoding::BF16).unwrap().into_iter().filter(|tensor| matches!(tensor.form, Form::Packed(_)));
    let weights = packed.map(|tensor| tensor.times() * tensor.matrix.count * tensor.matrix.rows * tensor.matrix.columns).sum();
    (quantization.schemes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), weights)
}

/// (the object as the method writes it, the formats, how many weights have one)
const METHODS: &[(&str, &str, u64)] = &[
    (
        r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "damp_percent": 0.1, "desc_act": false, "sym": true, "true_sequential": true}"#,
        "GPTQ, 4 bits, groups of 128",
        LINEARS,
    ),
    (r#"{"quant_method": "gptq", "bits": 8, "group_size": -1, "lm_head": true}"#, "GPTQ, 8 bits, one scale per output", LINEARS + HEAD),
    (
        r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*\\.3\\.": {}, "+:.*\\.down_proj.*": {"bits": 8, "group_size": 64}}}"#,
        "GPTQ, 4 bits, groups of 128; GPTQ, 8 bits, groups of 64",
        3 * LAYER,
    ),
    (
        r#"{"quant_method": "gptq", "bits": 4, "group_size": 64, "modules_in_block_to_quantize": [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"]]}"#,
        "GPTQ, 4 bits, groups of 64",
        4 * ATTENTION,
    ),
    (
        r#"{"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm", "modules_to_not_convert": null}"#,
        "AWQ, 4 bits, groups of 128",
        LINEARS,
    ),
    (
        r#"{"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "modules_to_not_convert": ["self_attn"]}"#,
        "AWQ, 4 bits, groups of 64",
        LINEARS - 4 * ATTENTION,
    ),
    (
        r#"{"_load_in_4bit": true, "_load_in_8bit": false, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true, "load_in_4bit": true,
            "load_in_8bit": false, "llm_int8_skip_modules": null, "quant_method": "bitsandbytes"}"#,
        "NF4, 4 bits, blocks of 64, double quantisation",
        LINEARS,
    ),
    (r#"{"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}"#, "NF4, 4 bits, blocks of 64", LINEARS),
    (r#"{"quant_method": "bitsandbytes", "load_in_4bit": true}"#, "FP4, 4 bits, blocks of 64", LINEARS),
    (
        r#"{"quant_method": "bitsandbytes", "load_in_8bit": true, "llm_int8_skip_modules": ["lm_head", "model.layers.0.mlp"]}"#,
        "LLM.int8(), 8 bits, one scale per output",
        LINEARS - (LAYER - ATTENTION),
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"], "quantization_status": "compressed", "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": true, "actorder": "weight"}}}}"#,
        "compressed-tensors, 4 bits, groups of 128",
        LINEARS,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["re:.*lm_head", "re:model\\.layers\\.[01]\\..*"], "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": true}}}}"#,
        "compressed-tensors, 8 bits, one scale per output",
        2 * LAYER,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}}}}"#,
        "NVFP4, 4 bits, groups of 16",
        LINEARS,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}}}"#,
        "MXFP, 4 bits, groups of 32",
        LINEARS + HEAD,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": ["lm_head"], "config_groups": {
            "group_0": {"format": "float-quantized", "targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}},
            "group_1": {"format": "pack-quantized", "targets": ["re:.*mlp.*"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": false}}}}"#,
        "FP8, 8 bits, blocks of 128 × 128; compressed-tensors, 4 bits, groups of 32",
        LINEARS,
    ),
    (r#"{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}"#, "FP8, 8 bits, blocks of 128 × 128", LINEARS),
    (r#"{"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["self_attn.o_proj"]}"#, "FP8, 8 bits", LINEARS - 4 * 1024 * 1024),
    (
        r#"{"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["model.layers.0.mlp.down_proj", "lm_head"]}"#,
        "FP8, 8 bits, one scale per output",
        LINEARS - 2048 * 1024,
    ),
    (r#"{"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}"#, "FP8, 8 bits", LINEARS),
    (
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A8_AWQ", "group_size": 128, "exclude_modules": ["lm_head", "model.layers.0*"]}}"#,
        "compressed-tensors, 4 bits, groups of 128",
        3 * LAYER,
    ),
    (
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {
            "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16}, "model.layers.1.self_attn.q_proj": {"quant_algo": "FP8"}}}}"#,
        "NVFP4, 4 bits, groups of 16; FP8, 8 bits",
        2048 * 1024 + 1024 * 1024,
    ),
    (
        r#"{"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 2, "group_size": 16, "axis": 1, "channel_wise": true},
            "scale_quant_params": null, "zero_quant_params": null}, "skip_modules": ["lm_head"]}"#,
        "HQQ, 2 bits, blocks of 16",
        LINEARS,
    ),
    (
        r#"{"quant_method": "hqq", "quant_config": {"self_attn.q_proj": {"weight_quant_params": {"nbits": 3, "group_size": 64}}}, "skip_modules": ["lm_head"]}"#,
        "HQQ, 3.2 bits, blocks of 64",
        4 * 1024 * 1024,
    ),
    (r#"{"quant_method": "quanto", "weights": "int4", "activations": null, "modules_to_not_convert": ["lm_head"]}"#, "Quanto, 4 bits, groups of 128", LINEARS),
    (r#"{"quant_method": "eetq", "weights": "int8", "modules_to_not_convert": ["lm_head"]}"#, "EETQ, 8 bits, one scale per output", LINEARS),
    (
        r#"{"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1, "nbits_per_codebook": 16,
            "linear_weights_not_to_quantize": ["model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"]}"#,
        "AQLM, 2 bits",
        LINEARS - 2048 * 1024,
    ),
    (
        r#"{"quant_method": "vptq", "config_for_layers": {"model.layers.0.self_attn.q_proj": {"vector_lens": [-1, 8], "num_centroids": [-1, 65536],
            "num_res_centroids": [-1, 256], "group_num": 1}}}"#,
        "VPTQ, 3 bits",
        LINEARS,
    ),
    (r#"{"quant_method": "exl2", "version": "0.1.5", "bits": 4.65, "head_bits": 6}"#, "EXL2, 4.65 bits", LINEARS + HEAD),
    (r#"{"quant_method": "exl3", "version": "0.0.4", "bits": 3.0, "head_bits": 16}"#, "EXL3, 3 bits", LINEARS),
    (r#"{"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 64}}"#, "TorchAO, 4 bits, groups of 64", LINEARS),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig", "_version": 2, "_data": {}}}}"#,
        "TorchAO FP8, 8 bits, one scale per output",
        LINEARS,
    ),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {
            "_default": {"_type": "Int8WeightOnlyConfig", "_data": {}}, "model.layers.0.self_attn.q_proj": null}}}}}"#,
        "TorchAO, 8 bits, one scale per output",
        LINEARS - 1024 * 1024,
    ),
    (r#"{"quant_method": "bitnet", "modules_to_not_convert": null}"#, "BitNet, 2 bits", LINEARS),
    (
        r#"{"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": true, "packing_format": "auto_round:auto_gptq", "block_name_to_quantize": "model.layers",
            "extra_config": {"model.layers.2.mlp.gate_proj": {"bits": 16}, "model.layers.2.mlp.up_proj": {"bits": 8, "group_size": 64}}}"#,
        "AutoRound, 4 bits, groups of 128; AutoRound, 8 bits, groups of 64",
        LINEARS - 2048 * 1024,
    ),
    (
        r#"{"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": false}}, "exclude": ["lm_head"]}"#,
        "FP8, 8 bits, one scale per matrix",
        LINEARS,
    ),
    (r#"{"quant_method": "higgs", "bits": 4, "p": 2, "group_size": 256, "hadamard_size": 512}"#, "HIGGS, 4 bits, groups of 256", LINEARS),
    (r#"{"quant_method": "sinq", "nbits": 4, "group_size": 64, "method": "sinq"}"#, "SINQ, 4 bits, groups of 64", LINEARS),
    (r#"{"quant_method": "fp_quant", "forward_dtype": "mxfp4"}"#, "MXFP, 4 bits, groups of 32", LINEARS),
    // Two of four weights are zero: half of the codes, and two bits for the place of each of the others.
    (
        r#"{"quant_method": "compressed-tensors", "format": "marlin-24", "ignore": ["lm_head"], "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}}"#,
        "compressed-tensors, 3 bits, groups of 128",
        LINEARS,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"], "sparsity_config": {"format": "sparse-24-bitmask"},
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}"#,
        "FP8, 5 bits, one scale per output",
        LINEARS,
    ),
    // What the sparsity's own list ignores is whole, and what it does not target.
    (
        r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
            "sparsity_config": {"format": "sparse-24-bitmask", "targets": ["Linear"], "ignore": ["re:.*down_proj", "lm_head"]},
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}"#,
        "FP8, 8 bits, one scale per output; FP8, 5 bits, one scale per output",
        LINEARS,
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
            "sparsity_config": {"format": "sparse-24-bitmask", "targets": []},
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}"#,
        "FP8, 8 bits, one scale per output",
        LINEARS,
    ),
    (r#"{"quant_method": "gptq_marlin_24", "bits": 4, "group_size": 128}"#, "GPTQ, 3 bits, groups of 128", LINEARS),
    (r#"{"quant_method": "w8a8_int8"}"#, "compressed-tensors, 8 bits, one scale per output", LINEARS),
    (r#"{"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}"#, "compressed-tensors, 8 bits, blocks of 128 × 128", LINEARS),
    (r#"{"quant_method": "modelopt", "quant_algo": "NVFP4_SVD", "lora_rank": 16}"#, "NVFP4, 4 bits, groups of 16", LINEARS),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "MXDynamicActivationMXWeightConfig", "_data": {"block_size": 32,
            "weight_dtype": {"_type": "torch.dtype", "_data": "float4_e2m1fn_x2"}}}}}"#,
        "MXFP, 4 bits, groups of 32",
        LINEARS,
    ),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "UIntxWeightOnlyConfig", "_data": {"group_size": 64,
            "dtype": {"_type": "torch.dtype", "_data": "uint2"}}}}}"#,
        "TorchAO, 2 bits, groups of 64",
        LINEARS,
    ),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "UIntxWeightOnlyConfig", "_data": {"bit_width": 4, "packing_bitwidth": 32}}}}"#,
        "TorchAO, 4 bits, groups of 128",
        LINEARS,
    ),
    (
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "UIntxWeightOnlyConfig", "_data": {"bit_width": 8, "group_size": null}}}}"#,
        "TorchAO, 8 bits, one scale per output",
        LINEARS,
    ),
    (r#"{"quant_method": "metal", "bits": 4, "group_size": 64}"#, "MLX, 4 bits, groups of 64", LINEARS),
    (
        r#"{"quant_method": "gemma", "num_bits": 4, "module_quant_configs": {"o_proj": {"num_bits": 8}}, "modules_to_not_convert": ["lm_head"]}"#,
        "Gemma, 4 bits, one scale per output; Gemma, 8 bits, one scale per output",
        LINEARS,
    ),
];

#[test]
fn every_method_is_read() {
    for (object, schemes, weights) in METHODS {
        assert_eq!(read(DENSE, "quantization_config", object), ((*schemes).to_owned(), *weights), "{object}");
        // What the reader finds reaches the page.
        let model = model(DENSE, "quantization_config", object);
        assert_eq!(vramfit::reader::decode(&vramfit::reader::encode(&model)).as_ref(), Some(&model), "{object}");
    }
}

#[test]
fn files_that_only_older_engines_load_are_told() {
    const GROUPS: &str = r#""config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}"#;
    let told = |object: &str, word: &str| {
        let model = model(DENSE, "quantization_config", object);
        assert!(model.anatomy.assumptions.iter().any(|said| said.contains("2:4 sparsity") && said.contains(word)), "{:?}", model.anatomy.assumptions);
    };
    told(
        &format!(r#"{{"quant_method": "compressed-tensors", "format": "float-quantized", "sparsity_config": {{"format": "sparse-24-bitmask"}}, {GROUPS}}}"#),
        "transformers 4.57 restores",
    );
    told(r#"{"quant_method": "gptq_marlin_24", "bits": 4, "group_size": 128}"#, "vLLM 0.33");
    told(&format!(r#"{{"quant_method": "compressed-tensors", "format": "marlin-24", {GROUPS}}}"#), "vLLM 0.33");
    // A file of which nothing is left out needs no such sentence.
    for sparsity in [r#"{"format": "dense"}"#, r#"{"format": "sparse-24-bitmask", "targets": []}"#] {
        let dense = format!(r#"{{"quant_method": "compressed-tensors", "format": "float-quantized", "sparsity_config": {sparsity}, {GROUPS}}}"#);
        assert!(!model(DENSE, "quantization_config", &dense).anatomy.assumptions.iter().any(|said| said.contains("2:4")));
    }
}

/// One matrix of four is whole, the others have half of their codes and two bits of place for each that is left.
#[test]
fn the_list_of_a_sparsity_tells_matrices_apart() {
    let object = r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
        "sparsity_config": {"format": "sparse-24-bitmask", "targets": ["Linear"], "ignore": ["model.layers.0.mlp.down_proj"]},
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}"#;
    let model = model(DENSE, "quantization_config", object);
    let whole: u64 = stored(&model, Weights::AsStored, Encoding::BF16)
        .unwrap()
        .iter()
        .filter(|tensor| matches!(tensor.form, Form::Packed(scheme) if scheme.bits == vramfit::quantity::Decimal::new(8, 0)))
        .map(|tensor| tensor.times() * tensor.matrix.count * tensor.matrix.rows * tensor.matrix.columns)
        .sum();
    assert_eq!(whole, 2048 * 1024);
}

#[test]
fn mlx_takes_the_language_model_whole() {
    let (schemes, weights) = read(DENSE, "quantization", r#"{"group_size": 64, "bits": 4}"#);
    assert_eq!((schemes.as_str(), weights), ("MLX, 4 bits, groups of 64", LINEARS + 2 * HEAD));
    let mixed =
        r#"{"group_size": 32, "bits": 4, "mode": "mxfp4", "model.layers.0.mlp.up_proj": {"group_size": 64, "bits": 8, "mode": "affine"}, "lm_head": false}"#;
    let (schemes, weights) = read(DENSE, "quantization", mixed);
    assert_eq!((schemes.as_str(), weights), ("MLX MXFP, 4 bits, groups of 32; MLX, 8 bits, groups of 64", LINEARS + HEAD));
    // Its files say it twice.
    let twice =
        model(&DENSE.replacen('{', r#"{"quantization": {"group_size": 64, "bits": 4}, "#, 1), "quantization_config", r#"{"group_size": 64, "bits": 4}"#);
    assert!(!twice.anatomy.keys_not_understood.iter().any(|key| key.contains("quantization")));
    let other =
        model(&DENSE.replacen('{', r#"{"quantization": {"group_size": 32, "bits": 8}, "#, 1), "quantization_config", r#"{"group_size": 64, "bits": 4}"#);
    assert_eq!(other.anatomy.keys_not_understood, ["quantization"]);
}

#[test]
fn experts_are_told_from_other_layers() {
    let attention = 2 * (2 * 1024 * 1024 + 2 * 256 * 1024);
    let routers = 2 * 8 * 1024;
    for (object, weights) in [
        (r#"{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]}"#, EXPERTS),
        (r#"{"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["gate"]}"#, EXPERTS + attention),
        (
            r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head", "re:^(?!.*experts).*"], "config_groups": {"group_0": {
                "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}}}"#,
            EXPERTS,
        ),
        (
            r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {
                "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}"#,
            EXPERTS + attention + routers,
        ),
        (r#"{"quant_method": "experts_int8"}"#, EXPERTS),
    ] {
        assert_eq!(read(MIXTURE, "quantization_config", object).1, weights, "{object}");
    }
    let four = r#"{"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [128, 128], "expert_dtype": "fp4"}"#;
    // MiMo V2.6 says it otherwise.
    let stored = four.replace("expert_dtype\": \"fp4", "store_dtype\": \"mxfp4");
    for object in [four, &stored] {
        assert_eq!(read(MIXTURE, "quantization_config", object).0, "FP8, 8 bits, blocks of 128 × 128; MXFP, 4 bits, groups of 32");
    }
}

/// Two layers with eight experts each, as large as those of [`MIXTURE`].
const GPT_OSS: &str = r#"{"model_type": "gpt_oss", "hidden_size": 1024, "intermediate_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2,
    "num_attention_heads": 8, "head_dim": 128, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 1000, "sliding_window": 128,
    "torch_dtype": "bfloat16""#;
const MINIMAX: &str = r#"{"model_type": "minimax_m2", "hidden_size": 1024, "intermediate_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2,
    "num_attention_heads": 8, "head_dim": 128, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 1000, "torch_dtype": "bfloat16""#;

macro_rules! groups {
    ($format:literal, $($weights:literal),*) => {
        concat!(r#"{"quant_method": "compressed-tensors", "format": ""#, $format, r#"", "ignore": ["lm_head"], "config_groups": {"#,
            groups!(@ 0, $($weights),*), "}}")
    };
    (@ 0, $one:literal) => { concat!(r#""group_0": {"targets": ["Linear"], "weights": "#, $one, "}") };
    (@ 0, $one:literal, $two:literal) => {
        concat!(r#""group_0": {"targets": ["re:.*self_attn.*"], "weights": "#, $one, r#"}, "group_1": {"targets": ["re:.*mlp.*"], "weights": "#, $two, "}")
    };
}

const MXFP4: &str = r#"{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"]}"#;
const NVFP4: &str = r#"{"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head", "re:.*self_attn.*", "re:.*gate$"]}"#;

/// (config, its quantisation, the file type asked for, what is said, the weights that keep four bits and what a block of them takes).
/// Rules from llama.cpp in llama-cpp-python 0.3.36, `conversion/base.py` (`dequant_model`, `_generate_nvfp4_tensors`) and `gpt_oss.py`.
type Converted = (&'static str, &'static str, &'static str, &'static str, u64, (u64, u64));
const CONVERTED: &[Converted] = &[
    (GPT_OSS, MXFP4, "as-stored", "stored as MXFP4 stay MXFP4 there, and the others become bf16", EXPERTS, (17, 32)),
    (GPT_OSS, MXFP4, "bf16", "stored as MXFP4 stay MXFP4 there, and the others become bf16", EXPERTS, (17, 32)),
    (GPT_OSS, MXFP4, "gguf-bf16", "stored as MXFP4 stay MXFP4 there, and the others become bf16", EXPERTS, (17, 32)),
    (GPT_OSS, MXFP4, "q8_0", "stored as MXFP4 stay MXFP4 in this file", EXPERTS, (17, 32)),
    (MIXTURE, MXFP4, "as-stored", "does not read `mxfp4` weights of this kind", 0, (1, 1)),
    (
        DENSE,
        groups!("nvfp4-pack-quantized", r#"{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}"#),
        "as-stored",
        "stored as NVFP4 stay NVFP4 there",
        LINEARS,
        (36, 64),
    ),
    (
        DENSE,
        groups!("mxfp4-pack-quantized", r#"{"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}"#),
        "as-stored",
        "does not read `compressed-tensors` weights of this kind (MXFP, 4 bits",
        0,
        (1, 1),
    ),
    (DENSE, groups!("float-quantized", r#"{"num_bits": 8, "type": "float", "strategy": "channel"}"#), "as-stored", "counted as converted to bf16", 0, (1, 1)),
    (
        DENSE,
        groups!("float-quantized", r#"{"num_bits": 8, "type": "float", "strategy": "tensor"}"#),
        "as-stored",
        "does not read `compressed-tensors` weights of this kind",
        0,
        (1, 1),
    ),
    (
        DENSE,
        groups!("pack-quantized", r#"{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}"#),
        "as-stored",
        "counted as converted to bf16",
        0,
        (1, 1),
    ),
    (
        DENSE,
        groups!("pack-quantized", r#"{"num_bits": 4, "type": "int", "strategy": "channel"}"#),
        "as-stored",
        "does not read `compressed-tensors` weights of this kind",
        0,
        (1, 1),
    ),
    (
        DENSE,
        groups!(
            "float-quantized",
            r#"{"num_bits": 8, "type": "float", "strategy": "channel"}"#,
            r#"{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}"#
        ),
        "as-stored",
        "does not read `compressed-tensors` weights in several formats",
        0,
        (1, 1),
    ),
    (DENSE, r#"{"quant_method": "gptq", "bits": 4, "group_size": 128}"#, "as-stored", "counted as converted to bf16", 0, (1, 1)),
    (DENSE, r#"{"quant_method": "gptq", "bits": 3, "group_size": 128}"#, "as-stored", "does not read `gptq` weights of this kind (GPTQ, 3 bits", 0, (1, 1)),
    (DENSE, r#"{"quant_method": "awq", "bits": 4, "group_size": 128}"#, "as-stored", "does not read `awq` weights", 0, (1, 1)),
    (DENSE, r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#, "as-stored", "counted as converted to bf16", 0, (1, 1)),
    (MIXTURE, NVFP4, "as-stored", "stored as NVFP4 stay NVFP4 there", EXPERTS, (36, 64)),
    (MINIMAX, NVFP4, "as-stored", "does not read NVFP4 experts by these names (w1, w2, w3)", 0, (1, 1)),
];

#[test]
fn what_the_converter_keeps_is_said_and_counted() {
    for (base, object, format, said, kept, (block, values)) in CONVERTED {
        let scenario = Scenario { runtime: Runtime::LlamaCpp, weights: format.parse().unwrap(), ..Scenario::default() };
        let answer = vramfit::memory::estimate(&model(base, "quantization_config", object), &scenario).unwrap();
        assert_eq!(answer.warnings.iter().filter(|warning| warning.contains(said)).count(), 1, "{object} {format}: {:?}", answer.warnings);
        // The same model without its quantisation: what is kept takes its blocks instead of the file type's.
        let plain = Model { anatomy: config::read(&format!("{base}}}")).unwrap(), ..model(base, "quantization_config", object) };
        let mix: Weights = if *format == "q8_0" { "q8_0" } else { "gguf-bf16" }.parse().unwrap();
        let bytes = |model: &Model| stored(model, mix, Encoding::BF16).unwrap().iter().map(|tensor| tensor.bytes().unwrap().get()).sum::<u64>();
        let others = if *format == "q8_0" { kept * 34 / 32 } else { kept * 2 };
        assert_eq!(bytes(&model(base, "quantization_config", object)), bytes(&plain) - others + kept * block / values, "{object} {format}");
    }
}

#[test]
fn a_file_type_that_cannot_be_made_is_refused() {
    let of = |row: &str| {
        let scenario = Scenario { runtime: Runtime::LlamaCpp, weights: "q1_0".parse().unwrap(), ..Scenario::default() };
        vramfit::memory::estimate(&model(&DENSE.replace("1024", row), "x", "0"), &scenario).map_err(|error| error.to_string())
    };
    assert!(of("1024").is_ok());
    let error = of("1056").unwrap_err();
    assert!(error.contains("makes no q1_0") && error.contains("rows of 1,056 values are not whole blocks of 128"), "{error}");
}

#[test]
fn what_is_not_known_is_said() {
    for object in [
        r#"{"quant_method": "spqr", "bits": 3}"#,
        r#"{"quant_method": "gptq"}"#,
        r#"{"something": "else"}"#,
        r#"{"quant_method": "quanto", "weights": "int1"}"#,
        r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "NF4WeightOnlyConfig", "_data": {}}}}"#,
        r#"{"quant_method": "compressed-tensors", "format": "dense", "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4}}}}"#,
        r#"{"quant_method": "compressed-tensors", "format": "int-quantized", "sparsity_config": {"format": "sparse-bitmask"}, "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 8, "strategy": "channel"}}}}"#,
    ] {
        let (schemes, weights) = read(DENSE, "quantization_config", object);
        assert_eq!((schemes.as_str(), weights), ("", 0), "{object}");
        let scenario = Scenario { runtime: Runtime::Transformers, ..Scenario::default() };
        let answer = vramfit::memory::estimate(&model(DENSE, "quantization_config", object), &scenario).unwrap();
        assert!(answer.warnings[0].contains("whose size is not derived"), "{:?}", answer.warnings);
    }
    let odd = model(DENSE, "quantization_config", r#"{"quant_method": "fp8", "modules_to_not_convert": ["re:(?<=n)x", "lm_head"]}"#);
    assert!(odd.anatomy.assumptions[0].contains("re:(?<=n)x"), "{:?}", odd.anatomy.assumptions);
    assert!(config::read(&format!("{DENSE}, \"quantization_config\": 4}}")).is_err());
}

/// The methods of transformers 5.23 (`AUTO_QUANTIZER_MAPPING`), vLLM 0.33 (`QUANTIZATION_METHODS`) and SGLang 0.5.23 that may stand in a
/// config: none is taken for 16 bits without a word, whatever else its config says.
#[test]
fn no_method_is_silently_unquantised() {
    const METHODS: &str = "awq auto_awq cpu_awq awq_marlin gptq auto_gptq gptq_marlin gptq_marlin_24 gptq_bitblas marlin bitsandbytes aqlm quanto quark \
        fouroversix fp_quant eetq higgs hqq compressed-tensors fbgemm_fp8 torchao bitnet vptq spqr fp8 gguf nvfp4 mxfp8 auto-round inc metal sinq gemma \
        modelopt modelopt_fp4 modelopt_mxfp8 modelopt_mixed humming moe_wna16 deepseek_v4_fp8 online fp8_per_tensor fp8_per_block fp8_per_channel \
        int8_per_channel_weight_only nvfp4_per_token ptpc_fp8 w8a8_int8 w8a8_fp8 blockwise_int8 w4afp8 petit_nvfp4 quark_mxfp4 modelslim mxfp_w4a8 qqq exl2 exl3";
    for method in METHODS.split_whitespace() {
        let model = model(DENSE, "quantization_config", &format!(r#"{{"quant_method": "{method}"}}"#));
        let takes_none = model.anatomy.quantization.as_ref().is_none_or(|said| said.assigned.is_empty());
        let with = |runtime| vramfit::memory::estimate(&model, &Scenario { runtime, ..Scenario::default() });
        let servers = [Runtime::Vllm, Runtime::Sglang, Runtime::Tgi, Runtime::Transformers].map(with);
        let refusals = servers.iter().filter_map(|answer| answer.as_ref().err());
        assert!(refusals.clone().all(|error| error.to_string().to_lowercase().contains(method)), "{method}: {servers:?}");
        for answer in servers.iter().flatten() {
            let is_said = answer.warnings.iter().any(|warning| warning.contains(&format!("`{method}` quantisation, whose size is not derived")));
            assert_eq!(takes_none, is_said, "{method}: {:?}", answer.warnings);
        }
    }
}

#[test]
fn a_file_beside_the_config_counts_where_that_is_silent() {
    let beside = r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}}"#;
    let scheme = |text: &str| {
        let quantization = config::read_with(text, Some(beside)).unwrap().quantization.unwrap();
        quantization.schemes[0].to_string()
    };
    assert_eq!(scheme(&format!("{DENSE}}}")), "NVFP4, 4 bits, groups of 16");
    let said = format!("{DENSE}, \"quantization_config\": {{\"quant_method\": \"awq\", \"bits\": 4}}}}");
    assert_eq!(scheme(&said), "AWQ, 4 bits, groups of 128");
    assert!(config::read_with(&said, Some("{")).is_err());
}
