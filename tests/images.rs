//! Networks of convolutions: what they keep of their feature maps, against saved-tensor hooks on torchvision's own networks.

mod common;

use common::model;
use vramfit::estimate::{Estimate, Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{AttentionImplementation, Checkpointing, Method, MixedRecipe, Picture, Precision, Runtime, Scenario, Task, Training};

const RESNET_50: &str = r#"{"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "depths": [3, 4, 6, 3], "embedding_size": 64,
    "hidden_act": "relu", "hidden_sizes": [256, 512, 1024, 2048], "layer_type": "bottleneck", "num_channels": 3, "num_labels": 1000, "torch_dtype": "float32"}"#;
const CONVNEXT_TINY: &str = r#"{"architectures": ["ConvNextForImageClassification"], "model_type": "convnext", "depths": [3, 3, 9, 3], "hidden_act": "gelu",
    "hidden_sizes": [96, 192, 384, 768], "image_size": 224, "layer_scale_init_value": 1e-06, "num_channels": 3, "num_labels": 1000, "patch_size": 4,
    "torch_dtype": "float32"}"#;

fn by_name(architecture: &str) -> String {
    format!(r#"{{"architecture": "{architecture}", "num_classes": 1000, "torch_dtype": "float32"}}"#)
}

fn trained(config: &str, size: Option<(u64, u64)>, training: Training) -> Estimate {
    attending(AttentionImplementation::Eager, config, size, training)
}

fn attending(attention: AttentionImplementation, config: &str, size: Option<(u64, u64)>, training: Training) -> Estimate {
    let scenario = Scenario {
        task: Task::Train,
        gpu: None,
        gpu_capacity: Some(Bytes(1 << 46)),
        picture: Picture { size, ..Picture::default() },
        attention,
        training,
        ..Scenario::default()
    };
    estimate(&model(config), &scenario).unwrap()
}

fn single(images: u64) -> Training {
    Training { precision: Some(Precision::Fp32), micro_batch: Some(images), ..Training::default() }
}

/// Activations at the end of the forward pass.
fn kept(answer: &Estimate) -> u64 {
    answer.devices[0].term_at(Term::Activations, Stage::Forward).unwrap().expected.get()
}

const GREY_RESNET: &str = r#"{"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "depths": [1, 1], "embedding_size": 16,
    "hidden_act": "relu", "hidden_sizes": [32, 64], "layer_type": "bottleneck", "num_channels": 1, "num_labels": 10, "torch_dtype": "float32"}"#;
const WAV2VEC2: &str = r#"{"architectures": ["Wav2Vec2Model"], "model_type": "wav2vec2", "hidden_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "intermediate_size": 128, "conv_dim": [32, 32, 32, 32, 32, 32, 32], "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "torch_dtype": "float32"}"#;

/// PEFT 0.21 on transformers 5.23: adapters of rank 4 on every convolution, the first of which reads one channel and is not depthwise.
#[test]
fn a_convolution_of_one_channel_mixes_it() {
    let with =
        |rank, name: &str, images| Training { method: Some(Method::Lora), lora_rank: Some(rank), lora_targets: Some(name.parse().unwrap()), ..single(images) };
    let grey = trained(GREY_RESNET, Some((64, 64)), with(4, "convolution", 2));
    assert_eq!((grey.trainable.unwrap().get(), kept(&grey)), (2564, 915_456));
    // Over positions there are groups, which a rank must divide over.
    assert_eq!(trained(WAV2VEC2, None, with(4, "conv", 1)).trainable.unwrap().get(), 7144);
    let scenario = Scenario { task: Task::Train, gpu: None, gpu_capacity: Some(Bytes(1 << 46)), training: with(6, "conv", 1), ..Scenario::default() };
    assert!(estimate(&model(WAV2VEC2), &scenario).unwrap_err().to_string().contains("4 groups"));
}

/// torchvision, float32, one image of 224 × 224: bytes that autograd saves.
#[test]
fn maps_are_what_autograd_saves() {
    for (config, saved) in [
        (by_name("resnet18.a1_in1k"), 22_179_840),
        (by_name("resnet50"), 85_909_504),
        (RESNET_50.to_owned(), 85_909_504),
        (by_name("resnet101"), 126_853_120),
        // torchvision draws one number for each of the 17 blocks that it may leave out in training.
        (CONVNEXT_TINY.to_owned(), 109_155_876 - 17 * 4),
        // A mask of two dropouts is one byte a value on a GPU, and four on the CPU, where this was measured.
        (by_name("vgg16"), 73_355_264 - 2 * 4096 * 3),
    ] {
        assert_eq!(kept(&trained(&config, None, single(1))), saved, "{config}");
    }
}

