//! The vocabulary of recurrent blocks: Mamba-1 and -2, gated delta-net, Kimi delta attention, short convolution; and what
//! hybrid families share: lists of layer kinds, feed-forwards by name, the gated attention of Qwen3-Next and its kin.
//!
//! States are those of the transformers 5.23 classes: `kernel` columns of each convolution channel, and the recurrent state.

use super::decoder::{Shape, Tensors};
use super::{ConfigError, Fields};
use crate::encoding::Encoding;
use crate::model::{Component, ComponentKind, FeedForward, Layer, Mixer, Recurrence, RecurrenceKind, Role, Span, Tensor};

/// A layer and its tensors.
pub type LayerTensors = (Layer, Vec<Tensor>);

/// What a list of layer types can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mamba or another recurrence.
    Recurrent,
    /// Full attention.
    Full,
    /// Attention over a window.
    Sliding,
    /// Both in one layer.
    Hybrid,
    /// A mixture of experts alone, or in place of a dense feed-forward.
    Experts,
    /// A dense feed-forward, likewise.
    Dense,
}

/// The names of the kinds, as versions of transformers and remote code have them.
const KINDS: &[(&str, Kind)] = &[
    ("linear_attention", Kind::Recurrent),
    ("mamba", Kind::Recurrent),
    ("m", Kind::Recurrent),
    ("M", Kind::Recurrent),
    ("recurrent", Kind::Recurrent),
    ("conv", Kind::Recurrent),
    ("full_attention", Kind::Full),
    ("indexed_attention", Kind::Full),
    ("attention", Kind::Full),
    ("*", Kind::Full),
    ("sliding_attention", Kind::Sliding),
    ("hybrid", Kind::Hybrid),
    ("g", Kind::Hybrid),
    ("moe", Kind::Experts),
    ("sparse", Kind::Experts),
    ("E", Kind::Experts),
    ("mlp", Kind::Dense),
    ("dense", Kind::Dense),
    ("-", Kind::Dense),
];

/// The kinds that the list under `key` names, if it is there; `allowed` are those that the family has.
pub fn kinds(f: &Fields, key: &str, allowed: &[Kind]) -> Result<Option<Vec<Kind>>, ConfigError> {
    let Some(names) = f.optional_texts(key)? else { return Ok(None) };
    let kind = |name: &String| KINDS.iter().find(|(known, kind)| known == name && allowed.contains(kind)).map(|(_, kind)| *kind);
    let kinds: Option<Vec<Kind>> = names.iter().map(kind).collect();
    kinds.map(Some).ok_or_else(|| f.impossible(key, "it names a kind of layer that this model type does not have"))
}

/// The same for a list that must have one entry per layer.
pub fn kinds_of_layers(f: &Fields, key: &str, layers: u64, allowed: &[Kind]) -> Result<Option<Vec<Kind>>, ConfigError> {
    match kinds(f, key, allowed)? {
        Some(kinds) if kinds.len() as u64 != layers => Err(f.impossible(key, "it must have one entry per layer (`num_hidden_layers`)")),
        kinds => Ok(kinds),
    }
}

/// Layer `i` is of kind `special` when `i % period == offset`, else `other`.
pub fn periodic(layers: u64, period: u64, offset: u64, special: Kind, other: Kind) -> Vec<Kind> {
    (0..layers).map(|i| if i % period == offset { special } else { other }).collect()
}

/// An offset inside a period (`attn_layer_offset` of `attn_layer_period`).
pub fn offset(f: &Fields, key: &str, default: u64, period: u64) -> Result<u64, ConfigError> {
    let offset = f.optional_count_or_zero(key)?.unwrap_or(default);
    if offset >= period { Err(f.impossible(key, "it must be smaller than its period")) } else { Ok(offset) }
}

/// `full_attention_interval` where there are no `layer_types`: every such layer is full.
pub fn interval_kinds(f: &Fields, layers: u64) -> Result<Vec<Kind>, ConfigError> {
    let interval = f.step_or("full_attention_interval", 4, &["layer_types"])?;
    let listed = kinds_of_layers(f, "layer_types", layers, &[Kind::Recurrent, Kind::Full])?;
    Ok(listed.unwrap_or_else(|| periodic(layers, interval, interval - 1, Kind::Full, Kind::Recurrent)))
}

/// `whole / parts`, or an error about `key`.
pub fn divided(f: &Fields, key: &str, whole: u64, parts: u64, why: &'static str) -> Result<u64, ConfigError> {
    if parts > 0 && whole.is_multiple_of(parts) { Ok(whole / parts) } else { Err(f.impossible(key, why)) }
}

