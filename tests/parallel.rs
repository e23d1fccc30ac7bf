//! How a model is spread over GPUs: worked numbers, and that the parts are the whole.

mod common;

use common::{fixture, model, parameter_bytes};
use vramfit::estimate::{Device, Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Parallel, Runtime, Scenario, Weights};

fn on(config: &str, tensor: u64, parallel: Parallel) -> Result<Estimate, String> {
    let scenario = Scenario {
        tensor_parallel: Some(tensor),
        parallel,
        weights: Weights::Plain(vramfit::encoding::Encoding::BF16),
        context: Some(8192),
        ..Scenario::default()
    };
    estimate(&model(config), &scenario).map_err(|error| error.to_string())
}

fn held(device: &Device, term: Term, stage: Stage) -> u64 {
    device.term_at(term, stage).unwrap().expected.get()
}

fn parameters(device: &Device) -> u64 {
    parameter_bytes(device) / 2
}

fn pipeline(stages: u64) -> Parallel {
    Parallel { pipeline: Some(stages), ..Parallel::default() }
}

/// Mistral-7B: a layer has 218,112,000 parameters; embedding and head 131,072,000 each; the last norm 4,096.
const LAYER: u64 = 218_112_000;
const TABLE: u64 = 131_072_000;

#[test]
fn stages_hold_their_layers_and_the_ends_hold_the_tables() {
    let answer = on(fixture::MISTRAL_7B_INSTRUCT_V02, 1, pipeline(4)).unwrap();
    let weights: Vec<u64> = answer.devices.iter().map(parameters).collect();
    assert_eq!(weights, [8 * LAYER + TABLE, 8 * LAYER, 8 * LAYER + TABLE + 4096]);
    // The middle stages hold the same and share a ledger.
    assert_eq!(answer.devices.iter().map(|device| device.ranks.clone()).collect::<Vec<_>>(), [0..1, 1..3, 3..4]);
    let cache: Vec<u64> = answer.devices.iter().map(|device| held(device, Term::KvCache, Stage::Decode)).collect();
    assert_eq!(cache, [8 * 2 * 8 * 128 * 2 * 8192; 3]);
    // 32 layers over 5: what is left goes to the stages before the last.
    let layers: Vec<u64> = on(fixture::MISTRAL_7B_INSTRUCT_V02, 1, pipeline(5)).unwrap().devices.iter().map(|device| parameters(device) / LAYER).collect();
    assert_eq!(layers, [6, 6, 7, 6]);
    assert_eq!(on(fixture::MISTRAL_7B_INSTRUCT_V02, 1, pipeline(5)).unwrap().devices[2].ranks, 2..4);
}

#[test]
fn a_tied_table_is_on_both_ends() {
    let whole = on(fixture::GEMMA2_9B, 1, Parallel::default()).unwrap();
    let split = on(fixture::GEMMA2_9B, 1, pipeline(2)).unwrap();
    let sum: u64 = split.devices.iter().map(parameters).sum();
    assert_eq!(sum, parameters(&whole.devices[0]) + 256_000 * 3584);
}

/// transformers 5.23 `integrations/accelerate.py` (`infer_auto_device_map`), run on meta tensors: `{'model.embed_tokens': 0, 'lm_head': 0,
/// ..., 'model.norm': 1}` of a tied head, `'lm_head': 1` of one of its own.
#[test]
fn one_process_holds_a_tied_table_once() {
    let split = |config: &str| {
        let scenario =
            Scenario { runtime: Runtime::Transformers, gpu: Some("H100 SXM5 80GB".into()), gpus: Some(2), context: Some(8192), ..Scenario::default() };
        estimate(&model(config), &scenario).unwrap()
    };
    let logits = |answer: &Estimate| answer.devices.iter().map(|device| held(device, Term::Logits, Stage::Decode)).collect::<Vec<u64>>();
    let tied = split(fixture::QWEN3_4B);
    let [first, last] = [0, 1].map(|gpu| parameters(&tied.devices[gpu]));
    let layer = (last - 2560) / 17;
    assert_eq!((first, last), (151_936 * 2560 + 19 * layer, 17 * layer + 2560));
    // In 16 bits where the head is, and again on the first GPU with the copy in 32 that tokens are drawn from.
    assert_eq!(logits(&tied), [151_936 * 6, 0]);
    assert_eq!(logits(&split(fixture::QWEN2_7B)), [152_064 * 6, 152_064 * 2]);
}

