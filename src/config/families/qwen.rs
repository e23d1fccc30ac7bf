//! Qwen 1: GPT-2's names, RMSNorms, a bias on q, k and v in one matrix; `intermediate_size` is twice the width used. Qwen-VL
//! keeps a tower beside it, under `visual`.

use super::classic::{GPT_NAMES, Measured, gpt_like};
use super::decoder::{Draft, Shape, Tensors};
use super::towers::{TowerShape, projector, scaled, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, Role};

/// The side of the grid of queries that read an image.
const QUERIES: u64 = 16;
/// The side of the grid that the tower's positions were learned on; others are stretched from it.
const POSITIONS: u64 = 16;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let head_dim = f.optional_count("kv_channels")?.or(Some(shape.head_dim));
    let shape = Shape::checked(f, shape.hidden, shape.layers, shape.vocab, (shape.heads, shape.heads, head_dim))?;
    // The key names gate and up together.
    let both = f.count("intermediate_size")?;
    if !both.is_multiple_of(2) {
        return Err(f.impossible("intermediate_size", "in this family it is the width of gate and up together, so it must be even"));
    }
    let intermediate = both / 2;
    let bias = !f.flag("no_bias", true)?;
    let queries = shape.heads * shape.head_dim;
    let layer = Tensors::default()
        .norm("ln_1", shape.hidden, false)
        .linear("attn.c_attn", shape.hidden, 3 * queries, true)
        .linear("attn.c_proj", queries, shape.hidden, bias)
        .norm("ln_2", shape.hidden, false)
        .linear("mlp.w1", shape.hidden, intermediate, bias)
        .linear("mlp.w2", shape.hidden, intermediate, bias)
        .linear("mlp.c_proj", intermediate, shape.hidden, bias)
        .build();
    let outside = Tensors::default().embedding("transformer.wte", shape.vocab, shape.hidden).norm("transformer.ln_f", shape.hidden, false).build();
    let draft = gpt_like(&GPT_NAMES, Measured { shape, intermediate }, true, outside, &layer, false);
    Ok(match f.nested(&["visual"])? {
        Some(visual) => {
            let [tower, reader] = sight(&visual)?;
            draft.with(tower).with(reader)
        }
        None => draft,
    })
}

/// Qwen-VL's tower, `OpenCLIP`'s bigG, and the 256 queries that read it.
fn sight(v: &Fields) -> Result<[Component; 2], ConfigError> {
    let (width, patch, out) = (v.count("width")?, v.count("patch_size")?, v.count("output_dim")?);
    let inner = scaled(v, "mlp_ratio", 4.0, width)?;
    let tower = TowerShape { hidden: width, layers: v.count("layers")?, heads: v.count("heads")?, intermediate: inner, gated: false };
    let tower = tower.checked(v, "layers", "heads")?;
    for key in ["image_size", "image_start_id", "n_queries"] {
        v.touch(key);
    }
    let layer = Tensors::default()
        .norm("ln_1", width, true)
        .norm("ln_2", width, true)
        .linear("attn.in_proj", width, width.saturating_mul(3), true)
        .linear("attn.out_proj", width, width, true)
        .linear("mlp.c_fc", width, inner, true)
        .linear("mlp.c_proj", inner, width, true)
        .build();
    let outside = Tensors::default()
        .convolution("transformer.visual.conv1", &[width, 3, patch, patch], false)
        .tensor("transformer.visual.positional_embedding", Role::Embedding, &[POSITIONS * POSITIONS, width])
        .norm("transformer.visual.ln_pre", width, true)
        .build();
    let at = |name: &str| format!("transformer.visual.attn_pool.{name}");
    let queries = v.optional_count("n_queries")?.unwrap_or(QUERIES * QUERIES);
    let mut reader = Tensors::default();
    reader
        .tensor(&at("pos_embed"), Role::Embedding, &[queries, out])
        .tensor(&at("query"), Role::Other, &[queries, out])
        .linear(&at("kv_proj"), width, out, false)
        .tensor(&at("attn.in_proj_weight"), Role::Qkv, &[out.saturating_mul(3), out])
        .tensor(&at("attn.in_proj_bias"), Role::Qkv, &[out.saturating_mul(3)])
        .linear(&at("attn.out_proj"), out, out, true)
        .norm(&at("ln_q"), out, true)
        .norm(&at("ln_kv"), out, true)
        .norm("transformer.visual.ln_post", out, true)
        .tensor("transformer.visual.proj", Role::Other, &[out, out]);
    let tower = vision_tower(width, "transformer.visual.transformer.resblocks", outside, tower.layers(&layer));
    Ok([tower, projector(out, reader.build())])
}

#[cfg(test)]
mod tests {
    #[test]
    fn qwen_vl_has_its_published_count() {
        let config = r#"{"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128, "no_bias": true, "num_attention_heads": 32,
            "num_hidden_layers": 32, "vocab_size": 151936, "tie_word_embeddings": false, "visual": {"heads": 16, "image_size": 448,
            "image_start_id": 151857, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096, "patch_size": 14, "width": 1664}}"#;
        let anatomy = crate::config::read(config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 9_656_935_168);
        assert!(anatomy.keys_not_understood.is_empty(), "{:?}", anatomy.keys_not_understood);
    }
}
