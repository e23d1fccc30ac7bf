//! Models and modules that draft.

use crate::common::{fixture, model};
use crate::{held, on, published};
use vramfit::estimate::Term;
use vramfit::memory::estimate;
use vramfit::scenario::{DraftModel, Runtime, Scenario, Serving};

fn with_draft(runtime: Runtime, config: &str) -> Scenario {
    let draft = DraftModel { name: "draft".into(), model: Some(std::sync::Arc::new(model(config))) };
    let serving = Serving { draft: Some(draft), ..Serving::default() };
    Scenario { runtime, serving, context: Some(4096), ..Scenario::default() }
}

#[test]
fn a_draft_model_lies_beside_the_model_and_shares_its_pool() {
    // Qwen3-4B drafts for Qwen2-7B: 36 layers of 8 KV heads beside 28 of 4.
    let drafted = model(fixture::QWEN3_4B).anatomy.parameters().unwrap().get() * 2;
    let (own, draft) = (28 * 2 * 4 * 128 * 2, 36 * 2 * 8 * 128 * 2);
    for runtime in [Runtime::Vllm, Runtime::Sglang, Runtime::TensorRtLlm, Runtime::Transformers] {
        let answer = on(fixture::QWEN2_7B, with_draft(runtime, fixture::QWEN3_4B));
        assert_eq!((held(&answer, Term::DraftModel), held(&answer, Term::KvCache)), (drafted, (own + draft) * 4096), "{runtime}");
    }
    // llama.cpp gives it caches and buffers of its own.
    let answer = on(fixture::QWEN2_7B, with_draft(Runtime::LlamaCpp, fixture::QWEN3_4B));
    assert_eq!(held(&answer, Term::KvCache), own * 4096);
    let alone = on(fixture::QWEN3_4B, Scenario { runtime: Runtime::LlamaCpp, context: Some(4096), ..Scenario::default() });
    let all: u64 = [Term::Weights, Term::KvCache, Term::Activations].into_iter().map(|term| held(&alone, term)).sum();
    assert_eq!(held(&answer, Term::DraftModel), all);
    // A name alone cannot be counted.
    let mut named = with_draft(Runtime::Vllm, fixture::QWEN3_4B);
    named.serving.draft.as_mut().unwrap().model = None;
    let refused = estimate(&model(fixture::QWEN2_7B), &named).unwrap_err().to_string();
    assert!(refused.contains("was not read"), "{refused}");
    // The draft's context is the model's, whatever the draft was made for.
    let short = fixture::QWEN3_4B.replace("40960", "2048");
    assert_ne!(short, fixture::QWEN3_4B);
    let draft_of = |config: &str| held(&on(fixture::QWEN2_7B, Scenario { context: None, ..with_draft(Runtime::LlamaCpp, config) }), Term::DraftModel);
    assert_eq!(draft_of(&short), draft_of(fixture::QWEN3_4B));
}

#[test]
fn only_what_writes_text_can_draft() {
    let denoiser = r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "cross_attention_dim": 64, "attention_head_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "layers_per_block": 2,
        "in_channels": 4, "out_channels": 4, "sample_size": 64}"#;
    for draft in
        [&published("google-bert/bert-base-multilingual-cased"), &published("openai/clip-vit-base-patch32"), &published("microsoft/resnet-50"), denoiser]
    {
        for runtime in [Runtime::Vllm, Runtime::Transformers, Runtime::LlamaCpp] {
            let said = estimate(&model(fixture::QWEN2_7B), &with_draft(runtime, draft)).unwrap_err().to_string();
            assert!(said.contains("cannot draft"), "{runtime}: {said}");
        }
    }
}

#[test]
fn a_module_that_predicts_tokens_is_loaded_only_when_it_drafts() {
    let config = published("deepseek-ai/DeepSeek-V3");
    let scenario = |tokens| {
        let serving = Serving { speculative_tokens: tokens, ..Serving::default() };
        Scenario { gpu: Some("H200 SXM".into()), gpus: Some(8), context: Some(8192), serving, ..Scenario::default() }
    };
    let (without, with) = (on(&config, scenario(None)), on(&config, scenario(Some(1))));
    assert_eq!(held(&without, Term::DraftModel), 0);
    // Experts and attention of one more layer, the projection of two inputs, an embedding and a head: 13.46 B beside 671 B parameters,
    // and one layer's latents beside those of 61.
    let module: u64 = 257 * 3 * 7168 * 2048 + 187_107_328 + 256 * 7168 + 2 * 7168 * 7168 + 2 * 129_280 * 7168;
    let share = |part: u64, all: u64| part * 10_000 / all;
    let weights = with.devices[0].entries.iter().find(|entry| entry.term == Term::Weights).unwrap().amount.expected.get();
    assert_eq!(share(held(&with, Term::DraftModel), weights), share(module, 671_026_419_200));
    assert_eq!(held(&with, Term::KvCache) * 61, held(&without, Term::KvCache) * 62);
    let error = estimate(&model(fixture::QWEN2_7B), &scenario(Some(1))).unwrap_err().to_string();
    assert!(error.contains("no multi-token-prediction module"), "{error}");
}
