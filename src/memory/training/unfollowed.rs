//! What is not followed of a model in training: said, so that nobody takes it for counted.

use crate::model::{Model, Role, Step, Work};
use crate::quantity::Overflow;
use crate::scenario::AttentionImplementation;

/// Sentences about what this model keeps for its backward pass and is not in the answer.
pub(super) fn notes(model: &Model, attention: AttentionImplementation) -> Result<Vec<String>, Overflow> {
    let decoder = model.decoder();
    let mut notes = Vec::new();
    if let Work::Images(images) = &decoder.work {
        if attention != AttentionImplementation::Eager && attends(&images.steps()) {
            notes.push(format!("attention within windows is counted as if written out (eager), its scores kept: {} may keep less", attention.name()));
        }
        return Ok(notes);
    }
    let bare = decoder.layers.iter().filter(|run| run.tensors.is_empty() && run.layer.mixer.cache_elements_per_token() > 0);
    let again = bare.fold(0_u64, |sum, run| sum.saturating_add(run.count));
    if again > 0 {
        notes.push(format!("{again} layers pass tokens through the weights of others: what those passes keep for the backward pass is not counted"));
    }
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
    if outside > inside {
        notes.push("most of this model's matrices are outside of its layers: what they keep for the backward pass is not counted".to_owned());
    }
    Ok(notes)
}

/// Whether there is attention among these steps.
fn attends(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Windows { .. } => true,
        Step::Residual { body, shortcut } => attends(body) || attends(shortcut),
        Step::Dense(body) => attends(body),
        _ => false,
    })
}
