//! What stays from step to step.

use crate::common::model;
use crate::{LLAMA_8B, LLAMA_8B_PARAMETERS, QWEN3_30B_A3B, answer, full, held, lora, mixed, scenario, spread, states};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Algorithm, MixedRecipe, Offload, Optimizer, Precision, Sharding, Targets, Training};

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
