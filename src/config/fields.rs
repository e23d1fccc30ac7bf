//! The fields of a config.json: found under their aliases, checked, and accounted for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::ConfigError;

/// Canonical key, and the spellings seen (first present wins).
const ALIASES: &[(&str, &[&str])] = &[
    ("hidden_size", &["hidden_size", "n_embd", "d_model", "dim"]),
    ("num_hidden_layers", &["num_hidden_layers", "n_layer", "n_layers", "num_layers"]),
    ("num_attention_heads", &["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"]),
    ("num_key_value_heads", &["num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups"]),
    ("intermediate_size", &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"]),
    ("max_position_embeddings", &["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length", "max_seq_len", "model_max_length"]),
    ("num_experts", &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"]),
    ("dtype", &["dtype", "torch_dtype"]),
    ("num_experts_per_tok", &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk", "moe_top_k"]),
    ("n_shared_experts", &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"]),
    ("moe_intermediate_size", &["moe_intermediate_size", "expert_ffn_hidden_size"]),
    ("num_nextn_predict_layers", &["num_nextn_predict_layers", "num_mtp_layers"]),
];

/// Keys that do not change memory: tokens, training, naming, numerics.
const IRRELEVANT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "_pad_token_id",
    "_vocab_size",
    "activation",
    "activation_dropout",
    "activation_func",
    "activation_function",
    "activation_situ_beta",
    "activation_situ_linear_beta",
    "activation_sparsity_pattern",
    "add_cross_attention",
    "add_out_norm",
    "add_router_probs",
    "afn",
    "altup_active_idx",
    "altup_coef_clip",
    "altup_correct_scale",
    "apply_layernorm",
    "apply_query_key_layer_scaling",
    "apply_residual_connection_post_layernorm",
    "apply_spec_augment",
    "architectures",
    "attention_dropout",
    "attention_in_multiplier",
    "attention_multiplier",
    "attention_out_multiplier",
    "attention_probs_dropout_prob",
    "attention_softmax_in_fp32",
    "attention_value_scale",
    "attn_dropout_prob",
    "attn_implementation",
    "attn_logit_softcapping",
    "attn_output_multiplier",
    "attn_pdrop",
    "attn_scale",
    "attn_temperature_tuning",
    "audio_end_token_id",
    "audio_soft_tokens_per_image",
    "audio_start_token_id",
    "audio_token_id",
    "audio_token_index",
    "auto_map",
    "autocast_kernel_dtype",
    "aux_loss_alpha",
    "aux_loss_coef",
    "auxiliary_loss",
    "auxiliary_loss_weight",
    "bad_words_ids",
    "base_seqlen",
    "batch_norm_eps",
    "batch_norm_momentum",
    "batch_prioritized_routing",
    "bbox_cost",
    "bbox_loss_coefficient",
    "begin_suppress_tokens",
    "bf16",
    "bias_dropout_fusion",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_size",
    "block_use_swiglu",
    "block_use_xavier_init",
    "boa_token_id",
    "boi_token_id",
    "boi_token_index",
    "bos_index",
    "bos_token",
    "bos_token_id",
    "cache_implementation",
    "chunk_size",
    "chunk_size_feed_forward",
    "chunkwise_kernel",
    "class_cost",
    "classif_dropout",
    "classifier_activation",
    "classifier_dropout",
    "classifier_dropout_prob",
    "classifier_dropout_rate",
    "classifier_pooling",
    "clip_qkv",
    "cls_token_id",
    "conf_attention_chunk_size",
    "conf_attention_context_left",
    "conf_attention_context_right",
    "conf_attention_logit_cap",
    "conf_reduction_factor",
    "conf_residual_weight",
    "contrastive_logits_temperature",
    "conv_use_xavier_init",
    "cross_attention_hidden_size",
    "ctc_loss_reduction",
    "ctc_zero_infinity",
    "decoder_start_token_id",
    "default_theta",
    "deterministic_flash_attn",
    "dim_model_base",
    "directionality",
    "diversity_loss_weight",
    "diversity_penalty",
    "do_blenderbot_90_layernorm",
    "do_image_splitting",
    "do_sample",
    "down_scale_factor",
    "downsample_mode",
    "downsampling_rates",
    "drop_connect_rate",
    "drop_path_rate",
    "dropout",
    "dropout_p",
    "dropout_rate",
    "dynamic_image_size",
    "early_stopping",
    "emb_dropout_prob",
    "emb_pdrop",
    "embd_layer_norm",
    "embd_pdrop",
    "embed_dropout",
    "embed_init_std",
    "embedding_dropout",
    "embedding_fraction",
    "embedding_initializer_range",
    "embedding_multiplier",
    "embedding_multiplier_scale",
    "embeddings_scale_by_sqrt_dim",
    "encoder_no_repeat_ngram_size",
    "encoder_patch_size",
    "end_n_top",
    "eoa_token_id",
    "eoa_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "eos_coefficient",
    "eos_index",
    "eos_token",
    "eos_token_id",
    "ep_size",
    "eps",
    "expert_dtype",
    "exponential_decay_length_penalty",
    "feat_extract_activation",
    "feat_extract_dropout",
    "feat_proj_dropout",
    "feat_quantizer_dropout",
    "ffn_dropout_prob",
    "final_dropout",
    "final_logit_softcapping",
    "final_w_init_variance_scale",
    "finetuning_task",
    "flash_attn",
    "flash_rotary",
    "floor_scale",
    "for_llm_compressor",
    "force_bos_token_to_be_generated",
    "force_image_size",
    "forced_bos_token_id",
    "forced_decoder_ids",
    "forced_eos_token_id",
    "fp16",
    "fp32",
    "fp32_residual_connection",
    "freeze_mm_mlp_adapter",
    "freeze_mm_vision_resampler",
    "full_attn_alpha_factor",
    "full_attn_beta_factor",
    "fused_add_norm",
    "fused_dense",
    "gap_size",
    "gate_lower_bound",
    "gate_soft_cap",
    "gegelu_limit",
    "gelu_activation",
    "giou_cost",
    "giou_loss_coefficient",
    "global_rope_theta",
    "gradient_checkpointing",
    "gradient_clipping",
    "hc_eps",
    "hc_sinkhorn_iters",
    "hidden_act",
    "hidden_activation",
    "hidden_dropout",
    "hidden_dropout_prob",
    "hidden_mamba_act",
    "id2label",
    "ignore_index",
    "image_aspect_ratio",
    "image_end_token_id",
    "image_grid_pinpoints",
    "image_placeholder",
    "image_seq_length",
    "image_start_token_id",
    "image_token_id",
    "image_token_index",
    "indexer_rope_interleave",
    "inference_runner",
    "inference_state_dtype",
    "init_config",
    "init_device",
    "init_method",
    "init_std",
    "initial_context_length",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "input_jitter_noise",
    "is_decoder",
    "is_encoder_decoder",
    "is_english",
    "is_llama_config",
    "kda_lower_bound",
    "kda_safe_gate",
    "key_multiplier",
    "label2id",
    "label_names",
    "label_smoothing",
    "lambda_std_dev",
    "lang_id",
    "language_model_only",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_switch",
    "layerdrop",
    "layernorm_epsilon",
    "layernorm_full_attention_alpha",
    "layernorm_full_attention_beta",
    "layernorm_linear_attention_alpha",
    "layernorm_linear_attention_beta",
    "layernorm_mlp_alpha",
    "layernorm_mlp_beta",
    "layerscale_value",
    "legacy",
    "length_penalty",
    "linear_a_log_max",
    "linear_a_log_min",
    "linear_allow_neg_eigval",
    "linear_attn_alpha_factor",
    "linear_attn_beta_factor",
    "linear_dt_init_floor",
    "linear_dt_max",
    "linear_dt_min",
    "lm_head_multiplier",
    "local_rope_theta",
    "logit_scale",
    "logit_scale_init_value",
    "logits_scaling",
    "logits_soft_cap",
    "logn",
    "logn_attention_clip1",
    "logn_attention_scale",
    "mamba_chunk_size",
    "mamba_hidden_act",
    "mamba_norm_before_gate",
    "mamba_ssm_cache_dtype",
    "mamba_ssm_dtype",
    "mask_channel_length",
    "mask_channel_min_space",
    "mask_channel_other",
    "mask_channel_prob",
    "mask_channel_selection",
    "mask_feature_length",
    "mask_feature_min_masks",
    "mask_index",
    "mask_ratio",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_time_min_space",
    "mask_time_other",
    "mask_time_selection",
    "mask_token_id",
    "max_attn_value",
    "max_bucket_distance",
    "max_dynamic_patch",
    "max_image_size",
    "max_image_tokens",
    "max_inference_chunksize",
    "max_length",
    "max_pixels_tolerance",
    "max_tiles",
    "max_tokenizer_truncation",
    "media_placeholder_token_id",
    "median_filter_width",
    "merge_type",
    "min_dynamic_patch",
    "min_image_tokens",
    "min_length",
    "min_tiles",
    "mixer_rms_eps",
    "mla_scale_kv_lora",
    "mla_scale_q_lora",
    "mla_use_nope",
    "mlp_alpha_factor",
    "mlp_beta_factor",
    "mlp_dropout",
    "mlp_hidden_act",
    "mlp_multipliers",
    "mlp_type",
    "mm_use_im_patch_token",
    "mm_use_im_start_end",
    "mm_vision_select_feature",
    "mm_vision_select_layer",
    "mode",
    "model_type",
    "moe_capacity",
    "moe_eval_capacity_factor",
    "moe_eval_capacity_token_fraction",
    "moe_jitter_eps",
    "moe_loss_weight",
    "moe_min_capacity",
    "moe_norm_min",
    "moe_normalize_expert_weights",
    "moe_renormalize",
    "moe_router_activation_func",
    "moe_shared_expert_overlap",
    "moe_token_dropout",
    "moe_token_dropping",
    "moe_train_capacity_factor",
    "moe_use_aux_free",
    "mtp_loss_scaling_factor",
    "mup_attn_multiplier",
    "mup_embedding_multiplier",
    "mup_embeddings_scale",
    "mup_enabled",
    "mup_output_alpha",
    "mup_scale_qk_dot_by_d",
    "mup_use_scaling",
    "mup_width_multiplier",
    "mup_width_scale",
    "n_group",
    "n_special",
    "net_structure_type",
    "no_repeat_ngram_size",
    "norm_before_gate",
    "norm_eps",
    "norm_epsilon",
    "norm_pix_loss",
    "norm_reduction_force_float32",
    "norm_topk_prob",
    "normalization_function",
    "normalize_router_prob_before_dropping",
    "num_beam_groups",
    "num_beams",
    "num_classes",
    "num_expert_group",
    "num_logits_to_keep",
    "num_negatives",
    "num_pos_feats",
    "num_random_blocks",
    "num_return_sequences",
    "onnx_export",
    "onnx_safe",
    "order_of_interleaved_layers",
    "original_max_position_embeddings",
    "original_rope",
    "out_features",
    "out_indices",
    "output_attentions",
    "output_gate_type",
    "output_hidden_states",
    "output_logit_soft_cap",
    "output_multiplier_scale",
    "output_past",
    "output_router_logits",
    "output_scores",
    "pad_index",
    "pad_token",
    "pad_token_id",
    "pad_token_ids",
    "pad_vocab_size_multiple",
    "partial_rotary_factor",
    "pooler_act",
    "pooler_dropout",
    "pooler_fc_size",
    "pooler_hidden_act",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "pooling_type",
    "pos_emb_interpolation_mode",
    "pos_emb_type",
    "pos_embed_jitter",
    "pos_embed_rescale",
    "pos_embed_shift",
    "position_id_per_seconds",
    "postnorm",
    "predict_special_tokens",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "projection_dropout",
    "projector_dropout",
    "projector_hidden_act",
    "projector_layernorm_eps",
    "projector_ln_eps",
    "pruned_heads",
    "ps_version",
    "qa_dropout",
    "qk_norm_type",
    "query_pre_attn_scalar",
    "relative_attention_max_distance",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "rescale_embeddings",
    "rescale_every",
    "rescale_prenorm_residual",
    "reshape_hidden_states",
    "reshape_last_stage",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
    "residual_in_fp32",
    "residual_multiplier",
    "return_dict",
    "return_dict_in_generate",
    "return_last_states",
    "rms_norm",
    "rms_norm_eps",
    "rope_interleave",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_pct",
    "rope_scaling",
    "rope_theta",
    "rotary",
    "rotary_base",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "route_scale",
    "routed_scaling_factor",
    "router_aux_loss_coef",
    "router_dtype",
    "router_ignore_padding_tokens",
    "router_jitter_noise",
    "router_z_loss_coef",
    "runner_max_sequence_length",
    "save_step",
    "scale",
    "scale_attention_softmax_in_fp32",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "scale_decoder_outputs",
    "scale_depth",
    "scale_emb",
    "scale_embedding",
    "scale_qk_dot_by_d",
    "score_function",
    "scoring_func",
    "second_expert_policy",
    "seconds_per_chunk",
    "select_layer",
    "semantic_loss_ignore_index",
    "sep_token_id",
    "seq_aux",
    "seq_classif_dropout",
    "sequence_kernel",
    "sinusoidal_pos_embds",
    "slow_but_exact",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "spatial_pool_mode",
    "spatial_pool_stride",
    "sscp_conv_group_norm_eps",
    "ssm_cfg",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
    "stage_names",
    "start_n_top",
    "step_kernel",
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "suppress_tokens_at_begin",
    "swa_rope_theta",
    "swiglu_alpha",
    "swiglu_limit",
    "task_specific_params",
    "tdnn_dilation",
    "temperature",
    "template",
    "text_hidden_size",
    "tf_legacy_loss",
    "tf_padding",
    "tie_encoder_decoder",
    "tile_size",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_limit",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_scale",
    "tokenizer_class",
    "tokenizer_name",
    "tokens_per_second",
    "top_k",
    "top_p",
    "topk_group",
    "topk_method",
    "torch_dtype",
    "torchscript",
    "training_seqlen",
    "transformers.js_config",
    "transformers_version",
    "tune_mm_mlp_adapter",
    "tune_mm_vision_resampler",
    "typical_p",
    "unfreeze_mm_vision_tower",
    "unk_index",
    "unk_token_id",
    "unpad_inputs",
    "unsloth_fixed",
    "unsloth_version",
    "use_associative_scan",
    "use_backbone_lora",
    "use_bfloat16",
    "use_bidirectional_attention",
    "use_cache",
    "use_decoder_only_language_model",
    "use_dynamic_ntk",
    "use_falcon_mambapy",
    "use_flash_attn",
    "use_grouped_topk",
    "use_image_newline_parameter",
    "use_image_special_tokens",
    "use_llm_lora",
    "use_logn_attn",
    "use_long_context",
    "use_mamba_kernels",
    "use_mambapy",
    "use_mem_rope",
    "use_mm_proj",
    "use_mrope",
    "use_pos_enc",
    "use_routing_bias",
    "use_spec_augment",
    "use_thumbnail",
    "use_unified_vision_chunk",
    "user_token_id",
    "validate_runner_input",
    "verbose",
    "video_attn_type",
    "video_end_token_id",
    "video_placeholder",
    "video_seq_length",
    "video_start_token_id",
    "video_token_id",
    "video_token_index",
    "vision_aspect_ratio",
    "vision_end_token_id",
    "vision_feature_select_strategy",
    "vision_soft_tokens_per_image",
    "vision_start_token_id",
    "vision_token_id",
    "vocab_offset",
    "w_init_variance_scale",
    "width_scale",
    "z_loss_coefficient",
    "zero_expert_type",
];

/// Keys of nested objects that say nothing of their part: the wrapper's count, or the language model reads them itself.
const NESTED: &[&str] = &["architectures", "dtype", "tie_word_embeddings", "torch_dtype"];

/// Parts of keys that say that layers are not those of a plain decoder.
const STRUCTURAL: &[&str] = &[
    "_pattern",
    "audio",
    "block_configs",
    "conv",
    "cross_",
    "decoder_",
    "encoder",
    "expert",
    "hyena",
    "image",
    "kv_shared",
    "layer_freq",
    "linear_attn",
    "linear_num",
    "lora",
    "mamba",
    "moe",
    "multi_query",
    "nextn",
    "per_layer",
    "position_embedding_type",
    "recurrent",
    "relative_attention",
    "rwkv",
    "ssm",
    "state_size",
    "time_mix",
    "vision",
];

/// The largest value that a size in a config may have: past any real model, small enough that products are caught.
const MAX: u64 = 1 << 40;

/// What was asked of a config: shared by its object and the nested ones that were opened.
#[derive(Default)]
struct Accounts {
    /// Keys that were asked for, nested ones with their path (`text_config.hidden_size`).
    used: BTreeSet<String>,
    /// Every key of the objects that were opened, likewise.
    present: BTreeSet<String>,
    /// What had to be guessed, each a sentence.
    guesses: Vec<String>,
}

/// An object of a config, with a record of the keys that were asked for.
pub struct Fields {
    object: Map<String, Value>,
    /// Where it stands in the file: empty, or `text_config.`.
    path: String,
    accounts: Rc<RefCell<Accounts>>,
    /// What stands for keys that are not there at all.
    defaults: Map<String, Value>,
}

impl Fields {
    /// Wraps a parsed config.
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        match config {
            Value::Object(object) => Ok(Self::open(object, String::new(), Rc::default())),
            _ => Err(ConfigError::NotAnObject),
        }
    }

    fn open(object: Map<String, Value>, path: String, accounts: Rc<RefCell<Accounts>>) -> Self {
        accounts.borrow_mut().present.extend(object.keys().map(|key| format!("{path}{key}")));
        Self { object, path, accounts, defaults: Map::new() }
    }

    /// The first of these objects that is there (`text_config`, `llm_config` ...).
    pub fn nested(&self, keys: &[&str]) -> Result<Option<Self>, ConfigError> {
        for key in keys {
            match self.get(key) {
                None => {}
                Some((_, Value::Object(object))) => return Ok(Some(Self::open(object.clone(), format!("{}{key}.", self.path), Rc::clone(&self.accounts)))),
                Some(_) => return Err(self.impossible(key, "it must be an object")),
            }
        }
        Ok(None)
    }

    /// The first of these objects, which must be there.
    pub fn required_nested(&self, keys: &[&'static str]) -> Result<Self, ConfigError> {
        self.nested(keys)?.ok_or_else(|| ConfigError::Missing { key: keys[0], model_type: self.model_type() })
    }

    /// The same object, with numbers for keys that it lacks: what its class takes when a nested config leaves them out.
    #[must_use]
    pub fn with_defaults(&self, defaults: &[(&str, u64)]) -> Self {
        let mut all: Map<String, Value> = defaults.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        // Those that are there already are the more particular ones.
        all.extend(self.defaults.clone());
        let defaults = all;
        Self { object: self.object.clone(), path: self.path.clone(), accounts: Rc::clone(&self.accounts), defaults }
    }

    /// The same object read as another type: for files that keep a language model's fields beside the wrapper's own.
    #[must_use]
    pub fn as_type(&self, model_type: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        same.object.insert("model_type".to_owned(), Value::from(model_type));
        same
    }

    /// The same object with another number in the place of one: for classes whose other layers have another size of the same name.
    #[must_use]
    pub fn replaced(mut self, key: &str, value: u64) -> Self {
        self.object.insert(key.to_owned(), Value::from(value));
        self
    }

    /// The same object as if `architectures` named this class: for parts that a larger class builds.
    #[must_use]
    pub fn as_class(&self, class: &str) -> Self {
        let mut same = self.with_defaults(&[]);
        same.object.insert("architectures".to_owned(), Value::from(vec![class]));
        same
    }

    /// An empty object in the place of a nested one that the config leaves out.
    #[must_use]
    pub fn left_out(&self, key: &str) -> Self {
        Self::open(Map::new(), format!("{}{key}.", self.path), Rc::clone(&self.accounts))
    }

    /// The same object with these values where it says nothing: what a class takes for keys that are left out.
    #[must_use]
    pub fn or_defaults(mut self, defaults: &[(&str, u64)]) -> Self {
        for (key, value) in defaults {
            if self.get(key).is_none() {
                self.object.insert((*key).to_owned(), Value::from(*value));
            }
        }
        self
    }

    /// The value under the first alias of `key` that is present and not null, with the spelling found.
    fn get(&self, key: &str) -> Option<(&str, &Value)> {
        let spellings = ALIASES.iter().find(|(canonical, _)| *canonical == key).map(|(_, spellings)| *spellings);
        let mut found = None;
        let mut is_there = false;
        for spelling in spellings.unwrap_or(&[key]) {
            if let Some((name, value)) = self.object.get_key_value(*spelling) {
                is_there = true;
                self.accounts.borrow_mut().used.insert(format!("{}{name}", self.path));
                if found.is_none() && !value.is_null() {
                    found = Some((name.as_str(), value));
                }
            }
        }
        if is_there { found } else { self.defaults.get_key_value(key).map(|(name, value)| (name.as_str(), value)) }
    }

    /// The spelling under which `key` stands in this config, for sources; the canonical one when it is absent.
    pub fn spelling<'a>(&'a self, key: &'a str) -> &'a str {
        self.get(key).map_or(key, |(name, _)| name)
    }

    /// An [`ConfigError::Impossible`] about `key` as it stands.
    pub fn impossible(&self, key: &str, why: &'static str) -> ConfigError {
        let (name, value) = self.get(key).map_or((key, String::new()), |(name, value)| (name, value.to_string()));
        let value = match value.char_indices().nth(60) {
            Some((at, _)) => format!("{}…", &value[..at]),
            None => value,
        };
        ConfigError::Impossible { key: format!("{}{name}", self.path), value, why }
    }

    /// A positive whole number, if the key is there.
    pub fn optional_count(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        // Some exporters write whole numbers as floats; whatever does not survive the way there and back is refused.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, clippy::float_cmp)]
        let whole = |float: f64| Some(float as u64).filter(|&n| n as f64 == float && n <= MAX);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
            Some(n) if (1..=MAX).contains(&n) => Ok(Some(n)),
            _ => Err(self.impossible(key, "it must be a whole number, at least 1 and at most 2^40")),
        }
    }

    /// A whole number that may be zero, if the key is there.
    pub fn optional_count_or_zero(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        match self.get(key) {
            Some((_, value)) if value.as_u64() == Some(0) => Ok(Some(0)),
            _ => self.optional_count(key),
        }
    }

    /// Whether the key is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// Whether the key is there under any of its aliases, be it null.
    pub fn has_any(&self, key: &str) -> bool {
        let spellings = ALIASES.iter().find(|(canonical, _)| *canonical == key).map(|(_, spellings)| *spellings);
        spellings.unwrap_or(&[key]).iter().any(|spelling| self.has(spelling))
    }

    /// Marks a key as understood whose value plays no part here.
    pub fn touch(&self, key: &str) -> Option<u64> {
        self.get(key);
        None
    }

    /// Notes that what follows is a guess, and what it rests on.
    pub fn guess(&self, how: String) {
        self.accounts.borrow_mut().guesses.push(how);
    }

    /// What was guessed so far.
    pub fn guesses(&self) -> Vec<String> {
        self.accounts.borrow().guesses.clone()
    }

    /// The same object with a record of its own: for a reading on trial.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { defaults: self.defaults.clone(), ..Self::open(self.object.clone(), String::new(), Rc::default()) }
    }

    /// How many entries the object under `key` has.
    pub fn entries(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|(_, value)| value.as_object()).map(|object| object.len() as u64)
    }

    /// `num_experts_per_tok`, at most the number of experts; the family's default when the key is absent.
    pub fn active_experts(&self, experts: u64, default: u64) -> Result<u64, ConfigError> {
        let active = self.optional_count("num_experts_per_tok")?.unwrap_or(default);
        if active > experts {
            return Err(self.impossible("num_experts_per_tok", "it cannot be more than the number of experts"));
        }
        Ok(active)
    }

    /// A positive whole number that must be there.
    pub fn count(&self, key: &'static str) -> Result<u64, ConfigError> {
        self.optional_count(key)?.ok_or_else(|| ConfigError::Missing { key, model_type: self.model_type() })
    }

    /// A flag, with the default of the family.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some((_, value)) => value.as_bool().ok_or_else(|| self.impossible(key, "it must be true or false")),
        }
    }

    /// A flag, if the key is there.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(_) => self.flag(key, false).map(Some),
        }
    }

    /// A text, if the key is there.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((_, value)) => value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| self.impossible(key, "it must be a text in quotes")),
        }
    }

    /// A list of texts, if the key is there.
    pub fn optional_texts(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.map(Some).ok_or_else(|| self.impossible(key, "it must be a list of texts"))
    }

    /// The class that `architectures` names first.
    pub fn architecture(&self) -> Result<Option<String>, ConfigError> {
        Ok(self.optional_texts("architectures")?.and_then(|list| list.into_iter().next()))
    }

    /// A fraction or whole number, if the key is there (`ffn_mult`, `expand` ...).
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((_, value)) => value.as_f64().filter(|number| number.is_finite()).map(Some).ok_or_else(|| self.impossible(key, "it must be a number")),
        }
    }

    /// A list of whole numbers (zero allowed), if the key is there.
    pub fn optional_counts(&self, key: &str) -> Result<Option<Vec<u64>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let numbers = value.as_array().and_then(|list| list.iter().map(|item| item.as_u64().filter(|&n| n <= MAX)).collect());
        numbers.map(Some).ok_or_else(|| self.impossible(key, "it must be a list of whole numbers"))
    }

    /// The objects in the list under `key`, if the key is there (`block_configs`).
    pub fn optional_objects(&self, key: &str) -> Result<Option<Vec<Self>>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        let objects = value.as_array().and_then(|list| list.iter().map(Value::as_object).collect::<Option<Vec<_>>>());
        let Some(objects) = objects else { return Err(self.impossible(key, "it must be a list of objects")) };
        let path = |index: usize| format!("{}{key}[{index}].", self.path);
        Ok(Some(objects.into_iter().enumerate().map(|(index, object)| Self::open(object.clone(), path(index), Rc::clone(&self.accounts))).collect()))
    }

    /// The value as it stands, for shapes that no other method reads.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.get(key).map(|(_, value)| value)
    }

    /// Whether a count or a list of counts stands under `key`: the value of layer `index`.
    pub fn count_of_layer(&self, key: &'static str, index: usize) -> Result<u64, ConfigError> {
        if self.raw(key).is_some_and(Value::is_array) {
            let list = self.optional_counts(key)?.unwrap_or_default();
            return list.get(index).copied().ok_or_else(|| self.impossible(key, "it must have one entry per layer"));
        }
        self.count(key)
    }

    /// A list of layer numbers (empty when the key is absent).
    pub fn layer_numbers(&self, key: &str) -> Result<Vec<u64>, ConfigError> {
        let Some((_, value)) = self.get(key) else { return Ok(Vec::new()) };
        let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
        numbers.ok_or_else(|| self.impossible(key, "it must be a list of layer numbers"))
    }

    /// `model_type`, for messages.
    pub fn model_type(&self) -> String {
        self.object.get("model_type").and_then(Value::as_str).unwrap_or("(unnamed)").to_owned()
    }

    /// Keys that were not asked for and say that the layers are not those of a plain decoder.
    pub fn structural_keys_left(&self) -> impl Iterator<Item = String> {
        let (_, left) = self.accounts();
        left.into_iter().filter(|key| STRUCTURAL.iter().any(|part| key.contains(part)))
    }

    /// The keys that were asked for and are there, and those that may matter but were not asked for. An object that was
    /// opened answers for its own keys.
    pub fn accounts(&self) -> (Vec<String>, Vec<String>) {
        let accounts = self.accounts.borrow();
        let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let ignored = |key: &&String| {
            let leaf = name(key);
            let is_nested = leaf.len() < key.len();
            let is_irrelevant = IRRELEVANT.contains(&leaf.as_str()) || (is_nested && NESTED.contains(&leaf.as_str()));
            !is_irrelevant && !accounts.used.contains(*key)
        };
        (accounts.used.intersection(&accounts.present).cloned().collect(), accounts.present.iter().filter(ignored).cloned().collect())
    }
}
