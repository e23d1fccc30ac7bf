//! Granite for Docling: Granite's decoder and `SigLIP`'s tower, joined by one route or two of shuffled patches, each with mergers that
//! read the tower's earlier layers.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Names, Tie, Wrapper, language_of, with_projector};
use super::vision::{linear, norm, tower};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `GraniteDoclingTextConfig` of transformers 5.23.
const TEXT: &[(&str, u64)] = &[
    ("vocab_size", 133_800),
    ("hidden_size", 1024),
    ("intermediate_size", 2048),
    ("num_hidden_layers", 28),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 4),
];
/// `GraniteDoclingVisionConfig`.
const TOWER: &[(&str, u64)] =
    &[("hidden_size", 768), ("intermediate_size", 3072), ("num_hidden_layers", 12), ("num_attention_heads", 12), ("image_size", 512), ("patch_size", 16)];

pub(super) fn read_text(f: &Fields) -> Result<Draft, ConfigError> {
    super::granite::read(&f.with_defaults(TEXT))
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.text_model"), tie: Tie::Wrapper { default: true }, ..Wrapper::new("granite_docling_text") };
    let draft = language_of(f, &f.part(&["text_config"])?, "granite_docling_text".to_owned(), &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(TOWER);
    v.touch("model_type");
    let tower = tower(&v.with_text("model_type", "idefics3_vision"), "idefics3_vision")?.below("model.vision_model");
    let (hidden, outputs, factor) = (tower.hidden(), v.count_or("out_hidden_size", width)?, v.count_or("scale_factor", 4)?);
    if factor > 1024 {
        return Err(v.impossible("scale_factor", "it must be at most 1024"));
    }
    let read = v.optional_counts("deepstack_visual_indexes")?.map_or(3, |list| list.len() as u64);
    let is_fine = v.flag("use_fine_route", true)?;
    let mut t = Tensors::default();
    let base = "model.vision_model.connector";
    for (route, side) in [("coarse", factor), ("fine", factor / 2)].into_iter().take(if is_fine { 2 } else { 1 }) {
        let inputs = hidden.saturating_mul(side * side);
        linear(&mut t, Role::Other, &format!("{base}.{route}.projection"), inputs, outputs, false);
        let merger = |leaf: &str| format!("{base}.{route}.deepstack_mergers.{{}}.{leaf}");
        t.repeated(&merger("layer_norm.weight"), Role::Norm, read, &[inputs]).repeated(&merger("layer_norm.bias"), Role::Norm, read, &[inputs]);
        for (name, inputs) in [("linear_1", inputs), ("linear_2", outputs)] {
            t.repeated(&merger(&format!("{name}.weight")), Role::Other, read, &[outputs, inputs]);
            t.repeated(&merger(&format!("{name}.bias")), Role::Other, read, &[outputs]);
        }
    }
    norm(&mut t, &format!("{base}.ln_in"), hidden, true);
    norm(&mut t, &format!("{base}.ln_mid"), outputs, true);
    linear(&mut t, Role::Other, &format!("{base}.mlp_fc2"), outputs, outputs, false);
    norm(&mut t, &format!("{base}.ln_out"), outputs, true);
    // What tells pages that need the fine route.
    if let Some(inner) = f.optional_count("density_router_hidden_size")? {
        let at = |leaf: &str| format!("model.density_router.{leaf}");
        linear(&mut t, Role::Other, &at("att"), hidden, 1, true);
        norm(&mut t, &at("norm"), hidden, true);
        linear(&mut t, Role::Other, &at("fc1"), hidden, inner, true);
        linear(&mut t, Role::Other, &at("fc2"), inner, 1, true);
    }
    f.touch("density_router_threshold");
    Ok(with_projector(draft, tower, outputs, t.build()))
}
