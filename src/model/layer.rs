//! A layer is a mixer (what moves information between tokens) and a feed-forward (what each token does alone).

/// One layer of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What each token does alone.
    pub feed_forward: FeedForward,
}

/// What mixes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Softmax attention that keeps keys and values.
    Attention(Attention),
}

/// Softmax attention with grouped heads (MHA when `kv_heads == heads`, MQA when `kv_heads == 1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Attention {
    /// Elements kept per token: keys and values.
    pub const fn cache_elements_per_token(&self) -> u64 {
        self.kv_heads * (self.key_dim + self.value_dim)
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

/// How far back a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Everything before it.
    Full,
    /// Itself and the tokens before it, this many in all.
    Sliding(u64),
}

/// What each token does alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    },
}

impl FeedForward {
    /// Inner width that one token passes through.
    pub const fn active_width(&self) -> u64 {
        match *self {
            Self::Dense { intermediate, .. } => intermediate,
            Self::MixtureOfExperts { active, intermediate, .. } => active * intermediate,
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Sliding(window) => write!(f, "sliding({window})"),
        }
    }
}

impl std::fmt::Display for Mixer {
    /// `GQA 32/8 × 128`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Attention(attention) = self;
        write!(f, "{} {}/{} × {}", attention.kind(), attention.heads, attention.kv_heads, attention.key_dim)?;
        if attention.value_dim != attention.key_dim {
            write!(f, " (values {})", attention.value_dim)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for FeedForward {
    /// `gated 14336`, `MoE 8 of 128 × 768`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense { intermediate, gated: true } => write!(f, "gated {intermediate}"),
            Self::Dense { intermediate, gated: false } => write!(f, "dense {intermediate}"),
            Self::MixtureOfExperts { experts, active, intermediate } => write!(f, "MoE {active} of {experts} × {intermediate}"),
        }
    }
}
