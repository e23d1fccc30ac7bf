//! Multi-head latent attention as DeepSeek names its modules, with the sparse-attention indexer of V3.2 and its kin.

use super::decoder::{Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::{LatentAttention, Mixer, Span};

/// The sizes that a class gives where the config is silent.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub query_rank: Option<u64>,
    pub rank: u64,
    pub rope: u64,
    pub nope: u64,
    pub value: u64,
}

/// An MLA block.
#[derive(Clone, Copy, Debug)]
pub struct Latent {
    pub heads: u64,
    /// Rank of the query's own compression; `None` for a plain query projection.
    pub query_rank: Option<u64>,
    pub rank: u64,
    pub rope: u64,
    pub nope: u64,
    pub value: u64,
    /// Biases of the projections from and to the hidden size.
    pub bias: bool,
}

impl Latent {
    /// Reads it; `q_lora_rank: null` is a value of its own (no compression of queries).
    pub fn read(f: &Fields, heads: u64, defaults: Defaults) -> Result<Self, ConfigError> {
        let query_rank = if f.has("q_lora_rank") { f.optional_count("q_lora_rank")? } else { defaults.query_rank };
        let size = |key, default| Ok::<_, ConfigError>(f.optional_count_or_zero(key)?.unwrap_or(default));
        let latent = Self {
            heads,
            query_rank,
            rank: f.count_or("kv_lora_rank", defaults.rank)?,
            rope: size("qk_rope_head_dim", defaults.rope)?,
            nope: size("qk_nope_head_dim", defaults.nope)?,
            value: f.count_or("v_head_dim", defaults.value)?,
            bias: f.flag("attention_bias", false)?,
        };
        // Sums of the parts that some files repeat.
        for key in ["qk_head_dim", "head_dim", "num_key_value_heads"] {
            f.touch(key);
        }
        Ok(latent)
    }

    /// Elements of one query head.
    pub const fn query_dim(&self) -> u64 {
        self.nope + self.rope
    }

    /// Its tensors under `module` (`self_attn`).
    pub fn add(&self, tensors: &mut Tensors, module: &str, hidden: u64) {
        let name = |leaf: &str| format!("{module}.{leaf}");
        let queries = self.heads.saturating_mul(self.query_dim());
        let values = self.heads.saturating_mul(self.value);
        match self.query_rank {
            None => _ = tensors.linear(&name("q_proj"), hidden, queries, false),
            Some(rank) => {
                tensors.linear(&name("q_a_proj"), hidden, rank, self.bias).norm(&name("q_a_layernorm"), rank, false).linear(
                    &name("q_b_proj"),
                    rank,
                    queries,
                    false,
                );
            }
        }
        tensors
            .linear(&name("kv_a_proj_with_mqa"), hidden, self.rank + self.rope, self.bias)
            .norm(&name("kv_a_layernorm"), self.rank, false)
            .linear(&name("kv_b_proj"), self.rank, self.heads.saturating_mul(self.nope + self.value), false)
            .linear(&name("o_proj"), values, hidden, self.bias);
    }

    /// The mixer, with the elements that an indexer keeps per token (0 without one).
    pub const fn mixer(&self, indexer: u64) -> Mixer {
        self.within(Span::Full, indexer)
    }

    /// The same of tokens that see no further back than this.
    pub const fn within(&self, span: Span, indexer: u64) -> Mixer {
        let &Self { heads, rank, rope, nope, value, .. } = self;
        Mixer::Latent(LatentAttention { heads, kv_lora_rank: rank, rope_dim: rope, nope_dim: nope, value_dim: value, indexer, span })
    }
}

/// The indexer that picks the tokens a sparse layer attends to; it keeps one key per token.
#[derive(Clone, Copy, Debug)]
pub struct Indexer {
    pub heads: u64,
    pub head_dim: u64,
}

impl Indexer {
    /// Reads it with the class's number of heads; keys have 128 elements in every class.
    pub fn read(f: &Fields, heads: u64) -> Result<Self, ConfigError> {
        // How many tokens it picks costs nothing per token.
        f.touch("index_topk");
        Ok(Self { heads: f.optional_count("index_n_heads")?.unwrap_or(heads), head_dim: f.count_or("index_head_dim", 128)? })
    }

    /// Its tensors; it reads the compressed queries, so there must be some.
    pub fn add(&self, tensors: &mut Tensors, hidden: u64, query_rank: u64) {
        tensors
            .linear("self_attn.indexer.wq_b", query_rank, self.heads.saturating_mul(self.head_dim), false)
            .linear("self_attn.indexer.wk", hidden, self.head_dim, false)
            .norm("self_attn.indexer.k_norm", self.head_dim, true)
            .linear("self_attn.indexer.weights_proj", hidden, self.heads, false);
    }
}

/// The sizes of an MLA decoder: key-value heads and `head_dim` play no part in it.
pub fn latent_shape(f: &Fields) -> Result<Shape, ConfigError> {
    let heads = f.count("num_attention_heads")?;
    Ok(Shape { hidden: f.count("hidden_size")?, layers: Shape::layer_count(f)?, vocab: f.count("vocab_size")?, heads, kv_heads: heads, head_dim: 0 })
}
