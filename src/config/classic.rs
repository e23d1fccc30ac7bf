//! What dense decoders share: the sizes a class takes for absent keys, Llama's layer with changes ([`Variant`]), and the
//! spans of layers by a repeating pattern. Decoders of the GPT-2 kind (LayerNorms, two matrices in the feed-forward) are
//! put together by [`gpt_like`].

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Span, Tensor};

/// The sizes that a family's class takes when its keys are absent.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub hidden: u64,
    pub layers: u64,
    pub heads: u64,
    /// Taken when the key is absent; `None`, like a null in the config, means as many as query heads.
    pub kv_heads: Option<u64>,
    /// `None` means the hidden size divided by the heads.
    pub head_dim: Option<u64>,
    /// `None` means four times the hidden size.
    pub intermediate: Option<u64>,
    pub vocab: u64,
}

/// The sizes of one config.
pub struct Measured {
    pub shape: Shape,
    pub intermediate: u64,
    /// Which of them the config does not say.
    pub assumptions: Vec<String>,
}

impl Sizes {
    /// Reads the sizes; whatever is absent is the class's and is said.
    pub fn read(&self, f: &Fields) -> Result<Measured, ConfigError> {
        let mut assumptions = Vec::new();
        let mut count = |key: &'static str, default: u64| {
            let found = f.optional_count(key)?;
            if found.is_none() {
                assumptions.push(format!("`{key}` is not in the config: the class's default, {default}, is taken"));
            }
            Ok::<u64, ConfigError>(found.unwrap_or(default))
        };
        let (hidden, layers) = (count("hidden_size", self.hidden)?, count("num_hidden_layers", self.layers)?);
        let (heads, vocab) = (count("num_attention_heads", self.heads)?, count("vocab_size", self.vocab)?);
        let intermediate = match self.intermediate {
            Some(default) => count("intermediate_size", default)?,
            None => f.optional_count("intermediate_size")?.unwrap_or(4 * hidden),
        };
        // A null is an answer of its own: as many as query heads, or the hidden size by heads.
        let absent = |spellings: &[&str]| !spellings.iter().any(|key| f.has(key));
        let kv_heads =
            f.optional_count("num_key_value_heads")?.or_else(|| self.kv_heads.filter(|_| absent(&["num_key_value_heads", "num_kv_heads", "n_head_kv"])));
        let head_dim = f.optional_count("head_dim")?.or_else(|| self.head_dim.filter(|_| absent(&["head_dim"])));
        let shape = Shape::checked(f, hidden, layers, vocab, (heads, kv_heads.unwrap_or(heads), head_dim))?;
        Ok(Measured { shape, intermediate, assumptions })
    }
}

/// When a matrix has a bias.
#[derive(Clone, Copy)]
pub enum Bias {
    Never,
    Always,
    /// When this key says so; the default of the class.
    Key(&'static str, bool),
}

impl Bias {
    pub fn read(self, f: &Fields) -> Result<bool, ConfigError> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::Key(key, default) => f.flag(key, default),
        }
    }
}

/// Norms on queries and keys.
#[derive(Clone, Copy)]
pub enum QueryKeyNorm {
    None,
    /// One of a head's size for all heads, under these names.
    OfHead(&'static str, &'static str),
    /// Over all heads together.
    OfAll,
}

/// The feed-forward's matrices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// Gate, up and down.
    Gated,
    /// Gate and up in one matrix.
    GateUp,
    /// Up and down, without a gate.
    UpDown(&'static str, &'static str),
}

/// The norms' kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    Weight,
    WeightAndBias,
    /// Without parameters.
    Plain,
}

/// Llama's layer with a family's changes.
pub struct Variant {
    pub sizes: Option<Sizes>,
    pub qkv_bias: Bias,
    pub output_bias: Bias,
    pub mlp_bias: Bias,
    pub query_key_norm: QueryKeyNorm,
    pub mlp: Mlp,
    pub norms: &'static [&'static str],
    pub norm_kind: NormKind,
    pub final_norm: &'static str,
    pub tied: bool,
    pub spans: fn(&Fields, &Shape) -> Result<Vec<Span>, ConfigError>,
    /// What else a layer has.
    pub more: fn(&mut Tensors, &Shape, u64),
}

impl Variant {
    /// Llama itself, as most kin begin: the biases as `attention_bias` and `mlp_bias` say.
    pub const LLAMA: Self = Self {
        sizes: None,
        qkv_bias: Bias::Key("attention_bias", false),
        output_bias: Bias::Key("attention_bias", false),
        mlp_bias: Bias::Key("mlp_bias", false),
        query_key_norm: QueryKeyNorm::None,
        mlp: Mlp::Gated,
        norms: LLAMA_NORMS,
        norm_kind: NormKind::Weight,
        final_norm: "model.norm",
        tied: false,
        spans: all_full,
        more: |_, _, _| {},
    };

