//! `FastConformer` encoders: Parakeet with a CTC, transducer or token-and-duration head, and Cohere's transcriber, which has a decoder
//! above one.

use super::decoder::{Draft, Head, Shape, Tensors, component};
use super::encoder::{Sizes, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Keeps, Role, Span, Tensor};

/// The encoder: its sizes, what stands outside its layers, and one layer's tensors.
struct Encoder {
    sizes: Sizes,
    outside: Vec<Tensor>,
    layer: Vec<Tensor>,
}

/// A power of two, as its exponent.
fn halvings(f: &Fields) -> Result<u32, ConfigError> {
    let factor = f.count_or("subsampling_factor", 8)?;
    let is_known = factor.is_power_of_two() && (2..=1024).contains(&factor);
    is_known.then(|| factor.trailing_zeros()).ok_or_else(|| f.impossible("subsampling_factor", "it must be a power of two from 2 to 1024"))
}

fn encoder(f: &Fields, module: &str) -> Result<Encoder, ConfigError> {
    let or = |key: &str, default: u64| f.count_or(key, default);
    let hidden = or("hidden_size", 1024)?;
    let heads = or("num_attention_heads", 8)?;
    let inner = or("intermediate_size", 4096)?;
    let layers = layer_count(f, "num_hidden_layers", 24)?;
    let kv_heads = f.optional_count("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(f.impossible("num_key_value_heads", "it must divide the number of attention heads"));
    }
    let sizes = Sizes { kv_heads, ..Sizes::plain(hidden, inner, layers, heads, head_dim(f, "num_attention_heads", hidden, heads)?, 0) };
    for key in ["model_type", "scale_input", "max_position_embeddings", "dtype", "torch_dtype", "architectures"] {
        f.touch(key);
    }
    let (attention, convolution) = (f.flag("attention_bias", true)?, f.flag("convolution_bias", true)?);
    let kernel = or("conv_kernel_size", 9)?;
    let (channels, window, stride) = (or("subsampling_conv_channels", 256)?, or("subsampling_conv_kernel_size", 3)?, or("subsampling_conv_stride", 2)?);
    let halvings = halvings(f)?;
    let mut t = Tensors::default();
    t.convolution(&format!("{module}.subsampling.layers.0"), &[channels, 1, window, window], true);
    // Two modules of no parameters or of a convolution each per halving.
    for number in 1..halvings {
        let at = 3 * number - 1;
        t.convolution(&format!("{module}.subsampling.layers.{at}"), &[channels, 1, window, window], true).convolution(
            &format!("{module}.subsampling.layers.{}", at + 1),
            &[channels, channels, 1, 1],
            true,
        );
    }
    let reduction = stride.checked_pow(halvings).ok_or(ConfigError::Overflow)?;
    let bins = or("num_mel_bins", 80)? / reduction;
    if bins == 0 {
        let at_fault = ["num_mel_bins", "subsampling_factor", "subsampling_conv_stride"].into_iter().find(|key| f.raw(key).is_some());
        return Err(f.impossible(at_fault.unwrap_or("num_mel_bins"), "the convolutions put more bins together than `num_mel_bins`"));
    }
    t.linear(&format!("{module}.subsampling.linear"), channels.saturating_mul(bins), hidden, true);
    let outside = t.build();
    let mut t = Tensors::default();
    for half in ["feed_forward1", "feed_forward2"] {
        t.linear(&format!("{half}.linear1"), hidden, inner, attention).linear(&format!("{half}.linear2"), inner, hidden, attention);
    }
    for (leaf, outputs) in [("q_proj", hidden), ("k_proj", kv_heads * sizes.head_dim), ("v_proj", kv_heads * sizes.head_dim), ("o_proj", hidden)] {
        t.linear(&format!("self_attn.{leaf}"), hidden, outputs, attention);
    }
    t.linear("self_attn.relative_k_proj", hidden, hidden, false)
        .tensor("self_attn.bias_u", Role::Position, &[heads, sizes.head_dim])
        .tensor("self_attn.bias_v", Role::Position, &[heads, sizes.head_dim])
        .convolution("conv.pointwise_conv1", &[hidden.saturating_mul(2), hidden, 1], convolution)
        .convolution("conv.depthwise_conv", &[hidden, 1, kernel], convolution)
        .norm("conv.norm", hidden, true)
        .convolution("conv.pointwise_conv2", &[hidden, hidden, 1], convolution);
    for norm in ["norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"] {
        t.norm(norm, hidden, true);
    }
    Ok(Encoder { sizes, outside, layer: t.build() })
}

impl Encoder {
    /// As a model of its own, with what stands above it.
    fn draft(self, base: &'static str, layer_prefix: &'static str, above: Vec<Tensor>) -> Draft {
        let tensors = self.outside.into_iter().chain(above).collect();
        self.sizes.model(ComponentKind::AudioTower, base, layer_prefix, tensors, self.sizes.equal_layers(Keeps::Nothing, &self.layer))
    }

    fn component(self, layer_prefix: &'static str) -> Component {
        component("audio", ComponentKind::AudioTower, self.sizes.hidden, layer_prefix, self.outside, self.sizes.equal_layers(Keeps::Nothing, &self.layer))
    }
}