/// Layers of each GPU as `infer_auto_device_map` of transformers 5.23 places them (meta tensors in bfloat16, GPUs of 80 GiB).
#[test]
fn one_process_balances_layers_with_room_to_spare() {
    let gpt2 = fixture::GPT2.replace('{', "{\"torch_dtype\": \"bfloat16\", ");
    let untied = fixture::QWEN3_4B.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    let gemma = r#"{"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62,
        "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 262208, "torch_dtype": "bfloat16"}"#;
    let pythia = r#"{"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "vocab_size": 50304, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#;
    for (config, gpus, expected) in [
        (fixture::QWEN3_4B, 2, &[19, 17][..]),
        (fixture::QWEN3_4B, 3, &[13, 18, 5]),
        // GPUs without any part are left out.
        (fixture::QWEN3_4B, 4, &[9, 14, 13]),
        (&untied, 2, &[18, 18]),
        (&untied, 3, &[11, 19, 6]),
        // The last has the head alone.
        (&untied, 4, &[8, 15, 13, 0]),
        (&gpt2, 2, &[9, 3]),
        (gemma, 4, &[16, 20, 20, 6]),
        // The first has no room for the table beside what it keeps for the head: `{'gpt_neox.embed_in': 1, ...}`.
        (pythia, 8, &[4, 8, 0]),
    ] {
        let scenario =
            Scenario { runtime: Runtime::Transformers, gpu: Some("H100 SXM5 80GB".into()), gpus: Some(gpus), context: Some(1024), ..Scenario::default() };
        let model = model(config);
        let answer = estimate(&model, &scenario).unwrap();
        let layer: u64 = model.decoder().layers[0].tensors.iter().map(|tensor| tensor.elements().unwrap().get()).sum();
        let layers: Vec<u64> = answer.devices.iter().map(|device| held(device, Term::KvCache, Stage::Decode)).collect();
        let all: u64 = layers.iter().sum();
        let counts: Vec<u64> = layers.iter().map(|bytes| (bytes * model.decoder().layer_count() + all / 2) / all).collect();
        assert_eq!(counts, expected, "{config}");
        let table = model.decoder().tensors[0].elements().unwrap().get();
        assert!(parameters(&answer.devices[0]) >= expected[0] * layer + table, "{config}: the table is on the first");
        let idle = gpus - expected.len() as u64;
        let said = format!("no weights on {idle} of the {gpus} GPUs");
        assert_eq!(answer.warnings.iter().any(|warning| warning.contains(&said)), idle > 0, "{:?}", answer.warnings);
    }
}

/// bitsandbytes keeps a tenth of every share (`quantizer_bnb_4bit.py:adjust_max_memory`); models of several parts are not followed.
#[test]
fn one_process_keeps_room_for_quantising_and_says_what_is_not_followed() {
    let split = |config: &str, weights: &str| {
        let scenario = Scenario {
            runtime: Runtime::Transformers,
            gpu: Some("H100 SXM5 80GB".into()),
            gpus: Some(4),
            context: Some(1024),
            weights: weights.parse().unwrap(),
            ..Scenario::default()
        };
        estimate(&model(config), &scenario).unwrap()
    };
    let cached = |answer: &Estimate| answer.devices.iter().map(|device| held(device, Term::KvCache, Stage::Decode)).collect::<Vec<u64>>();
    // Qwen3-4B: a table of 778 MB and 36 layers of 101 MB in 8 bits, so shares of (4,412 MB / 4 + 5/4 × 778 MB) × 90 % = 1,868 MB; the first
    // keeps room for another layer.
    let layers = cached(&split(fixture::QWEN3_4B, "int8"));
    assert_eq!(layers.iter().map(|bytes| bytes * 36 / layers.iter().sum::<u64>()).collect::<Vec<u64>>(), [9, 18, 9]);
    let said = |config: &str| split(config, "as-stored").warnings.iter().any(|warning| warning.contains("counted as spread evenly"));
    let vision = r#"{"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
        "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 896, "patch_size": 14}, "mm_tokens_per_image": 256, "torch_dtype": "bfloat16"}"#;
    assert!(said(vision) && !said(fixture::QWEN3_4B));
}

#[test]
fn experts_are_whole_on_their_ranks_or_split() {
    // Mixtral-8x7B: 45,097,156,608 of its 46,702,792,704 parameters are experts.
    let experts: u64 = 32 * 8 * 3 * 4096 * 14_336;
    let one = parameters(&on(fixture::MIXTRAL_8X7B, 1, Parallel::default()).unwrap().devices[0]);
    let split = parameters(&on(fixture::MIXTRAL_8X7B, 4, Parallel::default()).unwrap().devices[0]);
    let spread = Parallel { expert: Some(4), ..Parallel::default() };
    assert_eq!(parameters(&on(fixture::MIXTRAL_8X7B, 4, spread.clone()).unwrap().devices[0]), split);
    // Replicas in vLLM share the experts and repeat the rest.
    let replicas = Parallel { data: Some(4), ..Parallel::default() };
    let answer = on(fixture::MIXTRAL_8X7B, 1, replicas).unwrap();
    assert_eq!(parameters(&answer.devices[0]), one - experts + experts / 4);
    assert_eq!(answer.devices[0].ranks, 0..4);
    // Eight experts over three ranks: the fullest has three.
    let uneven = Parallel { data: Some(3), expert: Some(3), ..Parallel::default() };
    assert_eq!(parameters(&on(fixture::MIXTRAL_8X7B, 1, uneven).unwrap().devices[0]), one - experts + experts / 8 * 3);
}

