//! Sizes of quantised models: what their tests share.

use vramfit::encoding::Encoding;
use vramfit::model::Model;
use vramfit::scenario::Weights;
use vramfit::weights::stored;

pub const GB: u64 = 1_000_000_000;

/// Dimensions of published models that the table of configs does not have.
const SHAPES: &[(&str, &str)] = &[
    (
        "LLaMA-33B",
        r#"{"model_type": "llama", "hidden_size": 6656, "intermediate_size": 17920, "num_attention_heads": 52, "num_hidden_layers": 60,
            "vocab_size": 32000, "torch_dtype": "float16"}"#,
    ),
    (
        "LLaMA-65B",
        r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 22016, "num_attention_heads": 64, "num_hidden_layers": 80,
            "vocab_size": 32000, "torch_dtype": "float16"}"#,
    ),
    (
        "Llama-2-70B",
        r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
            "num_key_value_heads": 8, "vocab_size": 32000, "torch_dtype": "float16"}"#,
    ),
    (
        "Molmo-7B-D",
        r#"{"model_type": "molmo", "architectures": ["MolmoForCausalLM"], "embedding_size": 152064, "hidden_size": 3584, "intermediate_size": 37888, "layer_norm_type": "rms",
            "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "qkv_bias": true, "vocab_size": 152064, "weight_tying": false,
            "tie_word_embeddings": false, "torch_dtype": "float16"}"#,
    ),
    (
        "Qwen-VL-Chat",
        r#"{"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128, "no_bias": true,
            "num_attention_heads": 32, "num_hidden_layers": 32, "seq_length": 2048, "tie_word_embeddings": false, "torch_dtype": "float16", "vocab_size": 151936,
            "visual": {"heads": 16, "image_size": 448, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096, "patch_size": 14, "width": 1664}}"#,
    ),
    (
        "ERNIE-4.5-300B",
        r#"{"model_type": "ernie4_5_moe", "hidden_size": 8192, "intermediate_size": 28672, "moe_intermediate_size": 3584, "moe_num_experts": 64, "moe_k": 8,
            "moe_num_shared_experts": 0, "moe_layer_start_index": 3, "num_attention_heads": 64, "num_hidden_layers": 54, "num_key_value_heads": 8,
            "tie_word_embeddings": false, "vocab_size": 103424, "torch_dtype": "bfloat16"}"#,
    ),
];

/// Configs of published models, with the fields that matter.
const ORACLE: &str = include_str!("../fixtures/oracle.jsonl");

/// The config of a published model, its quantisation replaced by `quantization` (none where that is empty).
pub fn published(id: &str, quantization: &str) -> String {
    let named = SHAPES.iter().find(|(name, _)| *name == id).map(|(_, config)| serde_json::from_str(config).expect("JSON"));
    let rows = ORACLE.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a row of JSON"));
    let in_table = || rows.into_iter().find(|row| row["id"] == id).map(|mut row| row["config"].take());
    let mut config: serde_json::Value = named.or_else(in_table).unwrap_or_else(|| panic!("{id} is in the table"));
    let object = config.as_object_mut().unwrap();
    object.remove("quantization_config");
    if !quantization.is_empty() {
        object.insert("quantization_config".to_owned(), serde_json::from_str(quantization).expect("JSON"));
    }
    config.to_string()
}

/// What all tensors of a model take in a format.
pub fn bytes(model: &Model, format: &str, dtype: Encoding) -> u64 {
    let format: Weights = format.parse().expect("a format of the table");
    stored(model, format, dtype).unwrap().iter().map(|tensor| tensor.bytes().unwrap().get()).sum()
}

/// (model, quantisation of its config, format asked for, size in thousandths of the unit, unit, where it was published)
pub type Size = (&'static str, &'static str, &'static str, u64, u64, &'static str);

/// Those sizes that are further than so many thousandths from what is published.
pub fn further_than(thousandths_off: u64, sizes: &[Size]) -> Vec<String> {
    let wrong = |(id, quantization, format, thousandths, unit, source): &Size| {
        let size = bytes(&super::model(&published(id, quantization)), format, Encoding::BF16);
        let published = thousandths * unit / 1000;
        (size.abs_diff(published) * 1000 > published * thousandths_off).then(|| format!("{id} {format}{quantization}: {size} B for {published} B ({source})"))
    };
    sizes.iter().filter_map(wrong).collect()
}
