//! What decoders read of an encoder.

use crate::common::fixture;
use crate::{held, of_version, on, published};
use vramfit::encoding::Encoding;
use vramfit::estimate::{Stage, Term};
use vramfit::scenario::{Runtime, Scenario, Weights};

#[test]
fn what_is_read_of_an_encoder_is_held_for_every_request() {
    let across = |config: &str, scenario: Scenario| {
        let answer = on(config, scenario);
        answer.devices[0].term_at(Term::CrossKvCache, Stage::Decode).unwrap().expected.get()
    };
    let four = |runtime| Scenario { runtime, batch: Some(4), gpu: Some("L4".into()), ..Scenario::default() };
    // Whisper's turbo: 1,500 positions of half a minute in 4 layers of 20 heads of 64, which vLLM holds in 94 blocks of 16.
    let whisper = published("openai/whisper-large-v3-turbo");
    assert_eq!(across(&whisper, four(Runtime::Vllm)), 4 * 94 * 16 * 4 * 2 * 20 * 64 * 2);
    assert_eq!(across(&whisper, Scenario { gpus: Some(2), ..four(Runtime::Vllm) }), 4 * 94 * 16 * 4 * 2 * 10 * 64 * 2);
    // Llama 3.2 Vision: 4 tiles of 1,601 patches in 8 layers of 8 heads of 128 (memory of `CrossAttentionSpec`).
    let vision = published("meta-llama/Llama-3.2-11B-Vision-Instruct");
    let large = Scenario { gpu: Some("H100 SXM5 80GB".into()), ..four(Runtime::Transformers) };
    assert_eq!(across(&vision, large), 4 * 4 * 1601 * 8 * 2 * 8 * 128 * 2);
    // BART's encoder has 1,024 positions; T5's reads as much as there is.
    let long = Scenario { context: Some(4096), weights: Weights::Plain(Encoding::F32), ..four(Runtime::Transformers) };
    assert_eq!(across(&published("facebook/bart-large-cnn"), long.clone()), 4 * 1024 * 12 * 2 * 16 * 64 * 4);
    assert_eq!(across(&published("google-t5/t5-small"), long.clone()), 4 * 4096 * 6 * 2 * 8 * 64 * 4);
    // The least that runs is one request, and decoders alone read nothing.
    let answer = on(&published("google-t5/t5-small"), long.clone());
    let alone = on(&published("google-t5/t5-small"), Scenario { batch: Some(1), ..long.clone() });
    assert_eq!(answer.devices[0].minimum, alone.devices[0].minimum);
    assert_eq!(across(fixture::QWEN2_7B, long), 0);
}

/// `pad_input_ids` and `num_attention_layers` of SGLang 0.5.23: tokens of the encoder have slots, and a slot has room in every layer.
#[test]
fn sglang_gives_tokens_of_an_encoder_slots_of_its_pool() {
    // Whisper tiny: 4 layers of the encoder, 4 of the decoder twice, each of 6 heads of 64; 1,500 tokens of half a minute.
    let slot = (4 + 2 * 4) * 2 * 6 * 64 * 2;
    let scenario = Scenario { batch: Some(3), context: Some(448), ..of_version(Runtime::Sglang, None) };
    let answer = on(&published("openai/whisper-tiny"), scenario.clone());
    assert_eq!([held(&answer, Term::KvCache), held(&answer, Term::CrossKvCache)], [3 * 448 * slot, 3 * 1500 * slot]);
    let capacity = answer.capacity.unwrap();
    assert_eq!(capacity.kv_cache_bytes.get(), capacity.kv_cache_tokens * slot);
    assert_eq!(capacity.concurrency_hundredths, capacity.kv_cache_tokens * 100 / (448 + 1500));
    // Llama 3.2 Vision: 32 + 8 layers of 8 heads of 128; 4 tiles of 1,601 patches.
    let answer = on(&published("meta-llama/Llama-3.2-11B-Vision-Instruct"), scenario);
    assert_eq!(held(&answer, Term::CrossKvCache), 3 * 4 * 1601 * 40 * 2 * 8 * 128 * 2);
}
