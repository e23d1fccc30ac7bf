//! Weights of one rank: a sum over what is stored, split by role.

use super::blocks::Blocks;
use super::placement::{Placed, placed};
use crate::estimate::{ALWAYS, Amount, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::{Role, Tensor};
use crate::quantity::{Bytes, Overflow};
use crate::runtime::Setup;
use crate::scenario::Weights;
use crate::weight_format::Along;
use crate::weights::{Form, Piece, Stored, Unit};

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
    /// Whole experts over ranks, or an equal part of each where they are not spread.
    Expert,
}

/// The share of a tensor by its role. Row-parallel layers keep their bias whole.
fn share(tensor: &Tensor, splits_embedding: bool) -> Share {
    match tensor.role {
        Role::Embedding if splits_embedding => Share::Vocabulary,
        Role::Head => Share::Vocabulary,
        Role::Key | Role::Value => Share::KeyValue,
        Role::Qkv => Share::Fused,
        Role::AttentionOutput | Role::MixerOutput | Role::Down | Role::ExpertDown if tensor.is_vector() => Share::Whole,
        role if role.is_expert() => Share::Expert,
        Role::Embedding | Role::Position | Role::Score | Role::Norm | Role::Router | Role::Other | Role::Adapter | Role::LatentDown => Share::Whole,
        _ => Share::Split,
    }
}

/// The share of a piece of a tensor: what there is one of for each input is repeated where outputs are split, and the other way round.
fn share_of(tensor: &Tensor, piece: Piece, splits_embedding: bool) -> Share {
    let is_row_parallel = matches!(tensor.role, Role::AttentionOutput | Role::MixerOutput | Role::Down | Role::ExpertDown);
    match piece.along {
        Along::Matrix => Share::Whole,
        Along::Inputs if !is_row_parallel => Share::Whole,
        Along::Outputs if is_row_parallel => Share::Whole,
        Along::Weights | Along::Inputs | Along::Outputs => share(tensor, splits_embedding),
    }
}

/// Things of one kind and size, by how they are shared.
struct Pile {
    /// The part of a pipeline; empty for a single model.
    part: String,
    what: &'static str,
    unit: Unit,
    split: u64,
    whole: u64,
    /// KV projections and vocabulary tables: what this rank holds of them.
    of_rank: u64,
}

/// The weights of one rank; every tensor is added to `blocks`.
pub(super) fn entry<'a>(setup: &Setup<'a>, blocks: &mut Blocks<'a>, warnings: &mut Vec<String>) -> Result<Entry, Overflow> {
    let rules = setup.engine.shard_rules();
    let ranks = setup.spread.tensor.value;
    let are_experts_apart = setup.spread.expert_ranks() != ranks || setup.spread.expert.value > 1;
    let all = (setup.store)(setup.model, setup.weights, setup.dtype)?;
    let mut piles: Vec<Pile> = Vec::new();
    for placed in placed(setup, all.clone()) {
        let tensor = placed.stored.tensor;
        for piece in placed.stored.pieces()? {
            let pile = pile_for(&mut piles, part_of(setup, &placed), piece.what, piece.unit);
            // The pile, what is added to it, and what of that is on this rank.
            let (sum, more, here) = match share_of(tensor, piece, rules.splits_embedding) {
                share if are_experts_apart && tensor.role.is_expert() => {
                    let here = experts_of_rank(setup, &placed, piece.count, share == Share::Expert)?;
                    (&mut pile.of_rank, here, here)
                }
                Share::Vocabulary => {
                    let padded = vocabulary_of_rank(tensor, piece.count, rules.vocabulary_padding, ranks)?;
                    (if padded == piece.count { &mut pile.whole } else { &mut pile.of_rank }, padded, padded)
                }
                Share::Split | Share::Expert if ranks > 1 => (&mut pile.split, piece.count, piece.count.div_ceil(ranks)),
                kind @ (Share::KeyValue | Share::Fused) if ranks > 1 => {
                    let here = heads_of_rank(setup, &placed, piece.count, u64::from(kind == Share::Fused))?;
                    (&mut pile.of_rank, here, here)
                }
                _ => (&mut pile.whole, piece.count, piece.count),
            };
            *sum = sum.checked_add(more).ok_or(Overflow)?;
            blocks.add(&placed, piece.what, piece.unit.bytes(here)?);
        }
    }
    let formula = Expr::sum(piles.iter().map(|pile| pile.formula(setup)).collect());
    let is_read = setup.model.provenance.files.is_some() && setup.weights == Weights::AsStored;
    let is_packed = !is_read && all.iter().any(|tensor| !matches!(tensor.form, Form::Plain(encoding) if encoding == setup.dtype));
    let is_whole = ranks == 1 && piles.iter().all(|pile| pile.of_rank == 0);
    let basis = if is_whole && !is_packed { Basis::Exact } else { Basis::Derived };
    let entry = Entry::exact(Term::Weights, formula, basis, setup.weights.source().unwrap_or(rules.source), ALWAYS)?;
    if is_read { Ok(entry) } else { with_doubt(entry, setup, &all, warnings) }
}

