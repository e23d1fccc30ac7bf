//! What a GGUF file leaves to the reader's knowledge of its architecture: the name of its model type, and which layers slide.
//!
//! Read from llama.cpp 0c1e57098 (`src/models/*.cpp`, `load_arch_hparams`; `src/llama-hparams.cpp`, `set_swa_pattern`).

/// Which layers of an architecture have a window, where the file does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slides {
    /// All but one layer of each `period`: the last one, or the first.
    AllButOneOf {
        period: u64,
        full_first: bool,
        /// The window of files that do not say it.
        window: Option<u64>,
    },
    /// Each layer.
    All,
    /// All but the last of each four layers see chunks of 8,192 tokens; a window of 0 turns that off.
    Chunks,
    /// llama.cpp ignores the window.
    None,
}

const fn but_last(period: u64) -> Slides {
    Slides::AllButOneOf { period, full_first: false, window: None }
}

const fn but_first(period: u64) -> Slides {
    Slides::AllButOneOf { period, full_first: true, window: None }
}

const SLIDES: &[(&str, Slides)] = &[
    ("afmoe", but_last(4)),
    ("cohere2", but_last(4)),
    ("cohere2moe", but_first(4)),
    ("deepseek4", Slides::All),
    ("deepseek2-ocr", Slides::None),
    ("exaone-moe", Slides::AllButOneOf { period: 4, full_first: false, window: Some(128) }),
    ("exaone4", but_last(4)),
    ("gemma-embedding", but_last(6)),
    ("gemma2", Slides::AllButOneOf { period: 2, full_first: false, window: Some(4096) }),
    ("gemma3", but_last(6)),
    ("gemma3n", but_last(5)),
    ("gpt-oss", but_last(2)),
    ("laguna", but_first(4)),
    ("lfm2", Slides::All),
    ("llama4", Slides::Chunks),
    ("mellum", but_last(4)),
    ("modern-bert", but_first(3)),
    ("muse-glimmer", but_last(4)),
    ("olmo2", but_last(4)),
    ("phi3", Slides::None),
    ("phimoe", Slides::None),
    ("plamo3", but_last(8)),
    ("smallthinker", but_first(4)),
];

/// The rule of an architecture, if it has one.
pub fn slides(arch: &str) -> Option<Slides> {
    SLIDES.iter().find(|(name, _)| *name == arch).map(|(_, slides)| *slides)
}

/// Architectures whose name differs from `model_type` of config.json by more than a hyphen. Where one architecture stands for
/// several types, the one whose layers it has.
const MODEL_TYPES: &[(&str, &str)] = &[
    ("bailingmoe", "bailing_moe"),
    ("bailingmoe2", "bailing_moe_v2"),
    ("command-r", "cohere"),
    ("deci", "nemotron-nas"),
    ("deepseek2", "deepseek_v2"),
    ("deepseek2-ocr", "deepseek_v2"),
    ("deepseek32", "deepseek_v32"),
    ("deepseek4", "deepseek_v4"),
    ("dots3note", "dots3_note_text"),
    ("gemma-embedding", "gemma3_text"),
    ("gemma3", "gemma3_text"),
    ("gemma3n", "gemma3n_text"),
    ("gemma4", "gemma4_text"),
    ("glm-dsa", "glm_moe_dsa"),
    ("glm4moe", "glm4_moe"),
    ("gptneox", "gpt_neox"),
    ("granitehybrid", "granitemoehybrid"),
    ("granite_swa", "granite_swa"),
    ("grok", "grok-1"),
    ("hunyuan-dense", "hunyuan_v1_dense"),
    ("hunyuan-moe", "hunyuan_v1_moe"),
    ("jina-bert-v2", "bert"),
    ("jina-bert-v3", "jina_embeddings_v3"),
    ("lfm2moe", "lfm2_moe"),
    ("llama-embed", "llama"),
    ("llama4", "llama4_text"),
    ("mimo2", "mimo_v2_flash"),
    ("minimax-01", "minimax"),
    ("mistral3", "ministral3"),
    ("modern-bert", "modernbert"),
    ("nemotron_h_moe", "nemotron_h"),
    ("nomic-bert-moe", "nomic_bert"),
    ("phi2", "phi"),
    ("qwen2moe", "qwen2_moe"),
    ("qwen2vl", "qwen2_vl_text"),
    ("qwen35", "qwen3_5_text"),
    ("qwen35moe", "qwen3_5_moe_text"),
    ("qwen3moe", "qwen3_moe"),
    ("qwen3next", "qwen3_next"),
    ("qwen3vl", "qwen3_vl_text"),
    ("qwen3vlmoe", "qwen3_vl_moe_text"),
    ("refact", "gpt_refact"),
    ("starcoder", "gpt_bigcode"),
    ("t5encoder", "t5"),
];

/// `model_type` of config.json for an architecture.
pub fn model_type(arch: &str) -> String {
    MODEL_TYPES.iter().find(|(name, _)| *name == arch).map_or_else(|| arch.replace('-', "_"), |(_, model_type)| (*model_type).to_owned())
}

/// Layers with caches of their own, counted from the first, where the file does not say how many share one: Gemma 3n.
pub fn layers_with_own_cache(arch: &str) -> Option<u64> {
    (arch == "gemma3n").then_some(20)
}

/// Endings of keys that change no size: numerics, positions, tokens, and what the tensors themselves say.
pub const IRRELEVANT: &[&str] = &[
    "activation.situ_beta",
    "activation.situ_linear_beta",
    "attention.causal",
    "attention.clamp_kqv",
    "attention.decay_lora_rank",
    "attention.gate_lora_rank",
    "attention.group_norm_epsilon",
    "attention.group_norm_groups",
    "attention.iclr_lora_rank",
    "attention.indexer.head_count",
    "attention.indexer.top_k",
    "attention.indexer.types",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.max_alibi_bias",
    "attention.output_scale",
    "attention.q_lora_rank",
    "attention.relative_buckets_count",
    "attention.rope_pattern",
    "attention.scale",
    "attention.temperature_length",
    "attention.temperature_scale",
    "attention.value_residual_mix_lora_rank",
    "attention.value_scale",
    "attn_logit_softcapping",
    "classifier.output_labels",
    "decoder_start_token_id",
    "deepstack_mapping",
    "embedding_length_per_layer_input",
    "embedding_scale",
    "expert_chunk_feed_forward_length",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_group_count",
    "expert_group_scale",
    "expert_group_used_count",
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "experts_per_group",
    "feed_forward_length",
    "final_logit_softcapping",
    "full_attention_interval",
    "hidden_activation",
    "interleave_moe_layer_step",
    "kda.gate_lower_bound",
    "kda.safe_gate",
    "leading_dense_block_count",
    "logit_scale",
    "moe_every_n_layers",
    "moe_latent_size",
    "n_deepstack_layers",
    "pooling_type",
    "rescale_every_n_layers",
    "residual_scale",
    "router_logit_softcapping",
    "shortconv.l_cache",
    "ssm.conv_kernel",
    "ssm.dt_b_c_rms",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
    "swin_norm",
    "tensor_data_layout",
    "time_decay_extra_dim",
    "time_mix_extra_dim",
    "token_shift_count",
    "use_parallel_residual",
    "vocab_size",
];
