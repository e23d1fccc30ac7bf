//! Which layers each GPU gets (`device_map="auto"`): the first ones as many as a share of the model and a buffer hold, the last the rest.
//!
//! Read from transformers 5.23 `integrations/accelerate.py` (`get_balanced_memory`, `infer_auto_device_map`), and run on meta tensors.

use std::iter::repeat_n;

use super::super::Setup;
use crate::model::{ComponentKind, Model, Role};
use crate::weight_format::Method;
use crate::weights::{Form, of_architecture};

/// Bytes of what is placed, in its order.
struct Sizes {
    /// Tables, one of them with the head that it is tied to.
    before: Vec<u64>,
    layers: Vec<u64>,
    after: Vec<u64>,
    /// Percent of each GPU's share that is given out.
    given: u64,
}

/// Methods whose loaders keep a tenth of every share for what quantising takes (`quantizers/`, `adjust_max_memory`).
const KEEPING: &[Method] = &[Method::LlmInt8, Method::Nf4, Method::Fp4, Method::TorchAo, Method::TorchAoFp8, Method::Quanto, Method::QuantoFp8, Method::BitNet];

/// Whether the order of a model's modules is known: it has one part, a decoder.
pub(super) fn follows(model: &Model) -> bool {
    model.anatomy.counted().count() == 1 && !model.anatomy.is_guess && model.decoder().kind == ComponentKind::TextDecoder
}

/// Layers of each GPU that gets any part; `None` where the order of the modules is not known.
pub(super) fn stages(setup: &Setup, gpus: u64) -> Option<Vec<u64>> {
    if !follows(setup.model) || gpus < 2 {
        return None;
    }
    Some(placed(&sizes(setup)?, gpus, setup.card.usable.get()))
}

fn sizes(setup: &Setup) -> Option<Sizes> {
    let decoder = setup.model.decoder();
    let mut runs = vec![0u64; decoder.layers.len()];
    let mut sizes = Sizes { before: Vec::new(), layers: Vec::new(), after: Vec::new(), given: 100 };
    for stored in of_architecture(&setup.model.anatomy, setup.weights, setup.dtype).ok()? {
        let (place, bytes) = (stored.place.filter(|place| place.component == 0)?, stored.bytes().ok()?.get());
        match place.run.checked_sub(1) {
            Some(run) => {
                let sum = runs.get_mut(run)?;
                *sum = sum.checked_add(bytes)?;
            }
            None if matches!(stored.tensor.role, Role::Embedding | Role::Position) => sizes.before.push(bytes),
            None => sizes.after.push(bytes),
        }
        if matches!(stored.form, Form::Packed(scheme) if KEEPING.contains(&scheme.method)) {
            sizes.given = 90;
        }
    }
    for (run, bytes) in decoder.layers.iter().zip(runs) {
        sizes.layers.extend(repeat_n(bytes.checked_div(run.count)?, usize::try_from(run.count).ok()?));
    }
    Some(sizes)
}

fn placed(sizes: &Sizes, gpus: u64, usable: u64) -> Vec<u64> {
    let all: Vec<u64> = [&sizes.before, &sizes.layers, &sizes.after].into_iter().flatten().copied().collect();
    let total = all.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
    let most = |of: &[u64]| of.iter().copied().max().unwrap_or(0);
    let share = (total / gpus).saturating_add(most(&all).saturating_mul(5) / 4).min(usable);
    let share = share / 100 * sizes.given;
    // The largest of what comes after each.
    let mut later: Vec<u64> = all.iter().rev().scan(0, |most, size| Some(std::mem::replace(most, (*most).max(*size)))).collect();
    later.reverse();
    let (first, end) = (sizes.before.len(), sizes.before.len() + sizes.layers.len());
    // Layers of each GPU, and whether it holds anything.
    let mut counts = vec![(0u64, false)];
    let mut used = 0u64;
    // Layers are tried in one piece before they are tried one by one.
    let in_one = sizes.before.iter().chain(&sizes.layers).fold(0u64, |sum, size| sum.saturating_add(*size));
    let fits_in_one = in_one <= share.saturating_sub(most(&sizes.after));
    for (number, (&size, &later)) in all.iter().zip(&later).enumerate() {
        let is_layer = (first..end).contains(&number);
        while (counts.len() as u64) < gpus {
            // The first GPU keeps room for the largest that is still to be placed.
            let kept = if counts.len() > 1 || is_layer && fits_in_one { 0 } else { later };
            if used.saturating_add(size) <= share.saturating_sub(kept) {
                break;
            }
            counts.push((0, false));
            used = 0;
        }
        used = used.saturating_add(size);
        if let Some((layers, holds)) = counts.last_mut() {
            *layers += u64::from(is_layer);
            *holds = true;
        }
    }
    // What reads tokens is where the first part is.
    counts.into_iter().skip_while(|(_, holds)| !holds).map(|(layers, _)| layers).collect()
}
