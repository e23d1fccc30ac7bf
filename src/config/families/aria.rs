//! Aria: a SigLIP tower, learned queries that attend to its patches, and a decoder with experts.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{TowerShape, clip_layer, patches, projector, vision_tower};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `Idefics3VisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("image_size", 224),
    ("patch_size", 32),
];

/// Queries for the largest image when the config does not say.
const QUERIES: u64 = 256;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper =
        Wrapper { default_type: "aria_text", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie: Tie::Wrapper { default: false } };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let vision = f.part(&["vision_config"])?.with_defaults(VISION);
    let tower = TowerShape::read(&vision, TowerShape::KEYS)?;
    let (hidden, patch) = (tower.hidden, vision.count("patch_size")?);
    let tensors = Tensors::default()
        .convolution("vision_tower.embeddings.patch_embedding", &[hidden, vision.count("num_channels")?, patch, patch], true)
        .embedding("vision_tower.embeddings.position_embedding", patches(&vision)?, hidden)
        .norm("vision_tower.post_layernorm", hidden, true)
        .build();
    let queries = match f.raw("projector_patch_to_query_dict") {
        None => QUERIES,
        Some(sizes) => {
            let sizes = sizes.as_object().and_then(|sizes| sizes.values().map(serde_json::Value::as_u64).collect::<Option<Vec<_>>>());
            let most = sizes.and_then(|sizes| sizes.into_iter().max()).filter(|most| (1..=1 << 40).contains(most));
            most.ok_or_else(|| f.impossible("projector_patch_to_query_dict", "it must map numbers of patches to numbers of queries"))?
        }
    };
    f.touch("vision_feature_layer");
    let name = |leaf: &str| format!("multi_modal_projector.{leaf}");
    let projection = Tensors::default()
        .tensor(&name("query"), Role::Other, &[queries, hidden])
        .linear(&name("cross_attn.q_proj"), hidden, hidden, false)
        .linear(&name("cross_attn.k_proj"), hidden, hidden, false)
        .linear(&name("cross_attn.v_proj"), hidden, hidden, false)
        .tensor(&name("cross_attn.multihead_attn.in_proj_weight"), Role::Qkv, &[hidden.saturating_mul(3), hidden])
        .tensor(&name("cross_attn.multihead_attn.in_proj_bias"), Role::Qkv, &[hidden.saturating_mul(3)])
        .linear(&name("cross_attn.multihead_attn.out_proj"), hidden, hidden, true)
        .linear(&name("cross_attn.linear"), hidden, hidden, true)
        .norm(&name("cross_attn.layer_norm"), hidden, true)
        .norm(&name("cross_attn.layer_norm_kv"), hidden, true)
        .norm(&name("layer_norm"), hidden, true)
        .linear(&name("feed_forward.linear_in"), hidden, width, false)
        .linear(&name("feed_forward.linear_out"), width, width, false)
        .build();
    Ok(draft.with(vision_tower(hidden, "vision_tower.encoder.layers", tensors, tower.layers(&clip_layer(&tower)))).with(projector(width, projection)))
}
