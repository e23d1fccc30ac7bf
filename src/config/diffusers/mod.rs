//! Diffusion pipelines of the diffusers library: `model_index.json` names the parts, each part has a config of its own.
//!
//! Shapes are those of the classes of diffusers 0.42.1; what a class holds at once in a step was measured by the lifetimes of its
//! tensors. To add a class: write its lines ([`blueprint`]) and add its row to [`CLASSES`].

mod blueprint;
mod joint;
mod safety;
mod single;
mod unet;
mod vae;

use serde_json::Value;

use super::decoder::component;
use super::{ConfigError, Fields, json, quantization};
use crate::model::{Anatomy, Attention, ComponentKind, Denoising, FeedForward, Keeps, Layer, Mixer, Span, Tensor, Work};

/// A part of a pipeline as `model_index.json` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, which is its folder's too: `text_encoder_2`.
    pub name: String,
    /// Its class: `T5EncoderModel`.
    pub class: String,
}

/// What the reader of a class gives.
struct Draft {
    kind: ComponentKind,
    hidden: u64,
    tensors: Vec<Tensor>,
    layers: Vec<(Layer, Vec<Tensor>)>,
    work: Work,
}

type Reader = fn(&Fields) -> Result<Draft, ConfigError>;

/// The classes of diffusers that are understood to the parameter.
static CLASSES: &[(&str, Reader)] = &[
    ("AuraFlowTransformer2DModel", joint::aura_flow),
    ("AutoencoderKL", vae::kl),
    ("AutoencoderKLCogVideoX", vae::cogvideox),
    ("AutoencoderKLFlux2", vae::flux2),
    ("AutoencoderKLHunyuanVideo", vae::hunyuan_video),
    ("AutoencoderKLQwenImage", vae::wan),
    ("AutoencoderKLWan", vae::wan),
    ("ChromaTransformer2DModel", joint::chroma),
    ("CogVideoXTransformer3DModel", single::cogvideox),
    ("CogView4Transformer2DModel", single::cogview4),
    ("Flux2Transformer2DModel", joint::flux2),
    ("FluxTransformer2DModel", joint::flux),
    ("HunyuanDiT2DModel", single::hunyuan_dit),
    ("HunyuanVideoTransformer3DModel", joint::hunyuan_video),
    ("LTXVideoTransformer3DModel", single::ltx),
    ("Lumina2Transformer2DModel", single::lumina2),
    ("MochiTransformer3DModel", joint::mochi),
    ("PixArtTransformer2DModel", single::pixart),
    ("QwenImageTransformer2DModel", joint::qwen_image),
    ("SD3Transformer2DModel", joint::sd3),
    ("SanaTransformer2DModel", single::sana),
    ("StableDiffusionSafetyChecker", safety::checker),
    ("UNet2DConditionModel", unet::read),
    ("WanTransformer3DModel", single::wan),
    ("ZImageTransformer2DModel", single::z_image),
];

/// How the names of classes without weights end.
const WITHOUT_WEIGHTS: &[&str] = &["Scheduler", "Tokenizer", "TokenizerFast", "Tokenizer2", "ImageProcessor", "FeatureExtractor", "Processor"];

/// A `model_index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The pipeline's class: `FluxPipeline`.
    pub class: String,
    /// The parts that have weights, in the file's order.
    pub parts: Vec<Part>,
}

/// The parts of a pipeline that have weights.
///
/// # Errors
/// [`ConfigError`] when the text is not a `model_index.json`.
pub fn index(text: &str) -> Result<Index, ConfigError> {
    let Value::Object(index) = json::parse(text)? else { return Err(ConfigError::NotAnObject) };
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("diffusers").to_owned();
    let mut parts = Vec::new();
    for (name, value) in &index {
        // Entries are [library, class]; null where the pipeline does without.
        let Some([_, Value::String(class)]) = value.as_array().map(Vec::as_slice) else { continue };
        if !WITHOUT_WEIGHTS.iter().any(|end| class.ends_with(end)) {
            parts.push(Part { name: name.clone(), class: class.clone() });
        }
    }
    if parts.is_empty() {
        return Err(ConfigError::UnknownType { model_type: class, why: "its model_index.json names no part that has weights".to_owned() });
    }
    Ok(Index { class, parts })
}

/// Whether a class is one of diffusers that is understood here. Names of its tensors are not always those of its files.
pub fn is_own_class(class: &str) -> bool {
    CLASSES.iter().any(|(name, _)| *name == class)
}

/// Reads one part: the text of its config.json.
///
/// # Errors
/// [`ConfigError`] names the class that is not understood, or the key that is missing or impossible.
pub fn part(part: &Part, text: &str) -> Result<Anatomy, ConfigError> {
    let Some((_, read)) = CLASSES.iter().find(|(class, _)| *class == part.class) else { return encoder(part, text) };
    let fields = Fields::new(json::parse(text)?)?;
    let draft = read(&fields)?;
    let quantization = quantization::object(&fields, None, None)?;
    let mut made = component(part.name.clone(), draft.kind, draft.hidden, "layers", draft.tensors, draft.layers);
    made.work = draft.work;
    made.base = "".into();
    let (keys_used, keys_not_understood) = named(part, fields.accounts());
    let assumptions = fields.left_to_class().into_iter().map(|sentence| format!("{}: {sentence}", part.name)).collect();
    let mut anatomy = Anatomy { keys_used, keys_not_understood, assumptions, ..Anatomy::of(part.class.clone(), vec![made]) };
    anatomy.parameters()?;
    anatomy.quantization = quantization.map(|object| quantization::read(&object, &mut anatomy));
    Ok(anatomy)
}