/// A factor times a size, rounded down as Python's `int` does (`expand`, `ffn_proj_factor`).
pub fn scaled(f: &Fields, key: &str, default: f64, size: u64) -> Result<u64, ConfigError> {
    let factor = f.optional_number(key)?.unwrap_or(default);
    whole(factor * small(size))
        .filter(|_| factor > 0.0)
        .ok_or_else(|| f.impossible(key, "it must be a factor that gives a width of at least 1 and at most 2^40"))
}

/// A size as a float: sizes in a config are at most 2^40, which floats hold exactly.
#[allow(clippy::cast_precision_loss)]
pub fn small(size: u64) -> f64 {
    size as f64
}

/// The whole part of a positive float, if it is a size.
pub fn whole(float: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(float as u64).filter(|&n| (1..=1 << 40).contains(&n))
}

/// A count of which the config may say `"auto"`: then, and when it is absent, `default`.
pub fn count_or_auto(f: &Fields, key: &str, default: u64) -> Result<u64, ConfigError> {
    if f.raw(key).and_then(serde_json::Value::as_str) == Some("auto") {
        return Ok(default);
    }
    f.count_or(key, default)
}

/// The sizes of a model without attention.
pub fn shape_without_attention(f: &Fields) -> Result<Shape, ConfigError> {
    Ok(Shape {
        hidden: f.count("hidden_size")?,
        layers: layer_count(f, f.count("num_hidden_layers")?)?,
        vocab: f.count("vocab_size")?,
        heads: 0,
        kv_heads: 0,
        head_dim: 0,
    })
}

/// A number of layers that is no more than any model has.
pub fn layer_count(f: &Fields, layers: u64) -> Result<u64, ConfigError> {
    if layers > 10_000 { Err(f.impossible("num_hidden_layers", "no model has more than 10,000 layers")) } else { Ok(layers) }
}

/// Mamba-1.
#[derive(Clone, Copy, Debug)]
pub struct Mamba1 {
    pub hidden: u64,
    pub inner: u64,
    pub state: u64,
    pub kernel: u64,
    pub time_step_rank: u64,
    pub conv_bias: bool,
    pub bias: bool,
}

impl Mamba1 {
    /// What it keeps.
    pub fn recurrence(&self) -> Recurrence {
        Recurrence {
            kind: RecurrenceKind::Mamba1,
            conv_channels: self.inner,
            conv_kernel: self.kernel,
            state: self.inner.saturating_mul(self.state),
            state_dtype: None,
        }
    }

    /// Its tensors under `at`.
    pub fn tensors(&self, t: &mut Tensors, at: &str) {
        t.linear(&format!("{at}.in_proj"), self.hidden, 2 * self.inner, self.bias)
            .convolution(&format!("{at}.conv1d"), &[self.inner, 1, self.kernel], self.conv_bias)
            .linear(&format!("{at}.x_proj"), self.inner, self.time_step_rank.saturating_add(2 * self.state), false)
            .linear(&format!("{at}.dt_proj"), self.time_step_rank, self.inner, true)
            .tensor(&format!("{at}.A_log"), Role::MixerState, &[self.inner, self.state])
            .tensor(&format!("{at}.D"), Role::MixerState, &[self.inner])
            .linear(&format!("{at}.out_proj"), self.inner, self.hidden, self.bias);
    }
}

/// Mamba-2. Its flags are those of the configs, each on its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug)]
pub struct Mamba2 {
    pub hidden: u64,
    pub inner: u64,
    pub heads: u64,
    pub head_dim: u64,
    pub groups: u64,
    pub state: u64,
    pub kernel: u64,
    pub conv_bias: bool,
    pub in_bias: bool,
    pub out_bias: bool,
    pub gated_norm: bool,
    /// Of the state, where the config names it.
    pub state_dtype: Option<Encoding>,
}

impl Mamba2 {
    /// The spelling of Bamba and its kin (`mamba_n_heads`, `mamba_d_state` ...); `inner` where a key of its own fixes it.
    pub fn read(f: &Fields, hidden: u64, inner: Option<u64>) -> Result<Self, ConfigError> {
        let inner = match inner {
            Some(inner) => inner,
            None => scaled(f, "mamba_expand", 2.0, hidden)?,
        };
        let heads = f.count_or("mamba_n_heads", 128)?;
        let head_dim = divided(f, "mamba_n_heads", inner, heads, "it must divide the inner width (`mamba_expand` times `hidden_size`, or `mamba_d_ssm`)")?;
        if count_or_auto(f, "mamba_d_head", head_dim)? != head_dim {
            return Err(f.impossible("mamba_d_head", "times `mamba_n_heads` it must be the inner width (`mamba_expand` times `hidden_size`, or `mamba_d_ssm`)"));
        }
        let bias = f.flag("mamba_proj_bias", false)?;
        Ok(Self {
            hidden,
            inner,
            heads,
            head_dim,
            groups: f.count_or("mamba_n_groups", 1)?,
            state: f.count_or("mamba_d_state", 256)?,
            kernel: f.count_or("mamba_d_conv", 4)?,
            conv_bias: f.flag("mamba_conv_bias", true)?,
            in_bias: bias,
            out_bias: bias,
            gated_norm: true,
            state_dtype: None,
        })
    }

