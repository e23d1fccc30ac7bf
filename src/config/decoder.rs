//! The vocabulary of blocks that families are written in: attention, feed-forwards, norms, embeddings, heads.
//!
//! Shapes are those of the transformers 5.23 classes.

use std::borrow::Cow;

use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, LayerRun, Mixer, Role, Span, Tensor, Work};

/// The sizes that every decoder has.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: u64,
    pub layers: u64,
    pub vocab: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
}

impl Shape {
    /// Most layers that are read: an order above any real model, so that per-layer work stays bounded.
    pub const MAX_LAYERS: u64 = 10_000;

    /// Reads them with the usual defaults: `num_key_value_heads` = `num_attention_heads`, `head_dim` = `hidden_size` / heads.
    pub fn read(f: &Fields) -> Result<Self, ConfigError> {
        Self::read_with(f, None, None)
    }

    /// The same for families whose class has a `head_dim` of its own.
    pub fn read_with_head_dim(f: &Fields, head_dim: u64) -> Result<Self, ConfigError> {
        Self::read_with(f, Some(head_dim), None)
    }

    /// The same for families whose class has numbers of its own where the config is silent.
    pub fn read_with(f: &Fields, head_dim: Option<u64>, kv_heads: Option<u64>) -> Result<Self, ConfigError> {
        let (hidden, layers, heads) = (f.count("hidden_size")?, Self::layer_count(f)?, f.count("num_attention_heads")?);
        let kv_heads = match kv_heads.filter(|_| !f.has_any("num_key_value_heads")) {
            Some(of_class) => f.count_or("num_key_value_heads", of_class)?,
            None => f.optional_count("num_key_value_heads")?.unwrap_or(heads),
        };
        let head_dim = head_dim.map_or_else(|| f.optional_count("head_dim"), |of_class| f.count_or("head_dim", of_class).map(Some))?;
        Self::checked(f, hidden, layers, f.count("vocab_size")?, (heads, kv_heads, head_dim))
    }

    /// Sizes that a family has read itself; `heads` are queries, keys and, unless it follows from the hidden size, the size of one.
    pub fn checked(f: &Fields, hidden: u64, layers: u64, vocab: u64, heads: (u64, u64, Option<u64>)) -> Result<Self, ConfigError> {
        if layers > Self::MAX_LAYERS {
            return Err(f.impossible("num_hidden_layers", "no model has more than 10,000 layers"));
        }
        let (heads, kv_heads, head_dim) = heads;
        if !heads.is_multiple_of(kv_heads) {
            return Err(f.impossible("num_key_value_heads", "it must divide `num_attention_heads`"));
        }
        let head_dim = match head_dim {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(f.impossible("num_attention_heads", "it must divide `hidden_size` when there is no `head_dim`")),
        };
        // Bounded like every other size, so that later sums and small multiples cannot overflow.
        if heads.saturating_mul(head_dim) > 1 << 40 {
            return Err(f.impossible("num_attention_heads", "its product with the size of a head is past any model"));
        }
        Ok(Self { hidden, layers, vocab, heads, kv_heads, head_dim })
    }

    /// `num_hidden_layers`, kept within reason.
    pub fn layer_count(f: &Fields) -> Result<u64, ConfigError> {
        let layers = f.count("num_hidden_layers")?;
        if layers > Self::MAX_LAYERS {
            return Err(f.impossible("num_hidden_layers", "no model has more than 10,000 layers"));
        }
        Ok(layers)
    }

    /// The attention of a layer with this span.
    pub fn attention(&self, span: Span) -> Attention {
        Attention { heads: self.heads, kv_heads: self.kv_heads, key_dim: self.head_dim, value_dim: self.head_dim, span, keeps: Keeps::Own }
    }
}

/// Tensors under construction; names are relative to their layer or model.
#[derive(Default)]
pub struct Tensors(Vec<Tensor>);

impl Tensors {
    /// A matrix (stored as rows × columns) and, if wanted, its bias.
    pub fn linear(&mut self, module: &str, inputs: u64, outputs: u64, bias: bool) -> &mut Self {
        self.push(module, "weight", vec![outputs, inputs], 1);
        if bias {
            self.push(module, "bias", vec![outputs], 1);
        }
        self
    }

