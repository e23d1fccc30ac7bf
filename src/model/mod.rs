//! What a model is: components, their layers, and an inventory of every tensor by role.
//!
//! One inventory, two sources: synthesised from `config.json` by [`crate::config`], or read from the headers of the weight
//! files by [`crate::checkpoint`]. Everything about weights is a sum over it. Layers are run-length coded.

mod frames;
mod images;
mod inventory;
mod layer;
mod patches;
mod quantization;
mod tensor;
mod work;

use std::ops::Range;

pub use frames::{Frames, SECONDS};
pub use images::{Images, Map, Step, Window};
pub use inventory::{Item, Matrix, Place, is_taken, module_and_leaf, scheme_for};
pub use layer::{Attention, FeedForward, Keeps, LatentAttention, Layer, Mixer, Recurrence, RecurrenceKind, Span};
pub use patches::Patches;
pub use quantization::{Assigned, Quantization};
pub use tensor::{Role, Tensor};
pub use work::{Decoding, Denoising, Input, Work};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::quantity::{Bytes, Overflow, ParamCount};

/// A neural network, as far as memory is concerned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// What it is, from its configuration.
    pub anatomy: Anatomy,
    /// Where the description came from.
    pub provenance: Provenance,
}

/// The architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// `model_type` of config.json.
    pub model_type: String,
    /// The parts; the first one is the text decoder.
    pub components: Vec<Component>,
    /// The dtype that loaders give to floating-point weights, with the key that says so; `None` when config.json does not.
    pub dtype: Option<Encoding>,
    /// The longest context the model was made for (`max_position_embeddings` and its aliases).
    pub max_context: Option<u64>,
    /// The rotary position encoding, where it has one.
    pub rotary: Option<Rotary>,
    /// The quantised format that config.json describes, with what it leaves.
    pub quantization: Option<Quantization>,
    /// Keys of config.json that were used.
    pub keys_used: Vec<String>,
    /// Keys of config.json that may matter and were not understood.
    pub keys_not_understood: Vec<String>,
    /// What was assumed, each a sentence.
    pub assumptions: Vec<String>,
    /// True when `model_type` is not known and the architecture was guessed from its fields.
    pub is_guess: bool,
    /// What its forward pass does between the matrices, as far as memory in training goes.
    pub computation: Computation,
}

/// What a forward pass does between its matrices: facts that only training needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a config")]
pub struct Computation {
    /// The activation function of feed-forwards (`silu`, `gelu_new`); empty where config.json does not say.
    pub activation: String,
    /// `model_type` of the nested config that the language model or decoder is read from; empty where there is none.
    pub text_type: String,
    /// Whether what a block adds to the hidden state passes a dropout.
    pub hidden_dropout: bool,
    /// Whether attention's probabilities pass a dropout.
    pub attention_dropout: bool,
    /// Whether logits are capped softly.
    pub caps_logits: bool,
    /// Whether attention's scores are capped softly.
    pub caps_scores: bool,
    /// How many times what experts read is multiplied by noise in training.
    pub noises: u64,
    /// Layers that tokens pass without a gradient, of those that have the weights of others (HRM-Text).
    pub without_gradient: u64,
}

/// A rotary position encoding: engines keep its sines and cosines as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotary {
    /// Values of the table for one position: sines and cosines for the part of a head that turns, over all bases.
    pub width: u64,
    /// Positions of the table.
    pub positions: u64,
    /// Whether positions have sections for time, height and width.
    pub has_sections: bool,
    /// Whether the table is in float32, whatever the dtype of computation.
    pub in_float32: bool,
}

/// Where a model's description came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The Hub id, or the path or name of a file; `None` for a pasted config.
    pub id: Option<String>,
    /// The commit that was read.
    pub revision: Option<String>,
    /// What the tensors were read from.
    pub source: Origin,
    /// What the weight files hold, when their headers were read.
    pub files: Option<Files>,
    /// What could not be read and what was done instead, each a sentence.
    pub notes: Vec<String>,
}

