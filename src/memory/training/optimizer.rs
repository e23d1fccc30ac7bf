//! What optimizers keep of a tensor, and what their step takes besides.

use super::holdings::Holdings;
use super::run::Run;
use crate::encoding::Encoding;
use crate::quantity::Overflow;
use crate::scenario::Optimizer;

/// bitsandbytes 0.50 `optim/optimizer.py`: tensors below this stay in float32.
const SMALL: u64 = 4096;
/// Values with one scale in bitsandbytes' 8-bit states.
const BLOCK: u64 = 256;

/// Values that an optimizer keeps: what they are, how many, in which encoding.
type State = (&'static str, u64, Encoding);

/// Where the rule of an optimizer was read.
pub(super) const fn source(optimizer: Optimizer) -> &'static str {
    match optimizer {
        Optimizer::Adamw | Optimizer::Adam => "torch 2.15 optim/adamw.py, fused: two moments per parameter, in its type",
        Optimizer::AdamwForeach => {
            "torch 2.15 optim/adamw.py `_multi_tensor_adamw`: two moments per parameter; its step makes a list of square roots of all of them"
        }
        Optimizer::Adamw8bit | Optimizer::PagedAdamw8bit => {
            "bitsandbytes 0.50 optim/optimizer.py: two 8-bit moments, a float32 scale per 256 of each; tensors below 4,096 values in float32"
        }
        Optimizer::PagedAdamw => "bitsandbytes 0.50 optim/optimizer.py: two float32 moments in unified memory",
        Optimizer::Sgd => "torch 2.15 optim/sgd.py: nothing without momentum",
        Optimizer::SgdMomentum => "torch 2.15 optim/sgd.py: one momentum per parameter",
        Optimizer::Adafactor => {
            "transformers 5.23 optimization.py `Adafactor`: float32 means of rows and columns; vectors whole; a step squares the gradient in float32"
        }
        Optimizer::Lion => "one momentum per parameter, in its type (Chen et al., arXiv 2302.06675)",
        Optimizer::Lion8bit => "bitsandbytes 0.50 optim/optimizer.py: one 8-bit momentum, a float32 scale per 256",
        Optimizer::Muon => {
            "torch 2.15 optim/_muon.py: momentum of hidden matrices; embeddings, head and vectors by AdamW; a step orthogonalises one matrix at a time in bfloat16"
        }
        Optimizer::Sophia => "momentum and a diagonal of the Hessian per parameter (Liu et al., arXiv 2305.14342)",
        Optimizer::Galore => {
            "galore-torch 1.0 adamw.py, galore_projector.py: a projector and two moments of the projected gradient per matrix (arXiv 2403.03507)"
        }
        Optimizer::Apollo => "two moments of a randomly projected gradient per matrix, the projection made anew from a seed (Zhu et al., arXiv 2412.05270)",
        Optimizer::ApolloMini => "the same with rank 1 (Zhu et al., arXiv 2412.05270)",
        Optimizer::Lomo => "no states; each gradient is used and dropped in the backward pass (Lv et al., arXiv 2306.09782)",
        Optimizer::Adalomo => "float32 means of rows and columns; each gradient is used and dropped in the backward pass (Lv et al., arXiv 2310.10195)",
    }
}

/// True when gradients are used up in the backward pass.
pub(super) const fn steps_in_backward(run: &Run) -> bool {
    run.scenario.training.optimizer_in_backward || matches!(run.optimizer, Optimizer::Lomo | Optimizer::Adalomo)
}

/// True when the driver may move the states to the host.
pub(super) const fn is_paged(optimizer: Optimizer) -> bool {
    matches!(optimizer, Optimizer::PagedAdamw | Optimizer::PagedAdamw8bit)
}

