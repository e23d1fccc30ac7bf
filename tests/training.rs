//! Training against worked numbers of papers and of frameworks' own estimators, against measured operators, and by properties.

mod common;

use common::{fixture, model};
use vramfit::estimate::{Device, Estimate, Stage, Term};
use vramfit::memory::{EstimateError, estimate};
use vramfit::plan::{Largest, Question, solve};
use vramfit::quantity::Bytes;
use vramfit::scenario::{
    AdapterDtype, Algorithm, AttentionImplementation, Checkpointing, Kernels, Loss, Method, MixedRecipe, Offload, Optimizer, Parallel, Picture, Precision,
    Reference, Rollout, Scenario, Schedule, Sharding, Targets, Task, Training, Weights,
};

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

#[test]
fn bytes_of_a_parameter_by_recipe() {
    let of = |training: Training| states(&answer(LLAMA_8B, training).devices[0]);
    let pure = |precision, optimizer| Training { precision: Some(precision), optimizer: Some(optimizer), ..full() };
    for (training, bytes) in [
        (pure(Precision::Fp32, Optimizer::Adamw), 16),
        (pure(Precision::Fp32, Optimizer::Sgd), 8),
        (pure(Precision::Fp32, Optimizer::SgdMomentum), 12),
        (pure(Precision::Bf16, Optimizer::Adamw), 8),
        (pure(Precision::Bf16, Optimizer::Lion), 6),
        (pure(Precision::Bf16, Optimizer::Sgd), 4),
        (mixed(MixedRecipe::Autocast, Sharding::None), 16),
        (mixed(MixedRecipe::Megatron, Sharding::None), 18),
        // ZeRO's 16, and the float32 gradients that the step makes: DeepSpeed's estimator counts "18" besides the 2 of the weights.
        (mixed(MixedRecipe::DeepSpeed, Sharding::None), 20),
    ] {
        assert_eq!(of(training.clone()), LLAMA_8B_PARAMETERS * bytes, "{training:?}");
    }
    // LOMO uses up each gradient: weights alone are left at the step.
    assert_eq!(of(pure(Precision::Bf16, Optimizer::Lomo)), LLAMA_8B_PARAMETERS * 2);
    // 8-bit Adam: two bytes and two scales of 4 bytes per 256; norms of 4,096 values are blocks of their own size too.
    assert_eq!(of(pure(Precision::Bf16, Optimizer::Adamw8bit)), LLAMA_8B_PARAMETERS * 6 + LLAMA_8B_PARAMETERS / 256 * 8);
    // torch's list of square roots.
    let step = |optimizer| held(&answer(LLAMA_8B, pure(Precision::Bf16, optimizer)).devices[0], Term::Workspace, Stage::OptimizerStep);
    assert_eq!((step(Optimizer::Adamw), step(Optimizer::AdamwForeach)), (0, LLAMA_8B_PARAMETERS * 2));
}

/// ZeRO (arXiv 1910.02054), figure 1: 7.5 B parameters over 64 GPUs take 120, 31.4, 16.6 and 1.9 GB: (4 + 12), 4 + 12/N, 2 + 14/N and
/// 16/N bytes of a parameter.
#[test]
fn the_stages_of_zero() {
    let of = |sharding| {
        let device = &spread(LLAMA_8B, 64, mixed(MixedRecipe::DeepSpeed, sharding)).devices[0];
        let widened = if sharding.shares_states() { LLAMA_8B_PARAMETERS.div_ceil(64) * 4 } else { LLAMA_8B_PARAMETERS * 4 };
        states(device) - widened
    };
    let p = LLAMA_8B_PARAMETERS;
    for (sharding, expected) in
        [(Sharding::Ddp, 16 * p), (Sharding::Zero1, 4 * p + 12 * p / 64), (Sharding::Zero2, 2 * p + 14 * p / 64), (Sharding::Zero3, 16 * p / 64)]
    {
        assert!(of(sharding).abs_diff(expected) < 64 * 16, "{sharding}: {} for {expected}", of(sharding));
    }
    // DeepSpeed 0.19.6 `estimate_zero2_model_states_mem_needs`: 2 P + 18 P / N at the step. Its buckets come on top here.
    let device = &spread(LLAMA_8B, 8, mixed(MixedRecipe::DeepSpeed, Sharding::Zero2)).devices[0];
    assert!(states(device).abs_diff(2 * p + 18 * p / 8) < 8 * 18);
    assert_eq!(held(device, Term::Communication, Stage::OptimizerStep), 500_000_000 * 2);
    // The same with the optimizer on the host: 2 P is left.
    let offloaded = Training { offload: Some(Offload::Optimizer), ..mixed(MixedRecipe::DeepSpeed, Sharding::Zero2) };
    let answer = spread(LLAMA_8B, 8, offloaded);
    assert_eq!(states(&answer.devices[0]), 2 * p);
    let host = answer.host.unwrap();
    let there: u64 =
        [Term::MasterWeights, Term::Optimizer, Term::Gradients].iter().map(|term| host.term_at(*term, Stage::OptimizerStep).unwrap().expected.get()).sum();
    assert!(there.abs_diff(18 * p) < 64 * 18, "{there}");
}

