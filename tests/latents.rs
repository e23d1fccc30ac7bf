//! Latent attention: windows, indexers, and what engines keep of both.

mod common;

use common::gguf::{GgufFile, header_of};
use common::model;
use vramfit::checkpoint::gguf;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::{estimate, is_common};
use vramfit::model::{LatentAttention, Mixer, Role, Span};
use vramfit::scenario::{KvCache, Runtime, Scenario};

/// dots.note.preview's sizes (`Dots3NoteTextConfig`): 13 of 46 layers see everything by an indexer's choice, 33 slide.
const DOTS: &str = r#"{"model_type": "dots3_note_text", "architectures": ["Dots3NoteForCausalLM"], "dtype": "bfloat16", "max_position_embeddings": 524288}"#;

const CONTEXT: u64 = 1 << 17;
const WINDOW: u64 = 512;

fn on(runtime: Runtime) -> Estimate {
    let scenario = Scenario { runtime, gpu: Some("H200 SXM".into()), gpus: Some(8), context: Some(CONTEXT), batch: Some(4), ..Scenario::default() };
    estimate(&model(DOTS), &scenario).unwrap()
}

/// Of every ledger once: ranks that hold the same share one.
fn cached(answer: &Estimate, stage: Stage) -> u64 {
    answer.devices.iter().map(|device| device.term_at(Term::KvCache, stage).unwrap().expected.get()).sum()
}

/// Bytes of one token in a layer that sees everything, in one that slides, and of an indexer's keys in 8 bits with their scale.
const FULL: u64 = 2 * (512 + 64);
const SLIDING: u64 = 2 * (1024 + 64);
const KEYS: u64 = 128 + 4;

#[test]
fn engines_keep_the_window_of_latents() {
    let tokens = 4 * CONTEXT;
    // SGLang: a pool of its own for layers that slide.
    let sglang = on(Runtime::Sglang);
    assert_eq!(cached(&sglang, Stage::Decode), tokens * 13 * (FULL + KEYS) + 4 * WINDOW * 33 * SLIDING);
    // transformers: layers over the GPUs; a window less the token that is written, and what it keeps of indexers in float32.
    assert_eq!(cached(&on(Runtime::Transformers), Stage::Decode), tokens * 13 * (FULL + 4 * 128) + 4 * (WINDOW - 1) * 33 * SLIDING);
    // llama.cpp: a window and a micro-batch.
    assert_eq!(cached(&on(Runtime::LlamaCpp), Stage::Decode), tokens * 13 * FULL + 4 * (WINDOW + 512) * 33 * SLIDING);
    // TGI and TensorRT-LLM have no rule for it: everything stays.
    assert_eq!(cached(&on(Runtime::TensorRtLlm), Stage::Decode), tokens * (13 * FULL + 33 * SLIDING));
}

/// DeepSeek V3.2's indexers keep theirs in the dtype of computation: 57,344 B of 64 tokens in a `DynamicCache` of transformers 5.23.
#[test]
fn transformers_keeps_the_keys_of_indexers() {
    let config = r#"{"model_type": "deepseek_v32", "architectures": ["DeepseekV32ForCausalLM"], "dtype": "bfloat16", "hidden_size": 128, "intermediate_size": 128,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 100, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "kv_lora_rank": 64, "q_lora_rank": 48, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 24, "index_n_heads": 4,
        "index_head_dim": 32, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1}"#;
    let scenario = Scenario { runtime: Runtime::Transformers, gpu: Some("L4".into()), context: Some(64), ..Scenario::default() };
    assert_eq!(cached(&estimate(&model(config), &scenario).unwrap(), Stage::Decode), 57_344);
}

