//! The vocabulary of encoders: a family is a table of blocks whose sizes are named, so BERT and its kin differ by rows.
//!
//! A block with a size of zero is left out: `type_vocab_size: 0` has no token-type table.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, has_purpose, labels};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span, Tensor};

/// A size by name.
#[derive(Clone, Copy, Debug)]
pub enum Dim {
    Hidden,
    Inner,
    /// All query heads together.
    Queries,
    /// All key heads together.
    Keys,
    Vocab,
    /// Width of the embedding tables.
    Embedding,
    /// The hidden size where the embedding has another width, else zero: what maps one to the other.
    Mapping,
    Positions,
    Types,
    Labels,
    /// A size that the family reads itself.
    Own,
    /// A second one.
    Own2,
    Fixed(u64),
}

/// A block and its sizes: inputs before outputs, rows before columns.
#[derive(Clone, Copy, Debug)]
pub enum Block {
    /// A matrix with a bias.
    Linear(Dim, Dim),
    /// A matrix without.
    Matrix(Dim, Dim),
    /// A LayerNorm with a bias.
    Norm(Dim),
    /// A norm without.
    Scale(Dim),
    /// An embedding table.
    Table(Dim, Dim),
    /// A vector; the name is the tensor's own.
    Vector(Dim),
    /// A matrix with a bias that is there only when it is not the embedding.
    UntiedLinear(Dim, Dim),
    /// The same without a bias.
    UntiedMatrix(Dim, Dim),
    /// A vector that is there only when the head is not tied: a bias beside the matrix's own.
    UntiedVector(Dim),
}

/// Modules by name.
pub type Blocks = &'static [(&'static str, Block)];

/// Blocks by the ending of the class name in `architectures`; the first that fits counts.
pub type Heads = &'static [(&'static str, Blocks)];

/// BERT's tables and norm below `$base`, and what a family has besides.
macro_rules! embeddings {
    ($base:literal $(, $name:literal => $block:expr)*) => {
        &[
            (concat!($base, ".embeddings.word_embeddings"), $crate::config::families::encoder::Block::Table(
                $crate::config::families::encoder::Dim::Vocab,
                $crate::config::families::encoder::Dim::Embedding,
            )),
            (concat!($base, ".embeddings.position_embeddings"), $crate::config::families::encoder::Block::Table(
                $crate::config::families::encoder::Dim::Positions,
                $crate::config::families::encoder::Dim::Embedding,
            )),
            (concat!($base, ".embeddings.token_type_embeddings"), $crate::config::families::encoder::Block::Table(
                $crate::config::families::encoder::Dim::Types,
                $crate::config::families::encoder::Dim::Embedding,
            )),
            (concat!($base, ".embeddings.LayerNorm"), $crate::config::families::encoder::Block::Norm($crate::config::families::encoder::Dim::Embedding)),
            $(($name, $block),)*
        ]
    };
}
pub(super) use embeddings;

/// A family of encoders.
pub struct Spec {
    /// Prefix of everything below the head.
    pub base: &'static str,
    /// Where the layers live.
    pub layer_prefix: &'static str,
    /// What stands outside the layers, whatever the head.
    pub outside: Blocks,
    /// One layer.
    pub layer: Blocks,
    /// What stands above.
    pub heads: Heads,
}

/// What a class takes when its config does not say; zero: the class has no such thing.
#[derive(Clone, Copy)]
pub struct Defaults {
    pub vocab: u64,
    pub hidden: u64,
    pub layers: u64,
    pub heads: u64,
    pub inner: u64,
    pub positions: u64,
    pub types: u64,
}

/// `BertConfig`.
pub const BERT_DEFAULTS: Defaults = Defaults { vocab: 30522, hidden: 768, layers: 12, heads: 12, inner: 3072, positions: 512, types: 2 };

