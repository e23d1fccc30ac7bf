//! Qwen4-Exp: Qwen3.5's hybrid with experts, its residual stream kept several times over and mixed before each block
//! (hyper-connections), sparse attention by an indexer, and embeddings of n-grams in some layers.

use std::collections::BTreeMap;

use super::decoder::{Decoder, Draft, Shape, Tensors};
use super::multimodal::{Names, Wrapper, language};
use super::qwen3_5::{VISION_DEFAULTS, vision_parts};
use super::recurrent::{DeltaNet, GATE_UP_DOWN, Kind, LayerTensors, divided, fused_experts, gated, gated_attention, kinds_of_layers, periodic};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Role};

/// `Qwen4ExpTextConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("num_key_value_heads", 2),
    ("head_dim", 256),
    ("num_experts", 512),
    ("num_experts_per_tok", 10),
    ("moe_intermediate_size", 512),
    ("shared_expert_intermediate_size", 512),
    ("hc_count", 4),
    ("hc_lowrank", 320),
    ("ple_conv_kernel_size", 4),
    ("ngram_size", 3),
    ("heads_per_ngram", 8),
    ("ngram_vocab_size_base", 20_000_000),
    ("make_ngram_vocab_size_divisible_by", 128),
];

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Full];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("qwen4_exp_text") })?;
    let vision = f.part(&["vision_config"])?;
    let [tower, merger] = vision_parts(&vision.with_defaults(VISION_DEFAULTS))?;
    Ok(draft.with(tower).with(merger))
}

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS);
    let shape = Shape::read(f)?;
    let streams =
        Streams { hidden: shape.hidden, width: shape.hidden.saturating_mul(f.count("hc_count")?), rank: f.count("hc_lowrank")?, count: f.count("hc_count")? };
    let interval = f.step_or("full_attention_interval", 4, &["layer_types"])?;
    let kinds =
        kinds_of_layers(f, "layer_types", shape.layers, KINDS)?.unwrap_or_else(|| periodic(shape.layers, interval, interval - 1, Kind::Full, Kind::Recurrent));
    let attention_bias = f.flag("attention_bias", false)?;
    let delta = DeltaNet::read(f, shape.hidden)?;
    let indexer = match f.optional_count("indexer_n_heads")? {
        None => None,
        Some(heads) => Some((heads.saturating_add(f.count_or("indexer_kv_heads", 1)?), f.count("indexer_head_dim")?)),
    };
    let experts = f.count("num_experts")?;
    let (active, width, shared) = (f.active_experts(experts, experts)?, f.count("moe_intermediate_size")?, f.count("shared_expert_intermediate_size")?);
    let embedded = f.layer_numbers("ple_layer_ids")?;
    let tables: BTreeMap<u64, _> = embedded.iter().copied().zip(n_gram_tables(f, embedded.len() as u64)?).collect();
    for unread in ["intermediate_size", "indexer_budget", "split_ngram_parts", "seed", "mtp", "mtp_use_dedicated_embeddings", "ple_embedding_dtype"] {
        f.touch(unread);
    }
    let mut layers: Vec<LayerTensors> = Vec::new();
    for (number, kind) in (1..=shape.layers).zip(kinds) {
        let mut t = Tensors::default();
        let mixer = if kind == Kind::Full {
            let mixer = gated_attention(&mut t, &shape, attention_bias);
            if let Some((heads, dim)) = indexer {
                t.linear("self_attn.indexer.index_qk_proj", shape.hidden, heads.saturating_mul(dim), false);
                t.norms(&["self_attn.indexer.q_layernorm", "self_attn.indexer.k_layernorm"], dim);
            }
            mixer
        } else {
            let (heads, values) = (delta.value_heads, delta.values());
            delta.tensors(&mut t, &[("in_proj_qkv", delta.channels()), ("in_proj_z", values), ("in_proj_b", heads), ("in_proj_a", heads)]);
            Mixer::Recurrent(delta.recurrence())
        };
        t.linear("mlp.gate", shape.hidden, experts, false).linear("mlp.shared_expert_gate", shape.hidden, 1, false);
        gated(&mut t, "mlp.shared_expert", GATE_UP_DOWN, shape.hidden, shared, false);
        fused_experts(&mut t, "mlp.experts", experts, shape.hidden, width);
        streams.mix(&mut t, "attn_hyper_connection", true);
        streams.mix(&mut t, "mlp_hyper_connection", true);
        if let Some(&tables) = tables.get(&number) {
            streams.embed(f, &mut t, tables)?;
        }
        layers.push((Layer { mixer, feed_forward: FeedForward::MixtureOfExperts { experts, active, intermediate: width, shared } }, t.build()));
    }
    let mut decoder = Decoder::llama_like(shape, layers, false);
    // The mixture of the streams stands in the place of a last norm.
    let mut t = Tensors::default();
    t.embedding("model.embed_tokens", shape.vocab, shape.hidden);
    streams.mix(&mut t, "model.hyper_connection_mixer", false);
    decoder.tensors = t.build();
    let mut draft = Draft::from(decoder);
    if let Some((_, dim)) = indexer {
        let ratio = f.count_or("indexer_compress_ratio", 1)?;
        draft
            .assumptions
            .push(format!("the indexer also keeps {dim} elements for every {ratio} tokens in each full layer; they are not in the cache's figure"));
    }
    if f.optional_count_or_zero("mtp_num_hidden_layers")?.is_some_and(|layers| layers > 0) {
        draft.assumptions.push("the files also hold a module of multi-token prediction, which no class builds: it is not counted".to_owned());
    }
    Ok(draft)
}

