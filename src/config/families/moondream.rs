//! Moondream 2: Phi 1.5's decoder with q, k and v in one matrix, a tower like `SigLIP`'s, and small networks that read and write points
//! and sizes. Its config holds only what differs from its code's sizes (`moondream/torch/config.py` of vikhyat/moondream).

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, layers_by_span};
use super::towers::{TowerShape, fused_attention, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

/// `TextConfig`; the inner width follows from the other.
const TEXT: &[(&str, u64)] = &[("dim", 2048), ("n_layers", 24), ("vocab_size", 51_200), ("n_heads", 32)];
const VISION: &[(&str, u64)] = &[
    ("enc_dim", 1152),
    ("enc_patch_size", 14),
    ("enc_n_layers", 27),
    ("enc_ff_dim", 4304),
    ("enc_n_heads", 16),
    ("proj_out_dim", 2048),
    ("proj_inner_dim", 8192),
    ("crop_size", 378),
    ("in_channels", 3),
];
const REGION: &[(&str, u64)] =
    &[("dim", 2048), ("coord_feat_dim", 256), ("coord_out_dim", 1024), ("size_feat_dim", 512), ("size_out_dim", 2048), ("inner_dim", 8192)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let all = f.part(&["config"])?;
    all.touch("skills");
    all.touch("tokenizer");
    let part = |key: &'static str, defaults: &[(&str, u64)]| Ok::<_, ConfigError>(all.part(&[key])?.with_defaults(defaults));
    let (t, v, r) = (part("text", TEXT)?, part("vision", VISION)?, part("region", REGION)?);
    if t.nested(&["moe"])?.is_some() || t.optional_count("group_size")?.is_some() {
        return Err(t.impossible("group_size", "experts and packed matrices of this family are not known here"));
    }
    for key in ["max_context", "prefix_attn"] {
        t.touch(key);
    }
    for key in ["max_crops", "overlap_margin"] {
        v.touch(key);
    }
    let (hidden, heads) = (t.count("dim")?, t.count("n_heads")?);
    let keys = t.optional_count("n_kv_heads")?.unwrap_or(heads);
    let shape = Shape::checked(&t, hidden, t.count("n_layers")?, t.count("vocab_size")?, (heads, keys, None))?;
    let inner = t.optional_count("ff_dim")?.unwrap_or(hidden.saturating_mul(4));
    let rows = hidden.saturating_add(shape.kv_heads.saturating_mul(shape.head_dim).saturating_mul(2));
    let layer = Tensors::default()
        .norm("ln", hidden, true)
        .linear("attn.qkv", hidden, rows, true)
        .linear("attn.proj", hidden, hidden, true)
        .linear("mlp.fc1", hidden, inner, true)
        .linear("mlp.fc2", inner, hidden, true)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate: inner, gated: false }, &layer, |_| Span::Full);
    let outside = Tensors::default()
        .tensor("model.text.wte", Role::Embedding, &[shape.vocab, hidden])
        .norm("model.text.post_ln", hidden, true)
        .linear("model.text.lm_head", hidden, shape.vocab, true)
        .build();
    f.touch("architectures");
    let decoder =
        Decoder { base: "model.text", layer_prefix: "model.text.blocks", tensors: outside, head: Head::Nothing, ..Decoder::llama_like(shape, layers, false) };

    let tower = TowerShape::read(&v, ["enc_dim", "enc_n_layers", "enc_n_heads", "enc_ff_dim"])?;
    let (seen, patch) = (tower.hidden, v.count("enc_patch_size")?);
    let side = v.count("crop_size")? / patch;
    let mut layer = Tensors::default();
    let layer = fused_attention(layer.norm("ln1", seen, true), seen, true, true)
        .norm("ln2", seen, true)
        .linear("mlp.fc1", seen, tower.intermediate, true)
        .linear("mlp.fc2", tower.intermediate, seen, true)
        .build();
    let outside = Tensors::default()
        .linear("model.vision.patch_emb", patch.saturating_mul(patch).saturating_mul(v.count("in_channels")?), seen, true)
        .tensor("model.vision.pos_emb", Role::Position, &[1, side.saturating_mul(side), seen])
        .norm("model.vision.post_ln", seen, true)
        .build();
    let vision = vision_tower(seen, "model.vision.blocks", outside, tower.layers(&layer));
    let (between, out) = (v.count("proj_inner_dim")?, v.count("proj_out_dim")?);
    let mut maps = Tensors::default();
    // One view of the whole beside one of its parts.
    maps.linear("model.vision.proj_mlp.fc1", seen.saturating_mul(2), between, true).linear("model.vision.proj_mlp.fc2", between, out, true);
    let (width, wide) = (r.count("dim")?, r.count("inner_dim")?);
    for (name, features, outputs, axes) in [("coord", "coord_feat_dim", "coord_out_dim", 1), ("size", "size_feat_dim", "size_out_dim", 2)] {
        let (features, outputs) = (r.count(features)?, r.count(outputs)?);
        maps.linear(&format!("model.region.{name}_encoder"), features, width, true)
            .linear(&format!("model.region.{name}_decoder.fc1"), width, wide, true)
            .linear(&format!("model.region.{name}_decoder.fc2"), wide, outputs, true)
            .tensor(&format!("model.region.{name}_features"), Role::Other, &[axes, features / 2]);
    }
    Ok(Draft::from(decoder).with(vision).with(projector(out, maps.build())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_count() {
        // vikhyatk/moondream2.
        let config =
            r#"{"model_type": "moondream1", "architectures": ["HfMoondream"], "auto_map": {"AutoModelForCausalLM": "hf_moondream.HfMoondream"}, "config": {}}"#;
        let anatomy = crate::config::read(config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 1_927_237_104);
        // All of it is left to its code, which is said.
        assert!(anatomy.assumptions.len() == 1 && anatomy.assumptions[0].ends_with("`config.region`, `config.text`, `config.vision`"));
        assert!(anatomy.keys_not_understood.is_empty());
        assert_eq!(anatomy.components[0].layers[0].layer.mixer.cache_elements_per_token(), 4096);
    }
}
