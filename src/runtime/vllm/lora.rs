//! Slots for LoRA adapters (`lora/layers`): buffers for `max_loras` adapters of the largest rank beside every linear layer.

use super::super::Setup;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::Role;
use crate::quantity::Overflow;

/// `LoRAConfig.max_lora_rank`.
const DEFAULT_RANK: u64 = 16;

/// How one matrix's two factors are held by a rank: down (inputs × rank) and up (rank × outputs).
#[derive(Clone, Copy)]
enum Layout {
    /// Outputs are split, the down factor is whole.
    Column,
    /// Inputs are split, the up factor is whole.
    Row,
}

fn layout(role: Role) -> Option<Layout> {
    match role {
        Role::Query | Role::Key | Role::Value | Role::Qkv | Role::Gate | Role::Up | Role::GateUp | Role::LatentUp | Role::OutputDown | Role::MixerInput => {
            Some(Layout::Column)
        }
        Role::AttentionOutput | Role::Down | Role::MixerOutput => Some(Layout::Row),
        _ => None,
    }
}

/// The slots of the decoder's layers on this rank; `None` when no adapters are asked for.
pub(super) fn slots(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let serving = &setup.scenario.serving;
    let Some(adapters) = serving.max_loras.or(serving.max_lora_rank.map(|_| 1)) else { return Ok(None) };
    let ranks = setup.spread.tensor.value;
    // Inputs and outputs of all matrices, as a rank holds them.
    let mut sizes: u64 = 0;
    for (count, run) in setup.runs() {
        for tensor in run.tensors.iter().filter(|tensor| tensor.shape.len() == 2) {
            let Some(layout) = layout(tensor.role) else { continue };
            let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
            let each = match layout {
                Layout::Column => inputs.checked_add(outputs.div_ceil(ranks)),
                Layout::Row => inputs.div_ceil(ranks).checked_add(outputs),
            };
            let all = each.and_then(|each| each.checked_mul(count)?.checked_mul(tensor.count)).ok_or(Overflow)?;
            sizes = sizes.checked_add(all).ok_or(Overflow)?;
        }
    }
    let rank = match serving.max_lora_rank {
        Some(rank) => Expr::leaf(rank, "rank", Source::User("max_lora_rank")),
        None => Expr::leaf(DEFAULT_RANK, "rank", Source::Default("vLLM's max_lora_rank".into())),
    };
    let adapters = Expr::leaf(adapters, "adapters", Source::User("max_loras"));
    let formula =
        Expr::Product(vec![adapters, rank, Expr::leaf(sizes, "inputs and outputs of linear layers", Source::Derived("linear layers of the decoder".into()))]);
    let source = "vLLM lora/layers: buffers for as many adapters as fit at once, of the largest rank, beside every linear layer of the decoder";
    Entry::exact(Term::Adapters, Expr::encoded(formula, setup.dtype), Basis::Derived, source, ALWAYS).map(Some)
}
