//! `Pix2Struct`: patches of any number with rows and columns of their own, gated T5 layers on both sides.

use super::decoder::{Draft, Tensors};
use super::encoder::{Sizes, encoder_component, layer_count};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Input, Keeps, Role, Span, Tensor, Work};

/// `Pix2StructVisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] =
    &[("hidden_size", 768), ("patch_embed_hidden_size", 768), ("d_ff", 2048), ("d_kv", 64), ("num_attention_heads", 12), ("seq_len", 4096)];
/// `Pix2StructTextConfig`.
const TEXT: &[(&str, u64)] =
    &[("vocab_size", 50_244), ("hidden_size", 768), ("d_kv", 64), ("d_ff", 2048), ("num_attention_heads", 12), ("relative_attention_num_buckets", 32)];

fn sizes(f: &Fields, [inner, head]: [&'static str; 2], vocab: u64) -> Result<Sizes, ConfigError> {
    let (hidden, inner, heads) = (f.count("hidden_size")?, f.count(inner)?, f.count("num_attention_heads")?);
    Ok(Sizes { gated: true, ..Sizes::plain(hidden, inner, layer_count(f, "num_hidden_layers", 12)?, heads, f.count(head)?, vocab) })
}

fn attention(t: &mut Tensors, at: &str, s: &Sizes) {
    let width = s.heads.saturating_mul(s.head_dim);
    for (leaf, role) in [("query", Role::Query), ("key", Role::Key), ("value", Role::Value)] {
        t.tensor(&format!("{at}.{leaf}.weight"), role, &[width, s.hidden]);
    }
    t.tensor(&format!("{at}.output.weight"), Role::AttentionOutput, &[s.hidden, width]);
}

fn feed_forward(t: &mut Tensors, at: &str, s: &Sizes) {
    t.tensor(&format!("{at}.wi_0.weight"), Role::Gate, &[s.inner, s.hidden]).tensor(&format!("{at}.wi_1.weight"), Role::Up, &[s.inner, s.hidden]).tensor(
        &format!("{at}.wo.weight"),
        Role::Down,
        &[s.hidden, s.inner],
    );
}

/// The encoder of patches: `base` has its last norm, `embeddings` what makes vectors of patches. `keys` are those of the inner width, the
/// size of a head, and the most rows and columns.
pub(super) fn encoder(vision: &Fields, [base, embeddings]: [&str; 2], layers_at: &'static str, keys: [&'static str; 3]) -> Result<Component, ConfigError> {
    let [inner, head, places] = keys;
    let e = sizes(vision, [inner, head], 0)?;
    let mut layer = Tensors::default();
    attention(&mut layer, "attention", &e);
    feed_forward(&mut layer, "mlp", &e);
    let layer = layer.norms(&["pre_mlp_layer_norm", "pre_attention_layer_norm"], e.hidden).build();
    let places = vision.count(places)?;
    let outside = Tensors::default()
        .linear(&format!("{embeddings}.patch_projection"), vision.count("patch_embed_hidden_size")?, e.hidden, true)
        .tensor(&format!("{embeddings}.row_embedder.weight"), Role::Position, &[places, e.hidden])
        .tensor(&format!("{embeddings}.column_embedder.weight"), Role::Position, &[places, e.hidden])
        .norm(&format!("{base}.layernorm"), e.hidden, false)
        .build();
    Ok(encoder_component(&e, ComponentKind::VisionTower, layers_at, outside, e.equal_layers(Keeps::Nothing, &layer)))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let part = |key: &'static str, defaults| {
        let part = f.part(&[key])?.with_defaults(defaults);
        for key in ["model_type", "relative_attention_max_distance", "dense_act_fn", "dropout_rate", "add_cross_attention", "is_decoder"] {
            part.touch(key);
        }
        Ok::<Fields, ConfigError>(part)
    };
    f.touch("is_vqa");
    let vision = part("vision_config", VISION)?;
    vision.touch("relative_attention_num_buckets");
    let mut encoder = encoder(&vision, ["encoder", "encoder.embeddings"], "encoder.encoder.layer", ["d_ff", "d_kv", "seq_len"])?;
    encoder.work = Work::Input(Input { tokens: 2048, rule: "one image in a request, of as many patches as its processor gives (max_patches)".into() });

    let text = part("text_config", TEXT)?;
    let d = sizes(&text, ["d_ff", "d_kv"], text.count("vocab_size")?)?;
    let mut layer = Tensors::default();
    attention(&mut layer, "self_attention.attention", &d);
    attention(&mut layer, "encoder_decoder_attention.attention", &d);
    feed_forward(&mut layer, "mlp.DenseReluDense", &d);
    let layer = layer.norms(&["self_attention.layer_norm", "encoder_decoder_attention.layer_norm", "mlp.layer_norm"], d.hidden).build();
    let mut assumptions = Vec::new();
    let buckets = text.count("relative_attention_num_buckets")?;
    let mut tensors = Tensors::default();
    tensors.embedding("decoder.embed_tokens", d.vocab, d.hidden).norm("decoder.final_layer_norm", d.hidden, false);
    // The wrapper's flag ties them; the first releases of the class asked the language model's.
    let (of_wrapper, of_text) = (f.optional_flag("tie_word_embeddings")?, text.flag("tie_word_embeddings", false)?);
    if of_wrapper.is_none() && of_text {
        assumptions.push(
            "`tie_word_embeddings` stands in `text_config` only, and releases of this model's class differ in whether that counts: the head is counted \
             apart from the embedding"
                .to_owned(),
        );
    }
    if !of_wrapper.unwrap_or(false) {
        tensors.linear("decoder.lm_head", d.hidden, d.vocab, false);
    }
    let first = Tensors::default().tensor("self_attention.attention.relative_attention_bias.weight", Role::Position, &[buckets, d.heads]).build();
    let layers = (0..d.layers).map(|number| {
        let tensors: Vec<Tensor> = if number == 0 { layer.iter().chain(&first).cloned().collect() } else { layer.clone() };
        (d.layer(Span::Full, Keeps::Own), tensors)
    });
    let layers = layers.collect();
    let draft = d.model(ComponentKind::TextDecoder, "decoder", "decoder.layer", tensors.build(), layers);
    Ok(Draft { assumptions, ..draft.with(encoder) })
}
