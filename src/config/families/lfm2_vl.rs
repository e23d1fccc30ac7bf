//! LFM2-VL: `SigLIP` 2, pixel unshuffle, two matrices (a norm before them in some), LFM2. LFM3-VL: a tower of gated convolutions over
//! the grid of patches with attention in some layers, LFM3.

use super::decoder::{Draft, Shape, Tensors};
use super::multimodal::{Names, Tie, Wrapper, language, squared, vision, with_projector};
use super::recurrent::{Kind, W1_W3_W2, gated, kinds};
use super::towers::{projector, vision_tower};
use super::vision::{linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Attention, Keeps, Layer, Mixer, Role, Span};

/// `Lfm3VlVisionConfig` of transformers 5.23.
const VISION3: &[(&str, u64)] = &[
    ("hidden_size", 1024),
    ("intermediate_size", 2560),
    ("num_hidden_layers", 14),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 8),
    ("in_channels", 3),
    ("temporal_patch_size", 2),
    ("patch_size", 16),
    ("spatial_merge_size", 2),
    ("conv_kernel_size", 3),
    ("vocab_size", 1),
];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let draft = language(f, &Wrapper { names: Names::Inside("model.language_model"), ..Wrapper::new("lfm2") })?;
    let width = draft.decoder.shape.hidden;
    let tower = vision(f, "siglip2_vision_model")?.below("model.vision_tower");
    let inputs = tower.hidden().saturating_mul(squared(f, "downsample_factor", 2)?);
    let inner = f.count_or("projector_hidden_size", 2560)?;
    let bias = f.flag("projector_bias", true)?;
    let mut t = Tensors::default();
    if f.flag("projector_use_layernorm", true)? {
        norm(&mut t, "model.multi_modal_projector.layer_norm", inputs, true);
    }
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_1", inputs, inner, bias);
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_2", inner, width, bias);
    Ok(with_projector(draft, tower, width, t.build()))
}

pub(super) fn read3(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Wrapper { default: true }, ..Wrapper::new("lfm3") };
    let draft = language(f, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(VISION3);
    v.touch("model_type");
    let shape = Shape::read(&v)?;
    let hidden = shape.hidden;
    let inner = v.count("intermediate_size")?;
    let kernel = v.count("conv_kernel_size")?;
    let usual = |number: u64| if number < 2 || number % 2 == 1 { Kind::Recurrent } else { Kind::Full };
    let listed = kinds(&v, "layer_types", &[Kind::Recurrent, Kind::Full])?.unwrap_or_else(|| (0..shape.layers).map(usual).collect());
    if listed.len() as u64 != shape.layers {
        return Err(v.impossible("layer_types", "it must have one entry per layer (`num_hidden_layers`)"));
    }
    let layers =
        listed.into_iter().map(|kind| {
            let mut t = Tensors::default();
            t.norms(&["operator_norm", "ffn_norm"], hidden);
            let mixer =
                if kind == Kind::Recurrent {
                    // Over a whole image at once: it keeps no state.
                    t.linear("conv.in_proj", hidden, hidden.saturating_mul(3), false)
                        .convolution("conv.spatial_conv", &[hidden, 1, kernel, kernel], false)
                        .linear("conv.out_proj", hidden, hidden, false);
                    Mixer::None
                } else {
                    t.attention(&shape, false, false).query_key_norm(&shape);
                    Mixer::Attention(Attention { keeps: Keeps::Nothing, ..shape.attention(Span::Full) })
                };
            let feed_forward = gated(&mut t, "feed_forward", W1_W3_W2, hidden, inner, false);
            (Layer { mixer, feed_forward }, t.build())
        });
    let layers = layers.collect();
    let patch = v.count("patch_size")?;
    let pixels = v.count("in_channels")?.saturating_mul(v.count("temporal_patch_size")?).saturating_mul(patch.saturating_mul(patch));
    let outside =
        Tensors::default().linear("model.vision_tower.patch_embed", pixels, hidden, false).norm("model.vision_tower.embedding_norm", hidden, false).build();
    let merged = hidden.saturating_mul(squared(&v, "spatial_merge_size", 2)?);
    let between = f.count_or("projector_hidden_size", 4096)?;
    let bias = f.flag("projector_bias", true)?;
    let mut t = Tensors::default();
    norm(&mut t, "model.multi_modal_projector.layer_norm", hidden, true);
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_1", merged, between, bias);
    linear(&mut t, Role::Other, "model.multi_modal_projector.linear_2", between, width, bias);
    Ok(draft.with(vision_tower(hidden, "model.vision_tower.layers", outside, layers)).with(projector(width, t.build())))
}
