//! Gemma 3 with its SigLIP tower and a projector that pools its patches; the text is that of `gemma3_text`.

use super::decoder::{Draft, Head, Tensors};
use super::multimodal::{Names, TEXT_CONFIGS, Tie, Wrapper, language_in};
use super::towers::{projector, siglip};
use super::{ConfigError, Fields};
use crate::model::Role;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    read_tied(f, Tie::WrapperThenText)
}

/// `ShieldGemma` 2: the same, tied when either flag says so.
pub(super) fn read_shield(f: &Fields) -> Result<Draft, ConfigError> {
    read_tied(f, Tie::Either)
}

fn read_tied(f: &Fields, tie: Tie) -> Result<Draft, ConfigError> {
    let wrapper = Wrapper { default_type: "gemma3_text", names: Names::Behind("language_model"), head: Head::ByArchitecture, tie };
    let text = f.part(TEXT_CONFIGS)?;
    let draft = language_in(f, &text, &wrapper)?;
    let hidden = draft.decoder.shape.hidden;
    let vision = f.part(&["vision_config"])?;
    let tower = siglip(&vision, "vision_tower.vision_model", "vision_tower.vision_model.encoder.layers")?;
    let width = tower.hidden_size;
    let pooled = Tensors::default()
        .tensor("multi_modal_projector.mm_input_projection_weight", Role::Other, &[width, hidden])
        .norm("multi_modal_projector.mm_soft_emb_norm", width, false)
        .build();
    // How many tokens an image makes; no parameters.
    f.touch("mm_tokens_per_image");
    Ok(draft.with(tower).with(projector(hidden, pooled)))
}