/// vLLM: one group of 13 layers and two of 17 (34 places for 33 layers, 17 for 13: the fewest that are empty), whose rows are all as wide
/// as those that slide; a block holds the largest group.
#[test]
fn vllm_shares_blocks_among_groups_of_latents() {
    let block = 64 * 17 * SLIDING;
    let blocks = 4 * (CONTEXT / 64) + 2 * 4 * ((WINDOW - 1).div_ceil(64) + 1);
    let answer = on(Runtime::Vllm);
    assert_eq!(cached(&answer, Stage::Decode), blocks * block);
    // Without windows: one group of all layers, the indexers' keys beside them.
    let config = DOTS.replace("\"dtype\"", "\"use_sliding_window\": false, \"dtype\"");
    let scenario = Scenario { gpu: Some("H200 SXM".into()), gpus: Some(8), context: Some(CONTEXT), batch: Some(4), ..Scenario::default() };
    let model = model(&config);
    assert_eq!(cached(&estimate(&model, &scenario).unwrap(), Stage::Decode), 4 * CONTEXT * 46 * (FULL + KEYS));
    // An indexer with 8-bit latents: 656 bytes where nothing slides.
    let eight = Scenario { kv_cache: KvCache::Fp8, ..scenario.clone() };
    assert_eq!(cached(&estimate(&model, &eight).unwrap(), Stage::Decode), 4 * CONTEXT * 46 * (656 + KEYS));
    assert!(!is_common(&model, &scenario));
}

fn mixers(anatomy: &vramfit::model::Anatomy) -> Vec<LatentAttention> {
    let runs = anatomy.components[0].layers.iter();
    let all = runs.flat_map(|run| std::iter::repeat_n(run.layer.mixer, usize::try_from(run.count).unwrap()));
    all.map(|mixer| if let Mixer::Latent(latent) = mixer { latent } else { panic!("{mixer}") }).collect()
}

/// `Dots3NoteTextAttention` takes its sizes from `per_layer_config[layer]`, whatever the layer's type.
#[test]
fn any_layer_may_say_its_own_sizes() {
    let config = r#"{"model_type": "dots3_note_text", "num_hidden_layers": 4, "layer_types":
        ["full_attention", "indexed_attention", "sliding_attention", "sliding_attention"], "sliding_window": 256, "per_layer_config": {
        "0": {"kv_lora_rank": 256, "num_attention_heads": 32, "num_key_value_heads": 32}, "1": {"index_head_dim": 64, "q_lora_rank": 768},
        "2": {"kv_lora_rank": 1024, "qk_nope_head_dim": 192, "head_dim": 256}}}"#;
    let anatomy = vramfit::config::read(config).unwrap();
    assert_eq!(anatomy.keys_not_understood, Vec::<String>::new());
    let usual = LatentAttention { heads: 128, kv_lora_rank: 512, rope_dim: 64, nope_dim: 128, value_dim: 128, indexer: 0, span: Span::Full };
    let slides = LatentAttention { span: Span::Sliding(256), ..usual };
    let expected = [
        LatentAttention { heads: 32, kv_lora_rank: 256, ..usual },
        LatentAttention { indexer: 64, ..usual },
        LatentAttention { kv_lora_rank: 1024, nope_dim: 192, ..slides },
        slides,
    ];
    assert_eq!(mixers(&anatomy), expected);
    let shape = |layer: u64, name: &str| {
        let (_, run) = anatomy.components[0].runs_in(layer..layer + 1).next().unwrap();
        run.tensors.iter().find(|tensor| tensor.name == name).unwrap().shape.clone()
    };
    assert_eq!(shape(1, "self_attn.indexer.wq_b.weight"), [64 * 64, 768]);
    assert_eq!(shape(0, "self_attn.g_proj.weight"), [32, 5120]);
}