/// The sizes of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub hidden: u64,
    pub inner: u64,
    pub layers: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub vocab: u64,
    pub embedding: u64,
    pub positions: u64,
    pub types: u64,
    pub labels: u64,
    pub own: u64,
    pub own2: u64,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Whether the feed-forward has a gate.
    pub gated: bool,
}

impl Sizes {
    /// BERT's keys, with the class's defaults.
    pub fn read(f: &Fields, class: &Defaults) -> Result<Self, ConfigError> {
        let or = |key: &str, default: u64| f.count_or(key, default);
        let hidden = or("hidden_size", class.hidden)?;
        let heads = or("num_attention_heads", class.heads)?;
        let head_dim = head_dim(f, "num_attention_heads", hidden, heads)?;
        let layers = layer_count(f, "num_hidden_layers", class.layers)?;
        let types = f.optional_count_or_zero("type_vocab_size")?.unwrap_or(class.types);
        let positions = or("max_position_embeddings", class.positions)?;
        Ok(Self {
            hidden,
            inner: or("intermediate_size", class.inner)?,
            layers,
            heads,
            kv_heads: heads,
            head_dim,
            vocab: or("vocab_size", class.vocab)?,
            embedding: hidden,
            positions: if class.positions == 0 { 0 } else { positions },
            types,
            labels: labels(f)?,
            own: 0,
            own2: 0,
            tied: f.flag("tie_word_embeddings", true)?,
            gated: false,
        })
    }

    /// The value of a size.
    fn get(&self, dim: Dim) -> u64 {
        match dim {
            Dim::Inner => self.inner,
            Dim::Queries => self.heads.saturating_mul(self.head_dim),
            Dim::Keys => self.kv_heads.saturating_mul(self.head_dim),
            Dim::Vocab => self.vocab,
            Dim::Embedding => self.embedding,
            Dim::Mapping if self.embedding == self.hidden => 0,
            Dim::Hidden | Dim::Mapping => self.hidden,
            Dim::Positions => self.positions,
            Dim::Types => self.types,
            Dim::Labels => self.labels,
            Dim::Own => self.own,
            Dim::Own2 => self.own2,
            Dim::Fixed(n) => n,
        }
    }

    /// The tensors of these blocks.
    pub fn tensors(&self, blocks: Blocks) -> Vec<Tensor> {
        let mut tensors = Tensors::default();
        for (name, block) in blocks {
            self.add(&mut tensors, name, *block);
        }
        tensors.build()
    }

    /// The tensors of one block.
    pub fn add(&self, tensors: &mut Tensors, name: &str, block: Block) {
        match block {
            Block::UntiedLinear(..) | Block::UntiedMatrix(..) | Block::UntiedVector(_) if self.tied => {}
            Block::Linear(from, to) | Block::UntiedLinear(from, to) if self.has(from, to) => _ = tensors.linear(name, self.get(from), self.get(to), true),
            Block::Matrix(from, to) | Block::UntiedMatrix(from, to) if self.has(from, to) => _ = tensors.linear(name, self.get(from), self.get(to), false),
            Block::Table(rows, width) if self.has(rows, width) => _ = tensors.embedding(name, self.get(rows), self.get(width)),
            Block::Norm(width) if self.get(width) > 0 => _ = tensors.norm(name, self.get(width), true),
            Block::Scale(width) if self.get(width) > 0 => _ = tensors.norm(name, self.get(width), false),
            Block::Vector(width) | Block::UntiedVector(width) if self.get(width) > 0 => {
                let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
                tensors.tensor(name, Role::of_module(module), &[self.get(width)]);
            }
            _ => {}
        }
    }

    fn has(&self, a: Dim, b: Dim) -> bool {
        self.get(a) > 0 && self.get(b) > 0
    }

