//! What "model loading took" counts beside the parameters.

use super::super::{Setup, common};
use super::version::Rules;
use crate::estimate::Entry;
use crate::formula::Expr;
use crate::model::{Mixer, Role};
use crate::quantity::Overflow;
use crate::scenario::Weights;

pub(super) fn entries(setup: &Setup, rules: Rules) -> Result<Vec<Entry>, Overflow> {
    let mut entries = Vec::new();
    entries.extend(common::rotary_table(setup, 4, setup.dtype)?);
    entries.extend(latent_copies(setup, rules)?);
    Ok(entries)
}

/// Matrices that MLA keeps beside its projections: multiplied together until 0.7, later copies of a quantised `kv_b_proj` in the
/// dtype of computation.
fn latent_copies(setup: &Setup, rules: Rules) -> Result<Option<Entry>, Overflow> {
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
