//! A GGUF header as a model: components, layers and the inventory, all of its own tensors.

use std::collections::{BTreeMap, HashMap};

use super::layers::Stack as Layers;
use super::metadata::Keys;
use super::tensors::{Place, Stack, is_parameter, role};
use super::{GgufError, Header, arch};
use crate::checkpoint::{HeaderTensor, quotable};
use crate::encoding::Encoding;
use crate::format::{Unit, grouped};
use crate::model::{Anatomy, Component, ComponentKind, Files, Keeps, LayerRun, Tensor};
use crate::quantity::{Bytes, Overflow, ParamCount};

/// The most layers that are read.
const MAX_LAYERS: u64 = 10_000;

/// The largest size that is read.
const MAX_SIZE: u64 = 1 << 40;

/// The architecture of files that hold what encodes images and sound for a model in another file (`mmproj`).
const PROJECTOR: &str = "clip";

/// What a GGUF file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// The architecture, with the tensors of the file as its inventory.
    pub anatomy: Anatomy,
    /// The inventory with types: `loaded` as llama.cpp loads it without multi-token prediction.
    pub files: Files,
    /// What was left out, each a sentence.
    pub notes: Vec<String>,
    /// `general.name`.
    pub name: Option<String>,
}

impl Contents {
    /// Whether the file holds only encoders for a model in another file.
    pub fn is_projector(&self) -> bool {
        self.anatomy.components.iter().all(|component| component.kind != ComponentKind::TextDecoder && component.name != TEXT)
    }
}

/// The name of the part that reads text.
const TEXT: &str = "text";

/// Tensors by where they belong.
#[derive(Default)]
struct Sorted {
    outside: BTreeMap<Stack, Vec<Tensor>>,
    layers: BTreeMap<(Stack, u64), Vec<Tensor>>,
}

impl Sorted {
    fn new(tensors: &[HeaderTensor]) -> Self {
        let mut sorted = Self::default();
        for tensor in tensors {
            let place = Place::of(&tensor.name);
            let group = match place.layer {
                Some(layer) => sorted.layers.entry((place.stack, layer)).or_default(),
                None => sorted.outside.entry(place.stack).or_default(),
            };
            let alike = |other: &&mut Tensor| other.name == place.name && other.shape == tensor.shape && other.stored == Some(tensor.encoding);
            match group.iter_mut().find(alike) {
                // Experts that stand one by one.
                Some(other) => other.count += 1,
                None => group.push(Tensor { role: role(&place.name), name: place.name, shape: tensor.shape.clone(), count: 1, stored: Some(tensor.encoding) }),
            }
        }
        sorted
    }

    fn has(&self, stack: Stack) -> bool {
        self.outside.contains_key(&stack) || self.layers.keys().any(|(other, _)| *other == stack)
    }

    /// The layers of a stack that are there.
    fn layers_of(&self, stack: Stack) -> impl Iterator<Item = (u64, &Vec<Tensor>)> {
        self.layers.range((stack, 0)..=(stack, u64::MAX)).map(|((_, number), tensors)| (*number, tensors))
    }

    fn outside_of(&self, stack: Stack) -> &[Tensor] {
        self.outside.get(&stack).map_or(&[], Vec::as_slice)
    }
}

/// The architecture's own tensors: parameters, without a type.
fn parameters<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<Tensor> {
    let mut parameters: Vec<Tensor> =
        tensors.into_iter().filter(|tensor| is_parameter(&tensor.name)).map(|tensor| Tensor { stored: None, ..tensor.clone() }).collect();
    // Files do not list the tensors of all layers in the same order.
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}