    /// `count` matrices that differ only in their number, which `{}` in the name stands for.
    pub fn experts(&mut self, module: &str, count: u64, inputs: u64, outputs: u64) -> &mut Self {
        self.push(module, "weight", vec![outputs, inputs], count);
        self
    }

    /// A norm's weight, and its bias for a LayerNorm.
    pub fn norm(&mut self, module: &str, width: u64, bias: bool) -> &mut Self {
        self.push(module, "weight", vec![width], 1);
        if bias {
            self.push(module, "bias", vec![width], 1);
        }
        self
    }

    /// An embedding table.
    pub fn embedding(&mut self, module: &str, rows: u64, width: u64) -> &mut Self {
        self.push(module, "weight", vec![rows, width], 1);
        self
    }

    fn push(&mut self, module: &str, kind: &str, shape: Vec<u64>, count: u64) {
        self.0.push(Tensor { name: format!("{module}.{kind}"), role: Role::of_module(module), shape, count, stored: None });
    }

    /// Separate q, k, v and o projections under `self_attn`, as Llama has them.
    pub fn attention(&mut self, shape: &Shape, qkv_bias: bool, output_bias: bool) -> &mut Self {
        let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
        self.linear("self_attn.q_proj", shape.hidden, queries, qkv_bias)
            .linear("self_attn.k_proj", shape.hidden, keys, qkv_bias)
            .linear("self_attn.v_proj", shape.hidden, keys, qkv_bias)
            .linear("self_attn.o_proj", queries, shape.hidden, output_bias)
    }

    /// A tensor of any shape, with its full name (`self_attn.sinks`, `A_log`).
    pub fn tensor(&mut self, name: &str, role: Role, shape: &[u64]) -> &mut Self {
        self.0.push(Tensor { name: name.to_owned(), role, shape: shape.to_vec(), count: 1, stored: None });
        self
    }

    /// `count` equal tensors of any shape: experts, or what the files keep as one for all experts (their biases).
    pub fn repeated(&mut self, name: &str, role: Role, count: u64, shape: &[u64]) -> &mut Self {
        self.0.push(Tensor { name: name.to_owned(), role, shape: shape.to_vec(), count, stored: None });
        self
    }

    /// A convolution's kernel (outputs × inputs per group × kernel ...) and, if wanted, its bias.
    pub fn convolution(&mut self, module: &str, shape: &[u64], bias: bool) -> &mut Self {
        self.push(module, "weight", shape.to_vec(), 1);
        if bias {
            self.push(module, "bias", vec![shape[0]], 1);
        }
        self
    }

    /// Everything of another list, its names prefixed.
    pub fn nested(&mut self, prefix: &str, tensors: Vec<Tensor>) -> &mut Self {
        self.0.extend(tensors.into_iter().map(|tensor| Tensor { name: format!("{prefix}.{}", tensor.name), ..tensor }));
        self
    }

    /// Everything of another list.
    pub fn extend(&mut self, tensors: Vec<Tensor>) -> &mut Self {
        self.0.extend(tensors);
        self
    }

    /// Norms of each query and key head.
    pub fn query_key_norm(&mut self, shape: &Shape) -> &mut Self {
        self.norm("self_attn.q_norm", shape.head_dim, false).norm("self_attn.k_norm", shape.head_dim, false)
    }

    /// Gate, up and down projections under `mlp`.
    pub fn gated_mlp(&mut self, hidden: u64, intermediate: u64, bias: bool) -> &mut Self {
        self.linear("mlp.gate_proj", hidden, intermediate, bias).linear("mlp.up_proj", hidden, intermediate, bias).linear(
            "mlp.down_proj",
            intermediate,
            hidden,
            bias,
        )
    }

    /// RMSNorms of the layer, by name.
    pub fn norms(&mut self, names: &[&str], width: u64) -> &mut Self {
        for name in names {
            self.norm(name, width, false);
        }
        self
    }

    /// The finished list.
    pub fn build(&mut self) -> Vec<Tensor> {
        std::mem::take(&mut self.0)
    }
}

