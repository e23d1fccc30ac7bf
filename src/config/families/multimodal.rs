//! Models around a language model: its nested config read by its own family, under the wrapper's names, head and tie.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::decoder::{Draft, Head, Tensors, Top, by_architecture, component};
use super::vision::{Tower, tower};
use super::{ConfigError, Fields, family_of};
use crate::model::{ComponentKind, Tensor};

pub(super) use crate::config::TEXT_CONFIGS;

/// How a wrapper holds its language model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrapper {
    /// `model_type` of the nested config when it names none.
    pub default_type: &'static str,
    /// How its tensors are named.
    pub names: Names,
    /// Whether there is a language-model head: by the wrapper's class name, or always.
    pub head: Head,
    /// Whose flag ties the head to the embedding.
    pub tie: Tie,
}

/// How a wrapper names its language model's tensors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names {
    /// All behind a prefix, the head included (`language_model` makes `language_model.model.layers`).
    Behind(&'static str),
    /// Its base renamed, the head left where it is (`model.language_model` makes `model.language_model.layers` and `lm_head`).
    Inside(&'static str),
}

/// Whose `tie_word_embeddings` counts, as the wrapper's class of transformers 5.23 reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// The wrapper's where its config has one, else the language model's, else that of its family.
    WrapperThenText,
    /// The wrapper's alone, with the default of its class (Idefics, GOT-OCR 2).
    Wrapper { default: bool },
    /// Tied when either says so (the `LLaVA` classes).
    Either,
    /// Tied unless both say that it is not.
    UnlessBothDeny,
    /// Never tied, whatever they say: the head has other rows than the embedding, or the class does not tie it.
    Never,
    /// The language model's alone (remote code that builds it from its own config).
    Text,
}

impl Wrapper {
    /// `language_model.`, head by class name, and the wrapper's tie before the text's: what most have.
    pub(super) const fn new(default_type: &'static str) -> Self {
        Self { default_type, names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::WrapperThenText }
    }
}

/// The draft of the language model in a wrapper's config `f`: towers and projectors are added to it.
pub(super) fn language(f: &Fields, wrapper: &Wrapper) -> Result<Draft, ConfigError> {
    language_in(f, &f.required_nested(TEXT_CONFIGS)?, wrapper)
}

/// The same for a language model whose config `text` stands elsewhere.
pub(super) fn language_in(f: &Fields, text: &Fields, wrapper: &Wrapper) -> Result<Draft, ConfigError> {
    let model_type = text.optional_text("model_type")?.unwrap_or_else(|| wrapper.default_type.to_owned());
    language_of(f, text, model_type, wrapper)
}

/// The same for a language model whose fields `text` holds under another name than its own.
pub(super) fn language_of(f: &Fields, text: &Fields, model_type: String, wrapper: &Wrapper) -> Result<Draft, ConfigError> {
    // A bare wrapper holds a bare language model.
    let is_bare = wrapper.head == Head::ByArchitecture && f.architecture()?.is_some_and(|class| class.ends_with("Model"));
    let text = &if is_bare { text.as_class("Model") } else { text.with_defaults(&[]) };
    let mut draft = match family_of(&model_type) {
        Some(family) => (family.read)(&text.with_defaults(&class_defaults(&model_type)))?,
        None => super::generic::read(text, &model_type)?,
    };
    text.touch("architectures");
    text.touch("torch_dtype");
    text.touch("dtype");

    let decoder = &mut draft.decoder;
    let of_wrapper = f.optional_flag("tie_word_embeddings")?;
    let said_by_text = text.optional_flag("tie_word_embeddings")?;
    let of_text = said_by_text.unwrap_or(decoder.tied_by_default);
    let tied = match wrapper.tie {
        Tie::WrapperThenText => of_wrapper.unwrap_or(of_text),
        Tie::Wrapper { default } => of_wrapper.unwrap_or(default),
        Tie::Either => of_wrapper.unwrap_or(false) || of_text,
        Tie::UnlessBothDeny => of_wrapper.unwrap_or(true) || said_by_text.unwrap_or(true),
        Tie::Never => false,
        Tie::Text => of_text,
    };
    // Where the wrapper is silent, releases of the class differ in whether they ask the language model's config or take their own habit.
    let habit = decoder.tied_by_default;
    let is_disputed = of_wrapper.is_none()
        && match wrapper.tie {
            Tie::WrapperThenText => habit && !of_text,
            Tie::Wrapper { default } => said_by_text.is_some_and(|said| said != default && said != habit),
            Tie::Either | Tie::UnlessBothDeny | Tie::Never | Tie::Text => false,
        };
    if is_disputed {
        let how = if tied { "as the embedding" } else { "apart from the embedding" };
        draft.assumptions.push(format!(
            "`tie_word_embeddings` stands in `{}` only, and releases of this model's class differ in whether that counts: the head is counted {how}",
            text.place()
        ));
    }
    let bias = matches!(decoder.head, Head::LanguageWithBias | Head::ByArchitectureWithBias);
    let top = match wrapper.head {
        Head::ByArchitecture | Head::ByArchitectureWithBias => by_architecture(f, &mut draft.assumptions)?,
        Head::Language | Head::LanguageWithBias => Top::Language,
        Head::Nothing => Top::Nothing,
    };
    let mut head = Tensors::default();
    if let Top::Score { module, labels, bias } = top {
        head.linear(module, decoder.shape.hidden, labels, bias);
    } else if matches!(top, Top::Language) && decoder.head != Head::Nothing {
        match (tied, bias) {
            (false, bias) => _ = head.linear(decoder.head_module, decoder.shape.hidden, decoder.shape.vocab, bias),
            // A tied head still has a bias of its own.
            (true, true) => _ = head.tensor(&format!("{}.bias", decoder.head_module), crate::model::Role::Head, &[decoder.shape.vocab]),
            (true, false) => {}
        }
    }
    decoder.head = Head::Nothing;
    decoder.tensors.extend(head.build());

    let base = decoder.base;
    let rename = |name: &str| wrapper.names.of(base, name);
    for tensor in &mut decoder.tensors {
        *tensor = Tensor { name: rename(&tensor.name), ..tensor.clone() };
    }
    decoder.layer_prefix = lasting(rename(decoder.layer_prefix));
    for component in &mut draft.others {
        component.layer_prefix = rename(&component.layer_prefix).into();
        for tensor in &mut component.tensors {
            tensor.name = rename(&tensor.name);
        }
    }
    decoder.base = match wrapper.names {
        Names::Behind(_) => "",
        Names::Inside(_) => "model",
    };
    Ok(draft)
}

