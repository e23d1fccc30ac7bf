//! Families as tables: a network's tensors, layer by layer, as text beside the code.
//!
//! Encoders, towers, codecs and other networks whose layers are plain lists of modules need no code of their own, only names
//! and sizes. A table is read statement by statement ([`parse`]) in terms of the config's keys ([`expression`]):
//!
//! ```text
//! d = @hidden_size:768
//! heads = @num_attention_heads:12
//! must d%heads==0 num_attention_heads it must divide the hidden size
//! part text text_encoder d
//! table embeddings.word_embeddings @vocab_size:30522 d
//! layers encoder.layer @num_hidden_layers:12 heads=heads inner=@intermediate_size:3072
//!   linear attention.{query,key,value} d d       # a matrix and its bias, three times
//!   norm output.LayerNorm d
//! end
//! linear classifier d labels if class('ForSequenceClassification')
//! ```
//!
//! The first part is the model itself; each further one stands beside it. What several tables share are the blocks of
//! `blocks.txt`.

mod expression;
mod parse;

use std::collections::BTreeMap;

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, component, labels};
use super::multimodal::{Names, Tie, Wrapper, language_in, lasting};
use super::{ConfigError, Fields, family_of};
use crate::model::{
    Attention, Component, ComponentKind, FeedForward, Keeps, LatentAttention, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span, Tensor,
};
use expression::{Expression, Scope, Value};
use parse::{Argument, Form, Statement};

/// What several tables share.
const BLOCKS: &str = include_str!("blocks.txt");

/// Most statements that one config may take: far above any real model, so that work stays bounded.
const MAX_STEPS: u64 = 2_000_000;

/// The model that a table describes.
pub(super) fn read(f: &Fields, table: &'static str) -> Result<Draft, ConfigError> {
    let statements = [BLOCKS, table].map(|text| parse::parse(text).map_err(|line| ConfigError::Table(line.to_owned())));
    let [blocks, table] = statements;
    let (blocks, table) = (blocks?, table?);
    let class = f.architecture()?.unwrap_or_default();
    let variables = BTreeMap::from([("labels".to_owned(), Value::Number(labels(f)?)), ("unnamed".to_owned(), Value::Number(u64::from(class.is_empty())))]);
    let scope = Scope { variables, fields: f.with_defaults(&[]), class };
    let mut reader = Reader { outer: f, scope, blocks: BTreeMap::new(), language: None, parts: Vec::new(), layer: None, assumptions: Vec::new(), steps: 0 };
    reader.run(&blocks)?;
    reader.run(&table)?;
    reader.finish()
}

/// A part under construction.
struct Part {
    name: &'static str,
    kind: ComponentKind,
    hidden: u64,
    layer_prefix: String,
    tensors: Tensors,
    layers: Vec<(Layer, Vec<Tensor>)>,
}

struct Reader<'a> {
    outer: &'a Fields,
    scope: Scope,
    blocks: BTreeMap<&'static str, (Vec<&'static str>, Vec<Statement>)>,
    /// The language model inside, with finished parts of its own.
    language: Option<Draft>,
    parts: Vec<Result<Part, Component>>,
    /// The tensors of the layer that is being read.
    layer: Option<Tensors>,
    assumptions: Vec<String>,
    steps: u64,
}

const KINDS: &[ComponentKind] = &[
    ComponentKind::TextDecoder,
    ComponentKind::TextEncoder,
    ComponentKind::VisionTower,
    ComponentKind::AudioTower,
    ComponentKind::Projector,
    ComponentKind::TokenPredictor,
    ComponentKind::Other,
];

const RECURRENCES: &[(&str, RecurrenceKind)] = &[
    ("mamba2", RecurrenceKind::Mamba2),
    ("delta", RecurrenceKind::GatedDeltaNet),
    ("kimi", RecurrenceKind::KimiDelta),
    ("linear", RecurrenceKind::Linear),
    ("rwkv", RecurrenceKind::Rwkv),
];

