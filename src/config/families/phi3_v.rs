//! Phi-3-vision and Phi-3.5-vision: Phi-3's decoder, CLIP's large tower, and a projector over squares of four patches.

use super::decoder::{Draft, Tensors};
use super::towers::{TowerShape, clip_layer, projector, vision_tower};
use super::{ConfigError, Fields, phi3};
use crate::model::Role;

/// The tower that the class fixes: CLIP ViT-L/14 at 336 pixels.
const CLIP: TowerShape = TowerShape { hidden: 1024, layers: 24, heads: 16, intermediate: 4096, gated: false };
const CLIP_POSITIONS: u64 = 24 * 24 + 1;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = phi3::read(f)?;
    let prefix = |path: &str| format!("model.vision_embed_tokens.{path}");
    let image = f.required_nested(&["img_processor"])?;
    let name = image.optional_text("model_name")?.unwrap_or_default();
    if !name.is_empty() && name != "openai/clip-vit-large-patch14-336" {
        return Err(image.impossible("model_name", "only CLIP ViT-L/14 at 336 pixels is known for Phi-3-vision"));
    }
    image.touch("name");
    image.touch("num_img_tokens");
    let out = image.count_or("image_dim_out", CLIP.hidden)?;
    let hidden = CLIP.hidden;
    let tower = Tensors::default()
        .tensor("embeddings.class_embedding", Role::Other, &[hidden])
        .convolution("embeddings.patch_embedding", &[hidden, 3, 14, 14], false)
        .embedding("embeddings.position_embedding", CLIP_POSITIONS, hidden)
        .norm("pre_layrnorm", hidden, true)
        .norm("post_layernorm", hidden, true)
        .build();
    let tower = Tensors::default().nested(&prefix("img_processor.vision_model"), tower).build();
    let layer_prefix = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers";

    let embedding = f.part(&["embd_layer"])?;
    embedding.touch("embedding_cls");
    embedding.touch("hd_transform_order");
    let (width, high) = (draft.decoder.shape.hidden, embedding.flag("use_hd_transform", false)?);
    let squared = out.saturating_mul(4);
    let mut tensors = Tensors::default();
    if embedding.flag("with_learnable_separator", false)? {
        tensors.tensor(&prefix("glb_GN"), Role::Other, &[1, 1, squared]).tensor(&prefix("sub_GN"), Role::Other, &[1, 1, 1, squared]);
    }
    match embedding.optional_text("projection_cls")?.as_deref() {
        None | Some("linear") => _ = tensors.linear(&prefix("img_projection"), out, width, true),
        Some("mlp") => {
            tensors.linear(&prefix("img_projection.0"), if high { squared } else { out }, width, true);
            tensors.linear(&prefix("img_projection.2"), width, width, true);
        }
        Some(_) => return Err(embedding.impossible("projection_cls", "only `linear` and `mlp` are known")),
    }
    Ok(draft.with(vision_tower(hidden, layer_prefix, tower, CLIP.layers(&clip_layer(&CLIP)))).with(projector(width, tensors.build())))
}
