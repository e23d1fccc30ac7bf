//! Which tensors a rank's pipeline stage holds, and in which layer each stands.

use crate::model::{Component, Files, Layer, LayerRun, Role, Tensor};
use crate::runtime::Setup;

/// A tensor of a rank.
pub(super) struct Placed<'a> {
    /// The tensor, whole.
    pub tensor: &'a Tensor,
    /// How many times it occurs on the rank's stage.
    pub times: u64,
    /// The layer that it is in, where it is in one and that is known.
    pub layer: Option<&'a Layer>,
}

/// Every tensor of the rank's stage: from the files when their headers were read, else as the architecture has them.
pub(super) fn placed<'a>(setup: &Setup<'a>) -> Vec<Placed<'a>> {
    let model = setup.model;
    match &model.provenance.files {
        // Alone, a rank holds everything, wherever it stands.
        Some(files) if setup.spread.world() == 1 => files.loaded.iter().map(|(tensor, times)| Placed { tensor, times: *times, layer: None }).collect(),
        Some(files) => of_files(setup, files),
        None => model.anatomy.counted().enumerate().flat_map(|(index, component)| of_component(setup, component, index == 0)).collect(),
    }
}

/// Towers and encoders are on every stage; the decoder's layers are cut.
fn of_component<'a>(setup: &Setup<'a>, component: &'a Component, is_decoder: bool) -> Vec<Placed<'a>> {
    let outside = component.tensors.iter().map(|tensor| Placed { tensor, times: if is_decoder { times_outside(setup, tensor) } else { 1 }, layer: None });
    let layers = if is_decoder { setup.place.layers.clone() } else { 0..u64::MAX };
    let inside =
        component.runs_in(layers).flat_map(|(count, run)| run.tensors.iter().map(move |tensor| Placed { tensor, times: count, layer: Some(&run.layer) }));
    outside.chain(inside).filter(|placed| placed.times > 0).collect()
}

/// Whether a tensor of the decoder outside its layers is on this stage: what reads tokens on the first, the rest on the last. A
/// table that serves as both is on both.
fn times_outside(setup: &Setup, tensor: &Tensor) -> u64 {
    let decoder = setup.model.decoder();
    let reads = matches!(tensor.role, Role::Embedding | Role::Position);
    let is_tied =
        || tensor.role == Role::Embedding && tensor.shape.get(1) == Some(&decoder.hidden_size) && decoder.tensors.iter().all(|other| other.role != Role::Head);
    u64::from(if reads { setup.place.is_first || (setup.place.is_last && is_tied()) } else { setup.place.is_last })
}

/// The files say how often a tensor occurs; the architecture says in which layers.
fn of_files<'a>(setup: &Setup<'a>, files: &'a Files) -> Vec<Placed<'a>> {
    let anatomy = &setup.model.anatomy;
    let base = setup.model.decoder().base.as_ref();
    let placed = files.loaded.iter().map(|(tensor, times)| {
        let home = anatomy.counted().enumerate().find_map(|(index, component)| Some((index, component, inside(component, base, &tensor.name)?)));
        match home {
            Some((index, component, name)) => {
                let holds = |run: &&LayerRun| run.tensors.iter().any(|other| other.role == tensor.role && module(&other.name) == module(name));
                let layer = component.layers.iter().find(holds).map(|run| &run.layer);
                let count = |layers| component.runs_in(layers).filter(|(_, run)| holds(run)).map(|(count, _)| count).sum::<u64>();
                let times = if index == 0 { part(*times, count(setup.place.layers.clone()), count(0..u64::MAX)) } else { *times };
                Placed { tensor, times, layer }
            }
            None => {
                let is_of_decoder = setup.model.decoder().tensors.iter().any(|other| module(&tensor.name).ends_with(module(&other.name)));
                Placed { tensor, times: if is_of_decoder { times.saturating_mul(times_outside(setup, tensor)) } else { *times }, layer: None }
            }
        }
    });
    placed.filter(|placed| placed.times > 0).collect()
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