/// Copies of the residual stream.
struct Streams {
    hidden: u64,
    /// All copies together.
    width: u64,
    rank: u64,
    count: u64,
}

impl Streams {
    /// What reads one input out of all copies, and gives the output back to them.
    fn mix(&self, t: &mut Tensors, at: &str, gives_back: bool) {
        t.norm(&format!("{at}.hc_norm"), self.width, false).tensor(&format!("{at}.input_mix_weight_down"), Role::Other, &[self.rank, self.width]).tensor(
            &format!("{at}.input_mix_weight_up"),
            Role::Other,
            &[self.width, self.rank],
        );
        if gives_back {
            t.tensor(&format!("{at}.block_inject_weight"), Role::Other, &[self.count, self.width]);
        }
    }

    /// Embeddings of n-grams: a table of all heads, keys and values from it, norms and a convolution over all copies.
    fn embed(&self, f: &Fields, t: &mut Tensors, rows: u64) -> Result<(), ConfigError> {
        let (width, kernel) = (f.optional_count("ple_embed_dim")?.unwrap_or(self.hidden), f.count("ple_conv_kernel_size")?);
        let head = divided(f, "ple_embed_dim", width, n_gram_heads(f)?, "it must be a multiple of the heads of all n-grams")?;
        t.embedding("ple.ple_embedding.ngram_embedding", rows, head)
            .linear("ple.key_proj", width, self.width, false)
            .linear("ple.value_proj", width, self.hidden, false)
            .norms(&["ple.norm_key", "ple.norm_query", "ple.norm_conv"], self.width)
            .convolution("ple.conv1d", &[self.width, 1, kernel], false);
        Ok(())
    }
}

/// Hashed heads of all n-grams in one layer.
fn n_gram_heads(f: &Fields) -> Result<u64, ConfigError> {
    let size = f.count("ngram_size")?;
    let heads = size.saturating_sub(1).saturating_mul(f.count("heads_per_ngram")?);
    if (1..=MOST_HEADS).contains(&heads) { Ok(heads) } else { Err(f.impossible("ngram_size", "with `heads_per_ngram` it must give 1 to 256 heads")) }
}

/// Most heads of n-grams, and the largest table of one, that are read: so that looking for primes stays quick.
const MOST_HEADS: u64 = 256;
const LARGEST_TABLE: u64 = 1 << 32;

/// Rows of the table of each layer that has one: each head's part is the next prime, the sum rounded up.
fn n_gram_tables(f: &Fields, layers: u64) -> Result<Vec<u64>, ConfigError> {
    if layers == 0 {
        return Ok(Vec::new());
    }
    let (heads, base, multiple) = (n_gram_heads(f)?, f.count("ngram_vocab_size_base")?, f.count("make_ngram_vocab_size_divisible_by")?);
    if heads.saturating_mul(layers) > MOST_HEADS || base > LARGEST_TABLE {
        return Err(f.impossible("ngram_vocab_size_base", "no model has tables that large, or so many of them"));
    }
    let mut primes = (base..).filter(|&number| is_prime(number));
    Ok((0..layers).map(|_| primes.by_ref().take(usize::try_from(heads).unwrap_or(0)).sum::<u64>().next_multiple_of(multiple)).collect())
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}
