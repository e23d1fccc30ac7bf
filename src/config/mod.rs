//! `config.json` to [`Anatomy`]: one small file per family over a shared vocabulary of blocks.
//!
//! To add a family: write `config/families/NAME.rs` with a function `fn(&Fields) -> Result<Draft, ConfigError>` that names its
//! blocks ([`decoder`]), and add its row to [`families::FAMILIES`](families).

mod computation;
mod decoder;
pub mod diffusers;
mod families;
mod fields;
mod foreign;
mod ignored;
pub mod json;
pub mod manual;
mod quantization;
mod rotary;

use crate::model::{Anatomy, ComponentKind};
use decoder::Draft;
use families::FAMILIES;
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

/// The reader of a model type, if it is understood to the parameter.
fn family_of(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.model_type == model_type)
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
        /// The key, with the path to it.
        key: String,
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
    FAMILIES.iter().map(|family| family.model_type)
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
    read_fields(&fields, text, beside.as_ref()).map_err(|error| match (error, fields.largest()) {
        (ConfigError::Overflow, Some((key, number))) => ConfigError::Impossible { key, value: number.to_string(), why: TOO_MANY },
        (error, _) => error,
    })
}

/// What is said of the largest size where no one size is impossible.
const TOO_MANY: &str = "the sizes in this config multiply to more parameters than are possible, and this is the largest of them";

/// `max_position_embeddings` where published configs leave it to the class (transformers 5.23).
const LEFT_OUT: &[(&str, u64)] = &[("gemma", 8192), ("gemma2", 8192), ("gemma3", 131_072), ("gemma3_text", 131_072), ("gemma3n_text", 32_768)];

fn left_out(model_type: &str) -> Option<u64> {
    LEFT_OUT.iter().find(|(name, _)| *name == model_type).map(|(_, positions)| *positions)
}

