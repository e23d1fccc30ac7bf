//! DeepSeek-V4: one shared head of keys that serve as values too, a window in every layer, blocks of tokens compressed to one
//! key (with an indexer where blocks are small), grouped output projections, several residual streams.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors};
use super::experts::{Mixture, MixtureDefaults, Names, predictor_component, predictors};
use super::latent::Indexer;
use super::{ConfigError, Fields};
use crate::model::{Attention, Keeps, LatentAttention, Layer, Mixer, Role, Span, Tensor};

const NAMES: Names = Names { router: "ffn.gate", experts: ["ffn.experts.{}.w1", "ffn.experts.{}.w3", "ffn.experts.{}.w2"], shared: "ffn.shared_experts" };

/// What a layer attends to besides its window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Window,
    /// Small blocks, of which an indexer picks.
    Sparse,
    /// Large blocks, all of them.
    Heavy,
}

/// The sizes of an attention block.
struct Block {
    shape: Shape,
    query_rank: u64,
    groups: u64,
    output_rank: u64,
    indexer: Indexer,
    window: u64,
    /// Tokens in a block of a sparse and of a heavy layer.
    rates: (u64, u64),
    streams: u64,
    mixture: Mixture,
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read_with(f, Some(512), Some(1))?;
    let (small, large) = rates(f)?;
    let mixture = Mixture::read(f, MixtureDefaults { experts: 256, active: 6, width: 2048, shared: 1 })?;
    let block = Block {
        shape,
        query_rank: f.count_or("q_lora_rank", 1024)?,
        groups: f.count_or("o_groups", 8)?,
        output_rank: f.count_or("o_lora_rank", 1024)?,
        indexer: Indexer::read(f, 64)?,
        window: f.count_or("sliding_window", 128)?,
        rates: (small, large),
        streams: f.count_or("hc_mult", 4)?,
        // The class has one shared expert whatever the config says.
        mixture: Mixture { shared: mixture.width, ..mixture },
    };
    if !shape.heads.saturating_mul(shape.head_dim).is_multiple_of(block.groups) {
        return Err(f.impossible("o_groups", "it must divide `num_attention_heads` times `head_dim`"));
    }
    // The first layers choose experts by token instead of by state: a table, no parameters. Rotary parts lie in the keys.
    for key in ["num_hash_layers", "mlp_layer_types", "compress_rope_theta", "attention_bias"] {
        f.touch(key);
    }
    let predictors = predictors(f)?;
    let (kinds, more) = kinds(f, &shape, predictors)?;
    let layers: Vec<_> = kinds.iter().map(|&kind| block.layer(kind)).collect();
    let mut tensors = Tensors::default();
    tensors.embedding("embed", shape.vocab, shape.hidden).norm("norm", shape.hidden, false);
    block.add_streams_head(&mut tensors, "hc_head");
    let decoder = Decoder {
        base: "",
        layer_prefix: "layers",
        tensors: tensors.build(),
        head: Head::ByArchitecture,
        head_module: "head",
        ..Decoder::llama_like(shape, layers, false)
    };
    // Layers that compress have a base of their own, and every base a table in float32 (vLLM `models/deepseek_v4/common/rope.py`,
    // `DeepseekV4ScalingRotaryEmbedding`; SGLang a complex64 for each two values).
    let has = |compresses: bool| kinds.iter().any(|&kind| (kind != Kind::Window) == compresses);
    let bases = u64::from(has(true)) + u64::from(has(false));
    let rotary = Some(f.optional_count("qk_rope_head_dim")?.unwrap_or(64).saturating_mul(bases));
    let mut draft = Draft { rotary, ..Draft::from(decoder) };
    if kinds.iter().any(|&kind| kind != Kind::Window) {
        draft.assumptions.push(format!(
            "layers that compress blocks of tokens are counted by what grows with the context; the window of {} tokens beside it is left out in them",
            block.window
        ));
    }
    if predictors == 0 {
        return Ok(draft);
    }
    let layers = more.into_iter().map(|kind| {
        let (layer, mut tensors) = block.layer(kind);
        let mut own = Tensors::default();
        own.norms(&["enorm", "hnorm", "norm"], shape.hidden).linear("e_proj", shape.hidden, shape.hidden, false).linear(
            "h_proj",
            shape.hidden,
            shape.hidden,
            false,
        );
        block.add_streams_head(&mut own, "hc_head");
        tensors.extend(own.build());
        (layer, tensors)
    });
    Ok(draft.with(predictor_component(&shape, "mtp", layers.collect())))
}

