//! Towers and projectors beside the decoder.

use crate::common::model;
use crate::{LLAVA, answer, full, held, scenario};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{AttentionImplementation, Checkpointing, Method, Parallel, Picture, Precision, Scenario, Targets, Training};

/// A vision tower reads its own tokens: 577 of each image of 336 × 336 in CLIP's.
#[test]
fn towers_keep_what_their_tokens_need() {
    let of = |method, count, size| {
        let picture = Picture { size, count, frames: None };
        let training = Training { method: Some(method), ..full() };
        let answer = estimate(&model(LLAVA), &Scenario { picture, ..scenario(training) }).unwrap();
        (held(&answer.devices[0], Term::Activations, Stage::Forward), answer.warnings.iter().any(|warning| warning.contains("--images")))
    };
    let (text, is_warned) = of(Method::Full, None, None);
    assert!(is_warned);
    let (one, is_warned) = of(Method::Full, Some(1), None);
    assert!(!is_warned && one > text);
    // In 24 layers: two norms, queries, keys, values and the result, the feed-forward's inner values twice; the pixels of each patch.
    let layer = 2 * (2 * 1024) + 2 * 8 + 2 * 1024 + 3 * 2 * 1024 + 2 * 1024 + 4 * 16 + 2 * 1024 + 2 * 2 * 4096;
    let patch = 14 * 14 * 3 * 2;
    // The projector's two matrices and the activation between them: what each reads.
    let projector = 2 * 1024 + 2 * 2 * 4096;
    assert_eq!(one - text, 577 * (24 * layer + patch + projector), "per token {}", (one - text) / 577);
    assert_eq!(of(Method::Full, Some(3), None).0 - text, 3 * (one - text));
    assert_eq!((of(Method::Full, Some(1), Some((672, 336))).0 - text) / (24 * layer + patch + projector), 2 * 576 + 1);
    // A frozen tower keeps nothing for a backward pass that never reaches it.
    assert_eq!(of(Method::Freeze, Some(1), None).0, of(Method::Freeze, None, None).0);
    // Adapters by name are in the tower too, where it has modules of these names.
    assert!(of(Method::Lora, Some(1), None).0 > of(Method::Lora, None, None).0);
}

/// Four images of 1,008 × 1,008 beside 512 tokens of text.
fn with_images(training: Training) -> Scenario {
    let picture = Picture { size: Some((1008, 1008)), count: Some(4), frames: None };
    Scenario { picture, ..scenario(Training { seq_len: Some(512), ..training }) }
}

/// A tower comes first in the forward pass and last in the backward pass: all that it keeps is there when the decoder's gradients are.
#[test]
fn towers_hold_what_they_keep_until_the_decoder_is_through() {
    let of = |training: Training, has_images| {
        let scenario = with_images(training);
        let scenario = if has_images { scenario } else { Scenario { picture: Picture::default(), ..scenario } };
        let device = estimate(&model(LLAVA), &scenario).unwrap().devices.remove(0);
        [Stage::Forward, Stage::Backward].map(|stage| [Term::Activations, Term::Gradients].map(|term| held(&device, term, stage)))
    };
    let [[text, before], [with, after]] = [false, true].map(|has| of(full(), has));
    let by_tower = with[0] - text[0];
    let tokens = 4 * (72 * 72 + 1);
    let working = tokens * 4 * 4096;
    // The end of the backward pass decides, with every gradient: with images it holds the tower's part, and a layer of the tower works
    // with more than one of the decoder.
    assert!(before[0] < working);
    assert_eq!(after, [by_tower + working, before[1]]);
    // Recomputed, the tower's layer counts, not the decoder's: 20,740 tokens of it against 512.
    let [inputs, backward] = of(Training { checkpointing: Some(Checkpointing::Full), ..full() }, true);
    let layer = 2 * (2 * 1024) + 2 * 8 + 2 * 1024 + 3 * 2 * 1024 + 2 * 1024 + 4 * 16 + 2 * 1024 + 2 * 2 * 4096;
    let tower = tokens * (24 * 2 * 1024 + 14 * 14 * 3 * 2 + 2 * 1024 + 2 * 2 * 4096);
    assert!(inputs[0] > tower);
    // The input that its first norm keeps is the one that is there already.
    assert_eq!(backward[0], tower + tokens * (layer - 2 * 1024) + working);
}

