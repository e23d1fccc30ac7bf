//! What is not followed of a model in training: said, so that nobody takes it for counted.

use super::run::unsupported;
use crate::model::{Component, ComponentKind, LayerRun, Model, Role, Work};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;

/// Sentences about what this model keeps for its backward pass and is not in the answer.
pub(super) fn notes(model: &Model) -> Result<Vec<String>, Overflow> {
    let decoder = model.decoder();
    let mut notes = Vec::new();
    if matches!(decoder.work, Work::Images(_)) {
        return Ok(notes);
    }
    let again = decoder.layers.iter().filter(|run| is_bare(run)).fold(0_u64, |sum, run| sum.saturating_add(run.count));
    let without = model.anatomy.computation.without_gradient;
    if without > 0 {
        let of = crate::format::grouped(again);
        notes.push(format!(
            "{without} of {of} layers that pass tokens through the weights of others do so under no gradient and keep nothing (transformers 5.23)"
        ));
    }
    let unlike = decoder.layers.iter().filter(|run| is_bare(run) && like(decoder, run).is_none()).fold(0_u64, |sum, run| sum.saturating_add(run.count));
    if unlike > 0 {
        notes.push(format!("{unlike} layers pass tokens through the weights of others: what those passes keep for the backward pass is not counted"));
    }
    if super::layer::takes_all_experts(&model.anatomy.model_type) && model.anatomy.tensors().any(|(tensor, _)| tensor.role.is_expert()) {
        notes.push("transformers 5.23 passes every token through every expert of this family (`Llama4TextExperts`), and so it is counted".to_owned());
    }
    let is_former = |part: &&Component| part.kind == ComponentKind::Projector && !part.layers.is_empty();
    if model.anatomy.counted().filter(is_former).any(|part| part.tensors.iter().any(|tensor| tensor.role == Role::Embedding)) {
        notes.push("the instruction that a Q-Former reads beside its queries is not counted: some tens of tokens in it".to_owned());
    }
    if has_scores_by_distance(model) {
        notes.push("scores by distance (c2p, p2c) and what gathers them are not counted: layers of DeBERTa V3 keep about 1.7 times what is counted".to_owned());
    }
    if is_mostly_outside(decoder)? {
        notes.push("most of this model's matrices are outside of its layers: what they keep for the backward pass is not counted".to_owned());
    }
    Ok(notes)
}

/// Models whose training nobody writes in transformers 5.23 and of which the larger part of what is kept is unknown here, and why.
const UNKNOWN: &[(&str, &str)] = &[(
    "vits",
    "its flows and its vocoder work on samples of sound, and what they keep is not derived here; transformers 5.23 does not train it either (`VitsModel`)",
)];

/// Refuses what would be a number without its larger part.
pub(super) fn check(model: &Model) -> Result<(), EstimateError> {
    let model_type = &model.anatomy.model_type;
    match UNKNOWN.iter().find(|(name, _)| name == model_type) {
        Some((name, why)) => Err(unsupported(format!("training of {name} is not known: {why}"))),
        None => Ok(()),
    }
}

/// Whether a layer attends without weights of its own.
fn is_bare(run: &LayerRun) -> bool {
    run.tensors.is_empty() && run.layer.mixer.attention().is_some()
}

/// The layers whose weights one without its own passes tokens through: those of the same kind.
pub(super) fn like<'a>(component: &'a Component, run: &LayerRun) -> Option<&'a LayerRun> {
    component.layers.iter().find(|other| is_bare(run) && !other.tensors.is_empty() && other.layer == run.layer)
}

/// Whether scores are made of distances in ways that are not followed: `DeBERTa`'s `c2p` and `p2c` products, what gathers their columns, and the
/// projected table of distances. Saved-tensor hooks on transformers 5.23, bfloat16: 97,032 bytes of a token in a layer of `DeBERTa` V3 base at 512
/// tokens, of which 56,848 are counted.
pub(super) fn has_scores_by_distance(model: &Model) -> bool {
    let is_deberta = model.anatomy.types().iter().any(|model_type| matches!(*model_type, "deberta" | "deberta-v2"));
    is_deberta && model.decoder().tensors.iter().any(|tensor| tensor.name.contains("rel_embeddings"))
}

/// Whether a part has more in matrices outside of its layers, tables of words aside, than inside.
pub(super) fn is_mostly_outside(decoder: &Component) -> Result<bool, Overflow> {
    let mut outside: u64 = 0;
    for tensor in decoder.tensors.iter().filter(|tensor| tensor.role == Role::Other && tensor.shape.len() > 1) {
        outside = outside.checked_add(tensor.elements()?.get()).ok_or(Overflow)?;
    }
    let mut inside: u64 = 0;
    for run in &decoder.layers {
        for tensor in &run.tensors {
            inside = run.count.checked_mul(tensor.elements()?.get()).and_then(|all| inside.checked_add(all)).ok_or(Overflow)?;
        }
    }
    Ok(outside > inside)
}
