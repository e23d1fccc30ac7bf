//! A GGUF header as a model: components, layers and the inventory, all of its own tensors.

use super::inventory::{Inventory, parameters, predicts};
use super::layers::Layers;
use super::metadata::Keys;
use super::tensors::Stack;
use super::{GgufError, Header, arch};
use crate::checkpoint::{HeaderTensor, quotable};
use crate::encoding::Encoding;
use crate::format::grouped;
use crate::model::{Anatomy, Component, ComponentKind, Computation, Files, Keeps, LayerRun, Quantization, Rotary, Tensor};
use crate::quantity::Overflow;

/// The most layers that are read.
const MAX_LAYERS: u64 = 10_000;

/// The largest size that is read.
const MAX_SIZE: u64 = 1 << 40;

/// The architecture of files with the encoders of a model that is in another file (`mmproj`).
const ENCODERS: &str = "clip";

/// What a GGUF file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// The architecture, with the tensors of the file as its inventory.
    pub anatomy: Anatomy,
    /// The inventory with types: `loaded` is what llama.cpp loads without multi-token prediction.
    pub files: Files,
    /// What was left out, each a sentence.
    pub notes: Vec<String>,
}

impl Contents {
    /// Takes in the parts of another file: encoders beside a language model.
    ///
    /// # Errors
    /// [`Overflow`] when the sizes add up to more than is possible.
    pub fn add(&mut self, other: Self) -> Result<(), Overflow> {
        self.anatomy.components.extend(other.anatomy.components);
        self.files.count += other.files.count;
        self.files.bytes = self.files.bytes.plus(other.files.bytes)?;
        self.files.elements = self.files.elements.plus(other.files.elements)?;
        self.files.loaded.extend(other.files.loaded);
        self.files.left.extend(other.files.left);
        self.notes.extend(other.notes);
        Ok(())
    }
}

/// Reads a whole header (of a split file, [`super::join`]ed) as a model.
///
/// # Errors
/// [`GgufError`] when it has no tensors, is not a model, or states what cannot be.
pub fn read(header: &Header) -> Result<Contents, GgufError> {
    let metadata = &header.metadata;
    let kind = metadata.text("general.type").unwrap_or("model");
    if matches!(kind, "adapter" | "imatrix" | "controlvector") {
        return Err(GgufError::Metadata(format!("it is of the type `{kind}`, which goes beside a model")));
    }
    if header.tensors.is_empty() {
        return Err(GgufError::NoTensors(if metadata.get("tokenizer.ggml.model").is_some() { "a vocabulary" } else { "metadata" }));
    }
    let arch = metadata.text("general.architecture").ok_or_else(|| GgufError::Metadata("`general.architecture` is missing".to_owned()))?;
    let keys = Keys::new(metadata, arch);
    let mut reading = Reading {
        header,
        keys: &keys,
        arch,
        inventory: Inventory::new(&header.tensors),
        components: Vec::new(),
        first_predictor: u64::MAX,
        assumptions: Vec::new(),
        is_guess: false,
    };
    if arch == ENCODERS {
        reading.encoders()?;
    } else {
        reading.text()?;
    }
    let (mut files, notes) = reading.inventory.files(&header.tensors, reading.first_predictor)?;
    files.count = metadata.count("split.count").unwrap_or(1).max(1);
    let Reading { components, assumptions, is_guess, .. } = reading;
    let max_context = keys.count("context_length", MAX_SIZE)?.filter(|&length| length > 0);
    let width = keys.count("rope.dimension_count", MAX_SIZE)?.filter(|&width| width > 0);
    let rotary = width.zip(max_context).map(|(width, positions)| Rotary { width, positions, has_sections: false, in_float32: false });
    let (keys_used, keys_not_understood) = keys.accounts();
    let (dtype, is_quantized) = dtype(&header.tensors);
    let anatomy = Anatomy {
        model_type: arch::model_type(arch),
        components,
        dtype: Some(dtype),
        max_context,
        rotary,
        quantization: is_quantized.then(|| Quantization { method: "gguf".to_owned(), ..Quantization::default() }),
        keys_used,
        keys_not_understood,
        assumptions,
        is_guess,
        computation: Computation::default(),
    };
    anatomy.parameters()?;
    Ok(Contents { anatomy, files, notes })
}