    /// A layer with this span that keeps this.
    pub fn layer(&self, span: Span, keeps: Keeps) -> Layer {
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        let attention = Attention { heads, kv_heads, key_dim: head_dim, value_dim: head_dim, span, keeps };
        Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: self.inner, gated: self.gated } }
    }

    /// Equal layers.
    pub fn equal_layers(&self, keeps: Keeps, tensors: &[Tensor]) -> Vec<(Layer, Vec<Tensor>)> {
        (0..self.layers).map(|_| (self.layer(Span::Full, keeps), tensors.to_vec())).collect()
    }

    fn shape(&self) -> Shape {
        Shape { hidden: self.hidden, layers: self.layers, vocab: self.vocab, heads: self.heads, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }

    /// The whole model: its first part, whose head the family has put among the tensors.
    pub fn model(&self, kind: ComponentKind, base: &'static str, layer_prefix: &'static str, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>) -> Draft {
        let decoder = Decoder { shape: self.shape(), base, layer_prefix, tensors, layers, head: Head::Nothing, head_module: "lm_head", tied_by_default: true };
        Draft { kind, ..decoder.into() }
    }
}

/// `hidden / heads`, where `heads` stands under `key`.
pub fn head_dim(f: &Fields, key: &str, hidden: u64, heads: u64) -> Result<u64, ConfigError> {
    hidden.is_multiple_of(heads).then(|| hidden / heads).ok_or_else(|| f.impossible(key, "it must divide the hidden size"))
}

/// Keys that say what these families are anyway, or how they are trained and searched; in others they might matter.
const KNOWN: &[&str] = &[
    "adapter_stride",
    "attention_type",
    "block_size",
    "decoder_layerdrop",
    "decoder_start_token_id",
    "encoder_layerdrop",
    "encoder_no_repeat_ngram_size",
    "expert_capacity",
    "extra_pos_embeddings",
    "is_encoder_decoder",
    "mask_feature_prob",
    "mask_time_prob",
    "num_memory_blocks",
    "static_position_embeddings",
    "top_k",
    "use_memory_efficient_attention",
];

/// A number of layers, bounded so that per-layer work stays bounded.
pub fn layer_count(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    for key in KNOWN {
        f.touch(key);
    }
    let layers = f.count_or(key, default)?;
    if layers > Shape::MAX_LAYERS {
        return Err(f.impossible(key, "no model has more than 10,000 layers"));
    }
    Ok(layers)
}

/// The blocks above an encoder by the class name; a masked-language-model head where the config names no class.
pub fn head_of(f: &Fields, heads: Heads, assumptions: &mut Vec<String>) -> Result<Blocks, ConfigError> {
    let is_end = |class: &str, ending: &str| class.ends_with(ending) && (ending != "Model" || !has_purpose(class));
    let find = |class: &str| heads.iter().find(|(ending, _)| is_end(class, ending)).map(|(_, blocks)| *blocks);
    match f.architecture()? {
        None => {
            assumptions.push("the config names no class in `architectures`: counted with the masked-language-model head of pretraining".to_owned());
            Ok(find("ForMaskedLM").unwrap_or_default())
        }
        Some(class) => Ok(find(&class).unwrap_or_else(|| {
            assumptions.push(format!("architecture `{class}` is counted as the plain encoder"));
            find("Model").unwrap_or_default()
        })),
    }
}

/// A note on a class that is for something which `known` has no end of: its head is not counted.
pub fn without_head(f: &Fields, known: &[&str]) -> Result<Option<String>, ConfigError> {
    let class = f.architecture()?.filter(|class| has_purpose(class) && !known.iter().any(|end| class.ends_with(end)));
    Ok(class.map(|class| format!("architecture `{class}` is counted as the bare model, without its head")))
}

