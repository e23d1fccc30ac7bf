//! sentence-transformers: `modules.json` names what follows on a model's hidden states: pooling, dense layers, norms.
//!
//! Read from sentence-transformers 5.1 (`SentenceTransformer._load_sbert_model`, `models/Dense.py`, `models/Pooling.py`).

use serde_json::{Value, json as value};

use super::parts::{Part, together};
use super::{Content, RepositoryError, Shelf, within};
use crate::checkpoint::quotable;
use crate::config::{self, ConfigError, json};
use crate::model::{Anatomy, Component, ComponentKind, Role, Tensor, Work};

/// Where the modules are named.
pub(super) const MODULES: &str = "modules.json";

/// Classes that wrap a model of transformers.
const MODELS: &[&str] = &["Transformer", "CLIPModel", "MLMTransformer"];
/// The one of them that loads the head too (`AutoModelForMaskedLM`); the others are `AutoModel`.
const WITH_HEAD: &str = "MLMTransformer";
/// Of these families the encoder alone is loaded (`Transformer._load_t5_model`, `_load_mt5_model`).
const ENCODERS: &[(&str, &str)] = &[("t5", "T5EncoderModel"), ("mt5", "MT5EncoderModel")];
/// Classes that have no weights.
const WITHOUT_WEIGHTS: &[&str] = &["Pooling", "Normalize", "Dropout", "SpladePooling"];