/// vLLM `models/deepseek_v4`: queries from their latent and the output's two matrices are split, the latents' own projections are whole.
#[test]
fn deepseek_v4_splits_what_heads_have() {
    let config = r#"{"model_type": "deepseek_v4", "hidden_size": 4096, "head_dim": 512, "num_attention_heads": 64, "num_key_value_heads": 1, "qk_rope_head_dim": 64,
        "q_lora_rank": 1024, "o_lora_rank": 1024, "o_groups": 8, "num_hidden_layers": 2, "compress_ratios": [0, 0], "sliding_window": 128, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 2048, "vocab_size": 129280, "max_position_embeddings": 65536,
        "rope_theta": 10000, "torch_dtype": "bfloat16"}"#;
    let whole = parameters(&on(config, 1, Parallel::default()).unwrap().devices[0]);
    let eighth = parameters(&on(config, 8, Parallel::default()).unwrap().devices[0]);
    // Per layer: the latents' projections, norms, router, sinks and what mixes the streams.
    let left = eighth - whole / 8;
    let latents = 2 * 4096 * (1024 + 512);
    assert!((latents * 7 / 8..latents * 7 / 8 + 4_000_000).contains(&left), "{left}");
    // Blocks that are compressed have no `kv_b_proj` to copy (SGLang copies that of other latents).
    let blocks = config.replace("[0, 0]", "[4, 128]");
    let scenario = Scenario { runtime: Runtime::Sglang, context: Some(8192), ..Scenario::default() };
    let sglang = estimate(&model(&blocks), &scenario).unwrap();
    assert!(sglang.devices[0].ledger.entries.iter().all(|entry| !entry.source.contains("w_kc")));
    // 64 of 512 values of a head turn, by a base of their own in layers that compress: tables in float32 over all positions.
    for (ratios, bases) in [("[0, 0]", 1), ("[4, 128]", 1), ("[0, 4]", 2)] {
        for runtime in [Runtime::Vllm, Runtime::Sglang] {
            let answer = estimate(&model(&config.replace("[0, 0]", ratios)), &Scenario { runtime, context: Some(8192), ..Scenario::default() }).unwrap();
            assert_eq!(held(&answer.devices[0], Term::Buffers, Stage::Load), bases * 65_536 * 64 * 4, "{ratios} {runtime}");
        }
    }
}

/// vLLM's replicas share the experts, though no matrix is split: what a GPU has of them is not called vocabulary.
#[test]
fn a_replicas_experts_are_called_so() {
    let answer = on(fixture::MIXTRAL_8X7B, 1, Parallel { data: Some(2), ..Parallel::default() }).unwrap();
    let weights = answer.devices[0].ledger.entries.iter().find(|entry| entry.term == Term::Weights).unwrap();
    let formula = weights.formula.to_string();
    assert!(formula.contains("this GPU's heads, experts") && !formula.contains("padded vocabulary"), "{formula}");
}

#[test]
fn replicas_share_the_requests_and_contexts_the_tokens() {
    let kv = |batch, parallel: Parallel, tensor| {
        let scenario = Scenario { tensor_parallel: Some(tensor), parallel, batch: Some(batch), context: Some(8192), ..Scenario::default() };
        let answer = estimate(&model(fixture::QWEN2_7B), &scenario).unwrap();
        held(&answer.devices[0], Term::KvCache, Stage::Decode)
    };
    let one = 28 * 2 * 4 * 128 * 2 * 8192;
    assert_eq!(kv(4, Parallel { data: Some(2), ..Parallel::default() }, 1), 2 * one);
    assert_eq!(kv(5, Parallel { data: Some(2), ..Parallel::default() }, 1), 3 * one);
    // Four KV heads on eight ranks are held twice; with a context size of two the two copies share the tokens.
    assert_eq!(kv(1, Parallel::default(), 28), one / 4);
}

#[test]
fn what_cannot_be_spread_is_said() {
    let error = |config, tensor, parallel| on(config, tensor, parallel).unwrap_err();
    assert!(error(fixture::GPT2, 1, pipeline(13)).contains("12 layers cannot be cut into 13 stages"));
    assert!(error(fixture::QWEN2_7B, 1, Parallel { expert: Some(2), ..Parallel::default() }).contains("not"));
    assert!(error(fixture::MIXTRAL_8X7B, 4, Parallel { expert: Some(3), ..Parallel::default() }).contains("does not divide"));
    assert!(error(fixture::QWEN2_7B, 4, Parallel { context: Some(3), ..Parallel::default() }).contains("does not divide"));
    // Four KV heads over four GPUs: none is on two of them.
    assert!(error(fixture::QWEN2_7B, 4, Parallel { context: Some(2), ..Parallel::default() }).contains("up to 1"));
    // Seven query heads share a KV head: two GPUs cannot share them evenly.
    assert!(error(fixture::QWEN2_7B, 28, Parallel { context: Some(2), ..Parallel::default() }).contains("that divides 7"));
    let scenario = Scenario { gpus: Some(6), parallel: pipeline(4), ..Scenario::default() };
    assert!(estimate(&model(fixture::QWEN2_7B), &scenario).unwrap_err().to_string().contains("6 GPUs do not divide"));
}
