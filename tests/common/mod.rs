//! What the engine's tests share.
#![allow(dead_code)] // each test file uses its part

pub mod gguf;
pub mod quantized;
pub mod shelf;

use std::sync::LazyLock;

use vramfit::estimate::{Device, Term};
use vramfit::model::{Model, Origin, Provenance};

/// Fields of published configs that matter for memory (repository of the same name on the Hub).
pub mod fixture {
    pub const MISTRAL_7B: &str = r#"{"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "sliding_window": 4096,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32000}"#;
    pub const MISTRAL_7B_INSTRUCT_V02: &str = r#"{"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32000}"#;
    pub const MIXTRAL_8X7B: &str = r#"{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "num_local_experts": 8, "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32000}"#;
    pub const QWEN2_7B: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
        "max_position_embeddings": 131072, "max_window_layers": 28, "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
        "sliding_window": 131072, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 152064}"#;
    pub const QWEN3_4B: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "head_dim": 128, "hidden_size": 2560,
        "intermediate_size": 9728, "max_position_embeddings": 40960, "max_window_layers": 36, "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
        "vocab_size": 151936}"#;
    pub const GEMMA2_9B: &str = r#"{"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": false, "head_dim": 256,
        "hidden_size": 3584, "intermediate_size": 14336, "max_position_embeddings": 8192, "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "sliding_window": 4096, "torch_dtype": "float32", "vocab_size": 256000}"#;
    pub const GPT2: &str = r#"{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
        "n_positions": 1024, "vocab_size": 50257}"#;
    pub const ALL: &[&str] = &[MISTRAL_7B, MISTRAL_7B_INSTRUCT_V02, MIXTRAL_8X7B, QWEN2_7B, QWEN3_4B, GEMMA2_9B, GPT2];
}

/// One published config of each type of model in the oracle's table, where there is a choice one that is not quantised.
pub static KINDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let rows = include_str!("../fixtures/oracle.jsonl").lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a row of JSON"));
    let mut configs: Vec<serde_json::Value> = rows.map(|mut row| row["config"].take()).collect();
    let kind = |config: &serde_json::Value| config["model_type"].as_str().map(str::to_owned);
    configs.sort_by_key(|config| (kind(config), config.get("quantization_config").is_some()));
    configs.dedup_by_key(|config| kind(config));
    configs.iter().map(|config| format!("{config:#}")).collect()
});

/// A model from its config alone.
pub fn model(config: &str) -> Model {
    let anatomy = vramfit::config::read(config).expect("a fixture");
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

/// Bytes of the parameters on a device, without what engines load beside them (tables, remains of segments).
pub fn parameter_bytes(device: &Device) -> u64 {
    let entry = device.entries.iter().find(|entry| entry.term == Term::Weights).expect("weights");
    entry.amount.expected.get()
}

/// Bytes in `n` GiB.
pub const fn gib(n: u64) -> u64 {
    n << 30
}
