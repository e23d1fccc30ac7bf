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
    ("num_attention_heads", &["num_attention_heads", "n_head", "n_heads", "num_heads"]),
    ("num_key_value_heads", &["num_key_value_heads", "num_kv_heads", "n_head_kv"]),
    ("intermediate_size", &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"]),
    ("max_position_embeddings", &["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length"]),
    ("num_experts", &["num_experts", "num_local_experts", "n_routed_experts"]),
    ("dtype", &["dtype", "torch_dtype"]),
];

/// Keys that do not change memory: tokens, training, naming, numerics.
const IRRELEVANT: &[&str] = &[
    "_attn_implementation_autoset", "_name_or_path", "activation_function", "attention_dropout", "attn_logit_softcapping", "attn_pdrop", "auto_map",
    "bos_token", "bos_token_id", "cache_implementation", "classifier_dropout", "embd_pdrop", "eos_token", "eos_token_id", "final_logit_softcapping",
    "finetuning_task", "hidden_act", "hidden_activation", "id2label", "initializer_range", "label2id", "layer_norm_epsilon", "layer_norm_eps",
    "n_special", "norm_topk_prob", "original_max_position_embeddings", "output_router_logits", "pad_token", "pad_token_id", "partial_rotary_factor",
    "predict_special_tokens", "pretraining_tp", "query_pre_attn_scalar", "rescale_every", "resid_pdrop", "rms_norm_eps", "rope_parameters",
    "rope_scaling", "rope_theta", "rotary_dim", "router_aux_loss_coef", "router_jitter_noise", "scale_attn_weights", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "tokenizer_class",
    "transformers_version", "transformers.js_config", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_cache", "embd_layer_norm",
    "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "add_cross_attention", "is_decoder", "gradient_checkpointing",
    "hidden_dropout_prob", "embedding_dropout", "resid_dropout", "attn_implementation", "torchscript", "return_dict", "chunk_size_feed_forward",
    // Of encoders, encoder-decoders and audio models.
    "_num_labels", "activation", "activation_dropout", "add_router_probs", "apply_spec_augment", "attention_probs_dropout_prob", "audio_token_id",
    "audio_token_index", "batch_prioritized_routing", "begin_suppress_tokens", "bos_index", "classif_dropout", "classifier_activation",
    "classifier_dropout_prob", "classifier_dropout_rate", "classifier_pooling", "cls_token_id", "contrastive_logits_temperature", "ctc_loss_reduction",
    "ctc_zero_infinity", "deterministic_flash_attn", "directionality", "diversity_loss_weight", "do_blenderbot_90_layernorm", "down_scale_factor",
    "dropout", "dropout_rate", "early_stopping", "embed_init_std", "end_n_top", "eos_index", "feat_extract_activation", "feat_extract_dropout",
    "feat_proj_dropout", "feat_quantizer_dropout", "final_dropout", "force_bos_token_to_be_generated", "forced_bos_token_id", "forced_decoder_ids",
    "forced_eos_token_id", "gap_size", "gelu_activation", "global_rope_theta", "hidden_dropout", "ignore_index", "init_std", "initializer_cutoff_factor",
    "initializer_factor", "is_english", "lang_id", "layerdrop", "legacy", "length_penalty", "local_rope_theta", "logn_attention_clip1",
    "logn_attention_scale", "mask_channel_length", "mask_channel_min_space", "mask_channel_other", "mask_channel_prob", "mask_channel_selection",
    "mask_feature_length", "mask_feature_min_masks", "mask_index", "mask_time_length", "mask_time_min_masks", "mask_time_min_space", "mask_time_other",
    "mask_time_selection", "mask_token_id", "max_bucket_distance", "max_length", "median_filter_width", "min_length", "mlp_dropout",
    "moe_eval_capacity_token_fraction", "moe_token_dropout", "net_structure_type", "no_repeat_ngram_size", "norm_eps",
    "normalize_router_prob_before_dropping", "num_beams", "num_negatives", "num_random_blocks", "onnx_export", "output_attentions", "output_hidden_states",
    "output_past", "pad_index", "pad_token_ids", "pooler_dropout", "pooler_fc_size", "pooler_hidden_act", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "prefix", "problem_type", "projector_hidden_act", "qa_dropout",
    "relative_attention_max_distance", "rescale_embeddings", "router_dtype", "router_ignore_padding_tokens", "router_z_loss_coef", "save_step",
    "scale_decoder_outputs", "scale_embedding", "second_expert_policy", "sep_token_id", "seq_classif_dropout", "sinusoidal_pos_embds",
    "sparse_pred_ignore_index", "sparse_prediction", "start_n_top", "summary_last_dropout", "suppress_tokens", "suppress_tokens_at_begin", "tdnn_dilation",
    "unk_index", "unpad_inputs", "use_mrope", "use_spec_augment",
];

/// Parts of keys that say that layers are not those of a plain decoder.
const STRUCTURAL: &[&str] = &[
    "expert", "moe", "lora", "mamba", "ssm", "conv", "linear_attn", "linear_num", "recurrent", "state_size", "vision", "audio", "image", "encoder", "decoder_", "cross_", "_pattern",
    "per_layer", "kv_shared", "layer_freq", "nextn", "hyena", "rwkv", "time_mix", "block_configs", "multi_query", "position_embedding_type", "relative_attention",
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
}

/// An object of a config, with a record of the keys that were asked for.
pub struct Fields {
    object: Map<String, Value>,
    /// Where it stands in the file: empty, or `text_config.`.
    path: String,
    accounts: Rc<RefCell<Accounts>>,
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
        Self { object, path, accounts }
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
        for spelling in spellings.unwrap_or(&[key]) {
            if let Some((name, value)) = self.object.get_key_value(*spelling) {
                self.accounts.borrow_mut().used.insert(format!("{}{name}", self.path));
                if found.is_none() && !value.is_null() {
                    found = Some((name.as_str(), value));
                }
            }
        }
        found
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

    /// Marks a key as understood whose value plays no part here.
    pub fn touch(&self, key: &str) -> Option<u64> {
        self.get(key);
        None
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

    /// The quantisation method that `quantization_config` names.
    pub fn quantization(&self) -> Result<Option<String>, ConfigError> {
        let Some((_, value)) = self.get("quantization_config") else { return Ok(None) };
        let method = value.get("quant_method").and_then(Value::as_str);
        let by_flag = || ["load_in_4bit", "load_in_8bit"].iter().any(|key| value.get(key).is_some()).then_some("bitsandbytes");
        match method.or_else(by_flag) {
            Some(method) => Ok(Some(method.to_owned())),
            None => Err(self.impossible("quantization_config", "it must name its `quant_method`")),
        }
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
        let ignored = |key: &&String| !accounts.used.contains(*key) && !IRRELEVANT.contains(&name(key).as_str());
        (accounts.used.intersection(&accounts.present).cloned().collect(), accounts.present.iter().filter(ignored).cloned().collect())
    }
}
