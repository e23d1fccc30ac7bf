//! DeepSeek-OCR 2 as transformers writes it: SAM's tower, Qwen2's layers over its features and learned queries, one matrix to the
//! language model. Its authors' own files are [`super::deepseek_vl`]'s.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Wrapper, language_of};
use super::towers::projector;
use super::{ConfigError, Fields, family_of};
use crate::model::{Component, ComponentKind, Keeps, Mixer, Role};

/// `DeepseekOcr2VisionEncoderConfig` of transformers 5.23.
const ENCODER: &[(&str, u64)] = &[
    ("vocab_size", 151_936),
    ("hidden_size", 4096),
    ("intermediate_size", 22_016),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("num_key_value_heads", 32),
];

/// Queries for images of 768 and of 1024 pixels a side.
const QUERIES: [(u64, u64); 2] = [(768, 144), (1024, 256)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let text = f.part(TEXT_CONFIGS)?;
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("deepseek_ocr2_text") };
    let draft = language_of(f, &text, "deepseek_ocr2_text".to_owned(), &wrapper)?;
    let out = draft.decoder.shape.hidden;
    let vision = f.part(&["vision_config"])?;
    vision.touch("model_type");
    let (high, _) = high_resolution(&vision.part(&["sam_config"])?, &[512, 896])?;
    let second = queries(&vision.part(&["encoder_config"])?)?;
    let seen = second.hidden_size;
    let mut t = Tensors::default();
    t.linear("model.multi_modal_projector", seen, out, true).tensor("model.view_separator", Role::Other, &[out]);
    Ok(draft.with(high).with(second).with(projector(out, t.build())))
}

/// SAM's tower with the convolutions that make it coarser, and what they put out.
pub(super) fn high_resolution(sam: &Fields, channels: &[u64]) -> Result<(Component, u64), ConfigError> {
    const AT: &str = "model.vision_tower.sam_encoder";
    sam.touch("scale");
    sam.touch("model_type");
    let mut t = Tensors::default();
    let mut before = sam.count_or("output_channels", 256)?;
    let wider = sam.counts_or("downsample_channels", channels)?;
    if wider.len() != 2 || wider.contains(&0) {
        return Err(sam.impossible("downsample_channels", "it must be two numbers of channels, each at least 1"));
    }
    for (number, wider) in (1..).zip(wider) {
        t.convolution(&format!("proj.conv{number}"), &[wider, before, 3, 3], false);
        before = wider;
    }
    Ok((super::sam::tower(sam)?.with(t).below(AT).component("high_resolution_vision", ComponentKind::VisionTower), before))
}

/// Qwen2's layers without its embeddings; nothing of them is kept.
fn queries(f: &Fields) -> Result<Component, ConfigError> {
    const AT: &str = "model.vision_tower.vision_encoder";
    let family = family_of("qwen2").ok_or_else(|| f.missing("model_type"))?;
    f.touch("model_type");
    let mut decoder = (family.read)(&f.as_class("Qwen2Model").with_defaults(ENCODER))?.decoder;
    f.touch("max_position_embeddings");
    for unread in ["max_position_embeddings", "vocab_size"] {
        f.not_counted(unread);
    }
    let hidden = decoder.shape.hidden;
    for (layer, _) in &mut decoder.layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.keeps = Keeps::Nothing;
        }
    }
    let mut t = Tensors::default();
    t.norm(&format!("{AT}.norm"), hidden, false);
    for (side, queries) in QUERIES {
        t.embedding(&format!("model.vision_tower.query_{side}_resolution"), queries, hidden);
    }
    Ok(super::decoder::component("vision", ComponentKind::VisionTower, hidden, "model.vision_tower.vision_encoder.layers", t.build(), decoder.layers))
}
