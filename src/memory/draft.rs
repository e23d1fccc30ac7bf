//! The weights of what drafts tokens.

use super::blocks::Blocks;
use super::weights;
use crate::estimate::{ALWAYS, Entry, Term};
use crate::formula::{Expr, Source};
use crate::quantity::Decimal;
use crate::runtime::{Draft, EstimateError, Setup, across};
use crate::scenario::{Scenario, Serving, Weights};

/// Six places of a share.
const MILLION: u64 = 1_000_000;

/// On the last pipeline stage; `None` where nothing drafts. `own` is the entry of the model's weights on this rank.
pub(super) fn entry(setup: &Setup, own: &Entry, warnings: &mut Vec<String>) -> Result<Option<Entry>, EstimateError> {
    match setup.draft.filter(|_| setup.place.is_last) {
        None => Ok(None),
        Some(Draft::Model(model)) => {
            // As its files have it, over the same ranks.
            let serving = Serving { draft: None, speculative_tokens: None, cpu_offload: None, kv_offloading_size: None, ..setup.scenario.serving.clone() };
            let scenario = Scenario { weights: Weights::AsStored, serving, ..setup.scenario.clone() };
            let drafting = Setup::new((setup.engine, setup.store, across::nothing), model, &scenario)?;
            let entry = weights::entry(&drafting, &mut Blocks::default(), warnings)?;
            Ok(Some(Entry { term: Term::DraftModel, ..entry }))
        }
        Some(Draft::Predictor(module)) => {
            let (part, all) = (module.parameters()?.get(), setup.model.anatomy.parameters()?.get().max(1));
            let millionths = u128::from(part) * u128::from(MILLION) / u128::from(all);
            let ratio = Decimal::new(u64::try_from(millionths).unwrap_or(u64::MAX), 6);
            let name = "of the model's parameters are in its multi-token-prediction module";
            let source = Source::Derived(format!("{part} of {all} parameters, counted from config.json").into());
            // Its layers are on one stage, the model's on all of them.
            let stages = Expr::Product(vec![own.formula.clone(), Expr::named(setup.spread.pipeline.value, "stages")]);
            let formula = Expr::Fraction { ratio, name, source, of: Box::new(stages) };
            let source = "the module's weights at the model's average bytes per parameter; engines share its embedding and head where the files repeat the model's, the low end";
            Ok(Some(Entry::modelled(Term::DraftModel, formula, (60, 110), source, ALWAYS)?))
        }
    }
}
