//! A layer is a mixer (what moves information between tokens) and a feed-forward (what each token does alone).

use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::quantity::Overflow;

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What each token does alone.
    pub feed_forward: FeedForward,
}

/// What mixes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mixer {
    /// Softmax attention over keys and values.
    Attention(Attention),
    /// Multi-head latent attention (MLA).
    Latent(LatentAttention),
    /// A recurrence with a state of fixed size.
    Recurrent(Recurrence),
    /// Attention and a recurrence in one layer (Falcon-H1, Zamba).
    Parallel(Attention, Recurrence),
    /// Nothing: the layer is a feed-forward alone (Nemotron-H, Nemotron-NAS).
    None,
}

/// Softmax attention with grouped heads (MHA when `kv_heads == heads`, MQA when `kv_heads == 1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Elements of one key head.
    pub key_dim: u64,
    /// Elements of one value head.
    pub value_dim: u64,
    /// How far back a token sees.
    pub span: Span,
    /// What is kept.
    pub keeps: Keeps,
}

/// What an attention layer keeps between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeps {
    /// Its own keys and values of every token in its span.
    Own,
    /// Nothing: it reads those of an earlier layer.
    Shared,
    /// Keys and values of an encoder's output or of images, of fixed length, and nothing per token of text.
    Encoder,
    /// Nothing: an encoder sees everything at once.
    Nothing,
}

/// Multi-head latent attention: one compressed latent and one rotary part per token, whatever the number of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatentAttention {
    /// Query heads.
    pub heads: u64,
    /// Elements of the latent.
    pub kv_lora_rank: u64,
    /// Elements of the rotary part.
    pub rope_dim: u64,
    /// Elements of a key head without its rotary part.
    pub nope_dim: u64,
    /// Elements of a value head.
    pub value_dim: u64,
    /// Elements that a sparse-attention indexer keeps per token; 0 without one.
    pub indexer: u64,
    /// How far back a token sees.
    pub span: Span,
}

/// A recurrence: its state does not grow with the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    /// Which one.
    pub kind: RecurrenceKind,
    /// Channels of its causal convolution; 0 without one.
    pub conv_channels: u64,
    /// Width of the convolution.
    pub conv_kernel: u64,
    /// Elements of the recurrent state of one sequence.
    pub state: u64,
    /// The dtype of that state where the config names it or the family fixes it; without one it is the engine's choice.
    pub state_dtype: Option<Encoding>,
}

/// The recurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecurrenceKind {
    /// Mamba-1.
    Mamba1,
    /// Mamba-2.
    Mamba2,
    /// Gated delta-net (Qwen3-Next) and its kin.
    GatedDeltaNet,
    /// Kimi delta attention.
    KimiDelta,
    /// Lightning and other linear attention with one matrix per head.
    Linear,
    /// Short convolution without a further state (LFM2).
    ShortConvolution,
    /// Real-gated linear recurrent unit (RecurrentGemma).
    Rglru,
    /// RWKV.
    Rwkv,
    /// xLSTM.
    Xlstm,
}

/// How far back a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// Everything before it.
    Full,
    /// Itself and the tokens before it, this many in all.
    Sliding(u64),
    /// The tokens of its own chunk of this length.
    Chunked(u64),
}

/// What each token does alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedForward {
    /// One feed-forward network.
    Dense {
        /// Its inner width.
        intermediate: u64,
        /// Whether it has a gate (three matrices instead of two).
        gated: bool,
    },
    /// A router and experts.
    MixtureOfExperts {
        /// Routed experts.
        experts: u64,
        /// Experts that one token uses.
        active: u64,
        /// Inner width of one expert.
        intermediate: u64,
        /// Inner width of what every token passes besides (shared experts); 0 without.
        shared: u64,
    },
    /// None.
    None,
}

impl Attention {
    /// Elements kept per token: keys and values.
    pub const fn cache_elements_per_token(&self) -> u64 {
        match self.keeps {
            Keeps::Own => self.kv_heads * (self.key_dim + self.value_dim),
            Keeps::Shared | Keeps::Encoder | Keeps::Nothing => 0,
        }
    }

    /// `MHA`, `GQA` or `MQA`.
    pub const fn kind(&self) -> &'static str {
        match self.kv_heads {
            n if n == self.heads => "MHA",
            1 => "MQA",
            _ => "GQA",
        }
    }
}

impl LatentAttention {
    /// Elements kept per token: the latent and the rotary part.
    pub const fn cache_elements_per_token(&self) -> u64 {
        self.kv_lora_rank + self.rope_dim
    }
}

impl Recurrence {
    /// Elements of one sequence, convolution included, as transformers keeps them (`kernel` columns).
    pub const fn elements_per_sequence(&self) -> u64 {
        self.conv_channels * self.conv_kernel + self.state
    }

    /// Bytes of one sequence, the convolution's part in `computation` and the state in `state`.
    ///
    /// # Errors
    /// [`Overflow`] past 2^64 - 1.
    pub fn bytes(&self, computation: Encoding, state: Encoding) -> Result<u64, Overflow> {
        let convolution = self.conv_channels.checked_mul(self.conv_kernel).ok_or(Overflow)?;
        computation.bytes_for(convolution)?.get().checked_add(state.bytes_for(self.state)?.get()).ok_or(Overflow)
    }
}

