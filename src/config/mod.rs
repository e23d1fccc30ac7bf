//! `config.json` to [`Anatomy`]: one small file per family over a shared vocabulary of blocks.
//!
//! To add a family: write `config/more/NAME.rs` with a function `fn(&Fields) -> Result<Draft, ConfigError>` that names its
//! blocks ([`decoder`]), and add its row to [`more::FAMILIES`](more).

mod computation;
mod decoder;
pub mod diffusers;
mod fields;
mod ignored;
pub mod json;
pub mod manual;
mod more;
mod quantization;
mod rotary;

mod gemma;
mod gpt2;
mod llama;
mod mistral;
mod mixtral;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;

use crate::model::{Anatomy, ComponentKind};
use decoder::Draft;
pub use fields::Fields;
pub use quantization::quantization_of_files;

/// A family: its `model_type` and the reader of its fields.
struct Family {
    model_type: &'static str,
    read: fn(&Fields) -> Result<Draft, ConfigError>,
}

const fn family(model_type: &'static str, read: fn(&Fields) -> Result<Draft, ConfigError>) -> Family {
    Family { model_type, read }
}

/// The families that the others are written after.
static CORE: &[Family] = &[
    family("gemma", gemma::read_gemma),
    family("gemma2", gemma::read_gemma2),
    family("gpt2", gpt2::read),
    family("llama", llama::read),
    family("mistral", mistral::read),
    family("mixtral", mixtral::read),
    family("phi3", phi3::read),
    family("qwen2", qwen2::read),
    family("qwen3", qwen3::read),
    family("qwen3_moe", qwen3_moe::read),
];

/// The reader of a model type, if it is understood to the parameter.
fn family_of(model_type: &str) -> Option<&'static Family> {
    families().find(|family| family.model_type == model_type)
}

fn families() -> impl Iterator<Item = &'static Family> {
    CORE.iter().chain(more::FAMILIES)
}

/// Where wrappers keep their language model's config.
const TEXT_CONFIGS: &[&str] = &["text_config", "llm_config", "language_config"];

/// What is wrong with a config.json.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("this config is not valid JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not an object.
    #[error("a config.json is a JSON object with keys such as `model_type`; this is not one")]
    NotAnObject,
    /// It is larger than any config.
    #[error("this config has {0} bytes; the most that is read is {max}", max = json::MAX_BYTES)]
    TooLarge(usize),
    /// A key that is needed is missing.
    #[error("`{key}` is missing in the config of this {model_type} model; add it, or check that this is the right file")]
    Missing {
        /// The key.
        key: &'static str,
        /// The model type.
        model_type: String,
    },
    /// A key has a value that cannot be.
    #[error("`{key}` is {value}: {why}")]
    Impossible {
        /// The key.
        key: String,
        /// Its value as written, shortened.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// `model_type` is not known and the fields are not those of a model that is.
    #[error("model type `{model_type}` is not understood yet, and it cannot be read as another one: {why}")]
    UnknownType {
        /// Its name.
        model_type: String,
        /// What stands in the way.
        why: String,
    },
    /// There is no `model_type`.
    #[error("the config has no `model_type`, so the architecture is not known; it usually reads \"llama\", \"qwen3\" or the like")]
    NoType,
    /// The sizes multiply to more than is possible.
    #[error("the sizes in this config multiply to more parameters than are possible")]
    Overflow,
}

impl From<crate::quantity::Overflow> for ConfigError {
    fn from(_: crate::quantity::Overflow) -> Self {
        Self::Overflow
    }
}

/// What the names of classes say that read images or sound.
const SENSES: &[&str] = &["Audio", "Llava", "MultiModal", "Omni", "VL", "Vision", "XComposer"];

/// The model types that are understood to the parameter.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    families().map(|family| family.model_type)
}

/// Reads the text of a config.json.
///
/// # Errors
/// [`ConfigError`] names the key that is missing or impossible.
///
/// ```
/// let config = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
///                  "num_hidden_layers": 32, "vocab_size": 32000}"#;
/// let anatomy = vramfit::config::read(config).unwrap();
/// assert_eq!(anatomy.parameters().unwrap().get(), 6_738_415_616);
/// ```
pub fn read(text: &str) -> Result<Anatomy, ConfigError> {
    read_with(text, None)
}

