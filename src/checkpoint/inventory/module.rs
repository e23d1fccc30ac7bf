//! Where an architecture has its modules: outside of the layers, or in runs of them, with experts or without.

use std::ops::Range;

use crate::model::Role;

/// A module of the architecture.
pub(super) struct Module {
    pub(super) path: String,
    pub(super) role: Role,
    /// Whether it stands outside the layers.
    pub(super) is_outside: bool,
    /// The layers that have it, in order.
    pub(super) spans: Vec<Span>,
}

/// Layers in a row, and the experts that the module has in each.
pub(super) struct Span {
    pub(super) layers: Range<u64>,
    pub(super) experts: Option<u64>,
}

/// The numbers in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) layer: Option<u64>,
    pub(super) expert: Option<u64>,
}

impl Module {
    /// Adds layers after those it has.
    pub(super) fn extend(&mut self, layers: Range<u64>, experts: Option<u64>) {
        match self.spans.last_mut() {
            // Another tensor of the same module.
            Some(last) if last.layers.end >= layers.end => {}
            Some(last) if last.layers.end == layers.start && last.experts == experts => last.layers.end = layers.end,
            _ => self.spans.push(Span { layers, experts }),
        }
    }

    /// Whether the architecture has it there.
    pub(super) fn has(&self, place: Place) -> bool {
        let Some(layer) = place.layer else { return self.is_outside && place.expert.is_none() };
        let at = self.spans.partition_point(|span| span.layers.end <= layer);
        self.spans.get(at).is_some_and(|span| {
            span.layers.contains(&layer)
                && match (span.experts, place.expert) {
                    (Some(count), Some(expert)) => expert < count,
                    (experts, expert) => experts.is_none() && expert.is_none(),
                }
        })
    }

    /// How often the architecture has it.
    pub(super) fn occurrences(&self) -> u64 {
        let in_layers = |span: &Span| (span.layers.end - span.layers.start).saturating_mul(span.experts.unwrap_or(1));
        self.spans.iter().map(in_layers).fold(u64::from(self.is_outside), u64::saturating_add)
    }

    /// Where the architecture has it.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let outside = self.is_outside.then(Place::default);
        let in_layers = self.spans.iter().flat_map(|span| {
            let experts = move || (0..span.experts.unwrap_or(1)).map(move |expert| span.experts.map(|_| expert));
            span.layers.clone().flat_map(move |layer| experts().map(move |expert| Place { layer: Some(layer), expert }))
        });
        outside.into_iter().chain(in_layers)
    }
}