    fn channels(&self) -> u64 {
        self.inner.saturating_add(self.groups.saturating_mul(self.state).saturating_mul(2))
    }

    /// What it keeps.
    pub fn recurrence(&self) -> Recurrence {
        let state = self.heads.saturating_mul(self.head_dim).saturating_mul(self.state);
        Recurrence { kind: RecurrenceKind::Mamba2, conv_channels: self.channels(), conv_kernel: self.kernel, state, state_dtype: self.state_dtype }
    }

    /// Its tensors under `at`.
    pub fn tensors(&self, t: &mut Tensors, at: &str) {
        let channels = self.channels();
        let projected = channels.saturating_add(self.inner).saturating_add(self.heads);
        t.linear(&format!("{at}.in_proj"), self.hidden, projected, self.in_bias).convolution(
            &format!("{at}.conv1d"),
            &[channels, 1, self.kernel],
            self.conv_bias,
        );
        for name in ["dt_bias", "A_log", "D"] {
            t.tensor(&format!("{at}.{name}"), Role::MixerState, &[self.heads]);
        }
        if self.gated_norm {
            t.norm(&format!("{at}.norm"), self.inner, false);
        }
        t.linear(&format!("{at}.out_proj"), self.inner, self.hidden, self.out_bias);
    }
}

/// Gated delta-net: keys and values of their own head counts, one convolution over all three, one matrix per value head.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNet {
    pub hidden: u64,
    pub key_heads: u64,
    pub key_dim: u64,
    pub value_heads: u64,
    pub value_dim: u64,
    pub kernel: u64,
    /// Of the state, where the config names it (`mamba_ssm_dtype`).
    pub state_dtype: Option<Encoding>,
}

impl DeltaNet {
    /// `linear_num_key_heads` and its kin with the defaults of Qwen's classes.
    pub fn read(f: &Fields, hidden: u64) -> Result<Self, ConfigError> {
        Ok(Self {
            hidden,
            key_heads: f.count_or("linear_num_key_heads", 16)?,
            key_dim: f.count_or("linear_key_head_dim", 128)?,
            value_heads: f.count_or("linear_num_value_heads", 32)?,
            value_dim: f.count_or("linear_value_head_dim", 128)?,
            kernel: f.count_or("linear_conv_kernel_dim", 4)?,
            state_dtype: f.optional_dtype("mamba_ssm_dtype")?,
        })
    }

    /// Width of all keys.
    pub fn keys(&self) -> u64 {
        self.key_heads.saturating_mul(self.key_dim)
    }

    /// Width of all values.
    pub fn values(&self) -> u64 {
        self.value_heads.saturating_mul(self.value_dim)
    }

    /// Channels of the convolution.
    pub fn channels(&self) -> u64 {
        self.keys().saturating_mul(2).saturating_add(self.values())
    }

    /// What it keeps.
    pub fn recurrence(&self) -> Recurrence {
        let state = self.values().saturating_mul(self.key_dim);
        Recurrence { kind: RecurrenceKind::GatedDeltaNet, conv_channels: self.channels(), conv_kernel: self.kernel, state, state_dtype: self.state_dtype }
    }

    /// Its tensors under `linear_attn`: `projections` name what the input is projected to, widths in order.
    pub fn tensors(&self, t: &mut Tensors, projections: &[(&str, u64)]) {
        for (name, width) in projections {
            t.linear(&format!("linear_attn.{name}"), self.hidden, *width, false);
        }
        t.convolution("linear_attn.conv1d", &[self.channels(), 1, self.kernel], false)
            .tensor("linear_attn.dt_bias", Role::MixerState, &[self.value_heads])
            .tensor("linear_attn.A_log", Role::MixerState, &[self.value_heads])
            .norm("linear_attn.norm", self.value_dim, false)
            .linear("linear_attn.out_proj", self.values(), self.hidden, false);
    }
}

/// Kimi delta attention: as many key as value heads of one width, three convolutions, one matrix per head.
#[derive(Clone, Copy, Debug)]
pub struct KimiDelta {
    pub hidden: u64,
    pub heads: u64,
    pub head_dim: u64,
    pub kernel: u64,
}

impl KimiDelta {
    /// Width of all heads.
    pub fn width(&self) -> u64 {
        self.heads.saturating_mul(self.head_dim)
    }

    /// What it keeps; the state in float32 (vLLM 0.33 `mamba_utils.py:kda_state_dtype`).
    pub fn recurrence(&self) -> Recurrence {
        let (conv_channels, state) = (self.width().saturating_mul(3), self.width().saturating_mul(self.head_dim));
        Recurrence { kind: RecurrenceKind::KimiDelta, conv_channels, conv_kernel: self.kernel, state, state_dtype: Some(Encoding::F32) }
    }