/// Reads a whole header (of a split file, [`super::join`]ed) as a model.
///
/// # Errors
/// [`GgufError`] when it has no tensors, is not a model, or states what cannot be.
pub fn read(header: &Header) -> Result<Contents, GgufError> {
    let metadata = &header.metadata;
    let kind = metadata.text("general.type").unwrap_or("model");
    if matches!(kind, "adapter" | "imatrix" | "controlvector") {
        return Err(GgufError::Metadata(format!("it is of the type `{}`, which goes beside a model", quotable(kind))));
    }
    if header.tensors.is_empty() {
        return Err(GgufError::NoTensors(if metadata.get("tokenizer.ggml.model").is_some() { "a vocabulary" } else { "metadata" }));
    }
    let name = metadata.text("general.architecture").ok_or_else(|| GgufError::Metadata("`general.architecture` is missing".to_owned()))?;
    let keys = Keys::new(metadata, name);
    let mut reading = Reading { header, keys: &keys, arch: name, sorted: Sorted::new(&header.tensors), assumptions: Vec::new(), is_guess: false };
    let components = if name == PROJECTOR { reading.encoders()? } else { reading.text()? };
    let Reading { sorted, assumptions, is_guess, .. } = reading;
    let (keys_used, keys_not_understood) = keys.accounts();
    let (dtype, is_quantized) = dtype(&header.tensors);
    let anatomy = Anatomy {
        model_type: arch::model_type(name),
        components,
        dtype: Some(dtype),
        max_context: keys.count("context_length", MAX_SIZE)?.filter(|&length| length > 0),
        quantization: is_quantized.then(|| "gguf".to_owned()),
        keys_used,
        keys_not_understood,
        assumptions,
        is_guess,
    };
    anatomy.parameters()?;
    let (files, notes) = inventory(header, &sorted, &anatomy)?;
    Ok(Contents { anatomy, files, notes, name: metadata.text("general.name").map(quotable) })
}

/// The type that matrices are computed in, and whether any are quantised: the type of the plain matrices where all are of
/// one, else half precision.
fn dtype(tensors: &[HeaderTensor]) -> (Encoding, bool) {
    let mut matrices = tensors.iter().filter(|tensor| tensor.shape.len() > 1).map(|tensor| tensor.encoding);
    let is_quantized = tensors.iter().any(|tensor| tensor.encoding.block_elements > 1);
    let first = matrices.clone().find(|encoding| *encoding != Encoding::F32).or_else(|| matrices.next());
    (first.filter(|encoding| encoding.is_float && !is_quantized).unwrap_or(Encoding::F16), is_quantized)
}

/// What the parts of one file are made from.
struct Reading<'a> {
    header: &'a Header,
    keys: &'a Keys<'a>,
    arch: &'a str,
    sorted: Sorted,
    assumptions: Vec<String>,
    is_guess: bool,
}

