//! FSMT: BART's layers with a vocabulary for each language.

use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count, seq2seq_layer};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_alias("encoder_layers", "num_hidden_layers").with_alias("tgt_vocab_size", "vocab_size");
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (hidden, positions) = (or("hidden_size", 1024)?, or("max_position_embeddings", 1024)?.saturating_add(2));
    let vocabularies = [or("src_vocab_size", 42_024)?, or("tgt_vocab_size", 42_024)?];
    f.touch("langs");
    let stack = |name: &str, vocab| {
        let [layers, heads, inner] = ["layers", "attention_heads", "ffn_dim"].map(|key| format!("{name}_{key}"));
        let count = or(&heads, 16)?;
        Ok::<_, ConfigError>(Sizes::plain(hidden, or(&inner, 4096)?, layer_count(f, &layers, 12)?, count, head_dim(f, &heads, hidden, count)?, vocab))
    };
    let (encoder, decoder) = (stack("encoder", vocabularies[0])?, stack("decoder", vocabularies[1])?);
    let tied = f.flag("tie_word_embeddings", false)?;
    if tied && vocabularies[0] != vocabularies[1] {
        return Err(f.impossible("tie_word_embeddings", "two vocabularies cannot share one table"));
    }
    let positions = |t: &mut Tensors, name: &str| _ = t.embedding(&format!("model.{name}.embed_positions"), positions, hidden);
    let mut t = Tensors::default();
    if !tied {
        t.embedding("model.encoder.embed_tokens", vocabularies[0], hidden);
    }
    positions(&mut t, "encoder");
    let encoder_layers = encoder.equal_layers(Keeps::Nothing, &seq2seq_layer(hidden, encoder.inner, false, true));
    let component = encoder_component(&encoder, ComponentKind::TextEncoder, "model.encoder.layers", t.build(), encoder_layers);
    let mut t = Tensors::default();
    t.embedding("model.decoder.embed_tokens", vocabularies[1], hidden);
    positions(&mut t, "decoder");
    // The output matrix is a part of the decoder in every class.
    if !tied {
        t.linear("model.decoder.output_projection", hidden, vocabularies[1], false);
    }
    let layers = decoder.equal_layers(Keeps::Own, &seq2seq_layer(hidden, decoder.inner, true, true));
    Ok(decoder.model(ComponentKind::TextDecoder, "model", "model.decoder.layers", t.build(), layers).with(component))
}