/// Norms before attention and before the feed-forward, as Llama names them.
pub const LLAMA_NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm"];

/// What stands above the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// What the class name in `architectures` says: a language-model head, a score, or nothing.
    ByArchitecture,
    /// A language-model head, whatever the class is called.
    Language,
    /// A language-model head with a bias.
    LanguageWithBias,
    /// What the class name says, a language-model head with a bias.
    ByArchitectureWithBias,
    /// Nothing; whatever there is, the family has put among the tensors.
    Nothing,
}

/// A decoder in the family's own words.
pub struct Decoder {
    /// The sizes.
    pub shape: Shape,
    /// Prefix of everything below the head: `model`.
    pub base: &'static str,
    /// Where the layers live: `model.layers`.
    pub layer_prefix: &'static str,
    /// Embeddings and final norm.
    pub tensors: Vec<Tensor>,
    /// The layers in order.
    pub layers: Vec<(Layer, Vec<Tensor>)>,
    /// What stands above.
    pub head: Head,
    /// The head's module.
    pub head_module: &'static str,
    /// Whether the head is the embedding when the config does not say.
    pub tied_by_default: bool,
}

impl Decoder {
    /// A decoder named as Llama's modules are (`model.embed_tokens`, `model.layers.N`, `model.norm`, `lm_head`).
    pub fn llama_like(shape: Shape, layers: Vec<(Layer, Vec<Tensor>)>, tied_by_default: bool) -> Self {
        let tensors = Tensors::default().embedding("model.embed_tokens", shape.vocab, shape.hidden).norm("model.norm", shape.hidden, false).build();
        Self { shape, base: "model", layer_prefix: "model.layers", tensors, layers, head: Head::ByArchitecture, head_module: "lm_head", tied_by_default }
    }

    /// For classes that never tie their head, whatever `tie_word_embeddings` says.
    pub fn never_tied(mut self, f: &Fields) -> Result<Draft, ConfigError> {
        f.touch("tie_word_embeddings");
        let mut assumptions = Vec::new();
        if self.head == Head::ByArchitecture && has_language_head(f, &mut assumptions)? {
            self.tensors.extend(Tensors::default().linear(self.head_module, self.shape.hidden, self.shape.vocab, false).build());
            self.head = Head::Nothing;
        }
        Ok(Draft { assumptions, ..Draft::from(self) })
    }

    /// The same, its modules under `language_model` as in checkpoints of models with other parts.
    #[must_use]
    pub fn within_language_model(self) -> Self {
        let tensors = Tensors::default().nested("language_model", self.tensors).build();
        Self { base: "language_model.model", layer_prefix: "language_model.model.layers", tensors, head_module: "language_model.lm_head", ..self }
    }

    /// The finished component with its head.
    fn into_component(mut self, f: &Fields, assumptions: &mut Vec<String>) -> Result<Component, ConfigError> {
        let tied = f.flag("tie_word_embeddings", self.tied_by_default)?;
        let mut head = Tensors::default();
        f.touch("architectures");
        if self.head == Head::ByArchitectureWithBias {
            self.head = match by_architecture(f, assumptions)? {
                Top::Language => Head::LanguageWithBias,
                Top::Score { .. } | Top::Nothing => Head::ByArchitecture,
            };
        }
        match self.head {
            Head::ByArchitecture => match by_architecture(f, assumptions)? {
                Top::Language if !tied => _ = head.linear(self.head_module, self.shape.hidden, self.shape.vocab, false),
                Top::Score { module, labels, bias } => _ = head.linear(module, self.shape.hidden, labels, bias),
                Top::Language | Top::Nothing => {}
            },
            Head::Language if !tied => _ = head.linear(self.head_module, self.shape.hidden, self.shape.vocab, false),
            // A tied head still has a bias of its own.
            Head::LanguageWithBias if tied => _ = head.tensor(&format!("{}.bias", self.head_module), Role::Head, &[self.shape.vocab]),
            Head::LanguageWithBias => _ = head.linear(self.head_module, self.shape.hidden, self.shape.vocab, true),
            Head::Language | Head::Nothing | Head::ByArchitectureWithBias => {}
        }
        self.tensors.extend(head.build());
        Ok(Component {
            name: "text".into(),
            kind: ComponentKind::TextDecoder,
            hidden_size: self.shape.hidden,
            vocab_size: self.shape.vocab,
            base: self.base.into(),
            layer_prefix: self.layer_prefix.into(),
            tensors: self.tensors,
            layers: LayerRun::code(self.layers),
            work: Work::Tokens,
        })
    }
}