impl Spec {
    /// The model that this family's tables describe.
    pub fn read(&self, f: &Fields, sizes: &Sizes) -> Result<Draft, ConfigError> {
        let mut assumptions = Vec::new();
        if let Some(kind) = f.optional_text("position_embedding_type")?.filter(|kind| !["absolute", "alibi"].contains(&kind.as_str()) && sizes.positions > 0) {
            assumptions.push(format!("`position_embedding_type` is `{kind}`: counted as a table of absolute positions"));
        }
        let mut tensors = sizes.tensors(self.outside);
        tensors.extend(sizes.tensors(head_of(f, self.heads, &mut assumptions)?));
        let (kind, keeps) = kind(f)?;
        let mut layer = sizes.tensors(self.layer);
        if kind == ComponentKind::TextDecoder && f.flag("add_cross_attention", false)? {
            // Where the norm follows attention, that to the encoder is built like that to the text itself.
            if self.layer.iter().any(|(name, _)| *name == "attention.output.LayerNorm") {
                layer.extend(sizes.tensors(CROSS));
            } else {
                assumptions.push("`add_cross_attention`: the cross-attention of this decoder is not counted".to_owned());
            }
        }
        let layers = sizes.equal_layers(keeps, &layer);
        Ok(Draft { assumptions, ..sizes.model(kind, self.base, self.layer_prefix, tensors, layers) })
    }
}

/// BERT's attention to an encoder.
const CROSS: Blocks = &[
    ("crossattention.self.query", Block::Linear(Dim::Hidden, Dim::Hidden)),
    ("crossattention.self.key", Block::Linear(Dim::Hidden, Dim::Hidden)),
    ("crossattention.self.value", Block::Linear(Dim::Hidden, Dim::Hidden)),
    ("crossattention.output.dense", Block::Linear(Dim::Hidden, Dim::Hidden)),
    ("crossattention.output.LayerNorm", Block::Norm(Dim::Hidden)),
];

/// An encoder, or the decoder that `is_decoder` makes of it, which then caches.
pub fn kind(f: &Fields) -> Result<(ComponentKind, Keeps), ConfigError> {
    if !f.flag("is_decoder", false)? {
        return Ok((ComponentKind::TextEncoder, Keeps::Nothing));
    }
    Ok((ComponentKind::TextDecoder, Keeps::Own))
}

/// An encoder beside a decoder.
pub fn encoder_component(sizes: &Sizes, kind: ComponentKind, layer_prefix: &'static str, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>) -> Component {
    super::decoder::component("encoder", kind, sizes.hidden, layer_prefix, tensors, layers)
}

impl Sizes {
    /// Sizes without BERT's further tables; the head is the embedding.
    pub fn plain(hidden: u64, inner: u64, layers: u64, heads: u64, head_dim: u64, vocab: u64) -> Self {
        let (embedding, kv_heads) = (hidden, heads);
        Self {
            hidden,
            inner,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab,
            embedding,
            positions: 0,
            types: 0,
            labels: 2,
            own: 0,
            own2: 0,
            tied: true,
            gated: false,
        }
    }
}

/// Attention as BART and Whisper name it; Whisper's keys have no bias.
pub fn seq2seq_attention(tensors: &mut Tensors, module: &str, hidden: u64, key_bias: bool) {
    tensors
        .linear(&format!("{module}.k_proj"), hidden, hidden, key_bias)
        .linear(&format!("{module}.v_proj"), hidden, hidden, true)
        .linear(&format!("{module}.q_proj"), hidden, hidden, true)
        .linear(&format!("{module}.out_proj"), hidden, hidden, true)
        .norm(&format!("{module}_layer_norm"), hidden, true);
}

/// A layer of BART, Whisper and their kin; a decoder's also looks at the encoder.
pub fn seq2seq_layer(hidden: u64, inner: u64, crosses: bool, key_bias: bool) -> Vec<Tensor> {
    let mut tensors = Tensors::default();
    seq2seq_attention(&mut tensors, "self_attn", hidden, key_bias);
    if crosses {
        seq2seq_attention(&mut tensors, "encoder_attn", hidden, key_bias);
    }
    tensors.linear("fc1", hidden, inner, true).linear("fc2", inner, hidden, true).norm("final_layer_norm", hidden, true).build()
}