/// Eager scores: one for each patch of the same image, whatever the length of the text.
#[test]
fn scores_of_towers_are_of_their_patches() {
    let kept = |attention, seq_len| {
        let scenario = with_images(full());
        let of = |picture| {
            let training = Training { seq_len: Some(seq_len), ..scenario.training.clone() };
            held(
                &estimate(&model(LLAVA), &Scenario { attention, picture, training, ..scenario.clone() }).unwrap().devices[0],
                Term::Activations,
                Stage::Forward,
            )
        };
        of(scenario.picture) - of(Picture::default())
    };
    let [eager, fused] = [AttentionImplementation::Eager, AttentionImplementation::Sdpa].map(|attention| kept(attention, 512));
    let patches = 72 * 72 + 1;
    // Softmax in float32 and the same in 16 bits; no sum for each head.
    assert_eq!(eager, fused + 24 * 4 * patches * (16 * patches * 6 - 4 * 16));
    assert_eq!(eager, kept(AttentionImplementation::Eager, 2048));
}

const WHISPER_TINY: &str = r#"{"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "d_model": 384, "decoder_attention_heads": 6,
    "decoder_ffn_dim": 1536, "decoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536, "encoder_layers": 4, "num_mel_bins": 80,
    "max_source_positions": 1500, "max_target_positions": 448, "vocab_size": 51865, "activation_function": "gelu", "torch_dtype": "float32"}"#;

/// Saved-tensor hooks on transformers 5.23's own classes, float32, no dropout: 254,515,296 bytes, less the copies that kernels of the CPU
/// make of attention's results (4 layers of 1,500 tokens, 8 attentions of 448) and the indices of two embeddings; what is kept of the
/// encoder is told per token of the decoder, rounded up to an element.
#[test]
fn a_decoder_listens_to_whole_windows() {
    let training = |seconds| Training { precision: Some(Precision::Fp32), seq_len: Some(448), audio_seconds: seconds, ..Training::default() };
    let kept = |seconds| held(&answer(WHISPER_TINY, training(seconds)).devices[0], Term::Activations, Stage::Forward);
    assert_eq!(kept(None), 254_515_296 - 4 * 1500 * 384 * 4 - 8 * 448 * 384 * 4 - 2 * 448 * 8 + 4096);
    assert_eq!(kept(Some(3)), kept(Some(30)));
    assert!(kept(Some(31)) > kept(Some(30)));
    let refusal = estimate(&model(LLAVA), &scenario(training(Some(5)))).unwrap_err().to_string();
    assert!(refusal.contains("no audio tower"), "{refusal}");
}

/// Two matrices and a GELU between them: each keeps what it reads, and the activation too.
#[test]
fn projectors_keep_what_their_tokens_need() {
    let with = |images| {
        let picture = Picture { count: Some(images), ..Picture::default() };
        let answer = estimate(&model(LLAVA), &Scenario { picture, ..scenario(full()) }).unwrap();
        held(&answer.devices[0], Term::Activations, Stage::Forward)
    };
    let answer = estimate(&model(LLAVA), &Scenario { picture: Picture { count: Some(1), ..Picture::default() }, ..scenario(full()) }).unwrap();
    assert!(answer.warnings.iter().all(|warning| !warning.contains("projector")), "{:?}", answer.warnings);
    let formula = answer.devices[0].entries.iter().filter(|entry| entry.term == Term::Activations).map(|entry| entry.formula.to_string());
    let wanted = "1 sequences × 1 images × 577 tokens of an image × (2 B × 1,024 projector width + 4 B × 4,096 projector width)";
    assert!(formula.into_iter().any(|formula| formula.contains(wanted)));
    assert_eq!(with(3) - with(2), with(2) - with(1));
}