/// A model in the family's own words: its decoder, and its other parts.
pub struct Draft {
    /// The text decoder (an encoder's own layers, for models that only encode).
    pub decoder: Decoder,
    /// What the decoder is, where it is not one.
    pub kind: ComponentKind,
    /// Vision towers, projectors, encoders ...
    pub others: Vec<Component>,
    /// What it works on.
    pub work: Work,
    /// What was assumed, each a sentence.
    pub assumptions: Vec<String>,
    /// Values of one position in tables of rotary encodings that the family has in float32; `None` where they follow from the config.
    pub rotary: Option<u64>,
}

impl From<Decoder> for Draft {
    fn from(decoder: Decoder) -> Self {
        Self { decoder, kind: ComponentKind::TextDecoder, others: Vec::new(), work: Work::Tokens, assumptions: Vec::new(), rotary: None }
    }
}

impl Draft {
    /// The same with another part.
    #[must_use]
    pub fn with(mut self, component: Component) -> Self {
        self.others.push(component);
        self
    }

    /// The same with another part, if there is one.
    #[must_use]
    pub fn with_any(mut self, component: Option<Component>) -> Self {
        self.others.extend(component);
        self
    }

    /// The finished parts, the decoder first. `f` is the config's outermost object; `text` the one that holds the decoder's fields.
    pub(super) fn into_components(self, f: &Fields, assumptions: &mut Vec<String>) -> Result<Vec<Component>, ConfigError> {
        assumptions.extend(self.assumptions);
        let mut decoder = self.decoder.into_component(f, assumptions)?;
        decoder.kind = self.kind;
        decoder.work = self.work;
        if self.kind == ComponentKind::VisionTower {
            decoder.name = "vision".into();
        }
        Ok(std::iter::once(decoder).chain(self.others).collect())
    }
}

/// Another part than the decoder: its tensors outside layers with full names, its layers with names relative to them.
pub fn component(
    name: impl Into<Cow<'static, str>>,
    kind: ComponentKind,
    hidden_size: u64,
    layer_prefix: &'static str,
    tensors: Vec<Tensor>,
    layers: Vec<(Layer, Vec<Tensor>)>,
) -> Component {
    Component {
        name: name.into(),
        kind,
        hidden_size,
        vocab_size: 0,
        base: "model".into(),
        layer_prefix: layer_prefix.into(),
        tensors,
        layers: LayerRun::code(layers),
        work: Work::Tokens,
    }
}

/// What a class name says of the head.
pub enum Top {
    /// A language-model head.
    Language,
    /// A score or class per sequence or token, or where an answer begins and ends.
    Score {
        /// What it is called.
        module: &'static str,
        /// How many.
        labels: u64,
        /// Whether it has a bias, as the score of each token has.
        bias: bool,
    },
    /// None.
    Nothing,
}

/// Whether the class name in `architectures` says that there is a language-model head.
pub(super) fn has_language_head(f: &Fields, assumptions: &mut Vec<String>) -> Result<bool, ConfigError> {
    Ok(matches!(by_architecture(f, assumptions)?, Top::Language))
}

