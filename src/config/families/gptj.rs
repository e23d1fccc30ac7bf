//! GPT-J, CodeGen and MOSS: one norm before attention and feed-forward in parallel, no biases in attention, a head with a bias.

use super::classic::{GPT_NAMES, Measured, Sizes, gpt_like, plain_heads};
use super::decoder::{Draft, Head, Tensors};
use super::{ConfigError, Fields};

const SIZES: Sizes = Sizes { hidden: 4096, layers: 28, heads: 16, kv_heads: None, head_dim: None, intermediate: None, vocab: 50_400 };

/// GPT-J: q, k and v apart.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    build(f, |layer, hidden| {
        for projection in ["q_proj", "k_proj", "v_proj"] {
            layer.linear(&format!("attn.{projection}"), hidden, hidden, false);
        }
    })
}

/// CodeGen: q, k and v in one matrix.
pub(super) fn read_codegen(f: &Fields) -> Result<Draft, ConfigError> {
    build(f, |layer, hidden| _ = layer.linear("attn.qkv_proj", hidden, 3 * hidden, false))
}

fn build(f: &Fields, projections: impl Fn(&mut Tensors, u64)) -> Result<Draft, ConfigError> {
    let measured = SIZES.read(f)?;
    let Measured { shape, intermediate, .. } = measured;
    plain_heads(f, &shape)?;
    let mut layer = Tensors::default();
    layer.norm("ln_1", shape.hidden, true);
    projections(&mut layer, shape.hidden);
    layer.linear("attn.out_proj", shape.hidden, shape.hidden, false).linear("mlp.fc_in", shape.hidden, intermediate, true).linear(
        "mlp.fc_out",
        intermediate,
        shape.hidden,
        true,
    );
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, true).build();
    let mut draft = gpt_like(&GPT_NAMES, measured, false, outside, &layer.build(), false);
    draft.decoder.head = Head::ByArchitectureWithBias;
    Ok(draft)
}
