//! `InternVL`: an `InternViT` tower, pixel shuffle, a norm and two matrices, any language model; in transformers' form
//! (`internvl`) and in its own (`internvl_chat`).

use super::decoder::{Draft, Head, Tensors, component};
use super::multimodal::{TEXT_CONFIGS, Tie, Wrapper, language, vision};
use super::vision::{Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Component, ComponentKind, Mixer, Role};

/// transformers' form.
pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, &Wrapper::new("qwen2"), "internvl_vision")
}

/// Qianfan-OCR: the same around Qwen3.
pub(super) fn read_qianfan(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, &Wrapper { tie: Tie::Wrapper { default: false }, ..Wrapper::new("qwen3") }, "qianfan_ocr_vision")
}

fn read_with(f: &Fields, wrapper: &Wrapper, tower_type: &str) -> Result<Draft, ConfigError> {
    let draft = language(f, wrapper)?;
    let tower = vision(f, tower_type)?.below("vision_tower");
    let names = ["multi_modal_projector.layer_norm", "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"];
    let projector = projector(f, &tower, draft.decoder.shape.hidden, names)?;
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}

/// The form of its own repositories: the language model is built from its own config, head and tie included.
pub(super) fn read_chat(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { head: Head::Language, tie: Tie::Text, ..Wrapper::new("llama") })?;
    f.touch("architectures");
    let tower = vision(f, "intern_vit_6b")?.below("vision_model");
    let projector = projector(f, &tower, draft.decoder.shape.hidden, ["mlp1.0", "mlp1.1", "mlp1.3"])?;
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}

/// Intern-S1: the same around Qwen3 and its mixture, by its own code (vLLM's `interns1.py`).
pub(super) fn read_s1(f: &Fields) -> Result<Draft, ConfigError> {
    read_with(f, &Wrapper::new("qwen3"), "internvl_vision")
}

/// Heads that NVLM-D's files add to the tower's, so that eight devices can share them.
const DUMMY_HEADS: u64 = 7;

/// NVLM-D: the same form, its projector as wide as the language model's feed-forward and without biases (vLLM's `nvlm_d.py`).
pub(super) fn read_nvlm(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_chat(f)?;
    let (width, inner) = (draft.decoder.shape.hidden, f.required_nested(TEXT_CONFIGS)?.count("intermediate_size")?);
    if let Some(projector) = draft.others.iter_mut().find(|part| part.kind == ComponentKind::Projector) {
        let seen = projector.tensors.first().and_then(|norm| norm.shape.first()).copied().unwrap_or(0);
        let norm = projector.tensors.iter().filter(|tensor| tensor.role == Role::Norm).cloned();
        let mut t = Tensors::default();
        linear(&mut t, Role::Other, "mlp1.1", seen, inner, false);
        linear(&mut t, Role::Other, "mlp1.3", inner, width, false);
        projector.tensors = norm.chain(t.build()).collect();
    }
    for tower in draft.others.iter_mut().filter(|part| part.kind == ComponentKind::VisionTower) {
        for run in &mut tower.layers {
            let Mixer::Attention(attention) = run.layer.mixer else { continue };
            let (own, more) = (tower.hidden_size, DUMMY_HEADS.saturating_mul(attention.key_dim));
            for tensor in &mut run.tensors {
                match (tensor.name.as_str(), tensor.shape.as_mut_slice()) {
                    ("attn.qkv.weight" | "attn.qkv.bias", [rows, ..]) => *rows = own.saturating_add(more).saturating_mul(3),
                    ("attn.proj.weight", [_, columns]) => *columns = own.saturating_add(more),
                    ("attn.q_norm.weight" | "attn.k_norm.weight", [width]) => *width = own.saturating_add(more),
                    _ => {}
                }
            }
        }
    }
    draft.assumptions.push("its tower is counted with seven heads more than `num_attention_heads`, as vLLM builds it".to_owned());
    Ok(draft)
}

/// H2OVL, whose code is `InternVL`'s around Danube, and Skywork-R1V.
pub(super) fn read_h2ovl(f: &Fields) -> Result<Draft, ConfigError> {
    let mut draft = read_chat(f)?;
    draft.assumptions.push("read as InternVL's own form, which its code follows".to_owned());
    Ok(draft)
}

fn projector(f: &Fields, tower: &Tower, width: u64, [layer_norm, first, second]: [&str; 3]) -> Result<Component, ConfigError> {
    // The features are always those of one layer.
    f.touch("vision_feature_layer");
    let ratio = f.optional_number("downsample_ratio")?.unwrap_or(0.5);
    let merge = (1_u64..=64).rev().find(|&merge| f64::from(u32::try_from(merge).unwrap_or(1)) * ratio <= 1.0);
    let merge = merge.filter(|_| ratio > 0.0).ok_or_else(|| f.impossible("downsample_ratio", "it must be between 1/64 and 1"))?;
    let merged = tower.hidden().saturating_mul(merge * merge);
    let mut t = Tensors::default();
    norm(&mut t, layer_norm, merged, true);
    linear(&mut t, Role::Other, first, merged, width, true);
    linear(&mut t, Role::Other, second, width, width, true);
    Ok(component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new()))
}

#[cfg(test)]
mod tests {
    const TOWER: &str = r#""hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "attention_bias": true"#;

    #[test]
    fn published_counts() {
        // internlm/Intern-S1-mini.
        let config = format!(
            r#"{{"model_type": "interns1", "architectures": ["InternS1ForConditionalGeneration"], "tie_word_embeddings": false, "downsample_ratio": 0.5,
            "text_config": {{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 153216, "tie_word_embeddings": false}}, "vision_config": {{"model_type": "interns1_vision",
            {TOWER}, "image_size": [448, 448], "patch_size": [14, 14], "norm_type": "layer_norm", "use_qk_norm": false}}}}"#
        );
        let anatomy = crate::config::read(&config).unwrap();
        assert_eq!(anatomy.parameters().unwrap().get(), 8_538_804_224);
        assert!(anatomy.assumptions.is_empty(), "{:?}", anatomy.assumptions);
    }
}
