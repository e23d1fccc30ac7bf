//! Idefics 2 (a perceiver between tower and text), Idefics 3 and `SmolVLM` (pixel shuffle and one matrix).

use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Names, Tie, Wrapper, language, squared, vision, with_projector};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span};

const fn wrapper(default_type: &'static str) -> Wrapper {
    Wrapper { names: Names::Inside("model.text_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new(default_type) }
}

/// Idefics 3 and `SmolVLM`.
pub(super) fn read3(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &wrapper("llama"))?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "idefics3_vision")?.below("model.vision_model");
    let inputs = tower.hidden().saturating_mul(squared(f, "scale_factor", 2)?);
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "model.connector.modality_projection.proj", inputs, width, false);
    Ok(with_projector(draft, tower, width, t.build()))
}

/// Idefics 2.
pub(super) fn read2(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.required_nested(super::multimodal::TEXT_CONFIGS)?;
    let draft = language(f, &wrapper("mistral"))?;
    let width = draft.decoder.shape.hidden;
    // The class does not read the name that its own config gives the tower.
    let tower = vision(f, "idefics2_vision")?.below("model.vision_model");
    let inner = text.count_or("intermediate_size", 14_336)?;
    let connector = perceiver(&f.part(&["perceiver_config"])?, tower.hidden(), inner, width)?;
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(connector))
}

/// A gated projection of the text's inner width, then layers in which latents attend to the image.
fn perceiver(f: &Fields, features: u64, inner: u64, width: u64) -> Result<Component, ConfigError> {
    f.touch("model_type");
    // The class sets it to the text's.
    f.touch("hidden_size");
    let heads = f.count_or("resampler_n_heads", 16)?;
    let kv_heads = f.count_or("num_key_value_heads", 4)?;
    let head = f.count_or("resampler_head_dim", 96)?;
    let depth = f.count_or("resampler_depth", 3)?;
    let latents = f.count_or("resampler_n_latents", 64)?;
    if depth > 1000 {
        return Err(f.impossible("resampler_depth", "it must be at most 1000"));
    }
    let (queries, keys) = (heads.saturating_mul(head), kv_heads.saturating_mul(head));
    let mut t = Tensors::default();
    let base = "model.connector.modality_projection";
    linear(&mut t, Role::Gate, &format!("{base}.gate_proj"), features, inner, false);
    linear(&mut t, Role::Up, &format!("{base}.up_proj"), features, inner, false);
    linear(&mut t, Role::Down, &format!("{base}.down_proj"), inner, width, false);
    t.tensor("model.connector.perceiver_resampler.latents", Role::Other, &[latents, width]);
    let mut of_layer = Tensors::default();
    for name in ["input_latents_norm", "input_context_norm", "post_attention_layernorm"] {
        norm(&mut of_layer, name, width, false);
    }
    linear(&mut of_layer, Role::Query, "self_attn.q_proj", width, queries, false);
    linear(&mut of_layer, Role::Key, "self_attn.k_proj", width, keys, false);
    linear(&mut of_layer, Role::Value, "self_attn.v_proj", width, keys, false);
    linear(&mut of_layer, Role::AttentionOutput, "self_attn.o_proj", queries, width, false);
    linear(&mut of_layer, Role::Gate, "mlp.gate_proj", width, width.saturating_mul(4), false);
    linear(&mut of_layer, Role::Up, "mlp.up_proj", width, width.saturating_mul(4), false);
    linear(&mut of_layer, Role::Down, "mlp.down_proj", width.saturating_mul(4), width, false);
    let attention = Attention { heads, kv_heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
    let feed_forward = FeedForward::Dense { intermediate: width.saturating_mul(4), gated: true };
    let of_layer = of_layer.build();
    let layers = (0..depth).map(|_| (Layer { mixer: Mixer::Attention(attention), feed_forward }, of_layer.clone())).collect();
    norm(&mut t, "model.connector.perceiver_resampler.norm", width, false);
    Ok(component("projector", ComponentKind::Projector, width, "model.connector.perceiver_resampler.layers", t.build(), layers))
}
