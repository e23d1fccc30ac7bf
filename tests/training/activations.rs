//! What passes keep.

use crate::common::{fixture, model};
use crate::{LLAMA_8B, QWEN3_30B_A3B, answer, full, held, lora, mixed, peak, scenario};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{AdapterDtype, AttentionImplementation, Checkpointing, Kernels, Loss, MixedRecipe, Precision, Scenario, Sharding, Targets, Training};

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
