//! Training over several GPUs.

use crate::common::model;
use crate::{LLAMA_8B, LLAMA_8B_PARAMETERS, answer, full, held, mixed, peak, scenario, spread, states};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Loss, MixedRecipe, Offload, Parallel, Scenario, Schedule, Sharding, Training};

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

/// Megatron-LM `forward_backward_pipelining_with_interleaving`: groups of micro-batches "should range in [PP, M]".
#[test]
fn interleaved_schedules_take_a_micro_batch_for_each_stage() {
    let of = |micro_batches| {
        let training = Training { grad_accum: Some(micro_batches), schedule: Some(Schedule::Interleaved), ..full() };
        let parallel = Parallel { pipeline: Some(4), ..Parallel::default() };
        estimate(&model(LLAMA_8B), &Scenario { parallel, ..scenario(training) })
    };
    assert!(of(3).unwrap_err().to_string().contains("3 are fewer than 4"));
    assert!(of(4).is_ok());
}

/// Megatron-LM `transformer_config.py`: a stage's layers divide over its chunks, and all layers over the stages.
#[test]
fn interleaved_chunks_are_alike() {
    let of = |schedule, stages, chunks| {
        let training = Training { grad_accum: Some(16), schedule: Some(schedule), virtual_stages: chunks, ..full() };
        let parallel = Parallel { pipeline: Some(stages), ..Parallel::default() };
        estimate(&model(LLAMA_8B), &Scenario { parallel, ..scenario(training) })
    };
    for (stages, chunks) in [(4, 3), (3, 2), (16, 4)] {
        let why = of(Schedule::Interleaved, stages, Some(chunks)).unwrap_err().to_string();
        assert!(why.contains(&format!("32 layers do not divide over {stages} pipeline stages of {chunks} chunks")), "{why}");
    }
    for (stages, chunks) in [(4, 2), (4, 8), (16, 2), (1, 3)] {
        assert!(of(Schedule::Interleaved, stages, Some(chunks)).is_ok(), "{stages} {chunks}");
    }
    assert!(of(Schedule::OneForwardOneBackward, 3, None).is_ok());
}

/// All forward passes of `GPipe` come first: what each loss keeps waits for every micro-batch but the last.
#[test]
fn losses_of_waiting_micro_batches() {
    let last = |loss, micro_batches| {
        let training = Training { grad_accum: Some(micro_batches), schedule: Some(Schedule::Gpipe), loss: Some(loss), ..full() };
        let parallel = Parallel { pipeline: Some(4), ..Parallel::default() };
        let answer = estimate(&model(LLAMA_8B), &Scenario { parallel, ..scenario(training) }).unwrap();
        held(answer.devices.last().unwrap(), Term::Logits, Stage::Loss)
    };
    for (loss, kept) in [
        (Loss::Standard, 4 * 2048 * 128_256),
        (Loss::Chunked, 2 * 2048 * 128_256),
        (Loss::Tiled, 2 * 2048 * 4096),
        (Loss::Fused, 2 * 2048 * 4096 + 2 * 128_256 * 4096),
    ] {
        assert_eq!(last(loss, 16) - last(loss, 1), 15 * kept, "{loss:?}");
    }
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
