//! What stays from step to step.

use crate::common::model;
use crate::{LLAMA_8B, LLAMA_8B_PARAMETERS, QWEN3_30B_A3B, answer, full, held, lora, mixed, scenario, spread, states};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Algorithm, MixedRecipe, Offload, Optimizer, Parallel, Precision, Scenario, Sharding, Targets, Training};

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

const QWEN3_600M: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 151936}"#;

/// What DeepSpeed 0.19.6's own functions gave when they were run for 8 GPUs of one machine (`estimate_zero2_model_states_mem_needs`,
/// `estimate_zero3_model_states_mem_needs`, `additional_buffer_factor` 1.5, `zero_init`), and why it is not what a rank holds here. The table
/// is in docs/training-estimators.md.
#[test]
fn deepspeeds_own_estimators() {
    struct Given {
        config: &'static str,
        parameters: u64,
        /// The largest module's, which they call a layer.
        largest: u64,
        /// A GPU of stage 2; host and GPU with the optimizer offloaded.
        zero2: (u64, (u64, u64)),
        /// The same of stage 3, with the optimizer, and with parameters too on the host.
        zero3: (u64, [(u64, u64); 2]),
    }
    let all = [
        Given {
            config: LLAMA_8B,
            parameters: LLAMA_8B_PARAMETERS,
            largest: 525_336_576,
            zero2: (34_128_610_304, (385_452_539_904, 16_060_522_496)),
            zero3: (20_169_434_112, [(192_726_269_952, 4_108_911_616), (216_817_053_696, 2_101_346_304)]),
        },
        Given {
            config: QWEN3_600M,
            parameters: 596_049_920,
            largest: 155_582_464,
            zero2: (2_533_212_160, (28_610_396_160, 1_192_099_840)),
            zero3: (1_963_442_176, [(14_305_198_080, 771_342_336), (16_093_347_840, 622_329_856)]),
        },
    ];
    for Given { config, parameters: p, largest, zero2, zero3 } in all {
        let of = |sharding, offload| {
            let answer = spread(config, 8, Training { offload: Some(offload), ..mixed(MixedRecipe::DeepSpeed, sharding) });
            let host = answer.host.as_ref().map(|host| host.at(Stage::OptimizerStep).unwrap().expected.get());
            (states(&answer.devices[0]), host, held(&answer.devices[0], Term::Communication, Stage::Forward))
        };
        // Stage 2 is theirs to the byte. On the host they count what eight processes load in float32, and a half more (48 bytes of a
        // parameter); here it is the 18 that stay, and nothing where nothing is offloaded.
        assert_eq!(of(Sharding::Zero2, Offload::None), (zero2.0, None, 0));
        assert_eq!(of(Sharding::Zero2, Offload::Optimizer), (zero2.1.1, Some(zero2.1.0 / 48 * 18), 0));
        // Stage 3: they leave the 16-bit shards out, and count 4 bytes of each parameter of the largest module as gathered; here it is 2 of
        // what `stage3_max_live_parameters` leaves, or of the largest unit that is gathered at once.
        // On the host they count 16 and 18 bytes of a parameter, and a half more: 24 and 27.
        let (own, host, gathered) = of(Sharding::Zero3, Offload::None);
        assert_eq!((own - 2 * p / 8, host), (zero3.0 - 4 * largest, None));
        assert_eq!(gathered, if p > 1_000_000_000 { 2 * (2 * largest + 4096) } else { 2 * p });
        let (own, host, _) = of(Sharding::Zero3, Offload::Optimizer);
        assert_eq!((own, host), (zero3.1[0].1 - 4 * largest, Some(zero3.1[0].0 / 24 * 18)));
        let (own, host, _) = of(Sharding::Zero3, Offload::Params);
        assert_eq!((own, host), (zero3.1[1].1 - 4 * largest, Some(zero3.1[1].0 / 27 * 20)));
    }
}

/// What `compute_weight_and_optimizer_memory` of Megatron-LM 0.20 (`training/theoretical_memory_usage.py`) gave
/// when they were run: 2,048 tokens, selective recomputation, sequence parallelism, its distributed optimizer over 8 replicas or none.
#[test]
fn megatrons_own_estimator() {
    let of = |config: &str, sharding, (tensor, pipeline, expert): (u64, u64, u64)| {
        let parallel = Parallel { pipeline: Some(pipeline), expert: Some(expert), ..Parallel::default() };
        let training = Training { grad_accum: Some(16), sequence_parallel: tensor > 1, ..mixed(MixedRecipe::Megatron, sharding) };
        let gpus = Some(8 * tensor * pipeline);
        let answer = estimate(&model(config), &Scenario { gpus, tensor_parallel: Some(tensor), parallel, ..scenario(training) }).unwrap();
        // Its buffers of weights and gradients are what ranks send, so that there are no others.
        assert_eq!(held(&answer.devices[0], Term::Communication, Stage::OptimizerStep), 0);
        states(&answer.devices[0])
    };
    assert_eq!(of(LLAMA_8B, Sharding::Ddp, (1, 1, 1)), 144_544_702_464);
    assert_eq!(of(LLAMA_8B, Sharding::Zero1, (1, 1, 1)), 60_226_959_360);
    // It spreads the last norm over the stages; here the last one has it: a quarter of 4,096 values at 6 + 12 / 8 bytes.
    assert_eq!(of(LLAMA_8B, Sharding::Zero1, (2, 4, 1)), 8_513_625_600 - 1024 * 15 / 2);
    // It has no norms of queries and keys: 2 x 128 values in 48 layers.
    let norms = 48 * 2 * 128;
    assert_eq!(of(QWEN3_30B_A3B, Sharding::Zero1, (1, 1, 1)), 228_990_827_520 + norms * 15 / 2);
    assert_eq!(of(QWEN3_30B_A3B, Sharding::Zero1, (1, 1, 8)), 76_787_923_968 + norms * 15 / 2);
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
