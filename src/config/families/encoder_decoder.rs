//! Two models put together: an encoder of text, images or sound, and a decoder that attends to it (TrOCR, Donut, Nougat, ViT-GPT2,
//! BERT2BERT). Each is read by its own family as the class builds it: the encoder bare, the decoder with its language-model head.

use super::decoder::{Draft, Head, Tensors};
use super::encoder::{Sizes, head_dim, layer_count, seq2seq_attention};
use super::{ConfigError, Fields, family_of, generic};
use crate::model::{ComponentKind, Keeps, Role};

/// Families whose language-model class is called otherwise than `ForCausalLM`.
const LM_HEAD_MODELS: &[&str] = &["gpt2", "bert"];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    let (outer, inner) = (f.required_nested(&["encoder"])?, f.required_nested(&["decoder"])?);
    let encoder_type = outer.model_type();
    let decoder_type = inner.model_type();
    outer.touch("architectures");
    inner.touch("architectures");
    let outer = outer.as_class("Model");
    let encoder = part(&outer, &encoder_type)?;
    let class = if LM_HEAD_MODELS.contains(&decoder_type.as_str()) { "LMHeadModel" } else { "ForCausalLM" };
    let inner = inner.as_class(class);
    let mut draft = part(&inner, &decoder_type)?;
    let tied = inner.flag("tie_word_embeddings", draft.decoder.tied_by_default)?;
    let (width, hidden) = (encoder.decoder.shape.hidden, draft.decoder.shape.hidden);
    let mut t = Tensors::default();
    if matches!(draft.decoder.head, Head::ByArchitecture | Head::Language) && !tied {
        t.linear(draft.decoder.head_module, hidden, draft.decoder.shape.vocab, false);
    }
    draft.decoder.head = Head::Nothing;
    if width != hidden && inner.optional_count("cross_attention_hidden_size")?.is_none() {
        t.tensor("enc_to_dec_proj.weight", Role::Other, &[hidden, width]).tensor("enc_to_dec_proj.bias", Role::Other, &[hidden]);
    }
    draft.decoder.tensors.extend(t.build());
    let mut assumptions = Vec::new();
    let mut parts = encoder.into_components(&outer, &mut assumptions)?;
    for part in &mut parts {
        part.name = "encoder".into();
    }
    draft.assumptions.extend(assumptions);
    draft.others.extend(parts);
    Ok(draft)
}

fn part(f: &Fields, model_type: &str) -> Result<Draft, ConfigError> {
    match family_of(model_type) {
        Some(family) => (family.read)(f),
        None => generic::read(f, model_type),
    }
}

/// `TrOCR`'s decoder: BART's, with positions learned or computed.
pub(super) fn read_trocr(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("decoder_layers", "num_hidden_layers").with_defaults(&[
        ("vocab_size", 50_265),
        ("hidden_size", 1024),
        ("decoder_attention_heads", 16),
        ("decoder_ffn_dim", 4096),
        ("max_position_embeddings", 512),
    ]);
    let (hidden, inner, vocab) = (f.count("hidden_size")?, f.count("decoder_ffn_dim")?, f.count("vocab_size")?);
    let heads = f.count("decoder_attention_heads")?;
    let sizes = Sizes::plain(hidden, inner, layer_count(f, "decoder_layers", 12)?, heads, head_dim(f, "decoder_attention_heads", hidden, heads)?, vocab);
    f.touch("num_hidden_layers");
    f.touch("scale_embedding");
    let mut layer = Tensors::default();
    seq2seq_attention(&mut layer, "self_attn", hidden, true);
    // The class with a head makes a decoder of itself.
    if f.flag("is_decoder", false)? || f.architecture()?.is_some_and(|class| class.ends_with("ForCausalLM")) {
        let width = f.optional_count("cross_attention_hidden_size")?.unwrap_or(hidden);
        layer
            .linear("encoder_attn.k_proj", width, hidden, true)
            .linear("encoder_attn.v_proj", width, hidden, true)
            .linear("encoder_attn.q_proj", hidden, hidden, true)
            .linear("encoder_attn.out_proj", hidden, hidden, true)
            .norm("encoder_attn_layer_norm", hidden, true);
    }
    f.touch("add_cross_attention");
    let layer = layer.linear("fc1", hidden, inner, true).linear("fc2", inner, hidden, true).norm("final_layer_norm", hidden, true).build();
    let mut t = Tensors::default();
    t.embedding("model.decoder.embed_tokens", vocab, hidden);
    if f.flag("use_learned_position_embeddings", true)? {
        // Two rows before the first position.
        t.embedding("model.decoder.embed_positions", f.count("max_position_embeddings")?.saturating_add(2), hidden);
    }
    if f.flag("layernorm_embedding", true)? {
        t.norm("model.decoder.layernorm_embedding", hidden, true);
    }
    if !f.flag("tie_word_embeddings", true)? {
        t.linear("output_projection", hidden, vocab, false);
    }
    Ok(sizes.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", t.build(), sizes.equal_layers(Keeps::Own, &layer)))
}