/// The same for a repository that describes its quantisation in a file of its own (`hf_quant_config.json`), which counts where
/// config.json is silent about it.
///
/// # Errors
/// [`ConfigError`] names the key that is missing or impossible; also when the other file is not JSON.
pub fn read_with(text: &str, quant_config: Option<&str>) -> Result<Anatomy, ConfigError> {
    let beside = quant_config.map(json::parse).transpose()?;
    let fields = Fields::new(json::parse(text)?)?;
    if let Some(class) = fields.optional_text("_class_name")?.filter(|_| !fields.has_any("model_type")) {
        return diffusers::alone(class, text);
    }
    let mut assumptions = Vec::new();
    let model_type = match fields.optional_text("model_type")? {
        Some(name) => name,
        None => {
            let (name, how) = more::infer::model_type(&fields)?.ok_or(ConfigError::NoType)?;
            assumptions.push(how);
            name.to_owned()
        }
    };
    let draft = match family_of(&model_type) {
        Some(family) => (family.read)(&fields)?,
        None => more::generic::read(&fields, &model_type)?,
    };
    // Wrappers leave both to the language model's config.
    let text = fields.nested(TEXT_CONFIGS)?;
    let with_dtype = text.as_ref().filter(|_| fields.raw("dtype").is_none()).unwrap_or(&fields);
    let dtype = with_dtype.optional_dtype("dtype")?;
    let quantization = quantization::object(&fields, text.as_ref(), beside.as_ref())?;
    let computation = computation::read(&fields, text.as_ref());
    let max_context = match (fields.optional_count("max_position_embeddings")?, &text) {
        (None, Some(text)) => text.optional_count("max_position_embeddings")?,
        (context, _) => context,
    };
    let components = draft.into_components(&fields, &mut assumptions)?;
    let rotary = rotary::read(&model_type, text.as_ref().unwrap_or(&fields), &components[0])?;
    let (keys_used, keys_not_understood) = fields.accounts();
    assumptions.extend(
        keys_not_understood
            .iter()
            .filter(|key| fields.describes_a_part(key))
            .map(|key| format!("`{key}` describes a part of the model that is not known here: its parameters are not counted")),
    );
    let guesses = fields.guesses();
    if let (Some(class), true) = (fields.architecture()?, assumptions.is_empty() && guesses.is_empty()) {
        let reads_text_only = components.iter().all(|component| component.kind == ComponentKind::TextDecoder);
        if reads_text_only && !class.contains("Text") && SENSES.iter().any(|part| class.contains(part)) {
            assumptions.push(format!(
                "architecture `{class}` reads more than text by its name, and its config says nothing of how: the language model only is counted"
            ));
        }
    }
    let is_guess = !guesses.is_empty();
    assumptions.splice(0..0, guesses);
    let mut anatomy =
        Anatomy { model_type, components, dtype, max_context, rotary, quantization: None, keys_used, keys_not_understood, assumptions, is_guess, computation };
    anatomy.parameters()?;
    anatomy.quantization = quantization.map(|object| quantization::read(&object, &mut anatomy));
    Ok(anatomy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str =
        r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#;

    fn with(key: &str, value: &str) -> Result<Anatomy, ConfigError> {
        read(&LLAMA.replacen('{', &format!("{{\"{key}\": {value}, "), 1))
    }

    #[test]
    fn a_class_that_sees_without_a_tower_is_said() {
        let anatomy = with("architectures", r#"["LlavaLlamaForCausalLM"]"#).unwrap();
        assert!(anatomy.assumptions.iter().any(|line| line.contains("`LlavaLlamaForCausalLM`")), "{:?}", anatomy.assumptions);
        assert!(with("architectures", r#"["LlamaForCausalLM"]"#).unwrap().assumptions.is_empty());
    }

    #[test]
    fn a_part_that_is_not_read_is_said() {
        let anatomy = with("ear_config", r#"{"hidden_size": 32, "num_layers": 2}"#).unwrap();
        assert!(anatomy.assumptions.iter().any(|line| line.contains("`ear_config`")), "{:?}", anatomy.assumptions);
        let anatomy = with("ear_config", r#"{"beam_width": 3}"#).unwrap();
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
    }

    #[test]
    fn errors_name_the_key() {
        for (key, value) in [
            ("num_key_value_heads", "0"),
            ("num_key_value_heads", "-8"),
            ("head_dim", "1.5"),
            ("head_dim", "\"x\""),
            ("num_key_value_heads", "1e30"),
            ("max_position_embeddings", "[]"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
        assert!(matches!(read(r#"{"model_type": "llama"}"#), Err(ConfigError::Missing { key: "hidden_size", .. })));
        assert_eq!(read(r#"{"hidden_size": 1}"#), Err(ConfigError::NoType));
        let error = read(r#"{"model_type": "hyperbrain"}"#).unwrap_err().to_string();
        assert!(error.contains("`hyperbrain`") && error.contains("`hidden_size`"), "{error}");
        assert_eq!(read("[1]"), Err(ConfigError::NotAnObject));
        assert!(matches!(read("{"), Err(ConfigError::NotJson(_))));
        assert_eq!(read(&LLAMA.replace("100}", "1099511627776, \"x\": 1}").replace("64,", "1099511627776,")), Err(ConfigError::Overflow));
    }

    #[test]
    fn an_unknown_type_with_llama_like_fields_is_a_marked_guess() {
        let guess = read(&LLAMA.replace("llama", "newmodel")).unwrap();
        assert!(guess.is_guess);
        assert!(guess.assumptions[0].contains("`newmodel`"));
        // Fields that say otherwise are another family's, or are said to be left out.
        let with_keys = |keys: &str| read(&LLAMA.replace("llama", "newmodel").replacen('{', &format!("{{{keys}, "), 1)).unwrap();
        let mixture = with_keys("\"n_routed_experts\": 4, \"moe_intermediate_size\": 32");
        assert_eq!(mixture.components[0].layers[0].layer.feed_forward.experts(), Some(4));
        let latent = with_keys("\"kv_lora_rank\": 16, \"n_routed_experts\": 4, \"moe_intermediate_size\": 32, \"first_k_dense_replace\": 0");
        assert_eq!(latent.components[0].layers[0].layer.mixer.cache_elements_per_token(), 16 + 64);
        // A latent without experts stays dense, and a hybrid's recurrent layers keep a state.
        let dense = with_keys("\"kv_lora_rank\": 16");
        assert_eq!((dense.components[0].layers[0].layer.feed_forward.experts(), dense.is_guess), (None, true));
        let hybrid = with_keys("\"layer_types\": [\"linear_attention\", \"full_attention\"], \"linear_num_value_heads\": 4, \"linear_num_key_heads\": 4");
        assert!(hybrid.is_guess && hybrid.components[0].layers[0].layer.mixer.recurrence().is_some(), "{:?}", hybrid.assumptions);
        let recurrent = with_keys("\"mamba_d_state\": 16");
        assert!(mixture.is_guess && latent.is_guess && recurrent.is_guess && recurrent.assumptions[0].contains("`mamba_d_state`"));
        // A name tells more than keys: the part of it that is a family's.
        let like_qwen = read(&LLAMA.replace("llama", "tiny_qwen2_variant")).unwrap();
        assert!(like_qwen.is_guess && like_qwen.assumptions[0].contains("`qwen2`"));
        assert!(read(r#"{"model_type": "newmodel", "hidden_size": 64}"#).is_err());
        // The language model of a known wrapper may be unknown too.
        let inner = LLAMA.replace("llama", "newmodel");
        let wrapper = read(&format!(r#"{{"model_type": "newvlm", "text_config": {inner}, "vision_config": {{"hidden_size": 32}}}}"#)).unwrap();
        assert!(wrapper.is_guess && wrapper.parameters() == guess.parameters() && wrapper.assumptions.iter().any(|how| how.contains("`newvlm`")));
        assert_eq!(guess.parameters(), read(LLAMA).unwrap().parameters());
    }

    #[test]
    fn bare_infinity_and_nan_are_read() {
        let anatomy = with("time_step_limit", "[0.0, Infinity]").unwrap();
        assert_eq!(anatomy.parameters(), read(LLAMA).unwrap().parameters());
        assert!(with("x", "NaN").is_ok() && with("x", "\"Infinity\"").is_ok());
    }

    #[test]
    fn mistral_slides_unless_it_says_null() {
        let span = |more: &str| {
            let anatomy = read(&LLAMA.replace("llama", "mistral").replacen('{', &format!("{{{more}"), 1)).unwrap();
            anatomy.components[0].layers[0].layer.mixer.span().unwrap()
        };
        assert_eq!(span(""), crate::model::Span::Sliding(4096));
        assert_eq!(span("\"sliding_window\": null, "), crate::model::Span::Full);
        assert_eq!(span("\"sliding_window\": 128, "), crate::model::Span::Sliding(128));
    }

    #[test]
    fn keys_are_accounted_for() {
        let anatomy = with("mystery_rank", "8").unwrap();
        assert_eq!(anatomy.keys_not_understood, ["mystery_rank"]);
        assert!(anatomy.keys_used.contains(&"hidden_size".to_owned()));
    }
}