/// A stage at the start of a pipeline has several micro-batches under way, and their images.
#[test]
fn towers_wait_with_every_micro_batch() {
    let with = |images| {
        let picture = Picture { count: Some(images), ..Picture::default() };
        let parallel = Parallel { pipeline: Some(4), ..Parallel::default() };
        let training = Training { grad_accum: Some(8), ..full() };
        let answer = estimate(&model(LLAVA), &Scenario { picture, parallel, ..scenario(training) }).unwrap();
        [0, answer.devices.len() - 1].map(|at| held(&answer.devices[at], Term::Activations, Stage::Forward))
    };
    let alone = {
        let of = |images| {
            let picture = Picture { count: Some(images), ..Picture::default() };
            held(&estimate(&model(LLAVA), &Scenario { picture, ..scenario(full()) }).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        of(2) - of(1)
    };
    assert_eq!(with(2)[0] - with(1)[0], 4 * alone);
    assert_eq!(with(2)[1], with(1)[1]);
}

const W2V_BERT: &str = r#"{"model_type": "wav2vec2-bert", "architectures": ["Wav2Vec2BertModel"], "torch_dtype": "float32", "hidden_size": 64,
    "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256, "feature_projection_input_dim": 160, "add_adapter": false}"#;
const GRANITE_SPEECH: &str = r#"{"model_type": "granite_speech", "architectures": ["GraniteSpeechForConditionalGeneration"], "torch_dtype": "float32",
    "text_config": {"model_type": "granite", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": 1000},
    "encoder_config": {"model_type": "granite_speech_encoder", "hidden_dim": 64, "num_layers": 4, "num_heads": 4, "output_dim": 42, "input_dim": 160,
        "dim_head": 16, "context_size": 50},
    "projector_config": {"model_type": "blip_2_qformer", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
        "encoder_hidden_size": 64}}"#;

/// Saved-tensor hooks on transformers 5.23, float32, without dropouts: a layer of Wav2Vec2-BERT keeps 26,646.4 bytes of each of 200 frames, of
/// Granite Speech's encoder with blocks of 50 frames 12,433. Depthwise convolutions keep their input with its padding, which is left
/// out: 30 and 14 frames.
#[test]
fn conformers_keep_what_their_operators_keep() {
    let single = |seconds| Training { precision: Some(Precision::Fp32), seq_len: Some(200), audio_seconds: seconds, ..full() };
    let of = |config: &str, key: &str, seconds| {
        let kept = |layers: u64| {
            let config = config.replace(&format!("\"{key}\": 4"), &format!("\"{key}\": {layers}"));
            let scenario = Scenario { attention: AttentionImplementation::Eager, ..scenario(single(seconds)) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        kept(4) - kept(3)
    };
    let bert = of(W2V_BERT, "num_hidden_layers", None);
    assert!(bert.abs_diff(266_464 * 20 - 30 * 64 * 4) < 200, "{bert}");
    // Four seconds are 200 pairs of frames.
    let granite = of(GRANITE_SPEECH, "num_layers", Some(4));
    assert!(granite.abs_diff(12_433 * 200) < 12_433 * 4, "{granite}");
}

/// The same of the three whose attention has two biases (`Wav2Vec2ConformerModel`, `SeamlessM4TSpeechEncoder`, `ParakeetEncoder`): each layer
/// keeps 2,593,856 bytes of 200 frames, statistics of batch norms among them, with one projected distance less than counted here.
#[test]
fn conformers_with_two_biases_keep_two_kinds_of_queries() {
    let layer = |layers: u64| {
        format!(
            r#"{{"model_type": "wav2vec2-conformer", "architectures": ["Wav2Vec2ConformerModel"], "torch_dtype": "float32", "hidden_size": 64,
            "num_hidden_layers": {layers}, "num_attention_heads": 4, "intermediate_size": 256, "conv_dim": [32, 32, 32, 32, 32, 32, 32],
            "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "position_embeddings_type": "relative"}}"#
        )
    };
    let kept = |layers| {
        let training = Training { precision: Some(Precision::Fp32), seq_len: Some(200), ..full() };
        let scenario = Scenario { attention: AttentionImplementation::Eager, ..scenario(training) };
        held(&estimate(&model(&layer(layers)), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
    };
    assert_eq!(kept(3) - kept(2), 2_593_856 - 2 * 64 * 4 + 64 * 4 + 200 * 8);
}

/// Saved-tensor hooks on `ConvBertModel` of transformers 5.23, float32, two sequences of 128 tokens, no dropout: 1,693,696 bytes of a layer.
/// It has no other attention than eager.
#[test]
fn a_convolution_of_spans_is_beside_the_heads() {
    let kept = |layers: u64| {
        let config = format!(
            r#"{{"model_type": "convbert", "architectures": ["ConvBertModel"], "torch_dtype": "float32", "vocab_size": 100, "hidden_size": 64,
            "num_hidden_layers": {layers}, "num_attention_heads": 4, "intermediate_size": 256, "hidden_dropout_prob": 0,
            "attention_probs_dropout_prob": 0}}"#
        );
        let training = Training { precision: Some(Precision::Fp32), seq_len: Some(128), micro_batch: Some(2), ..full() };
        let answer = answer(&config, training);
        assert!(answer.warnings.iter().any(|warning| warning.contains("no sdpa attention")), "{:?}", answer.warnings);
        held(&answer.devices[0], Term::Activations, Stage::Forward)
    };
    assert_eq!(kept(3) - kept(2), 1_693_696);
}

const BLIP2: &str = r#"{"model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"], "torch_dtype": "float32", "num_query_tokens": 8,
    "text_config": {"model_type": "opt", "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 100,
        "max_position_embeddings": 512, "word_embed_proj_dim": 64},
    "vision_config": {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 70, "patch_size": 14},
    "qformer_config": {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 100,
        "cross_attention_frequency": 2}}"#;
const IDEFICS2: &str = r#"{"model_type": "idefics2", "architectures": ["Idefics2ForConditionalGeneration"], "torch_dtype": "float32",
    "text_config": {"model_type": "mistral", "hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 1, "vocab_size": 100, "max_position_embeddings": 512},
    "vision_config": {"model_type": "idefics2", "hidden_size": 96, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 128,
        "image_size": 182, "patch_size": 14},
    "perceiver_config": {"model_type": "idefics2", "hidden_size": 64, "resampler_n_latents": 8, "resampler_depth": 4, "resampler_n_heads": 4,
        "resampler_head_dim": 24, "num_key_value_heads": 2}}"#;

fn read(config: &str, training: Training, attention: AttentionImplementation, size: (u64, u64)) -> vramfit::estimate::Estimate {
    let picture = Picture { size: Some(size), count: Some(1), frames: None };
    let training = Training { precision: Some(Precision::Fp32), seq_len: Some(64), ..training };
    estimate(&model(config), &Scenario { picture, attention, ..scenario(training) }).unwrap()
}

fn forward(config: &str, training: Training, attention: AttentionImplementation, size: (u64, u64)) -> u64 {
    held(&read(config, training, attention, size).devices[0], Term::Activations, Stage::Forward)
}

/// Saved-tensor hooks on `Blip2QFormerModel` of transformers 5.23, float32, no dropout, 8 queries of 64 values that read 26 tokens of 96: the
/// third layer, with cross-attention, adds 54,720 bytes, the second, without, 33,024.
#[test]
fn a_q_former_keeps_what_its_queries_and_their_keys_need() {
    let layers = |count: u64| {
        BLIP2.replace(
            "\"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"intermediate_size\": 256",
            &format!("\"num_hidden_layers\": {count}, \"num_attention_heads\": 4, \"intermediate_size\": 256"),
        )
    };
    let of = |count| forward(&layers(count), full(), AttentionImplementation::Sdpa, (70, 70));
    assert_eq!(of(3) - of(2), 54_720);
    assert_eq!(of(2) - of(1), 33_024);
    let answer = read(BLIP2, full(), AttentionImplementation::Sdpa, (70, 70));
    assert!(!answer.warnings.iter().any(|warning| warning.contains("q_former") || warning.contains("projector")), "{:?}", answer.warnings);
    // Frozen, with adapters in the decoder alone, it keeps nothing.
    let frozen = |size| forward(BLIP2, Training { method: Some(Method::Freeze), ..Training::default() }, AttentionImplementation::Sdpa, size);
    assert_eq!(frozen((70, 70)), frozen((140, 140)));
    // Recomputed, a layer is its queries, and the tower's features are held once.
    let recomputed = |count| forward(&layers(count), Training { checkpointing: Some(Checkpointing::Full), ..full() }, AttentionImplementation::Sdpa, (70, 70));
    assert_eq!(recomputed(4) - recomputed(2), 2 * 8 * 64 * 4);
}

/// The same on `Idefics2Connector`, 8 latents of 64 values that read 26 tokens of 96: 178,504 bytes with one layer, 258,416 with two.
#[test]
fn a_resampler_keeps_what_its_latents_and_their_keys_need() {
    let of = |depth: u64, size| {
        forward(&IDEFICS2.replace("\"resampler_depth\": 4", &format!("\"resampler_depth\": {depth}")), full(), AttentionImplementation::Sdpa, size)
    };
    // Two by thirteen patches.
    let small = (28, 182);
    assert_eq!(of(2, small) - of(1, small), 258_416 - 178_504);
    let answer = read(IDEFICS2, full(), AttentionImplementation::Sdpa, small);
    assert!(!answer.warnings.iter().any(|warning| warning.contains("projector")), "{:?}", answer.warnings);
}

/// Hooks on resamplers of transformers 5.23 that have no layers of their own, float32, 8 queries of 96 values, 25 or 26 tokens of 96: `AriaProjector`
/// keeps 95,944 bytes, of which 57,800 are of the tower's tokens alone, a block of `IdeficsPerceiverResampler` 92,112. Here GELU is one operator
/// (three values of 64 less), and heads, which no weight tells, have 64 values, so that scores are those of 2 heads and not of 4.
#[test]
fn resamplers_without_layers_are_counted() {
    let aria = |queries: u64| {
        let config = format!(
            r#"{{"model_type": "aria", "architectures": ["AriaForConditionalGeneration"], "torch_dtype": "float32",
            "vision_config": {{"model_type": "idefics3_vision", "hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 1,
                "image_size": 70, "patch_size": 14}},
            "text_config": {{"model_type": "aria_text", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128,
                "num_hidden_layers": 1, "vocab_size": 100, "moe_num_experts": 4}},
            "projector_patch_to_query_dict": {{"25": {queries}}}}}"#
        );
        forward(&config, full(), AttentionImplementation::Sdpa, (70, 70))
    };
    assert_eq!(aria(16) - aria(8), 95_944 - 57_800 - 3 * 8 * 64 * 4 - 2 * 8 * 25 * 4);
    let idefics = |depth: u64, training| {
        let config = format!(
            r#"{{"model_type": "idefics", "architectures": ["IdeficsForVisionText2Text"], "torch_dtype": "float32", "vocab_size": 100, "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "use_resampler": true,
            "vision_config": {{"embed_dim": 96, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 70, "patch_size": 14}},
            "perceiver_config": {{"resampler_n_latents": 8, "resampler_depth": {depth}, "resampler_n_heads": 4, "resampler_head_dim": 24}}}}"#
        );
        forward(&config, training, AttentionImplementation::Sdpa, (70, 70))
    };
    assert_eq!(idefics(2, full()) - idefics(1, full()), 92_112 - 3 * 8 * 34 * 4 * 2 - 8 * 4 * 4);
    // Frozen, they keep nothing.
    let frozen = Training { method: Some(Method::Freeze), ..Training::default() };
    assert_eq!(idefics(2, frozen.clone()), idefics(1, frozen));
    let minicpm = r#"{"model_type": "minicpmv", "version": 2.6, "architectures": ["MiniCPMV"], "torch_dtype": "float32", "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "query_num": 8,
        "vision_config": {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 70, "patch_size": 14}}"#;
    let kosmos = r#"{"model_type": "kosmos-2", "architectures": ["Kosmos2ForConditionalGeneration"], "torch_dtype": "float32", "latent_query_num": 8,
        "text_config": {"embed_dim": 64, "layers": 1, "ffn_dim": 128, "attention_heads": 4, "vocab_size": 100},
        "vision_config": {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 70, "patch_size": 14}}"#;
    for config in [minicpm, kosmos] {
        let answer = read(config, full(), AttentionImplementation::Sdpa, (70, 70));
        assert!(!answer.warnings.iter().any(|warning| warning.contains("projector")), "{:?}", answer.warnings);
    }
}

