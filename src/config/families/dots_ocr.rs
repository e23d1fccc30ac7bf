//! dots.ocr: Qwen2's layers with the wrapper's fields beside them, a tower of gated RMSNorm layers over patches, a merger of neighbours.
//! Its own code; transformers has no class.

use super::decoder::{Draft, Tensors};
use super::towers::{TowerShape, fused_attention, projector, vision_tower};
use super::{ConfigError, Fields, qwen2};
use crate::model::Tensor;

/// `DotsVisionConfig` of its repository.
const VISION: &[(&str, u64)] = &[
    ("embed_dim", 1536),
    ("intermediate_size", 4224),
    ("num_hidden_layers", 42),
    ("num_attention_heads", 12),
    ("num_channels", 3),
    ("patch_size", 14),
    ("spatial_merge_size", 2),
    ("temporal_patch_size", 1),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    f.touch("attention_bias");
    let draft = qwen2::read(f)?;
    let out = draft.decoder.shape.hidden;
    let v = f.required_nested(&["vision_config"])?.with_defaults(VISION);
    // A copy of the decoder's width, and how images are cut and masked.
    for key in ["hidden_size", "is_causal", "gradient_checkpointing", "init_merger_std", "initializer_range", "attn_implementation"] {
        v.touch(key);
    }
    let (hidden, inner) = (v.count("embed_dim")?, v.count("intermediate_size")?);
    let tower = TowerShape { hidden, layers: v.count("num_hidden_layers")?, heads: v.count("num_attention_heads")?, intermediate: inner, gated: true };
    let tower = tower.checked(&v, "num_hidden_layers", "num_attention_heads")?;
    let bias = v.flag("use_bias", false)?;
    let mut layer = Tensors::default();
    let layer = fused_attention(&mut layer, hidden, bias, bias)
        .linear("mlp.fc1", hidden, inner, bias)
        .linear("mlp.fc3", hidden, inner, bias)
        .linear("mlp.fc2", inner, hidden, bias)
        .norms(&["norm1", "norm2"], hidden)
        .build();
    let (patch, channels, merge) = (v.count("patch_size")?, v.count("num_channels")?, v.count("spatial_merge_size")?);
    let frames = v.count("temporal_patch_size")?;
    let mut t = Tensors::default();
    t.convolution("patch_embed.patchifier.proj", &[hidden, channels.saturating_mul(frames), patch, patch], true).norm(
        "patch_embed.patchifier.norm",
        hidden,
        false,
    );
    if v.flag("post_norm", true)? {
        t.norm("post_trunk_norm", hidden, false);
    }
    let merged = hidden.saturating_mul(merge).saturating_mul(merge);
    let merger =
        Tensors::default().norm("merger.ln_q", hidden, true).linear("merger.mlp.0", merged, merged, true).linear("merger.mlp.2", merged, out, true).build();
    let behind = |tensors: Vec<Tensor>| Tensors::default().nested("vision_tower", tensors).build();
    Ok(draft.with(vision_tower(hidden, "vision_tower.blocks", behind(t.build()), tower.layers(&layer))).with(projector(out, behind(merger))))
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_count() {
        let config = r#"{"model_type": "dots_ocr", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": false, "vision_config": {"embed_dim": 1536, "hidden_size": 1536}}"#;
        assert_eq!(crate::config::read(config).unwrap().parameters().unwrap().get(), 3_039_179_264);
    }
}
