//! `ProphetNet` and XLM-`ProphetNet`: an encoder-decoder that predicts several tokens ahead, with relative positions of every head.

use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, encoder_component, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Role, Tensor};

/// `ProphetNetConfig` of transformers 5.23.
const CLASS: &[(&str, u64)] = &[("vocab_size", 30_522), ("hidden_size", 1024), ("max_position_embeddings", 512), ("ngram", 2), ("num_buckets", 32)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(CLASS);
    f.touch("relative_max_distance");
    f.touch("disable_ngram_loss");
    f.touch("add_cross_attention");
    // The class answers for both from these.
    f.touch("num_hidden_layers");
    let (hidden, vocab, positions) = (f.count("hidden_size")?, f.count("vocab_size")?, f.count("max_position_embeddings")?);
    let stack = |keys: [&'static str; 3]| {
        let heads = f.count_or(keys[1], 16)?;
        let inner = f.count_or(keys[2], 4096)?;
        Ok::<Sizes, ConfigError>(Sizes::plain(hidden, inner, layer_count(f, keys[0], 12)?, heads, head_dim(f, keys[1], hidden, heads)?, vocab))
    };
    let encoder = stack(["num_encoder_layers", "num_encoder_attention_heads", "encoder_ffn_dim"])?;
    let decoder = stack(["num_decoder_layers", "num_decoder_attention_heads", "decoder_ffn_dim"])?;
    let class = f.architecture()?.unwrap_or_default();
    let is_alone = class.ends_with("ForCausalLM") || class.ends_with("Decoder");
    let mut t = Tensors::default();
    t.embedding("prophetnet.word_embeddings", vocab, hidden)
        .embedding("prophetnet.decoder.position_embeddings", positions, hidden)
        .tensor("prophetnet.decoder.ngram_embeddings.weight", Role::Other, &[f.count("ngram")?, hidden])
        .norm("prophetnet.decoder.embeddings_layer_norm", hidden, true);
    if !f.flag("tie_word_embeddings", true)? {
        if !class.ends_with("Model") {
            t.linear("lm_head", hidden, vocab, false);
        }
        if !is_alone {
            t.embedding("prophetnet.encoder.word_embeddings", vocab, hidden);
        }
        t.embedding("prophetnet.decoder.word_embeddings", vocab, hidden);
    }
    let buckets = decoder.heads.saturating_mul(f.count("num_buckets")?);
    let layers = decoder.equal_layers(Keeps::Own, &layer(&decoder, Some(buckets)));
    let draft = decoder.model(ComponentKind::TextDecoder, "prophetnet", "prophetnet.decoder.layers", t.build(), layers);
    if is_alone {
        return Ok(draft);
    }
    let outside = Tensors::default()
        .embedding("prophetnet.encoder.position_embeddings", positions, hidden)
        .norm("prophetnet.encoder.embeddings_layer_norm", hidden, true)
        .build();
    let layers = encoder.equal_layers(Keeps::Nothing, &layer(&encoder, None));
    Ok(draft.with(encoder_component(&encoder, ComponentKind::TextEncoder, "prophetnet.encoder.layers", outside, layers)))
}

/// A layer; the decoder's has positions by so many buckets of its heads, and attention to the encoder.
fn layer(sizes: &Sizes, buckets: Option<u64>) -> Vec<Tensor> {
    let hidden = sizes.hidden;
    let mut t = Tensors::default();
    let attention = |t: &mut Tensors, name: &str| {
        for (leaf, role) in [("query_proj", Role::Query), ("key_proj", Role::Key), ("value_proj", Role::Value), ("out_proj", Role::AttentionOutput)] {
            t.tensor(&format!("{name}.{leaf}.weight"), role, &[hidden, hidden]).tensor(&format!("{name}.{leaf}.bias"), role, &[hidden]);
        }
        t.norm(&format!("{name}_layer_norm"), hidden, true);
    };
    attention(&mut t, "self_attn");
    if let Some(buckets) = buckets {
        t.linear("self_attn.relative_pos_embeddings", hidden, buckets, true);
        attention(&mut t, "cross_attn");
    }
    t.tensor("feed_forward.intermediate.weight", Role::Up, &[sizes.inner, hidden])
        .tensor("feed_forward.intermediate.bias", Role::Up, &[sizes.inner])
        .tensor("feed_forward.output.weight", Role::Down, &[hidden, sizes.inner])
        .tensor("feed_forward.output.bias", Role::Down, &[hidden])
        .norm("feed_forward_layer_norm", hidden, true)
        .build()
}