/// The kinds of description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Headers of the weight files (and config.json).
    Headers,
    /// config.json alone.
    Config,
    /// The built-in catalogue.
    Catalogue,
    /// A GGUF file: its metadata and tensor infos.
    Gguf,
    /// Sizes that somebody gave by hand.
    Manual,
}

impl Origin {
    /// The name in the JSON contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Config => "config",
            Self::Gguf => "gguf",
            Self::Catalogue => "catalogue",
            Self::Manual => "manual",
        }
    }
}

/// What the weight files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// How many files.
    pub count: u64,
    /// Bytes of all tensors, by the headers' own offsets.
    pub bytes: Bytes,
    /// Elements of all tensors.
    pub elements: ParamCount,
    /// The tensors that a loader of this architecture takes, each with the number of layers it occurs in.
    pub loaded: Vec<(Tensor, u64)>,
    /// Tensors that it leaves (buffers, second copies of tied heads, extra modules), likewise.
    pub left: Vec<(Tensor, u64)>,
}

impl Files {
    /// Bytes of each part of a repository of several, by its folder, in the order of the files; none for a single model.
    ///
    /// # Errors
    /// [`Overflow`] when the sizes add up to more than is possible.
    pub fn by_part(&self) -> Result<Vec<(&str, Bytes)>, Overflow> {
        let mut parts: Vec<(&str, Bytes)> = Vec::new();
        for (tensor, times) in self.loaded.iter().chain(&self.left) {
            let (Some((part, _)), Some(stored)) = (tensor.name.rsplit_once('/'), tensor.stored) else { continue };
            let bytes = stored.bytes_for(tensor.elements()?.times(*times)?.get())?;
            match parts.iter_mut().find(|(name, _)| *name == part) {
                Some((_, sum)) => *sum = sum.plus(bytes)?,
                None => parts.push((part, bytes)),
            }
        }
        Ok(parts)
    }
}

/// What a part of a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComponentKind {
    /// Reads and writes text; the part whose layers cache.
    TextDecoder,
    /// Reads text, all at once.
    TextEncoder,
    /// Reads images.
    VisionTower,
    /// Reads sound.
    AudioTower,
    /// Maps one part's output to another's input.
    Projector,
    /// Predicts further tokens (multi-token prediction); counted apart.
    TokenPredictor,
    /// Takes the noise out of latents step by step.
    Denoiser,
    /// Between pixels and latents.
    Autoencoder,
    /// Stands beside the matrices of another part.
    Adapter,
    /// Anything else.
    Other,
}

impl ComponentKind {
    /// The name in the JSON contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextDecoder => "text_decoder",
            Self::TextEncoder => "text_encoder",
            Self::VisionTower => "vision_tower",
            Self::AudioTower => "audio_tower",
            Self::Projector => "projector",
            Self::TokenPredictor => "token_predictor",
            Self::Denoiser => "denoiser",
            Self::Autoencoder => "autoencoder",
            Self::Adapter => "adapter",
            Self::Other => "other",
        }
    }
}

/// One part of a model: a text decoder, a vision tower, a projector ...
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Its name in the JSON contract.
    pub name: Cow<'static, str>,
    /// What it does.
    pub kind: ComponentKind,
    /// Hidden size.
    pub hidden_size: u64,
    /// Vocabulary size.
    pub vocab_size: u64,
    /// Prefix of tensor names that checkpoints come with or without: `model`.
    pub base: Cow<'static, str>,
    /// Where its layers live in tensor names: `model.layers`.
    pub layer_prefix: Cow<'static, str>,
    /// Tensors outside the layers.
    pub tensors: Vec<Tensor>,
    /// The layers in order, run-length coded.
    pub layers: Vec<LayerRun>,
    /// What it works on.
    pub work: Work,
}

/// `count` equal layers in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRun {
    /// How many.
    pub count: u64,
    /// What each is.
    pub layer: Layer,
    /// The tensors of one of them, named relative to the layer.
    pub tensors: Vec<Tensor>,
}

/// Layers that keep the same per token: the unit in which KV caches are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// How many layers.
    pub layers: u64,
    /// The mixer that they share.
    pub mixer: Mixer,
    /// How far back they see.
    pub span: Span,
}

