//! NV-Embed: Mistral that looks both ways, then vectors of its own that every token attends to before the mean is taken.

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_of};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Keeps, Mixer, Role};

/// `LatentAttentionConfig` of its own code (`configuration_nvembed.py`).
const LATENT: &[(&str, u64)] =
    &[("hidden_dim", 4096), ("num_latents_value", 512), ("num_cross_heads", 8), ("cross_dim_head", 4096), ("latent_dim", 4096), ("mult", 4)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    text.touch("model_type");
    let wrapper = Wrapper { names: Names::Behind("embedding_model"), head: Head::Nothing, tie: Tie::Text, ..Wrapper::new("mistral") };
    let mut draft = language_of(f, &text, "mistral".to_owned(), &wrapper)?;
    draft.kind = ComponentKind::TextEncoder;
    for (layer, _) in &mut draft.decoder.layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Nothing;
        }
    }
    let latent = f.part(&["latent_attention_config"])?.with_defaults(LATENT);
    for key in ["model_type", "latent_dim", "output_normalize"] {
        latent.touch(key);
    }
    let width = latent.count("hidden_dim")?;
    let inner = latent.count("num_cross_heads")?.saturating_mul(latent.count("cross_dim_head")?);
    let wide = width.saturating_mul(latent.count("mult")?);
    let t = Tensors::default()
        .tensor("latent_attention_model.latents", Role::Other, &[latent.count("num_latents_value")?, width])
        .linear("latent_attention_model.cross_attend_blocks.0.fn.to_q", width, inner, false)
        .linear("latent_attention_model.cross_attend_blocks.0.fn.to_kv", width, inner.saturating_mul(2), false)
        .linear("latent_attention_model.cross_attend_blocks.0.fn.to_out", inner, width, false)
        .norm("latent_attention_model.cross_attend_blocks.0.norm", width, true)
        .norm("latent_attention_model.cross_attend_blocks.0.norm_context", width, true)
        .linear("latent_attention_model.cross_attend_blocks.1.fn.net.0", width, wide.saturating_mul(2), true)
        .linear("latent_attention_model.cross_attend_blocks.1.fn.net.2", wide, width, true)
        .norm("latent_attention_model.cross_attend_blocks.1.norm", width, true)
        .build();
    for key in ["add_eos", "add_pad_token", "is_mask_instruction", "mask_type", "padding_side", "hidden_size"] {
        f.touch(key);
    }
    Ok(draft.with(component("pooling", ComponentKind::Projector, width, "", t, Vec::new())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn published_count() {
        // nvidia/NV-Embed-v2.
        let config = r#"{"model_type": "nvembed", "architectures": ["NVEmbedModel"], "hidden_size": 4096, "latent_attention_config": {"model_type": "latent_attention"},
            "text_config": {"architectures": ["MistralModel"], "model_type": "bidir_mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "sliding_window": 4096}, "torch_dtype": "float32"}"#;
        let anatomy = crate::config::read(config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 7_851_016_192);
        assert!(anatomy.assumptions.len() == 1 && anatomy.assumptions[0].contains("`hidden_dim` (4096)"), "{:?}", anatomy.assumptions);
        assert_eq!(anatomy.components[0].layers[0].layer.mixer.cache_elements_per_token(), 0);
    }
}