impl Reading<'_> {
    /// A language model: its decoder or encoder, an encoder beside a decoder, and layers that predict further tokens.
    fn text(&mut self) -> Result<Vec<Component>, GgufError> {
        let Some(all) = self.keys.count("block_count", MAX_LAYERS)? else {
            self.assumptions.push(format!("the metadata describe no layers of `{}`: only weights are known", quotable(self.arch)));
            let tensors = self.sorted.outside.values().flatten().chain(self.sorted.layers.values().flatten());
            return Ok(vec![self.component("model", ComponentKind::Other, Stack::Main, 0, parameters(tensors), Vec::new())]);
        };
        let hidden = self.keys.required("embedding_length", MAX_SIZE)?;
        let predictors = self.keys.count("nextn_predict_layers", MAX_LAYERS)?.unwrap_or(0).min(all);
        let is_encoder = self.keys.flag("attention.causal") == Some(false);
        let (stack, layers) = if self.sorted.has(Stack::Decoder) {
            (Stack::Decoder, self.keys.count("decoder_block_count", MAX_LAYERS)?.unwrap_or(all))
        } else if self.sorted.has(Stack::Encoder) {
            (Stack::Encoder, all)
        } else {
            (Stack::Main, all - predictors)
        };
        let is_encoder = is_encoder || stack == Stack::Encoder;
        let (kind, keeps) = if is_encoder { (ComponentKind::TextEncoder, Keeps::Nothing) } else { (ComponentKind::TextDecoder, Keeps::Own) };
        let mut outside = vec![Stack::Main, Stack::Projector];
        outside.extend((stack != Stack::Main).then_some(stack));
        let is_predictor = |tensor: &&Tensor| tensor.name.starts_with("nextn.");
        let of_stack = |stacks: &[Stack], sorted: &Sorted| -> Vec<Tensor> { stacks.iter().flat_map(|stack| sorted.outside_of(*stack).to_vec()).collect() };
        let outside = of_stack(&outside, &self.sorted);
        let runs = self.runs(stack, layers, hidden, keeps)?;
        let tensors = parameters(outside.iter().filter(|tensor| !is_predictor(tensor)));
        let mut components = vec![self.component(TEXT, kind, stack, hidden, tensors, runs)];
        components[0].vocab_size = self.vocabulary()?;
        if stack == Stack::Decoder && self.sorted.has(Stack::Encoder) {
            let runs = self.runs(Stack::Encoder, all, hidden, Keeps::Nothing)?;
            let tensors = parameters(self.sorted.outside_of(Stack::Encoder));
            components.push(self.component("encoder", ComponentKind::TextEncoder, Stack::Encoder, hidden, tensors, runs));
        }
        for (stack, name, kind) in [(Stack::Vision, "vision", ComponentKind::VisionTower), (Stack::Audio, "audio", ComponentKind::AudioTower)] {
            if self.sorted.has(stack) {
                let tensors = self.sorted.outside_of(stack).iter().chain(self.sorted.layers_of(stack).flat_map(|(_, tensors)| tensors));
                components.push(self.component(name, kind, stack, 0, parameters(tensors), Vec::new()));
            }
        }
        let after: Vec<u64> =
            if stack == Stack::Main { self.sorted.layers_of(stack).map(|(number, _)| number).filter(|&number| number >= layers).collect() } else { Vec::new() };
        let predicts = outside.iter().any(|tensor| is_predictor(&tensor));
        if !after.is_empty() || predicts {
            let stack_of = self.stack(layers, hidden, Keeps::Own);
            let runs = after
                .iter()
                .map(|&number| Ok((stack_of.layer(number, &self.sorted.layers[&(stack, number)])?.layer, parameters(&self.sorted.layers[&(stack, number)]))));
            let runs = LayerRun::code(runs.collect::<Result<Vec<_>, GgufError>>()?);
            let tensors = parameters(outside.iter().filter(is_predictor));
            components.push(self.component("mtp", ComponentKind::TokenPredictor, stack, hidden, tensors, runs));
        }
        if self.stack(layers, hidden, keeps).has_unplaced_window()? {
            self.assumptions.push(format!(
                "the file states a sliding window and not which layers have it, and the rule of `{}` is not known: every layer is counted with all tokens",
                quotable(self.arch)
            ));
        }
        Ok(components)
    }

    fn stack(&self, layers: u64, hidden: u64, keeps: Keeps) -> Layers<'_> {
        Layers { keys: self.keys, arch: self.arch, layers, hidden, keeps }
    }

    /// The first `count` layers of a stack, all of which must be there.
    fn runs(&mut self, stack: Stack, count: u64, hidden: u64, keeps: Keeps) -> Result<Vec<LayerRun>, GgufError> {
        let (mut layers, mut doubts) = (Vec::new(), Vec::new());
        let of_stack = self.stack(count, hidden, keeps);
        for number in 0..count {
            let tensors = self.sorted.layers.get(&(stack, number));
            let tensors = tensors.ok_or_else(|| GgufError::Metadata(format!("there are no tensors of layer {number}, though it has {count} layers")))?;
            let read = of_stack.layer(number, tensors)?;
            doubts.extend(read.doubt);
            layers.push((read.layer, parameters(tensors)));
        }
        if let Some(first) = doubts.first() {
            self.assumptions.push(format!("{} layers are not as the metadata say: {first}; their caches may be wrong", grouped(doubts.len() as u64)));
            self.is_guess = true;
        }
        Ok(LayerRun::code(layers))
    }

    /// The rows of the embedding, as llama.cpp requires; else what the metadata say.
    fn vocabulary(&self) -> Result<u64, GgufError> {
        let embedding = self.sorted.outside_of(Stack::Main).iter().find(|tensor| tensor.name == "token_embd.weight");
        Ok(match embedding.and_then(|tensor| tensor.shape.first()) {
            Some(&rows) => rows,
            None => self.keys.count("vocab_size", MAX_SIZE)?.or(self.header.metadata.length("tokenizer.ggml.tokens")).unwrap_or(0),
        })
    }

    /// Encoders of images and sound, and what maps their output.
    fn encoders(&mut self) -> Result<Vec<Component>, GgufError> {
        let mut components = Vec::new();
        for (stack, prefix, name, kind) in
            [(Stack::Vision, "clip.vision", "vision", ComponentKind::VisionTower), (Stack::Audio, "clip.audio", "audio", ComponentKind::AudioTower)]
        {
            if !self.sorted.has(stack) {
                continue;
            }
            let keys = Keys::new(&self.header.metadata, prefix);
            let hidden = keys.count("embedding_length", MAX_SIZE)?.unwrap_or(0);
            let layers = Layers { keys: &keys, arch: self.arch, layers: MAX_LAYERS, hidden, keeps: Keeps::Nothing };
            let runs = self.sorted.layers_of(stack).map(|(number, tensors)| Ok((layers.layer(number, tensors)?.layer, parameters(tensors))));
            let runs = LayerRun::code(runs.collect::<Result<Vec<_>, GgufError>>()?);
            components.push(self.component(name, kind, stack, hidden, parameters(self.sorted.outside_of(stack)), runs));
        }
        let rest = [Stack::Main, Stack::Projector, Stack::Encoder, Stack::Decoder];
        let rest: Vec<Tensor> = rest.iter().flat_map(|stack| parameters(self.sorted.outside_of(*stack))).collect();
        if !rest.is_empty() {
            components.push(self.component("projector", ComponentKind::Projector, Stack::Projector, 0, rest, Vec::new()));
        }
        if components.is_empty() {
            return Err(GgufError::Metadata("it holds neither an encoder nor a projector".to_owned()));
        }
        Ok(components)
    }

    #[allow(clippy::unused_self)] // reads as the others
    fn component(&self, name: &'static str, kind: ComponentKind, stack: Stack, hidden_size: u64, tensors: Vec<Tensor>, layers: Vec<LayerRun>) -> Component {
        Component { name, kind, hidden_size, vocab_size: 0, base: "", layer_prefix: stack.layer_prefix(), tensors, layers }
    }
}