/// The head by the class name in `architectures`.
pub fn by_architecture(f: &Fields, assumptions: &mut Vec<String>) -> Result<Top, ConfigError> {
    let Some(class) = f.architecture()? else { return Ok(Top::Language) };
    let ends = |endings: &[&str]| endings.iter().any(|ending| class.ends_with(ending));
    Ok(if ends(&["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForCausalLMWithValueHead"]) {
        Top::Language
    } else if class.contains("ForReward") || ends(&["RewardModel", "ForScore"]) {
        if !ends(&["RewardModel", "ForReward", "ForScore"]) {
            assumptions.push(format!("architecture `{class}` is counted with a matrix of scores and nothing else above its layers"));
        }
        // One score, where the config does not say how many.
        let named = f.optional_count("num_objectives")?.or(f.optional_count("score_dim")?);
        let labels = named.or(f.optional_count("num_labels")?).or(f.entries("id2label")).unwrap_or(1);
        Top::Score { module: "score", labels, bias: ends(&["ForScore"]) && f.flag("bias", false)? }
    } else if ends(&["ForSequenceClassification", "ForTokenClassification"]) {
        Top::Score { module: "score", labels: labels(f)?, bias: class.ends_with("ForTokenClassification") }
    } else if ends(&["ForQuestionAnswering"]) {
        Top::Score { module: "qa_outputs", labels: 2, bias: true }
    } else if ends(&["Model"]) && !has_purpose(&class) {
        Top::Nothing
    } else {
        assumptions.push(format!("architecture `{class}` is counted with a language-model head"));
        Top::Language
    })
}

/// Whether a class is for something by its name (`Qwen3ForGuardModel`): what stands above it is not a bare model's.
pub fn has_purpose(class: &str) -> bool {
    class.match_indices("For").any(|(at, word)| class[at + word.len()..].starts_with(|letter: char| letter.is_ascii_uppercase()))
}

/// `num_labels`, the length of `id2label`, or transformers' default of 2.
pub fn labels(f: &Fields) -> Result<u64, ConfigError> {
    labels_or(f, 2)
}

/// The same for a class that has a number of its own.
pub fn labels_or(f: &Fields, of_class: u64) -> Result<u64, ConfigError> {
    match f.optional_count("num_labels")? {
        Some(labels) => Ok(labels),
        None => Ok(f.entries("id2label").unwrap_or(of_class)),
    }
}

/// The decoder's layers, alike but for the span that their number gives.
pub fn layers_by_span(shape: &Shape, feed_forward: FeedForward, tensors: &[Tensor], span: impl Fn(usize) -> Span) -> Vec<(Layer, Vec<Tensor>)> {
    let layer = |number| Layer { mixer: Mixer::Attention(shape.attention(span(number))), feed_forward };
    (0..usize::try_from(shape.layers).unwrap_or(0)).map(|number| (layer(number), tensors.to_vec())).collect()
}

/// `sliding_window` in every layer, or full attention where the config has none.
pub fn sliding_or_full(f: &Fields) -> Result<Span, ConfigError> {
    Ok(f.optional_count("sliding_window")?.map_or(Span::Full, Span::Sliding))
}

/// `layer_types` of the config as spans, one per layer; `None` when the key is absent.
pub fn spans_by_layer_types(f: &Fields, shape: &Shape) -> Result<Option<Vec<Span>>, ConfigError> {
    let Some(types) = f.optional_texts("layer_types")? else { return Ok(None) };
    if types.len() as u64 != shape.layers {
        return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let spans = types.iter().map(|kind| match kind.as_str() {
        "full_attention" => Ok(Span::Full),
        "sliding_attention" => f.count("sliding_window").map(Span::Sliding),
        _ => Err(f.impossible("layer_types", "only `full_attention` and `sliding_attention` are known for this model type")),
    });
    spans.collect::<Result<_, _>>().map(Some)
}

/// Qwen's rule: layers from `max_window_layers` on slide, but only when `use_sliding_window` is set; `layer_types` wins.
pub fn qwen_spans(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let slides = f.flag("use_sliding_window", false)?;
    // In files that do not slide both keys may hold anything, null included.
    let first = if slides { f.optional_count_or_zero("max_window_layers")? } else { f.touch("max_window_layers") };
    let window = if slides { f.optional_count("sliding_window")? } else { f.touch("sliding_window") };
    if let Some(spans) = spans_by_layer_types(f, shape)? {
        return Ok(spans);
    }
    let span = |number| match window {
        Some(window) if number >= first.unwrap_or(0) => Span::Sliding(window),
        _ => Span::Full,
    };
    Ok((0..shape.layers).map(span).collect())
}
