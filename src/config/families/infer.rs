//! Configs without `model_type`, as files of before 2020 are: known by their class, else by keys that one family alone has.

use super::{ConfigError, Fields};

/// Beginnings of class names; longer ones before those they begin with.
const CLASSES: &[(&str, &str)] = &[
    ("XLMRoberta", "xlm-roberta"),
    ("DistilBert", "distilbert"),
    ("Camembert", "camembert"),
    ("CogVLM", "cogvlm"),
    ("Electra", "electra"),
    ("Roberta", "roberta"),
    ("Albert", "albert"),
    ("MPNet", "mpnet"),
    ("Bert", "bert"),
    ("Bart", "bart"),
    ("GPT2", "gpt2"),
    ("LLaMA", "llama"),
    ("Llama", "llama"),
    ("XLM", "xlm"),
    ("T5", "t5"),
];

/// Keys that together stand for a family.
const KEYS: &[(&[&str], &str)] = &[
    (&["num_hidden_groups", "embedding_size", "type_vocab_size"], "albert"),
    (&["hidden_dim", "n_heads", "sinusoidal_pos_embds"], "distilbert"),
    (&["n_embd", "n_head", "n_ctx"], "gpt2"),
    (&["d_model", "d_kv", "d_ff"], "t5"),
    (&["architecture", "num_classes"], "timm_wrapper"),
    (&["hidden_size", "type_vocab_size", "attention_probs_dropout_prob"], "bert"),
];

/// The model type, and how it was found.
pub(in crate::config) fn model_type(f: &Fields) -> Result<Option<(&'static str, String)>, ConfigError> {
    if let Some(class) = f.architecture()?
        && let Some((_, family)) = CLASSES.iter().find(|(beginning, _)| class.starts_with(beginning))
    {
        return Ok(Some((family, format!("the config has no `model_type`; its class `{class}` is `{family}`"))));
    }
    let Some((keys, family)) = KEYS.iter().find(|(keys, _)| keys.iter().all(|key| f.has(key))) else { return Ok(None) };
    // RoBERTa has BERT's keys, but one type of token.
    let family = if *family == "bert" && f.optional_count_or_zero("type_vocab_size")? == Some(1) { "roberta" } else { *family };
    Ok(Some((family, format!("the config has no `model_type`; its keys (`{}`) are those of `{family}`", keys.join("`, `")))))
}
