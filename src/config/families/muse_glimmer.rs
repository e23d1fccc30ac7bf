//! Muse Glimmer: a gate at attention's output, norms of queries and keys without parameters, four norms per layer, three sliding
//! layers to one full counted from the last; a tower over patches of image and time whose neighbours an adapter joins.

use super::classic::{spans_with, window_or};
use super::decoder::{Decoder, Draft, Shape, Tensors, component};
use super::multimodal::{Names, Tie, Wrapper, language_in};
use super::vision::{CLIP, Encoder, Style, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, FeedForward, Layer, Mixer, Role};

/// `MuseGlimmerTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 202_048),
    ("hidden_size", 6656),
    ("intermediate_size", 19_968),
    ("num_hidden_layers", 52),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 2),
    ("head_dim", 128),
];

/// `MuseGlimmerVisionConfig`.
const TOWER: &[(&str, u64)] = &[
    ("hidden_size", 1536),
    ("intermediate_size", 8960),
    ("num_hidden_layers", 50),
    ("num_attention_heads", 16),
    ("patch_size", 14),
    ("patch_temporal", 2),
    ("pos_emb_height", 32),
    ("pos_emb_width", 32),
];

const NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"];

const STYLE: Style = Style { qkv: &["attn.q_proj", "attn.k_proj", "attn.v_proj"], output: "attn.proj", norms: &["norm1", "norm2"], ..CLIP };

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    let f = &f.with_defaults(TEXT);
    let shape = Shape::read(f)?;
    let (hidden, intermediate, bias) = (shape.hidden, f.count("intermediate_size")?, f.flag("attention_bias", false)?);
    let last = shape.layers - 1;
    let spans = spans_with(f, &shape, window_or(f, 2048)?, |number| !(last - number).is_multiple_of(4))?;
    for key in ["layer_rope_theta", "output_multiplier", "post_norm_eps", "qk_scale_factor"] {
        f.touch(key);
    }
    let tensors = Tensors::default()
        .attention(&shape, bias, bias)
        .linear("self_attn.gate_proj", hidden, shape.heads.saturating_mul(shape.head_dim), false)
        .gated_mlp(hidden, intermediate, false)
        .norms(NORMS, hidden)
        .build();
    let feed_forward = FeedForward::Dense { intermediate, gated: true };
    let layer = |span| (Layer { mixer: Mixer::Attention(shape.attention(span)), feed_forward }, tensors.clone());
    let layers = spans.into_iter().map(layer).collect();
    Ok(Decoder::llama_like(shape, layers, false).into())
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(&["text_config"])?;
    let draft = language_in(
        f,
        &text,
        &Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: false }, ..Wrapper::new("muse_glimmer_text") },
    )?;
    with_eyes(f, draft)
}

/// The draft with the tower and what brings its patches to the language model's width.
pub(super) fn with_eyes(f: &Fields, draft: Draft) -> Result<Draft, ConfigError> {
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(TOWER);
    for key in ["layer_types", "max_position_embeddings", "merge_size", "model_type"] {
        v.touch(key);
    }
    let encoder = Encoder::read(&v)?;
    let hidden = encoder.hidden;
    let patch = v.count("patch_size")?;
    let inputs = v.count("patch_temporal")?.saturating_mul(3).saturating_mul(patch.saturating_mul(patch));
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "patch_embedder.patch_embedding", inputs, hidden, false);
    t.embedding("patch_embedder.position_embedding_table", v.count("pos_emb_height")?.saturating_mul(v.count("pos_emb_width")?), hidden);
    norm(&mut t, "ln_pre", hidden, true);
    norm(&mut t, "ln_post", hidden, true);
    let tower = Tower { encoder, layers_at: "layers".to_owned(), tensors: t.build(), layers: STYLE.layers(&encoder) }.below("model.vision_tower");
    let (outer, inner) = (f.count_or("out_hidden_size", 6144)?, f.count_or("projector_hidden_size", 4096)?);
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "model.vision_adapter.fc1", outer, inner, false);
    linear(&mut t, Role::Other, "model.vision_adapter.fc2", inner, inner, false);
    linear(&mut t, Role::Other, "model.vision_projection", inner, width, false);
    let projector = component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new());
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}