/// A header as llama.cpp's converter writes it (`conversion/dots3.py`): sizes of layers that slide under keys of their own.
#[test]
fn gguf_files_say_the_sizes_of_layers_that_slide() {
    let number = |file: GgufFile, (key, value): (&str, u32)| file.u32(&format!("dots3note.{key}"), value);
    let keys = [
        ("block_count", 2),
        ("embedding_length", 256),
        ("feed_forward_length", 512),
        ("vocab_size", 100),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", 64),
        ("attention.kv_lora_rank", 128),
        ("attention.key_length", 160),
        ("attention.value_length", 128),
        ("attention.key_length_mla", 96),
        ("attention.value_length_mla", 64),
        ("attention.sliding_window", 512),
        ("attention.kv_lora_rank_swa", 192),
        ("attention.key_length_swa", 224),
        ("attention.value_length_swa", 192),
        ("attention.key_length_mla_swa", 80),
        ("attention.value_length_mla_swa", 32),
        ("attention.indexer.head_count", 4),
        ("attention.indexer.key_length", 128),
        ("attention.indexer.top_k", 2048),
    ];
    let mut file = keys.into_iter().fold(GgufFile::new(3, false).text("general.architecture", "dots3note"), number);
    for (key, values) in [("attention.head_count", [8, 4]), ("attention.sliding_window_pattern", [0, 1]), ("attention.indexer.types", [1, 0])] {
        file = file.integers(&format!("dots3note.{key}"), common::gguf::I32, 4, &values);
    }
    file = file.tensor("token_embd.weight", &[256, 100], 1).tensor("output_norm.weight", &[256], 0);
    for (layer, heads, rank, [nope, value]) in [(0, 8, 128, [64, 64]), (1, 4, 192, [48, 32])] {
        let name = |leaf: &str| format!("blk.{layer}.{leaf}.weight");
        file = file.tensor(&name("attn_q_a"), &[256, 64], 1).tensor(&name("attn_q_b"), &[64, heads * (nope + 32)], 1);
        file = file.tensor(&name("attn_kv_a_mqa"), &[256, rank + 32], 1).tensor(&name("attn_k_b"), &[nope, rank, heads], 1);
        file = file.tensor(&name("attn_v_b"), &[rank, value, heads], 1).tensor(&name("attn_output"), &[heads * value, 256], 1);
        for (leaf, shape) in [("ffn_gate", [256, 512]), ("ffn_up", [256, 512]), ("ffn_down", [512, 256])] {
            file = file.tensor(&name(leaf), &shape, 1);
        }
    }
    file = file.tensor("blk.0.indexer.attn_k.weight", &[256, 128], 1);
    let contents = gguf::read(&header_of(&file).unwrap()).unwrap();
    assert_eq!((contents.anatomy.model_type.as_str(), contents.anatomy.keys_not_understood.len()), ("dots3_note_text", 0));
    let full = LatentAttention { heads: 8, kv_lora_rank: 128, rope_dim: 32, nope_dim: 64, value_dim: 64, indexer: 128, span: Span::Full };
    let slides = LatentAttention { heads: 4, kv_lora_rank: 192, rope_dim: 32, nope_dim: 48, value_dim: 32, indexer: 0, span: Span::Sliding(512) };
    assert_eq!(mixers(&contents.anatomy), [full, slides]);
}

/// DeepSeek V4's heads give to latents in groups: 8,192 outputs of 4,096 inputs, whatever the hidden size is.
#[test]
fn deepseek_v4s_first_output_matrix_lies_as_it_is_stored() {
    for hidden in [4096, 7168, 8192] {
        let config = format!(
            r#"{{"model_type": "deepseek_v4", "hidden_size": {hidden}, "head_dim": 512, "num_attention_heads": 64, "num_key_value_heads": 1, "qk_rope_head_dim": 64,
            "q_lora_rank": 1024, "o_lora_rank": 1024, "o_groups": 8, "num_hidden_layers": 2, "compress_ratios": [0, 4], "sliding_window": 128, "n_routed_experts": 8,
            "num_experts_per_tok": 2, "moe_intermediate_size": 2048, "vocab_size": 129280, "max_position_embeddings": 65536, "rope_theta": 10000}}"#
        );
        let anatomy = vramfit::config::read(&config).unwrap();
        let first = anatomy.inventory().filter(|item| item.tensor.role == Role::OutputDown).map(|item| item.matrix().unwrap());
        assert_eq!(first.map(|matrix| (matrix.rows, matrix.columns)).collect::<Vec<_>>(), [(8192, 4096); 2], "{hidden}");
        // A base of its own for the layer that compresses.
        let rotary = anatomy.rotary.unwrap();
        assert!(rotary.in_float32 && rotary.width == 2 * 64);
    }
}