    /// Its tensors under `at`, forget and output gate apart.
    pub fn tensors(&self, t: &mut Tensors, at: &str, output: &str) {
        for name in ["q", "k", "v"] {
            t.linear(&format!("{at}.{name}_proj"), self.hidden, self.width(), false).convolution(
                &format!("{at}.{name}_conv1d"),
                &[self.width(), 1, self.kernel],
                false,
            );
        }
        t.tensor(&format!("{at}.A_log"), Role::MixerState, &[self.heads])
            .tensor(&format!("{at}.dt_bias"), Role::MixerState, &[self.width()])
            .linear(&format!("{at}.b_proj"), self.hidden, self.heads, false)
            .norm(&format!("{at}.o_norm"), self.head_dim, false)
            .linear(&format!("{at}.{output}"), self.width(), self.hidden, false);
    }
}

/// The gated short convolution of the LFM family.
pub fn short_convolution(t: &mut Tensors, hidden: u64, kernel: u64, bias: bool) -> Recurrence {
    t.linear("conv.in_proj", hidden, 3 * hidden, bias);
    t.tensor("conv.conv.weight", Role::MixerConvolution, &[hidden, 1, kernel]);
    if bias {
        t.tensor("conv.conv.bias", Role::MixerConvolution, &[hidden]);
    }
    t.linear("conv.out_proj", hidden, hidden, bias);
    Recurrence { kind: RecurrenceKind::ShortConvolution, conv_channels: hidden, conv_kernel: kernel, state: 0, state_dtype: None }
}

/// A recurrence without a convolution.
pub fn plain_recurrence(kind: RecurrenceKind, state: u64) -> Mixer {
    Mixer::Recurrent(Recurrence { kind, conv_channels: 0, conv_kernel: 0, state, state_dtype: None })
}

/// A gated feed-forward under `at`, its three matrices named gate, up, down.
pub fn gated(t: &mut Tensors, at: &str, names: [&str; 3], hidden: u64, width: u64, bias: bool) -> FeedForward {
    let [gate, up, down] = names;
    t.linear(&format!("{at}.{gate}"), hidden, width, bias).linear(&format!("{at}.{up}"), hidden, width, bias).linear(
        &format!("{at}.{down}"),
        width,
        hidden,
        bias,
    );
    FeedForward::Dense { intermediate: width, gated: true }
}

/// The usual names of a gated feed-forward's matrices.
pub const GATE_UP_DOWN: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Those of Mixtral and its kin.
pub const W1_W3_W2: [&str; 3] = ["w1", "w3", "w2"];

/// Routed experts under `at` (`mlp.experts`), each gated.
pub fn experts(t: &mut Tensors, at: &str, names: [&str; 3], count: u64, hidden: u64, width: u64) {
    let [gate, up, down] = names;
    t.experts(&format!("{at}.{{}}.{gate}"), count, hidden, width).experts(&format!("{at}.{{}}.{up}"), count, hidden, width).experts(
        &format!("{at}.{{}}.{down}"),
        count,
        width,
        hidden,
    );
}

/// Routed experts that the files hold in one tensor each for gate with up, and for down.
pub fn fused_experts(t: &mut Tensors, at: &str, count: u64, hidden: u64, width: u64) {
    t.tensor(&format!("{at}.gate_up_proj"), Role::ExpertGateUp, &[count, 2 * width, hidden]).tensor(
        &format!("{at}.down_proj"),
        Role::ExpertDown,
        &[count, hidden, width],
    );
}

/// Softmax attention whose query projection also gives an output gate, with a norm per query and key head.
pub fn gated_attention(t: &mut Tensors, shape: &Shape, bias: bool) -> Mixer {
    let (queries, keys) = (shape.heads.saturating_mul(shape.head_dim), shape.kv_heads.saturating_mul(shape.head_dim));
    t.linear("self_attn.q_proj", shape.hidden, queries.saturating_mul(2), bias)
        .linear("self_attn.k_proj", shape.hidden, keys, bias)
        .linear("self_attn.v_proj", shape.hidden, keys, bias)
        .linear("self_attn.o_proj", queries, shape.hidden, bias)
        .query_key_norm(shape);
    Mixer::Attention(shape.attention(Span::Full))
}

/// A multi-token-prediction module: counted apart, its layers cache only when it is used.
pub fn token_predictor(shape: &Shape, layer_prefix: &'static str, tensors: Vec<Tensor>, layers: Vec<LayerTensors>) -> Component {
    super::decoder::component("mtp", ComponentKind::TokenPredictor, shape.hidden, layer_prefix, tensors, layers)
}
