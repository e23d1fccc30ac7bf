//! What recurrent layers keep, in which dtype, and how engines and `inspect` take it.

use serde_json::Value;
use vramfit::encoding::Encoding;
use vramfit::model::{Anatomy, Model, Origin, Provenance};
use vramfit::report;

fn read(config: &str) -> Anatomy {
    vramfit::config::read(config).unwrap()
}

/// Four layers of Qwen3.5-27B's sizes, three of them gated delta-nets.
fn qwen3_5(more: &str) -> String {
    format!(
        r#"{{"model_type": "qwen3_5_text", "hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
            "num_hidden_layers": 4, "vocab_size": 1000, "linear_num_key_heads": 16, "linear_num_value_heads": 48, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "dtype": "bfloat16"{more}}}"#
    )
}

#[test]
fn the_config_names_the_dtype_of_states() {
    // Four columns of 2 × 16 × 128 + 48 × 128 channels at 16 bits, and 48 matrices of 128 × 128.
    let (convolution, state) = (4 * 10_240 * 2, 48 * 128 * 128);
    let wide = report::states(&read(&qwen3_5(r#", "mamba_ssm_dtype": "float32""#))).unwrap().unwrap();
    assert_eq!((wide.least, wide.most, wide.named), (3 * (convolution + 4 * state), 3 * (convolution + 4 * state), vec![Encoding::F32]));
    // vLLM takes the dtype of computation where the config is silent, SGLang float32.
    let open = report::states(&read(&qwen3_5(""))).unwrap().unwrap();
    assert_eq!((open.least, open.most, open.named), (3 * (convolution + 2 * state), 3 * (convolution + 4 * state), vec![]));
    let error = vramfit::config::read(&qwen3_5(r#", "mamba_ssm_dtype": "wide""#)).unwrap_err().to_string();
    assert!(error.contains("`mamba_ssm_dtype`"), "{error}");
    assert!(
        report::states(&read(
            r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#
        ))
        .unwrap()
        .is_none()
    );
}

#[test]
fn inspect_names_the_dtype_of_states() {
    let json = |config: &str| {
        let provenance = Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() };
        report::inspect_json(&Model { anatomy: read(config), provenance }).unwrap()
    };
    let mixer = |json: &Value, layer: usize| json["model"]["layers"][layer]["mixer"]["state_dtype"].clone();
    let said = json(&qwen3_5(r#", "mamba_ssm_dtype": "float32""#));
    assert_eq!((mixer(&said, 0), said["model"]["state_bytes_per_sequence"]["low"].clone()), (Value::from("fp32"), Value::from(9_682_944)));
    assert_eq!(mixer(&json(&qwen3_5("")), 0), Value::Null);
    // Kimi's delta attention keeps its state in float32 in every engine.
    let kimi = r#"{"model_type": "kimi_linear", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 100,
        "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32,
        "first_k_dense_replace": 1, "linear_attn_config": {"kda_layers": [1], "full_attn_layers": [2], "num_heads": 2, "head_dim": 16, "short_conv_kernel_size": 4}}"#;
    assert_eq!(mixer(&json(kimi), 0), Value::from("fp32"));
}

#[test]
fn the_page_has_what_inspect_prints() {
    let tables = vramfit::reader::anatomy::tables(&read(&qwen3_5(r#", "mamba_ssm_dtype": "float32", "mystery": 3"#))).unwrap();
    for part in [
        "Parameters by part",
        "Parameters by role",
        "Layers of text",
        "Cache per token in the decoder",
        "9,682,944 bytes, the state in fp32",
        "model.layers.*.linear_attn.conv1d.weight",
        "leave it",
        "not understood: mystery",
    ] {
        assert!(tables.contains(part), "{part} in {tables}");
    }
}