/// The encoder's config: nested, or the whole file.
fn nested(f: &Fields) -> Result<Fields, ConfigError> {
    f.part(&["encoder_config"])
}

/// The encoder alone.
pub(super) fn read_encoder(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    Ok(encoder(f, "encoder")?.draft("", "layers", Vec::new()))
}

/// The encoder as the ear of another model.
pub(super) fn encoder_inside(f: &Fields, module: &str, layer_prefix: &'static str) -> Result<Component, ConfigError> {
    Ok(encoder(f, module)?.component(layer_prefix))
}

/// A matrix from frames to tokens.
pub(super) fn read_ctc(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    f.touch("tie_word_embeddings");
    let encoder = encoder(&nested(f)?, "encoder")?;
    let vocab = f.count_or("vocab_size", 1025)?;
    let head = Tensors::default().convolution("ctc_head", &[vocab, encoder.sizes.hidden, 1], true).build();
    Ok(encoder.draft("", "encoder.layers", head))
}

/// A transducer: LSTMs over the tokens so far, joined with each frame.
pub(super) fn read_rnnt(f: &Fields) -> Result<Draft, ConfigError> {
    transducer(f, 0)
}

/// The same, which also tells how many frames to skip.
pub(super) fn read_tdt(f: &Fields) -> Result<Draft, ConfigError> {
    let durations = f.optional_counts("durations")?.map_or(5, |list| list.len() as u64);
    transducer(f, durations)
}

fn transducer(f: &Fields, durations: u64) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    f.touch("tie_word_embeddings");
    f.touch("max_symbols_per_step");
    let encoder = encoder(&nested(f)?, "encoder")?;
    let (vocab, width) = (f.count_or("vocab_size", 8193)?, f.count_or("decoder_hidden_size", 640)?);
    let layers = layer_count(f, "num_decoder_layers", 2)?;
    let gates = width.saturating_mul(4);
    let mut t = Tensors::default();
    t.linear("encoder_projector", encoder.sizes.hidden, width, true).embedding("decoder.embedding", vocab, width);
    for number in 0..layers {
        for (part, shape) in [("weight_ih", [gates, width].as_slice()), ("weight_hh", &[gates, width]), ("bias_ih", &[gates]), ("bias_hh", &[gates])] {
            t.tensor(&format!("decoder.lstm.{part}_l{number}"), Role::Other, shape);
        }
    }
    t.linear("decoder.decoder_projector", width, width, true).linear("joint.head", width, vocab.saturating_add(durations), true);
    Ok(encoder.draft("", "encoder.layers", t.build()))
}

/// Cohere's transcriber: a decoder that attends to the encoder's frames.
pub(super) fn read_cohere(f: &Fields) -> Result<Draft, ConfigError> {
    const CLASS: &[(&str, u64)] =
        &[("hidden_size", 1024), ("num_hidden_layers", 8), ("num_attention_heads", 8), ("intermediate_size", 4096), ("vocab_size", 16_384)];
    const ENCODER: &[(&str, u64)] = &[("hidden_size", 1280), ("intermediate_size", 5120), ("num_hidden_layers", 48), ("num_mel_bins", 128)];
    let encoder = encoder(&nested(f)?.with_defaults(ENCODER), "model.encoder")?;
    let f = &f.with_defaults(CLASS);
    let shape = Shape::read(f)?;
    let (hidden, inner) = (shape.hidden, f.count("intermediate_size")?);
    let bias = f.flag("attention_bias", true)?;
    let mut layer = Tensors::default();
    layer.attention(&shape, bias, bias);
    let own = Tensors::default().attention(&shape, bias, bias).build();
    layer.extend(own.into_iter().map(|tensor| Tensor { name: tensor.name.replacen("self_attn", "encoder_attn", 1), ..tensor }).collect());
    layer.linear("mlp.fc1", hidden, inner, true).linear("mlp.fc2", inner, hidden, true);
    for norm in ["input_layernorm", "post_attention_layernorm", "final_layernorm"] {
        layer.norm(norm, hidden, true);
    }
    let positions = f.count_or("max_position_embeddings", 1024)?;
    let mut t = Tensors::default();
    t.embedding("model.decoder.embed_tokens", shape.vocab, hidden)
        .embedding("model.decoder.pos_emb", positions, hidden)
        .norm("model.decoder.embedding_layernorm", hidden, true)
        .norm("model.decoder.norm", hidden, true)
        .linear("model.decoder.proj", encoder.sizes.hidden, hidden, true);
    if !f.architecture()?.is_some_and(|class| class.ends_with("Model")) {
        if !f.flag("tie_word_embeddings", false)? {
            t.linear("proj_out", hidden, shape.vocab, false);
        }
        t.tensor("proj_out.bias", Role::Head, &[shape.vocab]);
    }
    let sizes = Sizes { kv_heads: shape.kv_heads, ..Sizes::plain(hidden, inner, shape.layers, shape.heads, shape.head_dim, shape.vocab) };
    let layer = layer.build();
    let layers = (0..sizes.layers).map(|_| (sizes.layer(Span::Full, Keeps::Own), layer.clone())).collect();
    let mut draft = sizes.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", t.build(), layers);
    draft.decoder.head = Head::Nothing;
    Ok(draft.with(encoder.component("model.encoder.layers")))
}
