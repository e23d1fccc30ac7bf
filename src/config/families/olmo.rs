//! OLMo: norms without parameters; OLMo 2: norms after each block and over all queries and keys; OLMo 3 slides in three of four layers.

use super::classic::{Bias, Measured, Names, NormKind, QueryKeyNorm, Sizes, Variant, gpt_like, spans_with, window_or};
use super::decoder::{Draft, Head, Shape, Tensors};
use super::{ConfigError, Fields};
use crate::model::Role;

const OWN_NAMES: Names = Names { base: "model.transformer", layers: "model.transformer.blocks", head: "ff_out" };

const OLMO: Variant = Variant {
    sizes: Some(Sizes { hidden: 4096, layers: 32, heads: 32, kv_heads: None, head_dim: None, intermediate: Some(11_008), vocab: 50_304 }),
    mlp_bias: Bias::Never,
    norm_kind: NormKind::Plain,
    ..Variant::LLAMA
};

const OLMO2: Variant =
    Variant { norm_kind: NormKind::Weight, norms: &["post_attention_layernorm", "post_feedforward_layernorm"], query_key_norm: QueryKeyNorm::OfAll, ..OLMO };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    OLMO.read(f)
}

pub(super) fn read_olmo2(f: &Fields) -> Result<Draft, ConfigError> {
    OLMO2.read(f)
}

pub(super) fn read_olmo3(f: &Fields) -> Result<Draft, ConfigError> {
    Variant { spans: |f, shape| spans_with(f, shape, window_or(f, 4096)?, |number| !(number + 1).is_multiple_of(4)), ..OLMO2 }.read(f)
}

/// OLMo 1 in its authors' own format: a switch per part, of which only the published setting is known; rows of the embedding
/// may be padded.
pub(super) fn read_own(f: &Fields) -> Result<Draft, ConfigError> {
    let heads = f.count("num_attention_heads")?;
    let kv_heads = if f.flag("multi_query_attention", false)? { 1 } else { f.optional_count("n_kv_heads")?.unwrap_or(heads) };
    let vocab = f.optional_count("embedding_size")?;
    f.touch("vocab_size");
    let vocab = match vocab {
        Some(vocab) => vocab,
        None => f.count("vocab_size")?,
    };
    let shape = Shape::checked(f, f.count("hidden_size")?, f.count("num_hidden_layers")?, vocab, (heads, kv_heads, None))?;
    f.touch("layer_norm_type");
    let mut assumptions = Vec::new();
    for key in ["include_bias", "attention_layer_norm", "layer_norm_with_affine", "attention_layer_norm_with_affine"] {
        if f.flag(key, false)? {
            return Err(f.impossible(key, "only `false` is known for this family"));
        }
        if !f.has(key) {
            assumptions.push(format!("`{key}` is not in the config: it is taken as `false`, as in every published one"));
        }
    }
    // Gate and up are one matrix of this width; the other half is gone after the activation.
    let ratio = f.count_or("mlp_ratio", 4)?;
    let both = f.optional_count("mlp_hidden_size")?.unwrap_or(ratio.saturating_mul(shape.hidden).min(1 << 40));
    if !both.is_multiple_of(2) || f.optional_text("activation_type")?.is_some_and(|name| name != "swiglu") {
        return Err(f.impossible("activation_type", "only `swiglu` over an even width is known for this family"));
    }
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .tensor("att_proj.weight", Role::Qkv, &[queries + 2 * shape.kv_heads * shape.head_dim, shape.hidden])
        .tensor("attn_out.weight", Role::AttentionOutput, &[shape.hidden, queries])
        .tensor("ff_proj.weight", Role::GateUp, &[both, shape.hidden])
        .tensor("ff_out.weight", Role::Down, &[shape.hidden, both / 2])
        .build();
    let mut outside = Tensors::default();
    outside.embedding("model.transformer.wte", shape.vocab, shape.hidden);
    if !f.flag("weight_tying", true)? {
        outside.tensor("model.transformer.ff_out.weight", Role::Head, &[shape.vocab, shape.hidden]);
    }
    f.touch("tie_word_embeddings");
    let measured = Measured { shape, intermediate: both / 2 };
    let mut draft = gpt_like(&OWN_NAMES, measured, true, outside.build(), &layer, false);
    draft.assumptions = assumptions;
    draft.decoder.head = Head::Nothing;
    Ok(draft)
}
