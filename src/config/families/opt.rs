//! OPT: biases everywhere, two rows of learned positions more than the context, tied head; OPT-350m embeds narrower than it
//! computes and has no final norm.

use super::classic::{Measured, Names, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Head, Tensors, Top, by_architecture};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 768, layers: 12, heads: 12, kv_heads: None, head_dim: None, intermediate: Some(3072), vocab: 50_272 };
const NAMES: Names = Names { base: "model", layers: "model.decoder.layers", head: "lm_head" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    let bias = f.flag("enable_bias", true)?;
    let has_norm_weights = f.flag("layer_norm_elementwise_affine", true)?;
    let width = f.optional_count("word_embed_proj_dim")?.unwrap_or(shape.hidden);
    let positions = f.count_or("max_position_embeddings", 2048)?;
    let mut layer = Tensors::default();
    for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        layer.linear(&format!("self_attn.{projection}"), shape.hidden, shape.hidden, bias);
    }
    layer.linear("fc1", shape.hidden, intermediate, bias).linear("fc2", intermediate, shape.hidden, bias);
    let mut outside = Tensors::default();
    outside.embedding("model.decoder.embed_tokens", shape.vocab, width).embedding("model.decoder.embed_positions", positions + 2, shape.hidden);
    if width != shape.hidden {
        outside.linear("model.decoder.project_in", width, shape.hidden, false).linear("model.decoder.project_out", shape.hidden, width, false);
    }
    let norm_first = f.flag("do_layer_norm_before", true)?;
    let removed = f.flag("_remove_final_layer_norm", false)?;
    if has_norm_weights {
        layer.norm("self_attn_layer_norm", shape.hidden, true).norm("final_layer_norm", shape.hidden, true);
        if norm_first && !removed {
            outside.norm("model.decoder.final_layer_norm", shape.hidden, true);
        }
    }
    // The head reads the embedding's width, which need not be the hidden size.
    let mut assumptions = Vec::new();
    match by_architecture(f, &mut assumptions)? {
        Top::Language if !f.flag("tie_word_embeddings", true)? => _ = outside.linear("lm_head", width, shape.vocab, false),
        Top::Score { module, labels, bias } => _ = outside.linear(module, width, labels, bias),
        Top::Language | Top::Nothing => {}
    }
    let mut draft = gpt_like(&NAMES, measured, false, outside.build(), &layer.build(), true);
    draft.decoder.head = Head::Nothing;
    draft.assumptions.extend(assumptions);
    Ok(draft)
}
