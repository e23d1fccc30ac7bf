//! MiniMax-Text-01: lightning attention (one matrix per head) and softmax attention by `layer_types`, experts everywhere. M1 is the same.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors};
use super::recurrent::{Kind, W1_W3_W2, experts, kinds_of_layers, periodic, plain_recurrence};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Layer, Mixer, RecurrenceKind, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("num_key_value_heads", 8), ("num_experts", 8), ("num_experts_per_tok", 2)]);
    let shape = Shape::read(f)?;
    let intermediate = f.count("intermediate_size")?;
    let count = f.count("num_experts")?;
    let active = f.active_experts(count, 2.min(count))?;
    // The class attends over everything; the key stands for nothing.
    f.touch("sliding_window");
    let listed = kinds_of_layers(f, "layer_types", shape.layers, &[Kind::Recurrent, Kind::Full])?;
    // The published remote code: 1 for softmax, 0 for lightning.
    let of_numbers = match f.optional_counts("attn_type_list")? {
        Some(list) if list.len() as u64 != shape.layers => return Err(f.impossible("attn_type_list", "it must have one entry per layer (`num_hidden_layers`)")),
        Some(list) => Some(list.into_iter().map(|kind| if kind == 0 { Kind::Recurrent } else { Kind::Full }).collect()),
        None => None,
    };
    let kinds = listed.or(of_numbers).unwrap_or_else(|| periodic(shape.layers, 2, 1, Kind::Recurrent, Kind::Full));
    let shared = f.optional_count_or_zero("shared_intermediate_size")?.unwrap_or(0);
    if shared > 0 {
        return Err(f.impossible("shared_intermediate_size", "shared experts of this model type are not known"));
    }
    let width = shape.heads.saturating_mul(shape.head_dim);
    let layers = kinds.into_iter().map(|kind| {
        let mut t = Tensors::default();
        t.norms(LLAMA_NORMS, shape.hidden);
        let mixer = if kind == Kind::Full {
            t.attention(&shape, false, false);
            Mixer::Attention(shape.attention(Span::Full))
        } else {
            t.norm("self_attn.norm", width, false)
                .linear("self_attn.qkv_proj", shape.hidden, width.saturating_mul(3), false)
                .tensor("self_attn.output_gate.weight", Role::MixerInput, &[width, shape.hidden])
                .tensor("self_attn.out_proj.weight", Role::MixerOutput, &[shape.hidden, width]);
            plain_recurrence(RecurrenceKind::Linear, width.saturating_mul(shape.head_dim))
        };
        t.linear("block_sparse_moe.gate", shape.hidden, count, false);
        experts(&mut t, "block_sparse_moe.experts", W1_W3_W2, count, shape.hidden, intermediate);
        (Layer { mixer, feed_forward: FeedForward::MixtureOfExperts { experts: count, active, intermediate, shared: 0 } }, t.build())
    });
    let layers = layers.collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}
