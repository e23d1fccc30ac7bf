//! Methods, adapters and algorithms.

use crate::common::{fixture, model};
use crate::{LLAMA_8B, LLAMA_8B_PARAMETERS, QWEN3_30B_A3B, answer, full, held, lora, peak, scenario, spread, states};
use vramfit::estimate::{Device, Estimate, Stage, Term};
use vramfit::memory::{EstimateError, estimate};
use vramfit::scenario::{
    AdapterDtype, Algorithm, Checkpointing, Loss, Method, MixedRecipe, Offload, Precision, Reference, Rollout, Scenario, Sharding, Targets, Trainer, Training,
    Weights,
};

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

/// The sizes of small models of experts, whose adapters PEFT 0.21.2 was asked to make on transformers 5.23.
const SMALL: &str = r#""vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 64, "torch_dtype": "bfloat16", "num_experts_per_tok": 2"#;

#[test]
fn experts_get_adapters_as_parameters() {
    let count = |kind: &str, class: &str, more: &str, targets: Targets| {
        let config = format!(r#"{{"model_type": "{kind}", "architectures": ["{class}ForCausalLM"], {SMALL}, {more}}}"#);
        estimate(&model(&config), &scenario(Training { seq_len: Some(16), ..lora(4, targets) })).map(|answer| answer.trainable.unwrap().get())
    };
    let of_one = |names: &[&str]| Targets::Named(names.iter().map(|name| (*name).to_owned()).collect());
    let qwen3 = |targets| count("qwen3_moe", "Qwen3Moe", r#""num_experts": 4, "moe_intermediate_size": 24"#, targets);
    assert_eq!(qwen3(Targets::AllLinear), Ok(8992));
    // Gates and ups are one parameter with twice the rank; named as that, with the rank itself.
    assert_eq!(qwen3(of_one(&["gate_proj", "up_proj", "down_proj"])), Ok(6912));
    assert_eq!(qwen3(of_one(&["gate_up_proj"])), Ok(2 * 4 * 4 * (32 + 48)));
    assert!(matches!(qwen3(of_one(&["gate_proj", "down_proj"])), Err(EstimateError::Unsupported(_))));
    let qwen2 = count("qwen2_moe", "Qwen2Moe", r#""num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40"#, Targets::AllLinear);
    assert_eq!(qwen2, Ok(3784));
    assert_eq!(count("mixtral", "Mixtral", r#""num_local_experts": 4"#, Targets::AllLinear), Ok(15_392));
    assert_eq!(count("gpt_oss", "GptOss", r#""num_local_experts": 4"#, Targets::AllLinear), Ok(1792));
    let latent = r#""n_routed_experts": 4, "moe_intermediate_size": 24, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16,
        "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 8, "qk_nope_head_dim": 8"#;
    assert_eq!(count("deepseek_v3", "DeepseekV3", latent, Targets::AllLinear), Ok(6224));
}

/// PEFT's `ParamWrapper` makes the parameters anew with the adapters added: 1.125 GiB for each of 48 layers, kept where nothing is
/// computed again. Unsloth's kernels apply adapters to tokens instead.
#[test]
fn adapted_experts_are_made_anew() {
    let experts = || lora(8, Targets::Named(vec!["gate_proj".into(), "up_proj".into(), "down_proj".into()]));
    let kept = |training: Training| held(&answer(QWEN3_30B_A3B, training).devices[0], Term::Activations, Stage::Loss);
    let layer = 128 * 3 * 768 * 2048 * 2;
    let by_peft = kept(experts());
    assert!((48 * layer..48 * layer + (20 << 30)).contains(&by_peft), "{by_peft}");
    let unsloth = Training { trainer: Some(Trainer::Unsloth), offload: Some(Offload::None), checkpointing: Some(Checkpointing::None), ..experts() };
    assert!(kept(unsloth) < by_peft / 2);
    let again = answer(QWEN3_30B_A3B, Training { checkpointing: Some(Checkpointing::Full), ..experts() });
    let backward = held(&again.devices[0], Term::Activations, Stage::Backward);
    assert!((layer + layer * 2 / 3..3 * layer).contains(&backward), "{backward}");
    let dora = Training { method: Some(Method::Dora), ..experts() };
    assert!(matches!(estimate(&model(QWEN3_30B_A3B), &scenario(dora)), Err(EstimateError::Unsupported(_))));
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

#[test]
fn preference_and_reinforcement_have_their_models() {
    let of = |algorithm, more: Training| answer(LLAMA_8B, Training { algorithm: Some(algorithm), ..more });
    let dpo = of(Algorithm::Dpo, full());
    let device = &dpo.devices[0];
    assert_eq!(held(device, Term::ReferenceModel, Stage::Forward), LLAMA_8B_PARAMETERS * 2);
    // Chosen and rejected answers go through together: hidden states and their gradient in two types, the head's in two, a tile.
    let tiled = 4096 * 4096 * (2 + 4 + 2) + 128_256 * 4096 * (4 + 2) + 4096 * 32_768 * 2;
    assert_eq!(held(device, Term::Logits, Stage::Loss), tiled);
    let whole = of(Algorithm::Dpo, Training { loss: Some(Loss::Standard), ..full() });
    assert_eq!(held(&whole.devices[0], Term::Logits, Stage::Loss), 2 * 12 * 2048 * 128_256);
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

/// What frameworks do where nothing is said, each default told with its source.
#[test]
fn trainers_have_their_habits() {
    let of = |trainer, more: Training| answer(LLAMA_8B, Training { trainer: Some(trainer), seq_len: Some(2048), ..more });
    let told = |answer: &Estimate, key: &str| answer.choices.iter().find(|choice| choice.key == key).map(|choice| choice.value.clone());
    let qlora = || lora(16, Targets::AllLinear);
    let qlora = || Training { method: Some(Method::Qlora), ..qlora() };
    let weights = |answer: &Estimate| held(&answer.devices[0], Term::Weights, Stage::Load);
    let plain = of(Trainer::Torch, qlora());
    let peft = of(Trainer::Transformers, qlora());
    // `prepare_model_for_kbit_training`: embedding, head and norms to float32, 1.96 GiB more than they take.
    assert_eq!(weights(&peft) - weights(&plain), 2 * (2 * 128_256 * 4096 + 65 * 4096));
    assert_eq!(told(&peft, "gradient_checkpointing").as_deref(), Some("full"));
    let trl = of(Trainer::Trl, qlora());
    assert_eq!(held(&trl.devices[0], Term::Adapters, Stage::Load), 41_943_040 * 2);
    assert_eq!((told(&trl, "precision").as_deref(), told(&trl, "loss").as_deref()), (Some("bf16-mixed"), Some("tiled")));
    // A tile of 2,048 tokens by 32,768 words instead of all logits, the float32 head's slice for it cast, and hidden states and gradients.
    let tiled = 2048 * 32_768 * 2 + 32_768 * 4096 * 2 + 2048 * 4096 * 12;
    assert_eq!(held(&trl.devices[0], Term::Logits, Stage::Loss), tiled);
    let unsloth = of(Trainer::Unsloth, Training { method: Some(Method::Lora), ..Training::default() });
    assert_eq!(unsloth.trainable.unwrap().get(), 41_943_040, "rank 16 on seven modules");
    assert!(unsloth.host.is_some_and(|host| host.entries.iter().any(|entry| entry.term == Term::Activations)));
    // Whatever is said counts.
    let said = of(Trainer::Unsloth, Training { offload: Some(Offload::None), loss: Some(Loss::Standard), ..lora(8, Targets::AllLinear) });
    assert_eq!(held(&said.devices[0], Term::Logits, Stage::Loss), held(&plain.devices[0], Term::Logits, Stage::Loss));
    assert!(said.host.is_none());
}

/// `TransformerEngine` keeps each matrix of the layers in 8 bits and transposed, torchao none.
#[test]
fn copies_in_8_bit_floats() {
    let fp8 = |sharding| Training { precision: Some(Precision::Fp8), sharding: Some(sharding), ..full() };
    let grown = |answer: &Estimate| held(&answer.devices[0], Term::Weights, Stage::Forward) - held(&answer.devices[0], Term::Weights, Stage::Load);
    assert_eq!(grown(&answer(LLAMA_8B, fp8(Sharding::None))), 2 * 32 * 218_103_808);
    assert_eq!(grown(&spread(LLAMA_8B, 8, fp8(Sharding::Fsdp))), 0);
    let megatron = Training { mixed_recipe: Some(MixedRecipe::Megatron), ..fp8(Sharding::None) };
    assert_eq!(states(&answer(LLAMA_8B, megatron).devices[0]) - 2 * 32 * 218_103_808, 18 * LLAMA_8B_PARAMETERS);
}

/// Frozen matrices in 4 bits have no copies in 8.
#[test]
fn quantised_matrices_have_no_copies_in_8_bits() {
    let qlora = |precision| answer(LLAMA_8B, Training { method: Some(Method::Qlora), precision: Some(precision), ..lora(8, Targets::AllLinear) });
    let weights = |answer: &Estimate| held(&answer.devices[0], Term::Weights, Stage::Forward);
    assert_eq!(weights(&qlora(Precision::Fp8)), weights(&qlora(Precision::Bf16)));
}

/// PEFT 0.21.2 utils/other.py: GPTQ's embedding, head and norms stay in 16 bits and its layers are recomputed; of AWQ the reverse.
#[test]
fn peft_prepares_each_format_in_its_way() {
    let quantised = |about: &str| LLAMA_8B.replacen('{', &format!("{{\"quantization_config\": {about},"), 1);
    let of = |about: &str, trainer| {
        let training = Training { trainer: Some(trainer), ..lora(8, Targets::AllLinear) };
        let answer = answer(&quantised(about), training);
        let recomputes = answer.choices.iter().any(|choice| choice.key == "gradient_checkpointing" && choice.value == "full");
        (held(&answer.devices[0], Term::Weights, Stage::Load), recomputes)
    };
    let gptq = r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false}"#;
    assert_eq!(of(gptq, Trainer::Transformers), (of(gptq, Trainer::Torch).0, true));
    let awq = r#"{"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"}"#;
    let (wide, recomputes) = of(awq, Trainer::Transformers);
    assert!(!recomputes);
    assert_eq!(wide - of(awq, Trainer::Torch).0, 2 * (2 * 128_256 * 4096 + 65 * 4096));
}

/// Without autocast nothing is cast; TRL casts the head slice by slice.
#[test]
fn copies_of_wide_matrices() {
    let activations = |training: Training| held(&answer(LLAMA_8B, training).devices[0], Term::Activations, Stage::Loss);
    let trl = |loss| Training { trainer: Some(Trainer::Trl), loss: Some(loss), ..full() };
    // A head's copy in 16 bits, and its input as autocast casts it for the product.
    let copy = 128_256 * 4096 * 2;
    assert!(activations(trl(Loss::Standard)) - activations(trl(Loss::Tiled)) >= copy);
}

/// PEFT has no modules for Mamba: the answer says what is taken instead.
#[test]
fn the_rule_of_targets_is_the_one_that_was_used() {
    let rule = |config: &str, trainer| {
        let answer = answer(config, Training { method: Some(Method::Lora), trainer: Some(trainer), seq_len: Some(64), ..Training::default() });
        let choice = answer.choices.iter().find(|choice| choice.key == "lora_targets").cloned().unwrap();
        (choice.default.unwrap(), answer.assumptions)
    };
    assert_eq!(rule(LLAMA_8B, Trainer::Torch).0, "PEFT's for the family");
    let mamba = r#"{"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 4, "vocab_size": 1000, "state_size": 16, "conv_kernel": 4,
        "intermediate_size": 1536, "time_step_rank": 48}"#;
    assert!(rule(mamba, Trainer::Torch).0.starts_with("PEFT has none"));
    let (unsloth, said) = rule(mamba, Trainer::Unsloth);
    assert!(unsloth.starts_with("PEFT has none") && said.iter().any(|note| note.contains("unsloth")), "{said:?}");
}