fn read_fields(fields: &Fields, text: &str, beside: Option<&serde_json::Value>) -> Result<Anatomy, ConfigError> {
    if let Some(class) = fields.optional_text("_class_name")?.filter(|_| !fields.has_any("model_type")) {
        return diffusers::alone(class, text);
    }
    let mut assumptions = Vec::new();
    let model_type = match fields.optional_text("model_type")? {
        Some(name) => name,
        None => {
            let (name, how) = families::infer::model_type(fields)?.ok_or(ConfigError::NoType)?;
            assumptions.push(how);
            name.to_owned()
        }
    };
    let draft = match family_of(&model_type) {
        Some(family) => families::text_only::read(fields, family)?,
        None => families::generic::read(fields, &model_type)?,
    };
    // Wrappers leave both to the language model's config.
    let text = fields.nested(TEXT_CONFIGS)?;
    let with_dtype = text.as_ref().filter(|_| fields.raw("dtype").is_none()).unwrap_or(fields);
    let dtype = with_dtype.optional_dtype("dtype")?;
    let quantization = quantization::object(fields, text.as_ref(), beside)?;
    let computation = computation::read(fields, text.as_ref());
    let max_context = match (fields.optional_count("max_position_embeddings")?, &text) {
        (None, Some(text)) => text.optional_count("max_position_embeddings")?,
        (context, _) => context,
    };
    let of_family = draft.rotary;
    let components = draft.into_components(fields, &mut assumptions)?;
    let of_text = text.as_ref().unwrap_or(fields);
    let max_context = max_context.or(left_out(of_text.optional_text("model_type")?.as_deref().unwrap_or(&model_type)));
    let rotary = rotary::read((&model_type, of_family), of_text, max_context, &components[0])?;
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
        let is_told_by = |name: &str| SENSES.iter().any(|part| name.contains(part));
        // A reader of a type that says so itself has counted what hears or sees among its own tensors.
        let is_said = SENSES.iter().any(|part| model_type.contains(&part.to_lowercase()));
        if reads_text_only && !is_said && !class.contains("Text") && is_told_by(&class) {
            assumptions.push(format!(
                "architecture `{class}` reads more than text by its name, and its config says nothing of how: the language model only is counted"
            ));
        }
    }
    let is_guess = !guesses.is_empty();
    // One line about a class is enough.
    let quoted = fields.architecture()?.map(|class| format!("`{class}`"));
    let told = quoted.and_then(|class| assumptions.iter_mut().find(|line| line.contains(&class)));
    match told {
        _ if is_guess => {}
        Some(line) => line.push_str(&foreign::left_out(fields)),
        None => assumptions.extend(foreign::assumption(fields, &model_type)?),
    }
    let unknown = fields.unknown_parts();
    let is_said = |key: &String| assumptions.iter().any(|line| line.contains(key.as_str()));
    if !is_guess && components[0].kind == ComponentKind::TextDecoder && !unknown.iter().all(is_said) {
        assumptions.push(format!("layers of this family are not known to have what these keys say, so it is not counted: {}", unknown.join(", ")));
    }
    assumptions.extend(fields.left_to_class());
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
    fn a_class_for_something_is_no_bare_model() {
        let said = |class: &str| with("architectures", &format!(r#"["{class}"]"#)).unwrap().assumptions;
        assert!(said("LlamaModel").is_empty() && said("LlamaForCausalLM").is_empty());
        let lines = said("LlamaForGuardModel");
        assert!(lines.len() == 1 && lines[0].contains("`LlamaForGuardModel`"), "{lines:?}");
    }

    #[test]
    fn reward_models_give_scores() {
        let bare = with("architectures", r#"["LlamaModel"]"#).unwrap().parameters().unwrap().get();
        let more = |class: &str, keys: &str| {
            let anatomy = with("architectures", &format!(r#"["{class}"], {keys} "x": 1"#)).unwrap();
            (anatomy.parameters().unwrap().get() - bare, anatomy.assumptions)
        };
        // UltraRM has one score, PKU's classes as many as `score_dim` says.
        assert_eq!(more("LlamaForRewardModel", ""), (64, vec![]));
        assert_eq!(more("LlamaModelForScore", r#""score_dim": 3, "bias": true,"#), (3 * 64 + 3, vec![]));
        // ArmoRM's network above the scores: a matrix in, two between, one out.
        let gated = r#""num_objectives": 19, "gating_hidden_dim": 1024, "gating_n_hidden": 3, "gating_temperature": 10,"#;
        let network = (64 * 1024 + 1024) + 2 * (1024 * 1024 + 1024) + (1024 * 19 + 19);
        assert_eq!(more("LlamaForRewardModelWithGating", gated), (19 * 64 + 19 * 19 + 1 + network, vec![]));
        // Another's is left out, and its sizes are named.
        let (scores, lines) = more("LlamaForRewardModelWithJury", r#""num_objectives": 19, "jury_hidden_dim": 1024,"#);
        assert_eq!(scores, 19 * 64);
        assert!(lines.len() == 1 && lines[0].contains("scores") && lines[0].ends_with("not counted: `jury_hidden_dim`"), "{lines:?}");
    }

    #[test]
    fn a_part_that_is_not_read_is_said() {
        let anatomy = with("ear_config", r#"{"hidden_size": 32, "num_layers": 2}"#).unwrap();
        assert!(anatomy.assumptions.iter().any(|line| line.contains("`ear_config`")), "{:?}", anatomy.assumptions);
        let anatomy = with("ear_config", r#"{"beam_width": 3}"#).unwrap();
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
    }

    #[test]
    fn what_is_left_to_the_class_is_said() {
        let said = |config: &str| {
            let lines = read(config).unwrap().assumptions;
            lines.into_iter().filter_map(|line| line.split_once("class's own sizes are counted: ").map(|(_, what)| what.to_owned())).collect::<Vec<_>>()
        };
        assert!(said(LLAMA).is_empty());
        // Whole parts by their names, without their sizes.
        let janus = r#"{"model_type": "janus", "architectures": ["JanusForConditionalGeneration"], "text_config": {"model_type": "llama"}, "vq_config": null}"#;
        let lines = said(janus);
        assert!(lines.len() == 1 && lines[0].starts_with("`vision_config`, `vq_config`; in `text_config`: `hidden_size` (4096)"), "{lines:?}");
        assert!(!lines[0].contains("vision_config."), "{lines:?}");
        // A part that is not counted is not said to be.
        let text =
            r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#;
        let copy = format!(r#"{{"model_type": "janus", "architectures": ["JanusForConditionalGeneration"], "text_config": {text}}}"#);
        assert!(said(&copy).iter().all(|line| !line.contains("vision_config")), "{:?}", said(&copy));
        assert!(read(&copy).unwrap().assumptions.iter().any(|line| line.contains("`vision_config` is not there")));
        // Sizes of a mixture, and what follows from other keys.
        let mixture = LLAMA.replace("llama", "gpt_oss").replace(r#""num_attention_heads": 4"#, r#""num_attention_heads": 8"#);
        assert_eq!(said(&mixture), ["`head_dim` (64), `num_experts` (128), `num_experts_per_tok` (4), `num_key_value_heads` (8)"]);
        assert!(said(&LLAMA.replace("llama", "gpt2").replacen('{', r#"{"n_positions": 64, "#, 1)).is_empty());
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
        assert!(matches!(read(r#"{"model_type": "llama"}"#), Err(ConfigError::Missing { key, .. }) if key == "hidden_size"));
        assert_eq!(read(r#"{"hidden_size": 1}"#), Err(ConfigError::NoType));
        let error = read(r#"{"model_type": "hyperbrain"}"#).unwrap_err().to_string();
        assert!(error.contains("`hyperbrain`") && error.contains("`hidden_size`"), "{error}");
        assert_eq!(read("[1]"), Err(ConfigError::NotAnObject));
        assert!(matches!(read("{"), Err(ConfigError::NotJson(_))));
        let error = read(&LLAMA.replace("100}", "1099511627776, \"x\": 1}").replace("64,", "1099511627776,")).unwrap_err().to_string();
        assert!(error.contains("`hidden_size` is 1099511627776: the sizes"), "{error}");
        let error = read(r#"{"model_type": "bit", "width_factor": 1000000}"#).unwrap_err().to_string();
        assert!(error.contains("`width_factor` is 1000000: the sizes"), "{error}");
        // A key of a nested config with its path, and the type of the whole; a key that is not there is not printed as if it were.
        let error = read(r#"{"model_type": "minicpmv4_6"}"#).unwrap_err().to_string();
        assert!(error.contains("`text_config.") && error.contains("this minicpmv4_6 model"), "{error}");
        let error = read(r#"{"model_type": "parakeet_encoder", "subsampling_factor": 256}"#).unwrap_err().to_string();
        assert!(error.contains("`subsampling_factor` is 256:"), "{error}");
        let error = read(r#"{"model_type": "vitpose_backbone", "num_experts": 6, "hidden_size": 192}"#).unwrap_err().to_string();
        assert!(error.contains("`hidden_size` is 192:"), "{error}");
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
    fn null_is_no_where_a_class_says_yes() {
        let fields = Fields::new(serde_json::json!({"biased": null})).unwrap();
        assert_eq!((fields.flag("biased", true), fields.flag("gated", true)), (Ok(false), Ok(true)));
        // As transformers counts it: queries, keys and values of DPT lose their biases.
        let dpt = |bias: &str| read(&format!(r#"{{"model_type": "dpt", "architectures": ["DPTModel"], "qkv_bias": {bias}}}"#)).unwrap().parameters();
        assert!(dpt("null") == dpt("false") && dpt("null") != dpt("true"));
    }

    #[test]
    fn what_is_said_to_be_the_class_s_own_is_what_counts() {
        let said = |config: &str| read(config).unwrap().assumptions.join("; ");
        assert!(said(r#"{"model_type": "led"}"#).contains("`max_encoder_position_embeddings` (16384)"));
        let udop = said(r#"{"model_type": "udop"}"#);
        assert!(udop.contains("`num_layers` (24)") && udop.contains("`d_model` (1024)") && !udop.contains("num_hidden_layers"), "{udop}");
    }

    #[test]
    fn parts_that_a_family_is_not_known_to_have_are_said() {
        let said = |key: &str, value: &str| with(key, value).unwrap().assumptions;
        let lines = said("num_experts", "8");
        assert!(lines.len() == 1 && lines[0].contains("`num_experts`"), "{lines:?}");
        let dense = read(&LLAMA.replacen('{', r#"{"num_experts": 0, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "#, 1)).unwrap();
        assert!(dense.assumptions.is_empty(), "{:?}", dense.assumptions);
        for (key, value) in [("num_experts", "0"), ("num_experts", "1"), ("num_experts", "null"), ("moe_router", "\"none\""), ("mystery_rank", "8")] {
            assert!(said(key, value).is_empty(), "{key}");
        }
        // One flag of openPangu's for four biases (`PanguEmbeddedForCausalLM` as printed by its own code).
        let pangu = |bias: &str| read(&LLAMA.replace("llama", "PanguEmbedded").replacen('{', &format!("{{\"bias\": {bias}, "), 1)).unwrap();
        let biases = pangu("true").parameters().unwrap().get() - pangu("false").parameters().unwrap().get();
        assert_eq!((biases, pangu("true").assumptions.len()), (2 * 4 * 64, 0));
        // XVERSE has experts of its own.
        let mixture = LLAMA.replace("llama", "xverse").replacen('{', r#"{"num_experts": 8, "moe_top_k": 2, "num_shared_experts": 2, "#, 1);
        let (experts, dense) = (read(&mixture).unwrap(), read(&LLAMA.replace("llama", "xverse")).unwrap());
        assert!(experts.assumptions.is_empty(), "{:?}", experts.assumptions);
        let more = experts.parameters().unwrap().get() - dense.parameters().unwrap().get();
        assert_eq!(more, 2 * ((8 + 2 - 1) * 3 * 64 * 128 + 8 * 64));
    }

    #[test]
    fn keys_are_accounted_for() {
        let anatomy = with("mystery_rank", "8").unwrap();
        assert_eq!(anatomy.keys_not_understood, ["mystery_rank"]);
        assert!(anatomy.keys_used.contains(&"hidden_size".to_owned()));
    }
}
