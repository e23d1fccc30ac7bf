//! What "model loading took" counts beside the parameters.

use super::super::{Setup, common};
use super::version::Rules;
use crate::estimate::{ALWAYS, Basis, Entry, Term};
use crate::formula::{Expr, Source};
use crate::model::{Mixer, Role};
use crate::quantity::Overflow;
use crate::scenario::Weights;

pub(super) fn entries(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    let mut entries = Vec::new();
    entries.extend(common::rotary_table(setup, 4)?);
    entries.extend(latent_copies(setup, rules)?);
    Ok(entries)
}

/// Matrices that MLA keeps beside its projections: multiplied together until 0.7, later copies of a quantised `kv_b_proj` in the
/// dtype of computation.
fn latent_copies(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
    let is_quantised = setup.model.anatomy.quantization.is_some() && setup.scenario.weights == Weights::AsStored;
    let mut parts = Vec::new();
    for (count, run) in setup.runs() {
        let Mixer::Latent(latent) = run.layer.mixer else { continue };
        let heads = setup.spread.per_rank(Expr::named(latent.heads, "heads"));
        let rank = Expr::leaf(latent.kv_lora_rank, "kv_lora_rank", Source::Config("kv_lora_rank".into()));
        let query = run.tensors.iter().find(|tensor| tensor.role == Role::Query && tensor.shape.len() == 2);
        let width = match query {
            Some(query) if rules.absorbs_latents() => {
                Expr::Sum(vec![Expr::named(query.shape[1], "query input"), Expr::named(setup.model.decoder().hidden_size, "hidden_size")])
            }
            _ if is_quantised => Expr::Sum(vec![Expr::named(latent.nope_dim, "key"), Expr::named(latent.value_dim, "value")]),
            _ => continue,
        };
        parts.push(Expr::Product(vec![Expr::named(count, "layers"), heads, rank, width]));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let source = "vLLM attention/backends/mla: matrices that decode uses instead of kv_b_proj, kept beside it";
    Entry::exact(Term::Weights, Expr::encoded(Expr::sum(parts), setup.dtype), Basis::Derived, source, ALWAYS).map(Some)
}
