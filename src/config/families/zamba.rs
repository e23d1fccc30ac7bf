//! Zamba: a recurrence in every layer (Mamba-1 in heads, or Mamba-2); hybrid layers add an attention block over twice the hidden
//! size, of which there are only one or a few copies for all of them.

use super::decoder::{Draft, Shape, Tensors};
use super::jamba::decoder;
use super::recurrent::{GATE_UP_DOWN, Kind, LayerTensors, Mamba1, Mamba2, count_or_auto, divided, gated, kinds_of_layers, layer_count, offset, scaled};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, Recurrence, Role, Span};

const KINDS: &[Kind] = &[Kind::Recurrent, Kind::Hybrid];

/// The attention of hybrid layers: inputs of `width`, outputs of the hidden size.
struct Shared {
    width: u64,
    shape: Shape,
}

impl Shared {
    fn tensors(&self, t: &mut Tensors, at: &str) {
        let (queries, keys) = (self.shape.heads.saturating_mul(self.shape.head_dim), self.shape.kv_heads.saturating_mul(self.shape.head_dim));
        t.norm(&format!("{at}.input_layernorm"), self.width, false)
            .norm(&format!("{at}.pre_ff_layernorm"), self.shape.hidden, false)
            .linear(&format!("{at}.self_attn.q_proj"), self.width, queries, false)
            .linear(&format!("{at}.self_attn.k_proj"), self.width, keys, false)
            .linear(&format!("{at}.self_attn.v_proj"), self.width, keys, false)
            .linear(&format!("{at}.self_attn.o_proj"), queries, self.shape.hidden, false);
    }
}

/// One hybrid or recurrent layer; `shared` adds the block that this layer is the first to hold.
fn layer(
    shape: &Shape,
    kind: Kind,
    recurrence: Recurrence,
    feed_forward: FeedForward,
    block: impl Fn(&mut Tensors, &str),
    shared: impl Fn(&mut Tensors),
) -> LayerTensors {
    let mut t = Tensors::default();
    if kind == Kind::Recurrent {
        block(t.norm("input_layernorm", shape.hidden, false), "mamba");
        return (Layer { mixer: Mixer::Recurrent(recurrence), feed_forward: FeedForward::None }, t.build());
    }
    t.norm("mamba_decoder.input_layernorm", shape.hidden, false).linear("linear", shape.hidden, shape.hidden, false);
    block(&mut t, "mamba_decoder.mamba");
    shared(&mut t);
    (Layer { mixer: Mixer::Parallel(shape.attention(Span::Full), recurrence), feed_forward }, t.build())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let hidden = f.count("hidden_size")?;
    let heads = f.count("num_attention_heads")?;
    let head_dim = match f.optional_count("attention_head_dim")? {
        Some(head_dim) => head_dim,
        None => divided(f, "num_attention_heads", 2 * hidden, heads, "it must divide twice `hidden_size` when there is no `attention_head_dim`")?,
    };
    let shape = Shape::read_with_head_dim(&f.with_defaults(&[("num_key_value_heads", 16)]).with_derived("head_dim", head_dim), head_dim)?;
    let shared = Shared { width: f.optional_count("attention_hidden_size")?.unwrap_or(2 * hidden), shape };
    let intermediate = f.count_or("intermediate_size", 14_848)?;
    let inner = scaled(f, "mamba_expand", 2.0, hidden)?;
    let mamba_heads = f.count_or("n_mamba_heads", 2)?;
    let width = divided(f, "n_mamba_heads", inner, mamba_heads, "it must divide `mamba_expand` times `hidden_size`")?;
    let block = Mamba1 {
        hidden,
        inner,
        state: f.count_or("mamba_d_state", 16)?,
        kernel: f.count_or("mamba_d_conv", 4)?,
        time_step_rank: count_or_auto(f, "mamba_dt_rank", hidden.div_ceil(16))?,
        conv_bias: f.flag("mamba_conv_bias", true)?,
        bias: f.flag("mamba_proj_bias", false)?,
    };
    let (period, listed) = (f.count_or("attn_layer_period", 6)?, kinds_of_layers(f, "layers_block_type", shape.layers, KINDS)?);
    let offset = offset(f, "attn_layer_offset", 4, period)?;
    // Without a list: two recurrent layers, a hybrid one, then by period.
    let kind = |i: u64| if i == 2 || (i > 2 && (i - 3) % period == offset) { Kind::Hybrid } else { Kind::Recurrent };
    let kinds = listed.unwrap_or_else(|| (0..shape.layers).map(kind).collect());
    // Projections are stacked by head here, unlike Mamba-1's own.
    let mamba = |t: &mut Tensors, at: &str| {
        t.linear(&format!("{at}.in_proj"), hidden, 2 * inner, block.bias)
            .convolution(&format!("{at}.conv1d"), &[inner, 1, block.kernel], block.conv_bias)
            .tensor(&format!("{at}.x_proj_weight"), Role::MixerInput, &[mamba_heads, block.time_step_rank + 2 * block.state, width])
            .tensor(&format!("{at}.dt_proj_weight"), Role::MixerInput, &[mamba_heads, width, block.time_step_rank])
            .tensor(&format!("{at}.dt_proj_bias"), Role::MixerInput, &[mamba_heads, width])
            .tensor(&format!("{at}.A_log"), Role::MixerState, &[mamba_heads, width, block.state])
            .tensor(&format!("{at}.D"), Role::MixerState, &[mamba_heads, width])
            .linear(&format!("{at}.out_proj"), inner, hidden, block.bias);
    };
    let one = f.flag("tie_word_embeddings", true)?;
    let first = kinds.iter().position(|&kind| kind == Kind::Hybrid);
    let feed_forward = FeedForward::Dense { intermediate, gated: true };
    let layers = kinds.iter().enumerate().map(|(number, &kind)| {
        layer(&shape, kind, block.recurrence(), feed_forward, mamba, |t| {
            if Some(number) == first || !one {
                shared.tensors(t, "shared_transf");
                gated(t, "shared_transf.feed_forward", GATE_UP_DOWN, hidden, intermediate, false);
            }
        })
    });
    let layers = layers.collect();
    Ok(with_copies(decoder(shape, layers, true), one))
}

