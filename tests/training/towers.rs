//! Towers and projectors beside the decoder.

use crate::common::model;
use crate::{LLAVA, answer, full, held, scenario};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{AttentionImplementation, Checkpointing, Method, Parallel, Picture, Precision, Scenario, Training};

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
    assert_eq!(backward[0], tower + tokens * layer + working);
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