pub(super) async fn read<S: Shelf>(shelf: &S, folder: &str) -> Result<Content, S::Error> {
    let path = within(folder, MODULES);
    let modules = modules(&shelf.text(&path).await?, &path)?;
    let (mut parts, mut notes, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (class, subfolder) in &modules {
        let here = within(folder, subfolder);
        names.push(class.as_str());
        if WITHOUT_WEIGHTS.contains(&class.as_str()) {
            continue;
        }
        let config = within(&here, "config.json");
        let mut writer = None;
        let anatomy = if MODELS.contains(&class.as_str()) {
            let text = shelf.text(&config).await?;
            let named = config::read(&text).map_err(RepositoryError::config(&config))?;
            let mut anatomy = if class == WITH_HEAD {
                named
            } else {
                writer = Some(named);
                bare(&text).map_err(RepositoryError::config(&config))?
            };
            limit_context(shelf, &here, &mut anatomy).await?;
            anatomy
        } else if let Some((_, shapes)) = SIMPLE.iter().find(|(name, _)| name == class) {
            let value = json::parse(&shelf.text(&config).await?).map_err(RepositoryError::config(&config))?;
            simple(class, subfolder, shapes(&value).ok_or_else(|| RepositoryError::key(&config, "in_features, out_features or dimension"))?)?
        } else {
            notes.push(format!("the module `{}` of class {} is not understood: weights that it has are not counted", quotable(subfolder), quotable(class)));
            continue;
        };
        parts.push(Part { writer, ..Part::new(shelf.names(), here, anatomy, true) });
    }
    if parts.is_empty() {
        return Err(RepositoryError::key(&path, "Transformer").into());
    }
    let model_type = parts[0].anatomy.model_type.clone();
    notes.push(format!("sentence-transformers runs these modules one after the other: {}", names.join(", ")));
    together(shelf, model_type, parts, notes).await
}

/// The last name of each module's class, and its folder.
fn modules(text: &str, path: &str) -> Result<Vec<(String, String)>, RepositoryError> {
    let list = json::parse(text).map_err(RepositoryError::config(path))?;
    let module = |entry: &Value| {
        let class = entry.get("type")?.as_str()?;
        let folder = entry.get("path")?.as_str()?;
        Some((class.rsplit('.').next().unwrap_or(class).to_owned(), folder.trim_matches('/').to_owned()))
    };
    let modules = list.as_array().and_then(|list| list.iter().map(module).collect::<Option<Vec<_>>>());
    modules.ok_or_else(|| RepositoryError::key(path, "type or path"))
}

/// Reads a config as `AutoModel` does: the family's bare model, whatever class `architectures` names.
fn bare(text: &str) -> Result<Anatomy, ConfigError> {
    const CLASS: &str = "architectures";
    let mut config = json::parse(text)?;
    let named = config.get(CLASS).and_then(|classes| classes.get(0)).and_then(Value::as_str).map(str::to_owned);
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let class = match ENCODERS.iter().find(|(name, _)| *name == model_type) {
        Some((_, class)) => (*class).to_owned(),
        None => bare_class(named.as_deref().unwrap_or_default()),
    };
    if let Some(object) = config.as_object_mut() {
        object.insert(CLASS.to_owned(), value!([class]));
    }
    let mut anatomy = config::read(&config.to_string())?;
    if named.is_none() {
        anatomy.keys_used.retain(|key| key != CLASS);
    }
    // Some families have their head whatever the class is called. Where a config describes a quantisation, that counts tensors, and
    // they stay.
    if anatomy.quantization.is_none() {
        for component in &mut anatomy.components {
            component.tensors.retain(|tensor| tensor.role != Role::Head);
        }
    }
    Ok(anatomy)
}

/// The bare class of a family, by the name of one with a head: `RobertaModel` of `RobertaForMaskedLM`.
fn bare_class(class: &str) -> String {
    let headed = ["WithLMHeadModel", "LMHeadModel"].iter().find_map(|ending| class.strip_suffix(ending));
    let task = || class.rsplit_once("For").filter(|(_, task)| task.starts_with(|first: char| first.is_ascii_uppercase())).map(|(family, _)| family);
    match headed.or_else(task) {
        Some(family) => format!("{family}Model"),
        None if class.ends_with("Model") => class.to_owned(),
        None => "Model".to_owned(),
    }
}

/// `max_seq_length` of the wrapper cuts texts off before the model's own limit does.
async fn limit_context<S: Shelf>(shelf: &S, folder: &str, anatomy: &mut Anatomy) -> Result<(), S::Error> {
    const WRAPPER: &str = "sentence_bert_config.json";
    let path = within(folder, WRAPPER);
    if !shelf.names().contains(&path) {
        return Ok(());
    }
    let wrapper = json::parse(&shelf.text(&path).await?).map_err(RepositoryError::config(&path))?;
    if let Some(limit) = size(&wrapper, "max_seq_length") {
        anatomy.max_context = Some(limit);
        anatomy.keys_used.push(format!("{WRAPPER}: max_seq_length"));
    }
    Ok(())
}

type Shapes = Vec<(&'static str, Vec<u64>)>;

type Reader = fn(&Value) -> Option<Shapes>;

/// Classes of a few tensors, by their configs.
const SIMPLE: &[(&str, Reader)] = &[("Dense", dense), ("LayerNorm", layer_norm)];

fn dense(config: &Value) -> Option<Shapes> {
    let (inputs, outputs) = (size(config, "in_features")?, size(config, "out_features")?);
    let has_bias = config.get("bias").and_then(Value::as_bool).unwrap_or(true);
    let bias = has_bias.then(|| ("linear.bias", vec![outputs]));
    Some([("linear.weight", vec![outputs, inputs])].into_iter().chain(bias).collect())
}

fn layer_norm(config: &Value) -> Option<Shapes> {
    let width = size(config, "dimension")?;
    Some(vec![("norm.weight", vec![width]), ("norm.bias", vec![width])])
}

fn size(config: &Value, key: &str) -> Option<u64> {
    config.get(key).and_then(Value::as_u64).filter(|size| (1..1 << 40).contains(size))
}

/// A module of a few tensors.
fn simple(class: &str, folder: &str, shapes: Shapes) -> Result<Anatomy, RepositoryError> {
    let hidden_size = shapes[0].1[0];
    let tensor = |(name, shape): (&str, Vec<u64>)| Tensor { role: Role::Other, name: name.to_owned(), shape, count: 1, stored: None };
    let component = Component {
        name: folder.to_owned().into(),
        kind: ComponentKind::Projector,
        hidden_size,
        vocab_size: 0,
        base: "".into(),
        layer_prefix: "".into(),
        tensors: shapes.into_iter().map(tensor).collect(),
        layers: Vec::new(),
        work: Work::Tokens,
    };
    component.parameters()?;
    Ok(Anatomy::of(class.to_owned(), vec![component]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_the_bare_class_of_their_config() {
        const SIZES: &str = r#""vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
            "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "num_key_value_heads": 2, "head_dim": 4, "tie_word_embeddings": false,
            "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 32"#;
        let config = |model_type: &str, class: &str| format!(r#"{{"model_type": "{model_type}", "architectures": ["{class}"], {SIZES}}}"#);
        for (model_type, headed, plain) in [
            ("bert", "BertForMaskedLM", "BertModel"),
            ("bert", "BertForPreTraining", "BertModel"),
            ("roberta", "RobertaForMaskedLM", "RobertaModel"),
            ("mpnet", "MPNetForMaskedLM", "MPNetModel"),
            ("distilbert", "DistilBertForMaskedLM", "DistilBertModel"),
            ("xlnet", "XLNetLMHeadModel", "XLNetModel"),
            ("flaubert", "FlaubertWithLMHeadModel", "FlaubertModel"),
            ("roformer", "RoFormerForMaskedLM", "RoFormerModel"),
            ("qwen3", "Qwen3ForCausalLM", "Qwen3Model"),
            ("t5", "T5ForConditionalGeneration", "T5EncoderModel"),
            ("t5", "T5Model", "T5EncoderModel"),
        ] {
            let read = |class: &str| config::read(&config(model_type, class)).unwrap().components;
            assert_eq!(bare(&config(model_type, headed)).unwrap().components, read(plain), "{headed}");
            assert_eq!(bare(&config(model_type, plain)).unwrap().components, read(plain), "{plain}");
            assert_ne!(read(headed), read(plain), "{headed}");
        }
        // Without a name of a class it is the bare one too, and no key is said to be read that is not there.
        let nameless = bare(&config("roberta", "").replace(r#""architectures": [""],"#, "")).unwrap();
        assert_eq!(nameless.components, bare(&config("roberta", "RobertaForMaskedLM")).unwrap().components);
        assert!(nameless.assumptions.is_empty() && !nameless.keys_used.contains(&"architectures".to_owned()), "{nameless:?}");
    }
}