/// Says that the block's copies are counted where the config does not tie: the config's key for the head decides of them too.
fn with_copies(draft: Draft, one: bool) -> Draft {
    if one {
        return draft;
    }
    let copies = "`tie_word_embeddings` is false: transformers 5.23 then gives every hybrid layer its own copy of the shared block, which is counted \
                  so; earlier releases share it all the same";
    Draft { assumptions: vec![copies.to_owned()], ..draft }
}

/// `Zamba2Config` of transformers 5.23.
const DEFAULTS2: &[(&str, u64)] =
    &[("mamba_d_state", 64), ("mamba_d_conv", 4), ("mamba_ngroups", 1), ("n_mamba_heads", 8), ("num_mem_blocks", 1), ("adapter_rank", 128)];

pub(super) fn read_zamba2(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(DEFAULTS2);
    let hidden = f.count("hidden_size")?;
    let heads = f.count("num_attention_heads")?;
    let width = 2 * hidden;
    // The class computes the head's width whatever the file says.
    let head_dim = divided(f, "num_attention_heads", width, heads, "it must divide twice `hidden_size`")?;
    for derived in ["attention_head_dim", "attention_hidden_size", "hybrid_layer_ids", "kv_channels", "mamba_headdim", "num_query_groups"] {
        f.touch(derived);
    }
    let shape = Shape { head_dim, ..Shape::read_with_head_dim(&f.with_derived("head_dim", head_dim), head_dim)? };
    let shared = Shared { width, shape };
    let intermediate = f.optional_count("intermediate_size")?.unwrap_or(4 * hidden);
    let inner = scaled(f, "mamba_expand", 2.0, hidden)?;
    let mamba_heads = f.count("n_mamba_heads")?;
    let bias = f.flag("add_bias_linear", false)?;
    f.flag("use_conv_bias", true)?;
    let block = Mamba2 {
        hidden,
        inner,
        heads: mamba_heads,
        head_dim: divided(f, "n_mamba_heads", inner, mamba_heads, "it must divide `mamba_expand` times `hidden_size`")?,
        groups: f.count("mamba_ngroups")?,
        state: f.count("mamba_d_state")?,
        kernel: f.count("mamba_d_conv")?,
        conv_bias: true,
        in_bias: bias,
        out_bias: bias,
        gated_norm: true,
        state_dtype: None,
    };
    let kinds = match kinds_of_layers(f, "layers_block_type", shape.layers, KINDS)? {
        Some(kinds) => kinds,
        None => default_kinds(f, shape.layers)?,
    };
    let hybrids = layer_count(f, kinds.iter().filter(|&&kind| kind == Kind::Hybrid).count() as u64)?;
    let blocks = f.count("num_mem_blocks")?;
    let rank = f.count("adapter_rank")?;
    let one = f.flag("tie_word_embeddings", true)?;
    let adapts_attention = f.flag("use_shared_attention_adapter", false)?;
    let feed_forward = FeedForward::Dense { intermediate, gated: true };
    let mut number = 0;
    let layers = kinds.iter().map(|&kind| {
        let own = number;
        number += u64::from(kind == Kind::Hybrid);
        layer(
            &shape,
            kind,
            block.recurrence(),
            feed_forward,
            |t, at| block.tensors(t, at),
            |t| {
                if own >= blocks && one {
                    return;
                }
                let at = "shared_transformer";
                shared.tensors(t, at);
                t.linear(&format!("{at}.feed_forward.gate_up_proj"), hidden, 2 * intermediate, bias).linear(
                    &format!("{at}.feed_forward.down_proj"),
                    intermediate,
                    hidden,
                    bias,
                );
                // Each use of the block has low-rank adapters of its own; the block holds those of all its uses.
                for user in (own % blocks..hybrids).step_by(usize::try_from(blocks).unwrap_or(usize::MAX)) {
                    let mut adapter = |list: &str, inputs, outputs| {
                        t.linear(&format!("{at}.{list}.{user}.0"), inputs, rank, false).linear(&format!("{at}.{list}.{user}.1"), rank, outputs, false);
                    };
                    adapter("feed_forward.gate_up_proj_adapter_list", hidden, 2 * intermediate);
                    if adapts_attention {
                        for list in ["q", "k", "v"] {
                            adapter(&format!("self_attn.linear_{list}_adapter_list"), width, width);
                        }
                    }
                }
            },
        )
    });
    let layers = layers.collect();
    Ok(with_copies(decoder(shape, layers, true), one))
}

/// The list of the class, which is one for 54 layers.
fn default_kinds(f: &Fields, layers: u64) -> Result<Vec<Kind>, ConfigError> {
    const HYBRID: [u64; 9] = [6, 12, 18, 24, 30, 36, 42, 47, 51];
    if layers != 54 {
        return Err(f.missing("layers_block_type"));
    }
    Ok((0..layers).map(|i| if HYBRID.contains(&i) { Kind::Hybrid } else { Kind::Recurrent }).collect())
}
