//! Higgs Audio 2: Llama, whose layers have a second feed-forward and second norms for tokens of sound; these come from several
//! codebooks, in one table.

use super::decoder::{Draft, Head, Tensors};
use super::{ConfigError, Fields, llama};
use crate::model::Role;

/// `HiggsAudioV2Config` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[
    ("vocab_size", 128_256),
    ("hidden_size", 3072),
    ("intermediate_size", 8192),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 24),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("num_codebooks", 8),
    ("codebook_size", 1024),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    let mut draft = llama::read(f)?;
    let decoder = &mut draft.decoder;
    let hidden = decoder.shape.hidden;
    let mlp = Tensors::default().gated_mlp(hidden, f.count("intermediate_size")?, f.flag("mlp_bias", false)?).build();
    let mut twin = Tensors::default();
    twin.nested("audio_mlp", mlp.into_iter().map(|tensor| crate::model::Tensor { name: tensor.name.replacen("mlp.", "", 1), ..tensor }).collect())
        .norms(&["audio_input_layernorm", "audio_post_attention_layernorm"], hidden);
    let twin = twin.build();
    for (_, tensors) in &mut decoder.layers {
        tensors.extend(twin.iter().cloned());
    }
    let codes = f.count("num_codebooks")?.saturating_mul(f.count("codebook_size")?);
    let mut t = Tensors::default();
    t.tensor("model.embed_audio_tokens.embed_audio_tokens.weight", Role::Embedding, &[codes, hidden]);
    // The class ties neither head, and makes that of words only when asked to in code.
    f.touch("tie_word_embeddings");
    if !f.architecture()?.is_some_and(|class| class.ends_with("Model")) {
        t.tensor("audio_lm_head.weight", Role::Head, &[codes, hidden]);
    }
    decoder.tensors.extend(t.build());
    decoder.head = Head::Nothing;
    Ok(draft)
}
