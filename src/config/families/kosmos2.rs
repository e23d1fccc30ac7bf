//! Kosmos-2 and 2.5: a decoder with a second norm in the feed-forward (in attention too in the first), and a resampler of latent
//! queries before it.

use super::decoder::{Draft, Tensors, component};
use super::vision::{CLIP, Encoder, Style, Tower, linear, norm, tower};
use super::{ConfigError, Fields, pix2struct};
use crate::model::{Component, ComponentKind, Keeps, Mixer, Role, Tensor};

/// `Kosmos2_5VisionConfig` of transformers 5.23.
const VISION25: &[(&str, u64)] = &[
    ("hidden_size", 1536),
    ("patch_embed_hidden_size", 768),
    ("intermediate_size", 3968),
    ("head_dim", 64),
    ("num_hidden_layers", 18),
    ("num_attention_heads", 24),
    ("max_num_patches", 4096),
];

/// What tells the two apart.
struct Kind {
    /// Sizes of the language model where its config is silent: width, layers, heads, inner width, vocabulary, queries of the resampler.
    sizes: [u64; 6],
    norms: &'static [&'static str],
}

const SECOND: Kind = Kind { sizes: [2048, 24, 32, 8192, 65_037, 64], norms: &["self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"] };
const SECOND_AND_A_HALF: Kind = Kind { sizes: [1536, 24, 16, 6144, 108_481, 2048], norms: &["self_attn_layer_norm", "final_layer_norm"] };

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let vision = f.part(&["vision_config"])?;
    // Its CLIP stands below one more module.
    let tower = tower(&vision, "kosmos_2_vision_model")?.below("vision_model");
    around(f, &SECOND, &[], tower.component("vision", ComponentKind::VisionTower))
}

/// Kosmos-2.5: `Pix2Struct`'s encoder of patches, and two vectors that tell images from text.
pub(super) fn read25(f: &Fields) -> Result<Draft, ConfigError> {
    let vision = f.part(&["vision_config"])?;
    for key in ["model_type", "dense_act_fn", "dropout_rate"] {
        vision.touch(key);
    }
    let vision = vision.with_defaults(VISION25);
    let tower = pix2struct::encoder(
        &vision,
        ["vision_model", "vision_model.embeddings"],
        "vision_model.encoder.layer",
        ["intermediate_size", "head_dim", "max_num_patches"],
    )?;
    let text = f.part(&["text_config"])?;
    let width = text.count_or("embed_dim", SECOND_AND_A_HALF.sizes[0])?;
    let segments = Tensors::default().tensor("model.segment_emb.weight", Role::Other, &[2, width]).build();
    around(f, &SECOND_AND_A_HALF, &segments, tower)
}

fn around(f: &Fields, kind: &Kind, more_outside: &[Tensor], tower: Component) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    text.touch("model_type");
    let [hidden, layers, heads, inner, vocab, queries] = kind.sizes;
    let number = |key: &str, default: u64| text.count_or(key, default);
    let e = Encoder {
        hidden: number("embed_dim", hidden)?,
        layers: number("layers", layers)?,
        heads: number("attention_heads", heads)?,
        intermediate: number("ffn_dim", inner)?,
    };
    if e.layers > 10_000 {
        return Err(text.impossible("layers", "no model has more than 10,000 layers"));
    }
    if !e.hidden.is_multiple_of(e.heads) {
        return Err(text.impossible("attention_heads", "it must divide `embed_dim`"));
    }
    if text.flag("add_cross_attention", false)? {
        return Err(text.impossible("add_cross_attention", "it must be false: no published model has cross-attention"));
    }
    let vocab = number("vocab_size", vocab)?;
    // Positions are computed.
    text.touch("max_position_embeddings");
    f.touch("architectures");
    let mut t = Tensors::default();
    t.tensor("model.embed_tokens.weight", Role::Embedding, &[vocab, e.hidden]);
    // Either flag ties the head, and both do where nothing is said.
    let (outer, inner) = (f.flag("tie_word_embeddings", true)?, text.flag("tie_word_embeddings", true)?);
    if !outer && !inner && f.architecture()?.is_some_and(|class| class.ends_with("ForConditionalGeneration")) {
        t.linear("lm_head", e.hidden, vocab, false);
    }
    t.extend(more_outside.to_vec());
    norm(&mut t, "model.layer_norm", e.hidden, true);
    let style = Style { up: "ffn.fc1", down: "ffn.fc2", norms: kind.norms, ..CLIP };
    let mut more = Tensors::default();
    norm(&mut more, "ffn.ffn_layernorm", e.intermediate, true);
    let mut layers = style.layers_with(&e, &more.build());
    for (layer, _) in &mut layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Own;
        }
    }
    let decoder = Tower { encoder: e, layers_at: "model.layers".to_owned(), tensors: t.build(), layers };
    let base = "image_to_text_projection";
    let mut t = Tensors::default();
    t.tensor(&format!("{base}.latent_query"), Role::Other, &[f.optional_count("latent_query_num")?.unwrap_or(queries), e.hidden]);
    linear(&mut t, Role::Other, &format!("{base}.dense"), tower.hidden_size, e.hidden, true);
    for (leaf, role) in [("q_proj", Role::Query), ("k_proj", Role::Key), ("v_proj", Role::Value), ("out_proj", Role::AttentionOutput)] {
        linear(&mut t, role, &format!("{base}.x_attn.{leaf}"), e.hidden, e.hidden, true);
    }
    let draft = decoder.below("text_model").draft(ComponentKind::TextDecoder, "", vocab);
    Ok(draft.with(tower).with(component("projector", ComponentKind::Projector, e.hidden, "", t.build(), Vec::new())))
}
