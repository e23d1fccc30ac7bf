//! What is asked of a run, refused or said.

use crate::common::model;
use crate::{LLAMA_8B, LLAVA, QWEN3_30B_A3B, answer, full, lora, mixed, scenario};
use vramfit::memory::{EstimateError, estimate};
use vramfit::plan::{Largest, Question, solve};
use vramfit::quantity::Bytes;
use vramfit::scenario::{AdapterDtype, Algorithm, Method, MixedRecipe, Parallel, Picture, Reference, Rollout, Scenario, Schedule, Sharding, Targets, Training};

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
    // The last layers of ALBERT pass tokens through the weights of its first, which are trained where that is.
    let albert = r#"{"model_type": "albert", "vocab_size": 128, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 320,
        "max_position_embeddings": 512, "embedding_size": 64, "num_hidden_layers": 12}"#;
    let freeze = |trainable: &str| Training { method: Some(Method::Freeze), trainable: Some(trainable.parse().unwrap()), ..Training::default() };
    for (config, trainable) in [(albert, "last-2"), (albert, "last-11"), (LLAMA_8B, "router")] {
        assert!(refusal(config, scenario(freeze(trainable))).contains("nothing"), "{trainable}");
    }
    assert!(answer(albert, freeze("last-12")).trainable.unwrap() > answer(albert, freeze("last-2,norm")).trainable.unwrap());
    for size in [None, Some((1008, 1008))] {
        let picture = Picture { size, count: Some(4), frames: None };
        assert!(refusal(LLAMA_8B, Scenario { picture, ..scenario(full()) }).contains("no vision tower"));
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
    // Of a global batch only what divides it is a micro-batch.
    let Largest::Count(most) = solve(&model, &on(adapters.clone()), Question::MicroBatch).unwrap() else { panic!("no micro-batch") };
    let global = 12 * most + 12;
    let within = on(Training { global_batch: Some(global), ..adapters });
    let Ok(Largest::Count(count)) = solve(&model, &within, Question::MicroBatch) else { panic!("no micro-batch of {global}") };
    assert!(count > 1 && count <= most && global.is_multiple_of(count), "{count} of {global}");
    assert!((count + 1..=most).all(|more| !global.is_multiple_of(more)));
    // However large that is: a batch of 100,000 has 12,500 next to 20,000; nothing is skipped in silence on the way.
    for (global, sequence) in [(8192, 8), (100_000, 8), (99_991, 8), (6 << 20, 4)] {
        let tiny = on(Training { global_batch: Some(global), seq_len: Some(sequence), ..lora(16, Targets::AllLinear) });
        let Ok(Largest::Count(count)) = solve(&model, &tiny, Question::MicroBatch) else { panic!("no micro-batch of {global}") };
        let with = |value| fits(&Scenario { training: Training { micro_batch: Some(value), ..tiny.training.clone() }, ..tiny.clone() });
        let next = (count + 1..=global).find(|more| global.is_multiple_of(*more));
        assert!(global.is_multiple_of(count) && with(count) && next.is_none_or(|next| !with(next)), "{count} of {global}, then {next:?}");
    }
    // Each of two replicas has half; what no replica can have a part of is refused.
    let two = |global| Scenario { gpus: Some(2), ..on(Training { global_batch: Some(global), seq_len: Some(8), ..lora(16, Targets::AllLinear) }) };
    assert_eq!(solve(&model, &two(64), Question::MicroBatch), Ok(Largest::Count(32)));
    assert!(matches!(solve(&model, &two(63), Question::MicroBatch), Err(EstimateError::Unsupported(why)) if why.contains("no multiple")));
    // An optimizer within the backward pass takes the whole of it at once or not at all.
    let fused = on(Training { global_batch: Some(8), seq_len: Some(8), optimizer_in_backward: true, ..lora(16, Targets::AllLinear) });
    assert_eq!(solve(&model, &fused, Question::MicroBatch), Ok(Largest::Count(8)));
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

/// Nothing that was chosen is passed over.
#[test]
fn settings_without_a_part_are_said() {
    let without_a_part = |training: Training| {
        let said = answer(LLAMA_8B, training).warnings;
        said.into_iter().filter_map(|warning| warning.split_once(" plays no part here").map(|(name, _)| name.to_owned())).collect::<Vec<_>>()
    };
    let all = Training {
        optimizer_rank: Some(4),
        mixed_recipe: Some(MixedRecipe::Megatron),
        capacity_factor: Some("1.25".parse().unwrap()),
        lora_rank: Some(16),
        lora_targets: Some(Targets::AllLinear),
        lora_dropout: Some("0.1".parse().unwrap()),
        adapter_dtype: Some(AdapterDtype::Fp32),
        virtual_tokens: Some(20),
        trainable: Some("norm".parse().unwrap()),
        shard_size: Some(2),
        prefetch: Some(2),
        schedule: Some(Schedule::Gpipe),
        virtual_stages: Some(2),
        sequence_parallel: true,
        generations: Some(8),
        rollout: Some(Rollout::Generate),
        rollout_memory: Some("0.3".parse().unwrap()),
        ..full()
    };
    assert_eq!(without_a_part(all.clone()).len(), 17);
    // With adapters those of adapters have one.
    let fewer = without_a_part(Training { method: Some(Method::Lora), ..all });
    assert!(["lora_rank", "lora_targets", "lora_dropout", "adapter_dtype", "trainable"].iter().all(|name| !fewer.iter().any(|said| said == name)), "{fewer:?}");
    assert_eq!(without_a_part(full()), Vec::<String>::new());
}

/// What is left out of an answer is said in it.
#[test]
fn what_is_not_followed_is_said() {
    let said = |config: &str, words: &str| answer(config, Training::default()).assumptions.iter().any(|note| note.contains(words));
    let hrm = r#"{"model_type": "hrm_text", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "head_dim": 32, "vocab_size": 100,
        "num_hidden_layers": 16, "num_layers_per_stack": 2, "max_position_embeddings": 128}"#;
    assert!(said(hrm, "6 of 12 layers that pass tokens through the weights of others"));
    assert!(said(r#"{"model_type": "encodec"}"#, "most of this model's matrices are outside of its layers"));
    assert!(said(r#"{"model_type": "instructblip", "text_config": {"model_type": "opt"}, "vision_config": {}, "qformer_config": {}}"#, "instruction"));
    for plain in [LLAMA_8B, LLAVA] {
        assert!(!said(plain, "is not counted") && !said(plain, "windows"));
    }
}

/// Transformers does not train VITS, and its vocoder works on samples of sound: no number rather than one without its larger part.
#[test]
fn speech_from_samples_is_refused() {
    let refusal = estimate(&model(r#"{"model_type": "vits", "architectures": ["VitsModel"]}"#), &scenario(full())).unwrap_err().to_string();
    assert!(refusal.contains("vocoder"), "{refusal}");
}

/// Layers between the decoder's own that read images are not followed (IDEFICS): with images the answer is a rule of thumb.
#[test]
fn parts_that_are_not_followed_widen_the_answer() {
    let config = r#"{"model_type": "idefics", "architectures": ["IdeficsForVisionText2Text"], "hidden_size": 256, "intermediate_size": 512,
        "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 1000, "torch_dtype": "bfloat16",
        "vision_config": {"embed_dim": 96, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "image_size": 182, "patch_size": 14}}"#;
    let of = |count| {
        let picture = vramfit::scenario::Picture { count: Some(count), ..vramfit::scenario::Picture::default() };
        let answer = estimate(&model(config), &Scenario { picture, ..scenario(full()) }).unwrap();
        let kept = answer.devices[0].term_at(vramfit::estimate::Term::Activations, vramfit::estimate::Stage::Forward).unwrap();
        (kept.high.get() * 100 / kept.expected.get(), answer.warnings.iter().any(|warning| warning.contains("cross_attention")))
    };
    assert_eq!((of(0).0, of(1)), (115, (200, true)));
}

/// Whatever kind of model: the largest that is told fits, and one more does not.
#[test]
fn inverse_answers_are_tight_for_every_kind_of_model() {
    let read = vramfit::catalogue::open;
    let built_in = |id: &str| read(id).unwrap().unwrap();
    let resnet = model(
        r#"{"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "depths": [3, 4, 6, 3], "embedding_size": 64, "hidden_act": "relu",
        "hidden_sizes": [256, 512, 1024, 2048], "layer_type": "bottleneck", "num_channels": 3, "num_labels": 1000, "torch_dtype": "float32"}"#,
    );
    let adapters = lora(16, Targets::AllLinear);
    let convolutions = Training { lora_targets: Some(Targets::Named(vec!["convolution".to_owned()])), ..adapters.clone() };
    for (model, training) in [
        (model(QWEN3_30B_A3B), adapters.clone()),
        (built_in("deepseek-ai/DeepSeek-V2-Lite"), adapters.clone()),
        (built_in("tiiuae/Falcon-H1-7B-Base"), adapters.clone()),
        (built_in("BAAI/bge-m3"), adapters),
        (resnet, convolutions),
    ] {
        let on = |training: Training| Scenario { gpu_capacity: Some(Bytes(160 << 30)), ..scenario(training) };
        let kind = model.anatomy.model_type.clone();
        let tight = |question, set: fn(&mut Training, u64)| {
            let answer = solve(&model, &on(training.clone()), question);
            let Ok(Largest::Count(count)) = answer else { panic!("{kind} {question:?}: {answer:?}") };
            let with = |value| {
                let mut training = training.clone();
                set(&mut training, value);
                estimate(&model, &on(training)).unwrap().fits().unwrap()
            };
            assert!(with(count) && !with(count + 1), "{kind} {question:?}: {count}");
        };
        tight(Question::MicroBatch, |training, value| training.micro_batch = Some(value));
        tight(Question::LoraRank, |training, value| training.lora_rank = Some(value));
        if kind == "resnet" {
            let why = solve(&model, &on(training), Question::Context).unwrap_err().to_string();
            assert!(why.contains("no sequences"), "{why}");
        } else {
            tight(Question::Context, |training, value| training.seq_len = Some(value));
        }
    }
}