fn kind_of(name: &str) -> Result<ComponentKind, ConfigError> {
    KINDS.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| ConfigError::Table(name.to_owned()))
}

impl Reader<'_> {
    fn run(&mut self, statements: &[Statement]) -> Result<(), ConfigError> {
        statements.iter().try_for_each(|statement| self.step(statement))
    }

    fn step(&mut self, statement: &Statement) -> Result<(), ConfigError> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(ConfigError::Overflow);
        }
        match statement {
            Statement::Let(name, value) => {
                let value = value.value(&self.scope)?;
                self.set(name, value);
            }
            Statement::Part { name, kind, hidden } => {
                let hidden = hidden.number(&self.scope)?;
                let part = Part { name, kind: kind_of(kind)?, hidden, layer_prefix: String::new(), tensors: Tensors::default(), layers: Vec::new() };
                self.parts.push(Ok(part));
            }
            Statement::Layers { prefix, count, options, body } => self.layers(prefix, count, options, body)?,
            Statement::For { variable, count, body } => {
                for number in 0..self.bounded(count)? {
                    self.set(variable, Value::Number(number));
                    self.run(body)?;
                }
            }
            Statement::If { condition, yes, no } => {
                let branch = if condition.value(&self.scope)?.holds() { yes } else { no };
                self.run(branch)?;
            }
            Statement::With { path, body } => {
                let inner = self.scope.fields.nested(&[path])?.unwrap_or_else(|| self.scope.fields.left_out(path));
                let before = std::mem::replace(&mut self.scope.fields, inner);
                let result = self.run(body);
                self.scope.fields = before;
                result?;
            }
            Statement::Block { name, parameters, body } => _ = self.blocks.insert(name, (parameters.clone(), body.clone())),
            Statement::Use { block, arguments } => self.call(block, arguments)?,
            Statement::Tensor { form, name, dims, bias } => self.tensor(*form, name, dims, bias.as_ref())?,
            Statement::Must { condition, key, why } => {
                if !condition.value(&self.scope)?.holds() {
                    return Err(self.scope.fields.impossible(key, why));
                }
            }
            Statement::Say(sentence) => self.assumptions.push((*sentence).to_owned()),
            Statement::Touch(keys) => keys.iter().for_each(|key| _ = self.scope.fields.touch(key)),
            Statement::Unnamed(class) => {
                if self.scope.class.is_empty() {
                    (*class).clone_into(&mut self.scope.class);
                    self.assumptions.push(format!("the config names no class in `architectures`: counted as `{class}`"));
                }
            }
            Statement::Sub { name, kind, key, options } => self.sub(name, kind, key, options)?,
            Statement::Language { key, options } => self.language(key, options)?,
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value) {
        self.scope.variables.insert(name.to_owned(), value);
    }

    /// A number of layers or rounds.
    fn bounded(&self, count: &Expression) -> Result<u64, ConfigError> {
        let number = count.number(&self.scope)?;
        if number > Shape::MAX_LAYERS { Err(ConfigError::Overflow) } else { Ok(number) }
    }

    fn call(&mut self, block: &'static str, arguments: &[Argument]) -> Result<(), ConfigError> {
        let wrong = || ConfigError::Table(block.to_owned());
        let (parameters, body) = self.blocks.get(block).cloned().ok_or_else(wrong)?;
        if parameters.len() != arguments.len() {
            return Err(wrong());
        }
        let values = arguments.iter().map(|argument| match argument {
            Argument::Text(text) => Ok(Value::Text(self.filled(text).remove(0))),
            Argument::Value(value) => value.value(&self.scope),
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let before = self.scope.variables.clone();
        for (name, value) in parameters.iter().zip(values) {
            self.set(name, value);
        }
        let result = self.run(&body);
        self.scope.variables = before;
        result
    }

    /// A name with its variables filled in, once for each of the alternatives in `{a,b}`.
    fn filled(&self, name: &str) -> Vec<String> {
        let Some((before, inner, after)) = name.split_once('{').and_then(|(before, rest)| rest.split_once('}').map(|(inner, after)| (before, inner, after)))
        else {
            return vec![name.to_owned()];
        };
        let choices: Vec<String> = match inner {
            "" => vec!["{}".to_owned()],
            _ if inner.contains(',') => inner.split(',').map(str::to_owned).collect(),
            _ => vec![match self.scope.variables.get(inner) {
                Some(Value::Text(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => inner.to_owned(),
            }],
        };
        let rest = self.filled(after);
        let joined = choices.iter().flat_map(|choice| rest.iter().map(move |rest| format!("{before}{choice}{rest}")));
        // A part that is left empty takes its dot with it.
        joined.map(|name| name.trim_start_matches('.').replace("..", ".")).collect()
    }

    fn tensor(&mut self, form: Form, name: &'static str, dims: &[Expression], bias: Option<&Expression>) -> Result<(), ConfigError> {
        let dims = dims.iter().map(|dim| dim.number(&self.scope)).collect::<Result<Vec<_>, _>>()?;
        let bias = bias.map_or(Ok(true), |bias| bias.value(&self.scope).map(|value| value.holds()))?;
        let names = self.filled(name);
        let out = match (&mut self.layer, self.parts.last_mut()) {
            (Some(layer), _) => layer,
            (None, Some(Ok(part))) => &mut part.tensors,
            _ => return Err(ConfigError::Table(name.to_owned())),
        };
        for name in names {
            match (form, dims.as_slice()) {
                (Form::Linear, [inputs, outputs]) => _ = out.linear(&name, *inputs, *outputs, bias),
                (Form::Matrix, [inputs, outputs]) => _ = out.linear(&name, *inputs, *outputs, false),
                (Form::Norm | Form::Scale, [width]) => {
                    out.tensor(&format!("{name}.weight"), Role::Norm, &[*width]);
                    if form == Form::Norm && bias {
                        out.tensor(&format!("{name}.bias"), Role::Norm, &[*width]);
                    }
                }
                (Form::Table, [rows, width]) => _ = out.embedding(&name, *rows, *width),
                (Form::Convolution, [_, ..]) => _ = out.convolution(&name, &dims, bias),
                (Form::Kernel, [_, ..]) => _ = out.convolution(&name, &dims, false),
                (Form::Tensor, _) => {
                    let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
                    _ = out.tensor(&name, Role::of_module(module), &dims);
                }
                (Form::Experts, [count, inputs, outputs]) => _ = out.experts(&name, *count, *inputs, *outputs),
                _ => return Err(ConfigError::Table(name)),
            }
        }
        Ok(())
    }

    fn layers(&mut self, prefix: &'static str, count: &Expression, options: &[(&'static str, Expression)], body: &[Statement]) -> Result<(), ConfigError> {
        let mut layers = Vec::new();
        for number in 0..self.bounded(count)? {
            self.set("i", Value::Number(number));
            self.layer = Some(Tensors::default());
            let result = self.run(body);
            let tensors = self.layer.take().unwrap_or_default().build();
            result?;
            layers.push((self.layer_of(options)?, tensors));
        }
        let prefix = self.filled(prefix).remove(0);
        match self.parts.last_mut() {
            Some(Ok(part)) => {
                part.layer_prefix = prefix;
                part.layers.extend(layers);
                Ok(())
            }
            _ => Err(ConfigError::Table(prefix)),
        }
    }

    /// What a layer is to memory: attention by `heads`, `kv`, `dim`, `value`, `window` and `keeps`; a latent by `latent`, `rope`,
    /// `nope`, `value` and `indexer`; a recurrence by `state`, `recurrence`, `conv` and `kernel`; the feed-forward by `inner`,
    /// `gated`, `experts`, `active` and `shared`.
    fn layer_of(&self, options: &[(&'static str, Expression)]) -> Result<Layer, ConfigError> {
        let find = |name: &str| options.iter().find(|(option, _)| *option == name).map(|(_, value)| value);
        let number = |name: &str, default: u64| find(name).map_or(Ok(default), |value| value.number(&self.scope));
        let heads = number("heads", 0)?;
        let key_dim = number("dim", 0)?;
        let keeps = match find("keeps").map(|value| value.value(&self.scope)).transpose()? {
            Some(Value::Text(text)) if text == "own" => Keeps::Own,
            Some(Value::Text(text)) if text == "encoder" => Keeps::Encoder,
            Some(Value::Text(text)) if text == "shared" => Keeps::Shared,
            None if matches!(self.parts.last(), Some(Ok(part)) if part.kind == ComponentKind::TextDecoder) => Keeps::Own,
            _ => Keeps::Nothing,
        };
        let span = match find("window").map(|value| value.value(&self.scope)).transpose()? {
            Some(Value::Number(window)) if window > 0 => Span::Sliding(window),
            _ => Span::Full,
        };
        let attention = Attention { heads, kv_heads: number("kv", heads)?, key_dim, value_dim: number("value", key_dim)?, span, keeps };
        let (latent, state) = (number("latent", 0)?, number("state", 0)?);
        let mixer = if state > 0 {
            let kind = match find("recurrence").map(|value| value.value(&self.scope)).transpose()? {
                Some(Value::Text(name)) => RECURRENCES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
                _ => None,
            };
            let kind = kind.ok_or_else(|| ConfigError::Table("recurrence".to_owned()))?;
            Mixer::Recurrent(Recurrence { kind, conv_channels: number("conv", 0)?, conv_kernel: number("kernel", 0)?, state })
        } else if latent > 0 {
            let (rope_dim, nope_dim, value_dim, indexer) = (number("rope", 0)?, number("nope", 0)?, number("value", 0)?, number("indexer", 0)?);
            Mixer::Latent(LatentAttention { heads, kv_lora_rank: latent, rope_dim, nope_dim, value_dim, indexer })
        } else if heads > 0 {
            Mixer::Attention(attention)
        } else {
            Mixer::None
        };
        let intermediate = number("inner", 0)?;
        let experts = number("experts", 0)?;
        let feed_forward = match (intermediate, experts) {
            (0, _) => FeedForward::None,
            (_, 0) => FeedForward::Dense { intermediate, gated: number("gated", 0)? > 0 },
            _ => FeedForward::MixtureOfExperts { experts, active: number("active", 1)?, intermediate, shared: number("shared", 0)? },
        };
        Ok(Layer { mixer, feed_forward })
    }

    /// A nested config by its own family, as a part of this model.
    fn sub(&mut self, name: &'static str, kind: &str, key: &'static str, options: &[(&'static str, &'static str)]) -> Result<(), ConfigError> {
        let option = |wanted: &str| options.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let nested = self.scope.fields.nested(&[key])?.unwrap_or_else(|| self.scope.fields.left_out(key));
        let model_type = nested.optional_text("model_type")?.filter(|name| !name.is_empty()).or_else(|| option("default").map(str::to_owned)).unwrap_or_default();
        let Some(family) = family_of(&model_type) else {
            return Err(ConfigError::UnknownType { model_type, why: format!("it is the `{key}` inside this model") });
        };
        let nested = nested.as_type(&model_type).as_class(option("class").unwrap_or("Model"));
        let draft = (family.read)(&nested)?;
        let base = draft.decoder.base;
        let mut components = draft.into_components(&nested, &mut self.assumptions)?.into_iter();
        let names = Names::Inside(lasting(self.filled(option("at").unwrap_or_default()).remove(0)));
        let kind = kind_of(kind)?;
        let first = components.next().map(|first| Component { name, kind, ..first });
        if let Some(first) = &first {
            self.set(&format!("{name}_hidden"), Value::Number(first.hidden_size));
        }
        for mut part in first.into_iter().chain(components) {
            part.layer_prefix = lasting(names.inside(base, part.layer_prefix));
            for tensor in &mut part.tensors {
                tensor.name = names.inside(base, &tensor.name);
            }
            self.parts.push(Err(part));
        }
        Ok(())
    }

    fn language(&mut self, key: &'static str, options: &[(&'static str, &'static str)]) -> Result<(), ConfigError> {
        let option = |wanted: &str| options.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let names = match (option("behind"), option("inside")) {
            (_, Some(prefix)) => Names::Inside(prefix),
            (prefix, None) => Names::Behind(prefix.unwrap_or("language_model")),
        };
        let tie = match option("tie") {
            Some("either") => Tie::Either,
            Some("text") => Tie::Text,
            Some("wrapper") => Tie::Wrapper { default: false },
            Some("wrapper_tied") => Tie::Wrapper { default: true },
            _ => Tie::WrapperThenText,
        };
        let head = match option("head") {
            Some("none") => Head::Nothing,
            Some("always") => Head::Language,
            _ => Head::ByArchitecture,
        };
        let wrapper = Wrapper { default_type: option("default").unwrap_or("llama"), names, head, tie };
        let text = self.scope.fields.nested(&[key])?.unwrap_or_else(|| self.scope.fields.left_out(key));
        let draft = language_in(self.outer, &text, &wrapper)?;
        self.set("text_hidden", Value::Number(draft.decoder.shape.hidden));
        self.set("text_vocab", Value::Number(draft.decoder.shape.vocab));
        self.language = Some(draft);
        Ok(())
    }

    fn finish(self) -> Result<Draft, ConfigError> {
        let mut parts = self.parts.into_iter();
        let mut draft = match self.language {
            Some(draft) => draft,
            None => match parts.next() {
                Some(Ok(part)) => part.draft(&self.scope),
                Some(Err(first)) => whole(first),
                None => return Err(ConfigError::Table("part".to_owned())),
            },
        };
        draft.others.extend(parts.map(|part| part.map_or_else(|finished| finished, Part::component)));
        draft.assumptions.extend(self.assumptions);
        Ok(draft)
    }
}

impl Part {
    fn component(mut self) -> Component {
        component(self.name, self.kind, self.hidden, lasting(self.layer_prefix), self.tensors.build(), self.layers)
    }

    /// The model itself.
    fn draft(mut self, scope: &Scope) -> Draft {
        let attention = self.layers.iter().find_map(|(layer, _)| layer.mixer.attention().copied());
        let (heads, kv_heads, head_dim) = attention.map_or((1, 1, self.hidden), |a| (a.heads, a.kv_heads, a.key_dim));
        let vocab = match scope.variables.get("vocab") {
            Some(Value::Number(vocab)) => *vocab,
            _ => 0,
        };
        let base = match scope.variables.get("base") {
            Some(Value::Text(base)) => lasting(base.clone()),
            _ => "",
        };
        let shape = Shape { hidden: self.hidden, layers: self.layers.len() as u64, vocab, heads, kv_heads, head_dim };
        // With a `head` the class name decides what stands above, as for other decoders.
        let (head, head_module) = match scope.variables.get("head") {
            Some(Value::Text(module)) => (Head::ByArchitecture, lasting(module.clone())),
            _ => (Head::Nothing, "lm_head"),
        };
        let tied_by_default = head == Head::Nothing || scope.variables.get("tied").is_some_and(Value::holds);
        let (layer_prefix, tensors) = (lasting(self.layer_prefix), self.tensors.build());
        let decoder = Decoder { shape, base, layer_prefix, tensors, layers: self.layers, head, head_module, tied_by_default };
        Draft { kind: self.kind, ..decoder.into() }
    }
}

/// A finished part as the model itself.
fn whole(first: Component) -> Draft {
    let shape = Shape { hidden: first.hidden_size, layers: 0, vocab: first.vocab_size, heads: 1, kv_heads: 1, head_dim: first.hidden_size };
    let layers = first.layers.into_iter().flat_map(|run| (0..run.count).map(move |_| (run.layer, run.tensors.clone()))).collect();
    let (base, layer_prefix, tensors) = (first.base, first.layer_prefix, first.tensors);
    let decoder = Decoder { shape, base, layer_prefix, tensors, layers, head: Head::Nothing, head_module: "lm_head", tied_by_default: true };
    Draft { kind: first.kind, ..decoder.into() }
}
