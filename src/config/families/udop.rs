//! UDOP and `Pop2Piano`: T5 with something beside its words: a page's patches and places, a composer.

use super::decoder::{Draft, Tensors};
use super::{ConfigError, Fields, t5};
use crate::model::{Input, Role, Tensor, Work};

/// UDOP: patches of the page, tables of places, and biases by distance along both axes in each stack.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("vocab_size", 33_201), ("d_model", 1024), ("d_ff", 4096), ("num_layers", 24), ("num_heads", 16)]);
    let or = |key: &str, default: u64| f.count_or(key, default);
    let (hidden, heads, buckets) = (f.count("d_model")?, f.count("num_heads")?, or("relative_attention_num_buckets", 32)?);
    let (channels, patch, places) = (or("num_channels", 3)?, or("patch_size", 16)?, or("max_2d_position_embeddings", 1024)?);
    f.touch("relative_bias_args");
    let side = or("image_size", 224)? / patch;
    let axes = match f.optional_objects("relative_bias_args")? {
        Some(biases) => {
            let mut further = 0;
            for bias in biases {
                // The bias of the text's own order is the first layer's table.
                further += u64::from(bias.optional_text("type")?.as_deref() != Some("1d"));
            }
            further
        }
        None => 2,
    };
    // The bare model does not tie the bias of the text's order to the first layer's.
    let class = f.architecture()?.unwrap_or_default();
    let is_encoder = class.ends_with("EncoderModel");
    let axes = axes + u64::from(class.ends_with("Model") && !is_encoder);
    let stack = |name: &str| -> Vec<Tensor> {
        let mut t = Tensors::default();
        t.repeated(&format!("{name}.relative_bias.biases.{{}}.relative_attention_bias.weight"), Role::Position, axes, &[buckets, heads]);
        t.convolution(&format!("{name}.embed_patches.proj"), &[hidden, channels, patch, patch], true);
        t.build()
    };
    let mut draft = t5::read_tied(f)?;
    for encoder in &mut draft.others {
        let rule = format!("one image of {side} × {side} patches at most, and as many tokens of text as the context");
        encoder.work = Work::Input(Input { tokens: side.saturating_mul(side), rule: rule.into() });
    }
    let mut tensors = stack("encoder");
    if !is_encoder {
        tensors.extend(stack("decoder"));
    }
    for axis in ["x", "y"] {
        tensors.extend(Tensors::default().embedding(&format!("encoder.cell_2d_embedding.{axis}_position_embeddings"), places, hidden).build());
    }
    draft.decoder.tensors.extend(tensors);
    Ok(draft)
}

/// `Pop2Piano`: an embedding of composers, and a head of its own.
pub(super) fn read_pop2piano(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(&[("vocab_size", 2400), ("d_model", 512)]);
    let composers = f.count_or("composer_vocab_size", 21)?;
    f.touch("scale_decoder_outputs");
    let mut draft = t5::read_gated(f)?;
    let hidden = draft.decoder.shape.hidden;
    let mut t = Tensors::default();
    t.embedding("mel_conditioner.embedding", composers, hidden);
    // The class ties nothing to the head.
    if f.flag("tie_word_embeddings", true)? {
        t.linear("lm_head", hidden, draft.decoder.shape.vocab, false);
    }
    draft.decoder.tensors.extend(t.build());
    Ok(draft)
}