/// The band of what is not read from headers.
fn with_doubt(entry: Entry, setup: &Setup, all: &[Stored<'_>], warnings: &mut Vec<String>) -> Result<Entry, Overflow> {
    let expected = entry.amount.expected;
    let spread = all.iter().map(|tensor| if let Form::Packed(scheme) = tensor.form { scheme.spread } else { 0 }).max().unwrap_or(0);
    if spread > 0 {
        let Amount { low, high, .. } = Amount::percent(expected, 100 - spread, 100 + spread)?;
        return Ok(entry.with_band(low, high, Basis::Modelled));
    }
    if setup.scenario.weights != Weights::AsStored || setup.engine.unpacks(setup.model).is_some() {
        return Ok(entry);
    }
    if setup.weights != Weights::AsStored {
        // Said by a name only: the files may be what the config describes.
        let sum = |all: &[Stored<'_>]| all.iter().try_fold(Bytes::ZERO, |sum, tensor| sum.plus(tensor.bytes()?));
        let (quantised, unquantised) = (sum(all)?, sum(&(setup.store)(setup.model, Weights::AsStored, setup.dtype)?)?);
        let high = u128::from(expected.get()) * u128::from(unquantised.get()) / u128::from(quantised.get().max(1));
        let high = Bytes(u64::try_from(high).map_err(|_| Overflow)?);
        return Ok(entry.with_band(expected, high.max(expected), Basis::RuleOfThumb));
    }
    match &setup.model.anatomy.quantization {
        Some(quantization) if quantization.schemes.is_empty() => {
            warnings.push(format!(
                "the config says `{}` quantisation, whose size is not derived from a config: the weights are counted unquantised and may take a fifth of that; with the headers of the files the size is exact",
                quantization.method
            ));
            Ok(entry.with_band(Bytes(expected.get() / 5), expected, Basis::RuleOfThumb))
        }
        None if !setup.is_dtype_known => Ok(entry.with_band(expected, expected.times(2)?, Basis::RuleOfThumb)),
        _ => Ok(entry),
    }
}

/// The part of a pipeline that a tensor belongs to.
fn part_of<'a>(setup: &'a Setup, placed: &Placed<'a>) -> &'a str {
    let name = match placed.stored.place {
        _ if !setup.model.is_pipeline() => return "",
        Some(place) => setup.model.anatomy.components.get(place.component).map_or("", |part| part.name.as_ref()),
        None => placed.stored.tensor.name.rsplit_once('/').map_or("", |(part, _)| part),
    };
    name.split('.').next().unwrap_or(name)
}

fn pile_for<'a>(piles: &'a mut Vec<Pile>, part: &str, what: &'static str, unit: Unit) -> &'a mut Pile {
    let index = piles.iter().position(|pile| pile.part == part && pile.what == what && pile.unit == unit).unwrap_or_else(|| {
        piles.push(Pile { part: part.to_owned(), what, unit, split: 0, whole: 0, of_rank: 0 });
        piles.len() - 1
    });
    &mut piles[index]
}

/// Rows of the vocabulary are padded to a multiple of `padding` and of the ranks, then divided; what is kept of a row goes with it.
fn vocabulary_of_rank(tensor: &Tensor, count: u64, padding: u64, ranks: u64) -> Result<u64, Overflow> {
    let Some(&rows) = tensor.shape.first() else { return Ok(count) };
    let padded = rows.div_ceil(padding).checked_mul(padding).ok_or(Overflow)?;
    padded.div_ceil(ranks).checked_mul(count / rows.max(1)).ok_or(Overflow)
}

/// KV projections of one rank, with the query heads' share of a fused matrix (`query_share` = 1).
fn heads_of_rank(setup: &Setup, placed: &Placed, elements: u64, query_share: u64) -> Result<u64, Overflow> {
    // Files whose architecture is not known do not say the layer: then all layers have the heads of the first.
    let first = || setup.model.decoder().layers.iter().find_map(|run| run.layer.mixer.attention());
    let Some(attention) = placed.layer.and_then(|layer| layer.mixer.attention()).or_else(first) else { return Ok(elements) };
    let ranks = setup.spread.tensor.value;
    let all = query_share * attention.heads + (1 + query_share) * attention.kv_heads;
    let here = query_share * attention.heads.div_ceil(ranks) + (1 + query_share) * setup.rank_kv_heads(attention);
    u64::try_from(u128::from(elements) * u128::from(here) / u128::from(all.max(1))).map_err(|_| Overflow)
}

/// Experts of one rank: as many whole ones as the fullest rank has, each split over the ranks that share it, where it `is_split`.
fn experts_of_rank(setup: &Setup, placed: &Placed, elements: u64, is_split: bool) -> Result<u64, Overflow> {
    let experts = placed.layer.and_then(|layer| layer.feed_forward.experts()).unwrap_or(placed.stored.tensor.count).max(1);
    let spread = setup.spread.expert.value;
    let here = (elements / experts).checked_mul(experts.div_ceil(spread)).ok_or(Overflow)?;
    Ok(if is_split { here.div_ceil(setup.spread.expert_ranks() / spread) } else { here })
}

impl Pile {
    /// `(a parameters / 2 GPUs + b on every GPU + c) × 2 B`
    fn formula(&self, setup: &Setup) -> Expr {
        let ranks = setup.spread.tensor.value;
        let source = || match setup.model.provenance.files {
            Some(_) if setup.weights == Weights::AsStored => Source::Headers,
            _ => Source::Derived(format!("counted from config.json ({})", setup.model.anatomy.model_type).into()),
        };
        let what = if self.part.is_empty() { self.what.to_owned() } else { format!("{} of {}", self.what, self.part) };
        let mut parts = Vec::new();
        if self.split > 0 {
            let split = Expr::leaf(self.split, format!("split {what}"), source());
            parts.push(setup.spread.per_rank(split));
        }
        if self.whole > 0 {
            let name = if ranks == 1 { what.clone() } else { format!("{what} on every GPU") };
            parts.push(Expr::leaf(self.whole, name, source()));
        }
        if self.of_rank > 0 {
            let name = if setup.spread.expert_ranks() == 1 {
                format!("{what} of padded vocabulary tables")
            } else {
                format!("{what} of this GPU's heads, experts and vocabulary rows")
            };
            parts.push(Expr::leaf(self.of_rank, name, source()));
        }
        let count = Expr::sum(parts);
        match self.unit {
            Unit::Value(encoding) => Expr::encoded(count, encoding),
            Unit::Bits(bits) => match bits.parts() {
                (bits, 1) if bits.is_multiple_of(8) => Expr::Product(vec![count, Expr::named(bits / 8, "B")]),
                _ => Expr::Fraction { ratio: bits, name: "bits", source: format_source(setup), of: Box::new(count) }.ceil_div(Expr::constant(8)),
            },
            Unit::Bytes(bytes) => {
                Expr::Fraction { ratio: bytes, name: "bytes per parameter", source: Source::User("bytes per parameter"), of: Box::new(count) }
            }
        }
    }
}

/// Who says how many bits a weight takes.
fn format_source(setup: &Setup) -> Source {
    match setup.scenario.weights {
        Weights::AsStored => Source::Config("quantization_config".into()),
        _ => Source::User("weights"),
    }
}
