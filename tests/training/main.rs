//! Training against worked numbers of papers and of frameworks' own estimators, against measured operators, and by properties.

mod activations;
#[path = "../common/mod.rs"]
mod common;
mod methods;
mod questions;
mod spread;
mod states;
mod towers;

use common::model;
use vramfit::estimate::{Device, Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{Method, MixedRecipe, Precision, Scenario, Sharding, Targets, Task, Training};

const LLAMA_8B: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "hidden_act": "silu",
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256}"#;
const LLAMA_8B_PARAMETERS: u64 = 8_030_261_248;
const QWEN3_30B_A3B: &str = r#"{"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": false, "decoder_sparse_step": 1,
    "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "mlp_only_layers": [],
    "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 151936}"#;

const LLAVA: &str = r#"{"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_token_index": 32000, "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default", "torch_dtype": "bfloat16", "vocab_size": 32064,
    "text_config": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32064},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "num_attention_heads": 16,
        "num_hidden_layers": 24, "patch_size": 14}}"#;

fn scenario(training: Training) -> Scenario {
    Scenario { gpu: None, gpu_capacity: Some(Bytes(1 << 46)), task: Task::Train, training, ..Scenario::default() }
}

fn answer(config: &str, training: Training) -> Estimate {
    estimate(&model(config), &scenario(training)).unwrap()
}

fn spread(config: &str, gpus: u64, training: Training) -> Estimate {
    estimate(&model(config), &Scenario { gpus: Some(gpus), ..scenario(training) }).unwrap()
}

fn held(device: &Device, term: Term, stage: Stage) -> u64 {
    device.term_at(term, stage).unwrap().expected.get()
}

fn peak(answer: &Estimate) -> u64 {
    answer.worst().unwrap().peak().unwrap().1.expected.get()
}

/// Weights, their copies, gradients and states at the optimizer's step.
fn states(device: &Device) -> u64 {
    [Term::Weights, Term::Adapters, Term::MasterWeights, Term::Gradients, Term::Optimizer].iter().map(|term| held(device, *term, Stage::OptimizerStep)).sum()
}

fn full() -> Training {
    Training { method: Some(Method::Full), seq_len: Some(2048), ..Training::default() }
}

fn mixed(recipe: MixedRecipe, sharding: Sharding) -> Training {
    Training { precision: Some(Precision::Bf16Mixed), mixed_recipe: Some(recipe), sharding: Some(sharding), ..full() }
}

fn lora(rank: u64, targets: Targets) -> Training {
    Training { method: Some(Method::Lora), lora_rank: Some(rank), lora_targets: Some(targets), seq_len: Some(2048), ..Training::default() }
}
