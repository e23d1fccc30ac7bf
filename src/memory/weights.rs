//! Weights of one rank: a sum over the tensor inventory by role.

use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::{Role, Tensor};
use crate::quantity::{Bytes, Overflow, ParamCount};
use crate::runtime::Setup;
use crate::scenario::Weights;

/// How a tensor is shared by the ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// An equal part each.
    Split,
    /// Whole on each.
    Whole,
    /// Rows of the padded vocabulary.
    Vocabulary,
    /// KV heads: split, but never less than one head.
    KeyValue,
    /// Query heads split, KV heads as above, in one matrix.
    Fused,
}

/// The share of a tensor by its role. Row-parallel layers keep their bias whole.
fn share(tensor: &Tensor, splits_embedding: bool) -> Share {
    match tensor.role {
        Role::Embedding if splits_embedding => Share::Vocabulary,
        Role::Head => Share::Vocabulary,
        Role::Key | Role::Value => Share::KeyValue,
        Role::Qkv => Share::Fused,
        Role::AttentionOutput | Role::MixerOutput | Role::Down | Role::ExpertDown if tensor.is_vector() => Share::Whole,
        Role::Embedding | Role::Position | Role::Score | Role::Norm | Role::Router | Role::Other | Role::Adapter | Role::LatentDown => Share::Whole,
        _ => Share::Split,
    }
}

/// Elements of one encoding, by how they are shared.
struct Pile {
    encoding: Encoding,
    split: u64,
    whole: u64,
    /// KV projections and vocabulary tables: what this rank holds of them.
    of_rank: u64,
}

/// The weights of one rank.
pub(super) fn entry(setup: &Setup, warnings: &mut Vec<String>) -> Result<Entry, Overflow> {
    let rules = setup.engine.shard_rules();
    let ranks = setup.tensor_parallel.value;
    let main = main_encoding(setup);
    let mut piles: Vec<Pile> = Vec::new();
    for (tensor, times) in setup.model.weights() {
        let elements = tensor.elements()?.times(times)?.get();
        let pile = pile_for(&mut piles, loaded_encoding(setup, main, tensor));
        let (sum, more) = match share(tensor, rules.splits_embedding) {
            Share::Vocabulary => {
                let padded = vocabulary_of_rank(tensor, elements, rules.vocabulary_padding, ranks)?;
                (if padded == elements { &mut pile.whole } else { &mut pile.of_rank }, padded)
            }
            Share::Whole => (&mut pile.whole, elements),
            _ if ranks == 1 => (&mut pile.whole, elements),
            Share::Split => (&mut pile.split, elements),
            Share::KeyValue => (&mut pile.of_rank, heads_of_rank(setup, elements, 0)?),
            Share::Fused => (&mut pile.of_rank, heads_of_rank(setup, elements, 1)?),
        };
        *sum = sum.checked_add(more).ok_or(Overflow)?;
    }
    let formula = Expr::sum(piles.iter().map(|pile| pile.formula(setup)).collect());
    let is_read = setup.model.provenance.files.is_some();
    let is_plain = ranks == 1 && piles.iter().all(|pile| pile.of_rank == 0);
    let basis = if is_plain { Basis::Exact } else { Basis::Derived };
    let entry = Entry::exact(Term::Weights, formula, basis, rules.source, ALWAYS)?;
    let expected = entry.amount.expected;
    if is_read || setup.scenario.weights != Weights::AsStored {
        return Ok(entry);
    }
    if let Some(method) = &setup.model.anatomy.quantization {
        warnings.push(format!(
            "the config says `{method}` quantisation, whose size is not derived from a config yet: the weights are counted unquantised and may take a fifth of that; with the headers of the files the size is exact"
        ));
        return Ok(entry.with_band(Bytes(expected.get() / 5), expected, Basis::RuleOfThumb));
    }
    if setup.is_dtype_known { Ok(entry) } else { Ok(entry.with_band(expected, expected.times(2)?, Basis::RuleOfThumb)) }
}