impl Names {
    fn of(self, base: &str, name: &str) -> String {
        match self {
            Self::Behind(prefix) => format!("{prefix}.{name}"),
            Self::Inside(prefix) => match name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')) {
                Some(rest) if !base.is_empty() => format!("{prefix}.{rest}"),
                _ => name.to_owned(),
            },
        }
    }
}

/// The name for as long as the program runs. There are only as many as pairs of a wrapper's prefix and a family's.
pub(super) fn lasting(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str());
    names.insert(name);
    name
}

/// The sizes that a nested config may leave out.
const KEYS: [&str; 7] = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "sliding_window"];

/// Their defaults in the transformers 5.23 classes; 0: the class has none, or the family knows it.
const CLASS_DEFAULTS: &[(&str, [u64; 7])] = &[
    ("cohere", [256_000, 8192, 22_528, 40, 64, 0, 0]),
    ("cohere2", [256_000, 8192, 22_528, 40, 64, 0, 4096]),
    ("gemma", [256_000, 3072, 24_576, 28, 16, 16, 0]),
    ("gemma2", [256_000, 2304, 9216, 26, 8, 4, 4096]),
    ("gpt2", [50_257, 768, 0, 12, 12, 0, 0]),
    ("granite", [32_000, 4096, 11_008, 32, 32, 0, 0]),
    ("lfm2", [65_536, 2560, 12_288, 32, 32, 8, 0]),
    ("lfm2_moe", [65_536, 2048, 7168, 32, 32, 8, 0]),
    ("llama", [32_000, 4096, 11_008, 32, 32, 0, 0]),
    ("ministral3", [131_072, 4096, 14_336, 34, 32, 8, 0]),
    ("mistral", [32_000, 4096, 14_336, 32, 32, 8, 0]),
    ("mixtral", [32_000, 4096, 14_336, 32, 32, 8, 0]),
    ("opt", [50_272, 768, 3072, 12, 12, 0, 0]),
    ("phi", [51_200, 2048, 8192, 24, 32, 0, 0]),
    ("phi3", [32_064, 3072, 8192, 32, 32, 0, 0]),
    ("qwen2", [151_936, 4096, 22_016, 32, 32, 32, 4096]),
    ("qwen3", [151_936, 4096, 22_016, 32, 32, 32, 4096]),
    ("qwen3_moe", [151_936, 2048, 6144, 24, 32, 4, 4096]),
    ("smollm3", [128_256, 2048, 11_008, 36, 16, 4, 0]),
];

/// The defaults of a nested config's class.
fn class_defaults(model_type: &str) -> Vec<(&'static str, u64)> {
    let known = CLASS_DEFAULTS.iter().find(|(name, _)| *name == model_type);
    known.map_or_else(Vec::new, |(_, values)| KEYS.into_iter().zip(*values).filter(|(_, value)| *value > 0).collect())
}

/// The vision tower of a wrapper's config; `default_type` is its `model_type` when the config names none.
pub(super) fn vision(f: &Fields, default_type: &str) -> Result<Tower, ConfigError> {
    tower(&f.required_nested(&["vision_config"])?, default_type)
}

/// How many of the tower's layers are laid side by side: `vision_feature_layer` is one number or a list.
pub(super) fn feature_layers(f: &Fields, default: u64) -> Result<u64, ConfigError> {
    match f.raw("vision_feature_layer") {
        None => Ok(default),
        Some(serde_json::Value::Array(list)) if list.is_empty() => Err(f.impossible("vision_feature_layer", "it must name a layer")),
        Some(serde_json::Value::Array(list)) => Ok(list.len() as u64),
        Some(_) => Ok(1),
    }
}

/// A square of a small factor: how many patches a projector puts side by side.
pub(super) fn squared(f: &Fields, key: &'static str, default: u64) -> Result<u64, ConfigError> {
    let factor = f.count_or(key, default)?;
    if factor > 1024 {
        return Err(f.impossible(key, "it must be at most 1024"));
    }
    Ok(factor * factor)
}

/// A wrapper's language model with its tower and the projector between them, which writes this wide.
pub(super) fn with_projector(draft: Draft, tower: Tower, width: u64, projector: Vec<Tensor>) -> Draft {
    draft.with(tower.component("vision", ComponentKind::VisionTower)).with(component("projector", ComponentKind::Projector, width, "", projector, Vec::new()))
}
