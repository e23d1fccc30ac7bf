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
}

/// A width under its first name, `n_embed`, which BLOOM's and Falcon's classes prefer to `hidden_size`.
pub fn first_width(f: &Fields) -> Result<Fields, ConfigError> {
    let same = f.with_defaults(&[]);
    Ok(match f.optional_count("n_embed")? {
        Some(width) => same.replaced("hidden_size", width),
        None => same,
    })
}

impl Sizes {
    /// Reads the sizes; whatever is absent is the class's and is said.
    pub fn read(&self, f: &Fields) -> Result<Measured, ConfigError> {
        let count = |key: &str, of_class: u64| f.count_or(key, of_class);
        let (hidden, layers) = (count("hidden_size", self.hidden)?, count("num_hidden_layers", self.layers)?);
        let (heads, vocab) = (count("num_attention_heads", self.heads)?, count("vocab_size", self.vocab)?);
        let intermediate = match self.intermediate {
            Some(default) => count("intermediate_size", default)?,
            None => f.optional_count("intermediate_size")?.unwrap_or(4 * hidden),
        };
        // A null is an answer of its own: as many as query heads, or the hidden size by heads.
        let or_null = |key: &str, of_class: Option<u64>| match of_class.filter(|_| !f.has_any(key)) {
            Some(size) => f.count_or(key, size).map(Some),
            None => f.optional_count(key),
        };
        let (kv_heads, head_dim) = (or_null("num_key_value_heads", self.kv_heads)?, or_null("head_dim", self.head_dim)?);
        let shape = Shape::checked(f, hidden, layers, vocab, (heads, kv_heads.unwrap_or(heads), head_dim))?;
        Ok(Measured { shape, intermediate })
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
        let Measured { shape, intermediate } = match &self.sizes {
            Some(sizes) => sizes.read(f)?,
            None => Measured { shape: Shape::read(f)?, intermediate: f.count("intermediate_size")? },
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
        Ok(decoder.into())
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
    let Measured { shape, intermediate } = measured;
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated }, layer, |_| Span::Full);
    with_layers(names, shape, outside, layers, tied)
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

#[cfg(test)]
mod tests {
    /// Published counts of models whose families stand in no corpus row, or in another shape there.
    #[test]
    fn published_counts() {
        let table: &[(u64, &str)] = &[
            (
                125_198_592,
                r#"{"model_type": "gpt_neo", "hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 50257, "max_position_embeddings": 2048, "intermediate_size": null, "attention_types": [[["global", "local"], 6]], "window_size": 256}"#,
            ),
            (
                346_763_264,
                r#"{"model_type": "biogpt", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "vocab_size": 42384, "max_position_embeddings": 1024, "architectures": ["BioGptForCausalLM"]}"#,
            ),
            (
                116_534_784,
                r#"{"model_type": "openai-gpt", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 512, "n_ctx": 512, "vocab_size": 40478, "architectures": ["OpenAIGPTLMHeadModel"]}"#,
            ),
            (
                3_075_098_624,
                r#"{"model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 128256}"#,
            ),
            (
                999_885_952,
                r#"{"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144, "sliding_window": 512, "sliding_window_pattern": 6}"#,
            ),
            (
                1_038_741_120,
                r#"{"model_type": "vaultgemma", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000, "sliding_window": 512}"#,
            ),
            (
                360_748_032,
                r#"{"model_type": "ernie4_5", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 103424, "tie_word_embeddings": true, "use_bias": false}"#,
            ),
            (
                2_412_820_480,
                r#"{"model_type": "bitnet", "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5, "vocab_size": 128256, "tie_word_embeddings": true}"#,
            ),
            (
                2_795_443_200,
                r#"{"model_type": "stablelm_epoch", "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 50304, "norm_eps": 1e-05, "tie_word_embeddings": false}"#,
            ),
            (
                1_311_625_216,
                r#"{"model_type": "falcon", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "vocab_size": 50304, "alibi": true, "bias": true, "multi_query": false, "parallel_attn": false, "new_decoder_architecture": false}"#,
            ),
            (
                103_810_674_688,
                r#"{"model_type": "cohere", "hidden_size": 12288, "intermediate_size": 33792, "num_hidden_layers": 64, "num_attention_heads": 96, "num_key_value_heads": 8, "vocab_size": 256000, "use_qk_norm": true}"#,
            ),
            (
                72_287_920_128,
                r#"{"model_type": "qwen", "hidden_size": 8192, "intermediate_size": 49152, "num_hidden_layers": 80, "num_attention_heads": 64, "kv_channels": 128, "vocab_size": 152064, "no_bias": true, "tie_word_embeddings": false, "architectures": ["QWenLMHeadModel"]}"#,
            ),
            (
                19_861_149_696,
                r#"{"model_type": "internlm2", "hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 48, "num_attention_heads": 48, "num_key_value_heads": 8, "vocab_size": 92544, "bias": false, "tie_word_embeddings": false}"#,
            ),
            (
                8_804_241_408,
                r#"{"model_type": "internlm3", "hidden_size": 4096, "intermediate_size": 10240, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 128512, "bias": false, "qkv_bias": false, "tie_word_embeddings": false}"#,
            ),
            (
                2_779_683_840,
                r#"{"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 51200}"#,
            ),
            (
                7_392_272_384,
                r#"{"model_type": "phi3small", "hidden_size": 4096, "ff_intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 100352}"#,
            ),
            (
                271_527_168,
                r#"{"model_type": "openelm", "model_dim": 1280, "head_dim": 64, "num_transformer_layers": 16, "vocab_size": 32000, "num_query_heads": [12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20], "num_kv_heads": [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5], "ffn_multipliers": [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0], "ffn_dim_divisor": 256, "ffn_with_glu": true, "normalize_qk_projections": true, "share_input_output_layers": true}"#,
            ),
            (
                1_279_391_488,
                r#"{"model_type": "exaone4", "hidden_size": 2048, "intermediate_size": 4096, "num_hidden_layers": 30, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 102400, "tie_word_embeddings": true, "sliding_window": null, "sliding_window_pattern": null}"#,
            ),
            (356_712_448, r#"{"model_type": "codegen", "n_embd": 1024, "n_layer": 20, "n_head": 16, "n_positions": 2048, "n_ctx": 2048, "vocab_size": 51200}"#),
        ];
        for (count, config) in table {
            assert_eq!(crate::config::read(config).unwrap().parameters().unwrap().get(), *count, "{config}");
        }
    }

    #[test]
    fn defaults_of_a_class_are_said_and_lists_must_fit() {
        let nested = crate::config::read(r#"{"model_type": "opt"}"#).unwrap();
        assert_eq!(nested.parameters().unwrap().get(), 125_239_296);
        assert!(nested.assumptions.iter().any(|sentence| sentence.contains("`hidden_size`")));
        for (key, config) in [
            ("layer_types", r#"{"model_type": "olmo3", "layer_types": ["full_attention"]}"#),
            ("no_rope_layers", r#"{"model_type": "smollm3", "no_rope_layers": [1, 0]}"#),
            ("sliding_window_pattern", r#"{"model_type": "exaone4", "sliding_window_pattern": ""}"#),
        ] {
            assert!(crate::config::read(config).unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