/// The type that is computed in, and whether any tensor is quantised: the type of the matrices where they are plain floats,
/// half precision where they are not.
fn dtype(tensors: &[HeaderTensor]) -> (Encoding, bool) {
    let is_quantized = tensors.iter().any(|tensor| tensor.encoding.block_elements > 1);
    let matrices = || tensors.iter().filter(|tensor| tensor.shape.len() > 1 && tensor.encoding.is_float).map(|tensor| tensor.encoding);
    let of_matrices = matrices().find(|encoding| *encoding != Encoding::F32).or_else(|| matrices().next());
    (of_matrices.filter(|_| !is_quantized).unwrap_or(Encoding::F16), is_quantized)
}

/// A file on the way to a model.
struct Reading<'a> {
    header: &'a Header,
    keys: &'a Keys<'a>,
    arch: &'a str,
    inventory: Inventory,
    components: Vec<Component>,
    /// The first layer of the main stack that predicts further tokens.
    first_predictor: u64,
    assumptions: Vec<String>,
    is_guess: bool,
}

impl<'a> Reading<'a> {
    /// A language model: its decoder or encoder, an encoder beside a decoder, and layers that predict further tokens.
    fn text(&mut self) -> Result<(), GgufError> {
        let Some(all) = self.keys.count("block_count", MAX_LAYERS)? else {
            self.assumptions.push(format!("the metadata describe no layers of `{}`: only weights are known", quotable(self.arch)));
            let tensors = parameters(self.arch, self.inventory.all());
            self.add("model", ComponentKind::Other, Stack::Main, (0, 0), tensors, Vec::new());
            return Ok(());
        };
        let hidden = self.keys.required("embedding_length", MAX_SIZE)?;
        let predictors = self.keys.count("nextn_predict_layers", MAX_LAYERS)?.unwrap_or(0);
        let (stack, layers) = match () {
            () if self.inventory.has(Stack::Decoder) => (Stack::Decoder, self.keys.count("decoder_block_count", MAX_LAYERS)?.unwrap_or(all)),
            () if self.inventory.has(Stack::Encoder) => (Stack::Encoder, all),
            () => (Stack::Main, all.saturating_sub(predictors)),
        };
        let is_encoder = stack == Stack::Encoder || self.keys.flag("attention.causal") == Some(false);
        let (kind, keeps) = if is_encoder { (ComponentKind::TextEncoder, Keeps::Nothing) } else { (ComponentKind::TextDecoder, Keeps::Own) };
        let of_stack = self.layers(layers, hidden, keeps);
        let runs = self.runs(&of_stack, stack)?;
        let outside = if stack == Stack::Main { vec![Stack::Main] } else { vec![Stack::Main, stack] };
        let tensors = parameters(self.arch, self.inventory.outside_of(&outside).filter(|tensor| !predicts(tensor)));
        self.add("text", kind, stack, (hidden, self.vocabulary()?), tensors, runs);
        if stack == Stack::Decoder && self.inventory.has(Stack::Encoder) {
            let runs = self.runs(&self.layers(all, hidden, Keeps::Nothing), Stack::Encoder)?;
            let tensors = parameters(self.arch, self.inventory.outside_of(&[Stack::Encoder]));
            self.add("encoder", ComponentKind::TextEncoder, Stack::Encoder, (hidden, 0), tensors, runs);
        }
        self.predictor(&of_stack, stack)?;
        self.encoders_of(&[Stack::Projector])?;
        if of_stack.has_unplaced_window()? {
            self.assumptions.push(format!(
                "the file states a sliding window and not which layers have it, and the rule of `{}` is not known: every layer is counted with all tokens",
                quotable(self.arch)
            ));
        }
        Ok(())
    }

    /// Layers behind the model's own, and what stands beside them.
    fn predictor(&mut self, of_stack: &Layers, stack: Stack) -> Result<(), GgufError> {
        let behind = self.inventory.layers_of(Stack::Main).filter(|(number, _)| stack == Stack::Main && *number >= of_stack.count);
        let layers = behind.map(|(number, tensors)| Ok((of_stack.layer(number, tensors)?.layer, parameters(self.arch, tensors))));
        let layers = layers.collect::<Result<Vec<_>, GgufError>>()?;
        let tensors = parameters(self.arch, self.inventory.outside_of(&[Stack::Main]).filter(|tensor| predicts(tensor)));
        if !layers.is_empty() || !tensors.is_empty() {
            self.first_predictor = of_stack.count;
            self.add("mtp", ComponentKind::TokenPredictor, Stack::Main, (of_stack.hidden, 0), tensors, LayerRun::code(layers));
        }
        Ok(())
    }

