//! TGI: what its launcher computes from the keys that it reads.

use crate::common::{fixture, model};
use crate::{chosen, held, on, published};
use vramfit::estimate::{Basis, Entry, Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{Runtime, Scenario};

fn tgi(gpu: &str) -> Scenario {
    Scenario { runtime: Runtime::Tgi, gpu: Some(gpu.into()), ..Scenario::default() }
}

#[test]
fn tgi_fills_nine_tenths_of_the_card_with_blocks_and_captures_graphs_in_the_rest() {
    let on_card = |gpu: &str| Scenario { runtime: Runtime::Tgi, gpu: Some(gpu.into()), ..Scenario::default() };
    let answer = on(fixture::MISTRAL_7B, on_card("H100 SXM5 80GB"));
    let device = &answer.devices[0];
    let budget = device.budget.as_ref().unwrap().bytes.get();
    assert_eq!(budget, (device.usable.get() * 9).div_ceil(10));
    let graphs = device.term_at(Term::CudaGraphs, Stage::Decode).unwrap().expected;
    assert_eq!(device.claim.unwrap().get(), budget + graphs.get());
    // What the driver shows counts, with the longest prompt: all of it but keys, values and graphs.
    let at = |term| device.term_at(term, Stage::Prefill).unwrap().expected.get();
    let others = device.at(Stage::Prefill).unwrap().expected.get() - at(Term::KvCache) - at(Term::CudaGraphs);
    let per_token = 32 * 2 * 8 * 128 * 2;
    assert_eq!(answer.capacity.unwrap().kv_cache_tokens, (budget - others) / per_token);
    // 900 TFLOPS by 15.03 GFLOP for a token, at most the model's maximum; 121 on an L4; 4,096 where the launcher does not know the card.
    for (gpu, tokens) in [("H100 SXM5 80GB", "32768"), ("L4", "8049"), ("GeForce RTX 3090", "4096")] {
        assert_eq!(chosen(&on(fixture::MISTRAL_7B, on_card(gpu)), "max_num_batched_tokens"), tokens, "{gpu}");
    }
    assert_eq!(at(Term::Activations), 32_768 * (3 * 14_336 + 4 * 4096) * 2);
    assert_eq!(at(Term::Workspace), 128 << 20);
    // Windows (here of 4,096 tokens) give up no block.
    assert_eq!(held(&answer, Term::KvCache), 8192 * per_token);
    // Heads that FlashInfer has no kernels for: blocks of 256 tokens, of 16 before Ampere.
    let narrow = fixture::MISTRAL_7B.replace("\"hidden_size\": 4096", "\"head_dim\": 96, \"hidden_size\": 4096");
    for (gpu, tokens) in [("H100 SXM5 80GB", 1024), ("T4", 1008)] {
        let answer = on(&narrow, Scenario { context: Some(1000), ..on_card(gpu) });
        assert_eq!(held(&answer, Term::KvCache), tokens * 32 * 2 * 8 * 96 * 2, "{gpu}");
    }
}

#[test]
fn the_launcher_of_tgi_computes_a_prompt_from_the_keys_that_it_reads() {
    let rows = [
        // No `intermediate_size` (nor `num_attention_heads`): 4,096, at most the model's maximum.
        ("bigscience/bloom-560m", "H200 SXM", 1, "4096"),
        ("tiiuae/falcon-7b", "H100 SXM5 80GB", 1, "4096"),
        ("mosaicml/mpt-7b", "H100 SXM5 80GB", 1, "2048"),
        // Two experts of 14,336: 26.3 GFLOP.
        ("mistralai/Mixtral-8x7B-v0.1", "L4", 1, "4599"),
        // Six and two experts, each taken for as wide as the dense layer (10,944), heads for 2048 / 16: 30.2 GFLOP.
        ("deepseek-ai/DeepSeek-V2-Lite", "H100 SXM5 80GB", 1, "29820"),
        ("deepseek-ai/DeepSeek-V3", "H200 SXM", 8, "16958"),
        // `intermediate_size` is said, but no layer has it.
        ("Qwen/Qwen3-235B-A22B", "H100 SXM5 80GB", 1, "4096"),
        // A wrapper keeps its keys in `text_config`.
        ("llava-hf/llava-1.5-7b-hf", "H100 SXM5 80GB", 1, "4096"),
    ];
    for (id, gpu, gpus, tokens) in rows {
        let answer = on(&published(id), Scenario { gpus: Some(gpus), ..tgi(gpu) });
        assert_eq!(chosen(&answer, "max_num_batched_tokens"), tokens, "{id}");
    }
    // What is taken in the place of a number that is not known is a rule of thumb, wide enough for what the launcher computes:
    // 312 TFLOPS by 246.9 and 31.6 GFLOP.
    for (id, tokens) in [("Qwen/Qwen3-235B-A22B", 1264), ("Qwen/Qwen3-30B-A3B-FP8", 9870)] {
        let prefill = |asked| {
            let answer = on(&published(id), Scenario { max_num_batched_tokens: asked, ..tgi("A100 80GB SXM") });
            let work = |entry: &&Entry| entry.term == Term::Activations && entry.stages.contains(&Stage::Prefill);
            answer.devices[0].entries.iter().find(work).unwrap().clone()
        };
        let (guess, known) = (prefill(None), prefill(Some(tokens)));
        assert_eq!((guess.basis, known.basis), (Basis::RuleOfThumb, Basis::Modelled), "{id}");
        assert!(guess.amount.low <= known.amount.low && known.amount.high <= guess.amount.high, "{id}");
    }
}

#[test]
fn tgi_has_flashinfer_only_where_its_launcher_finds_the_width_of_a_head() {
    let rows = [
        ("llava-hf/llava-1.5-7b-hf", false),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", false),
        ("OpenGVLab/InternVL3-8B-hf", false),
        ("google/gemma-3-27b-it", true),
        ("Qwen/Qwen3-235B-A22B", true),
        // `n_head` is not read.
        ("bigscience/bloom-560m", false),
    ];
    for (id, uses) in rows {
        let answer = on(&published(id), tgi("H100 SXM5 80GB"));
        assert_eq!(held(&answer, Term::Workspace), if uses { 128 << 20 } else { 0 }, "{id}");
    }
}

#[test]
fn tgi_captures_no_graphs_of_bitsandbytes_and_exl2() {
    let graphs = |config: &str, weights: &str| held(&on(config, Scenario { weights: weights.parse().unwrap(), ..tgi("L40S") }), Term::CudaGraphs);
    for (weights, captures) in [("as-stored", true), ("nf4", true), ("int8", false), ("exl2-4", false)] {
        assert_eq!(graphs(fixture::MISTRAL_7B, weights) > 0, captures, "{weights}");
    }
    let said = r#""quantization_config": {"quant_method": "exl2", "bits": 4.0}, "vocab_size""#;
    assert_eq!(graphs(&fixture::MISTRAL_7B.replace("\"vocab_size\"", said), "as-stored"), 0);
}

#[test]
fn tgi_serves_only_what_writes_text_token_by_token() {
    let alone = "which this one does not";
    let rows = [
        ("BAAI/bge-m3", alone),
        ("google-bert/bert-base-multilingual-cased", alone),
        ("openai/clip-vit-base-patch32", alone),
        ("facebook/wav2vec2-base-960h", alone),
        ("openai/whisper-tiny", "no model that reads sound"),
        ("google-t5/t5-small", "cross-attention"),
    ];
    for (id, why) in rows {
        let said = estimate(&model(&published(id)), &tgi("L40S")).unwrap_err().to_string();
        assert!(said.contains(why) && said.ends_with("choose transformers"), "{id}: {said}");
    }
}
