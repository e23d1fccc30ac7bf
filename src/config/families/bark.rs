//! Bark: three transformers in a row (text to meaning, meaning to coarse codes, coarse codes to fine ones) and EnCodec.

use super::decoder::{Draft, Tensors, component};
use super::encodec::codec;
use super::encoder::{Sizes, head_dim, layer_count};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Layer, Role, Tensor};

/// `BarkSubModelConfig` of transformers 5.23.
const DEFAULTS: &[(&str, u64)] = &[
    ("block_size", 1024),
    ("input_vocab_size", 10_048),
    ("output_vocab_size", 10_048),
    ("num_attention_heads", 12),
    ("hidden_size", 768),
    ("n_codes_total", 8),
    ("n_codes_given", 1),
];

/// One of the three.
struct Stage {
    sizes: Sizes,
    tensors: Vec<Tensor>,
    layers: Vec<(Layer, Vec<Tensor>)>,
}

fn stage(f: &Fields, key: &'static str, at: &str, is_fine: bool) -> Result<Stage, ConfigError> {
    let f = f.part(&[key])?.with_defaults(DEFAULTS);
    let (hidden, heads) = (f.count("hidden_size")?, f.count("num_attention_heads")?);
    let (inputs, outputs) = (f.count("input_vocab_size")?, f.count("output_vocab_size")?);
    let layers = layer_count(&f, "num_hidden_layers", 12)?;
    let bias = f.flag("bias", true)?;
    // The fine stage sees everything at once, and its norms have biases whatever the config says.
    let (norm_bias, keeps) = (bias || is_fine, if is_fine { Keeps::Nothing } else { Keeps::Own });
    let inner = hidden.saturating_mul(4);
    let layer = Tensors::default()
        .norm("layernorm_1", hidden, norm_bias)
        .norm("layernorm_2", hidden, norm_bias)
        .linear("attn.att_proj", hidden, hidden.saturating_mul(3), bias)
        .linear("attn.out_proj", hidden, hidden, bias)
        .linear("mlp.in_proj", hidden, inner, bias)
        .linear("mlp.out_proj", inner, hidden, bias)
        .build();
    let (all, given) = (f.count("n_codes_total")?, f.count("n_codes_given")?);
    if is_fine && (all > 1000 || given >= all) {
        return Err(f.impossible("n_codes_given", "it must be less than `n_codes_total`, which is at most 1,000"));
    }
    let tied = f.flag("tie_word_embeddings", true)?;
    let mut t = Tensors::default();
    let table = |t: &mut Tensors, name: &str, role: Role, rows: u64| _ = t.tensor(&format!("{at}.{name}.weight"), role, &[rows, hidden]);
    if is_fine {
        (0..all).for_each(|code| table(&mut t, &format!("input_embeds_layers.{code}"), Role::Embedding, inputs));
        if tied {
            f.not_counted("output_vocab_size");
        }
        // The head of a code is the table that the next one is read by.
        (0..if tied { 0 } else { all - given }).for_each(|code| table(&mut t, &format!("lm_heads.{code}"), Role::Head, outputs));
    } else {
        f.not_counted("n_codes_total");
        f.not_counted("n_codes_given");
        table(&mut t, "input_embeds_layer", Role::Embedding, inputs);
        table(&mut t, "lm_head", Role::Head, outputs);
    }
    table(&mut t, "position_embeds_layer", Role::Position, f.count("block_size")?);
    t.norm(&format!("{at}.layernorm_final"), hidden, norm_bias);
    f.touch("model_type");
    let sizes = Sizes::plain(hidden, inner, layers, heads, head_dim(&f, "num_attention_heads", hidden, heads)?, inputs);
    let layers = sizes.equal_layers(keeps, &layer);
    Ok(Stage { sizes, tensors: t.build(), layers })
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("architectures");
    f.touch("tie_word_embeddings");
    let semantic = stage(f, "semantic_config", "semantic", false)?;
    let coarse = stage(f, "coarse_acoustics_config", "coarse_acoustics", false)?;
    let fine = stage(f, "fine_acoustics_config", "fine_acoustics", true)?;
    let audio = f.part(&["codec_config"])?;
    audio.touch("model_type");
    let (tensors, width) = codec(&audio)?;
    let codec = component("audio", ComponentKind::AudioTower, width, "", Tensors::default().nested("codec_model", tensors).build(), Vec::new());
    let draft = semantic.sizes.model(ComponentKind::TextDecoder, "semantic", "semantic.layers", semantic.tensors, semantic.layers);
    let coarse = component("coarse", ComponentKind::TextDecoder, coarse.sizes.hidden, "coarse_acoustics.layers", coarse.tensors, coarse.layers);
    let fine = component("fine", ComponentKind::TextEncoder, fine.sizes.hidden, "fine_acoustics.layers", fine.tensors, fine.layers);
    Ok(draft.with(coarse).with(fine).with(codec))
}