impl Model {
    /// The text decoder.
    pub fn decoder(&self) -> &Component {
        &self.anatomy.components[0]
    }

    /// Whether the size of a picture matters: of one that it makes, or reads where it is trained.
    pub fn has_pictures(&self, is_trained: bool) -> bool {
        let has_tower = || self.anatomy.components.iter().any(|part| part.patches().is_some());
        self.is_pipeline() || matches!(self.decoder().work, Work::Images(_)) || (is_trained && has_tower())
    }

    /// Whether it reads images or sound of which it is not known how many positions they become: then what a pass works with is no more
    /// than a guess. `are_patches_counted` says that patches of images are.
    pub fn is_input_unmapped(&self, are_patches_counted: bool) -> bool {
        let decoder = self.decoder();
        let is_counted = matches!(decoder.work, Work::Images(_)) || (are_patches_counted && decoder.patches().is_some());
        matches!(decoder.kind, ComponentKind::VisionTower | ComponentKind::AudioTower) && !is_counted
    }

    /// Whether it takes noise out of latents: a pipeline of diffusers, or its denoiser alone.
    pub fn is_pipeline(&self) -> bool {
        self.anatomy.components.iter().any(|part| matches!(part.kind, ComponentKind::Denoiser | ComponentKind::Autoencoder))
    }

    /// The tensors that a loader takes, each with the number of times it occurs: from the files when their headers were
    /// read, else as the architecture has them.
    pub fn weights(&self) -> Box<dyn Iterator<Item = (&Tensor, u64)> + '_> {
        match &self.provenance.files {
            Some(files) => Box::new(files.loaded.iter().map(|(tensor, times)| (tensor, *times))),
            None => Box::new(self.anatomy.tensors()),
        }
    }
}

impl Anatomy {
    /// Parts of which nothing more is known.
    pub fn of(model_type: String, components: Vec<Component>) -> Self {
        Self {
            model_type,
            components,
            dtype: None,
            max_context: None,
            rotary: None,
            quantization: None,
            keys_used: Vec::new(),
            keys_not_understood: Vec::new(),
            assumptions: Vec::new(),
            is_guess: false,
            computation: Computation::default(),
        }
    }

    /// The types that it is read by: its own, and that of the nested config of its language model or decoder (empty where there is none).
    pub fn types(&self) -> [&str; 2] {
        [&self.model_type, &self.computation.text_type]
    }

    /// The parts that make the architecture: all but multi-token prediction.
    pub fn counted(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|component| component.kind != ComponentKind::TokenPredictor)
    }

    /// Every tensor of the architecture with the number of times it occurs (its own count times the layers of its run).
    pub fn tensors(&self) -> impl Iterator<Item = (&Tensor, u64)> {
        self.counted().flat_map(Component::tensors)
    }

    /// Every tensor of the architecture with its place and its layers.
    pub fn inventory(&self) -> impl Iterator<Item = Item<'_>> {
        let counted = self.components.iter().enumerate().filter(|(_, component)| component.kind != ComponentKind::TokenPredictor);
        counted.flat_map(|(number, component)| {
            let item = move |run: usize, tensor: usize, layers: &std::ops::Range<u64>| Item {
                place: Place { component: number, run, tensor },
                component,
                tensor: if run == 0 { &component.tensors[tensor] } else { &component.layers[run - 1].tensors[tensor] },
                layers: layers.clone(),
            };
            let outside = (0..component.tensors.len()).map(move |tensor| item(0, tensor, &(0..1)));
            let mut first = 0u64;
            let inside = component.layers.iter().enumerate().flat_map(move |(number, run)| {
                let layers = first..first.saturating_add(run.count);
                first = layers.end;
                (0..run.tensors.len()).map(move |tensor| item(number + 1, tensor, &layers))
            });
            outside.chain(inside)
        })
    }

    /// Parameters of the architecture: tied tensors once, no buffers.
    pub fn parameters(&self) -> Result<ParamCount, Overflow> {
        sum_elements(self.tensors())
    }

    /// Parameters that one token uses: routed experts only as many as are active.
    pub fn active_parameters(&self) -> Result<ParamCount, Overflow> {
        self.counted().try_fold(ParamCount::ZERO, |sum, component| sum.plus(component.active_parameters()?))
    }
}

