//! The sizes that can be given, and which of them go together: tables.

use super::given::Given;

/// A size that can be given.
#[derive(Debug, PartialEq, Eq)]
pub struct Size {
    /// Its name.
    pub name: &'static str,
    /// The key of config.json that it stands for, which names it too; empty where there is none.
    pub key: &'static str,
    /// What it is, for people.
    pub label: &'static str,
}

const fn size(name: &'static str, key: &'static str, label: &'static str) -> Size {
    Size { name, key, label }
}

/// Every size, in the order in which they are written.
pub static SIZES: &[Size] = &[
    size("layers", "num_hidden_layers", "Layers"),
    size("hidden", "hidden_size", "Hidden size"),
    size("heads", "num_attention_heads", "Attention heads"),
    size("kv-heads", "num_key_value_heads", "Key-value heads"),
    size("head-dim", "head_dim", "Size of a head"),
    size("intermediate", "intermediate_size", "Intermediate size"),
    size("vocab", "vocab_size", "Vocabulary"),
    size("params", "", "Parameters in all"),
    size("experts", "num_experts", "Experts"),
    size("active-experts", "num_experts_per_tok", "Active experts"),
    size("expert-intermediate", "moe_intermediate_size", "Intermediate size of an expert"),
    size("shared-experts", "n_shared_experts", "Shared experts"),
    size("dense-layers", "first_k_dense_replace", "First layers without experts"),
    size("window", "sliding_window", "Sliding window"),
    size("full-every", "full_attention_interval", "One layer with full attention of every"),
    size("kv-lora-rank", "kv_lora_rank", "Latent rank of keys and values (MLA)"),
    size("q-lora-rank", "q_lora_rank", "Latent rank of queries"),
    size("rope-head-dim", "qk_rope_head_dim", "Rotary part of a latent head"),
    size("nope-head-dim", "qk_nope_head_dim", "Other part of a latent head"),
    size("v-head-dim", "v_head_dim", "Values of a latent head"),
    size("recurrent", "", "Recurrence (mamba2 or gated-delta-net)"),
    size("state-heads", "state_heads", "Heads of the recurrence"),
    size("state-head-dim", "state_head_dim", "Size of such a head"),
    size("state-size", "state_size", "State for each element of it"),
    size("state-groups", "state_groups", "Groups (of a delta-net: heads) of its keys"),
    size("conv-kernel", "conv_kernel", "Columns of its convolution"),
    size("context", "max_position_embeddings", "Longest context"),
    size("tied", "tie_word_embeddings", "Tied embeddings (yes or no)"),
    size("dtype", "dtype", "Dtype"),
];

/// What is taken for a size that was not given.
pub(super) struct Unsaid {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// The size without which it plays no part; empty for none.
    pub(super) with: &'static str,
    /// The size with which it plays no part; empty for none.
    pub(super) without: &'static str,
}

const fn unsaid(name: &'static str, what: &'static str, with: &'static str, without: &'static str) -> Unsaid {
    Unsaid { name, what, with, without }
}

pub(super) const UNSAID: &[Unsaid] = &[
    unsaid("kv-heads", "as many as heads", "heads", "kv-lora-rank"),
    unsaid("head-dim", "the hidden size over the heads", "heads", "kv-lora-rank"),
    unsaid("q-lora-rank", "queries are projected at once", "kv-lora-rank", ""),
    unsaid("rope-head-dim", "64", "kv-lora-rank", ""),
    unsaid("nope-head-dim", "128", "kv-lora-rank", ""),
    unsaid("v-head-dim", "128", "kv-lora-rank", ""),
    unsaid("state-groups", "one for all heads of Mamba-2, a head of keys for each head of a delta-net", "recurrent", ""),
    unsaid("conv-kernel", "4", "recurrent", ""),
    unsaid("tied", "the head has a matrix of its own", "", ""),
    unsaid("context", "no limit is known", "", ""),
];

impl Unsaid {
    pub(super) fn counts(&self, given: &Given) -> bool {
        !given.has(self.name) && (self.with.is_empty() || given.has(self.with)) && !given.has(self.without)
    }
}

/// Sizes that mean something beside another one only.
pub(super) const BESIDE: &[(&str, &[&str])] = &[
    ("experts", &["active-experts", "expert-intermediate", "shared-experts", "dense-layers"]),
    ("kv-lora-rank", &["q-lora-rank", "rope-head-dim", "nope-head-dim", "v-head-dim"]),
    ("recurrent", &["state-heads", "state-head-dim", "state-size", "state-groups", "conv-kernel"]),
];

/// Sizes that would have no part in the model, and why.
pub(super) struct Idle {
    pub(super) names: &'static [&'static str],
    /// The size beside which they have none; empty where any will do.
    pub(super) beside: &'static str,
    /// Sizes, one of which would give them a part.
    pub(super) unless: &'static [&'static str],
    pub(super) why: &'static str,
}

pub(super) const IDLE: &[Idle] = &[
    Idle {
        names: &["full-every"],
        beside: "",
        unless: &["window", "recurrent"],
        why: "`full-every` tells layers apart: say what the others have, with `window` or `recurrent`",
    },
    Idle { names: &["window"], beside: "kv-lora-rank", unless: &[], why: "latent attention has no window in any engine: leave out `window` or `kv-lora-rank`" },
    Idle {
        names: &["kv-heads", "head-dim"],
        beside: "kv-lora-rank",
        unless: &[],
        why: "latent attention has heads of its own sizes: leave out `kv-heads` and `head-dim`, or `kv-lora-rank`",
    },
    Idle {
        names: &["heads", "kv-heads", "head-dim", "window", "kv-lora-rank"],
        beside: "recurrent",
        unless: &["full-every"],
        why: "every layer has the recurrence in the place of attention: say which have attention with `full-every`, or leave out its sizes \
              (`heads`, `kv-heads`, `head-dim`, `window`, `kv-lora-rank`)",
    },
];

impl Idle {
    pub(super) fn is_met(&self, given: &Given) -> bool {
        let has_any = |names: &[&str]| names.iter().any(|name| given.has(name));
        has_any(self.names) && (self.beside.is_empty() || given.has(self.beside)) && !has_any(self.unless)
    }
}

/// Names of the sizes, for messages.
pub(super) const NAMES: &str = "layers, hidden, heads, kv-heads, head-dim, intermediate, vocab, params, experts, active-experts, expert-intermediate, \
    shared-experts, dense-layers, window, full-every, kv-lora-rank, q-lora-rank, rope-head-dim, nope-head-dim, v-head-dim, recurrent, \
    state-heads, state-head-dim, state-size, state-groups, conv-kernel, context, tied, dtype";

impl Size {
    pub(super) fn is_called(&self, name: &str) -> bool {
        let name = name.trim().replace('_', "-");
        name.eq_ignore_ascii_case(self.name) || (!self.key.is_empty() && name.eq_ignore_ascii_case(&self.key.replace('_', "-")))
    }
}
