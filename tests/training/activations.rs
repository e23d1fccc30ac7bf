//! What passes keep.

use crate::common::{fixture, model};
use crate::{LLAMA_8B, QWEN3_30B_A3B, answer, full, held, lora, mixed, peak, scenario};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::scenario::{AdapterDtype, AttentionImplementation, Checkpointing, Kernels, Loss, MixedRecipe, Precision, Scenario, Sharding, Targets, Training};

/// Saved-tensor hooks on transformers 5.23 and torch 2.15: bytes of one token in one layer.
#[test]
fn what_a_layer_keeps_is_what_its_operators_keep() {
    let of = |config: &str, training: Training, attention| {
        let answer = |layers: u64| {
            let config = config.replace("\"num_hidden_layers\": 32", &format!("\"num_hidden_layers\": {layers}"));
            let scenario = Scenario { attention, ..scenario(Training { seq_len: Some(2048), ..training.clone() }) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        (answer(4) - answer(3)) / 2048
    };
    let (d, kv, ff, h, s) = (4096, 1024, 14_336, 32, 2048);
    let sdpa = AttentionImplementation::Sdpa;
    assert_eq!(of(LLAMA_8B, full(), sdpa), 200_840);
    assert_eq!(of(LLAMA_8B, full(), sdpa), 16 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8);
    assert_eq!(of(LLAMA_8B, full(), AttentionImplementation::Eager), 16 * d + 8 * d + 8 * ff + 6 * h * s + 8);
    let autocast = Training { precision: Some(Precision::Bf16Mixed), ..full() };
    let cast = 218_103_808 * 2 / 2048; // the layer's matrices, cast
    assert_eq!(of(LLAMA_8B, autocast, sdpa) - cast, 26 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8);
    let single = Training { precision: Some(Precision::Fp32), ..full() };
    assert_eq!(of(LLAMA_8B, single, sdpa), 24 * d + 8 * d + 8 * kv + 16 * ff + 4 * h + 8);
    let low = |targets| Training { adapter_dtype: Some(AdapterDtype::Model), ..lora(16, targets) };
    let query_value = || Targets::Named(vec!["q_proj".into(), "v_proj".into()]);
    assert_eq!(of(LLAMA_8B, low(query_value()), sdpa), 10 * d + 4 * d + 4 * kv + 6 * ff + 4 * h + 8 + 4 * 16);
    assert_eq!(of(LLAMA_8B, low(Targets::AllLinear), sdpa), 12 * d + 4 * d + 4 * kv + 8 * ff + 4 * h + 8 + 14 * 16);
    assert_eq!(of(LLAMA_8B, lora(16, Targets::AllLinear), sdpa), 28 * d + 8 * d + 4 * kv + 10 * ff + 4 * h + 8 + 28 * 16);
    // GPT-2's `NewGELUActivation` keeps three tensors more than PyTorch's own operator: 3 × 2 B × 3,072 in 12 layers.
    let config = fixture::GPT2.replace('{', r#"{"activation_function": "gelu_new", "#);
    let gpt2 = |kernels| {
        let training = Training { kernels: Some(kernels), seq_len: Some(1024), ..Training::default() };
        held(&answer(&config, training).devices[0], Term::Activations, Stage::Forward) / 1024
    };
    assert_eq!(gpt2(Kernels::Transformers) - gpt2(Kernels::Standard), 12 * 3 * 2 * 3072);
    let fused = Training { kernels: Some(Kernels::Fused), ..full() };
    assert!(of(LLAMA_8B, fused, sdpa).abs_diff(139_392) < 1400);
}

/// Korthikanti et al. (arXiv 2205.05198): a checkpointed layer keeps 2 s b h; attention's scores are 5 a s / h of 34 + 5 a s / h.
#[test]
fn checkpointing_keeps_inputs_of_layers() {
    let at = |checkpointing, stage| held(&answer(LLAMA_8B, Training { checkpointing: Some(checkpointing), ..full() }).devices[0], Term::Activations, stage);
    let outside = at(Checkpointing::Full, Stage::Forward) - 32 * 2048 * 4096 * 2;
    assert_eq!(outside, 2048 * (8 * 4096 + 4), "the last norm");
    assert_eq!(at(Checkpointing::Uniform(4), Stage::Forward) - outside, 8 * 2048 * 4096 * 2);
    // With gradients there from the pass before, the backward pass is fullest at its start: one layer is computed again.
    let again = Training { checkpointing: Some(Checkpointing::Full), grad_accum: Some(2), ..full() };
    let device = &answer(LLAMA_8B, again).devices[0];
    assert!(held(device, Term::Activations, Stage::Backward) > held(device, Term::Activations, Stage::Forward) + 2048 * 200_840);
    let order = [Checkpointing::Full, Checkpointing::Selective, Checkpointing::Every(2), Checkpointing::None].map(|how| at(how, Stage::Forward));
    assert!(order.is_sorted(), "{order:?}");
}

/// A layer of GPT-3 175B with dropouts, as Megatron-LM and transformers' GPT-2 have it: feed-forwards of four times the hidden size.
const GPT3_LAYER: &str = r#"{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu", "attn_pdrop": 0.1, "embd_pdrop": 0.1,
    "resid_pdrop": 0.1, "n_ctx": 2048, "n_positions": 2048, "n_embd": 12288, "n_head": 96, "n_layer": 32, "torch_dtype": "float16", "vocab_size": 51200}"#;

/// Korthikanti et al. (arXiv 2205.05198), table 2: bytes that one layer keeps of s b tokens, with t tensor-parallel ranks. Here the
/// statistics of two norms (8 bytes each) come on top, and of flash attention one float32 of each head.
#[test]
fn the_table_of_selective_recomputation() {
    let (h, a, s) = (12_288u64, 96u64, 2048u64);
    let of = |attention, tensor, sequence_parallel, checkpointing| {
        let forward = |layers: u64| {
            let config = GPT3_LAYER.replace("\"n_layer\": 32", &format!("\"n_layer\": {layers}"));
            let training = Training { precision: Some(Precision::Fp16), seq_len: Some(s), sequence_parallel, checkpointing, ..full() };
            let scenario = Scenario { attention, tensor_parallel: Some(tensor), ..scenario(training) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        (forward(4) - forward(3)) / s
    };
    let (eager, flash) = (AttentionImplementation::Eager, AttentionImplementation::Flash);
    let norms = 2 * 8;
    // Everything: s b h (34 + 5 a s / h).
    assert_eq!(of(eager, 1, false, None), 34 * h + 5 * a * s + norms);
    assert_eq!(34 * h + 5 * a * s, 114 * h, "GPT-3: 80 of 114 are attention's scores");
    // Tensor parallel: s b h (10 + 24 / t + 5 a s / (h t)).
    assert_eq!(of(eager, 8, false, None), 10 * h + (24 * h + 5 * a * s) / 8 + norms);
    // With sequence parallel: s b h / t (34 + 5 a s / h).
    assert_eq!(of(eager, 8, true, None), (34 * h + 5 * a * s) / 8 + norms);
    // Selective recomputation, which is what flash attention does: 34 s b h, and over the ranks.
    assert_eq!(of(flash, 1, false, None), 34 * h + 4 * a + norms);
    assert_eq!(of(flash, 8, false, None), 10 * h + (24 * h + 4 * a) / 8 + norms);
    assert_eq!(of(flash, 8, true, None), (34 * h + 4 * a) / 8 + norms);
    // Full recomputation: 2 s b h.
    assert_eq!(of(eager, 1, false, Some(Checkpointing::Full)), 2 * h);
}

/// Whatever is trained, and however: recomputing never makes the passes hold more.
#[test]
fn checkpointing_never_adds_to_activations() {
    let most = |config: &str, training: &Training, checkpointing| {
        let training = Training { checkpointing: Some(checkpointing), ..training.clone() };
        let device = &answer(config, training).devices[0];
        [Stage::Forward, Stage::Loss, Stage::Backward].iter().map(|stage| held(device, Term::Activations, *stage)).max().unwrap()
    };
    let accumulating = Training { grad_accum: Some(4), ..full() };
    for config in [LLAMA_8B, QWEN3_30B_A3B, GPT3_LAYER, fixture::GEMMA2_9B] {
        for training in [full(), accumulating.clone(), mixed(MixedRecipe::Autocast, Sharding::None), lora(16, Targets::AllLinear)] {
            let none = most(config, &training, Checkpointing::None);
            for how in [Checkpointing::Selective, Checkpointing::Full, Checkpointing::Every(2)] {
                assert!(most(config, &training, how) <= none, "{how:?} of {training:?}: {} > {none}", most(config, &training, how));
            }
        }
    }
}

#[test]
fn logits_and_loss() {
    let at = |loss, stage| held(&answer(LLAMA_8B, Training { loss: Some(loss), ..full() }).devices[0], Term::Logits, stage);
    // 12 bytes of each of 2,048 × 128,256 logits: 2.94 GiB.
    assert_eq!(at(Loss::Standard, Stage::Loss), 12 * 2048 * 128_256);
    assert_eq!(at(Loss::Standard, Stage::Forward), 10 * 2048 * 128_256);
    assert!(at(Loss::Chunked, Stage::Loss) < at(Loss::Standard, Stage::Loss) / 2);
    // Liger: gradients of the hidden states and of the head, and 64 tokens' logits at a time.
    assert_eq!(at(Loss::Fused, Stage::Loss), 2048 * 4096 * 2 + 128_256 * 4096 * 2);
    assert_eq!(at(Loss::Fused, Stage::Forward) - at(Loss::Fused, Stage::Loss), 64 * 128_256 * 6);
}

#[test]
fn longer_and_larger_takes_more() {
    for checkpointing in [Checkpointing::None, Checkpointing::Selective, Checkpointing::Full] {
        let of = |seq_len, micro_batch| {
            peak(&answer(LLAMA_8B, Training { seq_len: Some(seq_len), micro_batch: Some(micro_batch), checkpointing: Some(checkpointing), ..full() }))
        };
        assert!(of(512, 1) < of(1024, 1) && of(1024, 1) < of(4096, 1) && of(4096, 1) < of(4096, 2));
        // The same tokens in fewer, longer sequences are the same but for eager attention.
        assert_eq!(of(4096, 1), of(1024, 4));
    }
    let none = peak(&answer(LLAMA_8B, full()));
    for checkpointing in [Checkpointing::Selective, Checkpointing::Full, Checkpointing::Every(2), Checkpointing::Uniform(4)] {
        assert!(peak(&answer(LLAMA_8B, Training { checkpointing: Some(checkpointing), ..full() })) <= none);
    }
}

/// Saved-tensor hooks on `HrmTextForCausalLM` of transformers 5.23, float32, 64 tokens, two layers a stack: 740,608 bytes for each pass
/// through a stack with a gradient (two cycles of three inner passes with `[2]`: 1 + 2 of them, and the two outer ones), of which the
/// stack's last norm is 16,640.
#[test]
fn passes_through_the_same_weights_keep_the_same_again() {
    let of = |cycles: u64, inner: u64, with_gradient: &str| {
        let config = format!(
            r#"{{"model_type": "hrm_text", "architectures": ["HrmTextForCausalLM"], "torch_dtype": "float32", "vocab_size": 100, "hidden_size": 64,
                "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "hidden_act": "silu",
                "num_hidden_layers": 2, "num_layers_per_stack": 2, "H_cycles": {cycles}, "L_cycles": {inner}, "L_bp_cycles": {with_gradient},
                "max_position_embeddings": 512, "prefix_lm": false}}"#
        );
        let training = Training { precision: Some(Precision::Fp32), seq_len: Some(64), ..full() };
        held(&answer(&config, training).devices[0], Term::Activations, Stage::Forward)
    };
    let pass = 740_608 - 16_640;
    let least = of(1, 1, "[1]");
    assert_eq!(least, of(1, 3, "[1]"));
    for (cycles, inner, with_gradient, passes) in [(1, 3, "[2]", 3), (2, 3, "[2]", 5), (2, 3, "[3]", 6), (2, 3, "[1, 3]", 6)] {
        assert_eq!(of(cycles, inner, with_gradient) - least, (passes - 2) * pass, "{cycles} {inner} {with_gradient}");
    }
}

/// Saved-tensor hooks on transformers 5.23's own classes and torch 2.15, bfloat16, a sequence of 256 tokens: bytes that one layer more
/// keeps of a token. They ran on a CPU, so that kernels of a GPU had stand-ins with the tensors that those save: in all rows with SDPA (all
/// but `gpt_oss`) the layouts of its results, in the `qwen3_5` and `qwen3_next` rows with a plus the delta rule of fla 0.6
/// (`ChunkGatedDeltaRuleFunction`), its convolution and its gated norm.
/// What is not followed is small: masks and indices of groups of experts, the second statistic of Gemma 4's norms. Llama 4's further 2.6 %
/// are norms without weights on its query and key heads.
#[test]
fn families_keep_what_hooks_see() {
    const SHAPE: &str = r#""vocab_size": 128, "hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 512, "torch_dtype": "bfloat16""#;
    const GROUPED: &str = r#""num_key_value_heads": 2, "intermediate_size": 320"#;
    const ROUTED: &str = r#""hidden_act": "silu", "moe_intermediate_size": 96, "num_experts_per_tok": 2, "n_routed_experts": 8, "n_shared_experts": 1"#;
    const LATENT: &str = r#""num_key_value_heads": 4, "intermediate_size": 320, "q_lora_rank": 48, "kv_lora_rank": 32, "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 32, "v_head_dim": 48, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1"#;
    const GEMMA: &str = r#""hidden_act": "gelu_pytorch_tanh", "head_dim": 32, "global_head_dim": 64, "enable_moe_block": true, "num_experts": 8,
        "top_k_experts": 2, "moe_intermediate_size": 96, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 128, "num_kv_shared_layers": 0"#;
    const DELTA: &str = r#""hidden_act": "silu", "head_dim": 32, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4"#;
    const SHARED: &str = r#""num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "shared_expert_intermediate_size": 96"#;
    // Family (with a plus where the layer more is no layer of full attention), keys, bytes that hooks see, and how many in a thousand of them may be missed.
    let seen: [(&str, String, u64, u64); 22] = [
        ("deepseek_v3", format!("{LATENT}, {ROUTED}"), 8916, 10),
        (
            "glm4_moe",
            format!(r#"{GROUPED}, {ROUTED}, "head_dim": 32, "first_k_dense_replace": 1, "use_qk_norm": true, "partial_rotary_factor": 0.5"#),
            8276,
            10,
        ),
        ("solar_open", format!(r#"{GROUPED}, {ROUTED}, "head_dim": 32, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0"#), 6844, 10),
        ("hunyuan_v1_moe", format!(r#"{GROUPED}, "hidden_act": "silu", "head_dim": 32, "num_experts": 8, "moe_topk": 2"#), 13_348, 2),
        (
            "phimoe",
            format!(
                r#"{GROUPED}, "hidden_act": "silu", "num_local_experts": 8, "num_experts_per_tok": 2, "lm_head_bias": true, "attention_bias": true,
                "input_jitter_noise": 0.01, "router_jitter_noise": 0.01"#
            ),
            8608,
            3,
        ),
        (
            "llama4_text",
            format!(
                r#"{GROUPED}, "hidden_act": "silu", "head_dim": 32, "intermediate_size_mlp": 320, "num_local_experts": 8, "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 1, "use_qk_norm": true"#
            ),
            30_824,
            27,
        ),
        ("gemma4_text", format!("{GROUPED}, {GEMMA}"), 19_232, 10),
        // Masks of spans shorter than the sequence, which keep keys and values from being shared by queries.
        ("gemma4_text+", format!(r#"{GROUPED}, {GEMMA}, "sliding_window": 64"#), 17_439, 10),
        ("gemma3_text+", format!(r#"{GROUPED}, "head_dim": 32, "sliding_window": 64, "hidden_activation": "gelu_pytorch_tanh""#), 10_305, 3),
        ("deepseek_v32", format!(r#"{LATENT}, {ROUTED}, "index_n_heads": 4, "index_head_dim": 32, "index_topk": 64"#), 9044, 10),
        ("qwen3_5_text+", format!("{GROUPED}, {DELTA}"), 7524, 10),
        ("qwen3_5_text", format!(r#"{GROUPED}, {DELTA}, "partial_rotary_factor": 0.25"#), 8277, 10),
        ("qwen3_5_moe_text+", format!(r#""num_key_value_heads": 2, {DELTA}, {SHARED}"#), 8662, 10),
        ("qwen3_next+", format!(r#"{GROUPED}, {DELTA}, {SHARED}, "decoder_sparse_step": 1, "mlp_only_layers": []"#), 8662, 10),
        ("starcoder2", format!(r#"{GROUPED}, "hidden_act": "gelu_pytorch_tanh""#), 3104, 0),
        ("apertus", format!(r#"{GROUPED}, "hidden_act": "xielu""#), 7536, 0),
        ("phi3", format!(r#"{GROUPED}, "hidden_act": "silu""#), 6040, 0),
        (
            "minimax_m2",
            format!(r#"{GROUPED}, "hidden_act": "silu", "head_dim": 32, "rotary_dim": 16, "num_local_experts": 8, "num_experts_per_tok": 2"#),
            10_516,
            1,
        ),
        // Written out, its softmax in 16 bits; the sink's score is not followed.
        (
            "gpt_oss",
            r#""num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 32, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 64"#
                .to_owned(),
            9480,
            2,
        ),
        // Masked in every layer, values copied out of the product.
        ("falcon", r#""multi_query": true, "new_decoder_architecture": false, "alibi": false, "bias": false"#.to_owned(), 3732, 2),
        ("falcon", r#""multi_query": true, "new_decoder_architecture": true, "num_kv_heads": 2, "alibi": false, "bias": false"#.to_owned(), 4376, 2),
        ("gpt_neox", r#""hidden_act": "gelu", "intermediate_size": 512, "rotary_pct": 0.25"#.to_owned(), 4632, 2),
    ];
    for (family, keys, hooks, permille) in seen {
        let at = |layers: usize| {
            let other = if family.starts_with("qwen") { "linear_attention" } else { "sliding_attention" };
            let kinds = if family.ends_with('+') { [["full_attention"; 1].as_slice(), &[other; 6]] } else { [&[other; 5], ["full_attention"; 2].as_slice()] };
            let kinds = kinds.concat();
            let has_kinds = family.ends_with('+') || family.starts_with("gemma4") || family.starts_with("qwen");
            let kinds = if has_kinds { format!(", \"layer_types\": {:?}", &kinds[..layers]) } else { String::new() };
            let family = family.trim_end_matches('+');
            let config = format!(r#"{{"model_type": "{family}", {SHAPE}, {keys}, "num_hidden_layers": {layers}{kinds}}}"#);
            let training = Training { precision: Some(Precision::Bf16), seq_len: Some(256), ..full() };
            let scenario = Scenario { attention: AttentionImplementation::Sdpa, ..scenario(training) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        let kept = (at(7) - at(6)) / 256;
        assert!(kept.abs_diff(hooks) * 1000 <= hooks * permille, "{family}: {kept} of {hooks}");
    }
}

/// The same hooks with attention written out and 512 tokens less 256: bytes of each score, whose softmax is in 16 bits. Dropout keeps a byte of
/// each, and what it leaves is kept for the product with the values.
#[test]
fn softmax_is_in_the_type_of_its_scores() {
    const SHAPE: &str = r#""vocab_size": 128, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 320, "max_position_embeddings": 1024"#;
    const DROPOUTS: &str = r#""hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu""#;
    const FLASH: &str = r#""num_key_value_heads": 2, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "head_dim": 32, "v_head_dim": 32,
        "swa_head_dim": 32, "swa_v_head_dim": 32, "moe_intermediate_size": 64, "n_routed_experts": 4, "num_experts_per_tok": 2, "attention_dropout": 0.0,
        "sliding_window": 4096, "torch_dtype": "bfloat16""#;
    // TrOCR's decoder behind a vision tower goes by its own type; it attends twice.
    let trocr = format!(
        r#""model_type": "vision-encoder-decoder", "encoder": {{"model_type": "vit", {SHAPE}, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16}},
        "decoder": {{"model_type": "trocr", "vocab_size": 128, "d_model": 128, "decoder_attention_heads": 4, "decoder_ffn_dim": 320, "decoder_layers": LAYERS,
        "attention_dropout": 0.0, "dropout": 0.0, "activation_dropout": 0.0, "max_position_embeddings": 1024, "cross_attention_hidden_size": 128}}"#
    );
    let seen = [
        (format!(r#""model_type": "megatron-bert", {SHAPE}, {DROPOUTS}, "num_hidden_layers": LAYERS"#), 5),
        (
            format!(
                r#""model_type": "mimo_v2_flash", {SHAPE}, {FLASH}, "num_hidden_layers": LAYERS, "layer_types": [KINDS], "mlp_layer_types": [DENSE],
                "hybrid_layer_pattern": [ZEROS], "moe_layer_freq": [ZEROS]"#
            ),
            2,
        ),
        (trocr, 4),
    ];
    for (keys, bytes) in seen {
        let at = |layers: usize, tokens: u64| {
            let list = |item: &str| vec![item; layers].join(", ");
            let keys = keys.replace("LAYERS", &layers.to_string()).replace("ZEROS", &list("0"));
            let keys = keys.replace("KINDS", &list("\"full_attention\"")).replace("DENSE", &list("\"dense\""));
            let training = Training { precision: Some(Precision::Bf16), seq_len: Some(tokens), kernels: Some(Kernels::Transformers), ..full() };
            let scenario = Scenario { attention: AttentionImplementation::Eager, ..scenario(training) };
            held(&estimate(&model(&format!("{{{keys}}}")), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        let of_token = |tokens| (at(3, tokens) - at(2, tokens)) / tokens;
        assert_eq!((of_token(512) - of_token(256)) / (4 * 256), bytes, "{keys}");
    }
}

/// The same hooks on a layer of `DeBERTa` V3 base, 512 tokens: 97,032 bytes of a token. What is not followed is said, and the band reaches them.
#[test]
fn scores_by_distance_are_said_and_in_the_band() {
    let at = |layers: u64, relative: bool| {
        let config = format!(
            r#"{{"model_type": "deberta-v2", "vocab_size": 128, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": {layers},
            "max_position_embeddings": 512, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "relative_attention": {relative}, "type_vocab_size": 0,
            "pos_att_type": ["p2c", "c2p"], "share_att_key": true, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "torch_dtype": "bfloat16"}}"#
        );
        let training = Training { precision: Some(Precision::Bf16), seq_len: Some(512), kernels: Some(Kernels::Transformers), ..full() };
        estimate(&model(&config), &scenario(training)).unwrap()
    };
    let is_told = |relative| at(2, relative).assumptions.iter().any(|text| text.contains("c2p"));
    assert!(is_told(true) && !is_told(false));
    let most = |layers| {
        let answer = at(layers, true);
        let kept = answer.devices[0].entries.iter();
        kept.filter(|entry| entry.term == Term::Activations && entry.stages.contains(&Stage::Forward)).map(|entry| entry.amount.high.get()).sum::<u64>()
    };
    assert!((most(3) - most(2)) / 512 > 97_032);
}

/// The same of T5 and UMT5, encoder and decoder, with dropouts (a stand-in keeps one byte for each value, as kernels of a GPU do): values by distance are one for all sequences of a pass.
#[test]
fn values_by_distance_are_kept_once_for_all_sequences() {
    let of = |family: &str, feed_forward: &str, rows: u64| {
        let at = |layers: u64| {
            let config = format!(
                r#"{{"model_type": "{family}", "vocab_size": 128, "d_model": 128, "d_kv": 32, "d_ff": 320, "num_heads": 4, "num_layers": {layers},
                "num_decoder_layers": {layers}, "dropout_rate": 0.1, "feed_forward_proj": "{feed_forward}", "torch_dtype": "bfloat16"}}"#
            );
            let training =
                Training { precision: Some(Precision::Bf16), seq_len: Some(256), micro_batch: Some(rows), kernels: Some(Kernels::Transformers), ..full() };
            let scenario = Scenario { attention: AttentionImplementation::Sdpa, ..scenario(training) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        (at(7) - at(6)) / 256 / rows
    };
    let (t5, twice) = (of("t5", "relu", 1), of("t5", "relu", 2));
    assert_eq!((t5, twice), (17_732, 15_556));
    // A score of each head in 16 bits, in encoder and decoder, and which keys a token of the decoder sees.
    assert_eq!(t5 - twice, 4 * 256 * 2 + 256 / 2);
    assert_eq!((of("umt5", "gated-gelu", 1), of("umt5", "gated-gelu", 2)), (30_276, 25_028));
}

/// The same hooks with attention written out and dropouts: what one layer more (of T5 and BART in encoder and decoder) keeps of a token.
#[test]
fn attention_that_is_written_out_keeps_what_hooks_see() {
    const SHAPE: &str = r#""vocab_size": 128, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 320, "max_position_embeddings": 512"#;
    const DROPOUTS: &str = r#""hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1"#;
    let t5 = |family: &str, activation: &str| {
        format!(
            r#""model_type": "{family}", "vocab_size": 128, "d_model": 128, "d_kv": 32, "d_ff": 320, "num_heads": 4, "num_layers": LAYERS,
            "num_decoder_layers": LAYERS, "dropout_rate": 0.1, "feed_forward_proj": "{activation}""#
        )
    };
    let bart = r#""model_type": "bart", "vocab_size": 128, "d_model": 128, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "num_hidden_layers": LAYERS,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 320, "decoder_ffn_dim": 320, "max_position_embeddings": 512,
        "dropout": 0.1, "attention_dropout": 0.1, "activation_function": "gelu""#;
    let gpt2 = r#""model_type": "gpt2", "vocab_size": 128, "n_embd": 128, "n_head": 4, "n_layer": LAYERS, "n_positions": 512, "attn_pdrop": 0.1,
        "resid_pdrop": 0.1, "embd_pdrop": 0.1, "activation_function": "gelu_new""#;
    // Albert's layers are one, whose weights every pass reads.
    let albert = format!(r#""model_type": "albert", {SHAPE}, "embedding_size": 64, "num_hidden_layers": LAYERS, "hidden_act": "gelu_new""#);
    let squeezebert = format!(
        r#""model_type": "squeezebert", {SHAPE}, {DROPOUTS}, "embedding_size": 128, "num_hidden_layers": LAYERS, "hidden_act": "gelu", "type_vocab_size": 2"#
    );
    let seen = [
        (t5("t5", "relu"), AttentionImplementation::Eager, 28_692, 0),
        (t5("umt5", "gated-gelu"), AttentionImplementation::Eager, 39_188, 0),
        (format!(r#""model_type": "bert", {SHAPE}, {DROPOUTS}, "num_hidden_layers": LAYERS, "hidden_act": "gelu""#), AttentionImplementation::Eager, 8712, 1),
        (albert.clone(), AttentionImplementation::Eager, 7304, 2),
        (albert, AttentionImplementation::Sdpa, 5272, 2),
        (bart.to_owned(), AttentionImplementation::Eager, 24_212, 1),
        (gpt2.to_owned(), AttentionImplementation::Eager, 12_552, 1),
        // Convolutions of width 1 for matrices.
        (squeezebert, AttentionImplementation::Eager, 8712, 1),
    ];
    for (keys, attention, hooks, permille) in seen {
        let at = |layers: u64| {
            let config = format!(r#"{{{}, "torch_dtype": "bfloat16"}}"#, keys.replace("LAYERS", &layers.to_string()));
            let training = Training { precision: Some(Precision::Bf16), seq_len: Some(256), kernels: Some(Kernels::Transformers), ..full() };
            held(&estimate(&model(&config), &Scenario { attention, ..scenario(training) }).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        let kept = (at(3) - at(2)) / 256;
        assert!(kept.abs_diff(hooks) * 1000 <= hooks * permille, "{keys}: {kept} of {hooks}");
    }
    // Autocast computes softmax in float32 whatever the family does: 2,048 keys of 4 heads, with a mask and a copy in 16 bits.
    let at = |layers: &str, precision, attention| {
        let config = format!("{{{}}}", gpt2.replace("LAYERS", layers).replace("512", "2048"));
        let scenario = Scenario { attention, ..scenario(Training { precision: Some(precision), ..full() }) };
        held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
    };
    let scores = |precision| {
        let layer = |attention| at("2", precision, attention) - at("1", precision, attention);
        (layer(AttentionImplementation::Eager) + 2048 * (2 * 128 + 4 * 4) - layer(AttentionImplementation::Sdpa)) / (2048 * 4 * 2048)
    };
    assert_eq!([scores(Precision::Bf16), scores(Precision::Bf16Mixed)], [2 + 1 + 2, 4 + 1 + 2]);
}

/// What is kept of the layer at work is counted once: its selected results, and an input that its norm keeps.
#[test]
fn the_layer_at_work_is_counted_once() {
    let config = GPT3_LAYER.replace("\"n_layer\": 32", "\"n_layer\": 1");
    let of = |checkpointing| {
        let device = &answer(&config, Training { checkpointing: Some(checkpointing), grad_accum: Some(4), ..full() }).devices[0];
        held(device, Term::Activations, Stage::Backward)
    };
    assert_eq!([Checkpointing::Selective, Checkpointing::Full].map(of), [of(Checkpointing::None); 2]);
}

/// What all sequences share is printed as what it is: of one of them.
#[test]
fn formulas_say_what_sequences_share() {
    let config = r#"{"model_type": "t5", "vocab_size": 128, "d_model": 128, "d_kv": 32, "d_ff": 320, "num_heads": 4, "num_layers": 3}"#;
    let answer = answer(config, Training { micro_batch: Some(4), seq_len: Some(512), ..full() });
    let formulas: Vec<String> = answer.devices[0].entries.iter().map(|entry| entry.formula.to_string()).collect();
    assert!(formulas.iter().any(|formula| formula.contains(" + 512 tokens × (")) && !formulas.iter().any(|formula| formula.contains("/ 4 sequences")));
}

/// `T5Stack.forward` of transformers 5.23 hands values by distance from block to block, so that checkpointing keeps them: those of encoder
/// and decoder, and zeros for the decoder's attention to the encoder, each a number of 16 bits for every head and pair. Layers of UMT5 have
/// tables of their own. What grows with the square of the length is that alone.
#[test]
fn checkpointed_layers_keep_the_values_by_distance_that_they_are_handed() {
    let squared = |family: &str, rows: u64| {
        let at = |tokens: u64| {
            let config = format!(
                r#"{{"model_type": "{family}", "vocab_size": 128, "d_model": 128, "d_kv": 32, "d_ff": 320, "num_heads": 4, "num_layers": 3,
                "num_decoder_layers": 3, "dropout_rate": 0.1, "feed_forward_proj": "gated-gelu", "torch_dtype": "bfloat16"}}"#
            );
            let checkpointing = Some(Checkpointing::Full);
            let training = Training { precision: Some(Precision::Bf16), seq_len: Some(tokens), micro_batch: Some(rows), checkpointing, ..full() };
            let scenario = Scenario { attention: AttentionImplementation::Sdpa, ..scenario(training) };
            held(&estimate(&model(&config), &scenario).unwrap().devices[0], Term::Activations, Stage::Forward)
        };
        at(512) - 2 * at(256)
    };
    let scores = |tokens: u64| 3 * 4 * tokens * tokens * 2;
    assert_eq!(squared("t5", 1), scores(512) - 2 * scores(256));
    assert_eq!(squared("mt5", 2), scores(512) - 2 * scores(256));
    assert_eq!(squared("umt5", 1), 0);
}

/// Transformers refuses to load these with flash attention; another trainer or version may have it, so it is said beside the answer.
#[test]
fn flash_attention_that_transformers_refuses_is_said() {
    let config = r#"{"model_type": "t5", "vocab_size": 128, "d_model": 128, "d_kv": 32, "d_ff": 320, "num_heads": 4, "num_layers": 3}"#;
    let scenario = Scenario { attention: AttentionImplementation::Flash, ..scenario(full()) };
    let warnings = estimate(&model(config), &scenario).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("no flash attention for `t5`")), "{warnings:?}");
}
