//! What the page's first module answers, and what it leaves to the whole engine.

use crate::common::model;
use crate::{chosen, of_version, on, published, refusal};
use vramfit::memory::estimate;
use vramfit::scenario::{Runtime, Scenario, Version};

/// Kernels pad packed experts by rules that the page's first module does without, whatever the files say.
#[test]
fn quantised_models_are_left_to_the_whole_engine() {
    let model = model(&published("openai/gpt-oss-20b"));
    assert!(model.anatomy.quantization.is_some() && !vramfit::memory::is_common(&model, &Scenario::default()));
}

/// The page's first module answers what it answers as the whole engine does, encoders behind text decoders included.
#[test]
fn what_the_page_answers_at_once_is_what_the_engine_answers() {
    let rows = include_str!("../fixtures/classes.jsonl").lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let donut = serde_json::json!({
        "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
        "encoder": {"model_type": "donut-swin", "image_size": [2560, 1920], "embed_dim": 128, "depths": [2, 2, 14, 2], "num_heads": [4, 8, 16, 32], "window_size": 10},
        "decoder": {"model_type": "mbart", "vocab_size": 57525, "d_model": 1024, "decoder_layers": 4, "encoder_layers": 12, "decoder_attention_heads": 16,
            "decoder_ffn_dim": 4096, "max_position_embeddings": 768, "is_decoder": true, "add_cross_attention": true, "scale_embedding": true, "add_final_layer_norm": true},
    });
    let (mut common, mut across) = (0, 0);
    for config in rows.map(|row| row["config"].clone()).chain([donut.clone()]) {
        let Ok(anatomy) = vramfit::config::read(&config.to_string()) else { continue };
        let mut tensors = anatomy.components[0].layers.iter().flat_map(|run| &run.tensors);
        let reads_across = tensors.any(|tensor| tensor.name.contains("encoder_attn.") || tensor.name.contains("crossattention."));
        let model = model(&config.to_string());
        let scenario = Scenario { context: Some(256), ..Scenario::default() };
        match vramfit::memory::common_estimate(&model, &scenario) {
            Some(answer) => {
                assert_eq!(answer, estimate(&model, &scenario), "{}", config["model_type"]);
                assert!(!reads_across, "{}", config["model_type"]);
                common += 1;
            }
            None => across += u64::from(reads_across),
        }
    }
    assert!(common > 200 && across > 10, "{common} {across}");
    // `models/registry.py` of 0.10.2 has Donut, and no other has.
    let answer = on(&donut.to_string(), Scenario { context: Some(256), ..of_version(Runtime::Vllm, None) });
    assert_eq!(chosen(&answer, "runtime_version"), "0.10.2");
    assert!(refusal(&donut.to_string(), &of_version(Runtime::Vllm, Some(Version(0, 11, 0)))).contains("`donut`"));
}
