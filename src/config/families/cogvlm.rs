//! `CogVLM` and `CogVLM` 2: a language model in which each layer has its matrices twice, for text and for what it sees, and EVA2-CLIP's tower.
//! Their own code; transformers has no class.

use super::decoder::{Decoder, Draft, LLAMA_NORMS, Shape, Tensors, layers_by_span};
use super::multimodal::lasting;
use super::towers::{TowerShape, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::{Component, FeedForward, Role, Span};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    // The second version groups its heads for keys, and gives its projections of queries, keys and values a bias where it sees.
    let groups = f.optional_count("num_multi_query_heads")?;
    let second = groups.is_some();
    let heads = f.count("num_attention_heads")?;
    let shape = Shape::checked(f, f.count("hidden_size")?, Shape::layer_count(f)?, f.count("vocab_size")?, (heads, groups.unwrap_or(heads), None))?;
    let (hidden, intermediate) = (shape.hidden, f.count("intermediate_size")?);
    let width = hidden.saturating_add(shape.kv_heads.saturating_mul(shape.head_dim).saturating_mul(2));
    let mut layer = Tensors::default();
    for (part, bias) in [("language", false), ("vision", second)] {
        layer.tensor(&format!("self_attn.{part}_expert_query_key_value.weight"), Role::Qkv, &[width, hidden]).tensor(
            &format!("self_attn.{part}_expert_dense.weight"),
            Role::AttentionOutput,
            &[hidden, hidden],
        );
        if bias {
            layer.tensor(&format!("self_attn.{part}_expert_query_key_value.bias"), Role::Qkv, &[width]);
        }
        layer
            .linear(&format!("mlp.{part}_mlp.gate_proj"), hidden, intermediate, false)
            .linear(&format!("mlp.{part}_mlp.up_proj"), hidden, intermediate, false)
            .linear(&format!("mlp.{part}_mlp.down_proj"), intermediate, hidden, false);
    }
    let layer = layer.norms(LLAMA_NORMS, hidden).build();
    let layers = layers_by_span(&shape, FeedForward::Dense { intermediate, gated: true }, &layer, |_| Span::Full);
    f.touch("template_version");
    let draft = Draft::from(Decoder::llama_like(shape, layers, false));

    let v = f.required_nested(&["vision_config"])?;
    let (tower, width) = tower(&v, "model.vision")?;
    let mut t = Tensors::default();
    if second {
        // It halves the image's sides before it maps them.
        t.convolution("model.vision.conv", &[width, width, 2, 2], true);
    }
    gated_map(&mut t, "model.vision", width, hidden, intermediate);
    Ok(draft.with(tower).with(projector(hidden, t.build())))
}

/// EVA2-CLIP's tower at `at`, and its width.
pub(super) fn tower(v: &Fields, at: &str) -> Result<(Component, u64), ConfigError> {
    let tower = TowerShape::read(v, TowerShape::KEYS)?;
    let (width, inner) = (tower.hidden, tower.intermediate);
    let layer = Tensors::default()
        .tensor("attention.query_key_value.weight", Role::Qkv, &[width.saturating_mul(3), width])
        .tensor("attention.query_key_value.bias", Role::Qkv, &[width.saturating_mul(3)])
        .tensor("attention.dense.weight", Role::AttentionOutput, &[width, width])
        .tensor("attention.dense.bias", Role::AttentionOutput, &[width])
        .linear("mlp.fc1", width, inner, true)
        .linear("mlp.fc2", inner, width, true)
        .norm("input_layernorm", width, true)
        .norm("post_attention_layernorm", width, true)
        .build();
    let (patch, channels) = (v.count("patch_size")?, v.count_or("in_channels", 3)?);
    for key in ["image_size", "scaling_factor", "dropout_prob"] {
        v.touch(key);
    }
    let outside = Tensors::default()
        .convolution(&format!("{at}.patch_embedding.proj"), &[width, channels, patch, patch], true)
        .tensor(&format!("{at}.patch_embedding.cls_embedding"), Role::Other, &[1, width])
        .embedding(&format!("{at}.patch_embedding.position_embedding"), v.count("num_positions")?, width)
        .build();
    Ok((vision_tower(width, lasting(format!("{at}.transformer.layers")), outside, tower.layers(&layer)), width))
}

/// What maps `inputs` features of the tower to the language model, and the vectors around an image.
pub(super) fn gated_map(t: &mut Tensors, at: &str, inputs: u64, hidden: u64, intermediate: u64) {
    t.linear(&format!("{at}.linear_proj.linear_proj"), inputs, hidden, false).norm(&format!("{at}.linear_proj.norm1"), hidden, true);
    for up in ["dense_h_to_4h", "gate_proj"] {
        t.linear(&format!("{at}.linear_proj.{up}"), hidden, intermediate, false);
    }
    t.linear(&format!("{at}.linear_proj.dense_4h_to_h"), intermediate, hidden, false);
    for end in ["boi", "eoi"] {
        t.tensor(&format!("{at}.{end}"), Role::Other, &[1, 1, hidden]);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_counts() {
        let vision = |positions: u64| {
            format!(
                r#"{{"hidden_size": 1792, "intermediate_size": 15360, "num_heads": 16, "num_hidden_layers": 63, "num_positions": {positions}, "patch_size": 14}}"#
            )
        };
        let count = |own: &str, positions: u64| {
            let sizes = r#""model_type": "cogvlm", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32"#;
            let config = format!(r#"{{{sizes}, {own}, "vision_config": {}}}"#, vision(positions));
            crate::config::read(&config).unwrap().parameters().unwrap().get()
        };
        // cogvlm-chat-hf.
        assert_eq!(count(r#""intermediate_size": 11008, "vocab_size": 32000"#, 1226), 17_639_685_376);
        // cogvlm2-llama3-chat-19B: its file also keeps 2,048 frequencies of its rotary positions.
        assert_eq!(count(r#""intermediate_size": 14336, "vocab_size": 128256, "num_multi_query_heads": 8"#, 9217), 19_503_107_328 - 2_048);
    }
}