impl Mixer {
    /// Elements kept per token of its span.
    pub const fn cache_elements_per_token(&self) -> u64 {
        match self {
            Self::Attention(attention) | Self::Parallel(attention, _) => attention.cache_elements_per_token(),
            Self::Latent(latent) => latent.cache_elements_per_token(),
            Self::Recurrent(_) | Self::None => 0,
        }
    }

    /// What decides the size of its cache: (KV heads, key elements, value elements); a latent counts as one head.
    pub const fn cache_shape(&self) -> (u64, u64, u64) {
        match self {
            Self::Attention(attention) | Self::Parallel(attention, _) => (attention.kv_heads, attention.key_dim, attention.value_dim),
            Self::Latent(latent) => (1, latent.kv_lora_rank, latent.rope_dim),
            Self::Recurrent(_) | Self::None => (0, 0, 0),
        }
    }

    /// Elements that a sparse-attention indexer keeps per token.
    pub const fn indexer_elements_per_token(&self) -> u64 {
        match self {
            Self::Latent(latent) => latent.indexer,
            _ => 0,
        }
    }

    /// Elements of state kept per sequence.
    pub const fn state_elements_per_sequence(&self) -> u64 {
        match self {
            Self::Recurrent(recurrence) | Self::Parallel(_, recurrence) => recurrence.elements_per_sequence(),
            Self::Attention(_) | Self::Latent(_) | Self::None => 0,
        }
    }

    /// The attention with keys and values, if there is one.
    pub const fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Attention(attention) | Self::Parallel(attention, _) => Some(attention),
            _ => None,
        }
    }

    /// The recurrence, if there is one.
    pub const fn recurrence(&self) -> Option<&Recurrence> {
        match self {
            Self::Recurrent(recurrence) | Self::Parallel(_, recurrence) => Some(recurrence),
            _ => None,
        }
    }

    /// How far back a token sees; `None` for recurrences alone.
    pub const fn span(&self) -> Option<Span> {
        match self {
            Self::Attention(attention) | Self::Parallel(attention, _) => Some(attention.span),
            Self::Latent(latent) => Some(latent.span),
            Self::Recurrent(_) | Self::None => None,
        }
    }
}

impl FeedForward {
    /// Routed experts, where there are any.
    pub const fn experts(&self) -> Option<u64> {
        match *self {
            Self::MixtureOfExperts { experts, .. } => Some(experts),
            Self::Dense { .. } | Self::None => None,
        }
    }

    /// Inner width that one token passes through.
    pub const fn active_width(&self) -> u64 {
        match *self {
            Self::Dense { intermediate, .. } => intermediate,
            Self::MixtureOfExperts { active, intermediate, shared, .. } => active * intermediate + shared,
            Self::None => 0,
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Sliding(window) => write!(f, "sliding({window})"),
            Self::Chunked(chunk) => write!(f, "chunked({chunk})"),
        }
    }
}

impl std::fmt::Display for RecurrenceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mamba1 => "Mamba-1",
            Self::Mamba2 => "Mamba-2",
            Self::GatedDeltaNet => "gated delta-net",
            Self::KimiDelta => "Kimi delta attention",
            Self::Linear => "linear attention",
            Self::ShortConvolution => "short convolution",
            Self::Rglru => "RG-LRU",
            Self::Rwkv => "RWKV",
            Self::Xlstm => "xLSTM",
        })
    }
}

impl std::fmt::Display for Attention {
    /// `GQA 32/8 × 128`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{} × {}", self.kind(), self.heads, self.kv_heads, self.key_dim)?;
        if self.value_dim != self.key_dim {
            write!(f, " (values {})", self.value_dim)?;
        }
        match self.keeps {
            Keeps::Own => Ok(()),
            Keeps::Shared => f.write_str(", cache of an earlier layer"),
            Keeps::Encoder => f.write_str(", cross-attention"),
            Keeps::Nothing => f.write_str(", bidirectional"),
        }
    }
}

impl std::fmt::Display for Mixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attention(attention) => write!(f, "{attention}"),
            Self::Latent(latent) => write!(f, "MLA {} × ({} + {})", latent.heads, latent.kv_lora_rank, latent.rope_dim),
            Self::Recurrent(recurrence) => write!(f, "{}", recurrence.kind),
            Self::Parallel(attention, recurrence) => write!(f, "{attention} and {}", recurrence.kind),
            Self::None => f.write_str("no mixer"),
        }
    }
}

impl std::fmt::Display for FeedForward {
    /// `gated 14336`, `MoE 8 of 128 × 768`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense { intermediate, gated: true } => write!(f, "gated {intermediate}"),
            Self::Dense { intermediate, gated: false } => write!(f, "dense {intermediate}"),
            Self::MixtureOfExperts { experts, active, intermediate, shared: 0 } => write!(f, "MoE {active} of {experts} × {intermediate}"),
            Self::MixtureOfExperts { experts, active, intermediate, shared } => write!(f, "MoE {active} of {experts} × {intermediate}, shared {shared}"),
            Self::None => f.write_str("no feed-forward"),
        }
    }
}
