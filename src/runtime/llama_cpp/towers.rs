//! The towers' file (`--mmproj`): what its encoder works with, on the first device.
//!
//! Read from llama.cpp 0c1e57098: `tools/mtmd/clip.cpp` (one graph per image, planned for the largest).

use crate::estimate::{Entry, RUNNING, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, FeedForward, Role};
use crate::quantity::Overflow;
use crate::runtime::asked::Asked;

use super::rule;

/// Patches of an image where the tower has no table of positions to read them from.
const PATCHES: u64 = 4096;

fn tower<'a>(asked: &Asked<'a>) -> Option<&'a Component> {
    asked.model.anatomy.counted().find(|component| component.kind == ComponentKind::VisionTower)
}

/// What the encoder works with; `None` without a tower or without its file.
pub(super) fn entry(asked: &Asked) -> Result<Option<Entry>, Overflow> {
    let Some(tower) = tower(asked).filter(|_| asked.scenario.llama_cpp.mmproj) else { return Ok(None) };
    let positions = tower.tensors.iter().filter(|tensor| tensor.role == Role::Position).filter_map(|tensor| tensor.shape.first().copied()).max();
    let patches = match positions.filter(|count| *count > 1) {
        Some(count) => Expr::leaf(count, "patches", Source::Config("the tower's table of positions".into())),
        None => rule(PATCHES, "patches", "an image of 4,096 patches, assumed: the tower takes any size"),
    };
    let intermediate = tower.layers.iter().map(|run| if let FeedForward::Dense { intermediate, .. } = run.layer.feed_forward { intermediate } else { 0 }).max();
    let width = Expr::leaf(intermediate.unwrap_or(0).max(tower.hidden_size), "intermediate_size", Source::Config("vision_config › intermediate_size".into()));
    let formula = Expr::Product(vec![patches, width, Expr::constant(3), Expr::named(4, "B")]);
    let source = "one image through the tower with flash attention: 3 × feed-forward width in float32 per patch, a rule of thumb; without flash attention its scores come on top";
    Entry::modelled(Term::Workspace, formula, (40, 250), source, RUNNING).map(Some)
}

/// What is left out or put in for the towers.
pub(super) fn note(asked: &Asked) -> Option<String> {
    let (texts, others): (Vec<&Component>, Vec<&Component>) = asked.model.anatomy.counted().skip(1).partition(|component| component.is_text());
    if others.is_empty() {
        let names: Vec<&str> = texts.iter().map(|component| component.name.as_ref()).collect();
        return (!texts.is_empty()).then(|| format!("only the weights of {} are counted, not what reading with it takes", names.join(", ")));
    }
    let others: Vec<&str> = others.iter().map(|component| component.name.as_ref()).collect();
    let others = others.join(", ");
    Some(if asked.scenario.llama_cpp.mmproj {
        format!("{others}: a second file (mmproj) in 16 bits, on the first GPU")
    } else {
        format!("text only: without {others}, in a second file that is loaded with --mmproj")
    })
}
