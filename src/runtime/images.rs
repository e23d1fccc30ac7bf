//! What networks of convolutions hold while they read images, in any engine that runs them with PyTorch's operators one by one.

use super::Setup;
use crate::estimate::{Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::Work;
use crate::quantity::Overflow;

/// The feature maps of a batch of images; `None` for models that read something else.
pub(super) fn activations(setup: &Setup) -> Result<Option<Entry>, Overflow> {
    let Work::Images(images) = &setup.model.decoder().work else { return Ok(None) };
    let size = setup.scenario.picture.size.unwrap_or(images.size);
    let values = images.widest(size).ok_or(Overflow)?;
    let source =
        Source::Derived(format!("images of {} × {}: what the widest operator reads and makes, and what waits beside its block", size.0, size.1).into());
    let values = Expr::Product(vec![setup.batch.leaf("images"), Expr::leaf(values, "values of feature maps", source)]);
    let rule = "maps live until the next operator has read them; what cuDNN works with (up to some hundred MiB, by algorithm) comes on top";
    Entry::modelled(Term::Activations, Expr::encoded(values, setup.dtype), (90, 200), rule, &[Stage::Prefill]).map(Some)
}
