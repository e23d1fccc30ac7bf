//! IDEFICS, the first: Llama with gated layers between its own that attend to the features of a CLIP-like tower, which a resampler
//! may have condensed.

use super::decoder::{Decoder, Draft, Head, LLAMA_NORMS, Shape, Tensors, component, layers_by_span};
use super::experts::gated;
use super::tower_kinds::clip_alone;
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Attention, ComponentKind, FeedForward, Keeps, Layer, Mixer, Role, Span};

/// `IdeficsConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] =
    &[("vocab_size", 32_000), ("hidden_size", 4096), ("intermediate_size", 11_008), ("num_hidden_layers", 32), ("num_attention_heads", 32)];

/// `IdeficsVisionConfig`, whose hidden size is called `embed_dim`.
const TOWER: &[(&str, u64)] =
    &[("intermediate_size", 5120), ("num_hidden_layers", 32), ("num_attention_heads", 16), ("num_channels", 3), ("image_size", 224), ("patch_size", 14)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = Shape::read(f)?;
    let (hidden, intermediate) = (shape.hidden, f.count("intermediate_size")?);
    let vision = f.part(&["vision_config"])?;
    let features = vision.count_or("embed_dim", 768)?;
    let vision = vision.with_derived("hidden_size", features).with_defaults(TOWER);
    vision.touch("model_type");
    for key in ["alpha_initializer", "alphas_initializer_range", "freeze_lm_head", "freeze_text_layers", "freeze_text_module_exceptions"] {
        f.touch(key);
    }
    for key in ["freeze_vision_layers", "freeze_vision_module_exceptions"] {
        f.touch(key);
    }
    let tensors = Tensors::default().attention(&shape, false, false).gated_mlp(hidden, intermediate, false).norms(LLAMA_NORMS, hidden).build();
    let feed_forward = FeedForward::Dense { intermediate, gated: true };
    let layers = layers_by_span(&shape, feed_forward, &tensors, |_| Span::Full);
    let mut decoder = Decoder::llama_like(shape, layers, false);
    let more = f.optional_count_or_zero("additional_vocab_size")?.unwrap_or(0);
    let mut t = Tensors::default();
    if more > 0 {
        t.tensor("model.embed_tokens.additional_embedding.weight", Role::Embedding, &[more, hidden]);
    }
    let class = f.architecture()?.unwrap_or_default();
    if !class.ends_with("Model") && !f.flag("tie_word_embeddings", false)? {
        t.linear("lm_head", hidden, shape.vocab, false);
        if more > 0 {
            t.tensor("lm_head.additional_fc.weight", Role::Head, &[more, hidden]);
        }
    }
    f.touch("tie_word_embeddings");
    decoder.head = Head::Nothing;
    decoder.tensors.extend(t.build());

    let alpha: &[u64] = if f.optional_text("alpha_type")?.is_some_and(|kind| kind == "vector") { &[1, 1, hidden] } else { &[1] };
    let mut t = Tensors::default();
    for (name, inputs, outputs) in [("q_proj", hidden, hidden), ("k_proj", features, hidden), ("v_proj", features, hidden), ("o_proj", hidden, hidden)] {
        t.linear(&format!("cross_attn.{name}"), inputs, outputs, false);
    }
    if f.flag("qk_layer_norms", false)? {
        t.norms(&["cross_attn.q_layer_norm", "cross_attn.k_layer_norm"], shape.head_dim);
    }
    gated(&mut t, "mlp", hidden, intermediate, false);
    let tensors = t.norms(LLAMA_NORMS, hidden).tensor("alpha_cross_attn", Role::Other, alpha).tensor("alpha_dense", Role::Other, alpha).build();
    let attention = Attention { keeps: Keeps::Encoder, ..shape.attention(Span::Full) };
    let layer = Layer { mixer: Mixer::Attention(attention), feed_forward };
    let count = shape.layers / f.count_or("cross_layer_interval", 1)?;
    let layers = (0..count).map(|_| (layer, tensors.clone())).collect();
    let cross = component("cross_attention", ComponentKind::Projector, hidden, "model.gated_cross_attn_layers", Vec::new(), layers);

    let tower = clip_alone(&vision)?.below("model.vision_model");
    let mut draft = Draft::from(decoder).with(cross).with(tower.component("vision", ComponentKind::VisionTower));

    let resampler = f.part(&["perceiver_config"])?;
    let or = |key: &str, default: u64| resampler.count_or(key, default);
    let (latents, depth) = (or("resampler_n_latents", 64)?, or("resampler_depth", 6)?);
    let (head_dim, width) = (or("resampler_head_dim", 96)?, or("resampler_n_heads", 16)?.saturating_mul(or("resampler_head_dim", 96)?));
    let normed = resampler.flag("qk_layer_norms_perceiver", false)?;
    resampler.touch("model_type");
    resampler.touch("use_resampler");
    let is_built = f.flag("use_resampler", false)?;
    for size in ["resampler_n_latents", "resampler_depth", "resampler_head_dim", "resampler_n_heads"].iter().filter(|_| !is_built) {
        resampler.not_counted(size);
    }
    if is_built {
        if depth > 10_000 {
            return Err(resampler.impossible("resampler_depth", "no model has more than 10,000 layers"));
        }
        let mut t = Tensors::default();
        t.tensor("latents", Role::Other, &[latents, features]);
        norm(&mut t, "layer_norm", features, true);
        for number in 0..depth {
            let name = |leaf: &str| format!("blocks.{number}.{leaf}");
            norm(&mut t, &name("0.context_layer_norm"), features, true);
            norm(&mut t, &name("0.latents_layer_norm"), features, true);
            if normed {
                norm(&mut t, &name("0.q_layer_norm"), head_dim, true);
                norm(&mut t, &name("0.k_layer_norm"), head_dim, true);
            }
            for leaf in ["q_proj", "k_proj", "v_proj"] {
                linear(&mut t, Role::Other, &name(&format!("0.{leaf}")), features, width, false);
            }
            linear(&mut t, Role::Other, &name("0.output_proj"), width, features, false);
            norm(&mut t, &name("1.ln"), features, true);
            linear(&mut t, Role::Other, &name("1.fc"), features, features.saturating_mul(4), false);
            linear(&mut t, Role::Other, &name("1.c_proj"), features.saturating_mul(4), features, false);
        }
        let tensors = Tensors::default().nested("model.perceiver_resampler", t.build()).build();
        draft = draft.with(component("projector", ComponentKind::Projector, features, "", tensors, Vec::new()));
    }
    Ok(draft)
}
