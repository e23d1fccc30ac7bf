//! Ledgers of training, and what shards, computing again and adapters change in them.

use crate::common::model;
use crate::draws::{any_config, any_format, any_spread, any_training};
use crate::{cases, possible};
use proptest::prelude::*;
use vramfit::estimate::{Device, Estimate, Term};
use vramfit::memory::estimate;
use vramfit::model::{ComponentKind, Keeps, LayerRun, Model};
use vramfit::quantity::Bytes;
use vramfit::scenario::{Method, Offload, Picture, Scenario, Sharding, Task, Training, Weights};

/// Training on samples with so many images and seconds of sound, where the model has a tower for them.
fn reading(model: &Model, training: Training, (images, seconds): (u64, u64)) -> Scenario {
    let has = |kind| model.anatomy.components.iter().skip(1).any(|part| part.kind == kind);
    let count = Some(images).filter(|_| has(ComponentKind::VisionTower));
    let audio_seconds = Some(seconds).filter(|_| has(ComponentKind::AudioTower));
    Scenario { task: Task::Train, picture: Picture { count, ..Picture::default() }, training: Training { audio_seconds, ..training }, ..Scenario::default() }
}

fn any_sample() -> impl Strategy<Value = (u64, u64)> {
    (prop::sample::select(vec![0u64, 1, 4]), prop::sample::select(vec![0u64, 1, 30]))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ledgers_of_training_add_up(config in any_config(), training in any_training(), sample in any_sample(), (parallel, _) in any_spread(), tensor in prop::sample::select(vec![1u64, 2]), format in prop_oneof![3 => Just(Weights::AsStored), 1 => any_format()]) {
        let model = model(config);
        let answer = possible(&model, &Scenario { parallel, tensor_parallel: Some(tensor), weights: format, ..reading(&model, training, sample) })?;
        let mut ranks = 0;
        for device in &answer.devices {
            prop_assert!(device.ranks.start == ranks && device.ranks.end > ranks);
            ranks = device.ranks.end;
        }
        let ledgers = answer.devices.iter().map(|device| &device.ledger).chain(&answer.host);
        for ledger in ledgers {
            for entry in &ledger.entries {
                prop_assert_eq!(entry.formula.evaluate(), Ok(entry.amount.expected.get()), "{}", entry.formula);
                prop_assert!(entry.amount.low <= entry.amount.expected && entry.amount.expected <= entry.amount.high, "{}", entry.formula);
            }
            let mut worst = Bytes::ZERO;
            for &stage in ledger.stages {
                let terms = ledger.terms().map(|term| ledger.term_at(term, stage).unwrap().expected);
                let sum = Bytes::total(terms).unwrap();
                prop_assert_eq!(sum, ledger.at(stage).unwrap().expected);
                worst = worst.max(sum);
            }
            prop_assert_eq!(worst, ledger.peak().unwrap().1.expected);
        }
    }

    /// Sharding over one rank more: no stage takes more of a rank, but for what ranks send each other, whose buffers have sizes of their own.
    #[test]
    fn shards_of_more_ranks_are_no_larger(config in any_config(), training in any_training(), sample in any_sample(), sharding in prop::sample::select(vec![Sharding::Zero1, Sharding::Zero2, Sharding::Zero3, Sharding::Fsdp]), ranks in 2u64..130) {
        let model = model(config);
        let of = |ranks: u64| {
            let training = Training { sharding: Some(sharding), ..training.clone() };
            possible(&model, &Scenario { gpus: Some(ranks), ..reading(&model, training, sample) })
        };
        let (fewer, more) = (of(ranks - 1)?, of(ranks)?);
        let (fewer, more) = (&fewer.devices[0], &more.devices[0]);
        for &stage in more.stages {
            let of = |device: &Device| {
                let held = |term| device.term_at(term, stage).unwrap().expected.get();
                device.terms().filter(|term| !matches!(term, Term::Communication | Term::RuntimeContext)).map(held).sum::<u64>()
            };
            prop_assert!(of(more) <= of(fewer), "{stage:?}: {} over {ranks} ranks, {} over one less", of(more), of(fewer));
        }
    }

    /// Activations that are moved to the host are left out: there a layer stands for the average of all.
    #[test]
    fn computing_again_never_adds_to_activations(config in any_config(), training in any_training(), sample in any_sample(), (parallel, _) in any_spread()) {
        let model = model(config);
        let of = |checkpointing: &str| {
            let offload = training.offload.filter(|offload| *offload != Offload::Activations);
            let training = Training { checkpointing: Some(checkpointing.parse().unwrap()), offload, ..training.clone() };
            Scenario { parallel: parallel.clone(), ..reading(&model, training, sample) }
        };
        let all = possible(&model, &of("none"))?;
        // Of such a model only what lies between its layers is counted; and adapters in a part that reads nothing keep nothing at all.
        prop_assume!(!all.assumptions.iter().any(|sentence| sentence.contains("outside of its layers")));
        prop_assume!(!all.warnings.iter().any(|sentence| sentence.starts_with("adapters are in")));
        let most = |answer: &Estimate| {
            let of = |device: &Device| device.stages.iter().map(|&stage| device.term_at(Term::Activations, stage).unwrap().expected).max();
            answer.devices.iter().filter_map(of).max()
        };
        let layers = model.decoder().layer_count();
        let last = training.trainable.as_ref().map_or(2, |trainable| trainable.last_layers);
        let first = if training.method == Some(Method::Freeze) && last > 0 { layers.saturating_sub(last) } else { 0 };
        // Without images layers that attend to them are passed over.
        let is_passed = |run: &LayerRun| sample.0 == 0 && run.layer.mixer.attention().is_some_and(|attention| attention.keeps == Keeps::Encoder);
        let trained: u64 = model.decoder().runs_in(first..layers).filter(|(_, run)| !is_passed(run)).map(|(count, _)| count).sum();
        let trained = trained.min(layers / parallel.pipeline.unwrap_or(1));
        for (how, at_once) in [("full", 1), ("every-2", 1), ("selective", 1), ("uniform-3", 3)] {
            // Where a rank trains no more layers than it computes again at once there is nothing to save.
            if at_once < trained
                && let Ok(some) = estimate(&model, &of(how))
            {
                prop_assert!(most(&some) <= most(&all), "{how}: {:?} of {:?}", most(&some), most(&all));
            }
        }
    }

    /// A matrix of full rank has two adapters which together are larger than it is.
    #[test]
    fn adapters_of_full_rank_exceed_what_they_adapt(config in any_config()) {
        let model = model(config);
        let decoder = model.decoder();
        prop_assume!(decoder.hidden_size > 0 && decoder.layers.iter().all(|run| run.layer.feed_forward.experts().is_none()));
        let base: u64 = decoder.layers.iter().map(|run| run.count * run.tensors.iter().map(|tensor| tensor.elements().unwrap().get()).sum::<u64>()).sum();
        let training = Training { method: Some(Method::Lora), lora_targets: Some("all-linear".parse().unwrap()), lora_rank: Some(decoder.hidden_size), ..Training::default() };
        let answer = possible(&model, &Scenario { task: Task::Train, training, ..Scenario::default() })?;
        let trained = answer.trainable.unwrap().get();
        prop_assert!(trained > base, "{trained} of {base}");
    }
}
