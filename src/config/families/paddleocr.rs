//! PaddleOCR-VL: ERNIE 4.5's decoder behind SigLIP's tower without a pooling head; neighbouring patches are put together after a norm.

use super::classic::{Bias, Sizes, Variant};
use super::decoder::{Draft, Tensors, component};
use super::multimodal::{Names, Tie, Wrapper, language_of, squared};
use super::vision::{CLIP, Encoder, Patches, Tower, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

const TEXT: Variant = Variant {
    sizes: Some(Sizes { hidden: 1024, layers: 18, heads: 16, kv_heads: Some(2), head_dim: Some(128), intermediate: Some(3072), vocab: 103_424 }),
    qkv_bias: Bias::Key("use_bias", false),
    output_bias: Bias::Key("use_bias", false),
    mlp_bias: Bias::Key("use_bias", false),
    tied: true,
    ..Variant::LLAMA
};

/// `PaddleOCRVisionConfig` of transformers 5.23.
const TOWER: &[(&str, u64)] = &[
    ("hidden_size", 1152),
    ("intermediate_size", 4304),
    ("num_hidden_layers", 27),
    ("num_attention_heads", 16),
    ("num_channels", 3),
    ("image_size", 384),
    ("patch_size", 14),
];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    TEXT.read(f)
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::UnlessBothDeny, ..Wrapper::new("paddleocr_vl_text") };
    // The first files hold the decoder's fields beside the tower's object.
    let nested = f.nested(&["text_config"])?;
    let text = match nested {
        Some(text) => text,
        None if f.has("hidden_size") => f.with_defaults(&[]),
        None => f.left_out("text_config"),
    };
    text.touch("model_type");
    let draft = language_of(f, &text, "paddleocr_vl_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(TOWER);
    v.touch("model_type");
    let (e, patches) = (Encoder::read(&v)?, Patches::read(&v)?);
    let mut t = Tensors::default();
    patches.convolution(&mut t, "embeddings.patch_embedding", e.hidden, true);
    t.embedding("embeddings.position_embedding", patches.number, e.hidden);
    norm(&mut t, "post_layernorm", e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) }.below("model.visual.vision_model");
    let merged = e.hidden.saturating_mul(squared(&v, "spatial_merge_size", 2)?);
    let mut t = Tensors::default();
    norm(&mut t, "model.projector.pre_norm", e.hidden, true);
    linear(&mut t, Role::Other, "model.projector.linear_1", merged, merged, true);
    linear(&mut t, Role::Other, "model.projector.linear_2", merged, width, true);
    let projector = component("projector", ComponentKind::Projector, width, "", t.build(), Vec::new());
    Ok(draft.with(tower.component("vision", ComponentKind::VisionTower)).with(projector))
}