/// A part whose config.json stands alone and names its class itself.
pub(super) fn alone(class: String, text: &str) -> Result<Anatomy, ConfigError> {
    if is_own_class(&class) {
        return part(&Part { name: "model".to_owned(), class }, text);
    }
    let why = if class.ends_with("Pipeline") {
        "this is a pipeline's model_index.json: its parts have configs of their own; give the pipeline's name on the Hub, or its folder"
    } else {
        "it is a class of diffusers that is not known here"
    };
    Err(ConfigError::UnknownType { model_type: class, why: why.to_owned() })
}

/// A part that is a model of transformers: a text encoder, a language model whose hidden states are used, an image encoder.
fn encoder(part: &Part, text: &str) -> Result<Anatomy, ConfigError> {
    let Value::Object(mut config) = json::parse(text)? else { return Err(ConfigError::NotAnObject) };
    if !config.contains_key("model_type") {
        let why = format!("it is the part `{}` of a pipeline, and its class is not known here", part.name);
        return Err(ConfigError::UnknownType { model_type: part.class.clone(), why });
    }
    // The pipeline says which class is loaded, whatever the config was saved from.
    config.insert("architectures".to_owned(), Value::from(vec![part.class.clone()]));
    let mut anatomy = super::read(&Value::Object(config).to_string())?;
    let (keys_used, keys_not_understood) = named(part, (anatomy.keys_used, anatomy.keys_not_understood));
    let assumptions = anatomy.assumptions.into_iter().map(|sentence| format!("{}: {sentence}", part.name)).collect();
    let reads_images = part.name.starts_with("image_encoder");
    for (number, component) in anatomy.components.iter_mut().enumerate() {
        component.name = if number == 0 { part.name.clone() } else { format!("{}.{}", part.name, component.name) }.into();
        component.kind = match component.kind {
            ComponentKind::TextDecoder if reads_images => ComponentKind::VisionTower,
            ComponentKind::TextDecoder => ComponentKind::TextEncoder,
            kind => kind,
        };
    }
    Ok(Anatomy { max_context: None, rotary: None, keys_used, keys_not_understood, assumptions, ..anatomy })
}

/// Keys behind the name of their part.
fn named(part: &Part, (used, left): (Vec<String>, Vec<String>)) -> (Vec<String>, Vec<String>) {
    let named = |key: String| format!("{}.{key}", part.name);
    (used.into_iter().map(named).collect(), left.into_iter().filter(|key| !key.starts_with('_')).map(named).collect())
}

/// The sizes of a diffusion transformer's blocks.
#[derive(Clone, Copy)]
struct Dit {
    heads: u64,
    head_dim: u64,
    inner: u64,
    gated: bool,
}

impl Dit {
    /// A transformer whose feed-forward is four times as wide as it is, without a gate.
    fn read(f: &Fields) -> Result<Self, ConfigError> {
        let (heads, head_dim) = (f.count("num_attention_heads")?, f.count("attention_head_dim")?);
        Self::checked(f, heads, head_dim)
    }

    fn checked(f: &Fields, heads: u64, head_dim: u64) -> Result<Self, ConfigError> {
        if heads.saturating_mul(head_dim) > 1 << 40 {
            return Err(f.impossible("num_attention_heads", "its product with the size of a head is past any model"));
        }
        Ok(Self { heads, head_dim, inner: 4 * heads * head_dim, gated: false })
    }

    const fn hidden(&self) -> u64 {
        self.heads * self.head_dim
    }

    fn layer(&self) -> Layer {
        let Self { heads, head_dim, inner, gated } = *self;
        let attention = Attention { heads, kv_heads: heads, key_dim: head_dim, value_dim: head_dim, span: Span::Full, keeps: Keeps::Nothing };
        Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: inner, gated } }
    }

    /// `count` equal blocks.
    fn blocks(&self, f: &Fields, key: &str, count: u64, tensors: &[Tensor]) -> Result<Vec<(Layer, Vec<Tensor>)>, ConfigError> {
        if count > super::decoder::Shape::MAX_LAYERS {
            return Err(f.impossible(key, "no model has more than 10,000 blocks"));
        }
        Ok((0..count).map(|_| (self.layer(), tensors.to_vec())).collect())
    }

    /// The finished denoiser. `tenths` of its width is what one token holds at the worst moment.
    fn denoiser(self, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>, tenths: u64, denoising: Denoising) -> Draft {
        let values = (self.hidden().saturating_mul(tenths)).div_ceil(10);
        Draft { kind: ComponentKind::Denoiser, hidden: self.hidden(), tensors, layers, work: Work::Denoise(Denoising { values, ..denoising }) }
    }
}

/// The first number of a list, or the number itself: `patch_size` may be either.
fn side(f: &Fields, key: &'static str, default: u64) -> Result<u64, ConfigError> {
    match f.raw(key) {
        Some(Value::Array(list)) => {
            list.last().and_then(Value::as_u64).filter(|n| (1..1 << 20).contains(n)).ok_or_else(|| f.impossible(key, "it must be whole numbers"))
        }
        _ => f.count_or(key, default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_and_tokenizers_are_no_parts() {
        let index = r#"{"_class_name": "FluxPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "safety_checker": [null, null],
            "tokenizer": ["transformers", "T5TokenizerFast"], "vae": ["diffusers", "AutoencoderKL"]}"#;
        let vae = Part { name: "vae".into(), class: "AutoencoderKL".into() };
        assert_eq!(super::index(index).unwrap(), Index { class: "FluxPipeline".into(), parts: vec![vae.clone()] });
        assert!(super::index("{}").is_err() && super::index("[]").is_err());
        let error = part(&Part { class: "AutoencoderX".into(), ..vae }, "{}").unwrap_err().to_string();
        assert!(error.contains("AutoencoderX") && error.contains("`vae`"), "{error}");
    }
}