/// The inventory with types. Layers that predict further tokens are left: llama.cpp loads them only when asked to.
fn inventory(header: &Header, sorted: &Sorted, anatomy: &Anatomy) -> Result<(Files, Vec<String>), Overflow> {
    let mut files = Files { count: header.metadata.count("split.count").unwrap_or(1).max(1), ..Files::default() };
    for tensor in &header.tensors {
        files.bytes = files.bytes.plus(Bytes(tensor.end).minus(Bytes(tensor.begin))?)?;
        files.elements = files.elements.plus(ParamCount(tensor.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or(Overflow)?))?;
    }
    let main_layers = anatomy.components.first().map_or(0, Component::layer_count);
    let has_predictor = anatomy.components.iter().any(|component| component.kind == ComponentKind::TokenPredictor);
    let (mut loaded, mut left) = (Rows::default(), Rows::default());
    let outside = sorted.outside.values().flatten().map(|tensor| (None, tensor, tensor.name.clone()));
    let in_layers = sorted.layers.iter().flat_map(|((stack, number), tensors)| {
        tensors.iter().map(move |tensor| (Some((*stack, *number)), tensor, format!("{}.{{}}.{}", stack.layer_prefix(), tensor.name)))
    });
    for (place, tensor, name) in outside.chain(in_layers) {
        let predicts = match place {
            Some((stack, number)) => stack == Stack::Main && number >= main_layers,
            None => name.starts_with("nextn."),
        };
        let rows = if predicts && has_predictor { &mut left } else { &mut loaded };
        rows.add(Tensor { name, ..tensor.clone() });
    }
    let mut notes = Vec::new();
    if !left.0.is_empty() {
        let bytes = Bytes::total(left.0.iter().map(|(tensor, times)| size(tensor).and_then(|bytes| bytes.times(*times))).collect::<Result<Vec<_>, _>>()?)?;
        notes.push(format!("the layers of multi-token prediction ({}) are not loaded", Unit::Gib.text(bytes)));
    }
    (files.loaded, files.left) = (loaded.0, left.0);
    Ok((files, notes))
}

/// Bytes of `count` tensors.
fn size(tensor: &Tensor) -> Result<Bytes, Overflow> {
    tensor.stored.map_or(Ok(Bytes::ZERO), |stored| stored.bytes_for(tensor.elements()?.get()))
}

/// Equal tensors with the number of layers that have them, in order of first appearance.
#[derive(Default)]
struct Rows(Vec<(Tensor, u64)>, HashMap<(String, Vec<u64>, &'static str, u64), usize>);

impl Rows {
    fn add(&mut self, tensor: Tensor) {
        let key = (tensor.name.clone(), tensor.shape.clone(), tensor.stored.map_or("", |stored| stored.name), tensor.count);
        let index = *self.1.entry(key).or_insert(self.0.len());
        match self.0.get_mut(index) {
            Some((_, times)) => *times += 1,
            None => self.0.push((tensor, 1)),
        }
    }
}