    /// Encoders of images and sound, and what maps their output to a language model.
    fn encoders(&mut self) -> Result<(), GgufError> {
        self.encoders_of(&[Stack::Projector, Stack::Main, Stack::Encoder, Stack::Decoder])?;
        let is_empty = self.components.is_empty();
        if is_empty { Err(GgufError::Metadata("it holds neither an encoder nor a projector".to_owned())) } else { Ok(()) }
    }

    fn encoders_of(&mut self, projector: &[Stack]) -> Result<(), GgufError> {
        for (stack, prefix, name, kind) in
            [(Stack::Vision, "clip.vision", "vision", ComponentKind::VisionTower), (Stack::Audio, "clip.audio", "audio", ComponentKind::AudioTower)]
        {
            if self.inventory.has(stack) {
                let keys = Keys::new(&self.header.metadata, prefix);
                let hidden = keys.count("embedding_length", MAX_SIZE)?.unwrap_or(0);
                let of_stack = Layers { keys: &keys, arch: self.arch, count: MAX_LAYERS, hidden, keeps: Keeps::Nothing };
                let layers =
                    self.inventory.layers_of(stack).map(|(number, tensors)| Ok((of_stack.layer(number, tensors)?.layer, parameters(self.arch, tensors))));
                let runs = LayerRun::code(layers.collect::<Result<Vec<_>, GgufError>>()?);
                let tensors = parameters(self.arch, self.inventory.outside_of(&[stack]));
                self.add(name, kind, stack, (hidden, 0), tensors, runs);
            }
        }
        let tensors = parameters(self.arch, self.inventory.outside_of(projector));
        if !tensors.is_empty() {
            self.add("projector", ComponentKind::Projector, Stack::Projector, (0, 0), tensors, Vec::new());
        }
        Ok(())
    }

    fn layers(&self, count: u64, hidden: u64, keeps: Keeps) -> Layers<'a> {
        Layers { keys: self.keys, arch: self.arch, count, hidden, keeps }
    }

    /// The layers of a stack, all of which must be there.
    fn runs(&mut self, of_stack: &Layers, stack: Stack) -> Result<Vec<LayerRun>, GgufError> {
        let (mut layers, mut doubts) = (Vec::new(), Vec::new());
        for number in 0..of_stack.count {
            let tensors = self.inventory.layer(stack, number);
            let tensors = tensors.ok_or_else(|| GgufError::Metadata(format!("there are no tensors of layer {number} of {}", of_stack.count)))?;
            let read = of_stack.layer(number, tensors)?;
            doubts.extend(read.doubt);
            layers.push((read.layer, parameters(self.arch, tensors)));
        }
        if let Some(first) = doubts.first() {
            let count = grouped(doubts.len() as u64);
            self.assumptions.push(format!("tensors and metadata disagree in {count} of the layers, whose caches may be wrong: {first}"));
            self.is_guess = true;
        }
        Ok(LayerRun::code(layers))
    }

    /// The rows of the embedding, as llama.cpp requires; else what the metadata say.
    fn vocabulary(&self) -> Result<u64, GgufError> {
        let embedding = self.inventory.outside_of(&[Stack::Main]).find(|tensor| tensor.name == "token_embd.weight");
        Ok(match embedding.and_then(|tensor| tensor.shape.first()) {
            Some(&rows) => rows,
            None => self.keys.count("vocab_size", MAX_SIZE)?.or(self.header.metadata.length("tokenizer.ggml.tokens")).unwrap_or(0),
        })
    }

    fn add(&mut self, name: &'static str, kind: ComponentKind, stack: Stack, sizes: (u64, u64), tensors: Vec<Tensor>, layers: Vec<LayerRun>) {
        let (hidden_size, vocab_size) = sizes;
        self.components.push(Component {
            name: name.into(),
            kind,
            hidden_size,
            vocab_size,
            base: "".into(),
            layer_prefix: stack.layer_prefix().into(),
            tensors,
            layers,
            work: crate::model::Work::Tokens,
        });
    }
}