    /// The model that the config describes.
    pub fn read(&self, f: &Fields) -> Result<Draft, ConfigError> {
        let Measured { shape, intermediate, assumptions } = match &self.sizes {
            Some(sizes) => sizes.read(f)?,
            None => Measured { shape: Shape::read(f)?, intermediate: f.count("intermediate_size")?, assumptions: Vec::new() },
        };
        let mlp_bias = self.mlp_bias.read(f)?;
        let mut tensors = Tensors::default();
        tensors.attention(&shape, self.qkv_bias.read(f)?, self.output_bias.read(f)?);
        match self.query_key_norm {
            QueryKeyNorm::None => {}
            QueryKeyNorm::OfHead(query, key) => _ = tensors.norm(query, shape.head_dim, false).norm(key, shape.head_dim, false),
            QueryKeyNorm::OfAll => {
                tensors.norm("self_attn.q_norm", shape.heads * shape.head_dim, false).norm("self_attn.k_norm", shape.kv_heads * shape.head_dim, false);
            }
        }
        match self.mlp {
            Mlp::Gated => _ = tensors.gated_mlp(shape.hidden, intermediate, mlp_bias),
            Mlp::GateUp => {
                tensors.linear("mlp.gate_up_proj", shape.hidden, 2 * intermediate, mlp_bias).linear("mlp.down_proj", intermediate, shape.hidden, mlp_bias);
            }
            Mlp::UpDown(up, down) => _ = tensors.linear(up, shape.hidden, intermediate, mlp_bias).linear(down, intermediate, shape.hidden, mlp_bias),
        }
        let mut outside = Tensors::default();
        outside.embedding("model.embed_tokens", shape.vocab, shape.hidden);
        if self.norm_kind != NormKind::Plain {
            let bias = self.norm_kind == NormKind::WeightAndBias;
            for norm in self.norms {
                tensors.norm(norm, shape.hidden, bias);
            }
            outside.norm(self.final_norm, shape.hidden, bias);
        }
        (self.more)(&mut tensors, &shape, intermediate);
        let spans = (self.spans)(f, &shape)?;
        let feed_forward = FeedForward::Dense { intermediate, gated: !matches!(self.mlp, Mlp::UpDown(..)) };
        let layers = layers_by_span(&shape, feed_forward, &tensors.build(), |i| spans[i]);
        let decoder = Decoder { tensors: outside.build(), ..Decoder::llama_like(shape, layers, self.tied) };
        Ok(Draft { assumptions, ..decoder.into() })
    }
}

/// Every layer sees everything.
#[allow(clippy::unnecessary_wraps)]
pub fn all_full(_: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    Ok((0..shape.layers).map(|_| Span::Full).collect())
}

/// Every layer slides when `sliding_window` says how far.
pub fn all_sliding(f: &Fields, shape: &Shape) -> Result<Vec<Span>, ConfigError> {
    let span = super::decoder::sliding_or_full(f)?;
    Ok((0..shape.layers).map(|_| span).collect())
}

/// The class's window, unless the config has the key; a null there turns windows off.
pub fn window_or(f: &Fields, default: u64) -> Result<Option<u64>, ConfigError> {
    if f.has("sliding_window") { f.optional_count("sliding_window") } else { Ok(Some(default)) }
}

/// `layer_types` where the config has them, else the layers that `slides` names by their number.
pub fn spans_with(f: &Fields, shape: &Shape, window: Option<u64>, slides: impl Fn(u64) -> bool) -> Result<Vec<Span>, ConfigError> {
    let span = |slides: bool| if slides { window.map_or(Span::Full, Span::Sliding) } else { Span::Full };
    let Some(types) = f.optional_texts("layer_types")? else {
        return Ok((0..shape.layers).map(|number| span(slides(number))).collect());
    };
    if types.len() as u64 != shape.layers {
        return Err(f.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let spans = types.iter().map(|kind| match kind.as_str() {
        "full_attention" => Ok(span(false)),
        "sliding_attention" => Ok(span(true)),
        _ => Err(f.impossible("layer_types", "only `full_attention` and `sliding_attention` are known for this model type")),
    });
    spans.collect()
}

/// Names of a decoder that are not Llama's.
pub struct Names {
    /// Prefix of everything below the head.
    pub base: &'static str,
    /// Where the layers live.
    pub layers: &'static str,
    pub head: &'static str,
}

/// The names of GPT-2.
pub const GPT_NAMES: Names = Names { base: "transformer", layers: "transformer.h", head: "lm_head" };

/// A decoder in which every layer is alike and sees everything.
pub fn gpt_like(names: &Names, measured: Measured, gated: bool, outside: Vec<Tensor>, layer: &[Tensor], tied: bool) -> Draft {
    let Measured { shape, intermediate, assumptions } = measured;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated }, layer, |_| Span::Full);
    let draft = with_layers(names, shape, outside, layers, tied);
    Draft { assumptions, ..draft }
}

/// A decoder with layers of its own.
pub fn with_layers(names: &Names, shape: Shape, tensors: Vec<Tensor>, layers: Vec<(Layer, Vec<Tensor>)>, tied: bool) -> Draft {
    let (base, layer_prefix, head_module) = (names.base, names.layers, names.head);
    Decoder { shape, base, layer_prefix, tensors, layers, head: Head::ByArchitecture, head_module, tied_by_default: tied }.into()
}

/// Refuses a head whose size the class takes from the hidden size but the config gives otherwise.
pub fn plain_heads(f: &Fields, shape: &Shape) -> Result<(), ConfigError> {
    if shape.heads * shape.head_dim == shape.hidden {
        return Ok(());
    }
    Err(f.impossible("head_dim", "in this family heads times their size are the hidden size"))
}