/// The float encoding that most bytes of the files have, if there are files.
fn main_encoding(setup: &Setup) -> Option<Encoding> {
    let files = setup.model.provenance.files.as_ref()?;
    let mut sums: Vec<(Encoding, u64)> = Vec::new();
    for (tensor, times) in &files.loaded {
        let Some(stored) = tensor.stored.filter(|stored| stored.is_float) else { continue };
        let elements = tensor.elements().map_or(0, ParamCount::get).saturating_mul(*times);
        match sums.iter_mut().find(|(encoding, _)| *encoding == stored) {
            Some((_, sum)) => *sum = sum.saturating_add(elements),
            None => sums.push((stored, elements)),
        }
    }
    sums.into_iter().max_by_key(|(_, sum)| *sum).map(|(encoding, _)| encoding)
}

/// What a tensor is in memory: the format that the user asks for; else the dtype of computation for the checkpoint's main
/// format, and as stored for the few tensors in another one (routers, scales and norms in float32 stay so) and for
/// everything in quantised checkpoints.
fn loaded_encoding(setup: &Setup, main: Option<Encoding>, tensor: &Tensor) -> Encoding {
    let is_asked = setup.scenario.weights != Weights::AsStored;
    match tensor.stored {
        Some(stored) if !stored.is_float || setup.model.anatomy.quantization.is_some() => stored,
        Some(stored) if !is_asked && main != Some(stored) => stored,
        _ => setup.dtype,
    }
}

fn pile_for(piles: &mut Vec<Pile>, encoding: Encoding) -> &mut Pile {
    let index = piles.iter().position(|pile| pile.encoding == encoding).unwrap_or_else(|| {
        piles.push(Pile { encoding, split: 0, whole: 0, of_rank: 0 });
        piles.len() - 1
    });
    &mut piles[index]
}

/// Rows of the vocabulary are padded to a multiple of `padding` and of the ranks, then divided.
fn vocabulary_of_rank(tensor: &Tensor, elements: u64, padding: u64, ranks: u64) -> Result<u64, Overflow> {
    let Some(&rows) = tensor.shape.first() else { return Ok(elements) };
    let padded = rows.div_ceil(padding).checked_mul(padding).ok_or(Overflow)?;
    padded.div_ceil(ranks).checked_mul(elements / rows.max(1)).ok_or(Overflow)
}

/// KV projections of one rank, with the query heads' share of a fused matrix (`query_share` = 1).
fn heads_of_rank(setup: &Setup, elements: u64, query_share: u64) -> Result<u64, Overflow> {
    // Every family so far has the same heads in all layers.
    let groups = setup.model.decoder().cache_groups();
    let Some(attention) = groups.iter().find_map(|group| group.mixer.attention()) else { return Ok(elements) };
    let ranks = setup.tensor_parallel.value;
    let all = query_share * attention.heads + (1 + query_share) * attention.kv_heads;
    let here = query_share * (attention.heads / ranks) + (1 + query_share) * setup.rank_kv_heads(attention);
    u64::try_from(u128::from(elements) * u128::from(here) / u128::from(all)).map_err(|_| Overflow)
}

impl Pile {
    /// `(a parameters / 2 GPUs + b on every GPU + c) × 2 B`
    fn formula(&self, setup: &Setup) -> Expr {
        let ranks = setup.tensor_parallel.value;
        let source = || match setup.model.provenance.files {
            Some(_) => Source::Headers,
            None => Source::Derived(format!("counted from config.json ({})", setup.model.anatomy.model_type).into()),
        };
        let mut parts = Vec::new();
        if self.split > 0 {
            let split = Expr::leaf(self.split, "split parameters", source());
            parts.push(split.ceil_div(setup.tensor_parallel.leaf("GPUs")));
        }
        if self.whole > 0 {
            parts.push(Expr::leaf(self.whole, if ranks == 1 { "parameters" } else { "parameters on every GPU" }, source()));
        }
        if self.of_rank > 0 {
            let what = if ranks == 1 { "parameters of padded vocabulary tables" } else { "parameters of this GPU's heads and vocabulary rows" };
            parts.push(Expr::leaf(self.of_rank, what, source()));
        }
        Expr::encoded(Expr::sum(parts), self.encoding)
    }
}