fn own(class: &str, model_type: &str, more: &str) -> String {
    format!(r#"{{"architectures": ["{class}ForImageClassification"], "model_type": "{model_type}", "num_labels": 1000, "torch_dtype": "float32"{more}}}"#)
}

/// Saved-tensor hooks on transformers 5.23's own classes, float32, one image of 224 × 224, without the statistics of batch norms, which
/// are of the batch. A mask of a dropout takes four bytes a value there and one on a GPU.
#[test]
fn maps_of_depthwise_networks_and_of_windows() {
    let efficient = r#", "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224"#;
    for (config, saved, off) in [
        (own("MobileNetV1", "mobilenet_v1", ""), 62_199_308 - 3 * 1024, 0),
        (own("MobileNetV2", "mobilenet_v2", ""), 79_858_124 - 3 * 1280, 0),
        (own("MobileNetV2", "mobilenet_v2", r#", "depth_multiplier": 0.5, "output_stride": 16"#), 51_810_252 - 3 * 1280, 0),
        (own("MobileNetV2", "mobilenet_v2", r#", "tf_padding": false"#), 78_209_536 - 3 * 1280, 0),
        // What the small activation of squeeze and excitation reads is left out: 380 values.
        (own("EfficientNet", "efficientnet", &format!(r#"{efficient}, "drop_connect_rate": 0.0, "dropout_rate": 0.0"#)), 89_034_988, 4 * 380),
        (own("EfficientNet", "efficientnet", efficient), 89_880_556 - 3 * 211_392, 4 * 380),
        (own("Swin", "swin", r#", "drop_path_rate": 0.0"#), 106_634_128, 0),
        // Without its tables of relative positions and scales of heads, which do not grow with images.
        (own("Swinv2", "swinv2", r#", "drop_path_rate": 0.0"#), 131_973_664 - 12 * 169 * 512 * 4 - 138 * (49 * 49 + 1) * 4, 0),
    ] {
        assert_eq!(kept(&trained(&config, None, single(1))) + off, saved, "{config}");
    }
}

/// The memory-efficient kernel with a mask, as its meta kernel of torch 2.15 saves it: queries, keys, values, result, a float32 sum for
/// each query (64 for 49), and the mask of windows that are moved, in rows of 56 for 49, in the place of the softmax.
#[test]
fn windows_in_the_memory_efficient_kernel() {
    let config = own("Swin", "swin", r#", "drop_path_rate": 0.0"#);
    let of = |attention| kept(&attending(attention, &config, None, single(1)));
    let (mut softmax, mut kernel) = (0, 0);
    for (layers, windows, heads) in [(2, 64, 3), (2, 16, 6), (6, 4, 12), (2, 1, 24)] {
        softmax += layers * windows * heads * 49 * 49 * 4;
        kernel += layers * windows * heads * 64 * 4;
        // The last stage is one window, which is not moved.
        kernel += if windows > 1 { layers / 2 * windows * heads * 49 * 56 * 4 } else { 0 };
    }
    assert_eq!(of(AttentionImplementation::Eager) - softmax + kernel, of(AttentionImplementation::Sdpa));
}

/// transformers 5.23 `SwinStage`: inputs of four stages, and what is before and behind them. In the backward pass the first stage's second
/// layer has its input kept beside the first at work; Swin 2 computes all layers of a stage again.
#[test]
fn windows_are_computed_again_by_stages() {
    let swin = own("Swin", "swin", r#", "drop_path_rate": 0.0"#);
    let swin2 = own("Swinv2", "swinv2", r#", "drop_path_rate": 0.0"#);
    let again = |config: &str| trained(config, None, Training { checkpointing: Some(Checkpointing::Full), grad_accum: Some(2), ..single(1) });
    let at = |answer: &Estimate, stage| answer.devices[0].term_at(Term::Activations, stage).unwrap().expected.get();
    assert_eq!([&swin, &swin2].map(|config| kept(&again(config))), [4_243_336; 2]);
    let [one, two] = [&swin, &swin2].map(|config| at(&again(config), Stage::Backward));
    assert!(one < two && two < kept(&trained(&swin2, None, single(1))), "{one} {two}");
}

fn with_adapters(config: &str, rank: u64, targets: &str) -> (u64, u64) {
    let targets = Some(targets.parse().unwrap());
    let answer = trained(config, None, Training { method: Some(Method::Lora), lora_rank: Some(rank), lora_targets: targets, ..single(1) });
    (answer.trainable.unwrap().get(), kept(&answer))
}

/// PEFT 0.21.2 on transformers 5.23, rank 4, float32, one image of 224 x 224: trained values, and bytes that saved-tensor hooks see, without
/// the statistics of batch norms. What the small activation of squeeze and excitation reads is left out.
#[test]
fn adapters_on_networks_of_maps() {
    let efficient = own(
        "EfficientNet",
        "efficientnet",
        r#", "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224, "drop_connect_rate": 0.0, "dropout_rate": 0.0"#,
    );
    for (config, targets, (trained, saved), off) in [
        (RESNET_50, "convolution", (317_772, 86_883_664), 0),
        (RESNET_50, "all-linear", (12_192, 8208), 0),
        (CONVNEXT_TINY, "pwconv1,pwconv2", (264_960, 96_745_152), 0),
        (CONVNEXT_TINY, "all-linear", (272_032, 96_748_240), 0),
        (&efficient, "all-linear", (9120, 5136), 0),
        (&efficient, "expand_conv,project_conv", (84_736, 79_485_232), 4 * 372),
        (&efficient, "reduce,expand", (74_720, 80_394_720), 4 * 380),
    ] {
        let (count, kept) = with_adapters(config, 4, targets);
        assert_eq!((count, kept + off), (trained, saved), "{targets}");
    }
    let magnitudes = Training { method: Some(Method::Dora), lora_rank: Some(4), lora_targets: Some("convolution".parse().unwrap()), ..single(1) };
    assert_eq!(trained(RESNET_50, None, magnitudes).trainable.unwrap().get(), 344_332);
    assert_eq!(with_adapters(&own("Swin", "swin", r#", "drop_path_rate": 0.0"#), 4, "all-linear").0, 341_152);
    let vit = r#", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 224, "patch_size": 16"#;
    let vit = own("ViT", "vit", vit);
    assert_eq!((with_adapters(&vit, 4, "all-linear").0, with_adapters(&vit, 4, "projection").0), (670_624, 6144));
    // Depthwise: PEFT asks for a rank that the groups divide.
    let depthwise = Training { method: Some(Method::Lora), lora_rank: Some(4), lora_targets: Some("dwconv".parse().unwrap()), ..single(1) };
    let scenario = Scenario { task: Task::Train, training: depthwise, ..Scenario::default() };
    assert!(estimate(&model(CONVNEXT_TINY), &scenario).unwrap_err().to_string().contains("groups"));
}

/// Counts of torchvision's networks.
#[test]
fn networks_are_counted_by_their_names() {
    for (architecture, parameters) in [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("vgg16", 138_357_544),
        ("vgg11_bn", 132_868_840),
        ("densenet121", 7_978_856),
        ("densenet201", 20_013_928),
    ] {
        assert_eq!(model(&by_name(architecture)).anatomy.parameters().unwrap().get(), parameters, "{architecture}");
    }
    assert!(vramfit::config::read(&by_name("no_such_net")).unwrap_err().to_string().contains("VGG, ResNet and DenseNet"));
    let by_hand = r#"{"model_type": "vgg", "depths": [2, 2, 3, 3, 3], "hidden_sizes": [64, 128, 256, 512, 512]}"#;
    assert_eq!(model(by_hand).anatomy.parameters(), model(&by_name("vgg16")).anatomy.parameters());
    let by_hand = r#"{"model_type": "densenet", "depths": [6, 12, 24, 16], "growth_rate": 32}"#;
    assert_eq!(model(by_hand).anatomy.parameters(), model(&by_name("densenet121")).anatomy.parameters());
}

#[test]
fn maps_grow_with_the_batch_and_with_both_sides() {
    let of = |size, images| kept(&trained(RESNET_50, size, single(images)));
    assert_eq!(of(None, 7), 7 * of(None, 1));
    // The means and the classifier's input do not grow.
    let head = 2048 * 4;
    assert_eq!(of(Some((448, 448)), 1) - head, 4 * (of(None, 1) - head));
    assert_eq!(of(Some((448, 224)), 1) - head, 2 * (of(None, 1) - head));
    assert_eq!(of(Some((300, 200)), 1), of(Some((200, 300)), 1));
    assert!(of(Some((225, 225)), 1) > of(None, 1));
}

#[test]
fn halves_and_checkpoints_keep_less() {
    let of = |training: Training| kept(&trained(RESNET_50, None, Training { method: Some(Method::Full), ..training }));
    let (single, half) = (of(single(1)), of(Training { precision: Some(Precision::Bf16), ..Training::default() }));
    // What a maximum came from is an index of eight bytes in any precision.
    let indices = 64 * 56 * 56 * 8;
    assert_eq!(half - indices, (single - indices) / 2);
    let mixed = Training { precision: Some(Precision::Bf16Mixed), mixed_recipe: Some(MixedRecipe::Autocast), ..Training::default() };
    let casts = (25_557_032 - 2 * 26_560 - 1000) * 2; // matrices and convolutions, without norms and the classifier's bias
    assert_eq!(of(mixed) - casts, half);
    let checkpoints = |how| of(Training { checkpointing: Some(how), precision: Some(Precision::Fp32), ..Training::default() });
    assert!(checkpoints(Checkpointing::Full) < checkpoints(Checkpointing::Every(2)) && checkpoints(Checkpointing::Every(2)) < single);
}

#[test]
fn reading_images_holds_the_widest_maps() {
    let of = |size, images| {
        let scenario = Scenario { runtime: Runtime::Transformers, batch: Some(images), picture: Picture { size, ..Picture::default() }, ..Scenario::default() };
        estimate(&model(RESNET_50), &scenario).unwrap().devices[0].term_at(Term::Activations, Stage::Prefill).unwrap().expected.get()
    };
    // The first block: what it made waits while the shortcut's convolution is normed, three maps of 256 channels.
    assert_eq!(of(None, 1), 3 * 256 * 56 * 56 * 4);
    assert_eq!(of(None, 8), 8 * of(None, 1));
    assert_eq!(of(Some((448, 448)), 1), 4 * of(None, 1));
}
