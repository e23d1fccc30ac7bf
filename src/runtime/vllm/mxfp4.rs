//! Experts in MXFP4: what kernels pad, and what they leave beside their own copies.
//!
//! `layers/quantization/mxfp4.py` (`create_weights`, `process_weights_after_loading`) until 0.18, then
//! `layers/fused_moe/oracle/mxfp4.py` (`_get_priority_backends_for_gpt_oss`, `_get_priority_backends`,
//! `mxfp4_round_up_hidden_size_and_intermediate_size`).

use super::super::Setup;
use super::version::Rules;
use crate::encoding::Encoding;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::gpu::{Card, Vendor};
use crate::model::FeedForward;
use crate::quantity::{Bytes, Overflow};
use crate::scenario::Weights;
use crate::weight_format::{Method, Scheme};

/// The kernels that a card gets: multiples that an expert's inner width and `hidden_size` are padded to.
#[derive(Clone, Copy)]
struct Kernels {
    inner: u64,
    hidden: u64,
    /// Whether the scales as they were read stay beside those in the kernels' order.
    keeps_scales: bool,
}

const MARLIN: Kernels = Kernels { inner: 128, hidden: 256, keeps_scales: false };
/// Blackwell of data centres, with FlashInfer.
const TRTLLM: Kernels = Kernels { inner: 128, hidden: 256, keeps_scales: false };
const ROCM: Kernels = Kernels { inner: 256, hidden: 256, keeps_scales: false };
const XPU: Kernels = Kernels { inner: 64, hidden: 1, keeps_scales: false };
const TRITON: Kernels = Kernels { inner: 64, hidden: 1, keeps_scales: false };

impl Kernels {
    fn of(card: &Card, rules: Rules, is_gpt_oss: bool) -> Self {
        match card.gpu {
            Some(gpu) if gpu.vendor == Vendor::Amd => ROCM,
            Some(gpu) if gpu.vendor == Vendor::Intel => XPU,
            Some(gpu) if gpu.architecture.starts_with("Blackwell") && gpu.memory_type.starts_with("HBM") => {
                Self { inner: if rules.pads_experts_less() { TRTLLM.inner } else { 256 }, ..TRTLLM }
            }
            Some(gpu) if gpu.architecture == "Hopper" && is_gpt_oss => Self { keeps_scales: rules.keeps_expert_scales(), ..TRITON },
            _ => MARLIN,
        }
    }
}

/// What a rank holds beyond the experts of the files; `None` without experts in MXFP4, or where nothing is padded.
pub(super) fn entry(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
    if !is_in_mxfp4(setup) {
        return Ok(None);
    }
    let kernels = Kernels::of(&setup.card, rules, setup.model.anatomy.model_type.starts_with("gpt_oss"));
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
    let source = "vLLM layers/quantization/mxfp4.py, fused_moe/oracle/mxfp4.py: experts are padded for the kernels of the card (Marlin: 128 and 256; FlashInfer on Blackwell: 128 or 256 and 256; ROCm: 256), and until 0.26 Triton on Hopper leaves the scales that were read beside its own";
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