/// Adapters inside a Q-Former: PEFT counts a matrix down and one up of each; queries and what they read are kept for them. Over tensor-parallel
/// ranks a part keeps no more than the whole. Sound is read in windows that are filled up.
#[test]
fn adapters_ranks_and_windows_of_q_formers() {
    let adapters = |names: &str| Training {
        method: Some(Method::Lora),
        lora_rank: Some(4),
        lora_targets: Some(names.parse().unwrap()),
        precision: Some(Precision::Fp32),
        seq_len: Some(64),
        ..Training::default()
    };
    let of = |names: &str, tensor| {
        let picture = Picture { size: Some((70, 70)), count: Some(1), frames: None };
        let scenario = Scenario { picture, tensor_parallel: Some(tensor), ..scenario(adapters(names)) };
        estimate(&model(BLIP2), &scenario).unwrap()
    };
    // Four self-attentions of 64, and in every second layer one that reads 96: queries and values.
    let inside = of("query,value", 1);
    assert_eq!(inside.trainable.unwrap().get(), 4 * 2 * 4 * 128 + 2 * 4 * (128 + 64 + 96));
    let kept = |answer: &vramfit::estimate::Estimate| held(&answer.devices[0], Term::Activations, Stage::Forward);
    // In the decoder alone nothing is kept before it, and gradients begin there.
    let outside = of("q_proj", 1);
    assert!(kept(&inside) > kept(&outside) + 8 * 64 * 4 * 4);
    assert!(kept(&of("query,value", 2)) <= kept(&inside));
    // One window of 50 pairs of frames more for one frame more.
    let sound = |seconds| {
        let training = Training { audio_seconds: Some(seconds), precision: Some(Precision::Fp32), seq_len: Some(200), ..full() };
        held(&answer(GRANITE_SPEECH, training).devices[0], Term::Activations, Stage::Forward)
    };
    assert!(sound(4) > sound(3) && sound(3) > sound(2));
}

/// Adapters in a tower that reads nothing: there is nothing to learn, and a backward pass has no gradient.
#[test]
fn adapters_where_nothing_is_read_are_said() {
    let targets = Some(Targets::Named(vec!["fc1".to_owned()]));
    let is_said = |count| {
        let training = Training { method: Some(Method::Lora), lora_targets: targets.clone(), seq_len: Some(512), ..Training::default() };
        let picture = Picture { count, ..Picture::default() };
        let answer = estimate(&model(LLAVA), &Scenario { picture, ..scenario(training) }).unwrap();
        answer.warnings.iter().any(|warning| warning.starts_with("adapters are in vision alone"))
    };
    assert!(is_said(None) && !is_said(Some(1)));
}
