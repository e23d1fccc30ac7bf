//! ModernBERT as a decoder (Ettin): gate and up in one matrix, all but every third layer slide, a dense head with a norm before
//! the tied vocabulary; the first layer has no norm before attention.

use super::classic::{Measured, Names, Sizes, spans_with, with_layers};
use super::decoder::{Draft, Head, Tensors, Top, by_architecture, layers_by_span};
use super::{ConfigError, Fields};
use crate::model::FeedForward;

const SIZES: Sizes = Sizes { hidden: 768, layers: 22, heads: 12, kv_heads: None, head_dim: None, intermediate: Some(1152), vocab: 50_368 };
const NAMES: Names = Names { base: "model", layers: "model.layers", head: "decoder" };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let Measured { shape, intermediate } = SIZES.read(f)?;
    let mut assumptions = Vec::new();
    let (norm, attention, mlp) = (f.flag("norm_bias", false)?, f.flag("attention_bias", false)?, f.flag("mlp_bias", false)?);
    let mut tensors = Tensors::default();
    for projection in ["q_proj", "k_proj", "v_proj", "Wo"] {
        tensors.linear(&format!("attn.{projection}"), shape.hidden, shape.hidden, attention);
    }
    tensors.norm("mlp_norm", shape.hidden, norm).linear("mlp.Wi", shape.hidden, 2 * intermediate, mlp).linear("mlp.Wo", intermediate, shape.hidden, mlp);
    let period = f.step_or("global_attn_every_n_layers", 3, &["layer_types"])?;
    let local = if f.has("local_attention") { f.optional_count("local_attention")? } else { Some(128) };
    let spans = spans_with(f, &shape, local.map(|both| (both / 2).max(1)), |number| !number.is_multiple_of(period))?;
    let mut layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &tensors.build(), |i| spans[i]);
    for (_, tensors) in layers.iter_mut().skip(1) {
        tensors.extend(Tensors::default().norm("attn_norm", shape.hidden, norm).build());
    }
    let mut outside = Tensors::default();
    outside.embedding("model.embeddings.tok_embeddings", shape.vocab, shape.hidden).norm("model.embeddings.norm", shape.hidden, norm).norm(
        "model.final_norm",
        shape.hidden,
        norm,
    );
    if !matches!(by_architecture(f, &mut assumptions)?, Top::Nothing) {
        outside.linear("lm_head.dense", shape.hidden, shape.hidden, f.flag("classifier_bias", false)?).norm("lm_head.norm", shape.hidden, norm);
    }
    let mut draft = with_layers(&NAMES, shape, outside.build(), layers, true);
    draft.decoder.head = if f.flag("decoder_bias", true)? { Head::ByArchitectureWithBias } else { Head::ByArchitecture };
    draft.assumptions = assumptions;
    Ok(draft)
}
