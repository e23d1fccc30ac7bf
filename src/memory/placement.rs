//! Which tensors a rank's pipeline stage holds, and in which layer each stands.

use crate::model::{Component, Layer, LayerRun, Place, Role, Tensor};
use crate::runtime::Setup;
use crate::weights::Stored;

/// A tensor of a rank.
pub(super) struct Placed<'a> {
    /// The tensor, whole, in those of its layers that are on the rank's stage.
    pub stored: Stored<'a>,
    /// The layer that it is in, where it is in one and that is known.
    pub layer: Option<&'a Layer>,
}

/// Those tensors that are on the rank's stage.
pub(super) fn placed<'a>(setup: &Setup<'a>, all: Vec<Stored<'a>>) -> impl Iterator<Item = Placed<'a>> {
    let placed = move |stored: Stored<'a>| match stored.place {
        Some(place) => of_architecture(setup, stored, place),
        // Alone, a rank holds everything, wherever it stands.
        None if setup.spread.world() == 1 => Placed { stored, layer: None },
        None => of_files(setup, stored),
    };
    all.into_iter().map(placed).filter(|placed| placed.stored.times() > 0)
}

/// Towers and encoders are on every stage; the decoder's layers are cut.
fn of_architecture<'a>(setup: &Setup<'a>, stored: Stored<'a>, place: Place) -> Placed<'a> {
    let component = &setup.model.anatomy.components[place.component];
    let is_decoder = place.component == 0;
    let run = place.run.checked_sub(1).and_then(|run| component.layers.get(run));
    let layers = match run {
        _ if !is_decoder => stored.layers.clone(),
        Some(_) => {
            let here = &setup.place.layers;
            let start = stored.layers.start.max(here.start);
            start..stored.layers.end.min(here.end).max(start)
        }
        None => 0..times_outside(setup, stored.tensor),
    };
    Placed { stored: Stored { layers, ..stored }, layer: run.map(|run| &run.layer) }
}

/// Whether a tensor of the decoder outside its layers is on this stage: what reads tokens on the first, the rest on the last. A
/// table that serves as both is on both, but where one process holds all stages.
fn times_outside(setup: &Setup, tensor: &Tensor) -> u64 {
    let decoder = setup.model.decoder();
    let reads = matches!(tensor.role, Role::Embedding | Role::Position);
    let is_tied =
        || tensor.role == Role::Embedding && tensor.shape.get(1) == Some(&decoder.hidden_size) && decoder.tensors.iter().all(|other| other.role != Role::Head);
    let is_again = || setup.place.is_last && !setup.engine.places_layers() && is_tied();
    u64::from(if reads { setup.place.is_first || is_again() } else { setup.place.is_last })
}

/// The files say how often a tensor occurs; the architecture says in which layers.
fn of_files<'a>(setup: &Setup<'a>, stored: Stored<'a>) -> Placed<'a> {
    let anatomy = &setup.model.anatomy;
    let base = setup.model.decoder().base.as_ref();
    let (tensor, times) = (stored.tensor, stored.times());
    let home = anatomy.counted().enumerate().find_map(|(index, component)| Some((index, component, inside(component, base, &tensor.name)?)));
    let (times, layer) = match home {
        Some((index, component, name)) => {
            let holds = |run: &&LayerRun| run.tensors.iter().any(|other| other.role == tensor.role && module(&other.name) == module(name));
            let layer = component.layers.iter().find(holds).map(|run| &run.layer);
            let count = |layers| component.runs_in(layers).filter(|(_, run)| holds(run)).map(|(count, _)| count).sum::<u64>();
            (if index == 0 { part(times, count(setup.place.layers.clone()), count(0..u64::MAX)) } else { times }, layer)
        }
        None => {
            let is_of_decoder = setup.model.decoder().tensors.iter().any(|other| module(&tensor.name).ends_with(module(&other.name)));
            (if is_of_decoder { times.saturating_mul(times_outside(setup, tensor)) } else { times }, None)
        }
    };
    Placed { stored: Stored { layers: 0..times, ..stored }, layer }
}

/// The name inside its layer of a stored tensor that is in a layer of this component. Files come with and without the base.
fn inside<'n>(component: &Component, base: &str, name: &'n str) -> Option<&'n str> {
    let (prefix, rest) = name.split_once(".{}.")?;
    let before = component.layer_prefix.strip_suffix(prefix)?;
    (before.is_empty() || before.strip_suffix('.') == Some(base)).then_some(rest)
}

/// The path of the module that a tensor belongs to.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(path, _)| path)
}

/// `times × here / all`; everything where the architecture does not know the tensor.
fn part(times: u64, here: u64, all: u64) -> u64 {
    if all == 0 || here == all { times } else { times.saturating_mul(here).div_ceil(all) }
}
