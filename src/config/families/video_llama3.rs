//! `VideoLLaMA` 3: `SigLIP`'s layers over patches of any number, with rotary positions, two matrices, Qwen2.

use super::decoder::{Draft, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in, with_projector};
use super::vision::{CLIP, Encoder, Tower, linear, norm, pair};
use super::{ConfigError, Fields};
use crate::model::Role;

/// `VideoLlama3VisionConfig` of transformers 5.23.
const VISION: &[(&str, u64)] =
    &[("hidden_size", 768), ("intermediate_size", 3072), ("num_hidden_layers", 12), ("num_attention_heads", 12), ("num_channels", 3), ("patch_size", 16)];

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { names: Names::Inside("model.language_model"), tie: Tie::Either, ..Wrapper::new("qwen2") };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let width = draft.decoder.shape.hidden;
    let v = f.part(&["vision_config"])?.with_defaults(VISION);
    v.touch("model_type");
    let e = Encoder::read(&v)?;
    let [height, breadth] = pair(&v, "patch_size")?;
    let mut t = Tensors::default();
    t.convolution("embeddings.patch_embedding", &[e.hidden, v.count("num_channels")?, height, breadth], true);
    norm(&mut t, "post_layernorm", e.hidden, true);
    let tower = Tower { encoder: e, layers_at: "encoder.layers".to_owned(), tensors: t.build(), layers: CLIP.layers(&e) }.below("model.vision_model");
    let mut t = Tensors::default();
    linear(&mut t, Role::Other, "model.projector.readout.0", e.hidden, width, true);
    linear(&mut t, Role::Other, "model.projector.readout.2", width, width, true);
    Ok(with_projector(draft, tower, width, t.build()))
}