impl LayerRun {
    /// Layers in order, equal neighbours as one run.
    pub fn code(layers: impl IntoIterator<Item = (Layer, Vec<Tensor>)>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for (layer, tensors) in layers {
            match runs.last_mut() {
                Some(run) if run.layer == layer && run.tensors == tensors => run.count += 1,
                _ => runs.push(Self { count: 1, layer, tensors }),
            }
        }
        runs
    }
}

impl Component {
    /// Every tensor with the number of times it occurs.
    pub fn tensors(&self) -> impl Iterator<Item = (&Tensor, u64)> {
        let outside = self.tensors.iter().map(|tensor| (tensor, 1));
        outside.chain(self.layers.iter().flat_map(|run| run.tensors.iter().map(|tensor| (tensor, run.count))))
    }

    /// Parameters of this part.
    pub fn parameters(&self) -> Result<ParamCount, Overflow> {
        sum_elements(self.tensors())
    }

    fn active_parameters(&self) -> Result<ParamCount, Overflow> {
        let outside = sum_elements(self.tensors.iter().map(|tensor| (tensor, 1)))?;
        self.layers.iter().try_fold(outside, |sum, run| {
            let (active, all) = match run.layer.feed_forward {
                FeedForward::MixtureOfExperts { experts, active, .. } => (active, experts),
                FeedForward::Dense { .. } | FeedForward::None => (1, 1),
            };
            run.tensors.iter().try_fold(sum, |sum, tensor| {
                let elements = tensor.elements()?.times(run.count)?.get();
                let used = if tensor.role.is_expert() { elements / all * active } else { elements };
                sum.plus(ParamCount(used))
            })
        })
    }

    /// True for parts that read or write text.
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, ComponentKind::TextDecoder | ComponentKind::TextEncoder)
    }

    /// Number of layers.
    pub fn layer_count(&self) -> u64 {
        self.layers.iter().map(|run| run.count).sum()
    }

    /// The runs of the layers with these numbers, each with how many of its layers are among them.
    pub fn runs_in(&self, layers: Range<u64>) -> impl Iterator<Item = (u64, &LayerRun)> {
        let mut first: u64 = 0;
        self.layers.iter().filter_map(move |run| {
            let (start, end) = (first, first.saturating_add(run.count));
            first = end;
            let count = end.min(layers.end).saturating_sub(start.max(layers.start));
            (count > 0).then_some((count, run))
        })
    }

    /// Layers that keep keys and values per token, grouped by what they keep, in order of first appearance.
    pub fn cache_groups(&self) -> Vec<CacheGroup> {
        self.cache_groups_in(0..u64::MAX)
    }

    /// The same of the layers with these numbers.
    pub fn cache_groups_in(&self, layers: Range<u64>) -> Vec<CacheGroup> {
        let mut groups: Vec<CacheGroup> = Vec::new();
        for (count, run) in self.runs_in(layers) {
            let mixer = run.layer.mixer;
            let Some(span) = mixer.span().filter(|_| mixer.cache_elements_per_token() > 0) else { continue };
            let is_alike = |group: &CacheGroup| group.span == span && group.mixer.cache_shape() == mixer.cache_shape();
            match groups.iter_mut().find(|group| is_alike(group)) {
                Some(group) => group.layers += count,
                None => groups.push(CacheGroup { layers: count, mixer, span }),
            }
        }
        groups
    }

    /// The largest number of values that one token's feed-forward holds at once across the layers' widths:
    /// dense `intermediate_size`, or that of one expert times the experts per token.
    pub fn widest_feed_forward(&self) -> Option<FeedForward> {
        self.layers.iter().map(|run| run.layer.feed_forward).max_by_key(FeedForward::active_width)
    }
}

fn sum_elements<'a>(tensors: impl Iterator<Item = (&'a Tensor, u64)>) -> Result<ParamCount, Overflow> {
    let mut sum = ParamCount::ZERO;
    for (tensor, times) in tensors {
        sum = sum.plus(tensor.elements()?.times(times)?)?;
    }
    Ok(sum)
}
