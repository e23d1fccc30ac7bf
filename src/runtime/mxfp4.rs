//! Experts in MXFP4 that kernels pad.

use super::Setup;
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::FeedForward;
use crate::quantity::{Bytes, Overflow};
use crate::scenario::Weights;
use crate::weight_format::{Method, Scheme};

/// What kernels pad to: multiples of an expert's inner width and of `hidden_size`.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub inner: u64,
    pub hidden: u64,
    /// Whether the scales as they were read stay beside those in the kernels' order.
    pub keeps_scales: bool,
}

/// What a rank holds beyond the experts of the files; `None` without experts in MXFP4, or where nothing is padded.
pub(super) fn padding(setup: &Setup, kernels: Kernels, source: &'static str) -> Result<Option<Entry>, Overflow> {
    if !is_in_mxfp4(setup) {
        return Ok(None);
    }
    let hidden = setup.model.decoder().hidden_size;
    // Layers whose experts are alike, together: (experts, their width, layers).
    let mut alike: Vec<(u64, u64, u64)> = Vec::new();
    for (layers, run) in setup.runs() {
        let FeedForward::MixtureOfExperts { experts, intermediate, .. } = run.layer.feed_forward else { continue };
        match alike.iter_mut().find(|known| (known.0, known.1) == (experts, intermediate)) {
            Some(known) => known.2 += layers,
            None => alike.push((experts, intermediate, layers)),
        }
    }
    let mut parts = Vec::new();
    for (experts, intermediate, layers) in alike {
        let spread = setup.spread.expert.value;
        let inner = intermediate.div_ceil((setup.spread.expert_ranks() / spread).max(1));
        let matrices = |inner: u64, hidden: u64| Expr::Product(vec![Expr::named(inner, "inner width"), Expr::named(hidden, "hidden_size")]);
        let padded = |size: u64, multiple: u64| size.checked_next_multiple_of(multiple).ok_or(Overflow);
        let padded = matrices(padded(inner, kernels.inner)?, padded(hidden, kernels.hidden)?);
        let all = |each: Expr| {
            let all = Expr::leaf(experts, "experts", Source::Derived("of a layer, as config.json says".into()));
            let experts = if spread > 1 { all.ceil_div(Expr::named(spread, "GPUs")) } else { all };
            Expr::Product(vec![Expr::named(layers, "layers"), experts, Expr::named(3, "matrices"), each])
        };
        if padded.evaluate()? > matrices(inner, hidden).evaluate()? {
            parts.push(Expr::encoded(all(padded.clone().minus(matrices(inner, hidden))), Encoding::MXFP4));
        }
        if kernels.keeps_scales {
            parts.push(all(padded).ceil_div(Expr::named(32, "weights per scale of 1 B")));
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let entry = Entry::exact(Term::Weights, Expr::sum(parts), Basis::Derived, source, ALWAYS)?;
    if setup.card.gpu.is_some() {
        return Ok(Some(entry));
    }
    // The card is not named, so its kernels are not known: those that most cards get.
    let high = entry.amount.expected.times(2)?;
    Ok(Some(entry.with_band(Bytes::ZERO, high, Basis::Modelled)))
}

fn is_in_mxfp4(setup: &Setup) -> bool {
    let is_mxfp4 = |scheme: &Scheme| scheme.method == Method::Mxfp && scheme.bits.parts() == (4, 1);
    match setup.weights {
        Weights::AsStored => setup.model.anatomy.quantization.as_ref().is_some_and(|quantization| quantization.schemes.iter().any(is_mxfp4)),
        weights => weights.scheme().as_ref().is_some_and(is_mxfp4),
    }
}