/// What is kept for one tensor of `rows` by `columns` (1 for a vector); `is_hidden` for matrices of layers.
fn states(run: &Run, rows: u64, columns: u64, is_hidden: bool) -> Result<Vec<State>, Overflow> {
    let count = rows.checked_mul(columns).ok_or(Overflow)?;
    let same = run.recipe.state;
    let twice = count.checked_mul(2).ok_or(Overflow)?;
    let is_matrix = rows > 1 && columns > 1;
    let bytes = Encoding::from_safetensors("U8").unwrap_or(Encoding::F8_E4M3);
    let eight_bit = |copies: u64| {
        if count < SMALL {
            vec![("moments of small tensors", count * copies, Encoding::F32)]
        } else {
            vec![("8-bit moments", count * copies, bytes), ("scales", count.div_ceil(BLOCK) * copies, Encoding::F32)]
        }
    };
    let factored = || vec![("means of rows and columns", if is_matrix { rows + columns } else { count }, Encoding::F32)];
    let projected = |rank: u64, projector: u64| {
        let rank = rank.min(rows.min(columns));
        let moments = rank.checked_mul(rows.max(columns)).and_then(|n| n.checked_mul(2)).ok_or(Overflow)?;
        let mut states = vec![("moments of projected gradients", moments, same)];
        if projector > 0 {
            states.push(("projectors", rank.checked_mul(rows.min(columns)).ok_or(Overflow)?, run.recipe.gradient));
        }
        Ok::<_, Overflow>(states)
    };
    Ok(match run.optimizer {
        Optimizer::PagedAdamw => vec![("moments", twice, Encoding::F32)],
        Optimizer::Adamw8bit | Optimizer::PagedAdamw8bit => eight_bit(2),
        Optimizer::Lion8bit => eight_bit(1),
        Optimizer::Sgd | Optimizer::Lomo => Vec::new(),
        Optimizer::SgdMomentum | Optimizer::Lion => vec![("momentum", count, same)],
        Optimizer::Adafactor | Optimizer::Adalomo => factored(),
        Optimizer::Muon if is_matrix && is_hidden => vec![("momentum", count, same)],
        Optimizer::Galore if is_matrix && is_hidden => projected(run.optimizer_rank.value, 1)?,
        Optimizer::Apollo if is_matrix && is_hidden => projected(run.optimizer_rank.value, 0)?,
        Optimizer::ApolloMini if is_matrix && is_hidden => projected(1, 0)?,
        // Adam and its kin, and what others leave to them.
        _ => vec![("moments", twice, same)],
    })
}

/// What is kept for everything that is trained on this rank, apart for experts.
pub(super) fn all_states(run: &Run, holdings: &Holdings) -> Result<Vec<(State, bool)>, Overflow> {
    let mut piles: Vec<(State, bool)> = Vec::new();
    let mut add = |(rows, columns): (u64, u64), is_hidden: bool, times: u64, is_expert: bool| {
        for (what, count, encoding) in states(run, rows, columns, is_hidden)? {
            let count = count.checked_mul(times).ok_or(Overflow)?;
            match piles.iter_mut().find(|((name, _, of), expert)| *name == what && *of == encoding && *expert == is_expert) {
                Some(((_, sum, _), _)) => *sum = sum.checked_add(count).ok_or(Overflow)?,
                None => piles.push(((what, count, encoding), is_expert)),
            }
        }
        Ok::<_, Overflow>(())
    };
    for held in holdings.tensors.iter().filter(|held| held.is_trained && held.elements > 0) {
        // What a rank holds of a tensor keeps the tensor's columns.
        let columns = if held.tensor.shape.len() > 1 { held.tensor.shape.last().copied().unwrap_or(1).max(1) } else { 1 };
        let count = held.tensor.count.max(1);
        let each = held.elements / count;
        let (shape, left) = if each.is_multiple_of(columns) && each > 0 { ((each / columns, columns), count) } else { ((held.elements, 1), 1) };
        add(shape, held.is_in_layer, held.times.checked_mul(left).ok_or(Overflow)?, held.tensor.role.is_expert())?;
    }
    for &(is_expert, rows, columns, times) in &holdings.adapter_shapes {
        add((rows, columns), true, times, is_expert)?;
    }
    Ok(piles)
}