/// Megatron-LM with its distributed optimizer over dp: 6 + 12 / dp bytes of a parameter; split over tensor and pipeline ranks first.
#[test]
fn tensor_and_pipeline_ranks_hold_parts() {
    let whole = answer(LLAMA_8B, mixed(MixedRecipe::Megatron, Sharding::None));
    let training = Training { grad_accum: Some(8), ..mixed(MixedRecipe::Megatron, Sharding::None) };
    let parallel = Parallel { pipeline: Some(4), ..Parallel::default() };
    let split = estimate(&model(LLAMA_8B), &Scenario { tensor_parallel: Some(2), parallel, ..scenario(training) }).unwrap();
    let norms = 32 * 2 * 4096 + 4096;
    let sum: u64 = split.devices.iter().map(|device| (device.ranks.end - device.ranks.start) * held(device, Term::Weights, Stage::Load)).sum();
    assert_eq!(sum, held(&whole.devices[0], Term::Weights, Stage::Load) + norms * 2);
    assert_eq!(split.devices.iter().map(|device| device.ranks.clone()).collect::<Vec<_>>(), [0..2, 2..4, 4..6, 6..8]);
    // 1F1B: the first of four stages holds four micro-batches of its layers, the last one; an eighth of a pass has 8 layers.
    let kept: Vec<u64> = split.devices.iter().map(|device| held(device, Term::Activations, Stage::Forward)).collect();
    assert!(kept[0] == 4 * kept[2] / 2 && kept[1] == 3 * kept[2] / 2, "{kept:?}");
    assert_eq!(split.devices.iter().map(|device| held(device, Term::Logits, Stage::Loss) > 0).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn schedules_of_pipelines() {
    let first = |schedule, micro_batches, chunks| {
        let training = Training { grad_accum: Some(micro_batches), schedule: Some(schedule), virtual_stages: chunks, ..full() };
        let parallel = Parallel { pipeline: Some(4), ..Parallel::default() };
        let answer = estimate(&model(LLAMA_8B), &Scenario { parallel, ..scenario(training) }).unwrap();
        held(&answer.devices[0], Term::Activations, Stage::Forward)
    };
    let one = first(Schedule::OneForwardOneBackward, 1, None);
    assert_eq!(first(Schedule::OneForwardOneBackward, 16, None), 4 * one);
    assert_eq!(first(Schedule::OneForwardOneBackward, 2, None), 2 * one);
    assert_eq!(first(Schedule::Gpipe, 16, None), 16 * one);
    // Narayanan et al. (arXiv 2104.04473): 1 + (p - 1) / (p v) of 1F1B's p micro-batches; with two chunks on four stages 11 / 8.
    assert_eq!(first(Schedule::Interleaved, 16, Some(2)), one * 11 / 2);
}

/// Saved-tensor hooks on transformers 5.23 and torch 2.15: bytes of one token in one layer.
#[test]
fn what_a_layer_keeps_is_what_its_operators_keep() {
    let of = |config: &str, training: Training, attention| {
        let answer = |layers: u64| {
            let config = config.replace("\"num_hidden_layers\": 32", &format!("\"num_hidden_layers\": {layers}"));
            let scenario = Scenario { attention, ..scenario(Training { seq_len: Some(2048), ..training.clone() }) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        (answer(4) - answer(3)) / 2048
    };
    let (d, kv, ff, h, s) = (4096, 1024, 14_336, 32, 2048);
    let sdpa = AttentionImplementation::Sdpa;
    assert_eq!(of(LLAMA_8B, full(), sdpa), 200_840);
    assert_eq!(of(LLAMA_8B, full(), sdpa), 16 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8);
    assert_eq!(of(LLAMA_8B, full(), AttentionImplementation::Eager), 16 * d + 8 * d + 8 * ff + 6 * h * s + 8);
    let autocast = Training { precision: Some(Precision::Bf16Mixed), ..full() };
    let cast = 218_103_808 * 2 / 2048; // the layer's matrices, cast
    assert_eq!(of(LLAMA_8B, autocast, sdpa) - cast, 26 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8);
    let single = Training { precision: Some(Precision::Fp32), ..full() };
    assert_eq!(of(LLAMA_8B, single, sdpa), 24 * d + 8 * d + 8 * kv + 16 * ff + 4 * h + 8);
    let low = |targets| Training { adapter_dtype: Some(AdapterDtype::Model), ..lora(16, targets) };
    let query_value = || Targets::Named(vec!["q_proj".into(), "v_proj".into()]);
    assert_eq!(of(LLAMA_8B, low(query_value()), sdpa), 10 * d + 4 * d + 4 * kv + 6 * ff + 4 * h + 8 + 4 * 16);
    assert_eq!(of(LLAMA_8B, low(Targets::AllLinear), sdpa), 12 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8 + 14 * 16);
    assert_eq!(of(LLAMA_8B, lora(16, Targets::AllLinear), sdpa), 28 * d + 8 * d + 4 * kv + 10 * ff + 4 * h + 8 + 28 * 16);
    // GPT-2's `NewGELUActivation` keeps three tensors more than PyTorch's own operator: 3 × 2 B × 3,072 in 12 layers.
    let config = fixture::GPT2.replace('{', r#"{"activation_function": "gelu_new", "#);
    let gpt2 = |kernels| {
        let training = Training { kernels: Some(kernels), seq_len: Some(1024), ..Training::default() };
        held(&answer(&config, training).devices[0], Term::Activations, Stage::Forward) / 1024
    };
    assert_eq!(gpt2(Kernels::Transformers) - gpt2(Kernels::Standard), 12 * 3 * 2 * 3072);
    let fused = Training { kernels: Some(Kernels::Fused), ..full() };
    assert!(of(LLAMA_8B, fused, sdpa).abs_diff(139_392) < 1400);
}

/// Korthikanti et al. (arXiv 2205.05198): a checkpointed layer keeps 2 s b h; attention's scores are 5 a s / h of 34 + 5 a s / h.
#[test]
fn checkpointing_keeps_inputs_of_layers() {
    let at = |checkpointing, stage| held(&answer(LLAMA_8B, Training { checkpointing: Some(checkpointing), ..full() }).devices[0], Term::Activations, stage);
    let outside = at(Checkpointing::Full, Stage::Forward) - 32 * 2048 * 4096 * 2;
    assert_eq!(outside, 2048 * (8 * 4096 + 4), "the last norm");
    assert_eq!(at(Checkpointing::Uniform(4), Stage::Forward) - outside, 8 * 2048 * 4096 * 2);
    // With gradients there from the pass before, the backward pass is fullest at its start: one layer is computed again.
    let again = Training { checkpointing: Some(Checkpointing::Full), grad_accum: Some(2), ..full() };
    let device = &answer(LLAMA_8B, again).devices[0];
    assert!(held(device, Term::Activations, Stage::Backward) > held(device, Term::Activations, Stage::Forward) + 2048 * 200_840);
    let order = [Checkpointing::Full, Checkpointing::Selective, Checkpointing::Every(2), Checkpointing::None].map(|how| at(how, Stage::Forward));
    assert!(order.is_sorted(), "{order:?}");
}

/// A layer of GPT-3 175B with dropouts, as Megatron-LM and transformers' GPT-2 have it: feed-forwards of four times the hidden size.
const GPT3_LAYER: &str = r#"{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu", "attn_pdrop": 0.1, "embd_pdrop": 0.1,
    "resid_pdrop": 0.1, "n_ctx": 2048, "n_positions": 2048, "n_embd": 12288, "n_head": 96, "n_layer": 32, "torch_dtype": "float16", "vocab_size": 51200}"#;

/// Korthikanti et al. (arXiv 2205.05198), table 2: bytes that one layer keeps of s b tokens, with t tensor-parallel ranks. Here the
/// statistics of two norms (8 bytes each) come on top, and of flash attention one float32 of each head.
#[test]
fn the_table_of_selective_recomputation() {
    let (h, a, s) = (12_288u64, 96u64, 2048u64);
    let of = |attention, tensor, sequence_parallel, checkpointing| {
        let forward = |layers: u64| {
            let config = GPT3_LAYER.replace("\"n_layer\": 32", &format!("\"n_layer\": {layers}"));
            let training = Training { precision: Some(Precision::Fp16), seq_len: Some(s), sequence_parallel, checkpointing, ..full() };
            let scenario = Scenario { attention, tensor_parallel: Some(tensor), ..scenario(training) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        (forward(4) - forward(3)) / s
    };
    let (eager, flash) = (AttentionImplementation::Eager, AttentionImplementation::Flash);
    let norms = 2 * 8;
    // Everything: s b h (34 + 5 a s / h).
    assert_eq!(of(eager, 1, false, None), 34 * h + 5 * a * s + norms);
    assert_eq!(34 * h + 5 * a * s, 114 * h, "GPT-3: 80 of 114 are attention's scores");
    // Tensor parallel: s b h (10 + 24 / t + 5 a s / (h t)).
    assert_eq!(of(eager, 8, false, None), 10 * h + (24 * h + 5 * a * s) / 8 + norms);
    // With sequence parallel: s b h / t (34 + 5 a s / h).
    assert_eq!(of(eager, 8, true, None), (34 * h + 5 * a * s) / 8 + norms);
    // Selective recomputation, which is what flash attention does: 34 s b h, and over the ranks.
    assert_eq!(of(flash, 1, false, None), 34 * h + 4 * a + norms);
    assert_eq!(of(flash, 8, false, None), 10 * h + (24 * h + 4 * a) / 8 + norms);
    assert_eq!(of(flash, 8, true, None), (34 * h + 4 * a) / 8 + norms);
    // Full recomputation: 2 s b h.
    assert_eq!(of(eager, 1, false, Some(Checkpointing::Full)), 2 * h);
}

/// Megatron-LM `theoretical_memory_usage.py`: s b (18 h + 4 ff) per layer over t with selective recomputation and sequence parallelism, and
/// 18 bytes of a parameter, 6 + 12 / dp with its distributed optimizer. DeepSpeed's estimators count 18 bytes of a parameter over the
/// ranks without the 16-bit weights, which are whole in stage 2 and left out in stage 3.
#[test]
fn the_frameworks_own_estimators() {
    let (h, ff) = (12_288u64, 4 * 12_288u64);
    assert_eq!(18 * h + 4 * ff, 34 * h, "Megatron's formula is the paper's");
    let p = LLAMA_8B_PARAMETERS;
    let megatron = |sharding, gpus| {
        let answer = spread(LLAMA_8B, gpus, Training { grad_accum: Some(2), ..mixed(MixedRecipe::Megatron, sharding) });
        states(&answer.devices[0])
    };
    assert_eq!(megatron(Sharding::Ddp, 8), 18 * p);
    assert!(megatron(Sharding::Zero1, 8).abs_diff(6 * p + 12 * p / 8) < 8 * 18);
    let zero3 = &spread(LLAMA_8B, 8, mixed(MixedRecipe::DeepSpeed, Sharding::Zero3)).devices[0];
    // `estimate_zero3_model_states_mem_needs`: 4 bytes of the largest layer's parameters, and 18 P / N. The 16-bit shards make it 20, and
    // weights that are gathered are limited by `stage3_max_live_parameters`, not by one layer.
    assert!(states(zero3).abs_diff(18 * p / 8 + 2 * p / 8) < 8 * 20);
    assert_eq!(held(zero3, Term::Communication, Stage::Forward), 2 * (2 * 128_256 * 4096 + 4096), "embedding, head and the last norm: more than 1e9");
    // `estimate_zero2_model_states_mem_needs` with the optimizer on the host: 2 P stay, the host has 18 bytes of each parameter and a half
    // more as a margin, which is no need.
    let offloaded = Training { offload: Some(Offload::Optimizer), ..mixed(MixedRecipe::DeepSpeed, Sharding::Zero2) };
    assert_eq!(states(&spread(LLAMA_8B, 8, offloaded).devices[0]), 2 * p);
}

/// Modules that are trained whole beside adapters (PEFT's `modules_to_save`): Mistral 7B 0.3 with rank 128, embedding and head, as public
/// logs count it.
#[test]
fn modules_are_trained_whole_beside_adapters() {
    let config = fixture::MISTRAL_7B.replace("32000", "32768");
    let all = Training { method: Some(Method::Lora), lora_rank: Some(128), lora_targets: Some(Targets::AllLinear), ..full() };
    let whole = Training { trainable: Some("embedding,head".parse().unwrap()), ..all.clone() };
    let (adapters, both) = (answer(&config, all), answer(&config, whole));
    assert_eq!(adapters.trainable.unwrap().get(), 335_544_320);
    assert_eq!(both.trainable.unwrap().get(), 603_979_776);
    // The originals stay.
    let weights = |answer: &Estimate| held(&answer.devices[0], Term::Weights, Stage::Load);
    assert_eq!(weights(&adapters), weights(&both));
    let embedding = Training { lora_targets: Some(Targets::Named(vec!["q_proj".into(), "embed_tokens".into()])), ..lora(8, Targets::AllLinear) };
    assert_eq!(answer(&config, embedding).trainable.unwrap().get(), 8 * (32 * (4096 + 4096) + 32_768 + 4096));
}

/// torchtune's `optimizer_in_bwd`: gradients of one tensor at a time.
#[test]
fn gradients_may_be_used_up_in_the_backward_pass() {
    let training = Training { optimizer_in_backward: true, ..full() };
    let used = answer(LLAMA_8B, training.clone());
    let device = &used.devices[0];
    assert_eq!(held(device, Term::Gradients, Stage::OptimizerStep), 0);
    assert_eq!(held(device, Term::Gradients, Stage::Backward), 128_256 * 4096 * 2);
    assert_eq!(held(device, Term::Optimizer, Stage::Forward), LLAMA_8B_PARAMETERS * 4);
    let accumulated = scenario(Training { grad_accum: Some(2), ..training });
    assert!(estimate(&model(LLAMA_8B), &accumulated).unwrap_err().to_string().contains("cannot be accumulated"));
}

/// A matrix of full rank has two adapters as large as it is, or larger: training those exceeds training the matrix.
#[test]
fn adapters_of_full_rank_exceed_the_base() {
    let base = model(LLAMA_8B).anatomy.parameters().unwrap().get();
    let of = |rank| answer(LLAMA_8B, Training { adapter_dtype: Some(AdapterDtype::Model), ..lora(rank, Targets::AllLinear) });
    let whole = of(4096);
    assert!(whole.trainable.unwrap().get() > base, "{:?}", whole.trainable);
    assert!(peak(&whole) > peak(&answer(LLAMA_8B, full())));
    let peaks: Vec<u64> = [8, 64, 512, 4096].map(|rank| peak(&of(rank))).to_vec();
    assert!(peaks.is_sorted(), "{peaks:?}");
}

/// Whatever is trained, and however: recomputing never makes the passes hold more.
#[test]
fn checkpointing_never_adds_to_activations() {
    let most = |config: &str, training: &Training, checkpointing| {
        let training = Training { checkpointing: Some(checkpointing), ..training.clone() };
        let device = &answer(config, training).devices[0];
        [Stage::Forward, Stage::Loss, Stage::Backward].iter().map(|stage| held(device, Term::Activations, *stage)).max().unwrap()
    };
    let accumulating = Training { grad_accum: Some(4), ..full() };
    for config in [LLAMA_8B, QWEN3_30B_A3B, GPT3_LAYER, fixture::GEMMA2_9B] {
        for training in [full(), accumulating.clone(), mixed(MixedRecipe::Autocast, Sharding::None), lora(16, Targets::AllLinear)] {
            let none = most(config, &training, Checkpointing::None);
            for how in [Checkpointing::Selective, Checkpointing::Full, Checkpointing::Every(2)] {
                assert!(most(config, &training, how) <= none, "{how:?} of {training:?}: {} > {none}", most(config, &training, how));
            }
        }
    }
}

/// A vision tower reads its own tokens: 577 of each image of 336 × 336 in CLIP's.
#[test]
fn towers_keep_what_their_tokens_need() {
    let of = |method, count, size| {
        let picture = Picture { size, count, frames: None };
        let training = Training { method: Some(method), ..full() };
        let answer = estimate(&model(LLAVA), &Scenario { picture, ..scenario(training) }).unwrap();
        (held(&answer.devices[0], Term::Activations, Stage::Forward), answer.warnings.iter().any(|warning| warning.contains("--images")))
    };
    let (text, is_warned) = of(Method::Full, None, None);
    assert!(is_warned);
    let (one, is_warned) = of(Method::Full, Some(1), None);
    assert!(!is_warned && one > text);
    // In 24 layers: two norms, queries, keys, values and the result, the feed-forward's inner values twice; the pixels of each patch.
    let layer = 2 * (2 * 1024) + 2 * 8 + 2 * 1024 + 3 * 2 * 1024 + 2 * 1024 + 4 * 16 + 2 * 1024 + 2 * 2 * 4096;
    let patch = 14 * 14 * 3 * 2;
    assert_eq!(one - text, 577 * (24 * layer + patch), "per token {}", (one - text) / 577);
    assert_eq!(of(Method::Full, Some(3), None).0 - text, 3 * (one - text));
    assert_eq!((of(Method::Full, Some(1), Some((672, 336))).0 - text) / (24 * layer + patch), 2 * 576 + 1);
    // A frozen tower keeps nothing for a backward pass that never reaches it.
    assert_eq!(of(Method::Freeze, Some(1), None).0, of(Method::Freeze, None, None).0);
    // Adapters by name are in the tower too, where it has modules of these names.
    assert!(of(Method::Lora, Some(1), None).0 > of(Method::Lora, None, None).0);
}

/// Four images of 1,008 × 1,008 beside 512 tokens of text.
fn with_images(training: Training) -> Scenario {
    let picture = Picture { size: Some((1008, 1008)), count: Some(4), frames: None };
    Scenario { picture, ..scenario(Training { seq_len: Some(512), ..training }) }
}

/// A tower comes first in the forward pass and last in the backward pass: all that it keeps is there when the decoder's gradients are.
#[test]
fn towers_hold_what_they_keep_until_the_decoder_is_through() {
    let of = |training: Training, has_images| {
        let scenario = with_images(training);
        let scenario = if has_images { scenario } else { Scenario { picture: Picture::default(), ..scenario } };
        let device = estimate(&model(LLAVA), &scenario).unwrap().devices.remove(0);
        [Stage::Forward, Stage::Backward].map(|stage| [Term::Activations, Term::Gradients].map(|term| held(&device, term, stage)))
    };
    let [[text, before], [with, after]] = [false, true].map(|has| of(full(), has));
    let by_tower = with[0] - text[0];
    let tokens = 4 * (72 * 72 + 1);
    let working = tokens * 4 * 4096;
    // The end of the backward pass decides, with every gradient: with images it holds the tower's part, and a layer of the tower works
    // with more than one of the decoder.
    assert!(before[0] < working);
    assert_eq!(after, [by_tower + working, before[1]]);
    // Recomputed, the tower's layer counts, not the decoder's: 20,740 tokens of it against 512.
    let [inputs, backward] = of(Training { checkpointing: Some(Checkpointing::Full), ..full() }, true);
    let layer = 2 * (2 * 1024) + 2 * 8 + 2 * 1024 + 3 * 2 * 1024 + 2 * 1024 + 4 * 16 + 2 * 1024 + 2 * 2 * 4096;
    let tower = tokens * (24 * 2 * 1024 + 14 * 14 * 3 * 2);
    assert!(inputs[0] > tower);
    assert_eq!(backward[0], tower + tokens * layer + working);
}

/// Eager scores: one for each patch of the same image, whatever the length of the text.
#[test]
fn scores_of_towers_are_of_their_patches() {
    let kept = |attention, seq_len| {
        let scenario = with_images(full());
        let of = |picture| {
            let training = Training { seq_len: Some(seq_len), ..scenario.training.clone() };
            held(
                &estimate(&model(LLAVA), &Scenario { attention, picture, training, ..scenario.clone() }).unwrap().devices[0],
                Term::Activations,
                Stage::Forward,
            )
        };
        of(scenario.picture) - of(Picture::default())
    };
    let [eager, fused] = [AttentionImplementation::Eager, AttentionImplementation::Sdpa].map(|attention| kept(attention, 512));
    let patches = 72 * 72 + 1;
    // Softmax in float32 and the same in 16 bits; no sum for each head.
    assert_eq!(eager, fused + 24 * 4 * patches * (16 * patches * 6 - 4 * 16));
    assert_eq!(eager, kept(AttentionImplementation::Eager, 2048));
}

/// What plays no part or cannot be is refused, not passed over.
#[test]
fn settings_without_a_meaning_are_refused() {
    let refusal = |config: &str, scenario: Scenario| estimate(&model(config), &scenario).unwrap_err().to_string();
    let with_factor = |text: &str| Training { capacity_factor: Some(text.parse().unwrap()), ..full() };
    // 128 experts of which a token takes 8: with 16 even shares each has room for every token.
    for text in ["0", "16.5", "1000"] {
        assert!(refusal(QWEN3_30B_A3B, scenario(with_factor(text))).contains("expert_capacity_factor"), "{text}");
    }
    let told = |config: &str, training| {
        let used = answer(config, training).choices;
        used.into_iter().find(|choice| choice.key == "expert_capacity_factor").map(|choice| choice.value)
    };
    assert_eq!(told(QWEN3_30B_A3B, with_factor("16")).as_deref(), Some("16"));
    assert_eq!(told(QWEN3_30B_A3B, full()).as_deref(), Some("1"));
    assert_eq!(told(LLAMA_8B, full()), None);
    let last = |method| Training { method: Some(method), trainable: Some("last-4".parse().unwrap()), ..Training::default() };
    for method in [Method::Lora, Method::Full, Method::Prefix] {
        assert!(refusal(LLAMA_8B, scenario(last(method))).contains("freeze"));
    }
    assert!(estimate(&model(LLAMA_8B), &scenario(last(Method::Freeze))).is_ok());
    for size in [None, Some((1008, 1008))] {
        let picture = Picture { size, count: Some(4), frames: None };
        assert!(refusal(LLAMA_8B, Scenario { picture, ..scenario(full()) }).contains("no vision tower"));
    }
}

#[test]
fn logits_and_loss() {
    let at = |loss, stage| held(&answer(LLAMA_8B, Training { loss: Some(loss), ..full() }).devices[0], Term::Logits, stage);
    // 12 bytes of each of 2,048 × 128,256 logits: 2.94 GiB.
    assert_eq!(at(Loss::Standard, Stage::Loss), 12 * 2048 * 128_256);
    assert_eq!(at(Loss::Standard, Stage::Forward), 10 * 2048 * 128_256);
    assert!(at(Loss::Chunked, Stage::Loss) < at(Loss::Standard, Stage::Loss) / 2);
    // Liger: gradients of the hidden states and of the head, and 64 tokens' logits at a time.
    assert_eq!(at(Loss::Fused, Stage::Loss), 2048 * 4096 * 2 + 128_256 * 4096 * 2);
    assert_eq!(at(Loss::Fused, Stage::Forward) - at(Loss::Fused, Stage::Loss), 64 * 128_256 * 6);
}

#[test]
fn adapters_have_the_sizes_of_their_modules() {
    let trained = |training: Training| answer(LLAMA_8B, training).trainable.unwrap().get();
    let query_value = || Targets::Named(vec!["q_proj".into(), "v_proj".into()]);
    assert_eq!(trained(lora(8, query_value())), 3_407_872);
    assert_eq!(trained(Training { method: Some(Method::Lora), ..Training::default() }), 3_407_872, "PEFT's default");
    assert_eq!(trained(lora(16, Targets::AllLinear)), 41_943_040);
    assert_eq!(trained(lora(64, Targets::AllLinear)), 167_772_160);
    let of = |method, training: Training| trained(Training { method: Some(method), ..training });
    assert_eq!(of(Method::Dora, lora(16, Targets::AllLinear)), 41_943_040 + 1_376_256);
    assert_eq!(of(Method::Rslora, lora(16, Targets::AllLinear)), 41_943_040);
    assert_eq!(of(Method::Ia3, Training::default()), 524_288);
    assert_eq!(of(Method::Prompt, Training { virtual_tokens: Some(20), ..Training::default() }), 20 * 4096);
    assert_eq!(of(Method::Prefix, Training { virtual_tokens: Some(20), ..Training::default() }), 20 * 32 * 2 * 1024);
    assert_eq!(of(Method::Full, Training::default()), LLAMA_8B_PARAMETERS);
    let layer = 218_112_000;
    assert_eq!(of(Method::Freeze, Training { trainable: Some("last-2,norm".parse().unwrap()), ..Training::default() }), 2 * layer + 30 * 8192 + 4096);
    // Adapters of full rank on every matrix have more values than the matrices.
    assert!(trained(lora(4096, Targets::AllLinear)) > LLAMA_8B_PARAMETERS);
    // LoRA on GPT-2's fused matrix, which is kept the other way round: 8 × (768 + 2,304) in 12 layers.
    let gpt2 = answer(fixture::GPT2, Training { method: Some(Method::Lora), seq_len: Some(512), ..Training::default() });
    assert_eq!(gpt2.trainable.unwrap().get(), 12 * 8 * (768 + 2304));
}

#[test]
fn experts_get_adapters_when_they_are_named() {
    let trained = |training: Training| answer(QWEN3_30B_A3B, training).trainable.unwrap().get();
    let attention = 48 * 8 * ((2048 + 4096) + 2 * (2048 + 512) + (4096 + 2048));
    assert_eq!(trained(lora(8, Targets::AllLinear)), attention);
    let named = Targets::Named(vec!["gate_proj".into(), "up_proj".into(), "down_proj".into()]);
    assert_eq!(trained(lora(8, named)), 48 * 128 * 3 * 8 * (2048 + 768));
}

/// QLoRA: 4 bits and a float32 scale per 64 of each matrix; embedding and head stay in 16 bits. Llama-3.1-8B loads at 5.31 GiB.
#[test]
fn quantised_weights_of_qlora() {
    let training =
        Training { method: Some(Method::Qlora), lora_rank: Some(16), checkpointing: Some(Checkpointing::Full), seq_len: Some(2048), ..Training::default() };
    let device = &answer(LLAMA_8B, training.clone()).devices[0];
    let (matrices, tables) = (32 * 218_103_808, 2 * 128_256 * 4096 + 32 * 8192 + 4096);
    let scales = matrices / 64;
    // bitsandbytes keeps a table of 1 to 2 KiB with each of the 224 matrices besides.
    let of = |expected: u64, device: &Device| held(device, Term::Weights, Stage::Load).checked_sub(expected).unwrap();
    assert!(of(matrices / 2 + scales + scales / 256 * 4 + tables * 2, device) < 224 * 2048);
    assert_eq!((held(device, Term::Weights, Stage::Load) * 100) >> 30, 531);
    let nf4: Weights = "nf4".parse().unwrap();
    let plain = estimate(&model(LLAMA_8B), &Scenario { weights: nf4, ..scenario(training) }).unwrap();
    assert!(of(matrices / 2 + scales * 4 + tables * 2, &plain.devices[0]) < 224 * 2048);
    let error = estimate(&model(LLAMA_8B), &Scenario { weights: nf4, ..scenario(full()) }).unwrap_err();
    assert!(matches!(error, EstimateError::Unsupported(_)), "{error}");
}

/// torch 2.15 FSDP, Llama-3.1-8B over 8: 16 bytes of an eighth, gathered: embedding, head and last norm, and two layers.
#[test]
fn fsdp_gathers_units() {
    let device = &spread(LLAMA_8B, 8, mixed(MixedRecipe::Fsdp, Sharding::Fsdp)).devices[0];
    assert!(states(device).abs_diff(16 * LLAMA_8B_PARAMETERS / 8) < 128);
    let (layer, root) = (218_112_000, 2 * 128_256 * 4096 + 4096);
    assert_eq!(held(device, Term::Communication, Stage::Forward), (root + 2 * layer) * 2);
    let group = Training { shard_size: Some(4), sharding: Some(Sharding::Hsdp), ..mixed(MixedRecipe::Fsdp, Sharding::Hsdp) };
    assert!(states(&spread(LLAMA_8B, 8, group).devices[0]).abs_diff(16 * LLAMA_8B_PARAMETERS / 4) < 128);
}

#[test]
fn more_ranks_never_take_more_of_each() {
    for sharding in [Sharding::Zero1, Sharding::Zero2, Sharding::Zero3, Sharding::Fsdp] {
        let recipe = if sharding == Sharding::Fsdp { MixedRecipe::Fsdp } else { MixedRecipe::DeepSpeed };
        let peaks: Vec<u64> = (2..12).map(|ranks| peak(&spread(LLAMA_8B, ranks, mixed(recipe, sharding)))).collect();
        // Communicators of eight and more ranks are larger, outside of the allocator.
        let step = 600 << 20;
        assert!(peaks.windows(2).all(|pair| pair[1] <= pair[0] + step), "{sharding}: {peaks:?}");
        assert!(peaks[9] < peaks[0], "{sharding}");
    }
}

#[test]
fn longer_and_larger_takes_more() {
    for checkpointing in [Checkpointing::None, Checkpointing::Selective, Checkpointing::Full] {
        let of = |seq_len, micro_batch| {
            peak(&answer(LLAMA_8B, Training { seq_len: Some(seq_len), micro_batch: Some(micro_batch), checkpointing: Some(checkpointing), ..full() }))
        };
        assert!(of(512, 1) < of(1024, 1) && of(1024, 1) < of(4096, 1) && of(4096, 1) < of(4096, 2));
        // The same tokens in fewer, longer sequences are the same but for eager attention.
        assert_eq!(of(4096, 1), of(1024, 4));
    }
    let none = peak(&answer(LLAMA_8B, full()));
    for checkpointing in [Checkpointing::Selective, Checkpointing::Full, Checkpointing::Every(2), Checkpointing::Uniform(4)] {
        assert!(peak(&answer(LLAMA_8B, Training { checkpointing: Some(checkpointing), ..full() })) <= none);
    }
}

#[test]
fn context_and_sequence_parallel_ranks_share_tokens() {
    let of = |parallel: Parallel, tensor, sequence_parallel| {
        let training = Training { sequence_parallel, ..full() };
        let answer = estimate(&model(LLAMA_8B), &Scenario { parallel, tensor_parallel: Some(tensor), ..scenario(training) }).unwrap();
        held(&answer.devices[0], Term::Activations, Stage::Forward)
    };
    let one = of(Parallel::default(), 1, false);
    assert_eq!(of(Parallel { context: Some(4), ..Parallel::default() }, 1, false), one / 4);
    let (split, shared) = (of(Parallel::default(), 4, false), of(Parallel::default(), 4, true));
    assert!(shared < split && split < one && shared.abs_diff(one / 4) < one / 500, "{one} {split} {shared}");
}

#[test]
fn preference_and_reinforcement_have_their_models() {
    let of = |algorithm, more: Training| answer(LLAMA_8B, Training { algorithm: Some(algorithm), ..more });
    let dpo = of(Algorithm::Dpo, full());
    let device = &dpo.devices[0];
    assert_eq!(held(device, Term::ReferenceModel, Stage::Forward), LLAMA_8B_PARAMETERS * 2);
    // Chosen and rejected answers go through together.
    assert_eq!(held(device, Term::Logits, Stage::Loss), 2 * 12 * 2048 * 128_256);
    let adapters = of(Algorithm::Dpo, lora(8, Targets::AllLinear));
    assert_eq!(held(&adapters.devices[0], Term::ReferenceModel, Stage::Forward), 0, "adapters off");
    assert!(adapters.devices[0].stages.contains(&Stage::Score));
    let orpo = of(Algorithm::Orpo, full());
    assert!(!orpo.devices[0].stages.contains(&Stage::Score) && peak(&orpo) < peak(&dpo));
    assert_eq!(held(&of(Algorithm::Reward, full()).devices[0], Term::Logits, Stage::Loss), 0);
    let ppo = of(Algorithm::Ppo, full());
    let device = &ppo.devices[0];
    for term in [Term::ReferenceModel, Term::RewardModel] {
        assert_eq!(held(device, term, Stage::Score), LLAMA_8B_PARAMETERS * 2);
    }
    assert_eq!(held(device, Term::ValueModel, Stage::OptimizerStep), states(device));
    assert_eq!(held(device, Term::KvCache, Stage::Generate), 2048 * 32 * 2048 * 2);
    let grpo = |rollout, reference| of(Algorithm::Grpo, Training { rollout: Some(rollout), reference, micro_batch: Some(8), ..full() });
    let awake = grpo(Rollout::Colocate, None);
    let share = (1u64 << 46) * 3 / 10;
    assert!(held(&awake.devices[0], Term::Rollout, Stage::Loss).abs_diff(share) < 2);
    let asleep = grpo(Rollout::ColocateAsleep, None);
    assert_eq!(held(&asleep.devices[0], Term::Rollout, Stage::Loss), 0);
    assert!(held(&asleep.devices[0], Term::Rollout, Stage::Generate).abs_diff(share) < 2);
    assert_eq!(held(&awake.devices[0], Term::ReferenceModel, Stage::Score), 0, "TRL's beta is 0");
    assert!(held(&grpo(Rollout::Server, Some(Reference::Copy)).devices[0], Term::ReferenceModel, Stage::Score) > 0);
}

#[test]
fn a_moment_is_the_sum_of_its_entries() {
    for training in [full(), lora(8, Targets::AllLinear), Training { algorithm: Some(Algorithm::Ppo), ..full() }] {
        let answer = answer(QWEN3_30B_A3B, training);
        for device in &answer.devices {
            for &stage in device.stages {
                let sum: u64 = device.terms().map(|term| held(device, term, stage)).sum();
                assert_eq!(sum, device.at(stage).unwrap().expected.get());
                for entry in &device.entries {
                    assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()));
                }
            }
        }
    }
}

#[test]
fn inverse_answers_are_tight() {
    let model = model(LLAMA_8B);
    let on = |training: Training| Scenario { gpu_capacity: Some(Bytes(80 << 30)), ..scenario(training) };
    let fits = |scenario: &Scenario| estimate(&model, scenario).unwrap().fits().unwrap();
    let adapters = lora(16, Targets::AllLinear);
    for (question, set) in [
        (Question::Context, (|training, value| training.seq_len = Some(value)) as fn(&mut Training, u64)),
        (Question::MicroBatch, |training, value| training.micro_batch = Some(value)),
        (Question::LoraRank, |training, value| training.lora_rank = Some(value)),
    ] {
        let Largest::Count(count) = solve(&model, &on(adapters.clone()), question).unwrap() else { panic!("{question:?}") };
        let with = |value| {
            let mut training = adapters.clone();
            set(&mut training, value);
            fits(&on(training))
        };
        assert!(count > 1 && with(count) && !with(count + 1), "{question:?}: {count}");
    }
    // 16 bytes of a parameter do not fit one card of 80 GiB; an equal part of them does.
    let sharded = on(mixed(MixedRecipe::Fsdp, Sharding::Fsdp));
    let Largest::Count(gpus) = solve(&model, &sharded, Question::Gpus).unwrap() else { panic!("no number of GPUs") };
    let with = |gpus| fits(&Scenario { gpus: Some(gpus), ..sharded.clone() });
    assert!(gpus > 1 && with(gpus) && !with(gpus - 1), "{gpus}");
    // The least of ZeRO's stages that fits: one less does not.
    let eight = Scenario { gpus: Some(8), ..on(mixed(MixedRecipe::DeepSpeed, Sharding::Ddp)) };
    let Largest::Sharding(least) = solve(&model, &eight, Question::Sharding).unwrap() else { panic!("no stage of ZeRO") };
    let with = |sharding| {
        let training = Training { sharding: Some(sharding), ..eight.training.clone() };
        fits(&Scenario { training, ..eight.clone() })
    };
    let stages = [Sharding::Ddp, Sharding::Zero1, Sharding::Zero2, Sharding::Zero3];
    let at = stages.iter().position(|stage| *stage == least).unwrap();
    assert!(with(least) && stages[..at].iter().all(|stage| !with(*stage)), "{least}");
    assert!(matches!(solve(&model, &on(full()), Question::Sharding), Err(EstimateError::Unsupported(_))));
    assert!(matches!(solve(&model, &on(full()), Question::LoraRank), Err(EstimateError::Unsupported(_))));
}

#[test]
fn what_cannot_be_is_said() {
    let refused = |scenario: Scenario| estimate(&model(LLAMA_8B), &scenario).unwrap_err().to_string();
    assert!(refused(Scenario { gpus: Some(3), tensor_parallel: Some(2), ..scenario(full()) }).contains("do not divide"));
    assert!(refused(scenario(lora(8, Targets::Named(vec!["nothing".into()])))).contains("no module called nothing"));
    assert!(refused(Scenario { parallel: Parallel { expert: Some(2), ..Parallel::default() }, ..scenario(full()) }).contains("mixtures of experts"));
    assert!(refused(scenario(Training { algorithm: Some(Algorithm::Dpo), reference: Some(Reference::Adapter), ..full() })).contains("nothing to switch off"));
    assert!(refused(scenario(Training { global_batch: Some(7), micro_batch: Some(2), ..full() })).contains("no multiple"));
    let accumulated = answer(LLAMA_8B, Training { global_batch: Some(32), micro_batch: Some(2), ..full() });
    assert!(accumulated.choices.iter().any(|choice| choice.key == "grad_accum" && choice.value == "16"));
}
