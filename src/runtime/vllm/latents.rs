//! What latent attention keeps beside its projections and in the pool: code that the page's first module does without.

use std::cmp::Reverse;

use super::super::{Setup, common};
use super::cache::{Kind, cell};
use super::version::Rules;
use crate::estimate::Entry;
use crate::formula::{Expr, Source};
use crate::model::{Mixer, Role, Span};
use crate::quantity::Overflow;
use crate::scenario::{KvCache, Version, Weights};

/// What the pool does otherwise for latents.
#[derive(Clone, Copy)]
pub(super) struct Latents {
    /// Bytes of one token in a layer with an indexer: of its latents, and of the indexer's keys. `None` for layers without.
    pub indexed: fn(&Setup, &Mixer) -> Option<[Expr; 2]>,
    /// Bytes of one token over the layers that share a block, where pages of several sizes lie side by side; it sets the groups.
    pub packed: fn(&Setup, &mut Vec<Kind>) -> Option<Expr>,
}

/// All of it.
pub(super) const WHOLE: Latents = Latents { indexed, packed };

/// For models without latents.
pub(super) const NONE: Latents = Latents { indexed: |_, _| None, packed: |_, _| None };

fn indexed(setup: &Setup, mixer: &Mixer) -> Option<[Expr; 2]> {
    let keys = Some(mixer.indexer_elements_per_token()).filter(|&keys| keys > 0)?;
    let latents = if is_packed(setup) {
        Expr::leaf(656, "B", Source::Runtime("vLLM fp8_ds_mla: 512 values of 8 bits, 4 float32 scales, 64 16-bit values of the rotary part"))
    } else {
        cell(setup, mixer)
    };
    // Beside layers that slide its rows are as wide as theirs (`Dots3NotePaddedMLAAttention`).
    let latents = match sliding(setup) {
        Some(sliding) => Expr::Max(vec![latents, cell(setup, sliding)]),
        None => latents,
    };
    // One scale of four bytes beside 8-bit keys.
    let keys = Expr::leaf(keys, "B of indexer keys", Source::Config("index_head_dim".into()));
    Some([latents, Expr::Sum(vec![keys, Expr::constant(4)])])
}

/// Whether latents with an indexer are packed in 8 bits: 0.11.0 does so unless another format is asked for.
fn is_packed(setup: &Setup) -> bool {
    match setup.scenario.kv_cache {
        KvCache::Fp8 => true,
        KvCache::Auto => setup.version < Version(0, 11, 1),
        _ => false,
    }
}

/// Latent attention that slides, if there is any.
fn sliding<'a>(setup: &Setup<'a>) -> Option<&'a Mixer> {
    let mut mixers = setup.model.decoder().layers.iter().map(|run| &run.layer.mixer);
    mixers.find(|mixer| matches!(mixer, Mixer::Latent(latent) if latent.span != Span::Full))
}

/// Latents of which some slide, the others with an indexer: layers that see alike share groups, in which pages of latents and of the
/// indexer's keys lie side by side (`models/dots3_note/nvidia/attention.py`: the layout is `BLHNC`; `v1/core/kv_cache_planning.py`:
/// `_get_packed_kv_cache_groups`).
fn packed(setup: &Setup, kinds: &mut Vec<Kind>) -> Option<Expr> {
    sliding(setup)?;
    let (full, windowed): (Vec<Kind>, Vec<Kind>) = std::mem::take(kinds).into_iter().partition(|kind| !kind.has_window());
    if full.len() < 2 || windowed.is_empty() {
        kinds.extend(full.into_iter().chain(windowed));
        return None;
    }
    let layers = |of: &[Kind]| of.iter().map(|kind| kind.layers).max().unwrap_or(1);
    let (least, most) = (layers(&full), layers(&full).max(layers(&windowed)));
    // Layers of a group: as many as leave the fewest places empty.
    let empty = |each: u64| [&full, &windowed].map(|of| layers(of).next_multiple_of(each) - layers(of)).iter().sum::<u64>();
    let each = (least..=most).min_by_key(|&each| (empty(each), Reverse(each)))?;
    let mut bytes = Vec::new();
    for mut of in [full, windowed] {
        let groups = layers(&of).div_ceil(each);
        let of_kind = |kind: &Kind| Expr::Product(vec![Expr::leaf(kind.here.div_ceil(groups), "layers of a group", GROUPS), kind.cell.clone()]);
        bytes.push(Expr::sum(of.iter().map(of_kind).collect()));
        let mut first = of.swap_remove(0);
        first.groups = groups;
        kinds.push(first);
    }
    Some(Expr::Max(bytes))
}

const GROUPS: Source =
    Source::Runtime("vLLM: layers that see alike in groups of one size, chosen so that the fewest places are empty; a block holds the largest group");

/// Matrices that MLA keeps beside its projections: multiplied together until 0.7, later copies of a quantised `kv_b_proj` in the
/// dtype of computation.
pub(super) fn copies(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
    let source = "vLLM attention/backends/mla: matrices that decode uses instead of kv_b_proj, kept beside it";
    if !rules.absorbs_latents() {
        let is_quantised = setup.model.anatomy.quantization.is_some() && setup.scenario.weights == Weights::AsStored;
        return if is_quantised { common::latent_copies(setup, source) } else { Ok(None) };
    }
    let parts = setup.runs().filter_map(|(count, run)| {
        let Mixer::Latent(latent) = &run.layer.mixer else { return None };
        let query = run.tensors.iter().find(|tensor| tensor.role == Role::Query && tensor.shape.len() == 2)?;
        let width = Expr::Sum(vec![Expr::named(query.shape[1], "query input"), Expr::named(setup.model.decoder().hidden_size, "hidden_size")]);
        Some(common::latent_matrix(setup, count, latent, width))
    });
    common::copies(setup, parts.collect(), source)
}
