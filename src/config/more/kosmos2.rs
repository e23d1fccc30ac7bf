//! Kosmos-2: a decoder with a second norm in attention and in the feed-forward, and a resampler of latent queries before it.

use super::decoder::{Draft, Tensors, component};
use super::vision::{CLIP, Encoder, Style, Tower, linear, norm, tower};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Mixer, Role};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.required_nested(&["text_config"])?;
    text.touch("model_type");
    let number = |key: &str, default: u64| text.optional_count(key).map(|value| value.unwrap_or(default));
    let e = Encoder {
        hidden: number("embed_dim", 2048)?,
        layers: number("layers", 24)?,
        heads: number("attention_heads", 32)?,
        intermediate: number("ffn_dim", 8192)?,
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
    let vocab = number("vocab_size", 65_037)?;
    // Positions are computed.
    text.touch("max_position_embeddings");
    f.touch("architectures");
    // The class ties its head whatever the file says.
    f.touch("tie_word_embeddings");
    text.touch("tie_word_embeddings");
    let mut t = Tensors::default();
    t.tensor("model.embed_tokens.weight", Role::Embedding, &[vocab, e.hidden]);
    norm(&mut t, "model.layer_norm", e.hidden, true);
    let style = Style { up: "ffn.fc1", down: "ffn.fc2", norms: &["self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"], ..CLIP };
    let mut more = Tensors::default();
    norm(&mut more, "ffn.ffn_layernorm", e.intermediate, true);
    let mut layers = style.layers_with(&e, &more.build());
    for (layer, _) in &mut layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Own;
        }
    }
    let decoder = Tower { encoder: e, layers_at: "model.layers".to_owned(), tensors: t.build(), layers };
    let vision = f.nested(&["vision_config"])?.unwrap_or_else(|| f.left_out("vision_config"));
    // Its CLIP stands below one more module.
    let tower = tower(&vision, "kosmos_2_vision_model")?.below("vision_model");
    let base = "image_to_text_projection";
    let mut t = Tensors::default();
    t.tensor(&format!("{base}.latent_query"), Role::Other, &[f.optional_count("latent_query_num")?.unwrap_or(64), e.hidden]);
    linear(&mut t, Role::Other, &format!("{base}.dense"), tower.hidden(), e.hidden, true);
    for (leaf, role) in [("q_proj", Role::Query), ("k_proj", Role::Key), ("v_proj", Role::Value), ("out_proj", Role::AttentionOutput)] {
        linear(&mut t, role, &format!("{base}.x_attn.{leaf}"), e.hidden, e.hidden, true);
    }
    let draft = decoder.below("text_model").draft(ComponentKind::TextDecoder, "", vocab);
    let draft = draft.with(tower.component("vision", ComponentKind::VisionTower));
    Ok(draft.with(component("projector", ComponentKind::Projector, e.hidden, "", t.build(), Vec::new())))
}