impl Block {
    fn layer(&self, kind: Kind) -> (Layer, Vec<Tensor>) {
        let hidden = self.shape.hidden;
        let keys = self.shape.head_dim;
        let queries = self.shape.heads.saturating_mul(keys);
        let grouped = self.groups.saturating_mul(self.output_rank);
        let mut tensors = Tensors::default();
        tensors
            .linear("attn.wq_a", hidden, self.query_rank, false)
            .norm("attn.q_norm", self.query_rank, false)
            .linear("attn.wq_b", self.query_rank, queries, false)
            .linear("attn.wkv", hidden, keys, false)
            .norm("attn.kv_norm", keys, false)
            .linear("attn.wo_a", queries / self.groups, grouped, false)
            .linear("attn.wo_b", grouped, hidden, false)
            .tensor("attn.attn_sink", Role::Other, &[self.shape.heads]);
        let latent = |rate: u64, indexer| LatentAttention {
            heads: self.shape.heads,
            kv_lora_rank: keys.div_ceil(rate),
            rope_dim: 0,
            nope_dim: keys,
            value_dim: keys,
            indexer,
            span: Span::Full,
        };
        let mixer = match kind {
            Kind::Window => Mixer::Attention(Attention {
                heads: self.shape.heads,
                kv_heads: 1,
                key_dim: keys,
                value_dim: 0,
                span: Span::Sliding(self.window),
                keeps: Keeps::Own,
            }),
            Kind::Heavy => {
                add_compressor(&mut tensors, "attn.compressor", hidden, (keys, 1), self.rates.1);
                Mixer::Latent(latent(self.rates.1, 0))
            }
            Kind::Sparse => {
                // Blocks overlap: each token is projected for its own and for the next one.
                add_compressor(&mut tensors, "attn.compressor", hidden, (keys, 2), self.rates.0);
                add_compressor(&mut tensors, "attn.indexer.compressor", hidden, (self.indexer.head_dim, 2), self.rates.0);
                tensors.linear("attn.indexer.wq_b", self.query_rank, self.indexer.heads.saturating_mul(self.indexer.head_dim), false).linear(
                    "attn.indexer.weights_proj",
                    hidden,
                    self.indexer.heads,
                    false,
                );
                Mixer::Latent(latent(self.rates.0, self.indexer.head_dim.div_ceil(self.rates.0)))
            }
        };
        let [width, shared] = [self.mixture.width, self.mixture.shared];
        Mixture { width, shared: 0, ..self.mixture }.add(&mut tensors, NAMES, hidden);
        tensors
            .linear("ffn.shared_experts.w1", hidden, shared, false)
            .linear("ffn.shared_experts.w3", hidden, shared, false)
            .linear("ffn.shared_experts.w2", shared, hidden, false)
            .norms(&["attn_norm", "ffn_norm"], hidden);
        let mixed = self.streams.saturating_mul(self.streams.saturating_add(2));
        for half in ["attn", "ffn"] {
            tensors
                .tensor(&format!("hc_{half}_fn"), Role::Other, &[mixed, self.streams.saturating_mul(hidden)])
                .tensor(&format!("hc_{half}_base"), Role::Other, &[mixed])
                .tensor(&format!("hc_{half}_scale"), Role::Other, &[3]);
        }
        (Layer { mixer, feed_forward: self.mixture.feed_forward() }, tensors.build())
    }

    /// What joins the residual streams above the last layer.
    fn add_streams_head(&self, tensors: &mut Tensors, name: &str) {
        tensors
            .tensor(&format!("{name}_fn"), Role::Other, &[self.streams, self.streams.saturating_mul(self.shape.hidden)])
            .tensor(&format!("{name}_base"), Role::Other, &[self.streams])
            .tensor(&format!("{name}_scale"), Role::Other, &[1]);
    }
}

/// The modules that make one key of a block of `rate` tokens.
fn add_compressor(tensors: &mut Tensors, module: &str, hidden: u64, (keys, overlap): (u64, u64), rate: u64) {
    let width = keys.saturating_mul(overlap);
    tensors
        .linear(&format!("{module}.wkv"), hidden, width, false)
        .linear(&format!("{module}.wgate"), hidden, width, false)
        .tensor(&format!("{module}.ape"), Role::Other, &[rate, width])
        .norm(&format!("{module}.norm"), keys, false);
}

/// Tokens per block, in sparse and in heavy layers.
fn rates(f: &Fields) -> Result<(u64, u64), ConfigError> {
    let named = f.nested(&["compress_rates"])?;
    let rate = |old: &str, new: &str, default| {
        let of_layer_type = named.as_ref().map_or(Ok(None), |rates| rates.optional_count(new))?;
        Ok::<_, ConfigError>(f.optional_count(old)?.or(of_layer_type).unwrap_or(default))
    };
    Ok((rate("compress_rate_csa", "compressed_sparse_attention", 4)?, rate("compress_rate_hca", "heavily_compressed_attention", 128)?))
}

/// The kinds of the decoder's layers and of the predictors': `layer_types`, or `compress_ratios`, or heavy and sparse in turn
/// after two heavy ones.
fn kinds(f: &Fields, shape: &Shape, predictors: u64) -> Result<(Vec<Kind>, Vec<Kind>), ConfigError> {
    let count = usize::try_from(shape.layers).unwrap_or(0);
    let ratios = f.optional_counts("compress_ratios")?;
    let (key, mut kinds) = if let Some(types) = f.optional_texts("layer_types")? {
        let kind = |kind: &String| match kind.as_str() {
            "sliding_attention" => Ok(Kind::Window),
            "compressed_sparse_attention" => Ok(Kind::Sparse),
            "heavily_compressed_attention" => Ok(Kind::Heavy),
            _ => Err(f.impossible("layer_types", "only sliding, compressed sparse and heavily compressed attention are known for this model type")),
        };
        ("layer_types", types.iter().map(kind).collect::<Result<Vec<_>, _>>()?)
    } else if let Some(ratios) = ratios {
        let kind = |ratio: u64| match ratio {
            0 => Ok(Kind::Window),
            4 => Ok(Kind::Sparse),
            128 => Ok(Kind::Heavy),
            _ => Err(f.impossible("compress_ratios", "only 0, 4 and 128 are known")),
        };
        ("compress_ratios", ratios.into_iter().map(kind).collect::<Result<Vec<_>, _>>()?)
    } else {
        let turn = |number: usize| if number >= 2 && (number - 2) % 2 == 1 { Kind::Sparse } else { Kind::Heavy };
        ("num_hidden_layers", (0..count).map(turn).collect())
    };
    if kinds.len() < count {
        return Err(f.impossible(key, "it must have at least one entry per layer (`num_hidden_layers`)"));
    }
    let mut more = kinds.split_off(count);
    more.resize(usize::try_from(predictors).unwrap_or(0), Kind::Window);
    Ok((kinds, more))
}
