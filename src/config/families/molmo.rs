//! The first Molmo: Qwen2's or OLMo's layers with joined matrices and rows for added tokens; a CLIP tower whose sizes its code fixes,
//! pooled by attention. Its own code; transformers has no class.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, layers_by_span};
use super::towers::{TowerShape, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{FeedForward, Role, Span};

/// CLIP ViT-L/14 at 336 pixels, without its last layer: what `MolmoConfig` builds.
const TOWER: TowerShape = TowerShape { hidden: 1024, layers: 23, heads: 16, intermediate: 4096, gated: false };
/// 24 by 24 patches of 14 by 14 in three colours, and a class.
const POSITIONS: u64 = 577;
const PATCH: u64 = 14 * 14 * 3;
/// Two of its layers side by side are pooled.
const POOLED: u64 = 2;
/// Rows of the embedding beyond the vocabulary.
const ADDED: u64 = 128;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let shape = Shape::read(f)?;
    let hidden = shape.hidden;
    // Gate and up are one matrix, and the key counts both.
    let both = f.count("intermediate_size")?;
    let intermediate = both / 2;
    let keys = shape.kv_heads.saturating_mul(shape.head_dim);
    let queries = shape.heads.saturating_mul(shape.head_dim);
    let width = queries.saturating_add(keys.saturating_mul(2));
    let biased = match f.optional_text("layer_norm_type")?.as_deref() {
        None | Some("default") => true,
        Some("rms") => false,
        Some(_) => return Err(f.impossible("layer_norm_type", "it must be `default` or `rms`")),
    };
    let mut layer = Tensors::default();
    layer.tensor("att_proj.weight", Role::Qkv, &[width, hidden]);
    if f.flag("qkv_bias", false)? {
        layer.tensor("att_proj.bias", Role::Qkv, &[width]);
    }
    layer
        .tensor("attn_out.weight", Role::AttentionOutput, &[hidden, queries])
        .tensor("ff_proj.weight", Role::GateUp, &[both, hidden])
        .tensor("ff_out.weight", Role::Down, &[hidden, intermediate])
        .norm("attn_norm", hidden, biased)
        .norm("ff_norm", hidden, biased);
    if f.flag("attention_layer_norm", false)? {
        layer.norm("q_norm", queries, biased).norm("k_norm", keys, biased);
    }
    f.touch("norm_after");
    f.touch("clip_qkv");
    f.touch("weight_tying");
    let rows = f.optional_count("embedding_size")?.unwrap_or(shape.vocab);
    let outside = Tensors::default()
        .tensor("model.transformer.wte.embedding", Role::Embedding, &[rows, hidden])
        .tensor("model.transformer.wte.new_embedding", Role::Embedding, &[ADDED, hidden])
        .norm("model.transformer.ln_f", hidden, biased)
        .build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &layer.build(), |_| Span::Full);
    let decoder = Decoder {
        shape: Shape { vocab: rows, ..shape },
        base: "model",
        layer_prefix: "model.transformer.blocks",
        tensors: outside,
        layers,
        head: Head::ByArchitecture,
        head_module: "model.transformer.ff_out",
        tied_by_default: false,
    };
    let mut draft = Draft::from(decoder);
    draft.assumptions.push("the vision tower's sizes are not in the config: those of its code, CLIP ViT-L/14 at 336 pixels, are taken".to_owned());

    let TowerShape { hidden: seen, intermediate: inner, .. } = TOWER;
    let mut layer = Tensors::default();
    for leaf in ["wq", "wk", "wv", "wo"] {
        layer.linear(&format!("attention.{leaf}"), seen, seen, true);
    }
    let layer = layer
        .linear("feed_forward.w1", seen, inner, true)
        .linear("feed_forward.w2", inner, seen, true)
        .norm("attention_norm", seen, true)
        .norm("ffn_norm", seen, true)
        .build();
    let at = |leaf: &str| format!("model.vision_backbone.image_vit.{leaf}");
    let outside = Tensors::default()
        .tensor(&at("class_embedding"), Role::Other, &[seen])
        .tensor(&at("positional_embedding"), Role::Position, &[POSITIONS, seen])
        .linear(&at("patch_embedding"), PATCH, seen, false)
        .norm(&at("pre_ln"), seen, true)
        .build();
    let tower = vision_tower(seen, "model.vision_backbone.image_vit.transformer.resblocks", outside, TOWER.layers(&layer));
    let at = |leaf: &str| format!("model.vision_backbone.{leaf}");
    let mut t = Tensors::default();
    for leaf in ["wq", "wk", "wv"] {
        t.linear(&at(&format!("image_pooling_2d.{leaf}")), POOLED * seen, seen, true);
    }
    let t = t
        .linear(&at("image_pooling_2d.wo"), seen, seen, true)
        .linear(&at("image_projector.w1"), seen, intermediate, false)
        .linear(&at("image_projector.w3"), seen, intermediate, false)
        .linear(&at("image_projector.w2"), intermediate, hidden, false)
        .tensor(&at("pad_embed"), Role::Other, &[2, POOLED * seen])
        .build();
    Ok(draft.with(tower).with(projector(hidden, t)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_counts() {
        let count = |sizes: &str| {
            let config =
                format!(r#"{{"model_type": "molmo", "vocab_size": 152064, "embedding_size": 152064, "qkv_bias": true, "layer_norm_type": "rms", {sizes}}}"#);
            crate::config::read(&config).unwrap().parameters().unwrap().get()
        };
        let seven = r#""hidden_size": 3584, "intermediate_size": 37888, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4"#;
        assert_eq!(count(seven), 8_021_025_280);
        let seventy_two = r#""hidden_size": 8192, "intermediate_size": 59136, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8"#;
        assert_eq!(count(seventy_two), 73_308_285_952);
    }
}
